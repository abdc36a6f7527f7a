"""What a user may say about the data and its preparation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from ..settings import OneOf, Range

DUPLICATES = ("auto", "together", "ignored")
SPLIT_METHODS = ("auto", "stable", "drawn")
RESIZE_WAYS = ("letterbox", "crop", "stretch")
RESAMPLINGS = ("bicubic", "bilinear", "box")
INK_WAYS = ("auto", "off", "mass", "box")
BACKGROUNDS = ("auto", "white", "black")
FORMATS = (
    *("auto", "folder", "split-folders", "manifest", "json", "parquet", "pixels", "npz", "npy"),
    *("idx", "webdataset"),
)
COLUMN_SETTINGS = ("image_column", "label_column", "group_column", "split_column")
UNFIT_SETTINGS: Mapping[str, tuple[str, ...]] = {
    "folder": (*COLUMN_SETTINGS, "split_words", "image_root"),
    "split-folders": (*COLUMN_SETTINGS, "split_words", "image_root"),
    "idx": (*COLUMN_SETTINGS, "split_words", "image_root"),
    "webdataset": (*COLUMN_SETTINGS, "split_words", "image_root"),
    "json": (*COLUMN_SETTINGS, "split_words", "image_root"),
    "pixels": ("image_root",),
    "npy": ("split_column", "split_words", "image_root"),
    "npz": ("split_column", "split_words", "image_root"),
}
"""Settings that mean nothing in a format."""


@dataclass(frozen=True, kw_only=True)
class SourceSettings:
    """Where the images come from, and how to read them."""

    source: str = "digits"
    """A path or a named set. A path is a folder of pictures, a list of them, .parquet, .npz, IDX
    files, .zip or .tar."""
    format: Annotated[str, OneOf("format", FORMATS)] = "auto"
    """How to read the source. auto: find out; folder: ROOT/CLASS/*; split-folders:
    ROOT/train/CLASS/*, also val and test; manifest: a list (CSV, TSV, JSONL, or lines of path and
    label); json: FiftyOne's labels.json, COCO; pixels: a table with the pixels in its cells;
    parquet, npz, npy, idx; webdataset: tar files with .cls. The content of an archive is read the
    same way."""
    image_column: str | None = None
    """Column with the pictures: paths, or bytes in parquet; by name, or by number from 1 in a list
    without a header; in .npz a key. By default it is found."""
    label_column: str | None = None
    """Column with the labels, or key in .npz. By default it is found."""
    group_column: str | None = None
    """Column that says what belongs together (patient, session, author), or key in .npz. By default
    "group", if there is one."""
    split_column: str | None = None
    """Column that says train, val or test. By default the one that holds these words."""
    split_words: tuple[str, ...] = ()
    """What other words in that column mean, each as WORD=PART, such as dev=val eval=test; a part is
    train, val or test."""
    image_root: str | None = None
    """Folder that relative paths in a list start from. By default the folder of the list."""
    max_unreadable: Annotated[float, Range(0, 1)] = 0.01
    """Share of the pictures, or of the rows of a list, that may be unreadable: these are named and
    left out, and the run lists them. More than that stops; 0 stops at the first."""


@dataclass(frozen=True, kw_only=True)
class DataSettings(SourceSettings):
    """Where the images come from and how they are divided."""

    exclude: str | None = None
    """File that lists pictures to leave out, as written by sartor check --quarantine. One per line:
    the file's name, or the image's number where there are no files. The run keeps a copy."""
    fixes: str | None = None
    """File with corrected labels, as written by sartor check --fixes. Columns: file, given,
    suggested (a class, or exclude), reason, confidence. The pictures and their labels stay as they
    are; without this file they count as given again. The run keeps a copy."""
    fixes_sha256: str = ""
    """SHA-256 of the run's copy of the fixes; filled in when a run is made, checked when it is
    resumed."""
    fingerprint: str = ""
    """SHA-256 of the dataset; filled in when a run is made, checked when it is resumed."""
    val_fraction: Annotated[float, Range(0, 0.9)] = 0.1
    """Share of training images held out for validation. Used where the source has no validation
    part; stratified, groups kept whole; 0 trains on all of them."""
    test_fraction: Annotated[float, Range(0, 0.9)] = 0.2
    """Share held out for testing. Used where the source has no test part."""
    split_method: Annotated[str, OneOf("way to split", SPLIT_METHODS)] = "auto"
    """How to choose the images that are held out. stable: each image by its own content, so that
    excluding, adding or relabelling others does not move it, and shares are near what is asked;
    drawn: exact shares, drawn among all images; auto: drawn for named sets, else stable."""
    duplicates: Annotated[str, OneOf("way with duplicates", DUPLICATES)] = "auto"
    """What to do with identical images when splitting. together: keep them on one side; ignored:
    treat them as different images; auto: together for picture files, ignored for named sets and
    arrays."""
    limit_per_class: Annotated[int | None, Range(1, 1_000_000_000)] = None
    """Train on at most this many images per class, for quick trials. Validation and test stay
    whole."""
    split_hash: str = ""
    """SHA-256 of the split; filled in when a run is made, checked when it is resumed."""

    def with_lists_at(self, excluded: Path, fixes: Path) -> DataSettings:
        """With the lists of what to exclude and to correct there, where it has these: a run has
        its own copies."""
        return replace(
            self,
            exclude=str(excluded) if self.exclude else None,
            fixes=str(fixes) if self.fixes else None,
        )


@dataclass(frozen=True, kw_only=True)
class ResolvedData(DataSettings):
    """Where the images of one particular dataset come from and how they are divided.

    Runs from before `duplicates` and `split_hash` existed lack them; their split.npz decides. Those
    from before `split_method` have "auto" beside a `split_hash`: theirs was drawn without the
    images that were left out.
    """

    fingerprint: str = field()


@dataclass(frozen=True, kw_only=True)
class PreprocessSettings:
    """How a picture becomes the model's input; the same in training and ever after."""

    image_size: Annotated[tuple[int, ...], Range(1, 4096)] = ()
    """Input height and width in pixels, or one for both. By default as in the data."""
    channels: Annotated[int | None, Range(1, 3)] = None
    """1 for gray, 3 for colour. By default as in the data."""
    resize: Annotated[str, OneOf("way to resize", RESIZE_WAYS)] = "letterbox"
    """How to fit pictures of other sizes. letterbox: keep everything and pad; crop: fill and cut
    the rest; stretch."""
    resampling: Annotated[str, OneOf("filter", RESAMPLINGS)] = "bicubic"
    """Filter of resizing, with antialiasing. By default bicubic, or that of pretrained weights."""
    background: Annotated[str, OneOf("background", BACKGROUNDS)] = "auto"
    """What lies behind transparent areas, and pads pictures that have some. auto: black where it
    hides less of the outlines than white does, or where opaque images lie on black; else white."""
    value_range: Annotated[tuple[float, ...], Range(-1e15, 1e15)] = ()
    """Numbers that become black and white in pictures with more than 8 bits; 8-bit ones stay as
    they are. By default 0 to 65535 for 16 bits; for wider numbers and floats the usual one of 0 to
    1, -1 to 1, 0 to 255 or 0 to 65535 that holds them, else what was measured."""
    ink: Annotated[str, OneOf("way to prepare ink", INK_WAYS)] = "auto"
    """How to prepare pictures of writing: what is ink is found, cut out, made light on dark, and
    drawn as broad as with a pen. mass: its longer side takes 20/28 of the picture, its centre of
    mass the middle, as in MNIST; box: it takes the whole height, as in digits; off; auto: as the
    named set was made, off for other data."""
    mean: Annotated[tuple[float, ...], Range(-1_000, 1_000)] = ()
    """Subtracted from each channel (pixels in 0..1). By default measured on the training split."""
    std: Annotated[tuple[float, ...], Range(0, open_low=True)] = ()
    """Divides each channel after that. By default measured on the training split."""


@dataclass(frozen=True, kw_only=True)
class ResolvedPreprocess(PreprocessSettings):
    """How a picture becomes the model's input, with size, channels and statistics known."""

    image_size: tuple[int, int] = field()
    channels: int = field()
    background: str = field()
    ink: str = field()
    mean: tuple[float, ...] = field()
    std: tuple[float, ...] = field()
