"""Compare runs: what is read, what is made anew, what is refused."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.stats import binomtest, t

import sartor
from sartor.errors import DataError, RunError, SartorWarning, UsageError
from sartor.evaluation.predictions import Predictions

Paths = tuple[Path, Path, Path]


def saved(path: Path, split: str = "test") -> Predictions:
    return Predictions.load(path / "predictions" / f"{split}.npz")


def notes_of(*runs: Any, **options: Any) -> tuple[sartor.Comparison, list[str]]:
    """The comparison, and what it said besides."""
    said: list[str] = []
    comparison = sartor.compare(*runs, on_event=lambda event: said.append(event.text), **options)
    return comparison, said


class TestWhatItSays:
    def test_equals_scipy_and_the_evaluations(self, rivals: Paths) -> None:
        comparison, said = notes_of(rivals[0], rivals[2])
        assert said == [], "everything was saved"
        (pair,) = comparison.pairs
        one, other = (saved(path) for path in (rivals[0], rivals[2]))
        right = [p.predicted() == p.labels for p in (one, other)]
        only = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
        assert pair.p_value == pytest.approx(binomtest(only[0], sum(only)).pvalue)
        evaluations = [sartor.evaluate(path) for path in (rivals[0], rivals[2])]
        assert [run.accuracy for run in comparison.runs] == [e.accuracy for e in evaluations]
        assert [run.loss for run in comparison.runs] == [e.loss for e in evaluations]
        assert [run.interval for run in comparison.runs] == [
            e.accuracy_interval for e in evaluations
        ]
        assert comparison.count == evaluations[0].count
        assert [run.name for run in comparison.runs] == ["linear-0", "mlp"]

    def test_runs_and_paths_give_the_same(self, rivals: Paths) -> None:
        runs = [sartor.Run.open(path) for path in rivals]
        assert sartor.compare(*runs).to_json() == sartor.compare(*map(str, rivals)).to_json()

    def test_what_differs_in_the_recipes(self, rivals: Paths) -> None:
        differences = sartor.compare(rivals[0], rivals[2]).recipe_differences
        assert differences.keys() == {"model", "model_kwargs"}
        assert differences["model"] == ["linear", "mlp"]

    def test_seeds_have_a_spread(self, rivals: Paths) -> None:
        comparison = sartor.compare(*rivals)
        (group,) = comparison.seed_groups
        assert (group.names, group.seeds) == (("linear-0", "linear-1"), (0, 1))
        accuracies = [run.accuracy for run in comparison.runs[:2]]
        mean, error = np.mean(accuracies), np.std(accuracies, ddof=1) / 2**0.5
        assert group.accuracy.mean == pytest.approx(mean)
        expected = np.clip(t.interval(0.95, 1, mean, error), 0, 1)
        assert group.accuracy.interval == pytest.approx(tuple(expected))

    def test_json_is_strict_and_complete(self, rivals: Paths) -> None:
        document = json.loads(json.dumps(sartor.compare(*rivals).to_json(), allow_nan=False))
        assert document["correction"] == "holm"
        assert [run["run"] for run in document["runs"]] == list(map(str, rivals))
        assert len(document["pairs"]) == 3
        for pair in document["pairs"]:
            told = len(pair["only_first"]) + len(pair["only_second"])
            assert told + pair["both_right"] + pair["both_wrong"] == document["count"]

    def test_runs_of_one_name_are_told_apart_by_their_paths(
        self, rivals: Paths, tmp_path: Path
    ) -> None:
        copy = shutil.copytree(rivals[0], tmp_path / "linear-0")
        comparison = sartor.compare(rivals[0], copy)
        assert [run.name for run in comparison.runs] == [str(rivals[0]), str(copy)]
        (pair,) = comparison.pairs
        assert pair.verdict.endswith("both are correct on the same images")

    def test_shows_itself(self, rivals: Paths) -> None:
        comparison = sartor.compare(*rivals)
        assert comparison.pairs[0].verdict in repr(comparison)
        page = comparison._repr_html_()
        for run in comparison.runs:
            assert f"<td>{run.name}</td><td>{run.accuracy:.2%}</td>" in page

    def test_the_figure_shows_what_flips_each_way(self, rivals: Paths) -> None:
        comparison = sartor.compare(*rivals)
        figure = comparison.figure(most=5)
        assert isinstance(figure, Figure)
        headings = [text.get_text() for text in figure.texts]
        assert len(headings) == 4, "each way between the first and each other"
        pair = comparison.pairs[0]
        assert headings[0].startswith(
            f"linear-1 is correct, linear-0 is not: {len(pair.only_second)} image"
        )
        flip = pair.only_second[0]
        assert figure.axes[0].get_title() == f"true: {flip.class_name}\npredicted: {flip.predicted}"
        pixels = np.asarray(figure.axes[0].images[0].get_array()).squeeze()
        np.testing.assert_array_equal(pixels, sartor.load("digits").images[flip.index, 0])


class TestWhatIsReadAndWhatIsMade:
    def test_missing_predictions_are_made_as_evaluate_makes_them(self, rival_copies: Paths) -> None:
        expected = sartor.compare(*rival_copies).to_json()
        (rival_copies[1] / "predictions" / "test.npz").unlink()
        comparison, said = notes_of(*rival_copies)
        assert said == [f"{rival_copies[1]} has no saved predictions on test: evaluating it now."]
        assert comparison.to_json() == expected
        assert notes_of(*rival_copies)[1] == [], "they are kept"

    def test_predictions_of_older_weights_are_not_used(self, rival_copies: Paths) -> None:
        before = saved(rival_copies[0]).weights_sha256
        sartor.resume(rival_copies[0], epochs=6)
        comparison, said = notes_of(rival_copies[0], rival_copies[2])
        (note,) = said
        assert "has predictions on test that its best weights did not make" in note
        assert comparison.runs[0].weights_sha256 == saved(rival_copies[0]).weights_sha256 != before
        assert comparison.runs[0].accuracy == sartor.evaluate(rival_copies[0]).accuracy

    def test_predictions_of_the_last_epoch_are_not_those_of_the_best(
        self, tmp_path: Path, rivals: Paths
    ) -> None:
        run = sartor.fit(
            "digits", model="mlp", epochs=3, lr=0.3, sched="constant", threads=1, out=tmp_path / "x"
        )
        history = [row["val_accuracy"] for row in run.history]
        assert history[-1] < max(history), "the last epoch must not be the best one"
        run.evaluate("test", checkpoint="last")
        comparison, said = notes_of(run, rivals[2])
        assert len(said) == 1
        assert comparison.runs[0].accuracy == run.evaluate("test").accuracy

    def test_without_a_checkpoint_predictions_are_used_with_a_warning(
        self, rival_copies: Paths
    ) -> None:
        expected = sartor.compare(*rival_copies).to_json()
        shutil.rmtree(rival_copies[0] / "checkpoints")
        with pytest.warns(SartorWarning, match="has no checkpoint to hold its predictions against"):
            assert sartor.compare(*rival_copies).to_json() == expected

    def test_a_damaged_best_checkpoint_is_no_proof(self, rival_copies: Paths) -> None:
        """The weights that are then used are named, as `evaluate` names them."""
        best = rival_copies[0] / "checkpoints" / "best.safetensors"
        best.write_bytes(best.read_bytes()[:-50])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            _, said = notes_of(rival_copies[0], rival_copies[2])
        assert "evaluating it now" in said[0]
        assert any("is used instead" in str(warning.message) for warning in caught)

    def test_validation_and_test_are_never_mixed(self, rival_copies: Paths) -> None:
        sartor.evaluate(rival_copies[0], "val")
        (rival_copies[2] / "predictions" / "val.npz").unlink()
        comparison, said = notes_of(rival_copies[0], rival_copies[2], split="val")
        assert len(said) == 1
        assert "has no saved predictions on val" in said[0]
        assert (comparison.split, comparison.count) == ("val", 144)
        folder = rival_copies[0] / "predictions"
        shutil.copy(folder / "val.npz", folder / "test.npz")
        with pytest.raises(RunError, match="holds predictions on val, not on test"):
            sartor.compare(rival_copies[0], rival_copies[2])

    def test_a_run_of_arrays_brings_its_own_data(self, tmp_path: Path) -> None:
        generator = np.random.default_rng(0)
        images = generator.integers(0, 256, size=(120, 6, 6), dtype=np.uint8)
        data = sartor.Dataset(images, np.arange(120) % 3)
        runs = [
            sartor.fit(data, model="linear", epochs=2, lr=lr, threads=1, out=tmp_path / name)
            for name, lr in (("slow", 1e-4), ("fast", 0.1))
        ]
        comparison, said = notes_of(*runs)
        assert len(said) == 2
        assert isinstance(comparison.figure(), Figure)
        again = sartor.compare(*(run.path for run in runs))
        assert again.to_json() == comparison.to_json()
        with pytest.raises(DataError, match="not at hand"):
            again.figure()


class TestWhatIsRefused:
    def test_requests_that_make_no_sense(self, rivals: Paths) -> None:
        with pytest.raises(UsageError, match="at least two"):
            sartor.compare()
        with pytest.raises(UsageError, match="at least two"):
            sartor.compare(rivals[0])
        with pytest.raises(UsageError, match="linear-0 is named twice"):
            sartor.compare(rivals[0], rivals[1], rivals[0])
        with pytest.raises(UsageError, match='"train"'):
            sartor.compare(*rivals, split="train")
        with pytest.raises(RunError, match="no run"):
            sartor.compare(rivals[0], "nowhere")

    def test_validation_images_of_two_seeds(self, rival_copies: Paths) -> None:
        with pytest.raises(DataError, match="depend on the seed: compare on --split test"):
            sartor.compare(*rival_copies[:2], split="val")

    def test_other_test_images(self, rivals: Paths, tmp_path: Path) -> None:
        words: dict[str, Any] = {"model": "linear", "epochs": 1, "threads": 1}
        other = sartor.fit("digits", test_fraction=0.3, out=tmp_path / "other", **words)
        with pytest.raises(DataError, match="same --test-fraction"):
            sartor.compare(rivals[0], other)

    def test_another_set(self, rival_copies: Paths) -> None:
        path = rival_copies[2] / "predictions" / "test.npz"
        replace(saved(rival_copies[2]), dataset_fingerprint="0" * 64).save(path)
        with pytest.raises(DataError, match="evaluated on different data"):
            sartor.compare(*rival_copies)

    def test_broken_predictions(self, rival_copies: Paths) -> None:
        path = rival_copies[2] / "predictions" / "test.npz"
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(RunError, match="Cannot read the predictions"):
            sartor.compare(*rival_copies)


def test_a_list_of_runs_is_taken_too(rivals: Paths) -> None:
    first, second, _ = rivals
    together = sartor.compare([first, second])
    assert together.to_json() == sartor.compare(first, second).to_json()
    with pytest.raises(UsageError, match=r"A run is a folder.*not int"):
        sartor.compare(first, 5)  # type: ignore[arg-type]
