"""Lists of pictures in one JSON document: FiftyOne's labels.json, COCO's annotations, plain lists.

https://docs.voxel51.com/user_guide/export_datasets.html#fiftyone-image-classification-dataset
https://cocodataset.org/#format-data
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ...errors import CorruptDataError, DataError
from ..listing import Listing
from ..tolerance import flag_for, percent, tolerable
from .columns import known_columns
from .labels import cleaned, split_of
from .locate import Locator
from .rows import Described, Rows, list_rows
from .tree import FileTree, inside, is_picture, some

_MAX_BYTES = 512 << 20
_MOST_FILES = 20
_FOLDERS = ("", "annotations", "labels")


class JsonList(NamedTuple):
    """Pictures and their classes, as one document lists them."""

    written: str
    """Whose format it is."""
    labels: Mapping[str, str]
    """The class by path, as the document writes it."""
    remarks: tuple[str, ...]
    several: tuple[str, ...] = ()
    """Pictures with objects of several classes, which are not among the labels."""


def find_json(tree: FileTree) -> dict[str, str | None]:
    """The documents that may list pictures, by path, with the split that name or folder tells."""
    found: dict[str, str | None] = {}
    for path in tree.files:
        *folders, name = path.split("/")
        if not name.lower().endswith(".json") or len(folders) > 2:
            continue
        folder = folders[-1].casefold() if folders else ""
        if folder in _FOLDERS or split_of(folder) or name.lower() == "labels.json":
            found[path] = split_of(folder) or _split_of_name(name)
    return found if len(found) <= _MOST_FILES else {}


def read_json(tree: FileTree, path: str) -> JsonList | None:
    """What a document lists; None where it is something else.

    Raises:
        DataError: a picture stands twice in a list, with different labels.
    """
    if tree.size(path) > _MAX_BYTES:
        return None
    try:
        document = json.loads(tree.read(path))
    except (ValueError, RecursionError):
        return None
    source = inside(tree, path)
    if isinstance(document, dict) and isinstance(document.get("labels"), dict):
        return _of_fiftyone(document, source)
    if isinstance(document, dict) and _is_coco(document):
        return _of_coco(document, source)
    if isinstance(document, dict) and document and all(map(is_picture, document)):
        labels = {key: str(label) for key, label in document.items() if _is_label(label)}
        return JsonList("JSON of path and label", labels, _unlabelled(len(document) - len(labels)))
    return _of_records(document, source) if isinstance(document, list) else None


def _of_records(document: Sequence[Any], source: str) -> JsonList | None:
    """A list of tables such as {"image": "1.jpg", "label": "cat"}; None where it is not clear."""
    if not document or not all(isinstance(record, dict) for record in document):
        return None
    keys = [str(key) for key in document[0]]
    columns = [known_columns(keys, setting) for setting in ("image_column", "label_column")]
    if not all(columns):
        return None
    image, label = (keys[found[0]] for found in columns)
    pairs = [
        (str(record[image]), str(record[label]))
        for record in document
        if isinstance(record.get(image), str) and _is_label(record.get(label))
    ]
    labels = dict(pairs)
    odd = next((path for path, one in pairs if labels[path] != one), None)
    if odd is not None:
        raise DataError(
            f"{source} names {some([odd])} twice, with different labels.",
            "A picture has one label: correct one of the two.",
        )
    return JsonList("JSON list", labels, _unlabelled(len(document) - len(pairs)))


def list_json(
    tree: FileTree,
    lists: Mapping[str, tuple[JsonList, str | None]],
    *,
    name: str,
    most: float = 0.0,
) -> Listing:
    """The pictures that documents list: one, or one for each split.

    Args:
        most: share of the pictures that may have several classes, and are left out.

    Raises:
        DataError: pictures that are missing, or in two documents with different classes; more of
            them have several.
    """
    source = inside(tree, next(iter(lists))) if len(lists) == 1 else tree.name
    divided = len(lists) > 1
    if divided and not all(split for _, split in lists.values()):
        raise DataError(
            f"{source} holds several lists: {some(lists)}.",
            "Call them train.json, val.json and test.json, or keep one.",
        )
    paths: list[str] = []
    labels: list[str] = []
    splits: list[str | None] = []
    for place, (listed, split) in lists.items():
        folder = place.rpartition("/")[0]
        for path, label in listed.labels.items():
            beside = f"{folder}/{path}" if folder else path
            paths.append(beside if tree.holds(beside) else path)
            labels.append(label)
            splits.append(split if divided else None)
    several = _without_several([listed for listed, _ in lists.values()], source, most)
    if not paths:
        raise DataError(f"{source} gives no picture a class.", "Name another list.")
    first = next(iter(lists.values()))[0]
    facts = Described(
        name=name,
        source=source,
        shape=first.written,
        remarks=(
            *(remark for listed, _ in lists.values() for remark in listed.remarks),
            *several,
        ),
    )
    rows = Rows(paths=paths, labels=cleaned(labels), splits=splits)
    return list_rows(rows, tree, facts, Locator(tree))


def _without_several(lists: Sequence[JsonList], source: str, most: float) -> tuple[str, ...]:
    """A remark on pictures that are left out since they show several classes.

    Raises:
        DataError: they are too many for that.
    """
    several = [path for listed in lists for path in listed.several]
    count = len(several) + sum(len(listed.labels) for listed in lists)
    if not several:
        return ()
    what = f"{len(several):,} of {count:,} pictures"
    if tolerable(len(several), count, most):
        return (
            f"Left out {what} with objects of several classes: {some(several, 3)} (more than "
            f"{percent(most)} would stop).",
        )
    leave = flag_for(len(several), count)
    raise DataError(
        f"{what} of {source} have objects of several classes, such as {some(several, 3)}.",
        "Such a list is for detecting objects; here each picture belongs to one class. Cut the "
        "objects out, and put each class into a folder of its own"
        f"{f'; or go on without these pictures: {leave}' if len(several) < count else ''}.",
    )


def _of_fiftyone(document: Mapping[str, Any], source: str) -> JsonList | None:
    """{"classes": [...] or null, "labels": {path without suffix: name or number}}."""
    classes, labels = document.get("classes"), {}
    for path, target in document["labels"].items():
        label = target.get("label") if isinstance(target, dict) else target
        if label is None:
            continue
        if not _is_label(label):
            return None
        if isinstance(classes, list) and isinstance(label, int):
            if not 0 <= label < len(classes):
                raise DataError(
                    f"{source} gives {some([path])} the class {label}, but names "
                    f"{len(classes)} classes, from 0 on.",
                    "Correct the number, or name every class.",
                )
            label = classes[label]
        labels[path] = str(label)
    unlabelled = len(document["labels"]) - len(labels)
    return JsonList("FiftyOne's labels.json", labels, _unlabelled(unlabelled))


def _is_coco(document: Mapping[str, Any]) -> bool:
    parts = (document.get(key) for key in ("images", "annotations", "categories"))
    return all(isinstance(p, list) and all(isinstance(one, dict) for one in p) for p in parts)


def _of_coco(document: Mapping[str, Any], source: str) -> JsonList:
    try:
        names = {one["id"]: str(one["name"]) for one in document["categories"]}
        files = {one["id"]: str(one["file_name"]) for one in document["images"]}
        classes: dict[Any, set[str]] = defaultdict(set)
        for one in document["annotations"]:
            classes[one["image_id"]].add(names[one["category_id"]])
    except (KeyError, TypeError) as error:
        raise CorruptDataError(
            f"{source} looks like COCO's, but {error} is missing.",
            "Each annotation needs image_id and category_id, each image id and file_name.",
        ) from error
    here = {at: found for at, found in classes.items() if at in files}
    labels = {files[at]: next(iter(found)) for at, found in here.items() if len(found) == 1}
    several = tuple(files[at] for at, found in here.items() if len(found) > 1)
    unlabelled = _unlabelled(len(files) - len(here))
    return JsonList("COCO's JSON", labels, unlabelled, several)


def _unlabelled(count: int) -> tuple[str, ...]:
    what = "picture without a class" if count == 1 else "pictures without a class"
    return (f"Left out {count:,} {what}.",) if count else ()


def _is_label(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _split_of_name(name: str) -> str | None:
    words: Sequence[str] = re.split(r"[^a-z]+", name.casefold())
    return next((split for word in words if (split := split_of(word))), None)
