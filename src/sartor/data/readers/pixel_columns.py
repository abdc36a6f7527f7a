"""Parquet whose columns hold the numbers of pixels: a list in each cell, text, or a column for each
pixel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...arrays import AnyArray
from ...errors import DataError, UsageError, unknown
from ..settings import COLUMN_SETTINGS, SourceSettings
from .columns import flag, known_columns, plain_name
from .keyed_arrays import Arrays
from .parquet import ParquetFile
from .parquet_schema import (
    as_text,
    class_names,
    has_leaf,
    hub_features,
    is_binary,
    is_list_of_numbers,
    kinds_of,
    missing_shards,
    splits_of,
)
from .pixel_tables import FEWEST_PIXELS, Part, arrays_of, part_of, squares
from .rows import refuse_without_label
from .tree import FileTree, inside, some

_PIXEL_COLUMN = re.compile(r"(pixel|px)_?\d+([x_]\d+)?|\d+x\d+")
_NO_LABEL = "-1"
_ONE_SHAPE = "Bring all pictures to one size, or save them as PNG in the cells."


@dataclass(frozen=True, kw_only=True)
class PixelColumns:
    """Where the pixels stand."""

    names: tuple[str, ...]
    """The column that holds all pixels of a picture, or those that hold one each."""
    as_text: bool
    """Whether its cells are words, as in "0 17 255"."""


def pixel_columns(kinds: Mapping[str, Any], wanted: str | None, source: str) -> PixelColumns | None:
    """Where columns of these types hold pixels; None where they hold pictures, or their paths.

    Args:
        wanted: the column that the user names.

    Raises:
        UsageError: it is unclear which.
    """
    from pyarrow import types

    pictures = [n for n in kinds if is_binary(kinds[n]) or _holds_bytes(kinds[n])]
    lists = [name for name, kind in kinds.items() if is_list_of_numbers(kind)]
    packed = [n for n, kind in kinds.items() if plain_name(n) == "pixels" and types.is_string(kind)]
    spread = [name for name in kinds if _PIXEL_COLUMN.fullmatch(name)]
    if wanted is not None:
        if wanted in lists or wanted in packed:
            return PixelColumns(names=(wanted,), as_text=wanted in packed)
        return None
    scalars = [name for name in kinds if not types.is_nested(kinds[name])]
    if pictures or (known_columns(scalars, "image_column") and not (packed or spread)):
        return None
    known = [lists[column] for column in known_columns(lists, "image_column")]
    called = known or [name for name in lists if plain_name(name) == "pixels"] or lists
    if len(called) == 1 or known:
        return PixelColumns(names=(called[0],), as_text=False)
    if len(called) > 1:
        raise UsageError(
            f"It is unclear which column of {source} holds the pixels: {some(called, 30)}.",
            "Say --image-column NAME.",
        )
    if packed:
        return PixelColumns(names=(packed[0],), as_text=True)
    return (
        PixelColumns(names=tuple(spread), as_text=False) if len(spread) >= FEWEST_PIXELS else None
    )


def refuse_pixels(kinds: Mapping[str, Any], source: str) -> None:
    """Raise where columns hold numbers of pixels, and pictures are wanted."""
    found = pixel_columns(kinds, None, source)
    if found is not None:
        many = len(found.names) > 1
        raise DataError(
            f"The column{'s' if many else ''} {some(found.names, 3)} of {source} "
            f"{'hold' if many else 'holds'} the numbers of pixels, not pictures.",
            "In Python, `Predictor` takes them as an array; or save each row as a PNG.",
        )


def load_pixel_columns(
    tree: FileTree, files: Sequence[str], settings: SourceSettings, *, name: str
) -> Arrays | None:
    """The dataset in parquet files that hold pixels; None where they hold pictures or paths.

    Raises:
        CorruptDataError: a file is damaged.
        UsageError, DataError: unclear which column is which, or pictures of several shapes.
    """
    opened = [ParquetFile(tree, path) for path in files]
    source = inside(tree, files[0]) if len(files) == 1 else tree.name
    kinds = kinds_of(opened[0])
    pixels = pixel_columns(kinds, settings.image_column, opened[0].source)
    if pixels is None:
        return None
    for file in opened[1:]:
        if kinds_of(file) != kinds:
            raise DataError(
                f"{file.source} has other columns than {opened[0].source}.",
                "Name the files of only one data set.",
            )
    _refuse_unknown(kinds, settings, source)
    found = [_values(file, pixels) for file in opened]
    shapes = {values.shape[1:] for values in found}
    if len(shapes) > 1:
        raise DataError(f"The pictures of {source} have several shapes.", _ONE_SHAPE)
    part = _part(opened, kinds, pixels, np.concatenate(found), settings, source)
    made = arrays_of([(None, part)], source, name, "parquet")
    return made._replace(remarks=(*made.remarks, *missing_shards(files)))


def _part(
    files: Sequence[ParquetFile],
    kinds: Mapping[str, Any],
    pixels: PixelColumns,
    values: AnyArray,
    settings: SourceSettings,
    source: str,
) -> Part:
    from pyarrow import types

    names = [n for n in kinds if n not in pixels.names and not types.is_nested(kinds[n])]
    if not names:
        raise refuse_without_label(source)
    columns = [[as_text(cell) for file in files for cell in file.values(n)] for n in names]
    features = hub_features(files[0])
    for place, one in enumerate(names):
        if known := class_names(features.get(one)):
            columns[place] = [_named(number, known) for number in columns[place]]
    part = part_of(
        squares(values, source) if values.ndim == 2 else values,
        names=tuple(names),
        cells=list(zip(*columns, strict=True)),
        lines=range(1, len(values) + 1),
        settings=replace(settings, image_column=None),
        source=source,
    )
    splits = splits_of(files, source)
    return _labelled(part.with_splits(splits) if any(splits) else part)


def _labelled(part: Part) -> Part:
    """Without the rows whose label is secret, which the hub writes as -1."""
    secret = np.array([label == _NO_LABEL for label in part.labels])
    if not secret.any() or secret.all():
        return part
    count = int(secret.sum())
    return part.only(~secret, f"Left out {count:,} row{'' if count == 1 else 's'} without a label.")


def _named(number: str, names: Sequence[str]) -> str:
    return names[int(number)] if number.isdecimal() and int(number) < len(names) else number


def _refuse_unknown(kinds: Mapping[str, Any], settings: SourceSettings, source: str) -> None:
    for setting in COLUMN_SETTINGS:
        wanted = getattr(settings, setting)
        if wanted is not None and wanted not in kinds:
            raise UsageError(
                f"{source}: {unknown('column', wanted, kinds)}",
                f"{flag(setting)} takes one of: {some(kinds, 30)}.",
            )


def _values(file: ParquetFile, pixels: PixelColumns) -> AnyArray:
    """The pixels of all rows, (N, P), or (N, ...) as lists of lists have them."""
    groups = range(len(file.group_sizes))
    if len(pixels.names) > 1:
        columns = [
            np.concatenate([_numbers(file.cells(group, one), file) for group in groups])
            for one in pixels.names
        ]
        return np.stack(columns, axis=1)
    (column,) = pixels.names
    parts = [file.cells(group, column) for group in groups if file.group_sizes[group]]
    if pixels.as_text:
        rows = [_words(cell, file) for part in parts for cell in part.to_pylist()]
        _refuse_lengths(np.array([len(row) for row in rows]), file)
        return np.stack(rows)
    found = [_numbers(part, file) for part in parts]
    if len({one.shape[1:] for one in found}) > 1:
        raise DataError(f"The pictures of {file.source} have several shapes.", _ONE_SHAPE)
    return np.concatenate(found)


def _numbers(cells: Any, file: ParquetFile) -> AnyArray:
    """Cells as an array: (N,), or with an axis more for each level of lists."""
    from pyarrow import types

    array, shape = cells.combine_chunks(), [len(cells)]
    while types.is_nested(array.type):
        _refuse_gaps(array, file)
        if types.is_fixed_size_list(array.type):
            shape.append(array.type.list_size)
        else:
            lengths = array.value_lengths().to_numpy(zero_copy_only=False)
            _refuse_lengths(lengths, file)
            shape.append(int(lengths[0]))
        array = array.flatten()
    _refuse_gaps(array, file)
    numbers: AnyArray = array.to_numpy(zero_copy_only=False)
    return numbers.reshape(shape)


def _words(cell: str | None, file: ParquetFile) -> AnyArray:
    try:
        return np.array((cell or "").strip().strip("[]").replace(",", " ").split(), np.float32)
    except ValueError as error:
        raise DataError(f"A cell of {file.source} holds no pixels: {error}.", _ONE_SHAPE) from error


def _refuse_gaps(array: Any, file: ParquetFile) -> None:
    if array.null_count:
        raise DataError(
            f"{array.null_count:,} of the cells with pixels in {file.source} are empty.",
            "Leave these rows out.",
        )


def _refuse_lengths(lengths: AnyArray, file: ParquetFile) -> None:
    if not lengths[0]:
        raise DataError(f"The pictures of {file.source} have no pixels.", _ONE_SHAPE)
    odd = lengths[lengths != lengths[0]]
    if len(odd):
        raise DataError(
            f"The pictures of {file.source} have several shapes: a list of {int(odd[0]):,} "
            f"numbers, one of {int(lengths[0]):,}.",
            _ONE_SHAPE,
        )


def _holds_bytes(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_struct(kind)) and has_leaf(kind, "bytes")
