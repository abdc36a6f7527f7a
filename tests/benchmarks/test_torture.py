"""The short form of `make torture`: a few of everything, and that it would find a fault."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import lost_writes
import pytest
import torture
from torture_crew import Ended, compiler, differing
from torture_kinds import KINDS, Mixture, Trial, Undisturbed, Verdict, checked, tried

pytestmark = pytest.mark.skipif(compiler() is None, reason="faults need a C compiler")

TRIALS, STATES = 10, 12


def test_a_few_trials(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    words = ["--trials", TRIALS, "--states", STATES, "--crews", 1, "--seed", 11, "--page", page]
    only = ["before a change", "halfway", "no space left, from", "flipped", "cut short"]
    code = torture.main([*map(str, words), "--mixtures", "dropout", "--only", *only])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    text = page.read_text()
    assert f"**{TRIALS} of {TRIALS} trainings** that were disturbed came to the" in text
    assert f"| dropout | {TRIALS} |" in out
    for name in only:
        assert f"{name}" in text
    assert f"| {STATES} |" in text
    assert "## Failures" not in text


def made(*changes: tuple[str, int, int, str, str, bytes]) -> list[lost_writes.Change]:
    return [lost_writes.Change(*change) for change in changes]


class TestLostWrites:
    """The disk that a crash leaves, as pessimistic as it may be."""

    def states(self, changes: list[lost_writes.Change], tmp_path: Path) -> set[frozenset[Any]]:
        found = set()
        tmp_path.mkdir(exist_ok=True)
        for seed in range(60):
            disk = tmp_path / str(seed)
            lost_writes.build(changes, Path("/d"), disk, random.Random(seed))
            found.add(frozenset((path.name, path.read_bytes()) for path in disk.iterdir()))
        return found

    def test_what_was_flushed_is_there(self, tmp_path: Path) -> None:
        changes = made(
            ("create", 5, 0, "/d/new", "", b""),
            ("write", 5, 0, "/d/new", "", b"abcd"),
            ("sync", 5, 0, "/d/new", "", b""),
            ("rename", 0, 0, "/d/new", "/d/old", b""),
            ("sync", 2, 0, "/d", "", b""),
        )
        assert self.states(changes, tmp_path) == {frozenset({("old", b"abcd")})}

    def test_what_was_not_may_be_lost_cut_or_zero(self, tmp_path: Path) -> None:
        changes = made(
            ("create", 5, 0, "/d/new", "", b""),
            ("sync", 2, 0, "/d", "", b""),
            ("write", 5, 0, "/d/new", "", b"ab"),
            ("rename", 0, 0, "/d/new", "/d/old", b""),
        )
        names = {name for state in self.states(changes, tmp_path) for name, _ in state}
        contents = {
            content for state in self.states(changes, tmp_path / "2") for _, content in state
        }
        assert names == {"new", "old"}
        assert contents == {b"", b"a", b"ab", b"\0\0"}


class TestVerdicts:
    """A failure must not pass for anything else."""

    @pytest.fixture
    def trial(self, tmp_path: Path) -> Trial:
        return Trial(
            crew=None,  # type: ignore[arg-type]
            mixture=Mixture(name="one", words=("digits",)),
            expected=Undisturbed(outcome={"weights": "a"}, seconds=1.0, touches=9),
            out=tmp_path / "trial" / "run",
            rng=random.Random(0),
        )

    def test_tracebacks_and_hanging_are_broken(
        self, trial: Trial, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for ended in (
            Ended(1, "", "Traceback (most recent call last):"),
            Ended(1, "", "KeyError: 'a'\nThis should not have happened. SARTOR_DEBUG=1 shows"),
            Ended(999, "", ""),
        ):
            monkeypatch.setitem(KINDS, "new", lambda _, ended=ended: checked(ended))  # type: ignore
            assert tried(trial, "new").what == "broken"

    def test_other_weights_are_different(self) -> None:
        assert differing({"weights": "b", "split": 1}, {"weights": "a", "split": 1}) == ["weights"]
        assert differing({}, {"weights": "a"}) == ["weights"]

    def test_one_failure_fails_all(self) -> None:
        tally = torture.Tally()
        assert tally.total() == {}
        trial = Trial(
            crew=None,  # type: ignore[arg-type]
            mixture=Mixture(name="one", words=()),
            expected=Undisturbed(outcome={}, seconds=1.0, touches=1),
            out=Path("run"),
            rng=random.Random(0),
            notes=["kill at touch 3"],
        )
        tally.add(trial, "SIGTERM", Verdict("equal"))
        tally.add(trial, "SIGTERM", Verdict("different", "weights"))
        assert tally.by(0) == {"SIGTERM": {"equal": 1, "different": 1}}
        assert tally.failures == ["SIGTERM, one: different: weights [kill at touch 3] run"]
