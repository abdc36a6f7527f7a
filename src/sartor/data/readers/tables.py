"""Parquet: pictures as bytes in the cells, as the Hugging Face hub stores them, or as paths.

Labels are read at once, pictures one row group at a time, when they are asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

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
from .one_hot import with_one_label
from .parquet import ParquetFile, PictureCells
from .parquet_schema import (
    as_text,
    class_names,
    has_leaf,
    hub_features,
    is_binary,
    kind_of,
    kinds_of,
    missing_shards,
    splits_of,
)
from .pixel_columns import refuse_pixels
from .rows import Below, Described, Rows, list_rows, listing_of, read_rows, refuse_without_label
from .tree import FileTree, FolderTree, inside, some

_NO_LABEL = "-1"


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
    splits = splits_of(opened, source)
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
        remarks=(*remarks, unlabelled, *missing_shards(files)),
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
    found = _columns_of(files[0], settings, source)
    for file in files[1:]:
        if _columns_of(file, settings, file.source) != found:
            raise DataError(
                f"{file.source} has other columns than {files[0].source}.",
                "Name the files of only one data set.",
            )
    return found


def _columns_of(file: ParquetFile, settings: SourceSettings, source: str) -> _Columns:
    from pyarrow import types

    names = file.schema.names
    for setting in COLUMN_SETTINGS:
        wanted = getattr(settings, setting)
        if wanted is not None and wanted not in names:
            raise UsageError(
                f"{source}: {unknown('column', wanted, names)}",
                f"{flag(setting)} takes one of: {some(names, 30)}.",
            )
    kinds = kinds_of(file)
    features = hub_features(file)
    binaries = [name for name in names if is_binary(kinds[name])]
    scalars = [name for name in names if not types.is_nested(kinds[name])]
    image, in_cells, path_leaf = picture_column(file, settings.image_column, source)
    labels = [name for name, feature in features.items() if class_names(feature)]
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
        classes=class_names(features.get(label or "")),
        scalars=tuple(
            name
            for name in scalars
            if name != image
            and (name not in binaries or name == label or plain_name(name) in COLUMN_NAMES)
        ),
    )


class PictureColumn(NamedTuple):
    """Where a file has its pictures."""

    name: str
    in_cells: bool
    """Whether the cells hold the pictures themselves; else their paths."""
    path_leaf: str
    """The part of the column that holds paths, where it has parts."""


def picture_column(file: ParquetFile, wanted: str | None, source: str) -> PictureColumn:
    """The column that holds pictures or their paths: the one that is `wanted`, or by its type.

    Raises:
        UsageError: there is none, or it is unclear which. DataError: it holds numbers of pixels.
    """
    from pyarrow import types

    kinds, features = kinds_of(file), hub_features(file)
    if wanted is not None and wanted not in kinds:
        raise UsageError(
            f"{source}: {unknown('column', wanted, kinds)}",
            f"{flag('image_column')} takes one of: {some(kinds, 30)}.",
        )
    structs = [n for n in kinds if types.is_struct(kinds[n]) and has_leaf(kinds[n], "bytes")]
    binaries = [name for name in kinds if is_binary(kinds[name])]
    image = wanted or _image_column(list(kinds), features, structs, binaries, source)
    if image is None:
        # Paths then; where no name tells, the rows will.
        scalars = [name for name in kinds if not types.is_nested(kinds[name])]
        known = known_columns(scalars, "image_column")
        if not known:
            refuse_pixels(kinds, source)
            raise UsageError(
                f"No column of {source} holds pictures or their paths by its type or name: "
                f"{some(kinds, 30)}.",
                "Say --image-column NAME.",
            )
        image = scalars[known[0]]
    in_cells = image in structs or image in binaries
    path_leaf = "path" if image in structs and has_leaf(kinds[image], "path") else ""
    if path_leaf and file.begins_empty(image, "bytes"):
        in_cells = False
    return PictureColumn(image, in_cells, path_leaf)


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
    hub = [name for name in names if kind_of(features.get(name)) == "Image" and name in structs]
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
    texts = [[as_text(cell) for file in files for cell in file.values(one)] for one in wanted]
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
            as_text(cell)
            for file in files
            for cell in file.values(columns.image, columns.path_leaf)
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
