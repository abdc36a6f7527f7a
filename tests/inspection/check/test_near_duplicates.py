"""Almost equal pictures: neighbours against brute force, copies changed in every usual way."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageColor, ImageOps
from sklearn.datasets import load_sample_image

from sartor.arrays import UInt8Array
from sartor.data.dataset import Dataset
from sartor.data.pictures.preprocess import as_picture
from sartor.data.splits.split import Split
from sartor.inspection.check import neighbours
from sartor.inspection.check.near_duplicates import SIDE, almost_equal, descriptions
from sartor.inspection.check.neighbours import nearest
from sartor.inspection.check.subject import Subject

from .conftest import Found, subject_of

ORIGINALS = 300
CHANGED = 60
Change = Callable[[Image.Image], Image.Image]


def recompressed(picture: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=60)
    return Image.open(stream).convert(picture.mode)


def resized(picture: Image.Image) -> Image.Image:
    smaller = (round(picture.width * 0.7), round(picture.height * 0.7))
    return picture.resize(smaller, Image.Resampling.BICUBIC).resize(picture.size)


CHANGES: dict[str, Change] = {
    "recompressed": recompressed,
    "resized": resized,
    "brighter": lambda picture: picture.point(lambda value: value * 0.8 + 40),
    "darker": lambda picture: picture.point(lambda value: value * 0.6),
    "mirrored": ImageOps.mirror,
    "upside down": ImageOps.flip,
    "turned to the left": lambda picture: picture.transpose(Image.Transpose.ROTATE_90),
    "turned to the right": lambda picture: picture.transpose(Image.Transpose.ROTATE_270),
    "turned round": lambda picture: picture.transpose(Image.Transpose.ROTATE_180),
    "transposed": lambda picture: picture.transpose(Image.Transpose.TRANSPOSE),
    "turned and recompressed": lambda picture: recompressed(
        picture.transpose(Image.Transpose.TRANSVERSE)
    ),
    "mirrored and recompressed": lambda picture: recompressed(ImageOps.mirror(picture)),
}


@pytest.fixture(scope="module")
def photographs() -> UInt8Array:
    """Cuttings of two photographs that do not overlap much, each with something in it."""
    random, cuttings = np.random.default_rng(0), []
    photographs = [
        Image.fromarray(load_sample_image(f"{name}.jpg")) for name in ("china", "flower")
    ]
    while len(cuttings) < ORIGINALS:
        whole = photographs[len(cuttings) % 2]
        side = int(random.integers(60, 200))
        left = int(random.integers(0, whole.width - side))
        top = int(random.integers(0, whole.height - side))
        cutting = whole.crop((left, top, left + side, top + side)).resize((48, 48))
        if np.asarray(cutting).std() > 25:
            cuttings.append(np.asarray(cutting).transpose(2, 0, 1))
    return np.stack(cuttings)


def with_changed(images: UInt8Array, change: Change) -> UInt8Array:
    """The images, and behind them changed copies of the first `CHANGED`."""
    changed = [np.asarray(change(as_picture(image))) for image in images[:CHANGED]]
    copies = np.stack([one[None] if one.ndim == 2 else one.transpose(2, 0, 1) for one in changed])
    return np.concatenate([images, copies])


def pairs_of(images: UInt8Array) -> set[tuple[int, int]]:
    pairs = almost_equal(images)
    return set(zip(pairs.one.tolist(), pairs.other.tolist(), strict=True))


class TestNeighbours:
    def vectors(self, count: int) -> np.ndarray:
        vectors = np.random.default_rng(0).normal(size=(count, 12)).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    @pytest.mark.parametrize("count", [5, 100])
    def test_few_are_compared_in_full(self, count: int) -> None:
        vectors = self.vectors(count)
        similar = vectors @ vectors.T
        np.fill_diagonal(similar, -2)
        expected = -np.sort(-similar, axis=1)[:, :4]
        found = nearest(vectors, count, 4, seed=0)
        assert found.similarities == pytest.approx(expected, abs=1e-6)
        rows = np.arange(count)[:, None]
        assert similar[rows, found.rows] == pytest.approx(expected, abs=1e-6)

    def test_fewer_than_asked_for_are_none(self) -> None:
        found = nearest(self.vectors(3), 3, 5, seed=0)
        assert (found.rows[:, 2:] == -1).all()
        assert (found.similarities[:, 2:] == -2).all()

    def test_close_ones_are_found_among_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(neighbours, "LEAF", 64)
        vectors = self.vectors(3000)
        noise = 0.01 * np.random.default_rng(1).normal(size=(300, 12)).astype(np.float32)
        copies = vectors[:300] + noise
        copies /= np.linalg.norm(copies, axis=1, keepdims=True)
        found = nearest(np.concatenate([vectors, copies]), 3300, 5, seed=0)
        assert np.array_equal(found.rows[:300, 0], np.arange(3000, 3300))
        assert np.array_equal(found.rows[3000:, 0], np.arange(300))
        assert all(len(set(row)) == 5 for row in found.rows.tolist())

    def test_an_alias_is_no_neighbour(self) -> None:
        vectors = self.vectors(20)
        found = nearest(np.concatenate([vectors, vectors]), 20, 3, seed=0, alias=20)
        assert (found.rows % 20 != np.arange(20)[:, None]).all()


class TestDescriptions:
    def test_is_the_mean_over_blocks(self) -> None:
        images = np.random.default_rng(0).integers(0, 256, (3, 3, 64, 32), np.uint8)
        blocks = images.mean(axis=1).reshape(3, SIDE, 4, SIDE, 2).mean(axis=(2, 4)).reshape(3, -1)
        blocks -= blocks.mean(axis=1, keepdims=True)
        blocks /= np.linalg.norm(blocks, axis=1, keepdims=True)
        assert descriptions(images) == pytest.approx(blocks, abs=1e-4)

    def test_brightness_and_contrast_do_not_count(self) -> None:
        image = np.random.default_rng(0).integers(0, 100, (1, 1, 20, 20), np.uint8)
        expected = descriptions(image)
        assert descriptions(2 * image + 30) == pytest.approx(expected, abs=1e-4)

    def test_flat_pictures_are_like_nothing(self) -> None:
        assert not descriptions(np.full((2, 1, 20, 20), 90, np.uint8)).any()
        assert not pairs_of(np.full((2, 1, 20, 20), 90, np.uint8))


class TestPlanted:
    def test_photographs_of_different_things_are_not_alike(self, photographs: UInt8Array) -> None:
        # Cuttings of one photograph may be shifted copies; those are few.
        assert len(pairs_of(photographs)) <= 3

    @pytest.mark.parametrize("change", CHANGES)
    def test_changed_photographs_are_found(self, photographs: UInt8Array, change: str) -> None:
        found = pairs_of(with_changed(photographs, CHANGES[change]))
        hits = sum((index, ORIGINALS + index) in found for index in range(CHANGED))
        assert hits >= 0.95 * CHANGED

    @pytest.mark.parametrize(
        "change", ["recompressed", "brighter", "darker", "mirrored", "turned to the left"]
    )
    def test_changed_digits_are_found(self, digits: Dataset, change: str) -> None:
        found = pairs_of(with_changed(digits.images[:ORIGINALS], CHANGES[change]))
        hits = sum((index, ORIGINALS + index) in found for index in range(CHANGED))
        # At 8 x 8 pixels, compression leaves less.
        assert hits >= (0.5 if change == "recompressed" else 0.95) * CHANGED

    def test_one_shape_in_two_colours_is_two_things(self, photographs: UInt8Array) -> None:
        shape = np.zeros((3, 32, 32), np.uint8)
        red, blue, dark_red = shape.copy(), shape.copy(), shape.copy()
        red[0, 8:20, 6:28], blue[2, 8:20, 6:28], dark_red[0, 8:20, 6:28] = 220, 220, 150
        photograph = photographs[:6, :, :32, :32]
        pairs = pairs_of(np.concatenate([photograph, [red, blue, dark_red]]))
        assert pairs == {(6, 8)}

    def test_squares_of_neighbouring_colours_are_not_alike(self, photographs: UInt8Array) -> None:
        squares = np.full((8, 3, 32, 32), 255, np.uint8)
        for square, colour in zip(
            squares,
            [
                "#dd2e44",
                "#f4900c",
                "#fdcb58",
                "#78b159",
                "#55acee",
                "#aa8ed6",
                "#c1694f",
                "#31373d",
            ],
            strict=True,
        ):
            square[:, 4:28, 4:28] = np.array(ImageColor.getrgb(colour))[:, None, None]
        assert not pairs_of(np.concatenate([photographs[:6, :, :32, :32], squares]))

    def test_wide_pictures_are_mirrored_but_not_turned_by_90_degrees(
        self, photographs: UInt8Array
    ) -> None:
        wide = photographs[:100, :, :24]
        copies = np.stack([wide[3, :, ::-1], wide[5, :, ::-1, ::-1]])
        pairs = almost_equal(np.concatenate([wide, copies]))
        assert {(3, 100), (5, 101)} <= set(
            zip(pairs.one.tolist(), pairs.other.tolist(), strict=True)
        )

    def test_one_changed_place_makes_a_pair_unsure(self, photographs: UInt8Array) -> None:
        copy, other = photographs[4].copy(), photographs[9].copy()
        changed = other[:, 20:26, 20:26]
        changed[:] = 255 - changed
        pairs = almost_equal(np.concatenate([photographs[:100], [copy, other]]))
        sure = dict(
            zip(zip(pairs.one.tolist(), pairs.other.tolist(), strict=True), pairs.sure, strict=True)
        )
        assert sure[4, 100]
        assert not sure.get((9, 101), False)

    def test_digits_that_look_alike_are_not_the_same(self, found: Found, digits: Dataset) -> None:
        assert not found(subject_of(digits), "near-duplicates")

    def test_what_is_said_of_a_mirrored_copy(self, found: Found, photographs: UInt8Array) -> None:
        images = np.concatenate([photographs[:100], photographs[7:8, :, :, ::-1]])
        labels = np.arange(101) % 2
        split = Split(np.arange(80), np.arange(80, 90), np.arange(90, 101))
        dataset = Dataset(images, labels)
        findings = found(Subject(dataset=dataset, split=split), "near-duplicates")
        leak = findings["almost equal in train and test"]
        assert [item.index for item in leak.items] == [7, 100]
        assert all(item.about.endswith(", mirrored") for item in leak.items)
        assert "almost equal, labels differ" in findings

    @pytest.mark.parametrize("sure", [True, False])
    def test_a_leak_is_an_error_only_where_it_is_sure(
        self, found: Found, photographs: UInt8Array, sure: bool
    ) -> None:
        copy = np.clip(photographs[7] + 3.0, 0, 255).astype(np.uint8)
        if not sure:
            copy[:, 8:14, 8:14] = copy[:, 8:14, 8:14].mean()
            copy[:, 10:12, 10:12] = 255 if copy[:, 8:14, 8:14].mean() < 128 else 0
        images = np.concatenate([photographs[:100], [copy]])
        split = Split(np.arange(80), np.arange(80, 90), np.arange(90, 101))
        dataset = Dataset(images, np.zeros(101, np.int64), ("one", "other"))
        leak = found(Subject(dataset=dataset, split=split), "near-duplicates")[
            "almost equal in train and test"
        ]
        assert leak.severity == ("error" if sure else "warning")
        assert leak.figures["sure"] == int(sure)
        assert ("not sure" in leak.items[0].about) is not sure

    def test_a_turned_copy_with_another_label_is_no_error(
        self, found: Found, photographs: UInt8Array
    ) -> None:
        images = np.concatenate([photographs[:100], np.rot90(photographs[7:8], axes=(2, 3))])
        labels = np.zeros(101, np.int64)
        labels[100] = 1
        split = Split(np.arange(101), np.arange(0), np.arange(0))
        findings = found(Subject(dataset=Dataset(images, labels), split=split), "near-duplicates")
        differing = findings["almost equal, labels differ"]
        assert differing.severity == "warning"
        assert "direction" in differing.summary
        assert differing.items[1].about.endswith(", turned by 90 degrees")

    def test_equal_pictures_are_left_to_the_other_check(
        self, found: Found, digits: Dataset
    ) -> None:
        images = np.concatenate([digits.images[:200], digits.images[:5]])
        labels = np.concatenate([digits.labels[:200], digits.labels[:5]])
        assert not found(subject_of(Dataset(images, labels)), "near-duplicates")
