"""mixup and cutmix in loops, and shares that are those of the pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sartor.data.augment.chance import LEVELS
from sartor.data.augment.mixing import Mixing, _quantiles
from sartor.data.augment.vocabulary import Cutmix, Mixup

from .conftest import CPU, chance_of, shapes

WAYS = {
    "mixup": Mixing(mixup=Mixup(alpha=0.4), cutmix=None, num_classes=4),
    "cutmix": Mixing(mixup=None, cutmix=Cutmix(alpha=1.0), num_classes=4),
    "either": Mixing(mixup=Mixup(alpha=0.4), cutmix=Cutmix(alpha=1.0), num_classes=4),
}

RANKS = (np.arange(LEVELS) + 0.5) / LEVELS
BETA = {alpha: stats.beta(alpha, alpha).ppf(RANKS) for alpha in (0.4, 1.0)}


@given(shapes, st.sampled_from(sorted(WAYS)))
@settings(deadline=None, max_examples=25)
def test_blend(shape: tuple[int, int, int, int], way: str) -> None:
    count, _, height, width = shape
    mixing, chance = WAYS[way], chance_of(count)
    images = torch.randn(2 * count, *shape[1:], generator=torch.Generator().manual_seed(1))
    labels = torch.arange(2 * count) * 3 % 4
    mixed = mixing.blend(images.clone().chunk(2), labels.chunk(2), chance)
    for k in range(count):
        level = int(chance.whole(1, LEVELS)[k])
        blended = way == "mixup" or (way == "either" and chance.whole(2, 2)[k] == 1)
        share = float(BETA[0.4 if blended else 1.0][level])
        one, other = images[k], images[count + k]
        if blended:
            expected = share * one + (1 - share) * other
        else:
            expected = one.clone()
            high, wide = (int(math.sqrt(1 - share) * size) for size in (height, width))
            top = int(chance.whole(3, height)[k]) - high // 2
            left = int(chance.whole(4, width)[k]) - wide // 2
            inside = 0
            for row in range(max(top, 0), min(top + high, height)):
                for column in range(max(left, 0), min(left + wide, width)):
                    expected[:, row, column] = other[:, row, column]
                    inside += 1
            share = 1 - inside / (height * width)
        label = torch.zeros(4)
        label[labels[k]] += share
        label[labels[count + k]] += 1 - share
        torch.testing.assert_close(mixed.images[k], expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(mixed.labels[k], label, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_shares_are_beta_distributed(alpha: float) -> None:
    values = _quantiles(alpha, CPU)[0].double().numpy()
    np.testing.assert_allclose(values, stats.beta(alpha, alpha).ppf(RANKS), rtol=1e-5)
    assert values.mean() == pytest.approx(0.5)
    assert values.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=1e-2)


def test_partners_are_any_members_and_no_others() -> None:
    members = torch.tensor([5, 8, 13, 40])
    partners = members[WAYS["mixup"].partners(chance_of(400), len(members))]
    counts = [int((partners == member).sum()) for member in members]
    assert sum(counts) == 400
    assert stats.chisquare(counts).pvalue > 0.01
