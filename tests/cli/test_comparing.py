"""`sartor compare` and `sartor fit --seeds` as people and scripts meet them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sartor
from sartor.cli import output
from sartor.console.progress import PlainProgress
from sartor.events import EpochDone, Event

Paths = tuple[Path, Path, Path]


class TestCompare:
    def test_two_runs(self, command: Any, rivals: Paths) -> None:
        answer = command("compare", rivals[0], rivals[2])
        assert (answer.exit_code, answer.err) == (0, "")
        assert max(map(len, answer.out.splitlines())) <= 80
        words = " ".join(answer.out.split())
        (pair,) = sartor.compare(rivals[0], rivals[2]).pairs
        assert words.startswith("test split: 359 images, the same for every run " + pair.verdict)
        assert f"2 - 1: {100 * pair.difference:+.2f} points, 95 % interval" in words
        assert f"{len(pair.only_second)} only in 2, {len(pair.only_first)} only in 1" in words
        assert "model linear mlp" in words

    def test_three_runs(self, command: Any, rivals: Paths) -> None:
        answer = command("compare", *rivals)
        assert max(map(len, answer.out.splitlines())) <= 80
        words = " ".join(answer.out.split())
        assert "3 - 2" in words
        assert "model: linear (1, 2); mlp (3)" in words
        assert "linear-0, linear-1 differ only in the seed (0, 1): mean accuracy" in words
        pairs = {(pair.first, pair.second): pair for pair in sartor.compare(*rivals).pairs}
        assert pairs["linear-0", "linear-1"].same_recipe
        assert not pairs["linear-0", "mlp"].same_recipe
        assert "These verdicts are about these weights." in words
        if pairs["linear-0", "linear-1"].distinguishable:
            assert "about these weights, not their common recipe" in words

    def test_many_runs_are_told_in_short(self, command: Any, rivals: Paths, tmp_path: Path) -> None:
        for number in range(5):
            shutil.copytree(rivals[1], tmp_path / f"run-{number}")
        answer = command("compare", *sorted(tmp_path.iterdir()), rivals[0], rivals[2])
        assert max(map(len, answer.out.splitlines())) <= 80
        assert answer.out.count(" - 1 ") >= 6, "each with the first"
        assert " - 2 " not in answer.out

    def test_json_equals_python(self, command: Any, rivals: Paths) -> None:
        answer = command("compare", *rivals, "--json")
        assert answer.document == sartor.compare(*rivals).to_json()
        assert answer.err == ""

    def test_the_picture_of_flips(self, command: Any, rivals: Paths, tmp_path: Path) -> None:
        path = tmp_path / "flips.png"
        answer = command("compare", rivals[0], rivals[2], "--flips", path, "--json")
        assert answer.err == f"Wrote {path}\n"
        assert path.stat().st_size > 10_000
        answer = command("compare", rivals[0], rivals[2], "--flips", tmp_path / "flips.gif")
        assert (answer.exit_code, answer.out) == (2, "")
        assert 'unknown format "gif"' in answer.err

    def test_nothing_flips(self, command: Any, rival_copies: Paths, tmp_path: Path) -> None:
        copy = rival_copies[0].rename(tmp_path / "copy")
        # The twin of the run in another folder.
        sartor.fit(recipe=copy / "recipe.toml", out=tmp_path / "again")
        answer = command("compare", copy, tmp_path / "again", "--flips", tmp_path / "x.png")
        assert "agree on every image" in answer.err
        assert "both are correct on the same images" in " ".join(answer.out.split())
        assert "The recipes are the same." in answer.out
        assert not (tmp_path / "x.png").exists()

    def test_from_saved_predictions_without_torch(self, rivals: Paths, tmp_path: Path) -> None:
        code = (
            "import sys\n"
            "from sartor.cli.main import run\n"
            f"words = ['compare', *{list(map(str, rivals))!r}, '--json']\n"
            "assert run(words) == 0\n"
            "assert run([*words[:3], '--flips', 'flips.png']) == 0\n"
            "assert 'torch' not in sys.modules, 'torch was imported'"
        )
        answer = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
        )
        assert answer.returncode == 0, answer.stderr
        document = json.loads(answer.stdout.splitlines()[0])
        assert document == sartor.compare(*rivals).to_json()
        assert (tmp_path / "flips.png").exists()

    def test_predictions_that_are_made_are_told_on_stderr(
        self, command: Any, rival_copies: Paths
    ) -> None:
        (rival_copies[0] / "predictions" / "test.npz").unlink()
        answer = command("compare", *rival_copies, "--json")
        assert answer.err.endswith("has no saved predictions on test: evaluating it now.\n")
        assert answer.document["count"] == 359


class TestCompareRefuses:
    def test_usage(self, command: Any, rivals: Paths) -> None:
        for words, says in (
            ([], "at least two runs"),
            ([rivals[0]], "at least two runs"),
            ([rivals[0], rivals[0]], "linear-0 is named twice"),
            ([*rivals, "--split", "train"], "train"),
        ):
            answer = command("compare", *words)
            assert (answer.exit_code, answer.out) == (2, "")
            assert says in answer.err

    def test_runs_that_cannot_be_compared(self, command: Any, rival_copies: Paths) -> None:
        first, second, third = rival_copies
        answer = command("compare", first, "nowhere", "--json")
        assert (answer.exit_code, answer.out) == (1, "")
        answer = command("compare", first, second, "--split", "val", "--json")
        assert (answer.exit_code, answer.out) == (1, "")
        assert "hold different images" in answer.err
        path = third / "predictions" / "test.npz"
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        answer = command("compare", first, third, "--json")
        assert (answer.exit_code, answer.out) == (1, "")
        assert "Cannot read the predictions" in answer.err
        (third / "recipe.toml").unlink()
        answer = command("compare", first, third)
        assert answer.exit_code == 1
        assert "not a complete run" in answer.err


class TestSeeds:
    WORDS = ("fit", "digits", "--model", "linear", "--epochs", 1, "--threads", 1)

    def test_json_is_one_document(self, command: Any, tmp_path: Path) -> None:
        words = [*self.WORDS, "--seeds", 3, "--seed", 4, "--out", tmp_path / "x", "--json"]
        answer = command(*words)
        document = answer.document
        assert document.keys() == {"runs", "seeds", "summary", "best", "test"}
        assert document["seeds"] == [4, 5, 6]
        for seed, result in zip(document["seeds"], document["runs"], strict=True):
            assert result == sartor.Run.open(tmp_path / "x" / f"seed-{seed}").result()
            assert f"seed {seed}: val accuracy {result['best']['val_accuracy']:.2%}" in answer.err
        names = ["val_accuracy", "val_loss", "train_accuracy", "train_loss"]
        assert list(document["summary"]) == names
        for name in names:
            values = [result[name] for result in document["runs"]]
            spread = document["summary"][name]
            assert list(spread) == ["mean", "std", "interval", "min", "max"]
            assert (spread["min"], spread["max"]) == (min(values), max(values))
            assert spread["interval"][0] < spread["mean"] < spread["interval"][1]

    def test_for_people(self, command: Any, tmp_path: Path, monkeypatch: Any) -> None:
        monkeypatch.chdir(tmp_path)
        answer = command(*self.WORDS, "--seeds", 2, "--quiet")
        assert answer.err == ""
        lines = answer.out.splitlines()
        assert [line.split(":")[0] for line in lines[:2]] == ["seed 0", "seed 1"]
        assert "2 seeds" in answer.out
        assert "test accuracy" in answer.out
        assert "Each seed was judged once on the same 359 test images." in answer.out
        assert lines[-1] == "sartor compare runs/digits-linear-1 runs/digits-linear-2"
        assert max(map(len, lines)) <= 80
        assert command(*map(str, lines[-1].split()[1:])).exit_code == 0

    def test_two_folders_are_two_recipes(
        self, command: Any, tmp_path: Path, monkeypatch: Any
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for name, model in (("plain", "linear"), ("deep", "mlp")):
            words = ["--model", model, "--epochs", 1, "--threads", 1, "--seeds", 2]
            answer = command("fit", "digits", *words, "--out", f"runs/{name}", "--quiet")
            assert answer.out.splitlines()[-1] == f"sartor compare runs/{name}"
        answer = command("compare", "plain", "runs/deep")
        words = " ".join(answer.out.split())
        (pair,) = sartor.compare("plain", "deep").recipe_pairs
        assert pair.verdict in words
        assert (pair.first, pair.second, pair.seeds) == ("plain", "deep", (2, 2))
        assert max(map(len, answer.out.splitlines())) <= 80
        listed = command("runs").out
        assert listed.count("2 seeds: finished") == 2
        assert "broken" not in listed
        both = command("runs", "--json").document
        assert [(one["name"], one["seeds"]) for one in both] == [("deep", 2), ("plain", 2)]
        assert command("show", "latest").out.startswith("runs/deep/seed-1: finished")

    def test_refused(self, command: Any, tmp_path: Path) -> None:
        for words in (["--seeds", 1], ["--seeds", 2, "--overfit-batch"], ["--seeds", "many"]):
            answer = command(*self.WORDS, *words, "--out", tmp_path / "x")
            assert (answer.exit_code, answer.out) == (2, "")
        assert list(tmp_path.iterdir()) == []

    def test_an_interruption_leaves_with_the_signal_s_code(
        self, command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Stopping(PlainProgress):
            def __call__(self, event: Event) -> None:
                super().__call__(event)
                if isinstance(event, EpochDone):
                    os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(output, "progress_for_stderr", Stopping)
        answer = command(*self.WORDS[:4], "--epochs", 9, "--seeds", 2, "--out", tmp_path, "--json")
        assert (answer.exit_code, answer.out) == (143, "")
        assert "That was seed 0, number 1 of 2." in answer.err
        assert f"sartor resume {tmp_path}/seed-0 and then train the last" in answer.err
