"""From what a user names to a dataset: the shape of the data is recognised by looking."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..arrays import Int64Array
from ..errors import DataError, UsageError, unknown
from ..files import can_only_be_a_path, explain_os_errors, sha256_of_file
from .dataset import Dataset, refuse_strange_parts
from .fixes import changes, read_fixes
from .listing import Listing
from .named.catalogue import NAMES, load_named
from .pictures.decoding import Sink
from .pictures.exclude import changed, read_exclusions, without
from .pictures.prepare import Better, prepare, prepared_as
from .readers.archive import ZipTree, inflated_head, is_tar, open_tar
from .readers.beside import head_of
from .readers.class_names import are_numbers, may_name_classes, read_class_names, renamed
from .readers.columns import flag
from .readers.folder import GIVE_CLASSES, find_layout, list_layout
from .readers.idx_files import find_idx, load_idx, only_set
from .readers.json_lists import list_json, read_json
from .readers.keyed_arrays import Arrays
from .readers.manifest import list_manifests
from .readers.npy import find_npy, load_npy
from .readers.npz import holds_arrays, load_npz
from .readers.pixel_columns import load_pixel_columns
from .readers.pixel_tables import load_pixels, pixel_layout
from .readers.recognition import (
    HEAD_BYTES,
    READ_AS,
    SHAPES,
    find_pixels,
    json_lists,
    lists_of,
    nothing_in,
    only,
    only_npy,
    parquet_files,
    recognised,
)
from .readers.rows import common_folder
from .readers.tables import list_parquet
from .readers.tree import FileTree, FolderTree, shown, some
from .readers.webdataset import list_samples, open_shards, shards_of
from .roster import Changes
from .settings import (
    UNFIT_SETTINGS,
    DataSettings,
    PreprocessSettings,
    SourceSettings,
)

Note = Callable[[str], None]
Opened = Arrays | Listing

_FIRST_BYTES = 512
_IDX_TYPES = frozenset((0x08, 0x09, 0x0B, 0x0C, 0x0D, 0x0E))
_OTHER_FORMATS: Mapping[bytes, tuple[str, str]] = {
    b"\x89PNG": ("one picture", "Name a folder; `sartor predict RUN PICTURE` takes one picture."),
    b"\xff\xd8\xff": ("one picture", "Name a folder; `sartor predict RUN PICTURE` takes one."),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "Unpack it and name the folder, or pack it as zip."),
    b"Rar!": ("a rar archive", "Unpack it and name the folder, or pack it as zip."),
    b"\x28\xb5\x2f\xfd": ("compressed by zstd", "Unpack it and name what comes of it."),
    b"\x89HDF": ("an HDF5 file", "Save its arrays by numpy.savez(FILE, x=images, y=labels)."),
    b"\x80": ("a pickle, which could run programs", "Save its arrays by numpy.savez."),
}


def open_source(
    data: DataSettings,
    preprocess: PreprocessSettings | None = None,
    *,
    note: Note | None = None,
    better: Better | None = None,
    on_event: Sink | None = None,
) -> Dataset:
    """The dataset that `data` describes; pictures are brought to the size that `preprocess` says.

    Args:
        better: asked for other settings when size and channels are known, before decoding.

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
            max_unreadable=data.max_unreadable,
            better=better,
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
    return prepared_as(origin, wanted, entries, fixes, on_event, max_unreadable=data.max_unreadable)


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
    if data.exclude and roster.by_list:
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
        if note and Path(data.source).exists():
            note(f"{data.source} is the named set; what lies here is ./{data.source}")
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
                f"Check the path. It may be that of {SHAPES}.",
            )
        sentence = unknown("set", data.source, NAMES)
        raise UsageError(sentence[0].upper() + sentence[1:], f"Or give the path of {SHAPES}.")
    if path.is_dir():
        opened = _in_tree(FolderTree(path), data, path.resolve().name or "root", note)
    else:
        opened = _in_file(path, data, note)
    if note:
        for line in (f"{shown(data.source)}: {opened.shape}", *opened.remarks):
            note(line)
    found = opened.dataset if isinstance(opened, Arrays) else opened
    refuse_strange_parts(found)
    return found


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
    if not path.is_file():
        raise DataError(
            f"{shown(str(path))} is a device or a pipe, not a file.", "Save the data as a file."
        )
    with explain_os_errors(f"read {shown(str(path))}"), path.open("rb") as stream:
        head = stream.read(_FIRST_BYTES)
    if not head:
        raise DataError(f"{path} is empty.", "Name another file.")
    kind = _kind_of_file(path, head)
    if kind == "zip":
        return _in_tree(ZipTree(path), data, _stem(path), note)
    if kind == "tar":
        return _in_tree(open_tar(path, note=note), data, _stem(path), note)
    if data.format not in ("auto", kind):
        raise UsageError(
            f"{path} cannot be read as {data.format}: it is {READ_AS[kind]} by its content.",
            f"Say --format {kind}, or leave it out.",
        )
    _refuse_settings(data, f"{path}, which is {READ_AS[kind]}", UNFIT_SETTINGS.get(kind, ()))
    opened = _file_read_as(kind, path, data)
    with explain_os_errors(f"read {shown(str(path.parent))}"):
        beside = [each.name for each in path.parent.iterdir() if each != path]
    return _with_class_names(opened, FolderTree(path.parent), sorted(beside))


def _file_read_as(kind: str, path: Path, data: SourceSettings) -> Opened:
    """What a single file holds, or those that go with it, in one format."""
    tree, name = FolderTree(path.parent), _stem(path)
    if kind == "npz":
        return load_npz(tree, path.name, data, name=name)
    if kind == "npy":
        return _npy_beside(path, tree, data)
    if kind == "pixels":
        layout = pixel_layout(head_of(tree, path.name, HEAD_BYTES))
        assert layout is not None
        return load_pixels(tree, {path.name: layout}, data, name=name)
    if kind == "parquet":
        return _in_parquet(tree, [path.name], data, name)
    if kind == "json":
        return _json_of(path, tree, data)
    if kind == "manifest":
        return list_manifests(tree, {path.name: None}, data, name=name)
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
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if first is not head:
        raise DataError(
            f"{path} is compressed, and holds neither a tar archive nor an IDX file.",
            "Unpack it and name what comes of it.",
        )
    for magic, (what, hint) in _OTHER_FORMATS.items():
        if head.startswith(magic):
            raise DataError(f"{path} is {what}.", hint)
    if path.suffix.lower() == ".json":
        return "json"
    tree = FolderTree(path.parent)
    return "pixels" if pixel_layout(head_of(tree, path.name, HEAD_BYTES)) else "manifest"


def _in_parquet(tree: FileTree, files: list[str], data: SourceSettings, name: str) -> Opened:
    """Pixels, pictures or the paths of pictures in parquet files."""
    pixels = load_pixel_columns(tree, files, data, name=name)
    return list_parquet(tree, files, data, name=name) if pixels is None else pixels


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


def _npy_beside(path: Path, tree: FolderTree, data: SourceSettings) -> Opened:
    """The arrays to which one belongs; the others lie beside it."""
    with explain_os_errors(f"read {shown(str(path.parent))}"):
        names = sorted(each.name for each in path.parent.iterdir() if each.is_file())
    found = find_npy(names)
    if not found:
        raise DataError(
            f"{path} is a single array, and no other beside it is called as its labels are.",
            "Call the two X.npy and y.npy, or save them together: numpy.savez(FILE, x=, y=).",
        )
    return load_npy(tree, "", found[""], data, name=path.absolute().parent.name)


def _json_of(path: Path, tree: FolderTree, data: SourceSettings) -> Opened:
    listed = read_json(tree, path.name)
    if listed is None:
        raise DataError(
            f"{path} is not a list of pictures that is known here.",
            "Known are FiftyOne's labels.json, COCO's annotations, and {path: label}. Or write a "
            "CSV: path,label.",
        )
    lists = {path.name: (listed, None)}
    name, most = path.absolute().parent.name, data.max_unreadable
    return list_json(tree, lists, name=name, most=most)


def _in_tree(tree: FileTree, data: SourceSettings, name: str, note: Note | None) -> Opened:
    """What a folder or an archive holds."""
    folder = "".join(f"{one}/" for one in common_folder(tree.files))
    beside = [path for path in tree.files if "/" not in path.removeprefix(folder)]
    at_hand = tree
    shards = shards_of(tree.files) if data.format in ("auto", "webdataset") else []
    tree = (open_shards(tree, shards, note) if shards else None) or tree
    kind, remarks = recognised(tree, data) if data.format == "auto" else (data.format, ())
    _refuse_settings(
        data, f"{tree.name}, which is read as {READ_AS[kind]}", UNFIT_SETTINGS.get(kind, ())
    )
    opened = _read_as(kind, tree, data, name)
    return _with_remarks(_with_class_names(opened, at_hand, beside), remarks)


def _read_as(kind: str, tree: FileTree, data: SourceSettings, name: str) -> Opened:
    """What a tree holds in one format."""
    if kind == "idx":
        return load_idx(tree, only_set(find_idx(tree.files), tree.name), name=name)
    if kind == "npz":
        return load_npz(tree, only(tree, ".npz"), data, name=name)
    if kind == "npy":
        return load_npy(tree, *only_npy(tree), data, name=name)
    if kind == "pixels":
        return load_pixels(tree, find_pixels(tree), data, name=name)
    if kind == "parquet":
        return _in_parquet(tree, parquet_files(tree), data, name)
    if kind == "manifest":
        return list_manifests(tree, lists_of(tree), data, name=name)
    if kind == "webdataset":
        return list_samples(tree, name=name)
    if kind == "json":
        return list_json(tree, json_lists(tree), name=name, most=data.max_unreadable)
    layout = find_layout(tree, data.format)
    if layout is None:
        raise nothing_in(tree)
    listing = list_layout(tree, layout, name=name)
    if len(listing.classes) < 2:
        raise DataError(
            f"{tree.name} has pictures of only one class: {some(listing.classes)}.", GIVE_CLASSES
        )
    return listing


def _with_class_names(opened: Opened, tree: FileTree, beside: Iterable[str]) -> Opened:
    """The same with names for classes that are only numbers, where a file beside gives them."""
    classes = opened.dataset.classes if isinstance(opened, Arrays) else opened.classes
    if not are_numbers(classes):
        return opened
    for path in filter(may_name_classes, beside):
        known = read_class_names(tree, path)
        if known is None:
            continue
        names, remark = renamed(classes, known)
        if isinstance(opened, Listing):
            opened = replace(opened, classes=names)
        elif names != classes:
            opened = opened._replace(dataset=replace(opened.dataset, classes=names))
        return _with_remarks(opened, (remark,))
    return opened


def _with_remarks(opened: Opened, remarks: tuple[str, ...]) -> Opened:
    if isinstance(opened, Arrays):
        return opened._replace(remarks=(*opened.remarks, *remarks))
    return replace(opened, remarks=(*opened.remarks, *remarks))


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
