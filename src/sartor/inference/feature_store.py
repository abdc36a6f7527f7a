"""Features in the cache: one array of floats that grows, and what vouches for each block of it.

    features.f32   float32 (M, F), blocks of rows in the order in which they were computed
    index.jsonl    a line for each block: where it is, whose rows they are, and its SHA-256

A row belongs to an image's pixels, wherever the image lies: pictures may be added, left out,
relabelled and split in another way, and what is known of them is found again. A block counts as
written when its line is there and its checksum matches. So the work may be killed anywhere and goes
on where it was, and what a disk or a person has changed is computed again.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import files
from ..arrays import Float32Array, Int64Array, UInt8Array
from ..home import Note, explain_cache_errors, locked

_FLOAT = 4
_HASH = 32


@dataclass(eq=False, kw_only=True)
class FeatureStore:
    """The folder of one backbone with its weights and its way of normalising."""

    folder: Path
    width: int
    """Features of an image."""
    _lines: list[dict[str, Any]] = field(default_factory=list)
    _row_of: dict[bytes, int] = field(default_factory=dict)

    @property
    def _array_path(self) -> Path:
        return self.folder / "features.f32"

    @property
    def _index_path(self) -> Path:
        return self.folder / "index.jsonl"

    def open(self) -> None:
        """Read the index; blocks that do not match their checksum are left out."""
        self._lines = [line for line in files.each_json_line(self._index_path) if self._fits(line)]
        self._row_of = {}
        for line in self._lines:
            self._enter(line)

    def rows_of(self, pixels_sha256: UInt8Array) -> Int64Array:
        """Where the features of each image lie, int64 (N,); -1 for one that is not known.

        Args:
            pixels_sha256: uint8 (N, 32), of each image's bytes.
        """
        keys = (row.tobytes() for row in pixels_sha256)
        return np.array([self._row_of.get(key, -1) for key in keys], np.int64)

    def features(self, rows: Int64Array) -> Float32Array:
        """The features that lie there, float32 (N, F)."""
        count = max((line["at"] + line["count"] for line in self._lines), default=0)
        if not count:
            return np.empty((0, self.width), np.float32)
        with files.explain_os_errors(f"read {self._array_path}"):
            mapped = np.memmap(self._array_path, np.float32, "r", shape=(count, self.width))
        return np.asarray(mapped[rows])

    @contextmanager
    def filling(self, note: Note) -> Iterator[None]:
        """Hold the folder against every other process, and tidy what one that was killed left.

        Raises:
            FileError: the cache cannot be written.
        """

        def waiting() -> None:
            note("waiting for another process that computes the same features")

        with explain_cache_errors():
            files.make_folder(self.folder)
            with locked(self.folder / ".lock", patience=0.2, when_busy=waiting):
                self.open()
                # Lines behind a damaged one would never be read.
                files.write_json_lines(self._index_path, self._lines)
                yield

    def append(self, pixels_sha256: UInt8Array, features: Float32Array) -> None:
        """Keep a block: hashes (B, 32) and features (B, F); for who holds the folder."""
        at = max((line["at"] + line["count"] for line in self._lines), default=0)
        content = np.ascontiguousarray(features, np.float32)
        with files.write_in_place(self._array_path) as write:
            write(at * self.width * _FLOAT, content.tobytes())
        line = {
            "at": at,
            "count": len(content),
            "pixels": base64.b64encode(pixels_sha256.tobytes()).decode(),
            "sha256": hashlib.sha256(content.data).hexdigest(),
        }
        files.append_json_line(self._index_path, line)
        self._lines.append(line)
        self._enter(line)

    def _enter(self, line: dict[str, Any]) -> None:
        hashes = base64.b64decode(line["pixels"])
        for number in range(line["count"]):
            key = hashes[number * _HASH : (number + 1) * _HASH]
            self._row_of[key] = line["at"] + number

    def _fits(self, line: dict[str, Any]) -> bool:
        """Whether a block is whole, and lies where its line says."""
        try:
            at, count = int(line["at"]), int(line["count"])
            if len(base64.b64decode(line["pixels"])) != count * _HASH:
                return False
            with self._array_path.open("rb") as stream:
                stream.seek(at * self.width * _FLOAT)
                content = stream.read(count * self.width * _FLOAT)
        except (OSError, KeyError, TypeError, ValueError):
            return False
        return (
            len(content) == count * self.width * _FLOAT
            and hashlib.sha256(content).hexdigest() == line["sha256"]
        )
