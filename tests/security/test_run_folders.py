"""A run of somebody else's reads and writes nothing outside its folder, and waits for nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SECRET = "the owner's own words\n"
FILES = (
    *("recipe.toml", "history.jsonl", "status.json", "split.npz", "environment.json", ".lock"),
    *("looks.jsonl", "findings.json", "input_ranges.json", "engine.json", "transfer.json"),
    *("excluded.txt", "fixes.csv", "source.txt", "model.py", "report.html", "report.json"),
    *("mistakes.csv", "checkpoints/last.safetensors", "checkpoints/new.safetensors"),
)
FOLDERS = ("checkpoints", "predictions", "calibration")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of the user's, with a file in it."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret.txt").write_text(SECRET)
    return folder


def untouched(outside: Path) -> bool:
    found = {path.name: path.read_text() for path in outside.iterdir()}
    return found == {"secret.txt": SECRET}


class TestLinks:
    @pytest.mark.parametrize("name", FILES)
    def test_a_file_that_is_a_link_to_outside(
        self, name: str, run_copy: Path, outside: Path, command: Any
    ) -> None:
        (run_copy / name).unlink(missing_ok=True)
        (run_copy / name).symlink_to(outside / "secret.txt")
        # Each of them goes through the same place; `resume` writes most.
        for words in (["show", run_copy], ["resume", run_copy, "--epochs", 4]):
            answer = command(*words)
            assert answer.exit_code == 1
            assert f"{run_copy / name} is a link to {outside}" in answer.err
            assert len(answer.err.strip().splitlines()) == 2
            assert SECRET.strip() not in answer.err + answer.out
        assert untouched(outside)

    @pytest.mark.parametrize("name", FOLDERS)
    def test_a_folder_that_is_a_link_to_outside(
        self, name: str, run_copy: Path, outside: Path, verbs: list[list[Any]], command: Any
    ) -> None:
        shutil.rmtree(run_copy / name, ignore_errors=True)
        (run_copy / name).symlink_to(outside)
        for words in verbs:
            assert command(*words).exit_code == 1
        assert untouched(outside)

    def test_a_link_to_nothing_yet_makes_nothing_there(
        self, run_copy: Path, outside: Path, command: Any
    ) -> None:
        (run_copy / "history.jsonl").unlink()
        (run_copy / "history.jsonl").symlink_to(outside / "new")
        assert command("resume", run_copy, "--epochs", 4).exit_code == 1
        assert untouched(outside)

    def test_a_link_within_the_run_may_stay(self, run_copy: Path, command: Any) -> None:
        (run_copy / "checkpoints").rename(run_copy / "kept")
        (run_copy / "checkpoints").symlink_to("kept")
        assert command("evaluate", run_copy, "--split", "val").exit_code == 0

    def test_a_run_that_is_named_by_a_link(self, run_copy: Path, command: Any) -> None:
        Path("mine").symlink_to(run_copy)
        assert command("evaluate", "mine", "--split", "val").exit_code == 0

    def test_the_list_of_runs_reads_nothing_of_it(
        self, run_copy: Path, outside: Path, trained: Path, command: Any
    ) -> None:
        (run_copy / "recipe.toml").unlink()
        (run_copy / "recipe.toml").symlink_to(trained / "recipe.toml")
        (listed,) = command("runs", run_copy.parent, "--json").document[:1]
        assert (listed["state"], listed["model"]) == ("broken", "?")
        assert untouched(outside)

    def test_seeds_that_lead_back_to_themselves(self, tmp_path: Path, command: Any) -> None:
        folder = tmp_path / "runs" / "many"
        folder.mkdir(parents=True)
        for number in range(3):
            (folder / f"seed-{number}").symlink_to(folder)
        assert command("runs", folder.parent).exit_code == 0

    def test_a_lock_in_a_folder_for_a_new_run(
        self, outside: Path, command: Any, tmp_path: Path
    ) -> None:
        out = tmp_path / "new"
        out.mkdir()
        (out / ".lock").symlink_to(outside / "secret.txt")
        answer = command("fit", "digits", "--epochs", 1, "--out", out, "--no-report")
        assert answer.exit_code == 1
        assert untouched(outside)


@pytest.mark.parametrize(
    "name", ["history.jsonl", "looks.jsonl", "status.json", "recipe.toml", "model.py", ".lock"]
)
def test_a_pipe_is_not_waited_for(name: str, run_copy: Path, command: Any) -> None:
    (run_copy / name).unlink(missing_ok=True)
    os.mkfifo(run_copy / name)
    for words in (["show", run_copy], ["resume", run_copy, "--epochs", 4], ["runs"]):
        answer = command(*words)
        assert answer.exit_code in (0, 1)
        assert "Traceback" not in answer.err


def test_a_recipe_that_is_a_pipe_or_a_device(command: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "recipe.toml")
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    for path in (tmp_path / "recipe.toml", tmp_path / "zero.toml"):
        answer = command("fit", "--recipe", path)
        assert answer.exit_code == 2
        assert f"Cannot read the recipe {path}" in answer.err


PLACES = {
    "source": "data",
    "exclude": "data",
    "fixes": "data",
    "image_root": "data",
    "weights": "model",
    "model": "model",
}


@pytest.mark.parametrize("setting", PLACES)
@pytest.mark.parametrize(
    "place", ["/dev/zero", "/dev/stdin", "PIPE", "/etc/passwd", "\0", "~x", "../.."]
)
def test_a_recipe_that_names_any_place(
    setting: str, place: str, command: Any, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    place = place.replace("PIPE", str(tmp_path / "pipe"))
    tables: dict[str, dict[str, Any]] = {
        "data": {"source": "digits"},
        "model": {},
        "training": {"epochs": 1, "threads": 1},
    }
    tables[PLACES[setting]][setting] = place
    if setting == "image_root":
        (tmp_path / "list.csv").write_text("path,label\n0.png,a\n1.png,b\n")
        tables["data"]["source"] = str(tmp_path / "list.csv")
    import tomli_w

    (tmp_path / "recipe.toml").write_text(tomli_w.dumps(tables))
    answer = command("fit", "--recipe", tmp_path / "recipe.toml", "--out", "run", "--no-report")
    assert answer.exit_code in (1, 2)
    assert len(answer.err.strip().splitlines()) <= 3


MARKUP = "<script>alert(1)</script>"


def marked(value: Any) -> Any:
    """The same JSON with markup in every text and in every name."""
    if isinstance(value, dict):
        return {key: marked(one) for key, one in value.items()} | {f"x{MARKUP}": MARKUP}
    if isinstance(value, list):
        return [marked(one) for one in value]
    return f"{value}{MARKUP}" if isinstance(value, str) else value


@pytest.mark.parametrize(
    "change", [marked, lambda _: [marked({})], lambda _: {"": MARKUP}], ids=["marked", "list", "x"]
)
def test_no_file_of_a_run_brings_markup_into_a_page(
    change: Callable[[Any], Any], run_copy: Path, command: Any
) -> None:
    for path in run_copy.glob("*.json"):
        if path.name not in ("status.json", "report.json"):
            path.write_text(json.dumps(change(json.loads(path.read_bytes()))))
    (run_copy / "source.txt").write_text(f"{MARKUP}\n")
    answer = command("report", run_copy, "--split", "val")
    assert answer.exit_code == 0, answer.err
    assert MARKUP not in (run_copy / "report.html").read_text()
