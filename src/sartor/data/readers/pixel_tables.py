"""Tables that hold the pixels themselves: MNIST's label,pixel0,pixel1,... and FER-2013's
emotion,pixels,Usage, in which one cell holds all pixels of a picture.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from ...arrays import AnyArray
from ...errors import CorruptDataError, DataError, SartorError, UsageError
from ..settings import SourceSettings
from .columns import Table, choose_columns, known_columns, plain_name
from .keyed_arrays import Arrays, Keys, dataset_of
from .labels import split_of
from .rows import read_rows, refuse_without_label
from .tree import FileTree, inside, some

Floats = npt.NDArray[np.float32]

FEWEST_PIXELS = 16
_FIRST_ROWS = 20
_MAX_BYTES = 8 << 30
_PIXEL_NAME = re.compile(r"(pixels?|px|p|x|v|attr|feature|col|var)?_?\d+([x_-]\d+)*", re.IGNORECASE)
SURELY_A_PIXEL = re.compile(r"(pixels?|px)_?\d+([x_-]\d+)*", re.IGNORECASE)
_NUMBER = re.compile(r"\d+(\.\d*)?(e-?\d+)?", re.IGNORECASE)
_NOT_A_NUMBER = re.compile(r"could not convert string (.*) to float32 at row (\d+), column (\d+)")
_PIXELS = "pixels"
"""What the column of pictures is called once its pixels are read."""


@dataclass(frozen=True, kw_only=True)
class PixelLayout:
    """Where the pixels of a table stand."""

    delimiter: str
    header: tuple[str, ...] | None
    pixels: tuple[int, ...]
    """The columns that hold one pixel each, or the one column that holds all."""
    width: int
    """Columns in all."""

    @property
    def in_one_cell(self) -> bool:
        """Whether one cell holds all pixels of a picture."""
        return len(self.pixels) == 1

    @property
    def others(self) -> tuple[int, ...]:
        """The other columns."""
        return tuple(column for column in range(self.width) if column not in self.pixels)


def pixel_layout(head: bytes) -> PixelLayout | None:
    """Where the pixels stand in a table that begins so; None where it holds none."""
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    for delimiter in (",", "\t", ";"):
        rows = _first_rows(text, delimiter)
        if rows and (found := _layout(rows, delimiter)):
            return found
    return None


def load_pixels(
    tree: FileTree, files: Mapping[str, PixelLayout], settings: SourceSettings, *, name: str
) -> Arrays:
    """The dataset in tables of pixels: in one, or in one for each split, as their names say.

    Raises:
        CorruptDataError: a table is damaged.
        UsageError, DataError: unclear what is what, or no dataset.
    """
    source = inside(tree, next(iter(files))) if len(files) == 1 else tree.name
    labelled = {path: layout for path, layout in files.items() if layout.others}
    if not labelled:
        raise refuse_without_label(source)
    splits = _splits_of_files(list(labelled), source)
    found = [
        (splits[path], _read(tree, path, layout, settings)) for path, layout in labelled.items()
    ]
    made = arrays_of(found, source, name, "the cells of a table" if len(files) == 1 else "a table")
    unlabelled = [path for path in files if path not in labelled]
    if not unlabelled:
        return made
    remark = f"Left out {some(unlabelled)}: no column for the label."
    return made._replace(remarks=(*made.remarks, remark))


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one table holds."""

    images: AnyArray
    """(N, H, W) or (N, H, W, 3), of any type of numbers."""
    labels: Sequence[str]
    splits: Sequence[str | None]
    groups: Sequence[str] | None
    remarks: Sequence[str]

    def divided(self, split: str | None) -> dict[str, dict[str, Any]]:
        """Its arrays by split; all in `split` where the file's name says it."""
        own = np.array([split or each or "train" for each in self.splits])
        labels = np.array(self.labels)
        divided: dict[str, dict[str, Any]] = {}
        for part in dict.fromkeys(own.tolist()):
            here = own == part
            divided[part] = {"images": self.images[here], "labels": labels[here]}
            if self.groups is not None:
                divided[part]["groups"] = np.array(self.groups)[here]
        return divided

    def with_splits(self, splits: Sequence[str | None]) -> Part:
        """The same, divided otherwise."""
        return replace(self, splits=splits)

    def only(self, rows: npt.NDArray[np.bool_], remark: str) -> Part:
        """Some of its rows, and why."""
        kept = np.flatnonzero(rows).tolist()
        return replace(
            self,
            images=self.images[rows],
            labels=[self.labels[k] for k in kept],
            splits=[self.splits[k] for k in kept],
            groups=None if self.groups is None else [self.groups[k] for k in kept],
            remarks=(*self.remarks, remark),
        )


def arrays_of(
    found: Sequence[tuple[str | None, Part]], source: str, name: str, where: str
) -> Arrays:
    """The dataset in tables: each with the split that its name tells, None where none does.

    Args:
        where: what holds the pixels, in words.

    Raises:
        DataError: two hold the same split, or there is no dataset in them.
    """
    loaded: dict[str, Any] = {}
    parts: dict[str, Keys] = {}
    for own, part in found:
        for split, arrays in part.divided(own).items():
            keys = {what: f"{what} of {split}" for what in arrays}
            if split in parts:
                raise DataError(
                    f"{source} has several tables for {split}.", "Name one of them, or rename one."
                )
            loaded |= {keys[what]: array for what, array in arrays.items()}
            parts[split] = Keys(
                images=keys["images"], labels=keys["labels"], groups=keys.get("groups")
            )
    made = dataset_of(parts, loaded, None, source, name)
    counted = made.shape.partition(" (arrays ")[0]
    return made._replace(
        shape=f"{counted} (pixels in {where})",
        remarks=(*made.remarks, *(remark for _, part in found for remark in part.remarks)),
    )


def part_of(
    images: AnyArray,
    *,
    names: tuple[str, ...] | None,
    cells: list[tuple[str, ...]],
    lines: Sequence[int],
    settings: SourceSettings,
    source: str,
) -> Part:
    """What a table of pixels holds, of whose other columns `names` and `cells` are.

    Raises:
        UsageError, DataError: unclear which column holds the label, or none does.
    """
    # Each picture has a number for its name.
    table = Table(
        source=source,
        written="table of pixels",
        header=None if names is None else (_PIXELS, *names),
        rows=[(str(number), *row) for number, row in enumerate(cells)],
        lines=lines,
    )
    image = _PIXELS if names is not None else "1"
    if settings.image_column is not None:
        image = settings.image_column if names is None else plain_name(settings.image_column)
    choice = choose_columns(table, replace(settings, image_column=image), lambda _: False)
    rows, remarks = read_rows(table, choice)
    if choice.label is None:
        raise refuse_without_label(source)
    return Part(
        images=images,
        labels=rows.labels,
        splits=rows.splits,
        groups=rows.groups,
        remarks=remarks,
    )


def _first_rows(text: str, delimiter: str) -> list[list[str]]:
    try:
        rows = list(islice(csv.reader(io.StringIO(text), delimiter=delimiter), _FIRST_ROWS))
    except csv.Error:
        return []
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    # The last may be cut off.
    whole = [row for row in rows if len(row) == len(rows[0])]
    return whole if len(rows) - len(whole) < 2 else []


def _layout(rows: list[list[str]], delimiter: str) -> PixelLayout | None:
    width = len(rows[0])
    body = rows[1:] or rows
    packed = [c for c in range(width) if all(_holds_pixels(row[c]) for row in body)]
    numeric = [c for c in range(width) if all(_is_number(row[c]) for row in body)]
    named = _is_header(rows[0], packed or numeric)
    header = tuple(cell.strip() for cell in rows[0]) if named else None
    layout = partial(PixelLayout, delimiter=delimiter, header=header, width=width)
    if len(packed) == 1:
        return layout(pixels=(packed[0],))
    if named and len(rows) == 1:
        return None
    called = [c for c, cell in enumerate(header or ()) if SURELY_A_PIXEL.fullmatch(cell)]
    if len(called) >= FEWEST_PIXELS:
        return layout(pixels=tuple(called))
    if len(numeric) < FEWEST_PIXELS:
        return None
    pixels = _pixel_columns(header, numeric, width, body)
    return None if _side(len(pixels)) is None else layout(pixels=tuple(pixels))


def _is_header(row: list[str], columns: Sequence[int]) -> bool:
    """Whether the first row holds names; without a header it has pixels where the others have.

    Pixels may be called 0, 1, 2, ...: the other cells tell then.
    """
    if all(map(_is_number, row)):
        return False
    cells = [row[column] for column in columns]
    if not all(_is_number(cell) or _holds_pixels(cell) for cell in cells):
        return True
    counted = cells in ([str(start + at) for at in range(len(cells))] for start in (0, 1))
    return counted or bool(known_columns(row, "label_column"))


def _is_number(cell: str) -> bool:
    return _NUMBER.fullmatch(cell.strip()) is not None


def _pixel_columns(
    header: tuple[str, ...] | None, numeric: list[int], width: int, body: list[list[str]]
) -> list[int]:
    if header is not None:
        return [c for c in numeric if _PIXEL_NAME.fullmatch(header[c])]
    others = [column for column in range(width) if column not in numeric]
    if others or _side(width):
        return numeric
    first, last = ({row[column] for row in body} for column in (0, -1))
    return numeric[:-1] if len(first) == 1 < len(last) else numeric[1:]


def _holds_pixels(cell: str) -> bool:
    words = cell.strip().strip("[]").replace(",", " ").split()
    return len(words) >= FEWEST_PIXELS and all(map(_NUMBER.fullmatch, words))


def _side(count: int) -> tuple[int, int] | None:
    """Side and channels of a square picture with so many values; None where there is none."""
    for channels in (1, 3):
        side = math.isqrt(count // channels)
        if side > 1 and side * side * channels == count:
            return side, channels
    return None


def _splits_of_files(paths: Sequence[str], source: str) -> dict[str, str | None]:
    """The split that the name of each file says; None for a single file."""
    if len(paths) == 1:
        return {paths[0]: None}
    found: dict[str, str | None] = {}
    for path in paths:
        words = re.split(r"[^a-z]+", path.rpartition("/")[2].rpartition(".")[0].casefold())
        found[path] = next((split for word in words if (split := split_of(word))), None)
    if None in found.values():
        raise UsageError(
            f"{source} holds several tables of pixels: {some(paths)}.",
            "Name one of them, or call them train.csv, val.csv and test.csv.",
        )
    return found


def _read(tree: FileTree, path: str, layout: PixelLayout, settings: SourceSettings) -> Part:
    source = inside(tree, path)
    if tree.size(path) > _MAX_BYTES:
        raise CorruptDataError(f"{source} is larger than {_MAX_BYTES >> 30} GiB.", "Divide it.")
    content = tree.read(path)
    try:
        reading = _packed if layout.in_one_cell else _spread
        values, cells = reading(content, layout)
    except (SartorError, MemoryError):
        raise
    except (ValueError, csv.Error, UnicodeDecodeError) as error:
        reason = _reason(error, 1 if layout.header is None else 2)
        raise CorruptDataError(
            f"{source} is not a table of pixels throughout: {reason}.", "Correct that row."
        ) from error
    if not len(values):
        raise DataError(f"{source} has no rows.", "Name another file.")
    header, first = layout.header, 1 if layout.header is None else 2
    return part_of(
        squares(values, source),
        names=None if header is None else tuple(header[column] for column in layout.others),
        cells=cells,
        lines=range(first, first + len(cells)),
        settings=settings,
        source=source,
    )


def _reason(error: Exception, first_line: int) -> str:
    """What is wrong, with the line of the file where NumPy counts rows below the header from 0."""
    reason = str(error).strip().splitlines()[0].rstrip(".")
    if found := _NOT_A_NUMBER.match(reason):
        cell, row, column = found.groups()
        return f"{cell} in line {int(row) + first_line:,}, column {int(column):,}, is not a number"
    return reason


def _spread(content: bytes, layout: PixelLayout) -> tuple[Floats, list[tuple[str, ...]]]:
    """Pixels (N, P) of a table with a column for each, and the cells of its other columns."""

    def columns(wanted: Sequence[int], dtype: Any) -> Any:
        return np.loadtxt(
            io.BytesIO(content),
            dtype=dtype,
            delimiter=layout.delimiter,
            comments=None,
            skiprows=0 if layout.header is None else 1,
            usecols=wanted,
            ndmin=2,
            encoding="utf-8-sig",
            quotechar='"',
        )

    return columns(layout.pixels, np.float32), [
        tuple(row) for row in columns(layout.others, str).tolist()
    ]


def _packed(content: bytes, layout: PixelLayout) -> tuple[Floats, list[tuple[str, ...]]]:
    """The same of a table in which one cell holds all pixels."""
    rows, cells = [], []
    (column,) = layout.pixels
    for line, row in _body(content, layout):
        if len(row) != layout.width:
            raise ValueError(f"line {line:,} has {len(row)} columns, not {layout.width}")
        words = row[column].strip().strip("[]").replace(",", " ").split()
        rows.append(np.array(words, dtype=np.float32))
        if len(rows[-1]) != len(rows[0]):
            raise ValueError(
                f"line {line:,} holds {len(words):,} pixels, those before it {len(rows[0]):,}"
            )
        cells.append(tuple(row[other] for other in layout.others))
    return np.stack(rows) if rows else np.empty((0, 0), np.float32), cells


def _body(content: bytes, layout: PixelLayout) -> Iterator[tuple[int, list[str]]]:
    stream = io.StringIO(content.decode("utf-8-sig"), newline="")
    reader = csv.reader(stream, delimiter=layout.delimiter)
    for number, row in enumerate(reader):
        if any(cell.strip() for cell in row) and not (number == 0 and layout.header is not None):
            yield reader.line_num, row


def squares(values: AnyArray, source: str) -> AnyArray:
    """Pixels (N, P) as pictures: (N, H, W), or (N, H, W, 3) for three values a pixel."""
    found = _side(values.shape[1])
    if found is None:
        raise DataError(
            f"Each picture of {source} has {values.shape[1]:,} pixels, which make no square.",
            "Reshape them in Python, and save them by numpy.savez(FILE, x=images, y=labels).",
        )
    side, channels = found
    if channels == 1:
        return values.reshape(-1, side, side)
    mixed = values.reshape(-1, side, side, 3)
    planes = values.reshape(-1, 3, side, side).transpose(0, 2, 3, 1)
    # In one of the two orders neighbours are alike, in the other they are not.
    return min((mixed, planes), key=_roughness)


def _roughness(images: AnyArray) -> float:
    return float(np.abs(np.diff(images[:1_000].astype(np.float32), axis=1)).mean())
