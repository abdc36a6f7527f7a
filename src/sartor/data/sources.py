"""From what a user names to a dataset: the shape of the data is recognised by looking."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ..arrays import Int64Array
from ..errors import DataError, UsageError, unknown
from ..files import can_only_be_a_path, explain_os_errors, sha256_of_file
from .dataset import Dataset
from .fixes import changes, read_fixes
from .listing import Listing
from .named.catalogue import NAMES, load_named
from .pictures.decoding import Sink
from .pictures.exclude import changed, read_exclusions, without
from .pictures.prepare import prepare, prepared_as
from .readers.archive import ZipTree, inflated_head, is_tar, open_tar
from .readers.columns import flag
from .readers.folder import GIVE_CLASSES, class_folders, find_layout, list_layout
from .readers.idx_files import find_idx, load_idx, only_set
from .readers.labels import split_of
from .readers.manifest import find_lists, list_manifests
from .readers.npz import Arrays, holds_arrays, load_npz
from .readers.tables import list_parquet
from .readers.tree import FileTree, FolderTree, inside, is_picture, shown, some
from .roster import Changes
from .settings import (
    UNFIT_SETTINGS,
    DataSettings,
    PreprocessSettings,
    SourceSettings,
)

Note = Callable[[str], None]
Opened = Arrays | Listing

_HEAD_BYTES = 512
_IDX_TYPES = frozenset((0x08, 0x09, 0x0B, 0x0C, 0x0D, 0x0E))
_ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tbz2", ".txz")
_OTHER_FORMATS: Mapping[bytes, tuple[str, str]] = {
    b"\x89PNG": ("one picture", "Name a folder; `sartor predict RUN PICTURE` takes one picture."),
    b"\xff\xd8\xff": ("one picture", "Name a folder; `sartor predict RUN PICTURE` takes one."),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "Unpack it and name the folder, or pack it as zip."),
    b"Rar!": ("a rar archive", "Unpack it and name the folder, or pack it as zip."),
    b"\x28\xb5\x2f\xfd": ("compressed by zstd", "Unpack it and name what comes of it."),
    b"\x93NUMPY": ("a single array", "Save images and labels together: numpy.savez(FILE, x=, y=)."),
    b"\x89HDF": ("an HDF5 file", "Save its arrays by numpy.savez(FILE, x=images, y=labels)."),
    b"\x80": ("a pickle, which could run programs", "Save its arrays by numpy.savez."),
}
_READ_AS = {
    "folder": "class folders",
    "split-folders": "class folders",
    "manifest": "a list",
    "parquet": "parquet",
    "npz": ".npz",
    "idx": "IDX files",
}
_SHAPES = (
    "a folder of pictures (ROOT/CLASS/*), a list of them (CSV, TSV, JSONL, lines of path and "
    "label), .parquet, .npz, IDX files, .zip or .tar"
)


def open_source(
    data: DataSettings,
    preprocess: PreprocessSettings | None = None,
    *,
    note: Note | None = None,
    on_event: Sink | None = None,
) -> Dataset:
    """The dataset that `data` describes; pictures are brought to the size that `preprocess` says.

    Raises:
        UsageError: no named set and nothing at that path; with the nearest name.
        DataError: it is not available, or cannot be read.
    """
    opened = find_source(data, note=note)
    if isinstance(opened, Dataset):
        dataset = _changed(opened, data)
    else:
        dataset = prepare(
            opened,
            preprocess or PreprocessSettings(),
            entries=_exclusions(data),
            fixes=_fixes(data, opened.pictures.names, opened.labels, opened.classes),
            root=data.source,
            on_event=on_event,
        )
    if note:
        for line in _told_of_changes(dataset, data):
            note(line)
    return dataset


def as_asked(
    dataset: Dataset,
    data: DataSettings,
    preprocess: PreprocessSettings,
    *,
    on_event: Sink | None = None,
) -> Dataset:
    """A dataset at hand, without what `data` excludes, with the labels that its fixes correct, and
    pictures as `preprocess` says.

    These are prepared again from their files, since resizing twice would give other pixels than a
    prediction, which resizes once.
    """
    origin = dataset.origin
    if origin is None:
        return _changed(dataset, data)
    entries, listing = _exclusions(data), origin.listing
    fixes = _fixes(data, listing.pictures.names, listing.labels, listing.classes)
    wanted = origin.filled_in(preprocess)
    if wanted == origin.settings and not entries and not fixes:
        return dataset
    return prepared_as(origin, wanted, entries, fixes, on_event)


def _changed(dataset: Dataset, data: DataSettings) -> Dataset:
    """A dataset that is at hand, changed as the lists that `data` names say."""
    roster = dataset.everything()
    fixes = _fixes(data, roster.names, roster.labels, dataset.classes)
    return changed(without(dataset, _exclusions(data)), {}, fixes)


def _exclusions(data: DataSettings) -> dict[str, str]:
    return read_exclusions(Path(data.exclude)) if data.exclude else {}


def _fixes(
    data: DataSettings, names: Sequence[str], labels: Int64Array, classes: Sequence[str]
) -> Changes:
    """What the table of fixes that `data` names means for these images.

    Raises:
        UsageError: as `read_fixes` and `changes`; or it is another table than the run had.
    """
    if not data.fixes:
        return Changes()
    path = Path(data.fixes)
    fixes = read_fixes(path)
    if data.fixes_sha256 not in ("", sha256_of_file(path)):
        raise UsageError(
            f"The fixes {path} are not those that this recipe was made with.",
            "Put the original file back, or name the fixes again: --fixes FILE.",
        )
    return changes(fixes, names, labels, classes, root=data.source, name=str(path))


def _told_of_changes(dataset: Dataset, data: DataSettings) -> Iterator[str]:
    roster = dataset.everything()
    fixes = roster.by_fixes
    if roster.by_list:
        yield f"{len(roster.by_list):,} left out, as {data.exclude} says"
    if fixes:
        left_out = f", {len(fixes.excluded):,} left out" if fixes.excluded else ""
        labels = "label" if len(fixes.labels) == 1 else "labels"
        yield f"{len(fixes.labels):,} {labels} corrected{left_out}, as {data.fixes} says"


def find_source(data: SourceSettings, *, note: Note | None = None) -> Dataset | Listing:
    """What `data` describes: arrays at once, or a listing of pictures that are not decoded yet.

    `note` is told what the source was recognised as, and what was left out.

    Raises:
        As `open_source`.
    """
    if data.source in NAMES:
        _refuse_settings(
            data, f"the named set {data.source}", ("format", *UNFIT_SETTINGS["folder"])
        )
        return load_named(data.source, note=note)
    path = Path(data.source)
    try:
        data.source.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"The name {shown(data.source)} is not text in UTF-8.", "Rename the file or folder."
        ) from None
    if not path.exists():
        if path.suffix or can_only_be_a_path(data.source):
            raise UsageError(
                f"There is nothing at {shown(data.source)}.",
                f"Check the path. It may be that of {_SHAPES}.",
            )
        sentence = unknown("set", data.source, NAMES)
        raise UsageError(sentence[0].upper() + sentence[1:], f"Or give the path of {_SHAPES}.")
    if path.is_dir():
        opened = _in_tree(FolderTree(path), data, path.resolve().name or "root")
    else:
        opened = _in_file(path, data, note)
    if note:
        for line in (f"{shown(data.source)}: {opened.shape}", *opened.remarks):
            note(line)
    return opened.dataset if isinstance(opened, Arrays) else opened


def at_any_place(data: SourceSettings) -> dict[str, str]:
    """The settings that are paths, in full, so that a run can go on from anywhere."""
    paths: dict[str, str] = {}
    if data.source not in NAMES:
        paths["source"] = str(Path(data.source).absolute())
    if data.image_root is not None:
        paths["image_root"] = str(Path(data.image_root).absolute())
    return paths


def _in_file(path: Path, data: SourceSettings, note: Note | None) -> Opened:
    """What a file holds, by its first bytes."""
    with explain_os_errors(f"read {shown(str(path))}"), path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    if not head:
        raise DataError(f"{path} is empty.", "Name another file.")
    kind = _kind_of_file(path, head)
    if kind == "zip":
        return _in_tree(ZipTree(path), data, _stem(path))
    if kind == "tar":
        return _in_tree(open_tar(path, note=note), data, _stem(path))
    if data.format not in ("auto", kind):
        raise UsageError(
            f"{path} cannot be read as {data.format}: it is {_READ_AS[kind]} by its content.",
            f"Say --format {kind}, or leave it out.",
        )
    _refuse_settings(data, f"{path}, which is {_READ_AS[kind]}", UNFIT_SETTINGS.get(kind, ()))
    tree = FolderTree(path.parent)
    if kind == "npz":
        return load_npz(tree, path.name, data, name=_stem(path))
    if kind == "parquet":
        return list_parquet(tree, [path.name], data, name=_stem(path))
    if kind == "manifest":
        return list_manifests(tree, {path.name: None}, data, name=_stem(path))
    return _idx_beside(path, tree)


def _kind_of_file(path: Path, head: bytes) -> str:
    """A format, or "zip" or "tar" for what holds one.

    Raises:
        DataError: it is something else.
    """
    if head.startswith(b"PK"):
        first = head[30 : 30 + int.from_bytes(head[26:28], "little")]
        return "npz" if first.endswith(b".npy") and holds_arrays(path) else "zip"
    if head.startswith(b"PAR1"):
        return "parquet"
    first = inflated_head(path, head)
    if is_tar(first):
        return "tar"
    if len(first) > 3 and first[:2] == b"\0\0" and first[2] in _IDX_TYPES:
        return "idx"
    if first is not head:
        raise DataError(
            f"{path} is compressed, and holds neither a tar archive nor an IDX file.",
            "Unpack it and name what comes of it.",
        )
    for magic, (what, hint) in _OTHER_FORMATS.items():
        if head.startswith(magic):
            raise DataError(f"{path} is {what}.", hint)
    return "manifest"


def _idx_beside(path: Path, tree: FolderTree) -> Opened:
    """The set to which an IDX file belongs; its other files lie beside it."""
    with explain_os_errors(f"read {shown(str(path.parent))}"):
        names = [each.name for each in path.parent.iterdir() if each.is_file()]
    for files in find_idx(names):
        if any(path.name in kinds.values() for kinds in files.parts.values()):
            return load_idx(tree, files, name=files.stem or path.absolute().parent.name)
    raise DataError(
        f"{path} is an IDX file, but its name does not say which labels go with it.",
        "Call the two train-images-idx3-ubyte and train-labels-idx1-ubyte.",
    )


def _in_tree(tree: FileTree, data: SourceSettings, name: str) -> Opened:
    """What a folder or an archive holds."""
    kind = _recognised(tree) if data.format == "auto" else data.format
    _refuse_settings(
        data, f"{tree.name}, which is read as {_READ_AS[kind]}", UNFIT_SETTINGS.get(kind, ())
    )
    if kind == "idx":
        return load_idx(tree, only_set(find_idx(tree.files), tree.name), name=name)
    if kind == "npz":
        return load_npz(tree, _only(tree, ".npz"), data, name=name)
    if kind == "parquet":
        return list_parquet(tree, _tables(tree), data, name=name)
    if kind == "manifest":
        return list_manifests(tree, _lists(tree), data, name=name)
    layout = find_layout(tree, data.format)
    if layout is None:
        raise _nothing_in(tree)
    listing = list_layout(tree, layout, name=name)
    if len(listing.classes) < 2:
        raise DataError(
            f"{tree.name} has pictures of only one class: {some(listing.classes)}.", GIVE_CLASSES
        )
    return listing


def _recognised(tree: FileTree) -> str:
    """The format of what a tree holds.

    Raises:
        UsageError: it can be read in two ways; with the flag that decides.
        DataError: it cannot be read at all.
    """
    endings = {path.rpartition(".")[2].lower() for path in tree.files}
    lists = find_lists(tree.files)
    kinds: list[str] = [kind for kind in ("parquet", "npz") if kind in endings]
    if find_idx(tree.files):
        kinds.append("idx")
    if lists.sure:
        kinds.append("manifest")
    if not lists.of_hub and _has_class_folders(tree, bool(kinds or lists.others)):
        kinds.append("folder")
    if not kinds and lists.others and any(map(is_picture, tree.files)):
        return "manifest"
    if len(kinds) > 1:
        raise UsageError(
            f"{tree.name} can be read as {' and as '.join(_READ_AS[kind] for kind in kinds)}.",
            f"Say {' or '.join(f'--format {kind}' for kind in kinds)}.",
        )
    return kinds[0] if kinds else "folder"


def _has_class_folders(tree: FileTree, in_doubt: bool) -> bool:
    try:
        layout = find_layout(tree)
    except (DataError, UsageError):
        # What is wrong with its folders does not matter where there is something else to read.
        if in_doubt:
            return False
        raise
    return layout is not None and len(class_folders(tree, layout)) > 1


def _lists(tree: FileTree) -> Mapping[str, str | None]:
    """The lists of a tree by path, with the split that each holds."""
    lists = find_lists(tree.files)
    if lists.sure:
        return lists.sure
    if len(lists.others) == 1:
        return {lists.others[0]: None}
    what = f"several lists: {some(lists.others)}" if lists.others else "no list of pictures"
    raise DataError(
        f"{tree.name} holds {what}.",
        "Name the list itself, or call it metadata.csv; lists for splits are called train.csv, "
        "val.csv, test.csv.",
    )


def _tables(tree: FileTree) -> list[str]:
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


def _only(tree: FileTree, ending: str) -> str:
    files = [path for path in tree.files if path.lower().endswith(ending)]
    if len(files) != 1:
        what = f"several {ending} files: {some(files)}" if files else f"no {ending} file"
        raise DataError(f"{tree.name} holds {what}.", "Name the file itself.")
    return files[0]


def _nothing_in(tree: FileTree) -> DataError:
    """What to say of a tree in which nothing is recognised."""
    pictures = [path for path in tree.files if is_picture(path)]
    if pictures:
        return DataError(
            f"{tree.name} holds pictures without class folders: {some(pictures, 3)}.",
            GIVE_CLASSES,
        )
    packed = [path for path in tree.files if path.lower().endswith(_ARCHIVE_SUFFIXES)]
    if packed:
        return DataError(
            f"There is no picture in {tree.name}, but {some(packed, 3)}.",
            f"Name the archive itself: {inside(tree, packed[0])}",
        )
    endings = Counter(f".{path.rpartition('.')[2].lower()}" for path in tree.files)
    others = [f"{count:,} {ending}" for ending, count in endings.most_common(5)]
    held = f"; it holds {', '.join(others)}" if others else ""
    return DataError(f"There is no picture in {tree.name}{held}.", f"Name {_SHAPES}.")


def _refuse_settings(data: SourceSettings, what: str, names: Iterable[str]) -> None:
    """Nothing that is asked for is ignored in silence."""
    defaults = SourceSettings()
    for name in names:
        if getattr(data, name) != getattr(defaults, name):
            raise UsageError(f"{name} means nothing for {what}.", f"Leave {flag(name)} out.")


def _stem(path: Path) -> str:
    """The name of a file without what tells its format."""
    name = path.name
    for ending in (".gz", ".bz2", ".xz"):
        name = name.removesuffix(ending)
    return Path(name).stem or path.name
