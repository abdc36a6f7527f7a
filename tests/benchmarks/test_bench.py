"""The benchmark measures what it says, and its page says what was measured."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import bench
import beside
import pytest
import tutorial
from bench_page import Case, Found, Limit, Result, Round, document, result_of
from beside import Beside
from long_run import LongRun
from step_cost import StepCost

import sartor
from sartor.data.dataset import Dataset
from sartor.data.splits.split import make_split

LOOP_SECONDS = (8.0, 2.0, 4.0)


def rounds() -> list[Round]:
    """Ratios 8, 2, 4."""
    return [
        Round(
            engine="some-engine",
            train_images=100,
            loop_seconds=seconds,
            train_seconds=1.0,
            fit_seconds=3.5,
            history_seconds=0.5,
            images_per_second=300,
        )
        for seconds in LOOP_SECONDS
    ]


def result(target: float) -> Result:
    return result_of(some_case(target), rounds())


def some_case(target: float) -> Case:
    return Case(name="some-recipe", source="mnist", target=target, peak_share=0.3, sartor_epochs=2)


def test_a_round_has_as_many_epochs_as_the_recipe() -> None:
    for case in bench.CASES:
        assert sartor.load_recipe(case.name).training.epochs == case.sartor_epochs


@pytest.mark.usefixtures("mnist", "fashion_mnist")
@pytest.mark.parametrize("case", bench.CASES, ids=lambda case: case.name)
def test_both_sides_train_on_as_many_images(case: Case) -> None:
    dataset = bench.dataset_of(case)
    data = sartor.load_recipe(case.name).with_settings(case.settings).data
    split = make_split(
        dataset, val_fraction=data.val_fraction, test_fraction=data.test_fraction, seed=0
    )
    samples, val_images = bench.samples_of(dataset), tutorial.TRAININGS[case.name].val_images
    assert (len(samples) - val_images, val_images) == (len(split.train), len(split.val))
    assert len(split.train) == (50_000 if data.val_fraction == 1 / 6 else 60_000)


def test_a_pair_is_timed_and_leaves_nothing_behind(
    small_sets: dict[str, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    case = next(case for case in bench.CASES if case.name == "fashion-cnn")
    dataset = small_sets[case.source]
    began = time.perf_counter()
    pair = bench.measure_pair(case, dataset, bench.samples_of(dataset))
    took = time.perf_counter() - began
    assert pair.train_images == 600
    assert 0 < pair.history_seconds < pair.train_seconds
    assert pair.loop_seconds + case.sartor_epochs * pair.train_seconds + pair.fit_seconds < took
    assert not list(tmp_path.iterdir())


def test_results_are_medians_with_their_range() -> None:
    found = result(target=3)
    assert (found.ratio, found.lowest, found.highest) == (4, 2, 8)
    assert found.loop_images_per_second == 25
    assert (found.train_images_per_second, found.fit_seconds) == (100, 3.5)
    assert found.reached
    assert not result(target=4.1).reached


def test_the_page_says_what_was_reached(some_long_run: LongRun) -> None:
    limit = Limit(what="a start", limit=1, seconds=(0.5, 3.0, 2.0))
    step = StepCost(
        name="some-recipe",
        engine="some-engine",
        rounds=15,
        plain_us=2000,
        bare_us=1000,
        loop_us=1026,
        overhead_us=26,
        overhead=0.026,
        operations=3_000_000,
        share_target=0.3,
        peak_share=0.25,
    )
    found = Found(
        described={"processor": "abacus"},
        cases=[some_case(target=5)],
        rounds={"some-recipe": rounds()},
        steps=[step, replace(step, overhead_us=25, peak_share=0.3)],
        beside=[Beside(engine="native", alone=(1.0, 2.0, 3.0), busy=(9.0, 4.0, 5.0))],
        long_runs=[some_long_run],
        limits=[limit],
    )
    text = document(found)
    assert "| some-recipe | 4.00 | 2.00 to 8.00 | 5 | no |" in text
    assert (
        "| some-engine | 2,000 | 1,000 | 1,026 | 26.0 | 2.6 % | no "
        "| 3 million | 25.0 % | 30 % | no |" in text
    )
    assert (
        "| 2,000 | 1,000 | 1,026 | 25.0 | 2.6 % | yes | 3 million | 30.0 % | 30 % | yes |" in text
    )
    assert "| engine native | 2.00 | 5.00 | 4.00 to 9.00 | 2.5 |" in text
    assert "| 100, 150, 110 | +10.00 % | 2 % | no |" in text
    assert "| a start | 2.00 | 0.50 to 3.00 (3 times) | 1 | no |" in text
    assert "| processor | abacus |" in text
    assert "Rounds: 3," in text
    assert "Medians over 15 rounds of one epoch each" in text


@pytest.mark.usefixtures("fashion_mnist")
def test_starts_are_timed(tmp_path: Path) -> None:
    assert 0 < bench.seconds_to_first_step(tmp_path / "run") < 60
    assert 0 < min(bench.measure_help(1).seconds) < 10


def test_parts_measured_apart_make_the_page_of_all(some_long_run: LongRun) -> None:
    names = ["fashion-cnn", "mnist-mlp"]
    cases = [case for case in bench.CASES if case.name in names]
    limits = [Limit(what="a start", limit=1, seconds=(0.5, 3.0))]
    described = {"processor": "abacus", "date": "today", "command": "count"}
    whole = Found(
        described=described,
        cases=cases,
        rounds={name: rounds() for name in names},
        steps=[],
        beside=[Beside(engine="plain", alone=(1.0,), busy=(4.0,))],
        long_runs=[some_long_run],
        limits=limits,
    )
    parts = [
        replace(
            whole, cases=[], rounds={"mnist-mlp": rounds()}, limits=[], long_runs=[], beside=[]
        ),
        replace(whole, cases=[], rounds={"fashion-cnn": rounds()}),
    ]
    found = bench.joined([json.loads(json.dumps(part.to_json())) for part in parts])
    assert replace(found, described=described, rounds=dict(whole.rounds)) == whole
    assert found.rounds == whole.rounds
    assert found.described == {**described, "command": "count; count"}


def test_a_training_is_timed_alone_and_beside_others(
    small_sets: dict[str, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = beside.measure(small_sets["fashion-mnist"], 1)
    assert [one.engine for one in found] == ["native", "plain"]
    assert all(len(one.alone) == len(one.busy) == 1 for one in found)
    assert all(min(*one.alone, *one.busy) > 0 for one in found)
    assert not list(tmp_path.iterdir())


def test_the_step_of_a_residual_network_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "RESIDUAL_STEPS", 2)
    monkeypatch.setattr(bench, "RESIDUAL", {**bench.RESIDUAL, "batch_size": 16})
    cost = bench.measure_residual(1, peak=1e12)
    assert (cost.name, cost.engine, cost.share_target) == ("resnet8, 32x32x3", "native", 0.4)
    assert 0 < cost.peak_share < 1
    assert cost.operations > 16 * 1e7
