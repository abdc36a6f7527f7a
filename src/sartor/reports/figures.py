"""Figures: every function returns a matplotlib `Figure` and leaves no global state behind."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ..arrays import UInt8Array
from ..data.dataset import Dataset
from ..errors import DataError, RunError, UsageError, unknown
from ..evaluation.metrics import Evaluation
from ..files import atomic_write
from .canvas import (
    BLUE,
    FAINT,
    GRAY,
    GREEN,
    INK,
    ORANGE,
    POINTS_PER_INCH,
    axes_at,
    frame,
    lettering,
    new_figure,
    open_axes,
    shortened,
    text_width,
    wrapped,
)
from .heat import heat_over

if TYPE_CHECKING:
    from .drawable import Embedding, RangeTest

FORMATS = ("png", "svg", "pdf")
"""What `save_figure` can write."""

# Black and white stand out equally from this level of gray (contrast 4.6 : 1, WCAG 2).
_MIDDLE_GRAY = 118
_LARGEST_PIXEL_IMAGE = 64
# A confusion matrix of more classes, or with smaller numbers, is read only by its colours.
_MOST_WITH_NUMBERS, _SMALLEST_NUMBERS = 40, 4.5


# ------------------------------------------------------------------------------------ images


def sample_grid(
    dataset: Dataset,
    indices: Sequence[int] | npt.NDArray[np.int64],
    *,
    columns: int = 8,
    captions: Sequence[str] | None = None,
) -> Figure:
    """Images in rows of `columns`, each under the name of its class, or under its caption.

    Every line of a title may go on over a second one, then ends in "…": no two titles touch.

    Raises:
        DataError: no images, an index outside the dataset, or not one caption per image.
        UsageError: less than one column.
    """
    _check_grid(dataset, indices, columns, captions)
    if captions is None:
        captions = [dataset[int(index)].class_name for index in indices]
    cell, gap, size = 1.4, 0.14, 8.5
    titles = [wrapped(caption, cell * POINTS_PER_INCH, size) for caption in captions]
    title_height = max(title.count("\n") + 1 for title in titles) * size / 55 + 0.05
    columns = min(columns, len(titles))
    rows = math.ceil(len(titles) / columns)
    _, height, width = dataset.shape
    picture = cell * min(max(height / width, 0.25), 3)
    row = title_height + picture + gap
    figure = new_figure(columns * (cell + gap) + gap, rows * row + gap)
    for place, (index, title) in enumerate(zip(indices, titles, strict=True)):
        left = gap + place % columns * (cell + gap)
        top = gap / 2 + place // columns * row + title_height
        axes = axes_at(figure, left, top, cell, picture)
        _show(axes, dataset[int(index)].image)
        axes.set_title(title, pad=3, linespacing=1.1, **lettering(size))
    return figure


def pixel_image(dataset: Dataset, index: int) -> Figure:
    """One image with every pixel's value, 0 to 255, written on it; a panel for each channel.

    Raises:
        DataError: no such image, or one of more than 64 pixels per side.
    """
    _check_indices(dataset, [index])
    image, _, class_name = dataset[index]
    channels, height, width = image.shape
    _check_pixels(height, width)
    pixel = min(max(12 / max(height, width), 0.28), 0.7)
    panel, gap, top = width * pixel, 0.15, 0.5 if channels == 1 else 0.8
    all_panels = channels * (panel + gap) - gap
    figure = new_figure(max(all_panels, 3) + 2 * gap, top + height * pixel + gap)
    margin = (figure.get_figwidth() - all_panels) / 2
    for channel, name in enumerate(("red", "green", "blue") if channels == 3 else ("",)):
        left = margin + channel * (panel + gap)
        axes = axes_at(figure, left, top, panel, height * pixel)
        _show(axes, image[channel : channel + 1])
        _write_values(axes, image[channel], size=min(0.4 * pixel * POINTS_PER_INCH, 16))
        axes.set_title(name, pad=4, fontsize=11, color=INK)
    _headline(figure, class_name, f", index {index}")
    return figure


def _check_grid(
    dataset: Dataset,
    indices: Sequence[int] | npt.NDArray[np.int64],
    columns: int,
    captions: Sequence[str] | None,
) -> None:
    if columns < 1:
        raise UsageError(f"A grid cannot have {columns} columns.", "Give at least one column.")
    if len(indices) == 0:
        raise DataError("There are no images to show.", "Choose at least one.")
    if captions is not None and len(captions) != len(indices):
        raise DataError(
            f"{len(captions)} captions were given for {len(indices)} images.",
            "Give one caption per image.",
        )
    _check_indices(dataset, indices)


def _check_indices(dataset: Dataset, indices: Iterable[int]) -> None:
    for index in indices:
        if not 0 <= index < len(dataset):
            raise DataError(
                f"There is no image {index}: the set holds {len(dataset):,}, numbered from 0.",
                f"Choose an index from 0 to {len(dataset) - 1}.",
            )


def _check_pixels(height: int, width: int) -> None:
    if max(height, width) > _LARGEST_PIXEL_IMAGE:
        raise DataError(
            f"{width}x{height} pixels are too many to write every value on the image.",
            f"Load the set with images of at most {_LARGEST_PIXEL_IMAGE} pixels per side.",
        )


def _show(axes: Axes, image: npt.NDArray[np.uint8]) -> None:
    """Draw an image (C, H, W) as its pixels are: neither smoothed nor stretched in contrast."""
    pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    frame(axes)


def _write_values(axes: Axes, pixels: npt.NDArray[np.uint8], size: float) -> None:
    for (y, x), value in np.ndenumerate(pixels):
        colour = "black" if value > _MIDDLE_GRAY else "white"
        axes.text(x, y, str(value), ha="center", va="center", fontsize=size, color=colour)


def _headline(figure: Figure, name: str, addition: str) -> None:
    width, height = figure.get_size_inches()
    room = 0.9 * width * POINTS_PER_INCH - text_width(addition, 13)
    title = shortened(name, room, 13) + addition
    figure.text(0.5, 1 - 0.26 / height, title, ha="center", va="center", **lettering(13))


# ------------------------------------------------------------------------------------ charts


def class_histogram(counts: Mapping[str, Sequence[int]], classes: Sequence[str]) -> Figure:
    """Images of each class: a panel for each part (train, val, test), each with its own scale.

    Raises:
        DataError: no part, or not one count for each class.
    """
    if not counts or not classes or any(len(part) != len(classes) for part in counts.values()):
        raise DataError(
            f"A histogram of {len(classes)} classes needs {len(classes)} counts in every part.",
            "Count the images of each class, including those that have none.",
        )
    bar = min(max(9 / len(classes), 0.14), 0.36)
    size = min(10, 0.75 * bar * POINTS_PER_INCH)
    names = [shortened(name, 150, size) for name in classes]
    margin = max(text_width(name, size) for name in names) / POINTS_PER_INCH
    width = margin + 2.9 * len(counts) + 0.4
    figure = new_figure(width, bar * len(classes) + 0.7, layout="constrained")
    panels = figure.subplots(1, len(counts), sharey=True, squeeze=False)[0]
    for axes, (part, values), colour in zip(
        panels, counts.items(), cycle((BLUE, ORANGE, GREEN)), strict=False
    ):
        _draw_bars(axes, values, colour, size)
        axes.set_title(f"{part}: {sum(values):,} images", fontsize=11, color=INK, loc="left")
    panels[0].set_yticks(range(len(classes)), labels=names, **lettering(size))
    panels[0].set_ylim(len(classes) - 0.5, -0.5)
    return figure


def learning_curves(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Loss and accuracy over the epochs, of the training and of the validation split.

    `history` holds the rows of `history.jsonl`; a value that is None or not finite is a gap.

    Raises:
        RunError: no epoch is complete.
    """
    if not history:
        raise RunError("There is no complete epoch to plot.", "Train for at least one epoch.")
    figure = new_figure(11, 4, layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    _draw_curves(loss, history, "loss", "{:.4g}".format)
    _draw_curves(accuracy, history, "accuracy", _percent)
    accuracy.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
    return figure


def range_test_figure(test: RangeTest) -> Figure:
    """Loss over rising learning rates, with the suggestion if there is one.

    Raises:
        RunError: the loss was not finite at the first step.
    """
    if not test.rates:
        raise RunError("No step had a finite loss.", "Check the model, or lower the highest rate.")
    figure = new_figure(7, 4, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(test.rates, test.losses, ".", color=FAINT, label="each batch")
    axes.plot(test.rates, test.smoothed, color=BLUE, label="running mean")
    if test.suggestion is not None:
        label = f"suggestion {test.suggestion:g}"
        axes.axvline(test.suggestion, color=ORANGE, linestyle="--", label=label)
    axes.set_xscale("log")
    # What blows up would flatten all the rest.
    axes.set_ylim(0, 1.5 * max(test.smoothed[0], *test.losses[:10]))
    axes.set_xlabel("learning rate", color=INK)
    axes.set_title("loss", fontsize=11, color=INK, loc="left")
    axes.grid(color=FAINT, linewidth=0.8)
    open_axes(axes, "left", "bottom")
    axes.legend(loc="lower left", fontsize=9, frameon=False, labelcolor=INK)
    return figure


def explanation_figure(
    images: Sequence[UInt8Array],
    heats: Sequence[npt.NDArray[np.float32]],
    captions: Sequence[tuple[str, str]],
) -> Figure:
    """A row for each image: the image (C, H, W), and its map (H, W) over a pale copy of it."""
    cell, gap, size = 2.4, 0.2, 9.0
    _, height, width = images[0].shape
    picture = cell * min(max(height / width, 0.25), 3)
    row = picture + 0.55
    figure = new_figure(2 * cell + 3 * gap, len(images) * row + gap)
    for number, (image, heat, texts) in enumerate(zip(images, heats, captions, strict=True)):
        for column, (shown, text) in enumerate(
            zip((image, heat_over(image, heat)), texts, strict=True)
        ):
            left, top = gap + column * (cell + gap), number * row + 0.45
            axes = axes_at(figure, left, top, cell, picture)
            _show(axes, shown)
            title = wrapped(text, cell * POINTS_PER_INCH, size)
            axes.set_title(title, pad=3, linespacing=1.1, **lettering(size))
    return figure


def embedding_figure(embedding: Embedding) -> Figure:
    """Every image as a dot in the colour of its class; the ten strongest outliers circled."""
    figure = new_figure(8.5, 6, layout="constrained")
    axes = figure.add_subplot()
    colours = colormaps["tab10" if len(embedding.classes) <= 10 else "tab20"]
    for label, name in enumerate(embedding.classes):
        points = embedding.points[embedding.labels == label]
        colour = colours(label % colours.N)
        axes.scatter(points[:, 0], points[:, 1], s=8, color=colour, alpha=0.6, linewidths=0)
        if len(points):
            middle = np.median(points, axis=0)
            axes.annotate(
                shortened(name, 90, 9),
                middle,
                ha="center",
                va="center",
                bbox={"boxstyle": "round", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
                **lettering(9),
            )
    outliers = embedding.outlier_rows(10)
    x, y = embedding.points[outliers].T
    axes.scatter(x, y, s=45, facecolors="none", edgecolors=INK, linewidths=0.9)
    for row in outliers:
        axes.annotate(
            str(embedding.indices[row]),
            embedding.points[row],
            xytext=(5, 4),
            textcoords="offset points",
            fontsize=7,
            color=INK,
        )
    frame(axes)
    axes.set_title(
        f"{embedding.split}: {len(embedding.points):,} images by {embedding.method}; "
        "circled: strongest outliers",
        fontsize=10,
        color=INK,
        loc="left",
    )
    return figure


def confusion_figure(evaluation: Evaluation) -> Figure:
    """The confusion matrix: counts, shaded by their share of the true class (row)."""
    counts = evaluation.confusion
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cell = min(max(6 / len(counts), 0.15), 0.9)
    size = min(10, 0.8 * cell * POINTS_PER_INCH)
    names = [shortened(entry.class_name, 140, size) for entry in evaluation.per_class]
    longest = max(text_width(name, size) for name in names) / POINTS_PER_INCH
    side = len(counts) * cell
    figure = new_figure(side + longest + 1.9, side + longest + 1.1, layout="constrained")
    axes = figure.add_subplot()
    # The square root lets a confusion of one in a hundred be seen beside a full diagonal.
    shades = PowerNorm(0.5, vmin=0, vmax=1)
    picture = axes.imshow(shares, cmap="Blues", norm=shades, interpolation="nearest")
    frame(axes)
    _name_axes(axes, names, size, cell * POINTS_PER_INCH)
    _write_counts(axes, counts, shares, cell * POINTS_PER_INCH)
    low, high = evaluation.accuracy_interval
    axes.set_title(
        f"{evaluation.split}: accuracy {_percent(evaluation.accuracy)}\n"
        f"95 % interval {_percent(low)} to {_percent(high)}",
        fontsize=11,
        color=INK,
    )
    _draw_scale(figure, axes, picture)
    return figure


def _draw_bars(axes: Axes, values: Sequence[int], colour: str, size: float) -> None:
    bars = axes.barh(range(len(values)), values, height=0.72, color=colour)
    axes.bar_label(
        bars, labels=[f"{value:,}" for value in values], padding=3, fontsize=size, color=INK
    )
    axes.set_xlim(0, 1.3 * max(*values, 1))
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    open_axes(axes, "left")


def _draw_curves(
    axes: Axes,
    history: Sequence[Mapping[str, Any]],
    quantity: str,
    written: Callable[[float], str],
) -> None:
    epochs = [row["epoch"] for row in history]
    for part, name, colour, marker in (
        ("train", "training", BLUE, "o-"),
        ("val", "validation", ORANGE, "s--"),
    ):
        values = [_finite(row.get(f"{part}_{quantity}")) for row in history]
        if not all(map(math.isnan, values)):
            last = next(value for value in reversed(values) if not math.isnan(value))
            label = f"{name}, last {written(last)}"
            size = 5 if len(epochs) <= 40 else 2
            axes.plot(epochs, values, marker, color=colour, label=label, markersize=size)
    axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch", color=INK)
    axes.set_title(quantity, fontsize=11, color=INK, loc="left")
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    open_axes(axes, "left", "bottom")
    if axes.lines:
        # Above the axes, where it can hide no point.
        axes.legend(
            loc="lower right",
            bbox_to_anchor=(1.02, 0.99),
            ncols=2,
            columnspacing=1.2,
            handlelength=1.8,
            fontsize=9,
            frameon=False,
            labelcolor=INK,
        )


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _finite(value: float | None) -> float:
    return value if value is not None and math.isfinite(value) else math.nan


def _name_axes(axes: Axes, names: Sequence[str], size: float, cell: float) -> None:
    """Write the names at both axes, at the lower one as level as cells of `cell` points allow."""
    level = all(text_width(name, size) < 0.9 * cell for name in names)
    rotation = 0 if level else 45 if len(names) <= 20 else 90
    ticks = range(len(names))
    axes.set_yticks(ticks, labels=names, **lettering(size))
    axes.set_xticks(ticks, labels=names, rotation=rotation, **lettering(size))
    if rotation == 45:
        for tick in axes.xaxis.get_major_ticks():
            tick.label1.set(ha="right", va="top", rotation_mode="anchor")
    axes.tick_params(length=0)
    axes.set_xlabel("predicted class", color=INK)
    axes.set_ylabel("true class", color=INK)


def _draw_scale(figure: Figure, axes: Axes, picture: AxesImage) -> None:
    scale = figure.colorbar(picture, ax=axes, shrink=0.7, aspect=30)
    scale.set_ticks([0, 0.01, 0.05, 0.2, 0.5, 1])
    scale.ax.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0, symbol=" %"))
    scale.ax.minorticks_off()
    scale.set_label("share of the true class", color=INK)
    scale.ax.tick_params(colors=INK)
    for side in scale.ax.spines.values():
        side.set_visible(False)


def _write_counts(
    axes: Axes, counts: npt.NDArray[np.int64], shares: npt.NDArray[np.float64], cell: float
) -> None:
    """Write every count into its cell of `cell` points, if that leaves them readable."""
    size = min(11, 1.4 * cell / len(str(counts.max())))
    if len(counts) > _MOST_WITH_NUMBERS or size < _SMALLEST_NUMBERS:
        return
    for (row, column), count in np.ndenumerate(counts):
        # White on the darker blues, where its contrast is the better one.
        colour = "white" if shares[row, column] > 0.4 else INK if count else GRAY
        axes.text(column, row, str(count), ha="center", va="center", fontsize=size, color=colour)


# ------------------------------------------------------------------------------------ files


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure, atomically, as what the suffix says: .png, .svg or .pdf.

    Raises:
        UsageError: another suffix.
        FileError: the file cannot be written.
    """
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise UsageError(
            f"Cannot draw {path.name}: {unknown('format', suffix, FORMATS)}.",
            "Use a file name ending in .png, .svg or .pdf.",
        )
    # Above 32,767 pixels per side, the renderer and many viewers give up.
    dots_per_inch = min(150, 32_000 / max(figure.get_size_inches()))
    with atomic_write(path) as stream:
        figure.savefig(stream, format=suffix, dpi=dots_per_inch)
