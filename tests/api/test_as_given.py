"""Exclusions and fixes: over the data, kept in the run, and never a better figure in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sartor
from sartor.data.fixes import Fix, fixes_table
from sartor.errors import UsageError

QUICK = {"model": "linear", "epochs": 1, "recipe": "plain", "image_size": 8, "check": False}
CLASSES = ("dark", "light")
pytestmark = pytest.mark.filterwarnings("ignore:Too few test images")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark and light pictures, 40 of each."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        (root / name).mkdir()
        for number in range(40):
            pixels = rng.integers(0, 100, (8, 8, 3)) + 150 * label
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def plain(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> sartor.Run:
    return sartor.fit(folder, out=tmp_path_factory.mktemp("plain") / "run", **QUICK)  # type: ignore[arg-type]


def names_of(run: sartor.Run, part: str) -> list[str]:
    dataset = run.dataset()
    assert dataset.files is not None
    return [dataset.files[index] for index in run.split().part(part)]


def written(path: Path, fixes: list[Fix]) -> str:
    path.write_text(fixes_table(fixes))
    return str(path)


def other(name: str, reason: str = "looks like the other") -> Fix:
    given = name.split("/")[0]
    return Fix(file=name, given=given, suggested=CLASSES[1 - CLASSES.index(given)], reason=reason)


class TestFixes:
    def test_are_an_overlay_that_the_run_keeps(
        self, folder: Path, plain: sartor.Run, tmp_path: Path
    ) -> None:
        before = {path: path.read_bytes() for path in folder.rglob("*.png")}
        wrong, out = names_of(plain, "train")[:2]
        blank = Fix(file=out, given=out.split("/")[0], suggested="exclude", reason="blank")
        table = written(tmp_path / "fixes.csv", [other(wrong), blank])
        run = sartor.fit(folder, fixes=table, out=tmp_path / "run", **QUICK)  # type: ignore[arg-type]
        (tmp_path / "fixes.csv").unlink()
        assert {path: path.read_bytes() for path in folder.rglob("*.png")} == before
        assert run.recipe.data.fixes == str(run.folder.fixes_path)
        assert len(run.recipe.data.fixes_sha256) == 64
        opened = sartor.Run.open(run.path)
        dataset = opened.dataset()
        assert dataset.files is not None
        assert len(dataset) == 79
        row = dataset.files.index(wrong)
        assert dataset.classes[dataset.labels[row]] != wrong.split("/")[0]
        assert not opened.folder.excluded_path.exists()
        changes = opened.report("val").document["data"]["changes"]
        assert [one["file"] for one in changes["corrected"]] == [wrong]
        assert changes["left_out"][0]["reason"] == "blank"
        assert wrong in opened.folder.report_path.read_text()

    def test_the_same_run_from_its_recipe(
        self, folder: Path, plain: sartor.Run, tmp_path: Path
    ) -> None:
        table = written(tmp_path / "fixes.csv", [other(names_of(plain, "train")[0])])
        run = sartor.fit(folder, fixes=table, out=tmp_path / "a", **QUICK)  # type: ignore[arg-type]
        (tmp_path / "fixes.csv").unlink()
        again = sartor.fit(recipe=run.folder.recipe_path, out=tmp_path / "b")
        assert again.weights_sha256 == run.weights_sha256 != plain.weights_sha256
        undone = sartor.fit(folder, out=tmp_path / "c", **QUICK)  # type: ignore[arg-type]
        assert undone.weights_sha256 == plain.weights_sha256

    def test_another_table_than_the_runs_is_refused(
        self, folder: Path, plain: sartor.Run, tmp_path: Path
    ) -> None:
        first, second = names_of(plain, "train")[:2]
        table = written(tmp_path / "fixes.csv", [other(first)])
        run = sartor.fit(folder, fixes=table, out=tmp_path / "a", **QUICK)  # type: ignore[arg-type]
        written(run.folder.fixes_path, [other(second)])
        with pytest.raises(UsageError, match="are not those that this recipe was made with"):
            sartor.fit(recipe=run.folder.recipe_path, out=tmp_path / "b")

    def test_of_arrays_name_numbers(self, digits: sartor.Dataset, tmp_path: Path) -> None:
        given = digits.classes[digits.labels[17]]
        table = written(
            tmp_path / "fixes.csv", [Fix(file="17", given=given, suggested="3", reason="")]
        )
        run = sartor.fit(
            digits, fixes=table, model="linear", epochs=1, check=False, out=tmp_path / "run"
        )
        assert run.dataset().labels[17] == 3
        assert sartor.load("digits", fixes=table).labels[17] == 3

    def test_a_program_may_give_its_data_as_it_was(
        self, digits: sartor.Dataset, tmp_path: Path
    ) -> None:
        given = digits.classes[digits.labels[17]]
        table = written(tmp_path / "fixes.csv", [Fix(file="17", given=given, suggested="3")])
        listed = tmp_path / "list.txt"
        listed.write_text("5\n")
        data = sartor.Dataset(digits.images, digits.labels, digits.classes)
        settings: dict[str, Any] = {"model": "linear", "epochs": 1, "check": False}
        run = sartor.fit(data, fixes=table, exclude=str(listed), out=tmp_path / "run", **settings)
        count = run.evaluate().count
        assert sartor.evaluate(run.path, data=data).count == count

    def test_by_flag(self, folder: Path, tmp_path: Path, command: Any) -> None:
        table = written(tmp_path / "fixes.csv", [other("dark/3.png")])
        words = ["--model", "linear", "--epochs", 1, "--image-size", 8, "--out", tmp_path / "run"]
        answer = command("fit", folder, "--fixes", table, *words)
        assert answer.exit_code == 0
        assert "1 label corrected" in answer.err
        table = written(tmp_path / "fixes.csv", [other("dark/333.png")])
        answer = command("fit", folder, "--fixes", table, *words[:-1], tmp_path / "other")
        assert answer.exit_code == 2
        assert 'no picture "dark/333.png" (did you mean "dark/33.png"?)' in answer.err


class TestTouched:
    def test_an_untouched_test_part_has_one_figure(
        self, folder: Path, plain: sartor.Run, tmp_path: Path
    ) -> None:
        table = written(tmp_path / "fixes.csv", [other(names_of(plain, "train")[0])])
        run = sartor.fit(folder, fixes=table, out=tmp_path / "run", **QUICK)  # type: ignore[arg-type]
        evaluation = run.evaluate()
        assert evaluation.as_given is None
        assert evaluation.to_json()["as_given"] is None
        assert names_of(run, "test") == names_of(plain, "test")

    def test_both_figures_where_a_list_or_fixes_touch_it(
        self, folder: Path, plain: sartor.Run, tmp_path: Path, command: Any
    ) -> None:
        test, train = names_of(plain, "test"), names_of(plain, "train")
        listed = tmp_path / "list.txt"
        listed.write_text(f"{test[0]}\tblurred\n{train[0]}\tblurred\n")
        table = written(tmp_path / "fixes.csv", [other(test[1]), other(train[1])])
        said: list[object] = []
        run = sartor.fit(
            folder,
            exclude=str(listed),
            fixes=table,
            out=tmp_path / "run",
            on_event=said.append,
            **QUICK,  # type: ignore[arg-type]
        )
        assert any(
            "of the test split, 1 left out and 1 with a corrected label" in str(event)
            for event in said
        )
        assert names_of(run, "test") == test[1:]
        evaluation = sartor.Run.open(run.path).evaluate()
        given = evaluation.as_given
        assert given is not None
        assert (evaluation.count, given.count) == (len(test) - 1, len(test))
        assert [(one.file, one.label is None) for one in given.touched] == [
            (test[0], True),
            (test[1], False),
        ]
        assert given.accuracy == pytest.approx(self.by_hand(run, folder, test))
        document = run.report("test").document
        assert document["evaluation"]["as_given"] == given.to_json()
        assert "As the data was given" in run.folder.report_path.read_text()
        answer = command("evaluate", run.path)
        assert "as given, undoing 1 image left out and 1 label corrected:" in answer.out
        assert "1: blurred" in answer.out

    def by_hand(self, run: sartor.Run, folder: Path, names: list[str]) -> float:
        found = run.predict([folder / name for name in names])
        right = [name.split("/")[0] == one.label for name, one in zip(names, found, strict=True)]
        return sum(right) / len(right)
