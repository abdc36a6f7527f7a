"""From arrays under keys to a dataset: MedMNIST's keys, those of Keras, or plain x and y.

What is not a byte is made one only where that changes no value: floats in 0..1 that were bytes
divided by 255, and whole numbers in 0..255.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ...arrays import AnyArray, Int64Array, UInt8Array
from ...errors import DataError, UsageError, unknown
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
from .tree import some

_IMAGE_WORDS = ("images", "image", "imgs", "img", "x", "data", "pictures", "arr_0")
_LABEL_WORDS = ("labels", "label", "y", "targets", "target", "arr_1")
_CLOSE = re.compile(r"^([xy])(train|test|valid|val)$|^(train|test|valid|val)([xy])$")
"""Keys whose words are not divided."""
_FETCH_AGAIN = "Fetch the file again from where it came from."
_CHUNK_BYTES = 64 << 20
_EXACT = 1e-3
"""How far a float times 255 may be from the byte that it was; float32 is off by 0.00002."""
_EXACT_OF_HALF = 0.07
"""The same for float16, whose last bit in 0.5..1 is worth 255 / 2**11 = 0.12."""


class Arrays(NamedTuple):
    """A dataset, and how it was read."""

    dataset: Dataset
    shape: str
    """In one line, for the user."""
    remarks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Where the arrays of one split are."""

    images: str
    labels: str
    groups: str | None = None


def parts_of(keys: list[str], settings: SourceSettings, source: str) -> dict[str, Keys]:
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
        images = images or found_key(keys, _IMAGE_WORDS)
        labels = labels or found_key(keys, _LABEL_WORDS)
        if images is None or labels is None:
            missing = "--image-column" if images is None else "--label-column"
            raise UsageError(
                f"{source} has no usual key for the other: {some(keys, 30)}.", f"Say {missing} too."
            )
        return {"train": Keys(images=images, labels=labels, groups=settings.group_column)}
    return _usual_parts(keys, settings.group_column, source)


def _usual_parts(keys: list[str], group_key: str | None, source: str) -> dict[str, Keys]:
    found: dict[tuple[str, str], str] = {}
    for key in keys:
        splits, kind = _meaning(key)
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
            parts[split] = Keys(images=images, labels=labels)
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
        parts = {split: Keys(images=keys_of_it.images, labels=keys_of_it.labels, groups=group_key)}
    return parts


def kinds_of(keys: Iterable[str]) -> set[str]:
    """What arrays of these keys hold: "images", "labels", or neither."""
    return {kind for _, kind in map(_meaning, keys) if kind}


def _meaning(key: str) -> tuple[list[str], str]:
    """The splits that a key names, and "images", "labels" or "": of X_train and of xtrain."""
    plain = _CLOSE.sub(r"\1\3_\2\4", key.casefold())
    words = [word for word in re.split(r"[^a-z0-9]+", plain) if word not in ("", "set", "orig")]
    splits = [split for word in words if (split := split_of(word))]
    kind = "_".join(word for word in words if not split_of(word))
    what = "images" if kind in _IMAGE_WORDS else "labels" if kind in _LABEL_WORDS else ""
    return splits, what


def found_key(keys: Mapping[str, Any] | Sequence[str], words: tuple[str, ...]) -> str | None:
    return next((key for word in words for key in keys if key.casefold() == word), None)


def dataset_of(
    parts: Mapping[str, Keys],
    loaded: Mapping[str, AnyArray],
    names_key: str | None,
    source: str,
    name: str,
) -> Arrays:
    for keys in parts.values():
        _refuse_unequal(loaded, keys, source)
    pictures, opaque = _without_alpha([loaded[keys.images] for keys in parts.values()], source)
    images = _joined(pictures, source)
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
    remarks = [opaque, remark, *(missing_classes(labels, classes, splits) if divided else ())]
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


def _refuse_unequal(loaded: Mapping[str, AnyArray], keys: Keys, source: str) -> None:
    counts = {key: loaded[key].shape[:1] for key in (keys.images, keys.labels, keys.groups) if key}
    if len(set(counts.values())) > 1 or () in counts.values():
        held = ", ".join(
            f"{key} {length[0]:,}" if length else f"{key} none" for key, length in counts.items()
        )
        raise DataError(
            f"The arrays of {source} differ in length: {held}.",
            "Save one label for each image.",
        )


def _without_alpha(parts: list[AnyArray], source: str) -> tuple[list[AnyArray], str]:
    """The images without a fourth channel that is the same everywhere, and a remark on it.

    Raises:
        DataError: it is not: what lies under what is transparent must be decided.
    """
    axis = _channel_axis(parts[0].shape)
    if axis is None:
        return parts, ""
    alphas = [array.take(3, axis) for array in parts]
    values = {value for alpha in alphas for value in (alpha.min().item(), alpha.max().item())}
    if len(values) > 1:
        raise DataError(
            f"The images of {source} have a fourth channel (transparency) with values from "
            f"{min(values):g} to {max(values):g}.",
            "Lay them over a background and save three channels. Over white, with a = x[..., 3:] / "
            "255: (x[..., :3] * a + 255 * (1 - a)).round().astype('uint8').",
        )
    kept = [array.take(range(3), axis) for array in parts]
    return kept, f"The fourth channel is {values.pop():g} everywhere (transparency): left out."


def _channel_axis(shape: tuple[int, ...]) -> int | None:
    """The axis of four channels, where there are four."""
    if len(shape) != 4 or 3 in (shape[1], shape[3]) or 1 in (shape[1], shape[3]):
        return None
    return 3 if shape[3] == 4 else 1 if shape[1] == 4 else None


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
        exact = _EXACT_OF_HALF if part.dtype == np.float16 and factor > 1 else _EXACT
        if not (np.abs(scaled - rounded) <= exact).all():
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
    nameless = int(np.isnan(array).sum()) if array.dtype.kind == "f" else 0
    if nameless:
        raise DataError(
            f"{what} says nothing (nan) for {nameless:,} of {len(array):,} images, the first of "
            f"them number {int(np.isnan(array).argmax()):,}.",
            "Take these images out, or give them a label.",
        )
    whole = array.astype(np.int64) if (np.abs(array) < 2**53).all() else None
    if whole is None or (whole != array).any():
        raise DataError(
            f"{what} holds numbers that are not whole, such as {_first_fraction(array)}.",
            "A class is a word or a whole number; quantities are not fitted here.",
        )
    return [str(number) for number in whole.tolist()]


def _first_fraction(array: AnyArray) -> str:
    """The first value that is not a whole number, or that is too large for one."""
    odd = array[(array != np.round(array)) | (np.abs(array) >= 2**53)]
    return f"{odd[0]:g}"


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
    parts: Mapping[str, Keys], loaded: Mapping[str, AnyArray], source: str
) -> tuple[str, ...] | None:
    if not any(keys.groups for keys in parts.values()):
        return None
    found: list[str] = []
    for split, keys in parts.items():
        if keys.groups is None:
            # Where only another split says it, each image stands for itself.
            found += [f"{split} {number}" for number in range(len(loaded[keys.images]))]
            continue
        array = loaded[keys.groups]
        if array.ndim != 1 or array.dtype.kind not in "uiUS":
            raise DataError(
                f"{keys.groups} of {source} says no group for each image: {array.dtype}, "
                f"{array.shape}.",
                "Save words or whole numbers, one per image.",
            )
        found += _words(array)
    return tuple(found)
