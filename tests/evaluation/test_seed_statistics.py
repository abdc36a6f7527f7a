import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sartor.errors import UsageError
from sartor.evaluation.seed_statistics import statistics_over_seeds


@given(values=st.lists(st.floats(0, 10), min_size=2, max_size=12))
def test_scipy_and_numpy_give_the_same(values):
    found = statistics_over_seeds(values)
    assert found.count == len(values)
    assert found.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert found.std == pytest.approx(np.std(values, ddof=1), abs=1e-9)
    assert (found.lowest, found.highest) == (min(values), max(values))
    if found.std > 1e-6:
        error = stats.sem(values)
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), error)
        assert found.interval == pytest.approx((max(low, 0), high), rel=1e-9)
    else:
        assert found.interval == pytest.approx((found.mean, found.mean), abs=1e-4)


def test_the_interval_stays_within_what_the_figure_can_be():
    assert statistics_over_seeds([0.6, 0.7], highest=1).interval == (
        pytest.approx(0.65 - 12.7062 * 0.05, abs=1e-5),
        1,
    )
    assert statistics_over_seeds([0.9, 0.99], highest=1).interval[1] == 1
    assert statistics_over_seeds([0.1, 2.0]).interval[0] == 0


def test_json():
    assert statistics_over_seeds([1.0, 3.0]).to_json() == {
        "mean": 2.0,
        "std": pytest.approx(2**0.5),
        "interval": [0.0, pytest.approx(2 + 12.7062)],
        "min": 1.0,
        "max": 3.0,
    }


@pytest.mark.parametrize("values", [[], [0.5]])
def test_fewer_than_two_have_no_spread(values):
    with pytest.raises(UsageError, match="cannot give a standard deviation"):
        statistics_over_seeds(values)
