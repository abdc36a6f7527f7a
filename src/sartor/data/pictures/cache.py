"""Prepared pictures in the cache: one folder, one array of bytes, and what vouches for it.

    images.npy       uint8 (N, C, H, W), a row for each picture of the listing
    progress.jsonl   a line for each chunk of rows that is written, until all are
    facts.npz        what was seen of each picture, with the SHA-256 of each row of the array
    seal.json        that all is whole: length and time of the array, SHA-256 of facts.npz

A row counts as written when its checksum is in `progress.jsonl` or `facts.npz` and matches. So a
preparation may be killed anywhere and goes on where it was. When it is opened, every row is checked
again, by all cores: disks and people change bytes without a trace. A large array is checked once
for each process.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ... import files
from ...arrays import AnyArray, Int64Array, UInt8Array
from ...errors import FileError
from ...home import Note, locked
from ...machine import available_cores
from .facts import ROW, PictureFacts

FORMAT = 1
_ROWS_CHECKED = 1024
_verified: set[tuple[str | int, ...]] = set()
"""States of arrays that were checked by this process."""


@dataclass(eq=False, kw_only=True)
class State:
    """How far a preparation is: the facts of the pictures that are done."""

    rows: AnyArray
    """Of the type `ROW`."""
    faults: dict[int, str]
    """Not done: what could not be read once may be readable now."""
    done: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, facts: PictureFacts) -> State:
        """The state at which these facts were sealed."""
        return cls(rows=facts.rows.copy(), faults=dict(facts.faults), done=facts.readable.copy())

    def update(self, indices: Int64Array, rows: AnyArray, faults: Mapping[int, str]) -> None:
        """Take in what came of these pictures."""
        for index in indices.tolist():
            self.faults.pop(index, None)
        self.faults.update(faults)
        self.rows[indices] = rows
        self.done[indices] = True
        self.done[list(faults)] = False

    def facts(self) -> PictureFacts:
        """What is known now."""
        return PictureFacts(rows=self.rows, faults=dict(sorted(self.faults.items())))


@dataclass(frozen=True, kw_only=True)
class PictureCache:
    """The folder of one listing at one geometry."""

    folder: Path
    shape: tuple[int, int, int, int]
    """(N, C, H, W) of the array."""

    @property
    def images_path(self) -> Path:
        return self.folder / "images.npy"

    @property
    def _progress_path(self) -> Path:
        return self.folder / "progress.jsonl"

    @property
    def _facts_path(self) -> Path:
        return self.folder / "facts.npz"

    @property
    def _seal_path(self) -> Path:
        return self.folder / "seal.json"

    @property
    def _image_bytes(self) -> int:
        return int(np.prod(self.shape[1:]))

    @property
    def _length(self) -> int:
        return len(self._header()) + self.shape[0] * self._image_bytes

    def sealed_facts(self, *, verified: bool = True) -> PictureFacts | None:
        """The facts of a finished preparation; None where it is not finished, or was touched.

        Without `verified`, the rows of the array are not checked against their checksums.
        """
        seal = _read_json(self._seal_path)
        if seal is None or seal.get("format") != FORMAT or seal.get("images") != self._stamp():
            return None
        if files.sha256_of_file(self._facts_path) != seal.get("facts_sha256"):
            return None
        facts = _read_facts(self._facts_path, self.shape[0])
        if facts is None or not verified:
            return facts
        status = self.images_path.stat()
        # Nobody sets the time of a change, which every writing leaves.
        state = (str(self.images_path), status.st_ino, status.st_ctime_ns, seal["facts_sha256"])
        if state in _verified:
            return facts
        if self._header_is_damaged() or len(self._damaged_rows(*_readable_rows(facts))):
            return None
        _verified.add(state)
        return facts

    def images(self) -> UInt8Array:
        """The array, mapped: read from the disk when it is looked at."""
        with files.explain_os_errors(f"read {self.images_path}"):
            return np.asarray(np.load(self.images_path, mmap_mode="r", allow_pickle=False))

    @contextmanager
    def locked(self, note: Note) -> Iterator[None]:
        """Hold the folder against every other process; wait for one that holds it."""

        def waiting() -> None:
            note("waiting for another process that prepares the same pictures")

        files.make_folder(self.folder)
        with locked(self.folder / ".lock", patience=0.2, when_busy=waiting):
            yield

    def recovered(self, note: Note) -> State:
        """What is whole of an earlier preparation; for who holds the lock."""
        state = self._recorded()
        wrong = self._damaged_rows(np.flatnonzero(state.done), state.rows)
        if self._header_is_damaged() and self._seal_path.exists():
            note("the header of the prepared pictures was damaged on the disk: written again")
        state.done[wrong] = False
        if len(wrong) and self._seal_path.exists():
            note(f"{len(wrong):,} prepared pictures were damaged on the disk: prepared again")
        return state

    @contextmanager
    def filling(self, state: State) -> Iterator[Callable[[Int64Array, UInt8Array, State], None]]:
        """A function that keeps a chunk: indices, images, and a state that holds their facts.

        Raises:
            FileError: there is not enough room on the disk.
        """
        self.mend_frame()
        with files.atomic_write(self._progress_path) as stream:
            for indices in _chunks_of(state.done):
                stream.write(json.dumps(_line(indices, state)).encode() + b"\n")
        start = len(self._header())
        with files.write_in_place(self.images_path) as write:

            def keep(indices: Int64Array, images: UInt8Array, state: State) -> None:
                for index, image in zip(indices.tolist(), images, strict=True):
                    write(start + index * self._image_bytes, memoryview(image))
                files.append_json_line(self._progress_path, _line(indices, state))

            yield keep

    def mend_frame(self) -> None:
        """Give the array its header and its length.

        Raises:
            FileError: there is not enough room on the disk.
        """
        self._make_room()
        with files.write_in_place(self.images_path) as write:
            write(0, self._header())

    def seal(self, facts: PictureFacts) -> None:
        """Say that all is whole."""
        _write_facts(self._facts_path, facts)
        seal = {
            "format": FORMAT,
            "images": self._stamp(),
            "facts_sha256": files.sha256_of_file(self._facts_path),
            "count": self.shape[0],
        }
        files.write_json(self._seal_path, seal)
        files.remove(self._progress_path)

    def relatives(self) -> list[PictureCache]:
        """Sealed caches of other states of the same source at the same geometry, newest first."""
        stem = self.folder.name.rpartition("-")[0]
        seals = list(self.folder.parent.glob(f"{stem}-*/seal.json"))
        seals.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        found = []
        for path in seals:
            count = (_read_json(path) or {}).get("count")
            if path.parent != self.folder and isinstance(count, int):
                found.append(PictureCache(folder=path.parent, shape=(count, *self.shape[1:])))
        return found

    def _header(self) -> bytes:
        stream = io.BytesIO()
        described = {"descr": "|u1", "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(stream, described)
        return stream.getvalue()

    def _stamp(self) -> dict[str, int] | None:
        try:
            status = self.images_path.stat()
        except OSError:
            return None
        if status.st_size != self._length:
            return None
        return {"bytes": status.st_size, "modified": status.st_mtime_ns}

    def _make_room(self) -> None:
        path = self.images_path
        present = path.stat() if path.exists() else None
        if present is not None and present.st_size == self._length:
            return
        free = files.free_bytes(self.folder)
        if self._length > free:
            count, channels, height, width = self.shape
            raise FileError(
                f"{count:,} pictures at {channels}x{height}x{width} need "
                f"{_gigabytes(self._length)} in {self.folder}; {_gigabytes(free)} are free.",
                "Free some space, set SARTOR_HOME to a folder on a larger disk, "
                "or lower --image-size.",
            )
        files.set_length(path, self._length)

    def _recorded(self) -> State:
        count = self.shape[0]
        facts = _read_facts(self._facts_path, count)
        if facts is not None:
            return State.of(facts)
        state = State(rows=np.zeros(count, ROW), faults={}, done=np.zeros(count, bool))
        for line in files.each_json_line(self._progress_path):
            try:
                indices = np.array(line["indices"], np.int64)
                rows = np.frombuffer(base64.b64decode(line["facts"]), ROW)
                state.rows[indices] = rows
                state.done[indices] = True
            except (KeyError, TypeError, ValueError, IndexError):
                break
        return state

    def _header_is_damaged(self) -> bool:
        expected = self._header()
        try:
            with self.images_path.open("rb") as stream:
                return stream.read(len(expected)) != expected
        except OSError:
            return True

    def _damaged_rows(self, indices: Int64Array, rows: AnyArray) -> Int64Array:
        """Which of these rows of the array do not match their checksum."""
        if not len(indices) or not self.images_path.exists():
            return indices
        start = len(self._header())

        def wrong_in(part: Int64Array) -> list[int]:
            wrong = []
            with self.images_path.open("rb") as stream:
                for index in part.tolist():
                    stream.seek(start + index * self._image_bytes)
                    found = hashlib.sha256(stream.read(self._image_bytes)).digest()
                    if found != rows["pixels_sha256"][index].tobytes():
                        wrong.append(index)
            return wrong

        parts = [indices[at : at + _ROWS_CHECKED] for at in range(0, len(indices), _ROWS_CHECKED)]
        reading = files.explain_os_errors(f"read {self.images_path}")
        with reading, ThreadPoolExecutor(available_cores()) as pool:
            return np.array([i for wrong in pool.map(wrong_in, parts) for i in wrong], np.int64)


def _readable_rows(facts: PictureFacts) -> tuple[Int64Array, AnyArray]:
    return np.flatnonzero(facts.readable), facts.rows


def _line(indices: Int64Array, state: State) -> dict[str, Any]:
    """A line of the progress; pictures that could not be read are left out of it."""
    readable = indices[state.done[indices]]
    return {
        "indices": readable.tolist(),
        "facts": base64.b64encode(state.rows[readable].tobytes()).decode(),
    }


def _chunks_of(done: npt.NDArray[np.bool_], size: int = 1024) -> list[Int64Array]:
    indices = np.flatnonzero(done)
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def _write_facts(path: Path, facts: PictureFacts) -> None:
    reasons = json.dumps({str(index): why for index, why in facts.faults.items()}).encode()
    with files.atomic_write(path) as stream:
        np.savez(stream, rows=facts.rows, faults=np.frombuffer(reasons, np.uint8))


def _read_facts(path: Path, count: int) -> PictureFacts | None:
    try:
        # NumPy leaves a file open that it cannot read.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            rows, reasons = arrays["rows"], json.loads(arrays["faults"].tobytes())
        if rows.dtype != ROW or rows.shape != (count,):
            return None
        return PictureFacts(rows=rows, faults={int(index): why for index, why in reasons.items()})
    except Exception:  # zipfile and NumPy leave with a dozen kinds on damaged files
        return None


def _read_json(path: Path) -> Mapping[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"
