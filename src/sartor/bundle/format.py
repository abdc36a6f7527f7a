"""A bundle on disk: a folder or one .zip, which hold the same files, and bundle.json about them.

bundle.json names every other file with its SHA-256 and its size. Its last line is the SHA-256 of
its own bytes, with zeros in the place of these 64 digits: that number stands for the whole bundle.
Whatever is read of a bundle is held against these first, so that no part that was changed, cut off
or swapped is ever used. A .zip is stored without compression, its files in a fixed order with fixed
times: equal content gives equal bytes.
"""

from __future__ import annotations

import io
import json
import re
import stat
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self, TypeVar

from .. import files
from ..data.pictures.preprocess import Preprocess
from ..data.settings import BACKGROUNDS, INK_WAYS, RESAMPLINGS, RESIZE_WAYS
from ..errors import BundleError, DataError, UsageError
from ..inference.calibration import Calibration
from ..inference.familiarity import Ranges, readable
from ..wording import reason

FORMAT = 1
RECORD = "bundle.json"
WEIGHTS, ONNX, PROGRAM, SOURCE = "model.safetensors", "model.onnx", "program.pt2", "model.py"
CALIBRATION, CARD = "calibration.safetensors", "README.md"
INT8 = "model.int8.onnx"
_TELLING = (RECORD, WEIGHTS, ONNX)
"""Files of which one at least lies in every bundle, also in a part of one."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SEAL = re.compile(rb'"sha256": "([0-9a-f]{64})"\n}\n\Z')
_LARGEST_RECORD = 1 << 26
_PART_SUFFIXES = (".onnx", ".safetensors", ".pt2", ".json")
_MOST_FILES = 10_000
_LARGEST_SIDE = 4096
"""As that of a recipe."""
_LONGEST_NAME = 255
_TIME = (1980, 1, 1, 0, 0, 0)
_LOSSES = ("cross-entropy", "bce", "mse")
_VIEWS = ("none", "flip", "shift", "flip-shift")
_LAYOUTS = ("contiguous", "channels-last")
_Kind = TypeVar("_Kind", bound="Bundle")


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The network of a bundle: enough to build it where it is a registered one."""

    model: str
    """Name in the registry, or of the user's own class or function."""
    own: bool
    """Whether it is a network of the user's own, which no name here builds."""
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)
    input_shape: tuple[int, int, int]
    """Channels, height and width."""
    num_classes: int
    parameters: int
    loss: str
    """What the outputs mean."""
    tta: str
    """Views that are averaged over."""
    memory_format: str
    """Layout of images in memory that the network was trained with."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**vars(self), "model_kwargs": dict(self.model_kwargs)}


@dataclass(frozen=True, eq=False, kw_only=True)
class Bundle:
    """A bundle that was opened: what it says, and the bytes of its files once asked for."""

    path: Path
    record: Mapping[str, Any]
    """All of bundle.json."""
    sha256: str
    """Stands for the whole bundle: it covers bundle.json, and by it every other file."""
    classes: tuple[str, ...]
    """What each column of the probabilities means."""
    preprocess: Preprocess
    calibration: Calibration
    architecture: Architecture
    _files: Mapping[str, tuple[str, int]]
    """SHA-256 and size of each file."""

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """A bundle's folder or .zip; bundle.json is checked, other files when they are read.

        Raises:
            BundleError: it is none, damaged, or of a newer format.
        """
        where = Path(path)
        if where.suffix.lower() in _PART_SUFFIXES and where.is_file():
            raise BundleError(
                f"{where} is a single file, not a bundle with all that belongs to it.",
                "Name the bundle's folder or its .zip.",
            )
        content = _read(where, RECORD, _LARGEST_RECORD)
        if content is None:
            raise BundleError(
                f"{where} is not a bundle, or only a part of one: it holds no {RECORD}.",
                "Copy the whole bundle, or make one of a run: sartor export RUN --out NAME",
            )
        record, sha256 = _checked_record(content, where)
        with _explained(f"The {RECORD} of {where}"):
            found = _parsed(cls, where, record, sha256)
        with _explained(f"The calibration of {where}"):
            return replace(found, calibration=_calibration(found))

    @property
    def input_ranges(self) -> Ranges:
        """What is usual among the training images, in a few figures."""
        return readable(self.record.get("input_ranges"))

    @property
    def names(self) -> tuple[str, ...]:
        """Its files, without bundle.json."""
        return tuple(self._files)

    def read(self, name: str) -> bytes:
        """The content of a file, which is the one that was exported.

        Raises:
            BundleError: there is no such file, or it was changed.
        """
        if name not in self._files:
            raise BundleError(f"The bundle {self.path} has no {name}.", _EXPORT_AGAIN)
        sha256, size = self._files[name]
        content = _read(self.path, name, size)
        if content is None:
            raise BundleError(f"{name} of the bundle {self.path} is missing.", _EXPORT_AGAIN)
        if len(content) != size:
            more = "more than" if len(content) > size else f"{len(content):,} of"
            raise BundleError(
                f"{name} of the bundle {self.path} has {more} {size:,} bytes.", _EXPORT_AGAIN
            )
        if files.sha256_of(content) != sha256:
            raise BundleError(
                f"{name} of the bundle {self.path} is not the file that was exported: its "
                "checksum does not match.",
                _EXPORT_AGAIN,
            )
        return content

    def faults(self) -> dict[str, str]:
        """What of the files is not as it was exported: a sentence for each name; reads them all.

        Of a .zip also "archive", where other bytes lie between, before or behind the files.
        """
        found = {}
        for name in self.names:
            try:
                self.read(name)
            except BundleError as error:
                found[name] = error.message
        known = {RECORD, *self.names}
        for name in sorted(set(_listed(self.path)) - known):
            found[name] = f"{name} is not part of the bundle {self.path}."
        if not found and self.path.is_file():
            parts = {name: self.read(name) for name in self.names}
            record = _read(self.path, RECORD, _LARGEST_RECORD) or b""
            if _archive({RECORD: record, **parts}) != files.read_regular(self.path):
                found["archive"] = (
                    f"{self.path} has bytes that belong to none of its files: it was changed "
                    "or packed by another program."
                )
        return found


_REFUSE = "Do not use it; ask for another."
_REPACKED = (
    "Another program packed it again: if you did that, unpack it and use the folder, or export it "
    "once more."
)
_EXPORT_AGAIN = "Copy the whole bundle again, or export it again: sartor export RUN --out NAME"


def is_bundle(path: str | Path) -> bool:
    """Whether a path is that of a bundle, whole or not: a folder or a .zip with bundle.json, or
    with the network of one that has lost it."""
    where = Path(path)
    try:
        if where.is_dir():
            is_run = (where / "recipe.toml").exists()
            return any((where / name).is_file() for name in ((RECORD,) if is_run else _TELLING))
        if not where.is_file():
            return False
        with zipfile.ZipFile(where) as archive:
            return not set(_TELLING).isdisjoint(archive.namelist())
    except OSError as error:
        # What it is cannot be told; who opens it says why.
        return where.suffix.lower() == ".zip" and files.unreadable(where, error) is not None
    except (ValueError, zipfile.BadZipFile, NotImplementedError):
        return False


def write_bundle(
    out: Path, record: Mapping[str, Any], parts: Mapping[str, bytes], *, overwrite: bool = False
) -> str:
    """Write a bundle's folder, or its file where `out` ends in .zip; what stands for it.

    Args:
        record: bundle.json without `format`, `files` and `sha256`, which are added.
        parts: every other file by its name.
        overwrite: replace a bundle that is there; nothing else is ever replaced.

    Raises:
        UsageError: there is something already. FileError: it cannot be written.
    """
    refuse_existing(out, overwrite=overwrite)
    assert RECORD not in parts
    assert all(_NAME.fullmatch(name) for name in parts), "names are ours"
    ordered = {name: parts[name] for name in sorted(parts)}
    content, sha256 = _sealed(record, ordered)
    everything = {RECORD: content, **ordered}
    if out.suffix.lower() == ".zip":
        files.make_folder(out.parent)
        files.write_bytes(out, _archive(everything))
    else:
        files.write_folder(out, everything)
    return sha256


def refuse_existing(out: Path, *, overwrite: bool = False) -> None:
    """Raise where something would be overwritten.

    Raises:
        UsageError: there is something, and it is not a bundle that may be. FileError: nothing can
            be written there.
    """
    if not (out.exists() or out.is_symlink()):
        files.refuse_unwritable(out)
        return
    if not overwrite:
        raise UsageError(
            f"{out} already exists.",
            "Choose another name with --out"
            + (", or replace the bundle with --overwrite." if is_bundle(out) else "."),
        )
    kind = "file" if out.suffix.lower() == ".zip" else "folder"
    if out.is_symlink() or not is_bundle(out) or out.is_dir() != (kind == "folder"):
        raise UsageError(f"{out} is not a bundle's {kind}.", "Choose another name with --out.")


def _sealed(record: Mapping[str, Any], parts: Mapping[str, bytes]) -> tuple[bytes, str]:
    """The bytes of bundle.json, and the hash in its last line."""
    listed = {
        name: {"sha256": files.sha256_of(content), "size": len(content)}
        for name, content in parts.items()
    }
    whole = {"format": FORMAT, **record, "files": listed, "sha256": "0" * 64}
    content = json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    sha256 = files.sha256_of(content)
    return content[: -len(_TAIL)] + sha256.encode() + _TAIL[64:], sha256


_TAIL = b"0" * 64 + b'"\n}\n'


def _checked_record(content: bytes, path: Path) -> tuple[dict[str, Any], str]:
    """bundle.json parsed, and its own hash, which matches.

    Raises:
        BundleError: of a newer format, which is told before anything else; or damaged.
    """
    if len(content) > _LARGEST_RECORD:
        raise BundleError(f"The {RECORD} of {path} is too large to be one.", _EXPORT_AGAIN)
    try:
        record = json.loads(content, parse_constant=_refused)
        if not isinstance(record, dict):
            raise ValueError("not a table")
        number = record["format"]
    except (ValueError, KeyError, RecursionError) as error:
        raise BundleError(
            f"The {RECORD} of {path} is damaged: it is not the JSON of a bundle.", _EXPORT_AGAIN
        ) from error
    if isinstance(number, int) and not isinstance(number, bool) and number > FORMAT:
        raise BundleError(
            f"The bundle {path} has the format {number}; this version of sartor reads {FORMAT}.",
            "Update sartor: pip install -U sartor",
        )
    found = _SEAL.search(content)
    if number != FORMAT or found is None:
        raise BundleError(
            f"The {RECORD} of {path} is damaged: it does not end with its own hash.", _EXPORT_AGAIN
        )
    blank = content[: found.start(1)] + _TAIL
    if files.sha256_of(blank) != found[1].decode():
        raise BundleError(
            f"The {RECORD} of {path} is not the one that was exported: its checksum does not "
            "match.",
            _EXPORT_AGAIN,
        )
    return record, found[1].decode()


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Say of a fault inside that it makes a part of a bundle unusable.

    Raises:
        BundleError: there was one.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        detail = f"it lacks {error}" if isinstance(error, KeyError) else reason(error)
        raise BundleError(f"{what} cannot be used: {detail}.", _EXPORT_AGAIN) from error


def _parsed(kind: type[_Kind], path: Path, record: Mapping[str, Any], sha256: str) -> _Kind:
    """All but the calibration."""
    architecture = _architecture(record["architecture"])
    classes = tuple(record["classes"])
    if not all(isinstance(name, str) for name in classes) or len(set(classes)) != len(classes):
        raise ValueError("its classes are not a list of different names")
    if len(classes) != architecture.num_classes:
        raise ValueError(
            f"it names {len(classes)} classes, and its network has {architecture.num_classes} "
            "outputs"
        )
    preprocess = _preprocess(record["preprocess"])
    if preprocess.input_shape != architecture.input_shape:
        raise ValueError("its preprocess makes images of another shape than its network takes")
    listed = record["files"]
    if len(listed) > _MOST_FILES:
        raise ValueError(f"it lists {len(listed):,} files")
    return kind(
        path=path,
        record=record,
        sha256=sha256,
        classes=classes,
        preprocess=preprocess,
        calibration=Calibration(),
        architecture=architecture,
        _files=dict(_listed_file(name, entry) for name, entry in listed.items()),
    )


def _calibration(bundle: Bundle) -> Calibration:
    arrays: Mapping[str, Any] = {}
    if CALIBRATION in bundle.names:
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            arrays = load(bundle.read(CALIBRATION))
        except SafetensorError as error:
            said = reason(error)
            raise ValueError(f"{CALIBRATION} is not a safetensors file ({said})") from error
    try:
        return Calibration.from_json(bundle.record["calibration"], arrays)
    except DataError as error:
        raise ValueError(
            error.message.removeprefix("The calibration cannot be used: ").rstrip(".")
        ) from error


def _listed_file(name: str, entry: Mapping[str, Any]) -> tuple[str, tuple[str, int]]:
    sha256, size = entry["sha256"], entry["size"]
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        shown = ascii(name[:_LONGEST_NAME])
        raise ValueError(f"it lists a file {shown}, which may lead out of the bundle")
    if not (isinstance(size, int) and size >= 0 and _DIGEST.fullmatch(sha256)):
        raise ValueError(f"what it says of {name} is not a hash and a size")
    return name, (sha256, size)


def _architecture(table: Mapping[str, Any]) -> Architecture:
    known = {one.name for one in fields(Architecture)}
    values = {name: table[name] for name in known}
    values["input_shape"] = _whole_numbers(values["input_shape"], 3)
    found = Architecture(**values)
    choices = ((found.loss, _LOSSES), (found.tta, _VIEWS), (found.memory_format, _LAYOUTS))
    for value, allowed in choices:
        if value not in allowed:
            raise ValueError(f"it names {value!r}, which is none of {', '.join(allowed)}")
    _whole_numbers([found.num_classes, found.parameters + 1], 2)
    if not (isinstance(found.model, str) and isinstance(found.own, bool)):
        raise ValueError("it does not name its network")
    if not isinstance(found.model_kwargs, dict):
        raise ValueError("the settings of its network are not a table")
    return found


def _whole_numbers(values: Any, count: int) -> tuple[Any, ...]:
    numbers = tuple(values)
    whole = all(isinstance(one, int) and not isinstance(one, bool) and one > 0 for one in numbers)
    if len(numbers) != count or not whole:
        raise ValueError(f"{values} is not {count} whole numbers above 0")
    return numbers


def preprocess_to_json(preprocess: Preprocess) -> dict[str, Any]:
    """Plain values for JSON."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in vars(preprocess).items()
    }


def _preprocess(table: Mapping[str, Any]) -> Preprocess:
    # Bundles from before there was a choice lack it.
    table = {"resampling": "bicubic", **table}
    values = {one.name: table[one.name] for one in fields(Preprocess)}
    channels, *sides = _whole_numbers([values[n] for n in ("channels", "height", "width")], 3)
    if max(sides) > _LARGEST_SIDE:
        raise ValueError(f"its images have {max(sides):,} pixels across")
    for name in ("mean", "std", "value_range"):
        values[name] = tuple(float(number) for number in values[name])
    if channels not in (1, 3) or not len(values["mean"]) == len(values["std"]) == channels:
        raise ValueError("its preprocess has not one mean and one std for each channel")
    choices = (
        ("resize", RESIZE_WAYS),
        ("resampling", RESAMPLINGS),
        ("background", BACKGROUNDS),
        ("ink", INK_WAYS),
    )
    for name, allowed in choices:
        if values[name] not in allowed or values[name] == "auto":
            raise ValueError(f"its preprocess has {name} {values[name]!r}, which is not known")
    return Preprocess(**values)


def _archive(parts: Mapping[str, bytes]) -> bytes:
    """A .zip of these files in this order: stored, with one time, so that it is a function of
    them."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, content in parts.items():
            entry = zipfile.ZipInfo(name, _TIME)
            entry.create_system = 3
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, content)
    return stream.getvalue()


def _read(path: Path, name: str, size: int) -> bytes | None:
    """The content of a file, no more than a byte above `size`; None where there is none.

    Raises:
        BundleError: the bundle cannot be read.
    """
    if path.is_dir():
        try:
            return files.read_regular(path / name, size + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            said = (error.strerror or str(error)).lower()
            sentence, hint = files.unreadable(path / name, error) or (
                f"Cannot read {path / name}: {said}.",
                _EXPORT_AGAIN,
            )
            raise BundleError(sentence, hint) from error
    with _opened(path) as archive:
        entry = {one.filename: one for one in archive.infolist()}.get(name)
        if entry is None:
            return None
        try:
            with archive.open(entry) as stream:
                return stream.read(size + 1)
        except (zipfile.BadZipFile, OSError, ValueError, EOFError, RuntimeError) as error:
            raise BundleError(
                f"{name} in {path} is damaged: {reason(error)}.", _EXPORT_AGAIN
            ) from error


def _opened(path: Path) -> zipfile.ZipFile:
    """A .zip whose entries are plain files, once each, inside it and as large as they lie there.

    Raises:
        BundleError: it is another file, or truncated, or has entries that a bundle cannot have.
    """
    if not path.exists():
        raise BundleError(f"There is no bundle at {path}.", "Check the path.")
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        sentence, hint = files.unreadable(path, error) or (
            f"{path} is not a bundle: it is not a whole .zip file.",
            _EXPORT_AGAIN,
        )
        raise BundleError(sentence, hint) from error
    # Of a bundle that was cut off, program.pt2 may look like the archive: it is a .zip, too.
    whole = RECORD in archive.namelist()
    odd = next(_odd_entries(archive), None) if whole else None
    if odd:
        archive.close()
        sentence, hint = odd
        raise BundleError(f"The bundle {path} {sentence}.", hint)
    return archive


def _odd_entries(archive: zipfile.ZipFile) -> Iterator[tuple[str, str]]:
    """What no bundle has, and what to do about it."""
    entries = archive.infolist()
    if len(entries) > _MOST_FILES:
        yield f"has {len(entries):,} files", _REFUSE
    seen = set()
    for entry in entries:
        name = entry.filename
        if len(name) > _LONGEST_NAME:
            yield f"has a file with a name of {len(name):,} characters", _REFUSE
        if name.endswith("/") and _NAME.fullmatch(name[:-1]):
            yield f"has an entry for the folder {name}, which no bundle has", _REPACKED
        elif not _NAME.fullmatch(name):
            yield f"has a file {name!r}, which may lead out of it", _REFUSE
        if name in seen:
            yield f"has {name} twice", _REFUSE
        seen.add(name)
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            yield f"has {name} as a link or a device, not as a file", _REFUSE
        stored = entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits & 0x1
        if not stored or entry.compress_size != entry.file_size:
            yield f"has {name} compressed or encrypted, which no bundle has", _REPACKED


def _listed(path: Path) -> list[str]:
    """Names of all files that lie there, whatever bundle.json says."""
    if path.is_dir():
        return [
            one.relative_to(path).as_posix()
            for one in path.rglob("*")
            if not one.is_dir() or one.is_symlink()
        ]
    with _opened(path) as archive:
        return archive.namelist()
