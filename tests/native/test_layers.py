"""Layers in compiled code, chains of wild shapes of them, against PyTorch in double precision."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sartor import native_module
from sartor.models.dropout import Dropout
from sartor.models.resnet import Residual

from .stepping import CLASSES, Shape, batch, logits_of, seeded, step

pytestmark = pytest.mark.skipif(
    native_module.missing() is not None, reason="the engine native was not built"
)

KINDS = ("conv", "conv", "halved", "max", "average", "adaptive", "relu", "norm", "residual")


def instruction_sets() -> list[str]:
    module = native_module.module()
    return [] if module is None else list(module.build()["isas"])


def fusing_sets() -> list[str]:
    """Those that round a product and a sum once."""
    return [one for one in instruction_sets() if one != "generic"]


@st.composite
def chains(draw: st.DrawFn) -> tuple[nn.Sequential, Shape]:
    """Layers of all kinds with odd sizes, and the shape of the images."""
    sides = st.integers(1, 13)
    shape = start = (draw(st.sampled_from([1, 2, 3, 7])), draw(sides), draw(sides))
    layers: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(KINDS))
        layer = _drawn(draw, kind, shape)
        if layer is None:
            continue
        layers += layer
        for one in layer:
            shape = tuple(one(torch.zeros(2, *shape)).shape[1:])
    features = math.prod(shape)
    layers.append(nn.Flatten())
    if draw(st.booleans()):
        hidden = draw(st.sampled_from([1, 9, 40, 70]))
        layers += [nn.Linear(features, hidden), nn.ReLU()]
        features = hidden
    layers.append(nn.Linear(features, CLASSES))
    return nn.Sequential(*layers), start


def _drawn(draw: st.DrawFn, kind: str, shape: Shape) -> list[nn.Module] | None:
    channels, height, width = shape
    small = st.integers(1, 3)
    match kind:
        case "conv" | "halved":
            kernel = (draw(st.sampled_from([1, 2, 3, 5, 7])), draw(st.sampled_from([1, 3, 5])))
            padding = (draw(st.integers(0, 3)), draw(st.integers(0, 2)))
            if height + 2 * padding[0] < kernel[0] or width + 2 * padding[1] < kernel[1]:
                return None
            stride = (draw(small), draw(st.integers(1, 2)))
            outputs = draw(st.sampled_from([1, 2, 3, 5, 6, 7, 12, 17]))
            conv = nn.Conv2d(channels, outputs, kernel, stride, padding, bias=draw(st.booleans()))
            if kind == "conv":
                return [conv]
            after = [nn.MaxPool2d(2), nn.ReLU()] if draw(st.booleans()) else [nn.MaxPool2d(2)]
            rows, columns = conv(torch.zeros(1, *shape)).shape[2:]
            return [conv, *after] if min(rows, columns) > 1 else [conv, nn.ReLU()]
        case "max" | "average":
            window = (draw(small), draw(small))
            padding = (draw(st.integers(0, window[0] // 2)), draw(st.integers(0, window[1] // 2)))
            if height + 2 * padding[0] < window[0] or width + 2 * padding[1] < window[1]:
                return None
            stride = (draw(small), draw(small))
            if kind == "max":
                return [nn.MaxPool2d(window, stride, padding)]
            flags = draw(st.booleans()), draw(st.booleans())
            return [nn.AvgPool2d(window, stride, padding, *flags)]
        case "adaptive":
            return [nn.AdaptiveAvgPool2d((draw(small), draw(small)))]
        case "relu":
            return [nn.ReLU()]
        case "norm":
            return [nn.BatchNorm2d(channels)]
        case _:
            return [
                Residual(channels, draw(st.sampled_from([channels, 5])), halve=draw(st.booleans()))
            ]


def assert_near(found: Tensor, expected: Tensor, scale: float = 1.0) -> None:
    """Within float32's rounding of sums of a few thousand terms."""
    difference = (found.double() - expected.double()).abs().max().item()
    assert difference <= 2e-4 * max(scale, expected.abs().max().item())


@settings(max_examples=60)
@given(chains(), st.sampled_from([1, 3, 16, 37]), st.sampled_from(instruction_sets()))
def test_forward_is_that_of_pytorch(
    chain: tuple[nn.Sequential, Shape], size: int, isa: str
) -> None:
    network, shape = chain
    seeded(network, size)
    images, _ = batch(shape, size)
    expected = copy.deepcopy(network).double().eval()(images.double())
    assert_near(logits_of(network, images, isa=isa), expected)


@settings(max_examples=80)
@given(
    chains(),
    st.sampled_from([2, 16, 21, 37]),
    st.sampled_from([1, 2, 3]),
    st.sampled_from(instruction_sets()),
)
def test_a_step_is_that_of_pytorch(
    chain: tuple[nn.Sequential, Shape], size: int, threads: int, isa: str
) -> None:
    network, shape = chain
    seeded(network, size)
    images, labels = batch(shape, size)
    reference = copy.deepcopy(network).double()
    loss = F.cross_entropy(reference(images.double()), labels)
    loss.backward()
    # Where a variance is next to nothing, rounding is multiplied a thousandfold.
    assume(_is_tame(copy.deepcopy(network), images))
    before = copy.deepcopy(network.state_dict())
    assert step(network, images, labels, threads, isa) == pytest.approx(
        loss.item() * size, rel=1e-4, abs=1e-4
    )
    for (name, parameter), theirs in zip(
        network.named_parameters(), reference.parameters(), strict=True
    ):
        assert_near(before[name].double() - parameter.double(), theirs.grad)
    for (name, buffer), theirs in zip(network.named_buffers(), reference.buffers(), strict=True):
        if not name.endswith("num_batches_tracked"):
            assert_near(buffer, theirs)


def _is_tame(network: nn.Module, images: Tensor) -> bool:
    smallest = []

    def note(_: nn.Module, given_: tuple[Tensor], __: Tensor) -> None:
        smallest.append(given_[0].double().var((0, 2, 3)).min().item())

    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(note)
    network(images)
    return min(smallest, default=1.0) > 1e-3


def lenet_like() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(6, 13, 3, stride=2, padding=1),
        nn.BatchNorm2d(13),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(13 * 9, CLASSES),
    )


@pytest.mark.skipif(len(fusing_sets()) < 2, reason="this processor has one such set at most")
@settings(max_examples=100)
@example((lenet_like(), (1, 16, 16)), 53, 2)
@given(chains(), st.sampled_from([2, 21, 150]), st.sampled_from([1, 2, 3]))
def test_bits_are_those_of_any_instruction_set_that_fuses(
    chain: tuple[nn.Sequential, Shape], size: int, threads: int
) -> None:
    """Also of a thread that carries several blocks, whose gradients are added up."""
    network, shape = chain
    seeded(network, size)
    images, labels = batch(shape, size)
    found = []
    for isa in fusing_sets():
        one = copy.deepcopy(network)
        step(one, images, labels, threads, isa)
        found.append([*one.state_dict().values(), logits_of(one, images, isa=isa)])
    for first, other in zip(*found, strict=True):
        assert torch.equal(first.nan_to_num(), other.nan_to_num())


def test_logits_do_not_depend_on_threads() -> None:
    network, (images, _) = lenet_like(), batch((1, 16, 16), 200)
    one, three = logits_of(network, images, 1), logits_of(network, images, 3)
    assert torch.equal(one, three)


def test_the_few_are_as_the_many() -> None:
    network, (images, _) = lenet_like(), batch((1, 16, 16), 40)
    many = logits_of(network, images)
    for size in (1, 3, 4):
        torch.testing.assert_close(logits_of(network, images[:size]), many[:size])


def test_of_equal_pixels_the_first_has_the_gradient() -> None:
    images = torch.zeros(17, 2, 4, 4)
    images[3:, :, 1, 2] = images[3:, :, 3, 0] = 1
    labels = torch.arange(17) % CLASSES
    for layers in ([nn.MaxPool2d(2)], [nn.MaxPool2d(3, 1)], [nn.MaxPool2d(2), nn.ReLU()]):
        network = nn.Sequential(nn.Conv2d(2, 5, 1), *layers, nn.Flatten(), nn.LazyLinear(CLASSES))
        network(images)
        reference = copy.deepcopy(network)
        F.cross_entropy(reference(images), labels).backward()
        before = network[0].weight.detach().clone()
        step(network, images, labels)
        torch.testing.assert_close(before - network[0].weight, reference[0].weight.grad)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_goes_where_it_goes_in_pytorch(bad: float) -> None:
    network, (images, labels) = lenet_like().eval(), batch((1, 16, 16), 18)
    images[2, 0, 7, 7] = bad
    with torch.no_grad():
        expected = network(images)
    for size in (3, 18):
        found = logits_of(network, images[:size])
        torch.testing.assert_close(found, expected[:size], equal_nan=True)
    assert not math.isfinite(step(network, images, labels))
    assert not torch.isfinite(network[0].weight).any()


def test_an_image_does_not_see_the_others_of_its_block() -> None:
    network, (images, _) = lenet_like().eval(), batch((1, 16, 16), 37)
    assert torch.equal(logits_of(network, images[:32]), logits_of(network, images)[:32])


def test_dropout_has_the_masks_of_pytorch() -> None:
    layers = [nn.Conv2d(1, 5, 3), nn.ReLU(), Dropout(0.3), nn.Flatten(), Dropout(0.6)]
    network = nn.Sequential(*layers, nn.Linear(5 * 6 * 5, CLASSES))
    images, labels = batch((1, 8, 7), 21)
    reference = copy.deepcopy(network).double()
    torch.manual_seed(7)
    loss = F.cross_entropy(reference(images.double()), labels)
    loss.backward()
    before = network[0].weight.detach().clone()
    assert step(network, images, labels) == pytest.approx(loss.item() * 21, rel=1e-5)
    assert_near(before - network[0].weight, reference[0].weight.grad)


def pool(window: int, stride: int, padding: int = 0) -> dict[str, Any]:
    sizes = {"kernel": window, "stride": stride, "padding": padding}
    return {"kind": "max_pool", **{name: [size, size] for name, size in sizes.items()}}


@pytest.mark.parametrize(
    ("layers", "shape", "about"),
    [
        ([{"kind": "flatten"}], (1, 2, 2), None),
        ([{"kind": "teapot"}], (1, 2, 2), "teapot"),
        ([], (1, 2, 2), "layer"),
        ([pool(3, 1)], (4, 2, 2), "larger"),
        ([pool(2, 2, 2)], (4, 2, 2), "half"),
        ([{"kind": "relu"}], (4, 2, 2), "outputs"),
        ([{"kind": "residual", "body": [], "shortcut": []}], (4, 1, 1), "body"),
    ],
)
def test_what_does_not_fit_is_told(
    layers: list[dict[str, Any]], shape: Shape, about: str | None
) -> None:
    module = native_module.module()
    assert module is not None
    if about is None:
        assert module.Network(layers, shape, CLASSES, 1, None) is not None
        return
    with pytest.raises(ValueError, match=about):
        module.Network(layers, shape, CLASSES, 1, None)


@pytest.mark.parametrize("isa", instruction_sets())
@pytest.mark.parametrize("threads", [1, 2])
def test_an_image_of_linear_layers_is_answered_alike_among_any_others(
    isa: str, threads: int
) -> None:
    """Blocks of images are carried several at a time, and the last few of them alone."""
    torch.manual_seed(0)
    layers = (nn.Flatten(), nn.Linear(12, 37), nn.ReLU(), Dropout(0.5), nn.Linear(37, CLASSES))
    network, images = nn.Sequential(*layers).eval(), torch.randn(200, 3, 2, 2)
    everything = logits_of(network, images, threads, isa)
    torch.testing.assert_close(everything, network(images), rtol=1e-5, atol=1e-5)
    # More than are computed without blocks.
    for count in (5, 16, 17, 63, 64, 65, 81, 129):
        assert torch.equal(logits_of(network, images[:count], threads, isa), everything[:count])
        assert torch.equal(logits_of(network, images[-count:], threads, isa), everything[-count:])


@pytest.mark.parametrize(
    ("rank", "size", "said"),
    [
        (0, 2**40, "size must be a whole number, not 1099511627776"),
        (None, 2, "rank must be a whole number, not None"),
        (0, "2", "size must be a whole number, not 2"),
        (2, 2, "rank 2 is not one of 2 processes"),
    ],
)
def test_a_place_among_processes_that_is_none_is_refused(rank: Any, size: Any, said: str) -> None:
    network, images = nn.Sequential(nn.Flatten(), nn.Linear(4, CLASSES)), torch.ones(3, 1, 2, 2)
    with pytest.raises(ValueError, match=said):
        step(network, images, torch.zeros(3), together=SimpleNamespace(rank=rank, size=size))
