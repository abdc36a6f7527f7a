"""What a user may say about the data and its preparation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from ..settings import OneOf, Range

DUPLICATES = ("auto", "together", "ignored")
RESIZE_WAYS = ("letterbox", "crop", "stretch")
FORMATS = ("auto", "folder", "split-folders", "manifest", "parquet", "npz", "idx")
COLUMN_SETTINGS = ("image_column", "label_column", "group_column", "split_column")
UNFIT_SETTINGS: Mapping[str, tuple[str, ...]] = {
    "folder": (*COLUMN_SETTINGS, "image_root"),
    "split-folders": (*COLUMN_SETTINGS, "image_root"),
    "idx": (*COLUMN_SETTINGS, "image_root"),
    "npz": ("split_column", "image_root"),
}
"""Settings that mean nothing in a format."""


@dataclass(frozen=True, kw_only=True)
class SourceSettings:
    """Where the images come from, and how to read them."""

    source: str = "digits"
    """A named set ({sets}), or a path: a folder of pictures, a list of them, .parquet, .npz, IDX
    files, .zip or .tar."""
    format: Annotated[str, OneOf("format", FORMATS)] = "auto"
    """How the source is read: folder (ROOT/CLASS/*), split-folders (ROOT/train/CLASS/*, and val,
    test), manifest (a list: CSV, TSV, JSONL, or lines of path and label), parquet, npz or idx; auto
    detects it. Archives are read the same way."""
    image_column: str | None = None
    """Column of the pictures (their paths, or in parquet their bytes), by name, or by number from 1
    where a list has no header; in .npz a key. Default: by looking."""
    label_column: str | None = None
    """Column of the labels, or key in .npz; default: by looking."""
    group_column: str | None = None
    """Column of the group (patient, session, author), or key in .npz; default: "group", if there is
    one. A group stays on one side of the split."""
    split_column: str | None = None
    """Column that says train, val or test; default: "split", if there is one that says so."""
    image_root: str | None = None
    """Folder where the relative paths of a list begin; default: the folder of the list."""


@dataclass(frozen=True, kw_only=True)
class DataSettings(SourceSettings):
    """Where the images come from and how they are divided."""

    exclude: str | None = None
    """List of pictures to leave out, as `sartor check --quarantine` writes it: one file name per
    line, or the number of an image where there are no files. The run keeps a copy."""
    fingerprint: str = ""
    """SHA-256 of the dataset; filled in when a run is made, checked when it is resumed."""
    val_fraction: Annotated[float, Range(0, 0.9)] = 0.1
    """Share of images held out for validation, stratified and by whole groups, where the source has
    no validation part; 0 trains on all of them."""
    test_fraction: Annotated[float, Range(0, 0.9)] = 0.2
    """Share held out for testing where the source has no test part."""
    duplicates: Annotated[str, OneOf("way with duplicates", DUPLICATES)] = "auto"
    """Equal images: kept together on one side of the split, or ignored; auto: together where they
    come from picture files, ignored in named sets and arrays."""
    limit_per_class: Annotated[int | None, Range(1, 1_000_000_000)] = None
    """Train on at most N images per class, for quick trials; validation and test stay whole."""
    split_hash: str = ""
    """SHA-256 of the split; filled in when a run is made, checked when it is resumed."""

    def with_list_at(self, path: Path) -> DataSettings:
        """With the list of what to exclude there, if there is a list: a run has its own copy."""
        return replace(self, exclude=str(path)) if self.exclude else self


@dataclass(frozen=True, kw_only=True)
class ResolvedData(DataSettings):
    """Where the images of one particular dataset come from and how they are divided.

    Runs from before `duplicates` and `split_hash` existed lack them; their split.npz decides.
    """

    fingerprint: str = field()


@dataclass(frozen=True, kw_only=True)
class PreprocessSettings:
    """How a picture becomes the model's input; the same in training and ever after."""

    image_size: Annotated[tuple[int, ...], Range(1, 4096)] = ()
    """Height and width of the input in pixels, or one number for both; default: as in the data."""
    channels: Annotated[int | None, Range(1, 3)] = None
    """1 for gray, 3 for colour; default: as in the data."""
    resize: Annotated[str, OneOf("way to resize", RESIZE_WAYS)] = "letterbox"
    """Where sizes differ: letterbox (keep all, pad), crop (fill, cut the rest) or stretch."""
    mean: Annotated[tuple[float, ...], Range(-1_000, 1_000)] = ()
    """Subtracted from each channel (pixels in 0..1); default: measured on the training split."""
    std: Annotated[tuple[float, ...], Range(0, open_low=True)] = ()
    """Divides each channel after that; default: measured on the training split."""


@dataclass(frozen=True, kw_only=True)
class ResolvedPreprocess(PreprocessSettings):
    """How a picture becomes the model's input, with size, channels and statistics known."""

    image_size: tuple[int, int] = field()
    channels: int = field()
    mean: tuple[float, ...] = field()
    std: tuple[float, ...] = field()
