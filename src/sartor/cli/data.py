"""`sartor data`: look at a set. Its flags, its call, its printing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import OmitArgPrefixes, Positional

from ..errors import UsageError
from . import tables
from .arguments import SourceFlags
from .output import check_count, note, print_json, progress_shown

if TYPE_CHECKING:
    from ..data.dataset import Dataset


@dataclass(frozen=True, kw_only=True)
class Data:
    """Look at a set: counts, shape, classes, mean and standard deviation; draw samples."""

    target: Positional[str] = "digits"
    """A path or a named set. A path is a folder of pictures, a list of them, .parquet, .npz, IDX
    files, .zip or .tar."""
    samples: int | None = None
    """Draw N random samples, 8 per row."""
    image: int | None = None
    """Draw image number N, counted from 0, and print what is known about it."""
    pixels: bool = False
    """Write the value of every pixel on that image."""
    augment: tuple[str, ...] = ()
    """Draw that image and what training with this augmentation makes of it in each epoch. For
    example: flip crop=4; sartor fit --help augment lists the words."""
    out: Path | None = None
    """File for the drawing (.png, .svg or .pdf); by default in the current folder."""
    seed: int = 0
    """Decides which samples are drawn."""
    json: bool = False
    """Print the result as one line of JSON."""
    data: OmitArgPrefixes[SourceFlags] = field(default_factory=SourceFlags)


def data(given: Data) -> int:
    """Look at a set."""
    from ..api.describing import describe, describe_image, open_unprepared

    check_count("--samples", given.samples)
    if given.augment and given.pixels:
        raise UsageError(
            "--pixels shows one image unchanged; --augment changes it.", "Leave one of them out."
        )
    settings = {name: value for name, value in vars(given.data).items() if name != "source"}
    with progress_shown(quiet=False) as progress:
        dataset = open_unprepared(given.target, on_event=progress, **settings)
    wants_picture = (
        given.samples or given.out or given.pixels or given.augment or given.image is not None
    )
    if wants_picture:
        path = _draw(given, dataset)
        note(f"Wrote {path}")
    asked = None if given.image is None else describe_image(dataset, given.image)
    if given.json:
        print_json(describe(dataset) | ({} if asked is None else {"image": asked}))
    elif asked is not None:
        tables.print_image(asked, dataset.name)
    else:
        tables.print_dataset(describe(dataset))
    return 0


def _draw(given: Data, dataset: Dataset) -> Path:
    from ..api.describing import augmentation_figure, image_figure, samples_figure
    from ..reports.figures import save_figure

    number, count = given.image or 0, given.samples or 32
    if given.augment:
        figure = augmentation_figure(dataset, given.augment, number, count=count, seed=given.seed)
        name = f"{dataset.name}-{number}-augmented.png"
    elif given.image is not None or given.pixels:
        figure = image_figure(dataset, number, pixels=given.pixels)
        name = f"{dataset.name}-{number}{'-pixels' if given.pixels else ''}.png"
    else:
        figure = samples_figure(dataset, count, seed=given.seed)
        name = f"{dataset.name}-samples.png"
    path = given.out or Path(name)
    save_figure(figure, path)
    return path
