"""The one way from images to logits, held to plain PyTorch."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sartor
from sartor.data.feed.batches import Feed
from sartor.inference.forward import Forward


class Noisy(nn.Module):
    """Says something else in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(36, 4))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits


def feed(count: int = 11) -> Feed:
    generator = torch.Generator().manual_seed(0)
    return Feed(
        images=torch.randint(0, 256, (count, 1, 6, 6), dtype=torch.uint8, generator=generator),
        labels=torch.arange(count) % 4,
        indices=np.arange(count)[::-1].copy(),
        normalize=lambda images: images.float() / 255,
        memory_format=torch.contiguous_format,
    )


def forward(network: nn.Module, amp_dtype: str = "float32") -> Forward:
    return Forward(network=network, device="cpu", amp_dtype=amp_dtype, tta="none")


def test_logits_are_those_of_the_network_in_evaluation_mode() -> None:
    network, images = Noisy(), feed()
    expected = network.eval()(images.images.flip(0).float() / 255)
    network.train()
    found = forward(network).all_logits(images)
    torch.testing.assert_close(found, expected.detach())
    assert not found.requires_grad


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_as_before_also_after_a_failure(training: bool) -> None:
    class Failing(nn.Module):
        def forward(self, _images: Tensor) -> Tensor:
            raise ValueError("no")

    for network in (Noisy(), Failing()):
        network.train(training)
        with suppress(ValueError):
            forward(network).all_logits(feed())
        assert network.training is training


def test_bfloat16_comes_back_as_float32() -> None:
    network = Noisy().eval()
    exact, rounded = (forward(network, kind).all_logits(feed()) for kind in ("float32", "bfloat16"))
    assert exact.dtype == rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(exact, rounded, atol=0.05, rtol=0.05)


def test_a_predictor_leaves_the_threads_of_the_process_alone(trained: object) -> None:
    run = sartor.Run.open(str(trained))
    predictor = run.predictor()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        predictor.probabilities(run.dataset().images[:3])
        assert torch.get_num_threads() == 2
        with predictor.at_work():
            assert torch.get_num_threads() == 1, "the run was trained with one"
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_explaining_uses_the_same_logits_as_predicting(trained: object) -> None:
    run = sartor.Run.open(str(trained))
    explained = sartor.explain(run, [5, 7])
    images = run.dataset().images[[5, 7]]
    predictor = run.predictor()
    with predictor.at_work():
        expected = predictor.probabilities(images).max(1)
    assert [one.probability for one in explained] == expected.tolist()
