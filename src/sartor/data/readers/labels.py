"""From what a source calls its classes and its splits to numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from ...arrays import Int64Array
from ...errors import DataError
from ..natural_order import natural_key
from .tree import some

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
    "publictest": "val",
    "privatetest": "test",
}
SPLITS = ("train", "val", "test")
ALMOST_SPLIT_WORDS = frozenset(
    (
        *("dev", "eval", "evaluation", "evaluate", "holdout", "hold-out", "hold_out", "heldout"),
        *("tst", "trn", "train_val", "trainval", "tests", "trains", "unlabeled", "unlabelled"),
    )
)
"""What some call a split, and others a class."""

_WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})", re.ASCII)
_WHOLE_FLOAT = re.compile(r"(-?(?:0|[1-9]\d{0,14}))\.0+", re.ASCII)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.ASCII | re.IGNORECASE)
_OF_A_SPLIT = re.compile(r"[-_ ]?(images?|imgs?|pictures|photos|data|set|samples)$")
"""What may follow a split's name: train_images, testset."""
_BETWEEN_LABELS = re.compile(r"\s*[,;|+/&]\s*|\s+and\s+|[ _-]")
_LISTED = re.compile(r"""[\[\](){}"']""")
"""What stands around the labels where a program wrote a list: ['cat', 'dog']."""
_MAX_LABEL_LENGTH = 1_000
_MOST_FRACTIONS = 20
_FEW = 10


def split_of(word: str) -> str | None:
    """The split that a folder, a file or a cell of this name means; None where it means none."""
    plain = word.strip().casefold()
    return SPLIT_WORDS.get(plain) or SPLIT_WORDS.get(_OF_A_SPLIT.sub("", plain))


def split_of_stem(stem: str) -> str | None:
    """The split that the name of a file begins with: train-00000-of-00002, test_1, val."""
    return split_of(re.split(r"[-_. ]", stem, maxsplit=1)[0])


def split_in(stem: str) -> str | None:
    """The one split that a word of a file's name tells: imagenet-train-000000, val_1; else None."""
    found = {split_of(word) for word in re.split(r"[^A-Za-z]+", stem)} - {None}
    return found.pop() if len(found) == 1 else None


def cleaned(labels: Iterable[str]) -> list[str]:
    """Labels as written in a table: without the spaces around them, 3.0 as 3 if all are numbers."""
    stripped = [label.strip() for label in labels]
    distinct = set(stripped)
    if all(_WHOLE.fullmatch(label) or _WHOLE_FLOAT.fullmatch(label) for label in distinct):
        return [label.partition(".")[0] for label in stripped]
    return stripped


def numbered(labels: Sequence[str], *, source: str) -> tuple[Int64Array, tuple[str, ...]]:
    """The number of each label, int64 (N,), and the names of the classes in their order.

    Whole numbers stand in numeric order, other names in natural order; only what occurs is a class.

    Raises:
        DataError: a name is far too long, or each picture has a label of its own.
    """
    distinct = set(labels)
    longest = max(distinct, key=len, default="")
    if len(longest) > _MAX_LABEL_LENGTH:
        raise DataError(
            f"A label of {source} has {len(longest):,} characters: {longest[:30]}...",
            "Is it the right column? --label-column names another.",
        )
    if len(distinct) == len(labels) > _FEW:
        raise DataError(
            f"Each of the {len(labels):,} pictures of {source} has a label of its own: "
            f"{some(labels[:_FEW], 3)}, ...",
            "Is it the right column? --label-column names another.",
        )
    fractions = [label for label in distinct if not _WHOLE.fullmatch(label)]
    if len(fractions) > _MOST_FRACTIONS and all(map(_NUMBER.fullmatch, distinct)):
        raise DataError(
            f"The labels of {source} are quantities, such as {some(sorted(fractions), 3)}.",
            "A class is a word or a whole number; quantities are not fitted here.",
        )
    classes = sorted_names(distinct)
    index = {name: number for number, name in enumerate(classes)}
    return np.array([index[label] for label in labels], dtype=np.int64), classes


def class_numbers(labels: Sequence[str], source: str) -> list[int]:
    """Labels that are numbers of classes, as numbers.

    Raises:
        DataError: one is not a whole number.
    """
    odd = next((label for label in labels if not _WHOLE.fullmatch(label)), None)
    if odd is not None:
        raise DataError(
            f"{source} names its classes, but has the label {some([odd])}, which is not a number.",
            "Number the labels from 0, or take the names of the classes out.",
        )
    return [int(label) for label in labels]


def named_by_source(
    numbers: Sequence[int], names: Sequence[str], *, source: str
) -> tuple[Int64Array, tuple[str, ...], str]:
    """Labels of a source that names its classes: int64 (N,), the names, and a remark.

    The order is that of the source; names without pictures are left out, and stand in the remark.

    Raises:
        DataError: a number has no name, or a name occurs twice.
    """
    values = np.array(numbers, dtype=np.int64)
    if values.min() < 0 or values.max() >= len(names):
        odd = values.min() if values.min() < 0 else values.max()
        raise DataError(
            f"{source} has the label {odd}, but names {len(names)} classes, from 0 on.",
            "Correct the labels, or name every class.",
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise DataError(f"{source} gives two classes the name {some([twice])}.", "Rename one.")
    occurring, labels = np.unique(values, return_inverse=True)
    if len(occurring) < 2:
        raise DataError(
            f"Every picture of {source} has the same label: {some([names[occurring[0]]])}.",
            "Add another class.",
        )
    present = set(occurring.tolist())
    empty = [name for number, name in enumerate(names) if number not in present]
    what = "class without a picture" if len(empty) == 1 else "classes without pictures"
    remark = f"Left out {len(empty):,} {what}: {some(empty)}." if empty else ""
    classes = tuple(names[number] for number in occurring.tolist())
    return labels.astype(np.int64), classes, remark


def several_in_one(classes: Sequence[str]) -> str:
    """A sentence on a class whose name is made of names of others: "cat,dog" beside cat and dog."""
    plain = {name.strip().casefold() for name in classes}
    for name in classes:
        parts = [part.strip() for part in _BETWEEN_LABELS.split(_LISTED.sub("", name))]
        if len(parts) > 1 and all(part.casefold() in plain for part in parts):
            return (
                f"The class {some([name])} looks like {' and '.join(parts)} at once; here each "
                "picture belongs to one class."
            )
    return ""


def sorted_names(names: Iterable[str]) -> tuple[str, ...]:
    """Whole numbers in numeric order, other names in natural order."""
    names = list(names)
    if all(map(_WHOLE.fullmatch, names)):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names, key=natural_key))


def indices_of(splits: Sequence[str | None], part: str) -> Int64Array | None:
    """Where `part` stands in `splits`, int64, ascending; None where nothing does."""
    found = np.array([at for at, split in enumerate(splits) if split == part], dtype=np.int64)
    return found if len(found) else None


def check_trainable(splits: Sequence[str | None], source: str) -> None:
    """Refuse a source all of whose pictures are set aside.

    Raises:
        DataError: no picture is left to train on.
    """
    if splits and all(split in ("val", "test") for split in splits):
        raise DataError(
            f"{source} has no pictures for training: all are for validation or testing.",
            "Add a train part, or name a single part, which is then split.",
        )


def part_counts(splits: Sequence[str | None]) -> str:
    """The sizes of the splits for a line about the source: "train 80, test 20"."""
    found = ((part, sum(split == part for split in splits)) for part in SPLITS)
    return ", ".join(f"{part} {count:,}" for part, count in found if count)


def missing_classes(
    labels: Int64Array, classes: Sequence[str], splits: Sequence[str | None]
) -> list[str]:
    """A sentence for each split in which classes have no picture."""
    remarks = []
    given = np.array([split or "train" for split in splits])
    for part in SPLITS:
        present = set(labels[given == part].tolist())
        absent = [name for number, name in enumerate(classes) if number not in present]
        if present and absent:
            what = "class has" if len(absent) == 1 else "classes have"
            remarks.append(f"{len(absent):,} {what} no picture in {part}: {some(absent)}.")
    return remarks
