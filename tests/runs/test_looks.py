"""Looks at test images are kept, counted, and said; "untouched" only where it is so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sartor
from sartor import api
from sartor.data.dataset import Dataset
from sartor.runs.folder import RunFolder
from sartor.runs.looks import Looks, key_of_images, log_look, looks_at

SMALL: dict[str, Any] = {"model": "linear", "epochs": 1, "threads": 1, "check": False}


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache in which nobody has looked at anything."""
    monkeypatch.setenv("SARTOR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def run(own_home: Path, digits: Dataset, tmp_path: Path) -> sartor.Run:
    del own_home
    return sartor.fit(digits, out=tmp_path / "run", **SMALL)


def counted(run: sartor.Run) -> Looks:
    looks = api.looks_of(run.folder, run.dataset(), run.split().test)
    assert looks is not None
    return looks


LOOKS: dict[str, Callable[[sartor.Run], Any]] = {
    "evaluate": lambda run: run.evaluate("test"),
    "report": lambda run: run.report("test"),
    "map": lambda run: sartor.embed(run, "test"),
    "compare": lambda run: sartor.compare(run, run.path.parent / "twin"),
    "trace": lambda run: run.trace(image=3, split="test"),
    "explain": lambda run: sartor.explain(run, int(run.split().test[0])),
}


@pytest.mark.parametrize("verb", LOOKS)
def test_every_look_is_kept_once(verb: str, run: sartor.Run) -> None:
    assert counted(run).untouched, "training and its report do not look"
    if verb == "explain":
        pytest.importorskip("captum")
    if verb == "compare":
        shutil.copytree(run.path, run.path.parent / "twin")
    LOOKS[verb](run)
    rows = [json.loads(line) for line in (run.path / "looks.jsonl").read_text().splitlines()]
    assert [row["verb"] for row in rows] == [verb]
    looks = counted(run)
    assert not looks.untouched
    expected = {"trace": (0, 1), "explain": (0, 1), "compare": (2, 0)}.get(verb, (1, 0))
    assert (looks.times, looks.single) == expected


def test_validation_and_training_images_are_not_counted(run: sartor.Run) -> None:
    run.evaluate("val")
    run.evaluate("train")
    run.report("val")
    run.trace(image=0, split="val")
    sartor.embed(run, "val")
    assert counted(run).untouched


def test_other_runs_on_the_same_images_count(
    run: sartor.Run, digits: Dataset, tmp_path: Path, command: Any
) -> None:
    """What one run showed about the test images may choose another."""
    run.evaluate("test")
    other = sartor.fit(digits, out=tmp_path / "other", **SMALL | {"seed": 1})
    page = " ".join((other.path / "report.html").read_text().split())
    assert "not been used yet" not in page
    assert "test images have been judged once so far" in page
    document = json.loads((other.path / "report.json").read_text())
    assert document["untouched"] is None
    assert document["looks"]["times"] == 1
    other.evaluate("test")
    assert counted(other) == Looks(times=2, by_this_run=1, weights=2, single=0)
    fresh = sartor.fit("digits", out=tmp_path / "fresh", **SMALL | {"seed": 2})
    page = " ".join((fresh.path / "report.html").read_text().split())
    assert "judged 2 times so far, with 2 different weights; never by this run" in page
    said = " ".join(command("evaluate", fresh.path).out.split())
    assert (
        "These test images have been judged 3 times so far, with 3 different weights; "
        "once by this run." in said
    )
    few = Dataset(digits.images[:900], digits.labels[:900])
    apart = sartor.fit(few, out=tmp_path / "apart", **SMALL)
    assert counted(apart).untouched, "other images"


def test_a_page_that_was_untouched_says_so_no_more(run: sartor.Run) -> None:
    assert "have not been used yet" in run.folder.report_path.read_text()
    run.evaluate("test")
    run.report("val")
    page = run.folder.report_path.read_text()
    assert "have not been used yet" not in page
    assert "judged once so far" in page
    run.report("test")
    page = " ".join(run.folder.report_path.read_text().split())
    assert "judged 2 times so far, with the same weights; 2 times by this run" in page
    assert "or for choosing anything" not in page


def test_the_run_remembers_where_the_cache_is_gone(run: sartor.Run, own_home: Path) -> None:
    run.evaluate("test")
    shutil.rmtree(own_home / "looks")
    moved = sartor.Run(
        RunFolder(run.path.rename(run.path.parent / "moved")), dataset=run.given_dataset
    )
    assert counted(moved) == Looks(times=1, by_this_run=1, weights=1, single=0)
    moved.evaluate("test")
    assert counted(moved).times == 2


def test_a_look_that_cannot_be_kept_is_said(run: sartor.Run, own_home: Path) -> None:
    own_home.mkdir(exist_ok=True)
    (own_home / "looks").write_text("in the way")
    (run.path / "looks.jsonl").mkdir()
    with pytest.warns(sartor.SartorWarning, match="could not be counted"):
        run.evaluate("test")


def test_images_are_known_whatever_their_order(tmp_path: Path, own_home: Path) -> None:
    del own_home
    one, other = np.array([3, 1, 2]), np.array([1, 2, 3])
    assert key_of_images("x", one, None) == key_of_images("x", other, None)
    assert key_of_images("x", one, None) != key_of_images("y", one, None)
    assert key_of_images("x", one, ("a", "b")) == key_of_images("y", other, ("b", "a"))
    folder = RunFolder(tmp_path)
    assert log_look(folder, "k", "evaluate", weights="w", images=3)
    with (tmp_path / "looks.jsonl").open("a") as stream:
        stream.write("{torn")
    assert looks_at(folder, "k").times == 1
    assert looks_at(folder, "another").untouched
