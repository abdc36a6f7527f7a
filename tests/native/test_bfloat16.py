"""Convolutions in bfloat16 by compiled code, against double precision on rounded operands."""

from __future__ import annotations

import copy
import math
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sartor import native_module
from sartor.models.resnet import Residual
from sartor.training.engines.native import FEWEST_BFLOAT16_CHANNELS, may_multiply_bfloat16

from .stepping import CLASSES, Shape, batch, compiled, logits_of, seeded, step

SETS = list(native_module.bfloat16_sets())
pytestmark = pytest.mark.skipif(not SETS, reason="no products of bfloat16 here")
each_set = pytest.mark.parametrize("isa", SETS)
CHANNELS = st.sampled_from([16, 17, 20, 24, 31, 32, 33, 40, 47, 48, 64, 70])


def rounded(values: Tensor) -> Tensor:
    """To the nearest bfloat16, in double precision."""
    return values.float().bfloat16().double()


class RoundedProducts(torch.autograd.Function):
    """A convolution whose three products are of rounded operands."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.padding = padding
        return F.conv2d(rounded(images), rounded(weight), padding=padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        images, weight = ctx.saved_tensors
        gradient = rounded(gradients[0])
        of_images = torch.nn.grad.conv2d_input(
            images.shape, rounded(weight), gradient, padding=ctx.padding
        )
        of_weight = torch.nn.grad.conv2d_weight(
            rounded(images), weight.shape, gradient, padding=ctx.padding
        )
        return of_images, of_weight, None


class RoundedConvolution(nn.Module):
    """A convolution as the engine computes it in bfloat16: its bias is not rounded."""

    def __init__(self, of: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias, self.padding = of.weight, of.bias, of.padding

    def forward(self, images: Tensor) -> Tensor:
        found = RoundedProducts.apply(images, self.weight, self.padding)
        return found if self.bias is None else found + self.bias[:, None, None]


def reference_of(network: nn.Sequential) -> nn.Module:
    """The network in double precision, with rounded products where the engine has them."""
    found = copy.deepcopy(network).double()
    for one in list(found.modules()):
        for name, child in one.named_children():
            if isinstance(child, nn.Conv2d) and may_multiply_bfloat16(child):
                setattr(one, name, RoundedConvolution(child))
    return found


@st.composite
def wide(draw: st.DrawFn) -> tuple[nn.Sequential, Shape]:
    """A narrow convolution, wide ones of odd sizes, and the shape of the images."""
    shape = (draw(st.sampled_from([1, 3])), draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    channels = draw(CHANNELS)
    layers: list[nn.Module] = [nn.Conv2d(shape[0], channels, 1), nn.ReLU()]
    height, width = shape[1:]
    for _ in range(draw(st.integers(1, 2))):
        kernel = (draw(st.sampled_from([1, 2, 3, 3, 5])), draw(st.sampled_from([1, 3, 3, 4])))
        padding = tuple(
            max(draw(st.integers(0, 3)), -((side - size) // 2))
            for side, size in zip((height, width), kernel, strict=True)
        )
        outputs = draw(CHANNELS)
        layers.append(nn.Conv2d(channels, outputs, kernel, 1, padding, bias=draw(st.booleans())))
        height, width = (
            side + 2 * pad - size + 1
            for side, pad, size in zip((height, width), padding, kernel, strict=True)
        )
        if min(height, width) > 1 and draw(st.booleans()):
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
        layers += [nn.ReLU()] if draw(st.booleans()) else []
        channels = outputs
    layers += [nn.Flatten(), nn.Linear(channels * height * width, CLASSES)]
    return nn.Sequential(*layers), shape


def assert_rounded(found: Tensor, rounded: Tensor, exact: Tensor) -> None:
    """Much nearer to what rounded operands give than exact ones are, though float32's rounding of
    sums makes that a few operands are rounded the other way."""
    away, between = (found - rounded).norm(), (exact - rounded).norm()
    assert away <= 0.3 * between + 1e-5 * rounded.norm()


@settings(max_examples=40)
@given(wide(), st.sampled_from([1, 3, 16, 37]), st.sampled_from(SETS))
def test_forward_rounds_what_it_multiplies(
    chain: tuple[nn.Sequential, Shape], size: int, isa: str
) -> None:
    network, shape = chain
    seeded(network, size)
    images, _ = batch(shape, size)
    exact = copy.deepcopy(network).double()(images.double()).detach()
    expected = reference_of(network)(images.double()).detach()
    assert_rounded(logits_of(network, images, isa=isa).double(), expected, exact)


@each_set
def test_all_three_products_are_of_rounded_operands(isa: str) -> None:
    layers = [nn.Conv2d(3, 40, 1), nn.ReLU(), nn.Conv2d(40, 48, 3, padding=1), nn.Flatten()]
    network = nn.Sequential(*layers, nn.Linear(48 * 30, CLASSES))
    images, labels = batch((3, 5, 6), 53)
    seeded(network, 5)
    exact, rounded = copy.deepcopy(network).double(), reference_of(network)
    for one in (exact, rounded):
        F.cross_entropy(one(images.double()), labels).backward()
    for name, check in ((isa, nullcontext()), ("x86-64-v4", pytest.raises(AssertionError))):
        with check:
            found = copy.deepcopy(network)
            step(found, images, labels, isa=name)
            for k in (0, 2):
                moved = (network[k].weight.double() - found[k].weight.double()).detach()
                assert_rounded(moved, rounded[k].weight.grad, exact[k].weight.grad)


@settings(max_examples=60)
@given(
    wide(),
    st.sampled_from([2, 16, 21, 37]),
    st.sampled_from([1, 2, 3]),
    st.sampled_from(SETS),
)
def test_a_step_rounds_what_it_multiplies(
    chain: tuple[nn.Sequential, Shape], size: int, threads: int, isa: str
) -> None:
    network, shape = chain
    seeded(network, size)
    images, labels = batch(shape, size)
    with torch.no_grad():
        # No probability is nearly 1: its gradient would be a difference of nearly equal numbers.
        largest = network(images).abs().max()
        for one in network[-1].parameters():
            one.div_(largest)
    reference = reference_of(network)
    loss = F.cross_entropy(reference(images.double()), labels)
    loss.backward()
    before = copy.deepcopy(network)
    # In a small network, a single operand that is rounded the other way is much: 2**-8 of what all
    # follows from, and another largest of a window. That operands are rounded at all is held above.
    assert step(network, images, labels, threads, isa) == pytest.approx(
        loss.item() * size, rel=2**-6
    )
    for first, now, theirs in zip(
        *(one.parameters() for one in (before, network, reference)), strict=True
    ):
        away = (first.double() - now.double()).detach() - theirs.grad
        # The difference of two weights is exact to the last bit of these.
        assert away.norm() <= 2**-4 * theirs.grad.norm() + 2**-23 * first.norm()


def stack() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 40, 3, padding=1),
        nn.BatchNorm2d(40),
        nn.ReLU(),
        nn.ZeroPad2d((1, 0, 1, 0)),
        nn.Conv2d(40, 70, 3),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(70),
        nn.ReLU(),
        Residual(70, 70, halve=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(70, CLASSES),
    )


@each_set
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_same_bits_with_the_same_threads(isa: str, threads: int) -> None:
    images, labels = batch((3, 9, 7), 53)
    found = []
    for _ in range(2):
        network = stack()
        seeded(network, 5)
        for _ in range(3):
            step(network, images, labels, threads, isa)
        found.append(network.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@each_set
def test_logits_depend_on_neither_threads_nor_company(isa: str) -> None:
    network, (images, _) = stack().eval(), batch((3, 9, 7), 200)
    seeded(network, 5)
    one = logits_of(network, images, 1, isa)
    assert torch.equal(one, logits_of(network, images, 3, isa))
    for size in (1, 4, 19):
        assert torch.equal(logits_of(network, images[:size], isa=isa), one[:size])


@each_set
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_goes_where_it_goes_in_float32(isa: str, bad: float) -> None:
    network, (images, labels) = stack().eval(), batch((3, 9, 7), 18)
    seeded(network, 5)
    images[2, 0, 4, 4] = bad
    expected = logits_of(network, images)
    found = logits_of(network, images, isa=isa)
    assert torch.equal(found.isfinite(), expected.isfinite())
    assert not found[2].isfinite().any()
    assert found[[0, 1, 3]].isfinite().all()
    assert not math.isfinite(step(network.train(), images, labels, isa=isa))
    assert not torch.isfinite(network[4].weight).any()


@each_set
def test_numbers_that_are_too_small_to_be_normal_are_zero(isa: str) -> None:
    network = nn.Sequential(
        nn.Conv2d(32, 32, 1, bias=False), nn.Flatten(), nn.Linear(32, CLASSES, bias=False)
    )
    seeded(network, 1)
    images = torch.full((3, 32, 1, 1), 1e-39)
    assert (logits_of(network, images, isa=isa) == 0).all()


@each_set
def test_a_step_is_that_of_autocast_but_for_its_rounding(isa: str) -> None:
    """PyTorch rounds results, too: of a layer's gradient the two differ by that much."""
    images, labels = batch((3, 12, 12), 64)
    network = stack()
    seeded(network, 3)
    reference, exact = copy.deepcopy(network), copy.deepcopy(network).double()
    F.cross_entropy(exact(images.double()), labels).backward()
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(reference(images).float(), labels)
    loss.backward()
    before = copy.deepcopy(network)
    assert step(network, images, labels, isa=isa) / 64 == pytest.approx(loss.item(), rel=0.01)
    for first, now, theirs, right in zip(
        before.parameters(),
        network.parameters(),
        reference.parameters(),
        exact.parameters(),
        strict=True,
    ):
        ours = (first.double() - now.double() - right.grad).detach().norm()
        assert ours <= (theirs.grad.double() - right.grad).norm() + 1e-3 * right.grad.norm()


@each_set
def test_pytorch_multiplies_bfloat16_in_the_same_thread_afterwards(isa: str) -> None:
    """Tile registers are configured by both; each must find its own."""
    left, right = torch.rand(2, 64, 64).bfloat16()
    expected = left @ right
    images, labels = batch((3, 9, 7), 53)
    for _ in range(3):
        step(stack(), images, labels, 1, isa)
        assert torch.equal(left @ right, expected)


@pytest.mark.parametrize(
    ("inputs", "outputs", "stride"),
    [(16, 16, 1), (15, 16, 1), (16, 15, 1), (16, 16, 2), (64, 16, (1, 2))],
)
def test_which_convolutions_are_wide_enough(inputs: int, outputs: int, stride: Any) -> None:
    conv = nn.Conv2d(inputs, outputs, 1, stride)
    network = nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(outputs, 4))
    made = compiled(network, (inputs, 3, 3), 1, SETS[-1])
    assert made.multiplies_bfloat16 == may_multiply_bfloat16(network)
    assert made.multiplies_bfloat16 == (
        min(inputs, outputs) >= FEWEST_BFLOAT16_CHANNELS and stride == 1
    )
    assert not compiled(network, (inputs, 3, 3)).multiplies_bfloat16


def test_both_kinds_of_products_agree() -> None:
    if len(SETS) < 2:
        pytest.skip("this processor has one kind of products")
    network, (images, _) = stack().eval(), batch((3, 9, 7), 37)
    seeded(network, 5)
    found = [logits_of(network, images, isa=isa).numpy() for isa in SETS]
    np.testing.assert_allclose(*found, rtol=0, atol=1e-3 * np.abs(found[0]).max())
