"""From what a user names to a dataset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import UsageError, unknown
from .catalogue import NAMES, load_named
from .dataset import Dataset
from .decoding import Sink
from .exclude import read_exclusions, without
from .folder import list_folder
from .idx import holds_idx, load_idx_folder
from .listing import Listing
from .prepare import prepare
from .settings import DataSettings, PreprocessSettings

Note = Callable[[str], None]


def open_source(
    data: DataSettings,
    preprocess: PreprocessSettings | None = None,
    *,
    note: Note | None = None,
    on_event: Sink | None = None,
) -> Dataset:
    """The dataset that `data` describes; pictures are brought to the size that `preprocess` says.

    Raises:
        UsageError: no named set and nothing at that path; with the nearest name.
        DataError: it cannot be had, or cannot be read.
    """
    opened = find_source(data, note=note)
    entries = read_exclusions(Path(data.exclude)) if data.exclude else {}
    if isinstance(opened, Dataset):
        dataset = without(opened, entries)
    else:
        settings = preprocess or PreprocessSettings()
        dataset = prepare(opened, settings, entries=entries, root=data.source, on_event=on_event)
    if dataset.excluded and note:
        note(f"{len(dataset.excluded):,} left out, as {data.exclude} says")
    return dataset


def as_asked(
    dataset: Dataset,
    data: DataSettings,
    preprocess: PreprocessSettings,
    *,
    on_event: Sink | None = None,
) -> Dataset:
    """A dataset at hand, without what `data` excludes, and pictures as `preprocess` says.

    These are prepared again from their files, since resizing twice would give other pixels than a
    prediction, which resizes once.
    """
    entries = read_exclusions(Path(data.exclude)) if data.exclude else {}
    if dataset.origin is None:
        return without(dataset, entries)
    wanted = dataset.origin.filled_in(preprocess)
    if wanted == dataset.origin.settings and not entries:
        return dataset
    return dataset.origin.prepared_as(wanted, entries, on_event)


def find_source(data: DataSettings, *, note: Note | None = None) -> Dataset | Listing:
    """What `data` describes: arrays at once, or a listing of pictures that are not decoded yet.

    Raises:
        As `open_source`.
    """
    if data.source in NAMES:
        return load_named(data.source, note=note)
    path = Path(data.source)
    if path.is_dir():
        return load_idx_folder(path) if holds_idx(path) else list_folder(path)
    sentence = unknown("set", data.source, NAMES)
    raise UsageError(
        sentence[0].upper() + sentence[1:],
        "Or give the path of a folder with one folder of pictures for each class.",
    )
