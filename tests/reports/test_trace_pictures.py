"""Tensors as pictures: every number its colour, in its place."""

from __future__ import annotations

import numpy as np
import pytest

from sartor.reports.trace_pictures import Drawing, draw_output, draw_weight

RNG = np.random.default_rng(0)
WHITE = (255, 255, 255)
GAP = (231, 229, 224)


def at(drawing: Drawing, row: int, column: int) -> tuple[int, ...]:
    return tuple(drawing.pixels[:, row, column].tolist())


def test_zero_is_white_and_the_ends_are_blue_and_red() -> None:
    drawing = draw_output(np.array([-2.0, 0.0, 2.0, 1.0]))
    assert drawing.limit == 2
    blue, zero, red, half = (at(drawing, 0, place) for place in range(4))
    assert zero == WHITE
    assert blue[2] > blue[0]
    assert red[0] > red[2]
    assert half[0] > red[0]
    assert (blue, red) == ((5, 48, 97), (103, 0, 31))


def test_colours_are_in_the_order_of_the_numbers() -> None:
    values = np.linspace(-1, 1, 25)
    drawing = draw_output(values)
    warmth = drawing.pixels[0, 0].astype(int) - drawing.pixels[2, 0].astype(int)
    assert warmth[0] < -50
    assert warmth[-1] > 50
    assert (np.diff((warmth > 0).astype(int)) >= 0).all()


def test_maps_are_tiles_with_gaps() -> None:
    maps = RNG.standard_normal((6, 4, 5))
    drawing = draw_output(maps)
    assert drawing.what == "6 maps of 4x5"
    _, height, width = drawing.pixels.shape
    rows, columns = (height + 1) // 5, (width + 1) // 6
    assert rows * columns == 6
    shades = {
        tuple(drawing.pixels[:, 5 * row + y, 6 * column + x].tolist())
        for row in range(rows)
        for column in range(columns)
        for y in range(4)
        for x in range(5)
    }
    assert GAP not in shades
    assert at(drawing, 4, 0) == at(drawing, 0, 5) == GAP
    single = draw_output(maps[:1])
    scaled = draw_output(maps[:1] * 7)
    np.testing.assert_array_equal(single.pixels, scaled.pixels)


def test_a_long_vector_is_a_strip_in_rows() -> None:
    drawing = draw_output(np.arange(120.0))
    assert drawing.pixels.shape == (3, 3, 40)
    assert at(drawing, 2, 39) == (103, 0, 31)
    broken = draw_output(np.arange(1, 102.0))
    assert at(broken, 2, 33) == GAP


def test_large_maps_and_many_of_them_stay_small() -> None:
    drawing = draw_output(RNG.standard_normal((512, 100, 100)), most_pixels=5_000)
    assert drawing.pixels[0].size < 6_000
    assert "of 512 maps" in drawing.what
    assert "the mean of" in drawing.what


def test_a_large_matrix_shows_its_peaks() -> None:
    matrix = np.zeros((1000, 1000))
    matrix[500, 250] = -3
    drawing = draw_weight(matrix, (1, 28, 28), most_pixels=10_000)
    assert drawing.pixels.shape == (3, 100, 100)
    assert at(drawing, 50, 25) == (5, 48, 97)
    assert "the largest of 10x10" in drawing.what


def test_rows_that_look_at_an_image_are_images() -> None:
    weights = RNG.standard_normal((10, 784))
    assert draw_weight(weights, (1, 28, 28)).what == "10 rows of 28x28"
    assert "10 rows (outputs) of 784" in draw_weight(weights, (1, 27, 28)).what


@pytest.mark.parametrize(
    ("shape", "what", "size"),
    [
        ((6, 1, 5, 5), "6 filters of 5x5", (11, 17)),
        ((12, 6, 5, 5), "12 filters (columns) of 5x5 for 6 channels (rows)", (35, 71)),
        ((8, 4, 1, 1), "8 rows (outputs) of 4 (inputs)", (8, 4)),
        ((8, 4, 3), "8 rows (outputs) of 12 (inputs)", (8, 12)),
        ((7,), "7 numbers", (1, 7)),
        ((), "1 number", (1, 1)),
    ],
)
def test_weights(shape: tuple[int, ...], what: str, size: tuple[int, int]) -> None:
    drawing = draw_weight(RNG.standard_normal(shape), (1, 28, 28))
    assert drawing.what == what
    assert drawing.pixels.shape == (3, *size)


def test_kernels_stand_in_columns_of_filters() -> None:
    weights = np.zeros((3, 2, 2, 2))
    weights[2, 1, 0, 1] = 5
    drawing = draw_weight(weights, (1, 28, 28))
    assert at(drawing, 3, 7) == (103, 0, 31)
    some = draw_weight(RNG.standard_normal((64, 3, 7, 7)), (3, 64, 64), most_pixels=2_800)
    assert some.what.endswith("14 filters and 3 channels are shown")


def test_what_is_not_finite_is_seen() -> None:
    drawing = draw_output(np.array([1.0, np.nan, -np.inf, 0.5]))
    assert at(drawing, 0, 1) == at(drawing, 0, 2) == (255, 0, 255)
    assert drawing.limit == 1
    nothing = draw_output(np.zeros(3))
    assert (nothing.limit, at(nothing, 0, 0)) == (0, WHITE)


def test_small_pictures_are_enlarged_within_a_phones_width() -> None:
    for shape in ((10,), (1, 28, 28), (6, 24, 24), (120,), (3, 3), (64, 7, 7)):
        drawing = draw_output(RNG.standard_normal(shape))
        assert drawing.width <= 336
        assert drawing.width % drawing.pixels.shape[2] == 0
    assert draw_output(RNG.standard_normal((6, 24, 24))).width > 200
