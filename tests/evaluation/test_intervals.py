import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from sartor.errors import UsageError
from sartor.evaluation.intervals import (
    enough_images,
    of_the_best,
    score_interval,
    simultaneous,
    wilson,
)

shares = st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(share=shares, confidence=st.floats(0.01, 0.9999))
def test_scipy_gives_the_same_interval(share, confidence):
    correct, count = share
    expected = binomtest(correct, count).proportion_ci(confidence, method="wilson")
    assert wilson(correct, count, confidence) == pytest.approx(tuple(expected), abs=1e-12)


@given(share=shares)
def test_the_interval_holds_the_share_and_stays_within_zero_and_one(share):
    correct, count = share
    low, high = wilson(correct, count)
    assert 0 <= low <= correct / count <= high <= 1


def test_the_ends_are_exact():
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 10)[0] == 0.0
    assert wilson(10, 10)[1] == 1.0


def test_almost_certain_is_still_finite():
    assert all(map(math.isfinite, wilson(5, 10, math.nextafter(1, 0))))


@pytest.mark.parametrize("arguments", [(-1, 5), (6, 5), (0, -1), (1, 2, 0), (1, 2, 1), (1, 2, 95)])
def test_what_is_no_share_or_no_confidence_is_refused(arguments):
    with pytest.raises(UsageError):
        wilson(*arguments)


@pytest.mark.parametrize("width", [0.8, 0.4, 0.2, 0.1])
def test_enough_images_is_the_first_number_that_is(width: float) -> None:
    def width_of(count: int) -> float:
        low, high = wilson(round(0.9 * count), count)
        return high - low

    count = enough_images(width)
    assert width_of(count) <= width < width_of(count - 1)


def test_ten_images_are_enough_by_default() -> None:
    assert enough_images() == 10


@given(share=shares, number=st.integers(1, 1000))
def test_a_simultaneous_interval_is_scipys_exact_one_at_bonferronis_level(share, number):
    correct, count = share
    expected = binomtest(correct, count).proportion_ci(1 - 0.05 / number, method="exact")
    assert simultaneous(correct, count, number) == pytest.approx(tuple(expected), abs=1e-9)


@given(share=shares)
def test_of_one_choice_the_interval_is_wilsons(share):
    assert of_the_best(*share, 1) == wilson(*share)


@given(share=shares, choices=st.integers(2, 500))
def test_of_several_choices_only_the_lower_bound_moves(share, choices):
    low, high = of_the_best(*share, choices)
    assert low <= wilson(*share)[0]
    assert high == wilson(*share)[1]
    assert low <= of_the_best(*share, choices - 1)[0]


def test_without_images_nothing_is_known():
    assert simultaneous(0, 0, 5) == of_the_best(0, 0, 5) == (0.0, 1.0)


def test_a_score_interval_takes_any_number_of_images():
    wide, narrow = score_interval(0.8, 10.5), score_interval(0.8, 1000.5)
    assert wide[0] < narrow[0] < 0.8 < narrow[1] < wide[1]
