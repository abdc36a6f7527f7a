"""Which run a launch goes on with that was started again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sartor import distributed
from sartor.api.calling import run_of_this_launch


def run_at(folder: Path, launch: str, fit: int = 1, *, whole: bool = True) -> Path:
    folder.mkdir(parents=True)
    said = {"processes": {"count": 2, "launch": launch, "fit": fit}}
    (folder / "environment.json").write_text(json.dumps(said), encoding="utf-8")
    if whole:
        (folder / "recipe.toml").touch()
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(distributed, "_fits", 0)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "tonight")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")


def test_the_run_of_the_same_launch_and_number_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    run_at(Path("runs/other-1"), "yesterday")
    first, second = (run_at(Path(f"runs/net-{fit}"), "tonight", fit) for fit in (1, 2))
    for expected in (first, second):
        found = run_of_this_launch(None)
        assert found is not None
        assert found.path == expected
    assert run_of_this_launch(None) is None, "the third had not begun"
    monkeypatch.setattr(distributed, "_fits", 0)
    assert run_of_this_launch(Path("runs/other-1")) is None, "of another launch"


def test_what_had_no_recipe_yet_begins_again() -> None:
    run_at(Path("runs/net-1"), "tonight", whole=False)
    assert run_of_this_launch(None) is None


def test_the_first_start_makes_a_run_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    run_at(Path("runs/net-1"), "tonight")
    assert run_of_this_launch(None) is None


def test_a_named_launch_goes_on_with_the_run_that_it_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a pod does that is started again, whose count begins at 0."""
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    folder = run_at(Path("runs/net-1"), "tonight")
    found = run_of_this_launch(folder)
    assert found is not None
    assert found.path == folder
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    assert run_of_this_launch(folder) is None
