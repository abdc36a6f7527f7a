"""Figures are sums: they come out alike however the images are divided among batches, parts and
processes."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sartor.averages import balanced_accuracy, macro_f1
from sartor.training.objective import Objective

CLASSES = 3


@st.composite
def sharded(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Logits, labels, and where they are divided."""
    count = draw(st.integers(1, 40))
    chance = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    logits = 5 * torch.randn(count, CLASSES, generator=chance)
    labels = torch.randint(CLASSES, (count,), generator=chance)
    cuts = sorted(draw(st.lists(st.integers(0, count), max_size=6)))
    return logits, labels, [0, *cuts, count]


def parts(values: torch.Tensor, cuts: list[int]) -> list[torch.Tensor]:
    return [values[start:stop] for start, stop in itertools.pairwise(cuts)]


def with_gradient(
    objective: Objective, logits: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum of the losses, and its gradient with respect to the logits."""
    logits = logits.clone().requires_grad_()
    total = objective.sum(logits, labels)
    (gradient,) = torch.autograd.grad(total, logits)
    return total.detach(), gradient


@settings(max_examples=50)
@given(
    sharded(),
    st.sampled_from(["cross-entropy", "mse", "bce"]),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from([None, (1.0, 2.0, 0.5)]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_losses_weights_and_gradients_add_up_over_any_parts(
    data: Any, loss: str, smoothing: float, weights: Any, mixed: bool, chance: Any
) -> None:
    logits, labels, cuts = data
    objective = Objective(
        loss=loss,
        smoothing=smoothing if loss == "cross-entropy" else 0.0,
        class_weights=None if weights is None else torch.tensor(weights),
    )
    if mixed:
        labels = torch.nn.functional.one_hot(labels, CLASSES).float().roll(1, 0) * 0.25
        labels = labels + 0.75 / CLASSES
    whole, gradient = with_gradient(objective, logits, labels)
    pieces = list(zip(parts(logits, cuts), parts(labels, cuts), strict=True))
    pieces = [piece for piece in pieces if len(piece[0])]
    sums = [with_gradient(objective, *piece) for piece in pieces]
    chance.shuffle(sums_of := [float(total) for total, _ in sums])
    assert math.isclose(math.fsum(sums_of), float(whole), rel_tol=1e-4, abs_tol=1e-4)
    together = torch.cat([one for _, one in sums])
    torch.testing.assert_close(together, gradient, rtol=1e-5, atol=1e-6)
    weight = sum(float(objective.weight(piece[1])) for piece in pieces)
    assert math.isclose(weight, float(objective.weight(labels)), rel_tol=1e-5)


@given(sharded(), st.randoms(use_true_random=False))
def test_counts_add_up_exactly_and_so_do_averages_over_classes(data: Any, chance: Any) -> None:
    logits, labels, cuts = data

    def counted(logits: torch.Tensor, labels: torch.Tensor) -> Any:
        said = logits.argmax(1).numpy() if len(logits) else np.empty(0, np.int64)
        cells = said + CLASSES * labels.numpy()
        return np.bincount(cells, minlength=CLASSES**2).reshape(CLASSES, CLASSES)

    found = [counted(*one) for one in zip(parts(logits, cuts), parts(labels, cuts), strict=True)]
    chance.shuffle(found)
    table, whole = sum(found), counted(logits, labels)
    assert (table == whole).all()

    def figures(table: Any) -> tuple[float, float]:
        counts, correct, said = table.sum(1), np.diag(table), table.sum(0)
        return (
            balanced_accuracy(counts.tolist(), correct.tolist()),
            macro_f1(counts.tolist(), correct.tolist(), said.tolist()),
        )

    assert figures(table) == figures(whole)
