"""What a crash of the machine may leave on its disk, and whether a run can be resumed from it.

All changes of one training are written down by `faults/faults.c`, with their bytes. A crash is
simulated by a pessimistic file system: what was flushed (`fsync`) is there; of the bytes written to
a file since, all, some or none are there, or zeros in their place; of the names changed in a folder
since it was flushed, only the first few are.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from torture_crew import Crew, differing, outcome
from torture_kinds import NOTHING_THERE

from sartor import api
from sartor.errors import SartorError
from sartor.runs.folder import RunFolder

WORDS = ("fit", "digits", "--model", "mlp", "--model-kwargs", "hidden=16", "dropout=0.2")
WORDS += ("--epochs", "3", "--batch-size", "400", "--threads", "1", "--no-report")
WORDS += ("--checkpoint-seconds", "0", "--augment", "shift=0.1", "--quiet", "--json")


@dataclass(frozen=True)
class Change:
    """One line of what was written down."""

    kind: str
    inode: int
    number: int
    path: str
    other: str
    content: bytes


@dataclass
class Lost:
    """What came of the states that were tried."""

    states: int = 0
    equal: int = 0
    again: int = 0
    failures: list[str] = field(default_factory=list)
    changes: int = 0

    @property
    def good(self) -> int:
        return self.equal + self.again

    def table(self) -> list[str]:
        """In Markdown."""
        return [
            "| after a crash of the machine | states of the disk | equal when resumed | nothing "
            "there yet, equal from the start | failed |",
            "|---|--:|--:|--:|--:|",
            f"| at any of {self.changes:,} changes | {self.states} | {self.equal} | {self.again} "
            f"| {len(self.failures)} |",
        ]


def search(folder: Path, crew: Crew, states: int, seed: int) -> Lost:
    """Train once and write down how; then resume from so many states of the disk."""
    folder.mkdir(parents=True)
    first, log = folder / "disk", folder / "changes"
    first.mkdir()
    out = first / "runs" / "run"
    started = crew.begin(
        [*WORDS, "--out", out], {"folder": str(first), "what": "nothing", "at": 1}, log=str(log)
    )
    ended = started.wait()
    assert ended.code == 0, ended.err
    expected, changes = outcome(out), list(read(log))
    found, rng = Lost(changes=len(changes)), random.Random(seed)
    for number in range(states):
        crash = rng.randint(0, len(changes))
        disk = folder / f"disk-{number}"
        build(changes[:crash], first, disk, random.Random(f"{seed} {number}"))
        run = disk / "runs" / "run"
        found.states += 1
        verdict = _missing(run, changes[:crash], expected) or _resumed(crew, run, expected, found)
        if verdict:
            found.failures.append(f"state {number}, after change {crash}: {verdict} {disk}")
    return found


def _missing(run: Path, changes: Sequence[Change], expected: dict[str, Any]) -> str:
    """What is not there though the training had seen to it that it is."""
    saved = _finished_renames(changes, "last.safetensors")
    begun = _finished_renames(changes, "recipe.toml")
    if begun and not (run / "recipe.toml").is_file():
        return "the run is lost"
    if not saved:
        return ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            step = api.load_checkpoint(RunFolder(run), "last").progress.step
    except SartorError as error:
        return f"every checkpoint is lost: {error}"
    # One before the first step, one after each, and one more at the end.
    at_least = min(saved - 1, expected["history"][-1]["step"])
    return "" if step >= at_least else f"it is at step {step} and was saved at {at_least}"


def _finished_renames(changes: Sequence[Change], name: str) -> int:
    """How often something got a name, and the training went on to write something else: it must
    have seen to it before that the name stays."""
    done = open_ones = 0
    for change in changes:
        if change.kind == "rename" and PurePosixPath(change.other).name == name:
            open_ones += 1
        elif change.kind == "create":
            done, open_ones = done + open_ones, 0
    return done


def _resumed(crew: Crew, run: Path, expected: dict[str, Any], found: Lost) -> str:
    """Why a state is a failure; nothing where it is not."""
    ended = crew.run(["resume", run, "--json", "--quiet"])
    if ended.is_broken:
        return f"exit {ended.code}: {ended.err.strip()[-300:]}"
    whole = ended.code == 0
    if not whole:
        if not any(words in ended.err for words in NOTHING_THERE):
            return f"refused: {ended.err.strip()}"
        ended = crew.run([*WORDS, "--out", run])
        if ended.code != 0:
            return f"cannot be trained again: {ended.err.strip()}"
    names = differing(outcome(run), expected)
    if names:
        return f"differs in {', '.join(names)}"
    found.equal += whole
    found.again += not whole
    return ""


def read(log: Path) -> Iterator[Change]:
    """The changes that were written down."""
    content = log.read_bytes()
    at = 0
    while at < len(content):
        end = content.index(b"\n", at)
        kind, inode, number, path, other, size = content[at:end].decode().split("\t")
        at = end + 1 + int(size)
        yield Change(kind, int(inode), int(number), path, other, content[end + 1 : at])


@dataclass
class _File:
    flushed: bytes = b""
    since: list[Change] = field(default_factory=list)

    def left(self, rng: random.Random) -> bytes:
        """What a crash leaves of it."""
        content = bytearray(self.flushed)
        way = rng.choice(("none", "all", "some", "zeros"))
        kept = {"none": 0, "all": len(self.since), "zeros": len(self.since)}
        for change in self.since[: kept.get(way, rng.randint(0, len(self.since)))]:
            _apply(change, content, zeros=way == "zeros")
        if way == "some" and len(content) > len(self.flushed):
            del content[rng.randint(len(self.flushed), len(content)) :]
        return bytes(content)

    def flush(self) -> None:
        content = bytearray(self.flushed)
        for change in self.since:
            _apply(change, content)
        self.flushed, self.since = bytes(content), []


def _apply(change: Change, content: bytearray, *, zeros: bool = False) -> None:
    at, new = change.number, change.content
    if change.kind == "length":
        content[:] = content[:at].ljust(at, b"\0")
        return
    content[:] = content.ljust(at, b"\0")
    content[at : at + len(new)] = bytes(len(new)) if zeros else new


def build(changes: Sequence[Change], root: Path, disk: Path, rng: random.Random) -> None:
    """A folder as a crash after the last change may leave it; `root` is where it all happened."""
    names = _names_kept(changes, rng)
    by_inode: dict[int, _File] = {}
    # Whatever happens to names, the files are the same: one object for each that was created.
    created: dict[int, _File] = {}
    for number, change in enumerate(changes):
        if change.kind == "create":
            by_inode[change.inode] = created[number] = _File()
        elif change.kind in ("write", "length"):
            by_inode[change.inode].since.append(change)
        elif change.kind == "sync" and change.inode in by_inode:
            by_inode[change.inode].flush()
    tree: dict[str, _File | None] = {str(root): None}
    for number in names:
        _rename(changes[number], created.get(number), tree)
    disk.mkdir()
    for path, found in sorted(tree.items()):
        place = disk / PurePosixPath(path).relative_to(root)
        if not place.parent.is_dir():
            continue
        if found is None:
            place.mkdir(exist_ok=True)
        else:
            place.write_bytes(found.left(rng))


def _names_kept(changes: Sequence[Change], rng: random.Random) -> list[int]:
    """Which changes of names are on the disk: of each folder those before it was flushed, and
    perhaps the first few after."""
    of_folder: dict[str, list[int]] = {}
    flushed: dict[str, int] = {}
    for number, change in enumerate(changes):
        if change.kind in ("create", "rename", "remove", "folder"):
            of_folder.setdefault(_folder(change), []).append(number)
        elif change.kind == "sync":
            flushed[change.path] = number
    kept: list[int] = []
    for folder, numbers in of_folder.items():
        sure = [number for number in numbers if number < flushed.get(folder, -1)]
        unsure = numbers[len(sure) :]
        kept += sure + unsure[: rng.randint(0, len(unsure))]
    return sorted(kept)


def _folder(change: Change) -> str:
    return str(PurePosixPath(change.other or change.path).parent)


def _rename(change: Change, created: _File | None, tree: dict[str, _File | None]) -> None:
    if change.kind == "create":
        tree[change.path] = created
    elif change.kind == "folder":
        tree[change.path] = None
    elif change.kind == "remove":
        tree.pop(change.path, None)
    elif change.path in tree:
        tree[change.other] = tree.pop(change.path)
