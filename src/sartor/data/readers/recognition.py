"""What a folder or an archive holds: the shape of its data, found by names, then by looking."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ...errors import DataError, SartorError, UsageError
from ..listing import Listing
from ..settings import SourceSettings
from .beside import head_of, lists_of_pictures, look_like_parts
from .class_names import may_name_classes, read_class_names
from .folder import GIVE_CLASSES, class_folders, find_layout, list_layout
from .idx_files import find_idx
from .json_lists import JsonList, find_json, read_json
from .labels import split_of
from .manifest import Lists, find_lists, list_manifests
from .npy import find_npy
from .pixel_tables import PixelLayout, pixel_layout
from .tree import FileTree, inside, is_picture, some
from .webdataset import Shards, holds_described_samples, holds_samples

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tbz2", ".txz")
READ_AS = {
    "folder": "class folders",
    "split-folders": "class folders",
    "manifest": "a list",
    "parquet": "parquet",
    "npz": ".npz",
    "npy": ".npy",
    "idx": "IDX files",
    "pixels": "a table of pixels",
    "webdataset": "WebDataset",
    "json": "a list in JSON",
}
SHAPES = (
    "a folder of pictures (ROOT/CLASS/*), a list of them (CSV, TSV, JSONL, lines of path and "
    "label), .parquet, .npz, IDX files, .zip or .tar"
)
HEAD_BYTES = 1 << 16
"""How much of a list is looked at to see whether it holds pixels."""


def recognised(tree: FileTree, data: SourceSettings) -> tuple[str, tuple[str, ...]]:
    """The format of what a tree holds, and remarks on what could be read in another way.

    Raises:
        UsageError: it can be read in two ways; with the flag that decides.
        DataError: it cannot be read at all.
    """
    endings = {path.rpartition(".")[2].lower() for path in tree.files}
    pictures = any(map(is_picture, tree.files))
    kinds: list[str] = [kind for kind in ("parquet", "npz") if kind in endings]
    if find_idx(tree.files):
        kinds.append("idx")
    if find_npy(tree.files):
        kinds.append("npy")
    # Opened as shards, they hold samples of one kind or the other.
    if isinstance(tree, Shards) or holds_samples(tree.files):
        return "webdataset", ()
    if not pictures and find_pixels(tree):
        return "pixels", ()
    if pictures and "json" in endings and json_lists(tree):
        kinds.append("json")
    lists = _lists_but_class_names(tree)
    if lists.sure:
        kinds.append("manifest")
    if not lists.of_hub and _has_class_folders(tree, bool(kinds or lists.others)):
        kinds.append("folder")
    if not kinds and lists.others and pictures:
        return "manifest", ()
    if not kinds and pictures and holds_described_samples(tree):
        return "webdataset", ()
    if kinds == ["folder"] and lists.others:
        return _folders_or_list(tree, lists.others, data)
    if len(kinds) > 1:
        raise _two_ways(tree, kinds)
    return kinds[0] if kinds else "folder", ()


def find_pixels(tree: FileTree) -> dict[str, PixelLayout]:
    """The tables of pixels at the top of a tree."""
    lists = find_lists(tree.files)
    found = {}
    for path in (*lists.sure, *lists.others):
        layout = pixel_layout(head_of(tree, path, HEAD_BYTES))
        if layout is not None:
            found[path] = layout
    return found


def json_lists(tree: FileTree) -> dict[str, tuple[JsonList, str | None]]:
    """The JSON documents that list pictures of a tree, each with the split that it holds."""
    read = ((path, read_json(tree, path), split) for path, split in find_json(tree).items())
    return {path: (listed, split) for path, listed, split in read if listed is not None}


def lists_of(tree: FileTree) -> Mapping[str, str | None]:
    """The lists of a tree by path, with the split that each holds."""
    lists = _lists_but_class_names(tree)
    if lists.sure:
        return lists.sure
    others = lists.others
    if len(others) > 1:
        others = tuple(lists_of_pictures(tree, others)) or others
    if len(others) == 1:
        return {others[0]: None}
    what = f"several lists: {some(others)}" if others else "no list of pictures"
    raise DataError(
        f"{tree.name} holds {what}.",
        "Name the list itself, or call it metadata.csv; lists for splits are called train.csv, "
        "val.csv, test.csv.",
    )


def _lists_but_class_names(tree: FileTree) -> Lists:
    lists = find_lists(tree.files)
    others = tuple(
        path
        for path in lists.others
        if not (may_name_classes(path) and read_class_names(tree, path))
    )
    return lists._replace(others=others)


def _folders_or_list(
    tree: FileTree, others: Sequence[str], data: SourceSettings
) -> tuple[str, tuple[str, ...]]:
    """Whether folders are classes, where a list beside them names their pictures.

    Raises:
        UsageError: the two tell different classes.
    """
    lists, layout = lists_of_pictures(tree, others), find_layout(tree)
    if not lists or layout is None:
        return "folder", ()
    if not layout.splits and look_like_parts(sorted(class_folders(tree, layout))):
        return "manifest", ()
    unread = []
    for path, column in lists.items():
        try:
            listed = list_manifests(tree, {path: None}, data, name="")
        except SartorError:
            unread.append(
                f"{path} names pictures in its column {column}, but folders are the classes here; "
                "--format manifest reads the list."
            )
            continue
        if not _same_classes(listed, list_layout(tree, layout, name="")):
            raise UsageError(
                f"{tree.name} can be read as class folders and as a list: {path} gives the "
                f"pictures other classes ({some(listed.classes, 3)}) than their folders "
                f"({some(sorted(class_folders(tree, layout)), 3)}).",
                "Say --format manifest or --format folder.",
            )
    return "folder", tuple(unread)


def _same_classes(listed: Listing, in_folders: Listing) -> bool:
    """Whether two listings put the pictures that they share into the same classes."""
    labels = dict(zip(in_folders.pictures.names, in_folders.labels.tolist(), strict=True))
    pairs = {
        (labels[name], label)
        for name, label in zip(listed.pictures.names, listed.labels.tolist(), strict=True)
        if name in labels
    }
    return len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs})


def _has_class_folders(tree: FileTree, in_doubt: bool) -> bool:
    try:
        layout = find_layout(tree)
    except (DataError, UsageError):
        # What is wrong with its folders does not matter where there is something else to read.
        if in_doubt:
            return False
        raise
    return layout is not None and len(class_folders(tree, layout)) > 1


def _two_ways(tree: FileTree, kinds: Sequence[str]) -> UsageError:
    return UsageError(
        f"{tree.name} can be read as {' and as '.join(READ_AS[kind] for kind in kinds)}.",
        f"Say {' or '.join(f'--format {kind}' for kind in kinds)}.",
    )


def parquet_files(tree: FileTree) -> list[str]:
    """The parquet files of a tree, which belong to one data set."""
    files = [path for path in tree.files if path.lower().endswith(".parquet")]
    if not files:
        raise DataError(f"{tree.name} holds no parquet file.", "Name another folder.")
    # The hub has a folder for each configuration, in which there may be one for each split.
    folders = {
        "/".join(part for part in path.split("/")[:-1] if not split_of(part)) for path in files
    }
    if len(folders) > 1:
        raise DataError(
            f"{tree.name} holds parquet files of several sets, in {some(sorted(folders))}.",
            "Name the folder of one of them.",
        )
    return files


def only(tree: FileTree, ending: str) -> str:
    files = [path for path in tree.files if path.lower().endswith(ending)]
    if len(files) != 1:
        what = f"several {ending} files: {some(files)}" if files else f"no {ending} file"
        raise DataError(f"{tree.name} holds {what}.", "Name the file itself.")
    return files[0]


def only_npy(tree: FileTree) -> tuple[str, dict[str, str]]:
    """The folder whose .npy files belong together, and the files by name."""
    found = find_npy(tree.files)
    if len(found) != 1:
        what = f"arrays in several folders: {some(found)}" if found else "no X.npy and y.npy"
        raise DataError(f"{tree.name} holds {what}.", "Name the folder of one set.")
    return next(iter(found.items()))


def nothing_in(tree: FileTree) -> DataError:
    """What to say of a tree in which nothing is recognised."""
    pictures = [path for path in tree.files if is_picture(path)]
    if pictures:
        return DataError(
            f"{tree.name} holds pictures without class folders: {some(pictures, 3)}.",
            GIVE_CLASSES,
        )
    packed = [path for path in tree.files if path.lower().endswith(ARCHIVE_SUFFIXES)]
    if packed:
        return DataError(
            f"There is no picture in {tree.name}, but {some(packed, 3)}.",
            f"Name the archive itself: {inside(tree, packed[0])}",
        )
    endings = Counter(f".{path.rpartition('.')[2].lower()}" for path in tree.files)
    others = [f"{count:,} {ending}" for ending, count in endings.most_common(5)]
    held = f"; it holds {', '.join(others)}" if others else ""
    return DataError(f"There is no picture in {tree.name}{held}.", f"Name {SHAPES}.")
