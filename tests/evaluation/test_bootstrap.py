"""Intervals by drawing anew, against scipy and scikit-learn."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from sartor import native_module
from sartor.errors import UsageError
from sartor.evaluation.bootstrap import (
    _counted,
    balanced_accuracy,
    bootstrap,
    f1_of_each_class,
    interval_of_mean_over_classes,
    macro_f1,
    mean_of,
)
from sartor.evaluation.intervals import wilson


class TestInterval:
    def test_as_scipy_has_it(self) -> None:
        values = np.random.default_rng(1).exponential(size=80)
        found = bootstrap({"mean": mean_of(values)}, len(values), resamples=8000)["mean"]
        scipy_has = scipy.stats.bootstrap(
            (values,), np.mean, n_resamples=8000, method="percentile", rng=2
        ).confidence_interval
        assert found.value == pytest.approx(values.mean())
        assert found.interval() == pytest.approx(tuple(scipy_has), abs=0.02)

    def test_it_covers_the_truth_as_often_as_it_says(self) -> None:
        """95 % of 400 intervals: between 92 and 98 % of them, unless by a chance of 1 in 200."""
        random = np.random.default_rng(3)
        hits = 0
        for _ in range(400):
            values = random.normal(loc=1.0, size=100)
            low, high = bootstrap({"m": mean_of(values)}, 100, resamples=300)["m"].interval() or ()
            hits += low <= 1.0 <= high
        assert 0.92 <= hits / 400 <= 0.98

    def test_of_f1_as_scipy_has_it(self, made: Any) -> None:
        predictions = made(200, 3)
        found = bootstrap({"f1": macro_f1(predictions)}, 200, resamples=4000)["f1"]
        scipy_has = scipy.stats.bootstrap(
            (predictions.labels, predictions.predicted()),
            lambda labels, predicted: sklearn.metrics.f1_score(labels, predicted, average="macro"),
            n_resamples=200,
            method="percentile",
            paired=True,
            vectorized=False,
            rng=4,
        ).confidence_interval
        assert found.interval() == pytest.approx(tuple(scipy_has), abs=0.02)

    def test_the_same_every_time_and_another_by_another_seed(self) -> None:
        values = np.arange(50.0)
        once, again, other = (
            bootstrap({"m": mean_of(values)}, 50, seed=seed)["m"].interval() for seed in (0, 0, 1)
        )
        assert once == again != other

    def test_it_holds_its_value(self) -> None:
        """A statistic that every draw makes larger than it is."""
        found = bootstrap({"s": lambda counts: ((counts - 1) ** 2).mean(axis=1)}, 30)["s"]
        assert found.value == 0
        assert found.interval()[0] == 0

    def test_where_all_draws_agree_there_is_none(self) -> None:
        assert bootstrap({"m": mean_of(np.ones(9))}, 9)["m"].interval() is None

    def test_where_draws_leave_it_undefined_the_others_decide(self, made: Any) -> None:
        labels = np.array([0] * 20 + [1])
        logits = np.zeros((21, 2))
        logits[:, 0] = np.linspace(-1, 3, 21)
        predictions = made(21, 2, labels=labels, logits=logits)
        found = bootstrap({"f1": f1_of_each_class(predictions)}, 21)["f1"]
        assert not np.isnan(found.low).any()
        assert np.isnan(
            bootstrap({"f1": f1_of_each_class(made(4, 9, labels=np.zeros(4, int)))}, 4)["f1"].value
        ).any()

    @pytest.mark.parametrize(
        ("count", "settings"), [(0, {}), (3, {"resamples": 0}), (3, {"confidence": 1.0})]
    )
    def test_nothing_to_draw(self, count: int, settings: dict[str, Any]) -> None:
        with pytest.raises(UsageError, match="Cannot resample"):
            bootstrap({}, count, **settings)

    def test_ten_thousand_images_take_a_second(self, made: Any) -> None:
        predictions = made(10_000, 10)
        start = time.process_time()
        bootstrap({"f1": f1_of_each_class(predictions)}, 10_000)
        assert time.process_time() - start < 2


class TestStatistics:
    """Drawn once each, they are what scikit-learn computes; drawn otherwise, on those images."""

    @pytest.fixture
    def counts(self) -> Any:
        return np.random.default_rng(5).integers(0, 4, (6, 300)).astype(float)

    def test_f1(self, made: Any, counts: Any) -> None:
        predictions = made(300)
        each = f1_of_each_class(predictions)(counts)
        mean = macro_f1(predictions)(counts)
        for row, weights in enumerate(counts):
            expected = sklearn.metrics.f1_score(
                predictions.labels, predictions.predicted(), average=None, sample_weight=weights
            )
            assert each[row] == pytest.approx(expected)
            assert mean[row] == pytest.approx(expected.mean())

    def test_balanced_accuracy(self, made: Any, counts: Any) -> None:
        predictions = made(300)
        found = balanced_accuracy(predictions)(counts)
        for row, weights in enumerate(counts):
            assert found[row] == pytest.approx(
                sklearn.metrics.balanced_accuracy_score(
                    predictions.labels, predictions.predicted(), sample_weight=weights
                )
            )


class TestMeanOverClasses:
    def test_of_classes_of_one_size_balanced_accuracy_has_the_interval_of_accuracy(
        self, made: Any
    ) -> None:
        labels = np.arange(400) % 4
        predictions = made(400, 4, labels=labels)
        right = int((predictions.predicted() == labels).sum())
        found = bootstrap({"": balanced_accuracy(predictions)}, 400, resamples=4000)[""]
        interval = interval_of_mean_over_classes(found, [100] * 4)
        assert interval == pytest.approx(wilson(right, 400), abs=0.005)

    def test_it_covers_where_percentiles_do_not(self, made: Any) -> None:
        """60 classes of five images, half of them right."""
        random = np.random.default_rng(4)
        cells = np.full((60, 60), 0.5 / 59) + np.eye(60) * (0.5 - 0.5 / 59)
        hits = by_percentiles = 0
        for _ in range(60):
            labels = random.integers(0, 60, 300)
            logits = np.eye(60)[[random.choice(60, p=cells[label]) for label in labels]]
            predictions = made(300, 60, labels=labels, logits=logits)
            found = bootstrap({"": macro_f1(predictions)}, 300, resamples=200)[""]
            low, high = interval_of_mean_over_classes(found, np.bincount(labels).tolist())
            # By symmetry precision and recall are 0.5 in every class.
            hits += low <= 0.5 <= high
            by_percentiles += found.low <= 0.5 <= found.high
        assert hits >= 52
        assert by_percentiles < 48


@pytest.mark.skipif(native_module.missing() is not None, reason="no engine native")
class TestCompiled:
    """The same bits as NumPy."""

    @pytest.mark.parametrize("count", [1, 2, 3, 10, 997, 60_000])
    def test_draws(self, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
        random = np.random.default_rng(0)
        drawn = random.integers(0, 2**64, (3, count), np.uint64)
        # Where a quotient by multiplication is off by most.
        multiples = np.uint64(count) * random.integers(1, 2**64 // count, count, np.uint64)
        drawn[1], drawn[2, :1] = multiples - np.uint64(1), np.uint64(2**64 - 1)
        compiled = _counted(drawn)
        monkeypatch.setattr(native_module, "module", lambda: None)
        np.testing.assert_array_equal(compiled, _counted(drawn))
        assert compiled.dtype == np.float64
        np.testing.assert_array_equal(compiled.sum(axis=1), count)

    def test_wrong_arrays_are_refused(self) -> None:
        module = native_module.module()
        assert module is not None
        places, right = np.arange(3), np.zeros(3)
        counts, out = np.ones((2, 3)), np.empty((2, 3))
        with pytest.raises(ValueError, match="differ in shape"):
            module.count_draws(np.zeros((2, 3), np.uint64), np.empty((3, 2)))
        with pytest.raises(ValueError, match="differ in shape"):
            module.risks(counts, places, right, places, np.empty((2, 4)))
        with pytest.raises(ValueError, match="each place needs"):
            module.risks(counts, places[:2], right, places, out)
        for order, ends in (
            ([0, 1, 3], [0, 1, 2]),
            ([0, -1, 2], [0, 1, 2]),
            ([0, 1, 2], [1, 0, 2]),
        ):
            with pytest.raises(ValueError, match="there is no such place"):
                module.risks(counts, np.array(order), right, np.array(ends), out)
