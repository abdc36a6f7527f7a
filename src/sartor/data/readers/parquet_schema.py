"""What the schemas and the names of parquet files say of the data set in them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from ...errors import DataError
from .labels import split_of, split_of_stem
from .parquet import ParquetFile
from .tree import some

_SHARD = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})")


def kinds_of(file: ParquetFile) -> dict[str, Any]:
    """The type of each column."""
    return {name: file.schema.field(name).type for name in file.schema.names}


def hub_features(file: ParquetFile) -> dict[str, Any]:
    """What the Hugging Face hub writes of each column; nothing where it did not write the file."""
    try:
        document = json.loads((file.schema.metadata or {}).get(b"huggingface", b"{}"))
        features = document["info"]["features"]
        return {str(name): feature for name, feature in features.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def kind_of(feature: Any) -> str:
    """What the hub calls the type of a column."""
    return str(feature.get("_type", "")) if isinstance(feature, dict) else ""


def class_names(feature: Any) -> tuple[str, ...]:
    """Names of the classes by number, where the hub has them for a column."""
    names = feature.get("names") if kind_of(feature) == "ClassLabel" else None
    return tuple(map(str, names)) if isinstance(names, list) else ()


def has_leaf(kind: Any, name: str) -> bool:
    """Whether a struct has a field of this name."""
    return bool(kind.get_field_index(name) >= 0)


def is_binary(kind: Any) -> bool:
    """Whether cells hold bytes."""
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def is_list_of_numbers(kind: Any) -> bool:
    """Whether cells hold numbers in lists, or in lists of lists."""
    from pyarrow import types

    depth = 0
    while types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        kind, depth = kind.value_type, depth + 1
    return depth > 0 and bool(types.is_integer(kind) or types.is_floating(kind))


def splits_of(files: Sequence[ParquetFile], source: str) -> list[str | None]:
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


def missing_shards(files: Sequence[str]) -> list[str]:
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


def as_text(value: Any) -> str:
    """A cell as a list in text would have it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _split_of_path(path: str) -> str | None:
    *folders, name = path.split("/")
    return split_of_stem(name) or next(filter(None, map(split_of, reversed(folders))), None)
