"""Which files of a source are IDX files, and which of them belong together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ...arrays import Int64Array, UInt8Array
from ...errors import DataError
from ..dataset import Dataset
from .idx import join_parts, pair, read_file, read_idx
from .keyed_arrays import Arrays
from .labels import SPLITS, missing_classes, part_counts, split_of
from .tree import FileTree, inside, some

_NAME = re.compile(
    r"(?P<stem>.*?)[-_.]?(?P<kind>images|labels)[-_.]idx\d[-_.]ubyte(\.gz)?", re.IGNORECASE
)
_GIVE_FILES = "A folder of IDX files holds train-images-idx3-ubyte and train-labels-idx1-ubyte."


@dataclass(frozen=True, kw_only=True)
class IdxFiles:
    """The files of one set: the path of images and labels of each split."""

    stem: str
    """Folder and name up to what tells the splits: "" or such as "raw/emnist-letters"."""
    parts: Mapping[str, Mapping[str, str]]
    """By split, then by kind; a set without splits is all "train"."""


def find_idx(paths: Iterable[str]) -> list[IdxFiles]:
    """The sets whose files are called as IDX files are: train-images-idx3-ubyte, also with .gz."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    # Where a file is there with and without .gz, the one without comes first, and is taken.
    for path in sorted(paths):
        folder, _, name = path.rpartition("/")
        match = _NAME.fullmatch(name)
        if match is None:
            continue
        words = re.split(r"[-_.]", match["stem"])
        split = "test" if words[-1] == "t10k" else split_of(words[-1])
        stem = match["stem"][: -len(words[-1])].rstrip("-_.") if split else match["stem"]
        parts = found.setdefault(f"{folder}/{stem}".strip("/"), {})
        parts.setdefault(split or "train", {}).setdefault(match["kind"].lower(), path)
    return [IdxFiles(stem=stem, parts=parts) for stem, parts in found.items()]


def load_idx(tree: FileTree, files: IdxFiles, *, name: str) -> Arrays:
    """The dataset in the usual files of an MNIST-like set: training, validation, test, in order.

    Raises:
        DataError: a file is missing, or the parts do not fit together.
        CorruptDataError: a file is damaged.
        FileError: a file cannot be opened.
    """
    loaded = {
        split: _load_part(tree, files.parts[split]) for split in SPLITS if split in files.parts
    }
    if "train" not in loaded:
        raise DataError(f"{tree.name} holds no train-images-idx3-ubyte.", _GIVE_FILES)
    dataset = join_parts(loaded["train"], loaded.get("test"), val=loaded.get("val"), name=name)
    dataset = _without_gaps(dataset)
    divided = [split for split, (_, labels) in loaded.items() for _ in range(len(labels))]
    counts = f" ({part_counts(divided)})" if len(loaded) > 1 else ""
    where = f": {files.stem}" if files.stem else ""
    classes = dataset.classes
    return Arrays(
        dataset,
        f"{len(dataset):,} images{counts} of {len(classes):,} classes (IDX files{where})",
        tuple(missing_classes(dataset.labels, classes, divided)) if len(loaded) > 1 else (),
    )


def only_set(found: list[IdxFiles], source: str) -> IdxFiles:
    """The set, where there is one.

    Raises:
        DataError: there are several, or none.
    """
    if len(found) != 1:
        what = f"the IDX files of {len(found)} sets: {some(one.stem for one in found)}"
        raise DataError(
            f"{source} holds {what if found else 'no train-images-idx3-ubyte'}.",
            "Name the file of images of one set." if found else _GIVE_FILES,
        )
    return found[0]


def _load_part(tree: FileTree, files: Mapping[str, str]) -> tuple[UInt8Array, Int64Array]:
    if len(files) < 2:
        present = next(iter(files.values())).rpartition("/")[2]
        swapped = {"images": ("labels", "1"), "labels": ("images", "3")}
        kind, (other, dimensions) = next((kind, swapped[kind]) for kind in swapped if kind in files)
        before = present[: present.lower().rindex(kind)]
        raise DataError(
            f"{tree.name} holds {present}, but no {before}{other}-idx{dimensions}-ubyte.",
            "Put the missing file beside it.",
        )
    images, labels = (_read(tree, files[kind]) for kind in ("images", "labels"))
    return pair(
        images,
        labels,
        images_source=inside(tree, files["images"]),
        labels_source=inside(tree, files["labels"]),
    )


def _read(tree: FileTree, path: str) -> UInt8Array:
    place = tree.place(path)
    content = read_file(place) if place else bytearray(tree.read(path))
    return read_idx(content, source=inside(tree, path))


def _without_gaps(dataset: Dataset) -> Dataset:
    """The dataset with the labels that occur as its classes; 1 to 26 are no 27 classes."""
    occurring, labels = np.unique(dataset.labels, return_inverse=True)
    if len(occurring) == len(dataset.classes):
        return dataset
    return Dataset(
        dataset.images,
        labels.astype(np.int64),
        tuple(str(number) for number in occurring.tolist()),
        val=dataset.val,
        test=dataset.test,
        name=dataset.name,
    )
