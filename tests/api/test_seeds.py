"""The same training with several seeds."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t
from torch import nn

import sartor
from sartor.errors import Interrupted, RecipeError, RunError, UsageError
from sartor.events import EpochDone, Event, Started

WORDS: dict[str, Any] = {"model": "linear", "epochs": 2, "lr": 0.02, "threads": 1, "report": False}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> sartor.SeedRuns:
    out = tmp_path_factory.mktemp("seeds")
    return sartor.fit_seeds("digits", seeds=3, seed=5, out=out, **WORDS)


def test_a_run_for_each_seed_the_same_as_fit_makes(three: sartor.SeedRuns, tmp_path: Path) -> None:
    assert three.seeds == (5, 6, 7)
    assert [run.path.name for run in three] == ["seed-5", "seed-6", "seed-7"]
    assert [run.recipe.training.seed for run in three] == [5, 6, 7]
    assert [run.result() for run in three] == list(three.results)
    alone = sartor.fit("digits", seed=6, out=tmp_path / "alone", **WORDS)
    assert alone.weights_sha256 == three.runs[1].weights_sha256


def test_the_spread_equals_scipy(three: sartor.SeedRuns) -> None:
    for name, spread in three.summary.items():
        values = [result[name] for result in three.results]
        assert spread is not None
        assert spread.mean == pytest.approx(np.mean(values))
        assert spread.std == pytest.approx(np.std(values, ddof=1))
        error = np.std(values, ddof=1) / 3**0.5
        low, high = t.interval(0.95, 2, np.mean(values), error)
        highest = 1 if name.endswith("accuracy") else np.inf
        assert spread.interval == pytest.approx((max(low, 0), min(high, highest)))
        assert (spread.lowest, spread.highest) == (min(values), max(values))


def test_each_is_judged_once_on_the_test_images(three: sartor.SeedRuns) -> None:
    test = three.test
    assert test is not None
    expected = [sartor.evaluate(run) for run in three]
    assert test.accuracies == tuple(one.accuracy for one in expected)
    assert test.accuracy.mean == pytest.approx(np.mean(test.accuracies))
    assert test.accuracy.std == pytest.approx(np.std(test.accuracies, ddof=1))
    assert test.loss is not None
    assert test.loss.mean == pytest.approx(np.mean([one.loss for one in expected]))
    (low, high), (lowest, highest) = test.accuracy.interval, test.mean.interval
    assert lowest <= low < test.mean.mean < high <= highest, "other images make it no surer"
    document = three.to_json()["test"]
    assert document["accuracies"] == list(test.accuracies)
    assert document["interval_new_images"] == [lowest, highest]
    best = [run.result()["best"]["val_accuracy"] for run in three]
    assert three.to_json()["best"]["val_accuracy"]["mean"] == pytest.approx(np.mean(best))


def test_without_test_images_nothing_is_judged(tmp_path: Path) -> None:
    trained = sartor.fit_seeds("digits", seeds=2, test_fraction=0, out=tmp_path / "x", **WORDS)
    assert trained.test is None
    assert trained.to_json()["test"] is None


def test_its_folder_stands_for_all_runs(three: sartor.SeedRuns) -> None:
    folder = three.runs[0].path.parent
    assert sartor.compare(folder).to_json() == sartor.compare(*three).to_json()
    with pytest.raises(RunError, match="holds 3 runs, one per seed") as refusal:
        sartor.evaluate(folder)
    assert str(three.runs[0].path) in refusal.value.hint


def test_compare_finds_the_group(three: sartor.SeedRuns) -> None:
    (group,) = sartor.compare(*three).seed_groups
    assert group.seeds == (5, 6, 7)


def test_shows_itself(three: sartor.SeedRuns) -> None:
    assert repr(three).startswith("<SeedRuns: 3 seeds, test accuracy ")
    page = three._repr_html_()
    assert page.count("<tr>") == 1 + 3 + 2
    assert f"<td>{three.results[0]['val_loss']:.4f}</td>" in page
    json.dumps(three.to_json(), allow_nan=False)


def test_without_validation_the_training_figures_remain(tmp_path: Path) -> None:
    trained = sartor.fit_seeds("digits", seeds=2, val_fraction=0, out=tmp_path / "x", **WORDS)
    assert trained.summary["val_accuracy"] is None
    assert trained.to_json()["summary"]["val_loss"] is None
    assert trained.best["val_accuracy"] is None
    assert "test accuracy" in repr(trained)
    assert "mean" in trained._repr_html_()


def test_names_are_counted_up_without_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[tuple[int, float]] = []
    trained = sartor.fit_seeds(
        "digits", seeds=2, on_run=lambda seed, r: said.append((seed, r["val_loss"])), **WORDS
    )
    assert [str(run.path) for run in trained] == ["runs/digits-linear-1", "runs/digits-linear-2"]
    assert said == [(k, result["val_loss"]) for k, result in enumerate(trained.results)]


def stop_in_run(number: int) -> Any:
    """A sink that asks for an end after the first epoch of that run, as Ctrl-C does."""
    begun = 0

    def sink(event: Event) -> None:
        nonlocal begun
        begun += isinstance(event, Started)
        if isinstance(event, EpochDone) and begun == number:
            os.kill(os.getpid(), signal.SIGTERM)

    return sink


@pytest.mark.parametrize(
    ("number", "says", "advice"),
    [
        (1, "That was seed 0, number 1 of 4.", "train the other 3 with --seed 1 --seeds 3."),
        (2, "number 2 of 4; the one before it is", "train the other 2 with --seed 2 --seeds 2."),
        (3, "number 3 of 4; the 2 before it are", "the last with --seed 3 --out {out}/seed-3"),
        (4, "number 4 of 4; the 3 before it are", "Go on with: sartor resume {out}/seed-3"),
    ],
)
def test_an_interruption_keeps_everything_and_says_what_is_missing(
    number: int, says: str, advice: str, tmp_path: Path
) -> None:
    with pytest.raises(Interrupted) as stopped:
        sartor.fit_seeds("digits", seeds=4, out=tmp_path, on_event=stop_in_run(number), **WORDS)
    assert stopped.value.exit_code == 143
    assert says in stopped.value.message
    assert advice.format(out=tmp_path) in stopped.value.hint
    states = [sartor.Run.open(path).status["state"] for path in sorted(tmp_path.iterdir())]
    assert states == ["finished"] * (number - 1) + ["interrupted"]


def test_what_was_trained_is_not_trained_again(tmp_path: Path) -> None:
    words = {"seeds": 3, "out": tmp_path, **WORDS}
    with pytest.raises(Interrupted):
        sartor.fit_seeds("digits", on_event=stop_in_run(2), **words)
    with pytest.raises(RunError) as refusal:
        sartor.fit_seeds("digits", **words)
    assert "holds seed-0 (finished), seed-1 (interrupted) already" in refusal.value.message
    assert f"sartor resume {tmp_path}/seed-1" in refusal.value.hint
    # As the hint says.
    resumed = sartor.resume(tmp_path / "seed-1")
    sartor.fit("digits", seed=2, out=tmp_path / "seed-2", **WORDS)
    with pytest.raises(RunError, match="Choose another --out"):
        sartor.fit_seeds("digits", **words)
    straight = sartor.fit("digits", seed=1, out=tmp_path / "straight", **WORDS)
    assert resumed.weights_sha256 == straight.weights_sha256


class TestRefused:
    @pytest.mark.parametrize("seeds", [1, 0, -3])
    def test_too_few(self, seeds: int, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="cannot give a standard deviation"):
            sartor.fit_seeds("digits", seeds=seeds, out=tmp_path / "x", **WORDS)

    def test_a_network_that_has_its_weights(self) -> None:
        network: Any = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        with pytest.raises(UsageError, match="first weights"):
            sartor.fit_seeds("digits", model=network)

    def test_seeds_out_of_range_before_anything_is_trained(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match="seed must be"):
            sartor.fit_seeds("digits", seeds=3, seed=2**32 - 2, out=tmp_path / "x", **WORDS)
        assert list(tmp_path.iterdir()) == []
