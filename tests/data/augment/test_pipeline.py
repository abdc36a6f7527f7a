"""Law 1: what happens to a sample comes from (seed, epoch, its index) alone."""

from __future__ import annotations

import hashlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sartor.data.augment import pipeline
from sartor.data.augment.pipeline import Augmentation, augmentation_of
from sartor.data.augment.vocabulary import BY_KORNIA, MIXING, STEPS

from .conftest import noise, shapes

WORDS = [[name] for name, kind in STEPS.items() if kind not in MIXING] + [
    ["crop=2", "flip", "erase", "rotate", "color-jitter=0.4,0.4,0.4,0.1"],
    ["crop=3,reflect"],
]
COUNT = 16


def made_of(*words: str, seed: int = 0, channels: int = 3) -> Augmentation:
    made = augmentation_of(words, seed=seed, num_classes=3, mean=(0.5,) * channels)
    assert made is not None
    return made


def seen(augmentation: Augmentation, dataset: Tensor, indices: list[int], epoch: int = 0) -> Tensor:
    rows = torch.tensor(indices)
    return augmentation.images(dataset.index_select(0, rows), rows, epoch)


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 13, 9)], ids=str)
def test_neither_batch_nor_place_nor_threads_change_a_bit(
    words: list[str], shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, augmentation = noise(COUNT, *shape), made_of(*words, channels=shape[0])
    whole = seen(augmentation, dataset, list(range(COUNT)), epoch=3)
    for indices in ([0], [COUNT - 1], [7, 3], list(range(COUNT))[::-1], [5, 5, 6, 5]):
        assert torch.equal(seen(augmentation, dataset, indices, epoch=3), whole[indices])
    torch.set_num_threads(2)
    assert torch.equal(seen(augmentation, dataset, list(range(COUNT)), epoch=3), whole)
    for limit in ("_AT_ONCE", "_WARPED_AT_ONCE"):
        monkeypatch.setattr(pipeline, limit, 5 * dataset[0].numel())
    parted = made_of(*words, channels=shape[0])
    assert all(operation.at_once == 5 * dataset[0].numel() for operation in parted.operations)
    assert torch.equal(seen(parted, dataset, list(range(COUNT)), epoch=3), whole)


@pytest.mark.parametrize("words", [["color-jitter"], ["sharpness=2", "rotate"], ["blur=3,1"]])
def test_nor_do_they_for_large_pictures(words: list[str]) -> None:
    """Whose sums PyTorch computes by several threads where there is one picture, but not of two."""
    dataset, augmentation = noise(3, 1, 200, 190), made_of(*words, channels=1)
    whole = seen(augmentation, dataset, [0, 1, 2])
    for index in range(3):
        torch.set_num_threads(1 + index % 2)
        assert torch.equal(seen(augmentation, dataset, [index]), whole[index : index + 1])


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_new_pictures_each_epoch_and_each_seed(words: list[str]) -> None:
    dataset = noise(COUNT, 3, 12, 12)
    everything = list(range(COUNT))
    first = seen(made_of(*words), dataset, everything)
    assert torch.equal(seen(made_of(*words), dataset, everything), first)
    assert not torch.equal(first, dataset)
    for other in (
        seen(made_of(*words), dataset, everything, epoch=1),
        seen(made_of(*words, seed=1), dataset, everything),
    ):
        changed = (other != first).flatten(1).any(1)
        assert changed.sum() >= 2


@given(shapes, st.sampled_from([word for word in WORDS if STEPS.get(word[0]) not in BY_KORNIA]))
@settings(deadline=None, max_examples=80)
def test_any_shape_comes_back_as_bytes(shape: tuple[int, int, int, int], words: list[str]) -> None:
    check_shape(shape, words)


@pytest.mark.parametrize("shape", [(2, 1, 1, 1), (2, 3, 1, 1), (3, 3, 2, 5), (1, 1, 7, 1)])
@pytest.mark.parametrize(
    "words", [[name] for name, kind in STEPS.items() if kind in BY_KORNIA], ids=" ".join
)
def test_so_it_does_from_kornia(shape: tuple[int, int, int, int], words: list[str]) -> None:
    for epoch in range(5):
        check_shape(shape, words, epoch)


def check_shape(shape: tuple[int, int, int, int], words: list[str], epoch: int = 0) -> None:
    dataset = noise(*shape)
    before = dataset.clone()
    changed = seen(made_of(*words, channels=shape[1]), dataset, list(range(shape[0])), epoch)
    assert changed.dtype == torch.uint8
    assert changed.shape == shape
    assert changed.is_contiguous()
    assert torch.equal(dataset, before)


def test_steps_follow_one_another_in_the_order_of_the_words() -> None:
    dataset = noise(COUNT, 1, 8, 8)
    everything = torch.arange(COUNT)
    one, other = made_of("crop=2", channels=1), made_of("cutout=3", channels=1)
    expected = other.images(one.images(dataset.clone(), everything, 0), everything, 0)
    both = made_of("crop=2", "cutout=3", channels=1)
    assert torch.equal(both.images(dataset.clone(), everything, 0), expected)
    turned = made_of("cutout=3", "crop=2", channels=1)
    assert not torch.equal(turned.images(dataset.clone(), everything, 0), expected)


def test_paints_with_the_mean_colour() -> None:
    augmentation = augmentation_of(["erase=1,1,1"], seed=0, num_classes=2, mean=(0.1, 0.5, -1.0))
    assert augmentation is not None
    erased = augmentation.images(noise(1, 3, 4, 4), torch.tensor([0]), 0)
    assert {tuple(colour) for colour in erased[0].flatten(1).T.tolist()} >= {(26, 128, 0)}


def test_golden_values() -> None:
    """Whoever changes these makes every augmented run of the past unrepeatable, and must say so."""
    dataset = (torch.arange(6 * 3 * 8 * 7) % 251).to(torch.uint8).view(6, 3, 8, 7)
    changed = seen(made_of("flip", "crop=2", "shift=0.3", "cutout=3"), dataset, list(range(6)), 4)
    digest = hashlib.sha256(changed.numpy().tobytes()).hexdigest()
    assert digest == "b298b584238ebc2f4b6d786450bf66e6e030d0e8a3e2bf9445b31d6d88642a62"


def test_no_words_are_no_augmentation() -> None:
    assert augmentation_of([], seed=0, num_classes=2, mean=(0.5,)) is None
