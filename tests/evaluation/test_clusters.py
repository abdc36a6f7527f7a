"""Images in groups: intervals that hold the truth, and a test held against brute force."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sartor
from sartor.data.dataset import Dataset
from sartor.evaluation.calibration import gap_interval, gap_interval_of_groups
from sartor.evaluation.clusters import (
    effective_share,
    paired_interval,
    paired_test,
    share_interval,
)
from sartor.evaluation.comparison import compare_pairs
from sartor.evaluation.intervals import wilson
from sartor.evaluation.judgement import judge
from sartor.evaluation.metrics import evaluate
from sartor.evaluation.paired import mcnemar
from sartor.evaluation.predictions import Predictions


def drawn(rng: np.random.Generator, groups: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    """0 and 1 with mean 0.8 and an intraclass correlation of 0.2, and their groups."""
    # Beta(3.2, 0.8): the correlation within groups is 1 / (3.2 + 0.8 + 1).
    chance = np.repeat(rng.beta(3.2, 0.8, groups), each)
    return rng.random(groups * each) < chance, np.repeat(np.arange(groups), each)


def test_the_interval_of_a_share_holds_the_truth_where_wilson_s_does_not() -> None:
    rng, held, alone = np.random.default_rng(0), 0, 0
    for _ in range(400):
        right, groups = drawn(rng, 40, 25)
        low, high = share_interval(right, groups)
        held += low <= 0.8 <= high
        low, high = wilson(int(right.sum()), len(right))
        alone += low <= 0.8 <= high
    assert held / 400 > 0.92
    assert alone / 400 < 0.7


def test_the_interval_and_the_test_of_a_difference_hold_where_nothing_differs() -> None:
    """Two models that are right on groups of their own, equally often."""
    rng, held, rejected, alone = np.random.default_rng(1), 0, 0, 0
    for _ in range(300):
        (one, groups), (other, _) = drawn(rng, 30, 10), drawn(rng, 30, 10)
        only = one & ~other, other & ~one
        low, high = paired_interval(*only, groups)
        held += low <= 0 <= high
        rejected += paired_test(*only, groups) <= 0.05
        alone += mcnemar(int(only[0].sum()), int(only[1].sum())) <= 0.05
    assert held / 300 > 0.92
    assert rejected / 300 < 0.08
    assert alone / 300 > 0.15, "McNemar's test takes images as independent"


def test_the_test_equals_all_exchanges_of_groups() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        groups = rng.integers(0, 7, 40)
        gains = rng.integers(-1, 2, 40)
        sums = np.bincount(groups, weights=gains, minlength=7)
        totals = [abs(np.dot(sums, signs)) for signs in product((-1, 1), repeat=7)]
        expected = np.mean(np.array(totals) >= abs(sums.sum()))
        assert paired_test(gains < 0, gains > 0, groups) == pytest.approx(expected)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (3, 9), (9, 3), (20, 21), (0, 8)])
def test_groups_of_one_image_are_mcnemar_s_test(first: int, second: int) -> None:
    count = 60
    only_first, only_second = np.arange(count) < first, np.arange(count) >= count - second
    found = paired_test(only_first, only_second, np.arange(count))
    assert found == pytest.approx(mcnemar(first, second))


def test_how_many_images_a_group_is_worth() -> None:
    copies = np.repeat(np.arange(50), 8)
    values = np.repeat(np.arange(50) % 3 == 0, 8)
    assert effective_share(values, copies) == pytest.approx(1 / 8, rel=0.1), "equal images are one"
    assert effective_share(np.ones(400), copies) == pytest.approx(1 / 8, rel=0.1)
    assert effective_share(values, np.arange(400)) == pytest.approx(1, rel=0.03)
    assert effective_share(values, np.zeros(400, np.int64)) == 0
    assert share_interval(values, np.zeros(400, np.int64)) == (0, 1)
    assert paired_interval(values, ~values, np.zeros(400, np.int64)) == (-1, 1)


def predictions(seed: int, **more: Any) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = np.arange(300) % 3
    logits = rng.normal(size=(300, 3)).astype(np.float32)
    # Groups of 15 are right or wrong together.
    hard = np.repeat(np.random.default_rng(seed + 9).normal(1, 2, 20), 15)
    logits[np.arange(300), labels] += hard
    return Predictions(
        logits=logits,
        labels=labels,
        indices=np.arange(300),
        weights_sha256=f"{seed}",
        dataset_fingerprint="x",
        classes=("a", "b", "c"),
        split="test",
        loss="cross-entropy",
        **more,
    )


def test_every_interval_of_a_judgement_knows_of_groups() -> None:
    alone = predictions(0)
    grouped = replace(alone, groups=np.repeat(np.arange(20), 15))
    one, other = judge(alone, None).to_json(), judge(grouped, None).to_json()
    assert (one["groups"], other["groups"]) == (None, 20)
    assert "20 groups" in other["interval_method"]
    assert other["bootstrap"]["units"] == "groups"

    def width(interval: list[float]) -> float:
        return interval[1] - interval[0]

    for name in ("accuracy", "loss", "macro_f1", "balanced_accuracy"):
        assert one.get(name) == other.get(name), "the figures stay"
        assert width(other[f"{name}_interval"]) > 1.3 * width(one[f"{name}_interval"]), name
    for row, more in zip(one["per_class"], other["per_class"], strict=True):
        for name in ("interval", "f1_interval", "precision_interval"):
            assert width(more[name]) > 1.2 * width(row[name]), name
    assert width(other["weakest"]["interval"]) > width(one["weakest"]["interval"])


def test_calibration_and_coverage_know_of_groups() -> None:
    """Seven copies of each image say no more than the images themselves."""
    alone = replace(predictions(0), split="val")
    rows = np.repeat(np.arange(len(alone)), 7)
    copied = replace(
        alone,
        logits=alone.logits[rows],
        labels=alone.labels[rows],
        indices=np.arange(len(rows)),
        groups=rows,
    )
    one, many, grouped = (
        judge(each, each) for each in (alone, replace(copied, groups=None), copied)
    )
    few, naive, known = (
        each.calibration.before for each in (one, many, grouped) if each.calibration
    )
    assert one.coverage
    assert grouped.coverage
    assert known.gap == pytest.approx(few.gap)
    assert known.gap_interval == pytest.approx(few.gap_interval, abs=2e-3)
    assert naive.gap_interval[1] - naive.gap_interval[0] < 0.5 * (
        few.gap_interval[1] - few.gap_interval[0]
    )
    assert known.ece_by_chance == pytest.approx(few.ece_by_chance, rel=0.1)
    assert naive.ece_by_chance < 0.6 * few.ece_by_chance
    for with_groups, by_itself in zip(known.bins, few.bins, strict=True):
        if by_itself.count > 30:
            assert with_groups.interval == pytest.approx(by_itself.interval, abs=0.02)
    for point, same in zip(grouped.coverage.points, one.coverage.points, strict=True):
        assert point.accuracy == pytest.approx(same.accuracy)
        assert point.interval == pytest.approx(same.interval, abs=0.01)
    # No copy of an image helps to fit the temperature that it is judged at.
    scaled, expected = (each.calibration.after for each in (grouped, one) if each.calibration)
    assert scaled
    assert expected
    assert scaled.log_loss == pytest.approx(expected.log_loss, abs=2e-3)


def test_the_gap_of_groups_holds_the_truth_where_that_of_images_does_not() -> None:
    rng, held, alone = np.random.default_rng(3), 0, 0
    for _ in range(400):
        # What images of a group share moves their being right, and their confidence along with it.
        chance = rng.beta(3.2, 0.8, 40)
        confidence = np.repeat(np.clip(0.8 + 0.3 * (chance - 0.8), 0, 1), 15)
        groups = np.repeat(np.arange(40), 15)
        right = rng.random(600) < chance[groups]
        low, high = gap_interval_of_groups(confidence, right, groups)
        held += low <= 0 <= high
        low, high = gap_interval(confidence, right)
        alone += low <= 0 <= high
    assert held / 400 > 0.92
    assert alone / 400 < 0.8


def test_one_group_says_nothing_of_others() -> None:
    found = judge(replace(predictions(0), groups=np.zeros(300, np.int64)), None)
    assert found.calibration
    assert found.calibration.before.gap_interval == (-1.0, 1.0)
    assert found.calibration.before.verdict is None
    assert found.calibration.before.ece_by_chance == 1.0


def test_a_comparison_knows_of_groups() -> None:
    groups = np.repeat(np.arange(20), 15)
    (alone,) = compare_pairs({"a": predictions(0), "b": predictions(1)})
    (pair,) = compare_pairs(
        {"a": predictions(0, groups=groups), "b": predictions(1, groups=groups)}
    )
    assert pair.groups == 20
    assert pair.p_value > alone.p_value
    assert pair.difference == alone.difference
    assert pair.interval[0] < alone.interval[0] < alone.interval[1] < pair.interval[1]
    assert "whole groups" in pair.to_json()["interval_method"]
    for row, other in zip(pair.per_class, alone.per_class, strict=True):
        assert row.interval[0] <= other.interval[0] < other.interval[1] <= row.interval[1]


def test_from_the_data_to_the_terminal(digits: Dataset, tmp_path: Path, command: Any) -> None:
    few = np.arange(600)
    np.savez(
        tmp_path / "set.npz",
        images=digits.images[few, 0],
        labels=digits.labels[few],
        group=few // 6,
    )
    settings: dict[str, Any] = {
        "group_column": "group",
        "epochs": 1,
        "threads": 1,
        "report": False,
    }
    for model in ("linear", "mlp"):
        sartor.fit(tmp_path / "set.npz", model=model, out=tmp_path / model, **settings)
    run = sartor.Run.open(tmp_path / "mlp")
    evaluation = run.evaluate("test")
    test = run.split().test
    assert evaluation.groups == len({index // 6 for index in test.tolist()})
    assert (
        evaluation.accuracy_interval
        == evaluate(Predictions.load(run.folder.predictions_path("test"))).accuracy_interval
    )
    sentence = f"The images come from {evaluation.groups} groups; the intervals allow for images"
    assert sentence in " ".join(command("evaluate", run.path).out.split())
    assert sentence in " ".join(command("report", run.path).out.split())
    assert "whole groups are resampled" in run.folder.report_path.read_text()
    said = " ".join(command("compare", tmp_path / "linear", run.path).out.split())
    assert sentence in said
    assert "Tests exchange whole groups." in said
    assert "exact group-wise p" in said
