"""A run and data from elsewhere: its own that moved, and other pictures with the same classes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sartor
from sartor.errors import DataError, UsageError

SMALL: dict[str, Any] = {"model": "linear", "epochs": 1, "threads": 1, "recipe": "plain"}


def draw(root: Path, classes: dict[str, int], count: int, *, first: int = 0) -> Path:
    """Squares of noise around a brightness for each class."""
    for name, level in classes.items():
        (root / name).mkdir(parents=True)
        for number in range(first, first + count):
            rng = np.random.default_rng(level * 1_000 + number)
            pixels = rng.integers(level, level + 40, (6, 6), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.fixture
def trained_here(tmp_path: Path) -> tuple[Path, Path]:
    """A run of dark against light, and its data, which is not where it was."""
    root = draw(tmp_path / "my data", {"dark": 0, "grey": 100, "light": 200}, 20)
    run = sartor.fit(root, out=tmp_path / "run", **SMALL)
    moved = tmp_path / "moved to"
    shutil.move(root, moved)
    return run.path, moved


class TestMoved:
    def test_every_verb_takes_the_new_place(
        self, trained_here: tuple[Path, Path], command: Any
    ) -> None:
        run, moved = trained_here
        lost = command("evaluate", run)
        assert lost.exit_code == 1
        assert "--data PATH" in lost.err
        judged = command("evaluate", run, "--data", moved, "--json")
        assert judged.exit_code == 0, judged.err
        tested = len(sartor.Run.open(run).split().test)
        assert (judged.document["split"], judged.document["count"]) == ("test", tested)
        assert "data" not in judged.document
        for words in (("report", run, "--split", "val"), ("resume", run, "--epochs", "2")):
            answer = command(*words, "--data", moved)
            assert answer.exit_code == 0, answer.err

    def test_after_resume_the_run_knows_it(
        self, trained_here: tuple[Path, Path], command: Any
    ) -> None:
        run, moved = trained_here
        assert command("resume", run, "--epochs", "2", "--data", moved).exit_code == 0
        assert sartor.Run.open(run).recipe.data.source == str(moved)
        later = command("evaluate", run)
        assert later.exit_code == 0, later.err
        assert "warning" not in later.err
        assert command("resume", run, "--epochs", "3").exit_code == 0

    def test_what_is_not_the_runs_own_cannot_continue_it(
        self, trained_here: tuple[Path, Path], tmp_path: Path
    ) -> None:
        run, _ = trained_here
        other = draw(tmp_path / "other", {"dark": 0, "grey": 100, "light": 200}, 3, first=50)
        with pytest.raises(DataError, match=r"is not what .* was trained on"):
            sartor.resume(run, epochs=2, data=other)
        with pytest.raises(DataError, match=r"data other is not what .* was trained on"):
            sartor.report(run, data=other)


class TestOtherData:
    def test_its_groups_are_allowed_for(
        self, trained_here: tuple[Path, Path], tmp_path: Path, command: Any
    ) -> None:
        run, _ = trained_here
        other = draw(tmp_path / "other", {"dark": 0, "light": 200}, 8, first=50)
        paths = sorted(other.rglob("*.png"))
        rows = [
            f"{one.relative_to(other)},{one.parent.name},{n // 4}" for n, one in enumerate(paths)
        ]
        (other / "list.csv").write_text("\n".join(["path,label,group", *rows]))
        answer = command("evaluate", run, "--data", other / "list.csv", "--json")
        assert answer.exit_code == 0, answer.err
        assert (answer.document["count"], answer.document["groups"]) == (16, 4)

    def test_classes_are_matched_by_name(
        self, trained_here: tuple[Path, Path], tmp_path: Path, command: Any
    ) -> None:
        """Two of the three classes: by position "light" would be taken for "grey"."""
        run, moved = trained_here
        other = draw(tmp_path / "other", {"dark": 0, "light": 200}, 9, first=50)
        answer = command("evaluate", run, "--data", other, "--json")
        assert answer.exit_code == 0, answer.err
        rows = {row["class"]: row for row in answer.document["per_class"]}
        assert {name: row["count"] for name, row in rows.items()} == {
            "dark": 9,
            "grey": 0,
            "light": 9,
        }
        assert (answer.document["split"], answer.document["data"]) == ("all", str(other))
        labels = [one.label for one in sartor.predict(run, str(other / "light"))]
        assert rows["light"]["correct"] == labels.count("light")
        assert not (run / "predictions" / "all.npz").exists()
        assert "all images: " in command("evaluate", run, "--data", other).out
        assert sartor.evaluate(run, data=other).count == 18
        assert sartor.evaluate(run, data=moved).split == "test"

    def test_a_part_that_it_has(self, trained_here: tuple[Path, Path], tmp_path: Path) -> None:
        run, _ = trained_here
        for part, count in (("train", 4), ("test", 2)):
            draw(tmp_path / "other" / part, {"dark": 0, "light": 200}, count, first=50)
        data = tmp_path / "other"
        assert sartor.evaluate(run, data=data).count == 4
        assert sartor.evaluate(run, "train", data=data).count == 8
        with pytest.raises(UsageError, match="no val part"):
            sartor.evaluate(run, "val", data=data)

    def test_classes_that_the_run_does_not_know(
        self, trained_here: tuple[Path, Path], tmp_path: Path, command: Any
    ) -> None:
        run, _ = trained_here
        other = draw(tmp_path / "other", {"dark": 0, "Light": 200}, 2)
        answer = command("evaluate", run, "--data", other)
        assert answer.exit_code == 1
        assert "does not know: Light" in answer.err
        assert 'did you mean "light"?' in answer.err

    def test_classes_that_only_one_side_has_are_named_and_left_out(
        self, trained_here: tuple[Path, Path], tmp_path: Path, command: Any
    ) -> None:
        run, _ = trained_here
        other = draw(tmp_path / "other", {"dark": 0, "blue": 90, "light": 200}, 4, first=50)
        answer = command("evaluate", run, other)
        assert answer.exit_code == 0, answer.err
        words = " ".join(answer.out.split())
        assert "of 8 correct" in words
        assert "Left out of all figures: 4 images of 1 class" in words
        assert "does not know: blue (4)" in words
        assert "1 class that the network knows (grey)" in words
        document = command("evaluate", run, other, "--json").document
        assert document["count"] == 8
        (left_out,) = document["unmatched"]["left_out"]
        assert (left_out["class"], left_out["count"]) == ("blue", 4)
        assert document["unmatched"]["absent"] == ["grey"]

    def test_no_class_in_common(
        self, trained_here: tuple[Path, Path], tmp_path: Path, command: Any
    ) -> None:
        run, _ = trained_here
        other = draw(tmp_path / "other", {"cat": 0, "dog": 90}, 4)
        answer = command("evaluate", run, other)
        assert answer.exit_code == 1
        assert "does not know: cat, dog" in answer.err

    def test_a_list_instead_of_folders(
        self, trained_here: tuple[Path, Path], tmp_path: Path
    ) -> None:
        run, _ = trained_here
        draw(tmp_path / "other", {"dark": 0, "light": 200}, 2)
        rows = [f"other/{name}/{k}.png,{name}" for name in ("dark", "light") for k in range(2)]
        (tmp_path / "list.csv").write_text("\n".join(rows))
        assert sartor.evaluate(run, data=tmp_path / "list.csv").count == 4

    def test_images_of_another_kind(self, trained_here: tuple[Path, Path], tmp_path: Path) -> None:
        run, _ = trained_here
        np.savez(
            tmp_path / "x.npz",
            x=np.zeros((4, 6, 6, 3), np.uint8),
            y=np.array(["dark", "light"] * 2),
        )
        with pytest.raises(DataError, match=r"are 3x6x6, and .* takes 1x6x6"):
            sartor.evaluate(run, data=tmp_path / "x.npz")


class TestOfAProgram:
    """What `fit` takes from a program, `evaluate` and `check` take too."""

    def test_its_own_and_others(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        names = np.array(["dark", "light"] * 30)
        levels = np.where(names == "dark", 0, 200)[:, None, None]
        images = (levels + rng.integers(0, 40, (60, 6, 6))).astype(np.uint8)
        (tmp_path / "fixes.csv").write_text(
            "file,given,suggested,reason,confidence\n0,dark,exclude,,\n1,light,dark,,\n"
        )
        run = sartor.fit(
            (images, names), fixes=tmp_path / "fixes.csv", out=tmp_path / "run", **SMALL
        )
        own = sartor.evaluate(run.path, "train", data=(images, names))
        assert own.count == len(run.split().train)
        others = sartor.evaluate(run.path, data=(images[:20], names[:20]))
        assert others.count == 20, "the fixes are about other pictures"

    def test_check(self) -> None:
        images = np.random.default_rng(0).integers(0, 256, (20, 6, 6), dtype=np.uint8)
        images[1] = images[0]
        report = sartor.check((images, ["cat", "dog"] * 10), only=["duplicates"])
        assert "equal, labels differ" in {finding.kind for finding in report.findings}
