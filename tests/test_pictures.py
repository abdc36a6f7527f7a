"""Folders of pictures through the verbs: prepared once, left out with a list, predicted alike."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

import sartor
from sartor import api, assembly
from sartor.data.dataset import Dataset
from sartor.data.pictures import decoding
from sartor.data.splits.split import make_split
from sartor.errors import DataError, RecipeError
from sartor.events import Event, PreparationDone
from sartor.recipe import Recipe

QUICK: dict[str, Any] = {"model": "linear", "epochs": 1, "threads": 1, "batch_size": 8}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty crops of two photographs, as JPEGs of several sizes, one of them turned."""
    root = tmp_path_factory.mktemp("data") / "photographs"
    rng = np.random.default_rng(0)
    for number in range(40):
        whole = Image.fromarray(load_sample_images().images[number % 2])
        left, top = rng.integers(0, 300, 2)
        part = whole.crop((left, top, left + 160 + number, top + 120))
        path = root / ("temple", "flower")[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = 6 if number == 7 else 1
        part.save(path, exif=exif)
    return root


@pytest.fixture
def broken(photographs: Path, tmp_path: Path) -> Path:
    """A copy in which two are broken."""
    root = Path(shutil.copytree(photographs, tmp_path / "broken"))
    (root / "temple/4.jpg").write_bytes(b"")
    content = (root / "flower/9.jpg").read_bytes()
    (root / "flower/9.jpg").write_bytes(content[: len(content) // 2])
    return root


def test_at_two_sizes_they_are_compared_picture_by_picture(
    photographs: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = QUICK | {"test_fraction": 0.5, "report": False, "check": False}
    small, large = (
        sartor.fit(photographs, image_size=size, out=tmp_path / str(size), **settings)
        for size in (12, 24)
    )
    assert small.recipe.data.fingerprint != large.recipe.data.fingerprint
    comparison = sartor.compare(small, large)
    assert comparison.count == len(small.split().test)
    each = [sartor.evaluate(run) for run in (small, large)]
    assert [run.accuracy for run in comparison.runs] == [one.accuracy for one in each]
    # Another picture under one of the names is another set.
    other = Path(shutil.copytree(photographs, tmp_path / "other"))
    for path in other.glob("*/*.jpg"):
        Image.open(path).rotate(180).save(path)
    turned = sartor.fit(other, image_size=24, out=tmp_path / "turned", **settings)
    with pytest.raises(DataError, match="different data"):
        sartor.compare(small, turned)


def test_with_a_list_that_touches_the_test_part_they_are_compared_on_the_rest(
    photographs: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = QUICK | {"test_fraction": 0.5, "report": False, "check": False}
    whole = sartor.fit(photographs, image_size=12, out=tmp_path / "whole", **settings)
    names = whole.dataset().files or ()
    tested = [names[index] for index in whole.split().test][:2]
    listed = tmp_path / "without.txt"
    listed.write_text("".join(f"{name}\n" for name in tested))
    less = sartor.fit(
        photographs, image_size=12, exclude=str(listed), out=tmp_path / "less", **settings
    )
    said: list[str] = []
    comparison = sartor.compare(whole, less, on_event=lambda event: said.append(str(event)))
    count = len(whole.split().test) - 2
    assert (comparison.count, comparison.left_out) == (count, 2)
    assert [one.count for one in comparison.runs] == [count, count]
    assert comparison.runs[1].accuracy == less.evaluate("test").accuracy
    assert "2 pictures were not judged by all of these runs" in "".join(said)
    # Another split is not a matter of lists.
    other = sartor.fit(
        photographs, image_size=12, seed=5, exclude=str(listed), out=tmp_path / "other", **settings
    )
    if set(other.split().test) != set(less.split().test):
        with pytest.raises(DataError, match="cannot be compared"):
            sartor.compare(whole, other)


@pytest.fixture
def quarantine(tmp_path: Path) -> Path:
    path = tmp_path / "bad.txt"
    path.write_text("temple/4.jpg\tempty\nflower/9.jpg\n# and one that is ugly\ntemple/0.jpg\n")
    return path


class TestPredictions:
    @pytest.mark.parametrize("resize", ["letterbox", "crop", "stretch"])
    def test_of_files_are_those_of_the_evaluation(
        self, photographs: Path, tmp_path: Path, resize: str
    ) -> None:
        run = sartor.fit(photographs, image_size=24, resize=resize, out=tmp_path / "run", **QUICK)
        judged = api.predictions_of(run, "train")
        files = run.dataset().files
        assert files is not None
        predicted = run.predict([photographs / files[index] for index in judged.indices])
        found = [list(prediction.probabilities.values()) for prediction in predicted]
        np.testing.assert_allclose(found, judged.probabilities(), atol=1e-6)


class TestSizes:
    def test_another_size_is_prepared_from_the_files(
        self, photographs: Path, tmp_path: Path
    ) -> None:
        """Resizing the prepared images would give other pixels than a prediction sees."""
        data = sartor.load(photographs, image_size=64, resize="crop")
        run = sartor.fit(data, image_size=20, out=tmp_path / "run", **QUICK)
        assert run.recipe.preprocess.resize == "crop"
        direct = sartor.load(photographs, image_size=20, resize="crop")
        assert run.recipe.data.fingerprint == direct.fingerprint
        assert np.array_equal(run.dataset().images, direct.images)

    def test_what_is_asked_for_counts_more_than_what_was_loaded(
        self, photographs: Path, tmp_path: Path
    ) -> None:
        data = sartor.load(photographs, image_size=20, resize="crop")
        run = sartor.fit(data, resize="stretch", channels=1, out=tmp_path / "run", **QUICK)
        assert (run.recipe.preprocess.resize, run.dataset().shape) == ("stretch", (1, 20, 20))

    def test_goes_on_with_the_data_at_another_size(self, photographs: Path, tmp_path: Path) -> None:
        run = sartor.fit(photographs, image_size=20, out=tmp_path / "run", **QUICK)
        other = sartor.load(photographs, image_size=32)
        longer = sartor.resume(run.path, epochs=2, data=other)
        assert len(longer.history) == 2

    def test_is_never_resized_twice(self, photographs: Path) -> None:
        data = sartor.load(photographs, image_size=64)
        split = make_split(data, val_fraction=0, test_fraction=0, seed=0)
        recipe = Recipe().with_settings({"image_size": 20})
        with pytest.raises(RecipeError, match="prepared at 3x64x64, not at 3x20x20"):
            assembly.assemble(recipe, data, split)


class TestExclude:
    def test_the_run_keeps_the_list(self, broken: Path, quarantine: Path, tmp_path: Path) -> None:
        run = sartor.fit(
            broken, exclude=str(quarantine), image_size=16, out=tmp_path / "r", **QUICK
        )
        quarantine.unlink()
        assert run.folder.excluded_path.read_text().splitlines() == [
            "flower/9.jpg",
            "temple/0.jpg",
            "temple/4.jpg\tempty",
        ]
        assert run.recipe.data.exclude == str(run.folder.excluded_path)
        split = run.split()
        assert len(split.train) + len(split.val) + len(split.test) == 37

    def test_resumed_and_judged_without_what_was_left_out(
        self, broken: Path, quarantine: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "first"
        sartor.fit(broken, exclude=str(quarantine), image_size=16, out=path, **QUICK)
        quarantine.unlink()
        moved = path.rename(tmp_path / "moved")
        assert len(sartor.resume(moved, epochs=2).history) == 2
        run = sartor.Run.open(moved)
        assert run.evaluate("test").count == len(run.split().test)
        assert len(run.dataset()) == 37

    def test_the_same_run_from_its_recipe(
        self, broken: Path, quarantine: Path, tmp_path: Path
    ) -> None:
        run = sartor.fit(
            broken, exclude=str(quarantine), image_size=16, out=tmp_path / "a", **QUICK
        )
        quarantine.unlink()
        again = sartor.fit(recipe=run.folder.recipe_path, out=tmp_path / "b")
        assert again.weights_sha256 == run.weights_sha256
        assert again.folder.excluded_path.read_text() == run.folder.excluded_path.read_text()

    def test_of_a_dataset_at_hand(
        self, photographs: Path, digits: Dataset, quarantine: Path, tmp_path: Path
    ) -> None:
        data = sartor.load(photographs, image_size=16)
        run = sartor.fit(data, exclude=str(quarantine), out=tmp_path / "a", **QUICK)
        assert len(run.dataset()) == 37
        numbers = tmp_path / "numbers.txt"
        numbers.write_text("3\n5\n")
        run = sartor.fit(digits, exclude=str(numbers), out=tmp_path / "b", **QUICK)
        assert len(run.dataset()) == len(digits) - 2
        assert run.folder.excluded_path.read_text() == "3\n5\n"

    def test_a_run_without_exclusions_has_no_list(self, photographs: Path, tmp_path: Path) -> None:
        run = sartor.fit(photographs, image_size=16, out=tmp_path / "run", **QUICK)
        assert not run.folder.excluded_path.exists()
        assert run.recipe.data.exclude is None


class TestCommand:
    def test_faults_stop_it_before_the_first_step(
        self, broken: Path, tmp_path: Path, command: Callable[..., Any]
    ) -> None:
        words = ("fit", broken, "--image-size", 16, "--model", "linear", "--epochs", 1)
        answer = command(*words, "--out", tmp_path / "run", "--json")
        assert (answer.exit_code, answer.out) == (1, "")
        assert "2 of 40 pictures cannot be read" in answer.err
        assert "temple/4.jpg is empty." in answer.err
        assert "flower/9.jpg is damaged" in answer.err
        assert not (tmp_path / "run").exists()
        listed = answer.err.partition("--exclude ")[2].strip()
        again = command(*words, "--out", tmp_path / "run", "--json", "--exclude", listed)
        assert again.exit_code == 0
        assert again.document["epochs"] == 1
        assert "2 left out" in again.err

    def test_a_list_that_is_not_there_is_wrong_usage(
        self, photographs: Path, tmp_path: Path, command: Callable[..., Any]
    ) -> None:
        answer = command("fit", photographs, "--exclude", tmp_path / "nothing.txt")
        assert answer.exit_code == 2
        assert "Cannot read the list" in answer.err

    def test_says_what_it_does_the_first_time_alone(
        self,
        photographs: Path,
        tmp_path: Path,
        command: Callable[..., Any],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("SARTOR_HOME", str(tmp_path / "home"))
        first, second = command("data", photographs), command("data", photographs)
        assert "prepared 40 pictures in" in first.err
        assert second.err == first.err.splitlines(keepends=True)[0]
        assert "prepared" not in second.err
        assert first.out == second.out


def test_ctrl_c_while_decoding_keeps_what_is_done(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Any]
) -> None:
    monkeypatch.setenv("SARTOR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(decoding, "_CHUNK_PICTURES", 8)
    with monkeypatch.context() as patch:
        patch.setattr(decoding.Pace, "add", interrupted_at(3))
        answer = command("data", photographs)
    assert answer.exit_code == 130
    events: list[Event] = []
    sartor.load(photographs, on_event=events.append)
    assert [e.decoded for e in events if isinstance(e, PreparationDone)] == [40 - 3 * 8]


def interrupted_at(call: int) -> Callable[..., None]:
    calls = 0

    def add(_pace: object, _count: int) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise KeyboardInterrupt

    return add


def test_a_changed_picture_is_noticed(photographs: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(photographs, tmp_path / "copy"))
    run = sartor.fit(root, image_size=16, out=tmp_path / "run", **QUICK)
    shutil.copy(root / "temple/0.jpg", root / "flower/1.jpg")
    with pytest.raises(DataError, match="is not what"):
        sartor.resume(run.path, epochs=2)
