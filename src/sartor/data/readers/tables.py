"""Parquet: pictures as bytes in the cells, as the Hugging Face hub stores them, or as paths.

Labels are read at once, pictures one row group at a time, when they are asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import (
    DataError,
    UsageError,
    unknown,
)
from ..listing import Listing
from ..settings import COLUMN_SETTINGS, SourceSettings
from .columns import (
    COLUMN_NAMES,
    GROUP_LIKE,
    Table,
    choose_columns,
    described,
    flag,
    known_columns,
    plain_name,
)
from .labels import split_of, split_of_stem
from .one_hot import with_one_label
from .parquet import ParquetFile, PictureCells
from .rows import Below, Described, Rows, list_rows, listing_of, read_rows, refuse_without_label
from .tree import FileTree, FolderTree, inside, some

_SHARD = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})")
_NO_LABEL = "-1"
_PIXEL_COLUMN = re.compile(r"(pixel|px)_?\d+([x_]\d+)?|\d+x\d+")
_FEWEST_PIXELS = 16


def list_parquet(
    tree: FileTree, files: Sequence[str], settings: SourceSettings, *, name: str
) -> Listing:
    """The pictures of parquet files: the parts of one table, or of one for each split.

    Raises:
        CorruptDataError: a file is damaged.
        UsageError, DataError: unclear which column is which, or rows that say nothing.
    """
    opened = [ParquetFile(tree, path) for path in files]
    source = inside(tree, files[0]) if len(files) == 1 else tree.name
    splits = _splits(opened, source)
    columns = _columns(opened, settings, source)
    named = {getattr(settings, setting) for setting in COLUMN_SETTINGS} - {None}
    table = _table(opened, columns, named, source)
    chosen = replace(
        settings, image_column=columns.image, label_column=settings.label_column or columns.label
    )
    table = with_one_label(table, chosen)
    choice = choose_columns(table, chosen, lambda _: False)
    if choice.label is None and columns.in_cells:
        raise refuse_without_label(source)
    rows, remarks = read_rows(table, choice)
    if any(splits):
        rows = replace(rows, splits=splits)
    places = [(file, row) for file in opened for row in range(file.count)]
    rows, places, unlabelled = _labelled(rows, places, bool(columns.classes))
    classes = (
        columns.classes
        if choice.label is not None and table.column_name(choice.label) == columns.label
        else ()
    )
    facts = Described(
        name=name,
        source=source,
        shape=described(table, choice),
        remarks=(*remarks, unlabelled, *_missing_shards(files)),
        class_names=classes,
    )
    if columns.in_cells:
        cells = PictureCells(names=tuple(rows.paths), places=places, column=columns.image)
        return listing_of(rows, cells, facts)
    root = settings.image_root
    pictures = tree if root is None else FolderTree(Path(root))
    folders = ["" if root is not None else file.path.rpartition("/")[0] for file, _ in places]
    paths = [
        Below(pictures, folder).path(path) for folder, path in zip(folders, rows.paths, strict=True)
    ]
    return list_rows(replace(rows, paths=paths), pictures, facts)


@dataclass(frozen=True, kw_only=True)
class _Columns:
    """What a schema says of its columns."""

    image: str
    in_cells: bool
    """Whether the cells hold the pictures themselves; else their paths."""
    path_leaf: str
    """The part of the image column that holds paths, where it has parts."""
    label: str | None
    """The column of the labels, where the schema tells."""
    classes: tuple[str, ...]
    """Names of the classes by number, where the schema has them for `label`."""
    scalars: tuple[str, ...]
    """Columns of words or numbers."""


def _columns(files: Sequence[ParquetFile], settings: SourceSettings, source: str) -> _Columns:
    found = _columns_of(files, files[0], settings, source)
    for file in files[1:]:
        if _columns_of(files, file, settings, file.source) != found:
            raise DataError(
                f"{file.source} has other columns than {files[0].source}.",
                "Name the files of only one data set.",
            )
    return found


def _columns_of(
    files: Sequence[ParquetFile], file: ParquetFile, settings: SourceSettings, source: str
) -> _Columns:
    from pyarrow import types

    names = file.schema.names
    for setting in COLUMN_SETTINGS:
        wanted = getattr(settings, setting)
        if wanted is not None and wanted not in names:
            raise UsageError(
                f"{source}: {unknown('column', wanted, names)}",
                f"{flag(setting)} takes one of: {some(names, 30)}.",
            )
    kinds = {name: file.schema.field(name).type for name in names}
    features = _hub_features(file)
    structs = [n for n in names if types.is_struct(kinds[n]) and _leaf(kinds[n], "bytes")]
    binaries = [name for name in names if _is_binary(kinds[name])]
    scalars = [name for name in names if not types.is_nested(kinds[name])]
    image = settings.image_column or _image_column(names, features, structs, binaries, source)
    if image is None:
        # Paths then; where no name tells, the rows will.
        known = known_columns(scalars, "image_column")
        if not known:
            _refuse_pixels(kinds, source)
            raise UsageError(
                f"No column of {source} holds pictures or their paths by its type or name: "
                f"{some(names, 30)}.",
                "Say --image-column NAME.",
            )
        image = scalars[known[0]]
    in_cells = image in structs or image in binaries
    path_leaf = "path" if image in structs and _leaf(kinds[image], "path") else ""
    if path_leaf and files[0].begins_empty(image, "bytes"):
        in_cells = False
    labels = [name for name, feature in features.items() if _class_names(feature)]
    label = settings.label_column or (labels[0] if len(labels) == 1 else None)
    _refuse_structured(kinds, settings, source)
    if label is None and len(labels) > 1:
        raise UsageError(
            f"It is unclear which column of {source} holds the label: {some(labels, 30)}.",
            "Say --label-column NAME.",
        )
    return _Columns(
        image=image,
        in_cells=in_cells,
        path_leaf=path_leaf,
        label=label,
        classes=_class_names(features.get(label or "")),
        scalars=tuple(
            name
            for name in scalars
            if name != image
            and (name not in binaries or name == label or plain_name(name) in COLUMN_NAMES)
        ),
    )


def _refuse_pixels(kinds: Mapping[str, Any], source: str) -> None:
    """Raise where columns hold numbers as pixels have them, instead of pictures."""
    from pyarrow import types

    lists = [name for name, kind in kinds.items() if _is_list_of_numbers(kind)]
    packed = [n for n, kind in kinds.items() if plain_name(n) == "pixels" and types.is_string(kind)]
    spread = [name for name in kinds if _PIXEL_COLUMN.fullmatch(name)]
    found = lists or packed or (spread if len(spread) >= _FEWEST_PIXELS else [])
    if not found:
        return
    column, many = found[0], len(found) > 1
    pixels = f"t[{column!r}].to_pylist()"
    if found is packed:
        pixels = f"[cell.split() for cell in {pixels}]"
    elif found is spread:
        others = [name for name in kinds if name not in spread]
        pixels = f"list(zip(*t.drop_columns({others}).to_pydict().values()))"
    what = f"columns {some(found, 3)}" if many else f"column {column}"
    raise DataError(
        f"The {what} of {source} {'hold' if many else 'holds'} the numbers of pixels, which are "
        "not read from parquet.",
        "Save them as arrays with their height and width, and name that file: "
        f"t = pyarrow.parquet.read_table('FILE'); x = numpy.array({pixels}, dtype='uint8'); "
        "numpy.savez('set.npz', x=x.reshape(len(x), HEIGHT, WIDTH), y=t['LABEL'])",
    )


def _is_list_of_numbers(kind: Any) -> bool:
    from pyarrow import types

    depth = 0
    while types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        kind, depth = kind.value_type, depth + 1
    return depth > 0 and bool(types.is_integer(kind) or types.is_floating(kind))


def _refuse_structured(kinds: Mapping[str, Any], settings: SourceSettings, source: str) -> None:
    """Raise where the labels, or another column that is named, are lists or tables."""
    from pyarrow import types

    named = {getattr(settings, setting) for setting in COLUMN_SETTINGS[1:]} - {None}
    usual = [list(kinds)[column] for column in known_columns(list(kinds), "label_column")]
    for name in named or usual[:1]:
        if types.is_nested(kinds[name]):
            raise DataError(
                f"The column {name} of {source} holds lists or tables: {kinds[name]}.",
                "Here each picture belongs to one class; name another column by --label-column.",
            )


def _image_column(
    names: Sequence[str],
    features: dict[str, Any],
    structs: Sequence[str],
    binaries: Sequence[str],
    source: str,
) -> str | None:
    """The column whose cells hold pictures; None where no type says so."""
    hub = [name for name in names if _kind_of(features.get(name)) == "Image" and name in structs]
    for candidates in (hub, structs, binaries):
        known = [candidates[column] for column in known_columns(candidates, "image_column")]
        if len(candidates) == 1 or known:
            return known[0] if known else candidates[0]
        if candidates:
            raise UsageError(
                f"It is unclear which column of {source} holds the pictures: "
                f"{some(candidates, 30)}.",
                "Say --image-column NAME.",
            )
    return None


def _table(
    files: Sequence[ParquetFile], columns: _Columns, named: Collection[str], source: str
) -> Table:
    """Names of the pictures, and the columns that may say label, group or split, as text."""
    wanted = [
        name
        for name in columns.scalars
        if name == columns.label or name in named or plain_name(name) in COLUMN_NAMES | GROUP_LIKE
    ]
    if not known_columns(wanted, "label_column") and columns.label is None:
        wanted = list(columns.scalars)
    images = _paths(files, columns)
    texts = [[_cell(cell) for file in files for cell in file.values(name)] for name in wanted]
    return Table(
        source=source,
        written="parquet",
        header=(columns.image, *wanted),
        rows=list(zip(images, *texts, strict=True)),
        lines=range(1, len(images) + 1),
    )


def _paths(files: Sequence[ParquetFile], columns: _Columns) -> list[str]:
    """The path of each picture; of one in a cell a name, with its row where paths do not tell."""
    if not columns.in_cells:
        return [
            _cell(cell) for file in files for cell in file.values(columns.image, columns.path_leaf)
        ]
    if columns.path_leaf:
        paths = [cell for file in files for cell in file.values(columns.image, columns.path_leaf)]
        if all(paths) and len(set(paths)) == len(paths):
            return paths
    return [f"{file.path}[{row}]" for file in files for row in range(file.count)]


def _labelled(
    rows: Rows, places: list[tuple[ParquetFile, int]], by_number: bool
) -> tuple[Rows, list[tuple[ParquetFile, int]], str]:
    """The rows without the splits whose labels are secret: the hub writes -1 for all of them."""
    known = {
        split for split, label in zip(rows.splits, rows.labels, strict=True) if label != _NO_LABEL
    }
    secret = set(rows.splits) - known
    if not (by_number and known and secret):
        return rows, places, ""
    kept = [k for k, split in enumerate(rows.splits) if split not in secret]
    count = len(places) - len(kept)
    remark = f"Left out {some(secret)}: its {count:,} rows have no label."
    return (
        Rows(
            paths=[rows.paths[k] for k in kept],
            labels=[rows.labels[k] for k in kept],
            splits=[rows.splits[k] for k in kept],
            groups=None if rows.groups is None else [rows.groups[k] for k in kept],
        ),
        [places[k] for k in kept],
        remark,
    )


def _splits(files: Sequence[ParquetFile], source: str) -> list[str | None]:
    """The split of each row by the name of its file, or of a folder; None where there are none."""
    of_files = [_split_of_path(file.path) for file in files]
    if len(files) == 1 or not any(of_files):
        of_files = [None] * len(files)
    elif not all(of_files):
        odd = [file.path for file, split in zip(files, of_files, strict=True) if not split]
        raise DataError(
            f"Some parquet files of {source} are named after a split, others are not: {some(odd)}.",
            "Name them train-..., val-... or test-..., or name a single file.",
        )
    return [split for file, split in zip(files, of_files, strict=True) for _ in range(file.count)]


def _split_of_path(path: str) -> str | None:
    *folders, name = path.split("/")
    return split_of_stem(name) or next(filter(None, map(split_of, reversed(folders))), None)


def _missing_shards(files: Sequence[str]) -> list[str]:
    """A sentence on parts of a table that its names announce, and that are not there."""
    found: dict[tuple[str, int], set[int]] = {}
    for path in files:
        if shard := _SHARD.fullmatch(path.removesuffix(".parquet")):
            found.setdefault((shard["stem"], int(shard["count"])), set()).add(int(shard["number"]))
    advice = "; name their folder to have all" if len(files) == 1 else ""
    return [
        f"Only {len(numbers)} of the {count} parts of {stem} are read{advice}."
        for (stem, count), numbers in found.items()
        if len(numbers) < count
    ]


def _hub_features(file: ParquetFile) -> dict[str, Any]:
    """What the Hugging Face hub writes of each column; nothing where it did not write the file."""
    try:
        document = json.loads((file.schema.metadata or {}).get(b"huggingface", b"{}"))
        features = document["info"]["features"]
        return {str(name): feature for name, feature in features.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _kind_of(feature: Any) -> str:
    return str(feature.get("_type", "")) if isinstance(feature, dict) else ""


def _class_names(feature: Any) -> tuple[str, ...]:
    names = feature.get("names") if _kind_of(feature) == "ClassLabel" else None
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _leaf(kind: Any, name: str) -> bool:
    """Whether a struct has a field of this name."""
    return bool(kind.get_field_index(name) >= 0)


def _is_binary(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
