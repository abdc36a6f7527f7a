"""A look before training: overfitting a batch, a summary, a learning rate."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import sartor
from sartor.data.dataset import Dataset


@pytest.fixture(scope="module")
def run(trained: Path) -> sartor.Run:
    """The finished run; only read here, but for its predictions."""
    return sartor.Run.open(trained)


def test_overfit_batch(digits: Dataset) -> None:
    said: list[int] = []
    result = sartor.overfit_batch(
        digits,
        model="mlp",
        batch_size=16,
        threads=1,
        on_step=lambda step, _loss, _accuracy: said.append(step),
    )
    assert result.learnt
    assert (result.images, result.accuracy) == (16, 1.0)
    assert said == list(range(1, result.steps + 1))
    assert result.loss < result.first_loss / 10


def test_overfit_batch_of_a_network_that_cannot(digits: Dataset) -> None:
    class Deaf(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(10))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.bias.repeat(len(images), 1)

    result = sartor.overfit_batch(digits, model=Deaf(), batch_size=16, threads=1)
    assert not result.learnt
    assert result.accuracy < 0.6


def test_summary_counts_what_torch_counts(run: sartor.Run) -> None:
    network = run.network()
    expected = sum(parameter.numel() for parameter in network.parameters())
    for table in (
        sartor.summary(run),
        sartor.summary(network, "digits"),
        sartor.summary("lenet", "digits", dropout=0.2),
    ):
        assert table.parameters == expected


def test_a_learning_rate_is_suggested_without_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    before = network[1].weight.clone()
    found = sartor.find_learning_rate("digits", model=network, opt="adam")
    assert found.suggestion is not None
    assert 1e-4 < found.suggestion < 1
    _, curve, suggestion = found.plot().axes[0].lines
    assert curve.get_ydata().tolist() == list(found.smoothed)
    assert set(suggestion.get_xdata()) == {found.suggestion}
    assert torch.equal(before, network[1].weight)
    assert not list(tmp_path.iterdir())
