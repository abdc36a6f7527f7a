"""The dataset: what it makes of arrays, and what it refuses."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from sartor import native_module
from sartor.data.dataset import Dataset
from sartor.errors import DataError

IMAGES = np.arange(4 * 2 * 3, dtype=np.uint8).reshape(4, 2, 3)
LABELS = np.array([0, 1, 1, 2])


class TestShapes:
    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            ((4, 2, 3), (4, 1, 2, 3)),
            ((4, 1, 5, 6), (4, 1, 5, 6)),
            ((4, 3, 5, 6), (4, 3, 5, 6)),
            ((4, 5, 6, 1), (4, 1, 5, 6)),
            ((4, 5, 6, 3), (4, 3, 5, 6)),
        ],
    )
    def test_channels_come_second(self, given: tuple[int, ...], kept: tuple[int, ...]) -> None:
        dataset = Dataset(np.zeros(given, np.uint8), LABELS)
        assert dataset.images.shape == kept
        assert dataset.shape == kept[1:]
        assert dataset.images.flags.c_contiguous

    def test_channels_last_are_moved_not_reshaped(self) -> None:
        images = np.arange(4 * 5 * 6 * 3, dtype=np.int64).astype(np.uint8).reshape(4, 5, 6, 3)
        dataset = Dataset(images, LABELS)
        assert dataset.images[1, 2, 3, 4] == images[1, 3, 4, 2]

    def test_lists_do(self) -> None:
        dataset = Dataset(IMAGES, [0, 1, 1, 2], ["a", "b", "c"])  # type: ignore[arg-type]
        assert dataset.labels.dtype == np.int64
        assert dataset.classes == ("a", "b", "c")

    def test_classes_are_numbered_without_names(self) -> None:
        assert Dataset(IMAGES, LABELS).classes == ("0", "1", "2")

    def test_classes_may_lack_samples(self) -> None:
        assert len(Dataset(IMAGES, LABELS, ("a", "b", "c", "d")).classes) == 4

    def test_is_frozen(self) -> None:
        with pytest.raises(FrozenInstanceError):
            Dataset(IMAGES, LABELS).name = "other"  # type: ignore[misc]


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("must be bytes", {"images": IMAGES.astype(np.float32)}),
    ("must be bytes", {"images": IMAGES.astype(np.int64)}),
    ("must have the shape", {"images": IMAGES[0]}),
    ("must have the shape", {"images": IMAGES[None, None]}),
    ("1 or 3 channels, not 4", {"images": np.zeros((4, 4, 5, 4), np.uint8)}),
    ("no pixels", {"images": np.zeros((0, 2, 3), np.uint8)}),
    ("no pixels", {"images": np.zeros((4, 1, 0, 3), np.uint8)}),
    ("4 images need as many labels", {"labels": LABELS[:3]}),
    ("4 images need as many labels", {"labels": LABELS[:, None]}),
    ("whole numbers", {"labels": LABELS.astype(np.float64)}),
    ("whole numbers", {"labels": LABELS.astype(bool)}),
    ("whole numbers", {"labels": np.array(["a", "b", "b", "c"])}),
    ("Label -1 is negative", {"labels": LABELS - 1}),
    ('"a" occurs twice', {"classes": ("a", "b", "a")}),
    ("Label 2 has no name", {"classes": ("a", "b")}),
    ("at least two classes", {"labels": np.zeros(4, np.int64)}),
    ("indices from 0 to 3", {"test": np.array([4])}),
    ("indices from 0 to 3", {"test": np.array([-1])}),
    ("indices from 0 to 3", {"test": np.array([0.0, 1.0])}),
    ("indices from 0 to 3", {"test": np.array([[0, 1]])}),
    ("indices from 0 to 3", {"test": np.array([True, False, True, False])}),
    ("names an image twice", {"test": np.array([1, 2, 1])}),
]


@pytest.mark.parametrize(("reason", "change"), REFUSED)
def test_refuses_with_the_reason(reason: str, change: dict[str, Any]) -> None:
    good: dict[str, Any] = {"images": IMAGES, "labels": LABELS}
    Dataset(**good)
    with pytest.raises(DataError, match=reason) as caught:
        Dataset(**(good | change))
    assert caught.value.hint


class TestSamples:
    def test_indexing(self) -> None:
        dataset = Dataset(IMAGES, LABELS, ("ankle", "boot", "coat"))
        image, label, class_name = dataset[3]
        np.testing.assert_array_equal(image, IMAGES[3:])
        assert (label, class_name) == (2, "coat")
        assert dataset[-1].label == 2
        assert len(dataset) == 4
        with pytest.raises(IndexError):
            dataset[4]

    def test_iterating_ends(self) -> None:
        samples = list(Dataset(IMAGES, LABELS))  # type: ignore[call-overload]
        assert [sample.label for sample in samples] == LABELS.tolist()


class TestRepr:
    def test_says_what_there_is(self) -> None:
        assert repr(Dataset(IMAGES, LABELS, ("a", "b", "c"), name="toys")) == (
            "<Dataset toys: 4 images of 1x2x3, 3 classes: a, b, c>"
        )

    def test_says_what_is_set_aside(self) -> None:
        assert ", 1 of them for testing, " in repr(Dataset(IMAGES, LABELS, test=np.array([3])))

    def test_shortens_many_classes(self) -> None:
        names = tuple(map(str, range(100)))
        assert repr(Dataset(IMAGES, LABELS, names)).endswith("100 classes: 0, 1, 2, ... 99>")


class TestFingerprint:
    def test_is_the_same_for_the_same(self) -> None:
        channels_last = Dataset(IMAGES[..., None], LABELS.astype(np.uint8))
        assert Dataset(IMAGES, LABELS).fingerprint == channels_last.fingerprint

    def test_changes_with_each_ingredient(self) -> None:
        pixel, label = IMAGES.copy(), LABELS.copy()
        pixel[3, 1, 2] ^= 1
        label[0] = 2
        variants = [
            Dataset(IMAGES, LABELS),
            Dataset(pixel, LABELS),
            Dataset(IMAGES.transpose(0, 2, 1), LABELS),
            Dataset(IMAGES.reshape(4, 3, 2), LABELS),
            Dataset(IMAGES, label),
            Dataset(IMAGES, LABELS, ("0", "1", "two")),
            Dataset(IMAGES, LABELS, ("0", "1", "2", "3")),
            Dataset(IMAGES, LABELS, test=np.array([3])),
            Dataset(IMAGES, LABELS, test=np.array([2])),
        ]
        assert len({dataset.fingerprint for dataset in variants}) == len(variants)

    def test_does_not_depend_on_the_name(self) -> None:
        named = Dataset(IMAGES, LABELS, name="other")
        assert named.fingerprint == Dataset(IMAGES, LABELS).fingerprint

    def test_is_the_same_from_a_thread(self) -> None:
        ahead = Dataset(IMAGES, LABELS)
        ahead.compute_fingerprint_ahead()
        coming = pickle.loads(pickle.dumps(ahead))
        assert ahead.fingerprint == coming.fingerprint == Dataset(IMAGES, LABELS).fingerprint

    @pytest.mark.parametrize("with_checksums", [True, False])
    @pytest.mark.parametrize("of", ["images", "labels"])
    def test_is_computed_again_where_the_arrays_were_changed(
        self, of: str, with_checksums: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not with_checksums:
            monkeypatch.setattr(native_module, "module", lambda: None)
        images, labels = IMAGES.copy(), LABELS.copy()
        dataset = Dataset(images, labels, ("a", "b", "c"))
        dataset.compute_fingerprint_ahead()
        before = dataset.fingerprint_now()
        assert dataset.fingerprint_now() == before
        changed = dataset.images[3, 0, 1] if of == "images" else dataset.labels[:1]
        changed ^= 1
        dataset.compute_fingerprint_ahead()
        after = dataset.fingerprint
        assert after == replace(dataset).fingerprint != before
        changed ^= 1
        assert dataset.fingerprint_now() == before


@pytest.mark.skipif(native_module.missing() is not None, reason="no engine native")
class TestChecksum:
    @pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 1000])
    def test_every_byte_counts_and_so_do_its_place_and_the_size(self, size: int) -> None:
        checksum = native_module.module().checksum  # type: ignore[union-attr]
        content = np.random.default_rng(0).integers(1, 256, size).astype(np.uint8)
        variants = [content, np.append(content, np.uint8(0)), content[::-1].copy()][
            : 2 + (size > 1)
        ]
        for place in range(size):
            variants.append(content.copy())
            variants[-1][place] ^= 128
        assert len({checksum(one) for one in variants}) == len(variants)
        assert checksum(content) == checksum(content.copy())


class TestTorch:
    def test_gives_floats_from_0_to_1(self) -> None:
        images = np.full((4, 2, 3), 255, np.uint8)
        images[0] = 51
        bridge = Dataset(images, LABELS).torch()
        image, label = bridge[0]
        assert (image.dtype, image.shape) == (torch.float32, (1, 2, 3))
        assert torch.equal(image, torch.full((1, 2, 3), 51 / 255))
        assert label == 0
        assert bridge[3][0].max() == 1

    def test_serves_a_data_loader(self) -> None:
        batches = list(DataLoader(Dataset(IMAGES, LABELS).torch(), batch_size=3))
        assert [len(images) for images, _ in batches] == [3, 1]
        assert torch.cat([labels for _, labels in batches]).tolist() == LABELS.tolist()
