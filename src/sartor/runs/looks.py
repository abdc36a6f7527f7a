"""How often test images were looked at: one row per look, kept in the run and in the cache.

In the cache, because a figure of one run also decides about the others; in the run, because it goes
where the run goes.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..arrays import Int64Array
from ..errors import FileError
from ..files import append_json_line, make_folder, read_json_lines, sha256_of
from ..home import cache_home
from .folder import RunFolder

_SINGLE = ("trace", "explain")
"""Verbs that look at some images and judge nothing."""


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What is known of the looks at one set of test images."""

    times: int
    """How often all of them were judged, by whatever run."""
    by_this_run: int
    weights: int
    """How many different weights were judged."""
    single: int
    """How often single images were traced or explained."""

    @property
    def untouched(self) -> bool:
        """Whether nobody has looked, as far as this machine and the run know."""
        return not self.times and not self.single

    def to_json(self) -> dict[str, int]:
        """Plain values for JSON."""
        return dict(vars(self))

    @property
    def sentence(self) -> str:
        """Such as "judged 3 times so far, with 2 different weights; never by this run"."""
        text = f"judged {_times(self.times)} so far"
        if self.times > 1:
            weights = (
                f"{self.weights} different weights" if self.weights > 1 else "the same weights"
            )
            text += f", with {weights}; {_times(self.by_this_run)} by this run"
        if self.single:
            text += f"; single images looked at {_times(self.single)}"
        return text


def key_of_images(dataset: str, indices: Int64Array, pictures: Sequence[str] | None) -> str:
    """What a set of test images is known by, whatever its order and the size of its pictures.

    Args:
        dataset: its fingerprint; `indices` point into it.
        pictures: hashes of the files, where there are files.
    """
    if pictures is not None:
        return sha256_of("\n".join(sorted(pictures)).encode())
    return sha256_of(f"{dataset}{sorted(indices.tolist())}".encode())


def log_look(folder: RunFolder, key: str, verb: str, *, weights: str, images: int) -> bool:
    """Keep that a run looked at test images; whether it could be kept anywhere."""
    row = _row(folder.path, key, verb, weights, images)
    kept = [_kept(path, row) for path in _paths(folder, key)]
    return any(kept)


def log_look_of_bundle(path: Path, key: str, *, weights: str, images: int) -> bool:
    """Keep that a bundle, which itself is never written to, was judged on test images."""
    return _kept(_in_cache(key), _row(path, key, "evaluate", weights, images))


def _row(path: Path, key: str, verb: str, weights: str, images: int) -> dict[str, Any]:
    return {
        "id": uuid.uuid4().hex,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "test": key,
        "verb": verb,
        "run": str(path.resolve()),
        "weights_sha256": weights,
        "images": images,
    }


def looks_at(folder: RunFolder, key: str) -> Looks:
    """What was kept, in this run and in the cache."""
    rows: dict[str, Mapping[str, Any]] = {}
    for path in _paths(folder, key):
        rows |= {str(row.get("id")): row for row in read_json_lines(path) if row.get("test") == key}
    judged = [row for row in rows.values() if row.get("verb") not in _SINGLE]
    mine = {str(row.get("id")) for row in read_json_lines(_of_run(folder))}
    here = str(folder.path.resolve())
    return Looks(
        times=len(judged),
        by_this_run=sum(str(row.get("id")) in mine or row.get("run") == here for row in judged),
        weights=len({str(row.get("weights_sha256")) for row in judged}),
        single=len(rows) - len(judged),
    )


def _paths(folder: RunFolder, key: str) -> tuple[Path, Path]:
    return _in_cache(key), _of_run(folder)


def _in_cache(key: str) -> Path:
    return cache_home() / "looks" / f"{key[:32]}.jsonl"


def _of_run(folder: RunFolder) -> Path:
    return folder.path / "looks.jsonl"


def _kept(path: Path, row: Mapping[str, Any]) -> bool:
    with suppress(FileError):
        make_folder(path.parent)
        append_json_line(path, row)
        return True
    return False


def _times(count: int) -> str:
    return {0: "never", 1: "once"}.get(count, f"{count:,} times")
