"""Forward passes by the engine native where the network changes, the process is copied, or much is
asked at once."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sartor import native_module
from sartor.data.feed.batches import Feed
from sartor.data.pictures.preprocess import Normalizer
from sartor.inference import native_forward
from sartor.inference.forward import Forward
from sartor.inference.native_forward import NativeForward
from sartor.inference.novelty import Novelty, Watched

pytestmark = pytest.mark.skipif(
    native_module.missing() is not None, reason=f"no engine native: {native_module.missing()}"
)


def network(side: int = 8) -> nn.Sequential:
    torch.manual_seed(0)
    features = 4 * (side - 2) ** 2
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(features, 5)).eval()


def half(network: nn.Sequential) -> None:
    with torch.no_grad():
        network[3].weight.mul_(0.5)


def replace_parameter(network: nn.Sequential) -> None:
    network[0].weight = nn.Parameter(network[0].weight.detach() * 2)


def replace_memory(network: nn.Sequential) -> None:
    network[0].weight.data = network[0].weight.data * 2


def replace_layer(network: nn.Sequential) -> None:
    network[3] = nn.Linear(network[3].in_features, 5)


def add_hook(network: nn.Sequential) -> None:
    network[1].register_forward_hook(lambda _module, _given, result: result + 1)


def take_another_layer(network: nn.Sequential) -> None:
    network[1] = nn.Tanh()


@pytest.mark.parametrize("images", [2, 20])
@pytest.mark.parametrize(
    "change",
    [half, replace_parameter, replace_memory, replace_layer, add_hook, take_another_layer],
)
@pytest.mark.parametrize("inference", [False, True])
def test_a_network_that_was_changed_says_what_pytorch_says(
    change: Callable[[nn.Sequential], None], images: int, inference: bool
) -> None:
    with torch.inference_mode() if inference else torch.no_grad():
        compare(change, images)


def compare(change: Callable[[nn.Sequential], None], images: int) -> None:
    torch_network, pixels = network(), torch.randn(images, 3, 8, 8)
    native = NativeForward(torch_network, 1, "auto")
    before = native(pixels)
    torch.testing.assert_close(before, torch_network(pixels), rtol=1e-4, atol=1e-5)
    change(torch_network)
    expected = torch_network(pixels)
    assert not torch.allclose(before, expected, atol=1e-3), "nothing to see"
    torch.testing.assert_close(native(pixels), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(native.seen(pixels)[1], expected, rtol=1e-4, atol=1e-5)


def feed(count: int, side: int, normalize: Callable[[Tensor], Tensor]) -> Feed:
    return Feed(
        images=torch.zeros((count, 3, side, side), dtype=torch.uint8),
        labels=torch.zeros(count, dtype=torch.int64),
        indices=np.arange(count),
        normalize=normalize,
        memory_format=torch.contiguous_format,
    )


def test_a_hook_is_called_for_a_whole_feed_too() -> None:
    torch_network = network()
    add_hook(torch_network)
    normalize = Normalizer(torch.full((3, 1, 1), 0.01), torch.full((3, 1, 1), -0.5))
    native = NativeForward(torch_network, 1, "auto")
    forward = Forward(
        network=torch_network, device="cpu", amp_dtype="float32", tta="none", compiled=native
    )
    images = feed(7, 8, normalize)
    torch.testing.assert_close(
        forward.all_logits(images), torch_network(normalize(images.images)).detach()
    )


@pytest.mark.parametrize(("side", "most"), [(8, 512), (96, 16), (300, 16)])
def test_one_call_takes_few_images_so_that_it_can_be_interrupted(side: int, most: int) -> None:
    normalize = Normalizer(torch.full((3, 1, 1), 0.01), torch.full((3, 1, 1), -0.5))
    parts = NativeForward(network(side), 1, "auto").over(feed(1100, side, normalize))
    assert len(next(parts)[0]) == most


@pytest.mark.parametrize("count", [3, 512, 515, 1100, 3000])
def test_logits_do_not_depend_on_how_many_batches_a_call_takes(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    normalize = Normalizer(torch.full((3, 1, 1), 0.01), torch.full((3, 1, 1), -0.5))
    images, found = feed(count, 8, normalize), []
    for seconds in (0.0, 1e9):
        monkeypatch.setattr(native_forward, "_SECONDS_AT_ONCE", seconds)
        native = NativeForward(network(), 2, "auto")
        parts = list(native.over(images))
        assert [len(logits) for logits, _ in parts] == [
            min(512, count - start) for start in range(0, count, 512)
        ]
        features, logits = native.seen_over(images)
        found.append([torch.cat([one for one, _ in parts]), logits, features])
        assert torch.equal(torch.cat([labels for _, labels in parts]), images.labels)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(found[0][0], found[0][1])
    expected = Watched(network(), "3")(normalize(images.images))
    torch.testing.assert_close((found[0][2], found[0][1]), expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_copy_of_a_process_that_is_predicting_predicts(threads: int) -> None:
    native, pixels = NativeForward(network(), threads, "auto"), torch.randn(2000, 3, 8, 8)
    expected, ends = native(pixels), threading.Event()

    def predict() -> None:
        while not ends.is_set():
            native(pixels)

    busy = threading.Thread(target=predict)
    busy.start()
    try:
        for _ in range(10):
            child = os.fork()
            if child == 0:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(120)
                os._exit(0 if torch.equal(native(pixels), expected) else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        ends.set()
        busy.join()


def test_threads_may_ask_for_images_of_several_sizes_at_once() -> None:
    torch.manual_seed(0)
    torch_network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(2, 3)
    ).eval()
    native, faults = NativeForward(torch_network, 1, "auto"), list[str]()

    def ask(first: int) -> None:
        for side in itertools.islice(itertools.cycle([5, 9, 7]), first, first + 60):
            images = torch.ones(6, 1, side, side)
            try:
                native(images)
            except ValueError as error:
                faults.append(str(error))

    team = [threading.Thread(target=ask, args=(k,)) for k in range(4)]
    for one in team:
        one.start()
    for one in team:
        one.join()
    assert faults == []


# ------------------------------------------------------------------------------ bytes as they are


@pytest.mark.parametrize("images", [1, 4, 5, 40])
@pytest.mark.parametrize("shift", [0.0, -0.4])
def test_bytes_give_what_floats_give(images: int, shift: float) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, 8, 8, 3), np.uint8)
    pixels.flags.writeable = False
    normalize = Normalizer(torch.full((3, 1, 1), 0.02), torch.full((3, 1, 1), shift))
    forward = Forward(
        network=network(),
        device="cpu",
        amp_dtype="float32",
        tta="none",
        compiled=NativeForward(network(), 2, "auto"),
    )
    ordered = pixels.transpose(0, 3, 1, 2)
    expected = forward.seen(normalize(torch.from_numpy(ordered.copy())), "3")
    found = forward.scored_bytes(ordered, normalize, _SumOfFeatures(), "3")
    assert found is not None
    assert found.novelty is not None
    assert torch.equal(found.logits, expected[1])
    assert torch.equal(found.novelty, expected[0].sum(1))
    alone = forward.scored_bytes(ordered, normalize, None, "")
    assert alone is not None
    assert alone.novelty is None
    assert torch.equal(alone.logits, expected[1])


class _SumOfFeatures(Novelty):
    def __init__(self) -> None:
        nn.Module.__init__(self)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:  # noqa: ARG002
        return features.sum(1)


def test_bytes_are_left_to_pytorch_where_the_engine_does_not_take_them() -> None:
    normalize = Normalizer(torch.ones(3, 1, 1), torch.zeros(3, 1, 1))
    pixels = np.zeros((2, 3, 8, 8), np.uint8)
    own = NativeForward(network(), 1, "auto")
    forward = Forward(
        network=network(), device="cpu", amp_dtype="float32", tta="none", compiled=own
    )
    assert forward.scored_bytes(pixels, normalize, None, "") is not None
    assert forward.scored_bytes(pixels, normalize, _SumOfFeatures(), "0") is None
    assert forward.scored_bytes(pixels, torch.Tensor.float, None, "") is None
    assert replace(forward, tta="flip").scored_bytes(pixels, normalize, None, "") is None
    assert replace(forward, compiled=None).scored_bytes(pixels, normalize, None, "") is None
    strange = NativeForward(nn.Sequential(nn.Tanh(), *network()), 1, "auto")
    assert replace(forward, compiled=strange).scored_bytes(pixels, normalize, None, "") is None
