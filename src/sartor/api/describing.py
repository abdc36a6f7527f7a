"""Look at a set: counts and figures, and drawings of its images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.dataset import Dataset
from ..data.description import describe as described
from ..data.feed.order import epoch_order
from ..data.preview import variants
from ..data.settings import SourceSettings
from ..data.sources import open_source
from ..errors import DataError
from ..recipe import Recipe
from .notes import Sink, noting

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def open_unprepared(
    source: str | Path, *, on_event: Sink | None = None, **settings: Any
) -> Dataset:
    """A set as `describe` looks at it: read with `settings`, not resized for a model."""
    recipe = Recipe().with_settings({**settings, "source": str(source)})
    return open_source(recipe.data, note=noting(on_event), on_event=on_event)


def describe(
    source: str | Path | Dataset = SourceSettings.source,
    *,
    on_event: Sink | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Counts, shape, classes, mean and standard deviation of a set, as `sartor data --json`.

    Args:
        source: a named set, a path, or a dataset.
        settings: how to read it, such as label_column="kind".
    """
    if not isinstance(source, Dataset):
        source = open_unprepared(source, on_event=on_event, **settings)
    return described(source)


def describe_image(dataset: Dataset, number: int) -> dict[str, Any]:
    """What is known about one image, counted from 0: its class, file, part and pixels.

    Raises:
        DataError: there is no such image.
    """
    if not 0 <= number < len(dataset):
        raise DataError(
            f"There is no image {number} in {dataset.name}.",
            f"They are counted from 0 to {len(dataset) - 1:,}.",
        )
    sample = dataset[number]
    given = {"test": dataset.test, "val": dataset.val}
    parts = [name for name, indices in given.items() if indices is not None and number in indices]
    return {
        "index": number,
        "class": sample.class_name,
        "file": None if dataset.files is None else dataset.files[number],
        "part": parts[0] if parts else None,
        "shape": list(sample.image.shape),
        "lowest": int(sample.image.min()),
        "highest": int(sample.image.max()),
        "mean": round(float(sample.image.mean()), 2),
        "std": round(float(sample.image.std()), 2),
    }


def samples_figure(dataset: Dataset, count: int = 32, *, seed: int = 0) -> Figure:
    """Random images with their classes; never of the test part that the source brings."""
    from ..reports.figures import sample_grid

    shown = dataset.not_for_testing()
    order = epoch_order(len(shown), seed, 0)[:count]
    return sample_grid(dataset, shown[order].tolist())


def image_figure(dataset: Dataset, number: int = 0, *, pixels: bool = False) -> Figure:
    """One image, counted from 0; with `pixels`, the value of every pixel on it."""
    from ..reports.figures import pixel_image, sample_grid

    return pixel_image(dataset, number) if pixels else sample_grid(dataset, [number])


def augmentation_figure(
    dataset: Dataset,
    augment: Sequence[str],
    number: int = 0,
    *,
    count: int = 32,
    seed: int = 0,
) -> Figure:
    """One image as it is, then as training with this augmentation sees it, epoch by epoch."""
    from ..reports.figures import sample_grid

    made = variants(dataset, augment, number, count=count - 1, seed=seed)
    images = np.stack([dataset.images[number], *(variant.image for variant in made)])
    shown = Dataset(images, np.zeros(len(images), np.int64), dataset.classes)
    captions = [f"image {number}: {dataset[number].class_name}"]
    for epoch, (_, shares) in enumerate(made, 1):
        mixed = [f"{name} {share:.0%}" for name, share in shares.items() if len(shares) > 1]
        captions.append("\n".join([f"epoch {epoch}", *mixed]))
    return sample_grid(shown, range(len(images)), captions=captions)
