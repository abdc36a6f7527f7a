"""Arrays in an .npz file: MedMNIST's keys, those of Keras, or plain images and labels.

Sizes are checked before anything is loaded, and no object is ever unpickled. What is not a byte is
made one only where that changes no value: floats in 0..1 that were bytes divided by 255, and
whole numbers in 0..255.
"""

from __future__ import annotations

import io
import math
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...arrays import AnyArray, Int64Array, UInt8Array
from ...errors import CorruptDataError, DataError, SartorError, UsageError, unknown
from ...machine import total_memory
from ..dataset import Dataset
from ..settings import SourceSettings
from .columns import flag
from .labels import (
    SPLITS,
    check_trainable,
    class_numbers,
    cleaned,
    indices_of,
    missing_classes,
    named_by_source,
    numbered,
    part_counts,
    split_of,
)
from .rows import refuse_one_class
from .tree import FileTree, inside, shown, some

_IMAGE_WORDS = ("images", "image", "imgs", "img", "x", "data", "pictures", "arr_0")
_LABEL_WORDS = ("labels", "label", "y", "targets", "target", "arr_1")
_CLASS_NAME_WORDS = ("class_names", "classes", "label_names")
_FETCH_AGAIN = "Fetch the file again from where it came from."
_CHUNK_BYTES = 64 << 20
_MAPPED_FROM_BYTES = 64 << 20
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
"""Before each member of a zip file, and before its name and what else is noted there."""
_EXACT = 1e-3
"""How far a float times 255 may be from the byte that it was; float32 is off by 0.00002."""


class Arrays(NamedTuple):
    """A dataset, and how it was read."""

    dataset: Dataset
    shape: str
    """In one line, for the user."""
    remarks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Keys:
    """Where the arrays of one split are."""

    images: str
    labels: str
    groups: str | None = None


def holds_arrays(path: Path) -> bool:
    """Whether a zip file holds arrays and nothing else, as an .npz does.

    Raises:
        CorruptDataError: it is damaged.
    """
    with _explained(str(path)), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return bool(names) and all(name.endswith(".npy") for name in names)


def load_npz(tree: FileTree, path: str, settings: SourceSettings, *, name: str) -> Arrays:
    """The dataset in an .npz file.

    Args:
        tree: where it lies, at `path`.
        name: what the dataset is called.

    Raises:
        CorruptDataError: it is damaged, or claims more than it holds.
        UsageError: unclear which key is which; with the flag.
        DataError: arrays that make no dataset; the sentence says why.
    """
    source = inside(tree, path)
    content = tree.place(path) or io.BytesIO(tree.read(path))
    with _explained(source), zipfile.ZipFile(content) as archive:
        members = {
            info.filename.removesuffix(".npy"): info
            for info in archive.infolist()
            if info.filename.endswith(".npy")
        }
        parts = _parts(list(members), settings, source)
        names_key = _found(members, _CLASS_NAME_WORDS)
        wanted = [one for keys in parts.values() for one in (keys.images, keys.labels, keys.groups)]
        # Several splits become one array, which lies in memory; a single one may stay in its file.
        path_of_one = content if isinstance(content, Path) and len(parts) == 1 else None
        loaded = _loaded(
            archive, members, [key for key in (*wanted, names_key) if key], source, path_of_one
        )
    return _arrays(parts, loaded, names_key, source, name)


def _parts(keys: list[str], settings: SourceSettings, source: str) -> dict[str, _Keys]:
    """The keys of each split; all in "train" where there are no splits."""
    for setting in ("image_column", "label_column", "group_column"):
        wanted = getattr(settings, setting)
        if wanted is not None and wanted not in keys:
            raise UsageError(
                f"{source}: {unknown('key', wanted, keys)}",
                f"{flag(setting)} takes one of: {some(keys, 30)}.",
            )
    images, labels = settings.image_column, settings.label_column
    if images or labels:
        images = images or _found(keys, _IMAGE_WORDS)
        labels = labels or _found(keys, _LABEL_WORDS)
        if images is None or labels is None:
            missing = "--image-column" if images is None else "--label-column"
            raise UsageError(
                f"{source} has no usual key for the other: {some(keys, 30)}.", f"Say {missing} too."
            )
        return {"train": _Keys(images=images, labels=labels, groups=settings.group_column)}
    return _usual_parts(keys, settings.group_column, source)


def _usual_parts(keys: list[str], group_key: str | None, source: str) -> dict[str, _Keys]:
    found: dict[tuple[str, str], str] = {}
    for key in keys:
        words = re.split(r"[^a-z0-9]+", key.casefold())
        splits = [split for word in words if (split := split_of(word))]
        kind = _kind("_".join(word for word in words if not split_of(word)))
        if not kind or len(splits) > 1:
            continue
        place = (splits[0] if splits else "train", kind)
        if place in found:
            raise UsageError(
                f"{source} has {found[place]} and {key}: unclear which holds the {kind}.",
                "Say --image-column KEY and --label-column KEY.",
            )
        found[place] = key
    parts = {}
    for split in SPLITS:
        images, labels = (found.get((split, kind)) for kind in ("images", "labels"))
        if images and labels:
            parts[split] = _Keys(images=images, labels=labels)
        elif images or labels:
            what = "labels" if images else "images"
            raise DataError(
                f"{source} has {images or labels}, but no {what} to it; its keys are "
                f"{some(keys, 30)}.",
                "Save images and labels together, or say --image-column and --label-column.",
            )
    if not parts:
        raise UsageError(
            f"No key of {source} is one that images and labels usually have: {some(keys, 30)}.",
            "Say --image-column KEY and --label-column KEY.",
        )
    if group_key and len(parts) > 1:
        raise UsageError(
            f"{source} has several splits, and {group_key} is one key.",
            "Name the keys of one split with --image-column and --label-column.",
        )
    if group_key:
        ((split, keys_of_it),) = parts.items()
        parts = {split: _Keys(images=keys_of_it.images, labels=keys_of_it.labels, groups=group_key)}
    return parts


def _kind(word: str) -> str:
    return "images" if word in _IMAGE_WORDS else "labels" if word in _LABEL_WORDS else ""


def _found(keys: Mapping[str, Any] | Sequence[str], words: tuple[str, ...]) -> str | None:
    return next((key for word in words for key in keys if key.casefold() == word), None)


def _loaded(
    archive: zipfile.ZipFile,
    members: Mapping[str, zipfile.ZipInfo],
    keys: list[str],
    source: str,
    path: Path | None,
) -> dict[str, AnyArray]:
    """The arrays of these keys; large ones of bytes, stored plainly, mapped where there is a path.

    Raises:
        DataError: the others would fill the memory.
    """
    mapped = {}
    for key in keys if path is not None else ():
        array = _mapped(archive, members[key], path, f"{key} of {source}")
        if array is not None:
            mapped[key] = array
    keys = [key for key in keys if key not in mapped]
    total, memory = sum(members[key].file_size for key in keys), total_memory()
    if memory and total > memory / 2:
        raise DataError(
            f"The arrays of {source} take {total / 2**30:.0f} GiB; "
            f"this machine has {memory / 2**30:.0f} GiB of memory.",
            "Save one split of uint8 images with numpy.savez, uncompressed: such a file is mapped."
            " Or save smaller images, or fewer.",
        )
    return mapped | {key: _read(archive, members[key], f"{key} of {source}") for key in keys}


def _mapped(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path | None, what: str
) -> AnyArray | None:
    """A large array of bytes as it lies in the file; None where it is small or lies otherwise."""
    if path is None or member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        return None
    if member.file_size < _MAPPED_FROM_BYTES:
        return None
    header = _header(archive, member, what)
    if header.dtype != np.uint8 or header.fortran_order:
        return None
    with archive.open(member) as stream:
        while stream.read(_CHUNK_BYTES):
            pass  # the end has the checksum compared
    with path.open("rb") as file:
        file.seek(member.header_offset + _LOCAL_HEADER.size - 4)
        name_length, extra_length = struct.unpack("<HH", file.read(4))
    start = member.header_offset + _LOCAL_HEADER.size + name_length + extra_length
    return np.memmap(path, np.uint8, "r", start + header.length, header.shape)


class _Header(NamedTuple):
    """What stands before the values of an array."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    length: int
    """In bytes."""


def _header(archive: zipfile.ZipFile, member: zipfile.ZipInfo, what: str) -> _Header:
    """The header of an array, once it says what the file really holds."""
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in _HEADER_READERS:
            raise ValueError(f"{what} has a header of the unknown version {version}")
        shape, fortran_order, dtype = _HEADER_READERS[version](stream)
        if dtype.hasobject:
            raise DataError(
                f"{what} holds Python objects, which could run programs: they are not read.",
                "Save it again as an array of one type, such as uint8.",
            )
        if math.prod(shape) * dtype.itemsize != member.file_size - stream.tell():
            raise CorruptDataError(
                f"{what} claims {'x'.join(map(str, shape)) or 'one'} of {dtype}, "
                f"which are not its {member.file_size:,} bytes.",
                _FETCH_AGAIN,
            )
        return _Header(shape, fortran_order, dtype, stream.tell())


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, what: str) -> AnyArray:
    """One array."""
    _header(archive, member, what)
    with archive.open(member) as stream:
        array: AnyArray = np.lib.format.read_array(stream, allow_pickle=False)
        # Reading on to the end has the checksum compared.
        stream.read(1)
    return array


_HEADER_READERS: Mapping[tuple[int, int], Callable[[Any], Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def _arrays(
    parts: Mapping[str, _Keys],
    loaded: Mapping[str, AnyArray],
    names_key: str | None,
    source: str,
    name: str,
) -> Arrays:
    for keys in parts.values():
        _refuse_unequal(loaded, keys, source)
    images = _joined([loaded[keys.images] for keys in parts.values()], source)
    words = [
        word
        for keys in parts.values()
        for word in _labels(loaded[keys.labels], f"{keys.labels} of {source}")
    ]
    splits = [split for split, keys in parts.items() for _ in range(len(loaded[keys.images]))]
    check_trainable(splits, source)
    given = None if names_key is None else _labels(loaded[names_key], f"{names_key} of {source}")
    labels, classes, remark = _classes(words, given, source)
    divided = len(parts) > 1
    counts = f" ({part_counts(splits)})" if divided else ""
    remarks = [remark, *(missing_classes(labels, classes, splits) if divided else ())]
    dataset = Dataset(
        images,
        labels,
        classes,
        val=indices_of(splits, "val"),
        test=indices_of(splits, "test"),
        groups=_groups(parts, loaded, source),
        name=name,
    )
    read = ", ".join(f"{keys.images} with {keys.labels}" for keys in parts.values())
    shape = f"{len(labels):,} images{counts} of {len(classes):,} classes (arrays {read})"
    return Arrays(dataset, shape, tuple(filter(None, remarks)))


def _refuse_unequal(loaded: Mapping[str, AnyArray], keys: _Keys, source: str) -> None:
    counts = {key: loaded[key].shape[:1] for key in (keys.images, keys.labels, keys.groups) if key}
    if len(set(counts.values())) > 1 or () in counts.values():
        held = ", ".join(
            f"{key} {length[0]:,}" if length else f"{key} none" for key, length in counts.items()
        )
        raise DataError(
            f"The arrays of {source} differ in length: {held}.",
            "Save one label for each image.",
        )


def _joined(parts: list[AnyArray], source: str) -> UInt8Array:
    """The images of all splits, one after another."""
    sizes = {array.shape[1:] for array in parts}
    if len(sizes) > 1:
        raise DataError(
            f"The images of {source} differ in shape from split to split: "
            f"{', '.join('x'.join(map(str, size)) for size in sorted(sizes))}.",
            "Bring them to one size first.",
        )
    if not parts[0].size:
        raise DataError(f"There are no images in {source}.", _FETCH_AGAIN)
    factor = _factor(parts, source)
    if len(parts) == 1 and parts[0].dtype == np.uint8:
        return parts[0]
    joined = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), np.uint8)
    start = 0
    for array in parts:
        _fill(joined[start : start + len(array)], array, factor, source)
        start += len(array)
    return joined


def _factor(parts: list[AnyArray], source: str) -> int:
    """By what the values are to be multiplied to be bytes: 255 for 0..1 as floats or truths."""
    for array in parts:
        if array.dtype.kind not in "uifb":
            raise DataError(
                f"The images of {source} have the type {array.dtype}, which is not numeric.",
                "Save them as uint8.",
            )
    if all(array.dtype == np.uint8 for array in parts):
        return 1
    kinds = {array.dtype.kind for array in parts}
    low, high = min(float(a.min()) for a in parts), max(float(a.max()) for a in parts)
    if not (low >= 0 and high <= 255):
        raise DataError(
            f"The images of {source} hold values from {low:g} to {high:g}; bytes are 0 to 255.",
            "Scale them to 0..255, round them, and save them as uint8.",
        )
    return 255 if kinds <= {"f", "b"} and high <= 1 else 1


def _fill(into: UInt8Array, array: AnyArray, factor: int, source: str) -> None:
    """Write an array as bytes, refused where a value would change."""
    step = max(1, _CHUNK_BYTES // max(array[:1].nbytes, 1))
    for start in range(0, len(array), step):
        part = array[start : start + step]
        if part.dtype == np.uint8 and factor == 1:
            into[start : start + step] = part
            continue
        scaled = part.astype(np.float64) * factor
        rounded = scaled.round()
        if not (np.abs(scaled - rounded) <= _EXACT).all():
            raise DataError(
                f"The images of {source} are floats that are not bytes divided by 255: "
                "rounding would change them.",
                "Scale them to 0..255, round them yourself, and save them as uint8.",
            )
        into[start : start + step] = rounded


def _labels(array: AnyArray, what: str) -> list[str]:
    """Labels as words, one per image."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and array.dtype.kind in "uifb":
        array = _from_one_hot(array, what)
    if array.ndim != 1:
        raise DataError(
            f"{what} has the shape {array.shape}; there must be one label per image.",
            "Save them in one dimension.",
        )
    if array.dtype.kind in "SU":
        return cleaned(_words(array))
    if array.dtype.kind not in "uifb":
        raise DataError(f"{what} is of {array.dtype}: no labels.", "Save numbers or words.")
    whole = array.astype(np.int64) if (np.abs(array) < 2**53).all() else None
    if whole is None or (whole != array).any():
        raise DataError(
            f"{what} holds numbers that are not whole, such as {array[:1].tolist()[0]!r}.",
            "A class is a word or a whole number; quantities are not fitted here.",
        )
    return [str(number) for number in whole.tolist()]


def _words(array: AnyArray) -> list[str]:
    values = array.tolist()
    if array.dtype.kind == "S":
        return [word.decode("utf-8", "backslashreplace") for word in values]
    return [str(value) for value in values]


def _from_one_hot(array: AnyArray, what: str) -> Int64Array:
    ones = ((array == 0) | (array == 1)).all() and (array.sum(axis=1) == 1).all()
    if not ones:
        raise DataError(
            f"{what} has {array.shape[1]} columns: several labels for one picture.",
            "Here each picture belongs to one class; choose one column, or split the task.",
        )
    numbers: Int64Array = array.argmax(axis=1).astype(np.int64)
    return numbers


def _classes(
    words: list[str], given: list[str] | None, source: str
) -> tuple[Int64Array, tuple[str, ...], str]:
    """Labels as numbers, the names of the classes, and a remark on those without images."""
    if given is not None:
        return named_by_source(class_numbers(words, source), given, source=source)
    labels, classes = numbered(words, source=source)
    refuse_one_class(classes, source)
    return labels, classes, ""


def _groups(
    parts: Mapping[str, _Keys], loaded: Mapping[str, AnyArray], source: str
) -> tuple[str, ...] | None:
    groups = [keys.groups for keys in parts.values() if keys.groups]
    if not groups:
        return None
    array = loaded[groups[0]]
    if array.ndim != 1 or array.dtype.kind not in "uiUS":
        raise DataError(
            f"{groups[0]} of {source} says no group for each image: {array.dtype}, {array.shape}.",
            "Save words or whole numbers, one per image.",
        )
    return tuple(_words(array))


@contextmanager
def _explained(source: str) -> Iterator[None]:
    """Turn what zipfile and NumPy leave with on damaged bytes into one sentence."""
    try:
        with warnings.catch_warnings():
            # Of headers that an older Python wrote, or that are no Python at all.
            warnings.simplefilter("ignore")
            yield
    except (SartorError, MemoryError):
        raise
    except Exception as error:  # there are a dozen kinds
        reason = shown(str(error) or type(error).__name__).rstrip(".")
        raise CorruptDataError(f"{source} is damaged: {reason}.", _FETCH_AGAIN) from error
