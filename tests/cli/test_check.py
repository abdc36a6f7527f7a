"""`sartor check`, and what `fit` says of the data before the first step."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sartor
from sartor.api import precheck
from sartor.data.dataset import Dataset
from sartor.data.fixes import EXCLUDE, read_fixes
from sartor.errors import SartorWarning
from sartor.events import Note
from sartor.runs.folder import RunFolder

SMALL = {"model": "linear", "epochs": 1, "threads": 1, "report": False}


@pytest.fixture
def leaking(digits: Dataset) -> Dataset:
    """Digits whose test part repeats ten training images."""
    images = np.concatenate([digits.images[:800], digits.images[:10]])
    labels = np.concatenate([digits.labels[:800], digits.labels[:10]])
    return Dataset(images, labels, digits.classes, test=np.arange(600, 810), name="leaking")


@pytest.fixture
def faulty_folder(digits: Dataset, tmp_path: Path) -> Path:
    """Three digits, 40 pictures each; one is cut off, one is there twice, five in wrong folders."""
    root = tmp_path / "pictures"
    for label, name in enumerate(("zero", "one", "two")):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number, index in enumerate(np.flatnonzero(digits.labels == label)[:40]):
            wrong = ("one", "two", "zero")[label] if number < 2 - label // 2 else name
            picture = Image.fromarray(digits.images[index, 0]).resize((24, 24))
            (root / wrong).mkdir(exist_ok=True)
            picture.save(root / wrong / f"{name}-{number:02}.png")
    (root / "zero" / "broken.png").write_bytes((root / "zero" / "zero-20.png").read_bytes()[:90])
    shutil.copy(root / "one" / "one-30.png", root / "one" / "one-30 copy.png")
    return root


class TestFixes:
    def test_what_check_writes_is_what_fit_reads(
        self, command: Any, faulty_folder: Path, tmp_path: Path
    ) -> None:
        table = tmp_path / "fixes.csv"
        answer = command("check", faulty_folder, "--fixes", table)
        fixes = {fix.file: fix for fix in read_fixes(table)}
        assert fixes["zero/broken.png"].suggested == EXCLUDE
        copies = {"one/one-30.png", "one/one-30 copy.png"} & set(fixes)
        assert [fixes[name].suggested for name in copies] == [EXCLUDE]
        assert f"Wrote {table}: 2 to leave out" in answer.err
        looked_at = [fix for fix in fixes.values() if fix.suggested != EXCLUDE]
        wrong = {"one/zero-00.png": "zero", "one/zero-01.png": "zero", "two/one-00.png": "one",
                 "two/one-01.png": "one", "zero/two-00.png": "two"}  # fmt: skip
        assert len(wrong.keys() & fixes.keys()) >= 4
        assert all(
            fix.suggested == (fix.given if "test image" in fix.reason else wrong[fix.file])
            for fix in looked_at
            if fix.file in wrong
        )
        assert any(fix.suggested != fix.given for fix in looked_at)
        run = tmp_path / "run"
        words = ["--model", "linear", "--epochs", 1, "--recipe", "plain", "--out", run]
        assert command("fit", faulty_folder, "--fixes", table, *words).exit_code == 0

    def test_corrections_of_a_person_are_not_overwritten(
        self, command: Any, tmp_path: Path
    ) -> None:
        table = tmp_path / "fixes.csv"
        table.write_text("mine")
        answer = command("check", "digits", "--fast", "--fixes", table)
        assert answer.exit_code == 2
        assert "exists already" in answer.err
        assert table.read_text() == "mine"


class TestCommand:
    def test_a_set_without_faults(self, command: Any) -> None:
        answer = command("check", "digits", "--fast")
        assert (answer.exit_code, answer.err) == (0, "")
        assert answer.out.startswith("digits: 1,797 pictures (")
        assert "0 errors, 0 warnings, 0 notes" in answer.out.splitlines()[-1]

    def test_json_is_one_line(self, command: Any) -> None:
        answer = command("check", "digits", "--only", "classes", "duplicates", "--json")
        assert list(answer.document["checked"]) == ["classes", "duplicates"]
        assert (answer.exit_code, answer.document["findings"]) == (0, [])

    def test_settings_are_those_of_fit(self, command: Any) -> None:
        words = ["check", "digits", "--only", "classes", "--json", "--test-fraction", 0.02]
        answer = command(*words)
        assert answer.document["parts"]["test"] == 36
        assert answer.document["findings"][0]["kind"] == "small test part"

    def test_files_are_written(self, command: Any, tmp_path: Path) -> None:
        page, listed = tmp_path / "page.html", tmp_path / "leave out.txt"
        answer = command("check", "digits", "--fast", "--html", page, "--quarantine", listed)
        assert page.read_text().startswith("<!doctype html>")
        assert listed.read_text() == ""
        assert f"Wrote {listed}: 0 pictures" in answer.err

    @pytest.mark.parametrize("words", [["--only", "label"], ["--skip", "lables"]])
    def test_an_unknown_check(self, command: Any, words: list[str]) -> None:
        answer = command("check", "digits", *words)
        assert answer.exit_code == 2
        assert 'did you mean "labels"' in answer.err

    def test_an_unknown_set(self, command: Any) -> None:
        answer = command("check", "digit")
        assert answer.exit_code == 2
        assert 'did you mean "digits"' in answer.err

    def test_strict(self, command: Any) -> None:
        words = ["check", "digits", "--only", "classes", "--test-fraction", 0]
        assert command(*words).exit_code == 0
        strict = command(*words, "--strict")
        assert strict.exit_code == 1
        assert "no test part" in strict.out

    def test_progress_is_said_on_stderr_unless_quiet(self, command: Any) -> None:
        words = ["check", "digits", "--only", "appearance"]
        assert "measuring brightness" in command(*words).err
        assert command(*words, "--quiet").err == ""

    def test_lines_are_at_most_80_columns(
        self, leaking: Dataset, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from sartor.cli.findings import print_report

        print_report(sartor.check(leaking, only=["classes", "duplicates"], split_method="drawn"))
        out = capsys.readouterr().out
        assert max(map(len, out.splitlines())) <= 80
        assert out.count("error    duplicates: equal in train and test") == 1
        assert "and 15 more" in out


class TestPython:
    def test_finds_what_leaks(self, leaking: Dataset) -> None:
        report = sartor.check(leaking, only=["duplicates"], split_method="drawn")
        assert isinstance(report, sartor.CheckReport)
        (leak, *_) = report.findings
        assert (leak.kind, leak.severity, leak.count) == ("equal in train and test", "error", 20)
        assert report.exit_code() == 1
        assert list(report.quarantine()) == [str(index) for index in range(10)]

    def test_the_seed_decides_the_split(self, digits: Dataset) -> None:
        sizes = [sartor.check(digits, only=["classes"], seed=seed).classes[0][1] for seed in (0, 1)]
        assert sizes[0] == sizes[1]
        with pytest.raises(sartor.SartorError, match="did you mean"):
            sartor.check(digits, sed=1)

    def test_says_what_takes_long(self, digits: Dataset) -> None:
        said: list[object] = []
        sartor.check(digits, only=["appearance"], on_event=said.append)
        assert isinstance(said[0], Note)


class TestBeforeTraining:
    def test_grave_findings_are_said_and_kept(self, leaking: Dataset, tmp_path: Path) -> None:
        said: list[object] = []
        run = sartor.fit(
            leaking, split_method="drawn", out=tmp_path / "run", on_event=said.append, **SMALL
        )
        lines = [event.text for event in said if isinstance(event, Note)]
        assert lines[0].startswith("error: 10 test images (4.76%) have an equal copy")
        assert lines[-1] == "What to do about it: sartor check leaking"
        (kept, *_) = RunFolder(run.path).findings() or []
        assert kept["kind"] == "equal in train and test"
        assert kept["files"][:2] == ["0", "600"] or "0" in kept["files"]

    def test_without_a_listener_errors_are_warnings(self, leaking: Dataset, tmp_path: Path) -> None:
        with pytest.warns(SartorWarning, match="10 test images"):
            sartor.fit(leaking, split_method="drawn", out=tmp_path / "run", **SMALL)

    def test_a_set_without_faults_says_nothing(self, digits: Dataset, tmp_path: Path) -> None:
        said: list[object] = []
        run = sartor.fit(digits, out=tmp_path / "run", on_event=said.append, **SMALL)
        assert not [event for event in said if isinstance(event, Note)]
        assert RunFolder(run.path).findings() == []

    def test_can_be_left_out(self, command: Any, tmp_path: Path) -> None:
        words = ["fit", "digits", "--epochs", 1, "--threads", 1, "--no-report", "--no-check"]
        assert command(*words, "--out", tmp_path / "run").exit_code == 0
        assert RunFolder(tmp_path / "run").findings() is None

    def test_changes_no_weight(self, digits: Dataset, tmp_path: Path) -> None:
        runs = [
            sartor.fit(digits, out=tmp_path / str(check), check=check, **SMALL)
            for check in (True, False)
        ]
        assert runs[0].weights_sha256 == runs[1].weights_sha256

    def test_what_was_found_in_a_large_set_is_kept(
        self, leaking: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from sartor.data.splits.split import make_split

        monkeypatch.setenv("SARTOR_HOME", str(tmp_path))
        monkeypatch.setattr(precheck, "_WORTH_KEEPING_BYTES", 0)
        split = make_split(leaking, val_fraction=0.1, test_fraction=0.2, seed=0)
        found = precheck.check_before(leaking, split)
        (kept,) = (tmp_path / "checks").iterdir()
        assert json.loads(kept.read_bytes()) == found
        with monkeypatch.context() as patch:
            patch.delattr(precheck, "run_checks")
            assert precheck.check_before(leaking, split) == found
        kept.write_text("damaged")
        assert precheck.check_before(leaking, split) == found

    def test_many_findings_are_three_lines_and_a_hint(self) -> None:
        findings = [{"severity": "error", "summary": f"number {number}"} for number in range(5)]
        lines = list(precheck.grave_lines([*findings, {"severity": "note"}], "cats"))
        assert lines == [
            "error: number 0",
            "error: number 1",
            "error: number 2",
            "2 more, and what to do about it: sartor check cats",
        ]
