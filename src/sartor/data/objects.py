"""Data as other libraries hold them: arrays with labels, torch and Hugging Face datasets, tables.

All become a dataset by what they are, not by where they come from: arrays of one size at once,
pictures of any size and files named by paths as those of a folder do.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..arrays import AnyArray
from ..errors import DataError, PictureError, UsageError, unknown
from .dataset import Dataset
from .given import as_array, bytes_of, is_array, one_per_image, whole_number
from .pictures.decoding import Sink
from .pictures.prepare import prepare
from .readers.columns import Choice, Table, choose_columns, known_columns
from .readers.one_hot import with_one_label
from .readers.pixel_tables import FEWEST_PIXELS, SURELY_A_PIXEL
from .readers.rows import Described, list_rows, listing_of, read_rows
from .readers.tree import FolderTree
from .settings import DataSettings, PreprocessSettings, SourceSettings

_PARTS = {"train": "train", "val": "val", "validation": "val", "valid": "val", "test": "test"}
"""What parts of a dictionary of datasets are called."""
_ACCEPTED = (
    "Give a path, a named set, a sartor.Dataset, (images, labels), a torch or Hugging Face "
    "dataset, or a DataFrame."
)


def dataset_of(
    data: Any,
    settings: DataSettings | None = None,
    preprocess: PreprocessSettings | None = None,
    *,
    on_event: Sink | None = None,
) -> Dataset:
    """The dataset that an object of another library holds.

    Args:
        data: (images, labels), or two of these for training and testing, as Keras gives them; a
            torch dataset of length and of (picture, label); a Hugging Face
            dataset, or a mapping of parts to such; a pandas DataFrame with a column of paths,
            arrays or pictures. Pixels are bytes, or floats in 0..1; labels numbers or names.
        settings: the names of columns, where these are not the usual ones.
        preprocess: size and channels of pictures that are not arrays of one size.

    Raises:
        UsageError: nothing of the kind. DataError: it holds no labelled images.
    """
    settings = settings or DataSettings()
    if _is_train_and_test(data):
        data = dict(zip(("train", "test"), data, strict=True))
    table = _parted(data, settings) if _is_parted(data) else _table(data, settings)
    if table.splits is None and (dataset := _of_arrays(table)) is not None:
        return dataset
    return _of_pictures(table, settings, preprocess or PreprocessSettings(), on_event)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Columns:
    """Pictures and what is known of each."""

    name: str
    pictures: Sequence[Any]
    """Arrays, tensors, pictures of Pillow, encoded bytes or paths."""
    labels: Sequence[Any]
    classes: tuple[str, ...] = ()
    """Names of the numbers in `labels`."""
    splits: Sequence[str] | None = None
    others: Mapping[str, Sequence[Any]] | None = None
    """Further columns, by name, in which a group or a split may stand."""


class _InMemory:
    """Pictures of a program, encoded without loss when they are asked for."""

    def __init__(self, pictures: Sequence[Any]) -> None:
        self._pictures = pictures
        self.names = tuple(f"picture {index}" for index in range(len(pictures)))

    def read(self, index: int) -> bytes:
        """See `PictureStore`, as the rest."""
        picture = self._pictures[index]
        if isinstance(picture, Mapping):
            picture = picture.get("bytes") or picture.get("path")
        if isinstance(picture, bytes | bytearray):
            return bytes(picture)
        try:
            if isinstance(picture, str | Path):
                return Path(picture).read_bytes()
            stream = io.BytesIO()
            _as_picture(picture).save(stream, "PNG")
        except (OSError, ValueError, TypeError, DataError) as error:
            raise PictureError(
                f"{self.names[index]} is no picture: {error}.",
                "Give pictures of Pillow, arrays (H, W) or (H, W, 3), encoded bytes, or paths.",
            ) from error
        return stream.getvalue()

    def stamp(self, index: int) -> str:
        return hashlib.sha256(self.read(index)).hexdigest()


def _table(data: Any, settings: SourceSettings) -> _Columns:
    """An object's pictures and labels."""
    if isinstance(data, tuple | list) and len(data) == 2 and not _is_pair(data[0]):
        images, labels = data
        return _Columns(name="arrays", pictures=images, labels=one_per_image(labels))
    if hasattr(data, "columns") and hasattr(data, "iloc"):
        return _data_frame(data)
    if hasattr(data, "column_names") and hasattr(data, "features"):
        return _hugging_face(data, settings)
    if hasattr(data, "__getitem__") and not isinstance(data, str | bytes | Mapping | np.ndarray):
        if not hasattr(data, "__len__"):
            raise UsageError("The dataset has no length, so it cannot be divided.", _ACCEPTED)
        return _torch(data)
    raise UsageError(f"No dataset can be made of {type(data).__name__}.", _ACCEPTED)


def _is_pair(item: Any) -> bool:
    return isinstance(item, tuple) and len(item) == 2


def _is_train_and_test(data: Any) -> bool:
    """Whether it is ((images, labels), (images, labels))."""
    return (
        isinstance(data, tuple | list)
        and len(data) == 2
        and all(_is_pair(part) and is_array(part[0]) and part[0].ndim > 2 for part in data)
        and all(len(images) == len(labels) for images, labels in data)
    )


def _torch(data: Any) -> _Columns:
    """A dataset of pairs: each is asked for once."""
    pictures, labels = [], []
    for index in range(len(data)):
        item = data[index]
        if not isinstance(item, tuple | list) or len(item) < 2:
            raise DataError(
                f"Item {index} of {type(data).__name__} is no pair of picture and label.",
                "Let the dataset give (picture, label).",
            )
        pictures.append(item[0])
        labels.append(item[1])
    classes = getattr(data, "classes", ())
    names = tuple(map(str, classes)) if isinstance(classes, list | tuple) else ()
    return _Columns(name=_named(data), pictures=pictures, labels=labels, classes=names)


def _hugging_face(data: Any, settings: SourceSettings) -> _Columns:
    features, columns = data.features, list(data.column_names)

    def column(setting: str, kind: str, what: str, taken: str = "") -> str:
        given = getattr(settings, setting)
        if given is not None and given not in columns:
            raise UsageError(
                unknown("column", given, columns).capitalize() + ".", "Name one of the dataset."
            )
        of_kind = [name for name in columns if type(features[name]).__name__ == kind]
        known = [columns[at] for at in known_columns(columns, setting)]
        others = [name for name in columns if name != taken]
        found = next(
            (one for one in ([given] * bool(given), of_kind, known, others) if len(one) == 1), None
        )
        if found is None:
            raise UsageError(
                f"It is not clear which column has the {what}: {', '.join(columns)}.",
                f"Name it: {setting}=...",
            )
        return str(found[0])

    image = column("image_column", "Image", "pictures")
    label = column("label_column", "ClassLabel", "labels", image)
    return _Columns(
        name="hugging-face",
        pictures=_Lazy(data, image),
        labels=list(data[label]),
        classes=tuple(getattr(features[label], "names", ()) or ()),
    )


class _Lazy(Sequence[Any]):
    """A column whose cells are decoded when they are asked for."""

    def __init__(self, data: Any, column: str) -> None:
        self._data, self._column = data, column

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: Any) -> Any:
        return self._data[int(index)][self._column]


def _data_frame(data: Any) -> _Columns:
    """A table; which column says what is found by name, as in a list."""
    columns = {str(name): list(data[name]) for name in data.columns}
    return _Columns(name="table", pictures=(), labels=(), others=columns)


def _is_parted(data: Any) -> bool:
    return isinstance(data, Mapping) and bool(data) and all(str(key) in _PARTS for key in data)


def _parted(data: Mapping[str, Any], settings: SourceSettings) -> _Columns:
    """A dictionary of parts, such as {"train": ..., "test": ...}."""
    tables = {part: _table(one, settings) for part, one in data.items()}
    names = {table.classes for table in tables.values()}
    if len(names) > 1:
        raise DataError("The parts have different classes.", "Give each the same names.")
    return _Columns(
        name=next(iter(tables.values())).name,
        pictures=[picture for table in tables.values() for picture in _in_bytes(table.pictures)],
        labels=[label for table in tables.values() for label in table.labels],
        classes=names.pop(),
        splits=[_PARTS[str(part)] for part, table in tables.items() for _ in table.labels],
    )


def _in_bytes(pictures: Sequence[Any]) -> Sequence[Any]:
    """Pictures of one array in bytes: of a dark one by itself nobody knows the range."""
    if not is_array(pictures) or as_array(pictures).ndim < 3:
        return pictures
    array = as_array(pictures)
    _refuse_channels(array)
    return list(bytes_of(array))


def _of_arrays(table: _Columns) -> Dataset | None:
    """The dataset of arrays of one size; None where the pictures are something else."""
    pictures = table.pictures
    if not (is_array(pictures) or (len(pictures) and all(map(is_array, pictures)))):
        return None
    if not is_array(pictures) and len({tuple(one.shape) for one in pictures}) > 1:
        return None
    array = as_array(pictures)
    _refuse_channels(array)
    if array.ndim == 2:
        side = round(array.shape[1] ** 0.5)
        shape = f"{side}, {side}" if side**2 == array.shape[1] else "H, W"
        raise DataError(
            f"The images are rows of {array.shape[1]:,} numbers; their height and width are lost.",
            f"Give them as images: images.reshape(-1, {shape})",
        )
    labels, classes = _numbers(table.labels, table.classes)
    return Dataset(bytes_of(array), labels, classes, name=table.name)


def _refuse_channels(array: AnyArray) -> None:
    """Refuse images of 2 or 4 channels with their own number of channels, wherever that stands."""
    if array.ndim != 4 or {1, 3} & {array.shape[1], array.shape[3]}:
        return
    channels = min(array.shape[1], array.shape[3])
    way = "images[:, :3]" if array.shape[1] == channels else "images[..., :3]"
    if channels == 4:
        hint = f"Where the fourth only says what is transparent, leave it out: {way}"
    else:
        hint = "Convert them to grayscale or RGB first."
    raise DataError(
        f"Images must have 1 or 3 channels, not {channels:,} (shape {array.shape}).", hint
    )


def _numbers(labels: Sequence[Any], classes: tuple[str, ...]) -> tuple[Any, tuple[str, ...]]:
    """Labels as numbers, and the names of the classes."""
    column = one_per_image(labels)
    if classes or not any(isinstance(label, str) for label in column):
        return [whole_number(label) for label in column], classes
    names, numbers = np.unique([str(label) for label in column], return_inverse=True)
    return numbers.reshape(-1), tuple(map(str, names))


def _of_pictures(
    table: _Columns, settings: DataSettings, preprocess: PreprocessSettings, on_event: Sink | None
) -> Dataset:
    """The dataset of pictures of any size, or of files."""
    cells, image, pictures = _cells(table, settings.image_column)
    rows = Table(
        source=f"the {table.name}",
        written="objects of a program",
        header=tuple(cells),
        rows=[tuple(row) for row in zip(*cells.values(), strict=True)],
        lines=range(1, len(next(iter(cells.values()), ())) + 1),
    )
    if not rows.rows:
        raise DataError("The data hold no image.", _ACCEPTED)
    tree = FolderTree(Path(settings.image_root or ".").absolute())
    if table.others is not None:
        _refuse_pixels(table.others)
        rows = with_one_label(rows, settings)
    # The columns of pairs have names of our own.
    reading = settings if table.others is not None else SourceSettings()
    reading = reading if image is None else replace(reading, image_column=image)
    chosen = choose_columns(rows, reading, tree.holds)
    read, remarks = read_rows(rows, chosen)
    described = Described(
        name=table.name,
        source=rows.source,
        shape=_shape(rows, chosen),
        remarks=tuple(remarks),
        class_names=table.classes,
    )
    if image is None:
        listing = list_rows(read, tree, described)
    else:
        listing = listing_of(read, _InMemory(pictures), described)
    return prepare(listing, preprocess, on_event=on_event)


def _refuse_pixels(columns: Mapping[str, Sequence[Any]]) -> None:
    """Refuse a table with a column for each pixel."""
    pixels = [name for name in columns if SURELY_A_PIXEL.fullmatch(name)]
    if len(pixels) >= FEWEST_PIXELS:
        raise DataError(
            f"The table has a column for each of {len(pixels):,} pixels.",
            "Give (images, labels) instead, with images = "
            f"df.filter(like={pixels[0].rstrip('0123456789')!r}).to_numpy().reshape(-1, H, W)",
        )


def _shape(table: Table, choice: Choice) -> str:
    label = "no label" if choice.label is None else f"label in {table.column_name(choice.label)}"
    return f"{table.written}: picture in {table.column_name(choice.image)}, {label}"


def _cells(
    table: _Columns, named: str | None
) -> tuple[dict[str, list[str]], str | None, Sequence[Any]]:
    """The columns as text; the one of pictures, where its cells are none of text; its pictures."""
    columns: Mapping[str, Sequence[Any]] = table.others or {}
    if table.others is None:
        columns = {"image": table.pictures, "label": one_per_image(table.labels)}
        if table.splits is not None:
            columns = {**columns, "split": table.splits}
        image: str | None = "image"
    else:
        holding = [name for name, column in columns.items() if _holds_pictures(column)]
        image = named if named in holding else next(iter(holding), None)
        columns = {
            name: column for name, column in columns.items() if name == image or name not in holding
        }
    cells = {
        name: [str(at) for at in range(len(column))] if name == image else list(map(_text, column))
        for name, column in columns.items()
    }
    return cells, image, () if image is None else columns[image]


def _holds_pictures(column: Sequence[Any]) -> bool:
    first = next((cell for cell in column if cell is not None), None)
    return isinstance(first, Image.Image | bytes | bytearray | Mapping) or is_array(first)


def _text(cell: Any) -> str:
    """A cell as a list would have it; a missing one is empty."""
    if cell is None or (isinstance(cell, float) and cell != cell):
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell.item() if hasattr(cell, "item") and not isinstance(cell, str) else cell)


def _as_picture(picture: Any) -> Image.Image:
    if isinstance(picture, Image.Image):
        return picture
    array = bytes_of(picture)
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
        array = array.transpose(1, 2, 0)
    return Image.fromarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array)


def _named(data: Any) -> str:
    return type(data).__name__.lower()
