"""Images in groups, each group under a heading: what one model gets right and another does not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from ..data.dataset import Dataset
from ..errors import DataError
from .canvas import POINTS_PER_INCH, axes_at, frame, lettering, new_figure, shortened, wrapped

Group = tuple[Sequence[int], Sequence[str]]
"""Indices of images, and a caption for each."""

_CELL, _GAP, _HEADING = 1.4, 0.14, 0.42
_CAPTION_SIZE, _HEADING_SIZE = 8.5, 11


def grouped_grid(dataset: Dataset, groups: Mapping[str, Group], *, columns: int = 8) -> Figure:
    """Each group's images in rows of `columns` under its heading; an empty group is its heading.

    Raises:
        DataError: no image in any group, or one that the dataset does not have.
    """
    everything = [index for indices, _ in groups.values() for index in indices]
    if not everything:
        raise DataError("There are no images to show.", "Choose at least one.")
    if not 0 <= min(everything) <= max(everything) < len(dataset):
        raise DataError(
            f"The images {min(everything)} to {max(everything)} are not all in a set of "
            f"{len(dataset):,}.",
            "Give the data that the images are from.",
        )
    _, height, width = dataset.shape
    picture = _CELL * min(max(height / width, 0.25), 3)
    titles = {
        heading: [wrapped(caption, _CELL * POINTS_PER_INCH, _CAPTION_SIZE) for caption in captions]
        for heading, (_, captions) in groups.items()
    }
    lines = max(title.count("\n") + 1 for group in titles.values() for title in group)
    above = lines * _CAPTION_SIZE / 55 + 0.05
    row = above + picture + _GAP
    rows = {heading: math.ceil(len(indices) / columns) for heading, (indices, _) in groups.items()}
    figure = new_figure(
        columns * (_CELL + _GAP) + _GAP, sum(_HEADING + count * row for count in rows.values())
    )
    top = 0.0
    for heading, (indices, _) in groups.items():
        _write_heading(figure, heading, top + _HEADING / 2)
        top += _HEADING
        for place, (index, title) in enumerate(zip(indices, titles[heading], strict=True)):
            left = _GAP + place % columns * (_CELL + _GAP)
            axes = axes_at(figure, left, top + place // columns * row + above, _CELL, picture)
            pixels = dataset.images[index].transpose(1, 2, 0)
            axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            frame(axes)
            axes.set_title(title, pad=3, linespacing=1.1, **lettering(_CAPTION_SIZE))
        top += rows[heading] * row
    return figure


def _write_heading(figure: Figure, heading: str, middle: float) -> None:
    width, height = figure.get_size_inches()
    text = shortened(heading, 0.95 * width * POINTS_PER_INCH, _HEADING_SIZE)
    figure.text(
        _GAP / width, 1 - middle / height, text, ha="left", va="center", **lettering(_HEADING_SIZE)
    )
