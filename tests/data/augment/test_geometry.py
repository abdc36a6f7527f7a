"""Flips and crops against Pillow and NumPy, everything else against bilinear loops."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torch import Tensor

from sartor.data.augment import geometry
from sartor.data.augment.chance import LEVELS, Chance
from sartor.data.augment.vocabulary import (
    PADDINGS,
    Affine,
    Crop,
    Flip,
    Perspective,
    ResizedCrop,
    Rotate,
    Shift,
    VerticalFlip,
)

from .conftest import chance_of, noise, shapes

Matrix = npt.NDArray[np.float64]


class TestFlip:
    @given(shapes, st.floats(0, 1), st.booleans())
    @settings(deadline=None, max_examples=40)
    def test_is_pillows(
        self, shape: tuple[int, int, int, int], share: float, vertical: bool
    ) -> None:
        images, chance = noise(*shape), chance_of(shape[0])
        turned = ImageOps.flip if vertical else ImageOps.mirror
        if vertical:
            flipped = geometry.vertical_flip(VerticalFlip(chance=share), images.clone(), chance)
        else:
            flipped = geometry.flip(Flip(chance=share), images.clone(), chance)
        for image, after, unit in zip(images, flipped, chance.unit(0), strict=True):
            expected = image.numpy()
            if unit < share:
                expected = np.stack([turned(Image.fromarray(plane)) for plane in expected])
            np.testing.assert_array_equal(after, expected)

    def test_alternating_mirrors_each_in_every_second_epoch(self) -> None:
        images = noise(200, 1, 2, 3)
        words = chance_of(200).words
        mirrored = [
            (geometry.flip(Flip(chance="alternating"), images.clone(), Chance(words, epoch)))
            .ne(images)
            .flatten(1)
            .any(1)
            for epoch in range(3)
        ]
        assert torch.equal(mirrored[0], ~mirrored[1])
        assert torch.equal(mirrored[0], mirrored[2])
        assert 70 < mirrored[0].sum() < 130


class TestCrop:
    @given(shapes, st.integers(1, 12), st.sampled_from(PADDINGS))
    @settings(deadline=None, max_examples=60)
    @example((3, 3, 1, 1), 4, "reflect")
    @example((2, 1, 1, 7), 9, "reflect")
    def test_is_a_window_of_numpys_padding(
        self, shape: tuple[int, int, int, int], pixels: int, padding: str
    ) -> None:
        images, chance = noise(*shape), chance_of(shape[0])
        cropped = geometry.crop(Crop(pixels=pixels, padding=padding), images.clone(), chance)
        expected = windows(images, pixels, pixels, chance, padding)
        np.testing.assert_array_equal(cropped, expected)

    @given(shapes, st.floats(0.01, 1))
    @settings(deadline=None, max_examples=40)
    def test_shift_is_one_by_a_share_of_the_size(
        self, shape: tuple[int, int, int, int], share: float
    ) -> None:
        images, chance = noise(*shape), chance_of(shape[0])
        shifted = geometry.shift(Shift(share=share), images.clone(), chance)
        down, right = round(share * shape[2]), round(share * shape[3])
        np.testing.assert_array_equal(shifted, windows(images, down, right, chance, "zero"))

    def test_reaches_every_corner(self) -> None:
        image = torch.zeros(1, 1, 3, 3, dtype=torch.uint8)
        image[0, 0, 1, 1] = 255
        cropped = geometry.crop(Crop(pixels=1), image.expand(300, -1, -1, -1), chance_of(300))
        places = {tuple(place) for place in cropped.nonzero()[:, 2:].tolist()}
        assert places == {(y, x) for y in range(3) for x in range(3)}


def windows(
    images: Tensor, down: int, right: int, chance: Chance, padding: str
) -> npt.NDArray[np.uint8]:
    mode: dict[str, str] = {"zero": "constant", "reflect": "reflect", "edge": "edge"}
    found = []
    for index, image in enumerate(images.numpy()):
        room = ((0, 0), (down, down), (right, right))
        padded = np.pad(image, room, mode=mode[padding])  # type: ignore[call-overload]
        top = int(chance.whole(0, 2 * down + 1)[index])
        left = int(chance.whole(1, 2 * right + 1)[index])
        found.append(padded[:, top : top + image.shape[1], left : left + image.shape[2]])
    return np.stack(found)


def seen_through(image: Tensor, back: Matrix) -> npt.NDArray[np.float64]:
    """Bilinear interpolation in loops; `back` maps pixels to pixels, from the centre."""
    _, height, width = image.shape
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    seen = np.zeros(image.shape)
    for row in range(height):
        for column in range(width):
            x, y, depth = back @ (column - middle_x, row - middle_y, 1)
            if depth < 1e-6:
                continue
            x, y = x / depth + middle_x, y / depth + middle_y
            for j in (math.floor(y), math.floor(y) + 1):
                for i in (math.floor(x), math.floor(x) + 1):
                    if 0 <= j < height and 0 <= i < width:
                        weight = (1 - abs(y - j)) * (1 - abs(x - i))
                        seen[:, row, column] += weight * image[:, j, i].numpy()
    return seen


def assert_seen_through(images: Tensor, changed: Tensor, back: list[Matrix]) -> None:
    assert changed.dtype == torch.uint8
    assert changed.shape == images.shape
    for image, after, matrix in zip(images, changed, back, strict=True):
        # Half a level for rounding, and a little for single precision.
        np.testing.assert_allclose(after, seen_through(image, matrix), atol=0.52)


def angle_of(chance: Chance, draw: int, degrees: float) -> list[float]:
    steps = (chance.whole(draw, LEVELS).double() + 0.5) / LEVELS
    return [math.radians(-degrees + 2 * degrees * float(step)) for step in steps]


def turn(angle: float) -> Matrix:
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])


warps = settings(deadline=None, max_examples=12)


class TestWarps:
    @given(shapes, st.floats(0.5, 180))
    @warps
    def test_rotate(self, shape: tuple[int, int, int, int], degrees: float) -> None:
        images, chance = noise(*shape), chance_of(shape[0])
        turned = geometry.rotate(Rotate(degrees=degrees), images.clone(), chance)
        back = [np.linalg.inv(turn(angle)) for angle in angle_of(chance, 0, degrees)]
        assert_seen_through(images, turned, back)

    @given(shapes)
    @warps
    def test_affine(self, shape: tuple[int, int, int, int]) -> None:
        images, chance = noise(*shape), chance_of(shape[0])
        step = Affine(degrees=40, share=0.3, scale=0.4, shear=30)
        changed = geometry.affine(step, images.clone(), chance)
        back = []
        angles, shears = angle_of(chance, 0, 40), angle_of(chance, 1, 30)
        for k, (angle, shear) in enumerate(zip(angles, shears, strict=True)):
            size, down, right = (float(2 * chance.unit(draw)[k] - 1) for draw in (2, 3, 4))
            sheared = np.array([[1, math.tan(shear), 0], [0, 1, 0], [0, 0, 1]])
            sized = np.diag([1 + 0.4 * size, 1 + 0.4 * size, 1])
            moved = np.eye(3)
            moved[:2, 2] = 0.3 * right * shape[3], 0.3 * down * shape[2]
            back.append(np.linalg.inv(moved @ turn(angle) @ sized @ sheared))
        assert_seen_through(images, changed, back)

    @given(shapes)
    @warps
    def test_resized_crop(self, shape: tuple[int, int, int, int]) -> None:
        images, chance = noise(*shape), chance_of(shape[0])
        changed = geometry.resized_crop(ResizedCrop(smallest=0.2, ratio=2), images.clone(), chance)
        back = []
        for k in range(shape[0]):
            area = 0.2 + 0.8 * float(chance.unit(0)[k])
            exponent = -1 + 2 * (float(chance.whole(1, LEVELS)[k]) + 0.5) / LEVELS
            wide = min(1, math.sqrt(area * 2**exponent))
            high = min(1, math.sqrt(area / 2**exponent))
            matrix = np.diag([wide, high, 1])
            matrix[0, 2] = (2 * float(chance.unit(3)[k]) - 1) * (1 - wide) * shape[3] / 2
            matrix[1, 2] = (2 * float(chance.unit(2)[k]) - 1) * (1 - high) * shape[2] / 2
            back.append(matrix)
        assert_seen_through(images, changed, back)

    @given(shapes, st.floats(0.01, 0.6))
    @warps
    def test_perspective(self, shape: tuple[int, int, int, int], distortion: float) -> None:
        images, chance = noise(*shape), chance_of(shape[0])
        step = Perspective(distortion=distortion, chance=0.7)
        changed = geometry.perspective(step, images.clone(), chance)
        height, width = shape[2:]
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (width / 2, height / 2)
        back = []
        for k in range(shape[0]):
            inwards = np.array([float(chance.unit(1 + draw)[k]) for draw in range(8)])
            inwards = inwards.reshape(4, 2)[:, ::-1] * distortion
            moved = corners * (1 - inwards)
            there = homography(corners, moved) if chance.unit(0)[k] < 0.7 else np.eye(3)
            back.append(signed_inverse(there))
        assert_seen_through(images, changed, back)

    @pytest.mark.parametrize("quarter", [1, 2, 3])
    @pytest.mark.parametrize("size", [4, 5])
    def test_quarter_turns_are_exact(self, quarter: int, size: int) -> None:
        images = noise(2, 3, size, size)
        cosine = torch.full((2,), float([1, 0, -1, 0][quarter]))
        sine = torch.full((2,), float([0, 1, 0, -1][quarter]))
        grid = geometry.linear_grid(images, cosine, sine, -sine, cosine)
        turned = geometry.warped(images, grid)
        np.testing.assert_array_equal(turned, np.rot90(images, -quarter, (2, 3)))

    def test_rotate_agrees_with_pillow_away_from_the_edges(self) -> None:
        smooth = np.add.outer(np.arange(40) * 3, np.arange(40) * 2).astype(np.uint8)
        images = torch.from_numpy(smooth)[None, None].repeat(5, 1, 1, 1)
        chance = chance_of(5)
        turned = geometry.rotate(Rotate(degrees=30), images, chance)
        for after, angle in zip(turned, angle_of(chance, 0, 30), strict=True):
            theirs = Image.fromarray(smooth).rotate(-math.degrees(angle), Image.Resampling.BILINEAR)
            middle = np.s_[12:28, 12:28]
            difference = after[0].numpy()[middle].astype(int) - np.asarray(theirs)[middle]
            assert np.abs(difference).max() <= 1

    @pytest.mark.parametrize("shape", [(1, 1), (7, 4), (28, 28), (33, 65)])
    def test_what_changes_nothing_keeps_every_bit(self, shape: tuple[int, int]) -> None:
        images = noise(2, 3, *shape)
        one, zero = torch.ones(2), torch.zeros(2)
        grid = geometry.linear_grid(images, one, zero, zero, one)
        assert torch.equal(geometry.warped(images, grid), images)


def homography(source: Matrix, target: Matrix) -> Matrix:
    """The map of four points to four points, from its eight equations."""
    rows, values = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return np.append(np.linalg.solve(np.array(rows), np.array(values)), 1).reshape(3, 3)


def signed_inverse(matrix: Matrix) -> Matrix:
    """With positive depth at the centre, which the picture covers."""
    inverse = np.linalg.inv(matrix)
    return inverse / inverse[2, 2]


def test_only_the_chosen_are_changed() -> None:
    images = noise(5, 1, 2, 2)
    chosen = torch.tensor([True, False, False, True, False])
    invert: Callable[[Tensor], Tensor] = lambda some: 255 - some  # noqa: E731
    changed = geometry.changed(images.clone(), chosen, invert)
    assert torch.equal(changed[chosen], 255 - images[chosen])
    assert torch.equal(changed[~chosen], images[~chosen])
