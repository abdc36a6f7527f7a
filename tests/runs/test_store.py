"""Many runs: found by path, name or "latest"; listed with the one trained last first."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from sartor.errors import RunError
from sartor.runs.folder import RunFolder
from sartor.runs.store import find_run, run_folders, summarize_run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three runs; the second was trained longer after the third was made."""
    runs = tmp_path / "runs"
    for name, made, trained in (("a-1", 100, 110), ("a-2", 200, 400), ("b-1", 300, 310)):
        (runs / name).mkdir(parents=True)
        for file, when in (("environment.json", made), ("history.jsonl", trained)):
            (runs / name / file).touch()
            os.utime(runs / name / file, (when, when))
    (runs / "file").touch()
    (runs / ".hidden").mkdir()
    (runs / "no-run").mkdir()
    return runs


def test_the_one_trained_last_comes_first(runs: Path) -> None:
    assert [folder.name for folder in run_folders(runs)] == ["a-2", "b-1", "a-1", "no-run"]
    assert find_run("latest", runs).name == "a-2"


def test_judging_a_run_does_not_make_it_the_latest(runs: Path) -> None:
    (runs / "a-1" / "predictions").mkdir()
    (runs / "a-1" / "report.html").touch()
    assert find_run("latest", runs).name == "a-2"


def test_by_path_and_by_name(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_run(runs / "b-1", runs).path == runs / "b-1"
    assert find_run("b-1", runs).path == runs / "b-1"
    monkeypatch.chdir(runs.parent)
    assert find_run("b-1").path == Path("runs/b-1")
    assert find_run("runs/b-1").path == Path("runs/b-1")


def test_unknown_names(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match='Unknown run "a-3"; did you mean "a-'):
        find_run("a-3", runs)
    for name in ("latest", "a-1"):
        with pytest.raises(RunError, match="There is no run at") as caught:
            find_run(name, tmp_path / "nowhere")
        assert "sartor fit" in caught.value.hint


@pytest.mark.parametrize("given", ["/some/path/nowhere", "near/by", "../a-3", "~/a-3"])
def test_a_path_where_nothing_is(given: str, runs: Path) -> None:
    with pytest.raises(RunError) as caught:
        find_run(given, runs)
    assert caught.value.message == f"There is nothing at {given}."
    assert "Check the path" in caught.value.hint


def test_a_file_is_not_a_run(runs: Path) -> None:
    with pytest.raises(RunError, match="is a file, not the folder of a run"):
        find_run(runs / "file", runs)


def test_no_folder_has_no_runs(tmp_path: Path) -> None:
    assert run_folders(tmp_path / "nowhere") == []
    (tmp_path / "file").touch()
    assert run_folders(tmp_path / "file") == []


def test_a_summary_says_what_the_run_is(trained: Path) -> None:
    summary = summarize_run(RunFolder(trained))
    history = RunFolder(trained).history()
    assert (summary.source, summary.model, summary.state) == ("digits", "lenet", "finished")
    assert (summary.epochs_done, summary.epochs) == (3, 3)
    assert summary.val_accuracy == max(row["val_accuracy"] for row in history)
    assert summary.train_accuracy == history[-1]["train_accuracy"]
    assert summary.seconds == history[-1]["seconds"]


def test_a_bundle_that_is_not_there_is_no_run_that_is_not_there(runs: Path) -> None:
    with pytest.raises(RunError, match=r"no bundle at nothing\.zip.*sartor export RUN"):
        find_run("nothing.zip", runs)
    broken = runs / "broken.zip"
    broken.write_bytes(b"PK")
    with pytest.raises(RunError, match=r"broken\.zip is not a bundle.*sartor export RUN"):
        find_run(broken, runs)
    for name, said in (("photo.jpg", "is neither a run nor a bundle"), ("bundle.json", "a bundle")):
        with zipfile.ZipFile(runs / "other.zip", "w") as archive:
            archive.writestr(name, "content")
        with pytest.raises(RunError, match=said):
            find_run(runs / "other.zip", runs)
