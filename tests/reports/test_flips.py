import numpy as np
import pytest

from sartor.data.dataset import Dataset
from sartor.errors import DataError
from sartor.reports.flips import grouped_grid


@pytest.fixture(params=[1, 3])
def dataset(request):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, size=(20, request.param, 6, 9), dtype=np.uint8)
    return Dataset(images, np.arange(20) % 2, ("cat", "dog"))


def shown(axes):
    pixels = np.asarray(axes.images[0].get_array())
    return pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)


def test_every_image_under_its_heading_with_its_caption(dataset):
    groups = {"gained": ([3, 11, 7], ["a", "b", "c"]), "lost": ([5], ["$x$\nd"])}
    figure = grouped_grid(dataset, groups, columns=2)
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "c", "$x$\nd"]
    for axes, index in zip(figure.axes, [3, 11, 7, 5], strict=True):
        np.testing.assert_array_equal(shown(axes), dataset.images[index])
    places = [axes.get_position() for axes in figure.axes]
    headings = {text.get_text(): text.get_position()[1] for text in figure.texts}
    assert list(headings) == ["gained", "lost"]
    # From top to bottom: heading, two rows, heading, one row.
    assert headings["gained"] > places[0].y1 > places[0].y0 > places[2].y1
    assert places[2].y0 > headings["lost"] > places[3].y1 > places[3].y0 > 0
    assert places[0].x1 < places[1].x0 < places[1].x1 < 1


def test_an_empty_group_is_its_heading(dataset):
    figure = grouped_grid(dataset, {"gained": ([], []), "lost": ([0], ["a"])})
    assert [text.get_text() for text in figure.texts] == ["gained", "lost"]
    assert len(figure.axes) == 1


@pytest.mark.parametrize("groups", [{}, {"gained": ([], [])}, {"gained": ([20], ["a"])}])
def test_what_cannot_be_drawn_is_refused(groups, dataset):
    with pytest.raises(DataError):
        grouped_grid(dataset, groups)
