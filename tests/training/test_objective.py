"""Losses against those of `torch.nn`, weights against scikit-learn."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn

from sartor.training.objective import (
    Objective,
    balanced_weights,
    effective_weights,
    untrained_loss,
)
from sartor.training.settings import LOSSES

LOGITS = torch.randn(17, 5, generator=torch.Generator().manual_seed(0)) * 3
LABELS = torch.arange(17) % 5
WEIGHTS = torch.tensor([0.2, 1.0, 3.0, 0.7, 10.0])


def mean(objective: Objective, logits: Tensor = LOGITS, labels: Tensor = LABELS) -> Tensor:
    return objective.sum(logits, labels) / objective.weight(labels)


def gradient(objective: Any) -> Tensor:
    logits = LOGITS.clone().requires_grad_()
    objective(logits).backward()
    assert logits.grad is not None
    return logits.grad


class TestTorch:
    @pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["even", "weighted"])
    @pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
    def test_cross_entropy(self, weights: Tensor | None, smoothing: float) -> None:
        ours = Objective(loss="cross-entropy", smoothing=smoothing, class_weights=weights)
        theirs = nn.CrossEntropyLoss(weight=weights, label_smoothing=smoothing)
        torch.testing.assert_close(mean(ours), theirs(LOGITS, LABELS))
        torch.testing.assert_close(
            gradient(lambda logits: mean(ours, logits)),
            gradient(lambda logits: theirs(logits, LABELS)),
        )

    def test_mse_on_one_hot(self) -> None:
        ours, theirs = Objective(loss="mse"), nn.MSELoss()
        one_hot = F.one_hot(LABELS, 5).float()
        torch.testing.assert_close(mean(ours), theirs(LOGITS, one_hot))
        torch.testing.assert_close(
            gradient(lambda logits: mean(ours, logits)),
            gradient(lambda logits: theirs(logits, one_hot)),
        )

    def test_bce_with_logits(self) -> None:
        ours, theirs = Objective(loss="bce"), nn.BCEWithLogitsLoss()
        one_hot = F.one_hot(LABELS, 5).float()
        torch.testing.assert_close(mean(ours), theirs(LOGITS, one_hot))
        torch.testing.assert_close(
            gradient(lambda logits: mean(ours, logits)),
            gradient(lambda logits: theirs(logits, one_hot)),
        )

    @pytest.mark.parametrize("loss", LOSSES)
    def test_weights_are_a_weighted_mean_over_images(self, loss: str) -> None:
        each = torch.stack(
            [Objective(loss=loss).sum(LOGITS[k : k + 1], LABELS[k : k + 1]) for k in range(17)]
        )
        weights = WEIGHTS[LABELS]
        weighted = mean(Objective(loss=loss, class_weights=WEIGHTS))
        torch.testing.assert_close(weighted, (each * weights).sum() / weights.sum())

    @pytest.mark.parametrize("loss", LOSSES)
    def test_logits_of_half_precision_are_summed_in_single(self, loss: str) -> None:
        half = LOGITS.bfloat16()
        result = Objective(loss=loss).sum(half, LABELS)
        assert result.dtype == torch.float32
        torch.testing.assert_close(result, Objective(loss=loss).sum(half.float(), LABELS))


@settings(deadline=None, max_examples=80)
@given(
    st.sampled_from(LOSSES),
    st.sampled_from([0.0, 0.3]),
    st.booleans(),
    st.lists(st.integers(0, 16), max_size=6),
)
def test_parts_add_up_to_the_whole(
    loss: str, smoothing: float, weighted: bool, cuts: list[int]
) -> None:
    objective = Objective(
        loss=loss, smoothing=smoothing, class_weights=WEIGHTS if weighted else None
    )
    edges = [0, *sorted(cuts), 17]
    parts = [slice(*pair) for pair in pairwise(edges)]
    total = sum(float(objective.sum(LOGITS[part], LABELS[part])) for part in parts)
    weight = sum(float(objective.weight(LABELS[part])) for part in parts)
    assert total == pytest.approx(float(objective.sum(LOGITS, LABELS)), rel=1e-5)
    assert weight == pytest.approx(float(objective.weight(LABELS)), rel=1e-5)


class TestShares:
    """Labels of mixed pictures: for each class its share."""

    OTHER = (LABELS + 2) % 5
    SHARE = torch.linspace(0, 1, 17)
    MIXED = F.one_hot(LABELS, 5) * SHARE[:, None] + F.one_hot(OTHER, 5) * (1 - SHARE[:, None])

    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["even", "weighted"])
    def test_one_class_alone_is_a_label(self, loss: str, weights: Tensor | None) -> None:
        objective = Objective(loss=loss, class_weights=weights)
        one_hot = F.one_hot(LABELS, 5).float()
        torch.testing.assert_close(mean(objective, labels=one_hot), mean(objective))
        torch.testing.assert_close(
            torch.as_tensor(objective.weight(one_hot)), torch.as_tensor(objective.weight(LABELS))
        )

    @pytest.mark.parametrize(
        ("loss", "smoothing", "weights"),
        [
            ("cross-entropy", 0.0, None),
            ("cross-entropy", 0.2, None),
            ("cross-entropy", 0.0, WEIGHTS),
            ("cross-entropy", 0.2, WEIGHTS),
            ("bce", 0.0, None),
        ],
        ids=["plain", "smoothed", "weighted", "both", "bce"],
    )
    def test_the_loss_is_that_of_both_labels_by_their_shares(
        self, loss: str, smoothing: float, weights: Tensor | None
    ) -> None:
        """As mixup and cutmix write it: share * loss(one) + (1 - share) * loss(other)."""
        objective = Objective(loss=loss, smoothing=smoothing, class_weights=weights)
        by_hand = sum(
            float(share * objective.sum(logits, one) + (1 - share) * objective.sum(logits, other))
            for share, logits, one, other in zip(
                self.SHARE, LOGITS.split(1), LABELS.split(1), self.OTHER.split(1), strict=True
            )
        )
        assert float(objective.sum(LOGITS, self.MIXED)) == pytest.approx(by_hand, rel=1e-5)

    def test_cross_entropy_by_hand(self) -> None:
        logits, shares = torch.tensor([[1.0, 2.0, 0.5]]), torch.tensor([[0.7, 0.0, 0.3]])
        total = sum(math.exp(x) for x in (1.0, 2.0, 0.5))
        expected = -0.7 * math.log(math.e / total) - 0.3 * math.log(math.exp(0.5) / total)
        assert float(Objective(loss="cross-entropy").sum(logits, shares)) == pytest.approx(expected)

    def test_weight_counts_each_class_by_its_share(self) -> None:
        objective = Objective(loss="cross-entropy", class_weights=WEIGHTS)
        by_hand = sum(
            float(share * WEIGHTS[one] + (1 - share) * WEIGHTS[other])
            for share, one, other in zip(self.SHARE, LABELS, self.OTHER, strict=True)
        )
        assert float(objective.weight(self.MIXED)) == pytest.approx(by_hand, rel=1e-5)
        assert Objective(loss="mse").weight(self.MIXED) == 17


def test_plain_judges_without_smoothing_and_weights() -> None:
    objective = Objective(loss="cross-entropy", smoothing=0.2, class_weights=WEIGHTS)
    torch.testing.assert_close(mean(objective.plain()), F.cross_entropy(LOGITS, LABELS))
    assert objective.plain().weight(LABELS) == 17


class TestBalancedWeights:
    @settings(deadline=None, max_examples=60)
    @given(st.lists(st.integers(1, 300), min_size=2, max_size=12))
    def test_are_those_of_scikit_learn(self, sizes: list[int]) -> None:
        labels = np.repeat(np.arange(len(sizes)), sizes)
        expected = compute_class_weight("balanced", classes=np.arange(len(sizes)), y=labels)
        ours = balanced_weights(torch.from_numpy(labels), len(sizes))
        np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-6)

    def test_an_empty_class_weighs_nothing(self) -> None:
        weights = balanced_weights(torch.tensor([0, 0, 2]), 4)
        assert weights.tolist() == pytest.approx([3 / 8, 0, 3 / 4, 0])


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("num_classes", [2, 10, 100])
def test_untrained_loss_is_that_of_outputs_of_zero(loss: str, num_classes: int) -> None:
    labels = torch.arange(30) % num_classes
    measured = mean(Objective(loss=loss), torch.zeros(30, num_classes), labels)
    assert untrained_loss(loss, num_classes) == pytest.approx(float(measured), rel=1e-6)
    assert untrained_loss("cross-entropy", 10) == pytest.approx(math.log(10))


class TestEffectiveWeights:
    LABELS = torch.repeat_interleave(torch.arange(4), torch.tensor([500, 50, 5, 1]))

    def test_are_those_of_the_paper(self) -> None:
        """(1 - beta) / (1 - beta^n), whose scale means nothing."""
        ours = effective_weights(self.LABELS, 4, 0.99).double().numpy()
        paper = (1 - 0.99) / (1 - 0.99 ** np.array([500, 50, 5, 1]))
        np.testing.assert_allclose(ours / ours.sum(), paper / paper.sum(), rtol=1e-6)

    @pytest.mark.parametrize("beta", [0.0, 0.5, 0.999, 0.999999])
    def test_images_weigh_1_in_the_mean(self, beta: float) -> None:
        assert effective_weights(self.LABELS, 4, beta)[self.LABELS].mean() == pytest.approx(1)

    def test_go_from_none_to_balanced(self) -> None:
        assert effective_weights(self.LABELS, 4, 0.0).tolist() == [1] * 4
        balanced = balanced_weights(self.LABELS, 4)
        torch.testing.assert_close(
            effective_weights(self.LABELS, 4, 0.999999), balanced, rtol=1e-3, atol=0
        )
        ratios = [
            float((w := effective_weights(self.LABELS, 4, beta))[3] / w[0])
            for beta in (0.0, 0.5, 0.9, 0.99, 0.999)
        ]
        assert ratios == sorted(ratios)

    def test_an_empty_class_weighs_nothing(self) -> None:
        for beta in (0.0, 0.9):
            weights = effective_weights(torch.tensor([0, 0, 2]), 4, beta)
            assert weights[1] == weights[3] == 0
            assert weights.isfinite().all()
