"""RandAugment and TrivialAugment: each picture by the change that chance chose, and no other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor

from sartor.data.augment import policies
from sartor.data.augment.chance import Chance
from sartor.data.augment.policies import CHANGES, GENTLE, STRONGEST, WIDE, Space
from sartor.data.augment.vocabulary import RandAugment, TrivialAugment

from .conftest import chance_of, noise

COUNT = 110


def one_changed(image: Tensor, chance: Chance, sample: int, level: int, space: Space) -> Tensor:
    change = list(CHANGES.values())[int(chance.whole(0, 14)[sample])]
    signed = level if chance.whole(2, 2)[sample] == 1 else -level
    return change(image, torch.tensor([signed]), space)


@pytest.mark.parametrize("channels", [1, 3])
def test_trivialaugment(channels: int) -> None:
    images, chance = noise(COUNT, channels, 8, 7), chance_of(COUNT)
    assert set(chance.whole(0, 14).tolist()) == set(range(14))
    changed = policies.trivialaugment(TrivialAugment(), images.clone(), chance)
    for k in range(COUNT):
        level = int(chance.whole(1, STRONGEST + 1)[k])
        expected = one_changed(images[k : k + 1], chance, k, level, WIDE)
        assert torch.equal(changed[k : k + 1], expected)


@pytest.mark.parametrize("count", [1, 3])
def test_randaugment(count: int) -> None:
    images, chance = noise(COUNT, 3, 8, 7), chance_of(COUNT)
    step = RandAugment(count=count, strength=11)
    changed = policies.randaugment(step, images.clone(), chance)
    for k in range(COUNT):
        expected = images[k : k + 1]
        for number in range(count):
            expected = one_changed(expected.clone(), chance.part(3 * number, 3), k, 11, GENTLE)
        assert torch.equal(changed[k : k + 1], expected)


# Of the others the weakest level is no identity: they have no strength, or posterize and solarize.
SCALED = ["shear-x", "shear-y", "move-x", "move-y", "rotate"]
SCALED += ["brightness", "color", "contrast", "sharpness"]


@pytest.mark.parametrize("name", [*SCALED, "identity", "posterize"])
def test_level_zero_changes_nothing(name: str) -> None:
    images = noise(3, 3, 9, 8)
    unchanged = CHANGES[name](images.clone(), torch.zeros(3, dtype=torch.int64), WIDE)
    assert torch.equal(unchanged, images)


@pytest.mark.parametrize("name", SCALED)
def test_both_sides_differ(name: str) -> None:
    images = noise(1, 3, 9, 8).repeat(2, 1, 1, 1)
    one, other = CHANGES[name](images, torch.tensor([20, -20]), GENTLE)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(("name", "axis"), [("move-x", 2), ("move-y", 1)])
def test_moves_by_a_share_of_the_size(name: str, axis: int) -> None:
    images = noise(1, 1, 10, 10)
    space = Space(shear=0, share=0.3, degrees=0, factor=0, bits=0)
    moved = CHANGES[name](images, torch.tensor([STRONGEST]), space)[0]
    expected = np.roll(images[0], -3, axis)
    expected[:, :, 7:] *= axis == 1
    expected[:, 7:, :] *= axis == 2
    np.testing.assert_array_equal(moved, expected)


@pytest.mark.parametrize(("name", "space"), [("posterize", WIDE), ("posterize", GENTLE)])
def test_posterize_is_pillows(name: str, space: Space) -> None:
    image = noise(1, 1, 16, 16)
    for level in (-30, -7, 0, 15, 30):
        bits = 8 - round(space.bits * abs(level) / 30 + 1e-9)
        theirs = ImageOps.posterize(Image.fromarray(image[0, 0].numpy()), bits)
        ours = CHANGES[name](image, torch.tensor([level]), space)
        np.testing.assert_array_equal(ours[0, 0], theirs)


def test_solarize_is_pillows() -> None:
    image = noise(1, 1, 16, 16)
    for level in (0, 1, -15, 30):
        theirs = ImageOps.solarize(
            Image.fromarray(image[0, 0].numpy()), 255 - 255 * abs(level) // 30
        )
        ours = CHANGES["solarize"](image, torch.tensor([level]), WIDE)
        np.testing.assert_array_equal(ours[0, 0], theirs)


def test_the_ranges_are_those_of_the_papers() -> None:
    turned = torch.zeros(1, 1, 21, 21, dtype=torch.uint8)
    turned[0, 0, 10, 18] = 255
    for space, degrees in ((GENTLE, 30), (WIDE, 135)):
        after = CHANGES["rotate"](turned, torch.tensor([STRONGEST]), space)[0, 0].float()
        row, column = (
            float((after.sum(dim) * torch.arange(21)).sum() / after.sum()) for dim in (1, 0)
        )
        angle = np.degrees(np.arctan2(row - 10, column - 10))
        assert angle == pytest.approx(degrees, abs=2)
