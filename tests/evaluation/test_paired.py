from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, multinomial, norm

from sartor.errors import UsageError
from sartor.evaluation.paired import (
    difference_interval,
    holm,
    images_by_connor,
    images_needed,
    mcnemar,
)

tables = st.tuples(*[st.integers(0, 3_000)] * 3).map(lambda t: (t[0], t[1], sum(t)))


class TestDifferenceInterval:
    # Fagerland, Lydersen and Laake (2014, Statistics in Medicine 33, 2850-2875) on the airways of
    # 21 children; Cavo et al. (2012) as in their book of 2017, chapter 8.
    @pytest.mark.parametrize(
        ("table", "published"),
        [((7, 1, 21), (-0.517, -0.026)), ((16, 6, 161), (-0.1240, -0.0054))],
    )
    def test_published_examples(self, table, published):
        assert difference_interval(*table) == pytest.approx(published, abs=5.1e-4)

    @given(table=tables)
    def test_the_ends_are_where_the_score_test_just_rejects(self, table):
        """The score statistic, with the rate of the discordant images found by brute force."""
        only_first, only_second, count = table
        if not 0 < count < 200:
            return
        for end in difference_interval(*table):
            if abs(end) < 1:
                assert abs(score(end, only_first, only_second, count)) == pytest.approx(
                    norm.isf(0.025), rel=1e-3
                )

    @given(table=tables)
    def test_mirrored_models_give_mirrored_intervals(self, table):
        only_first, only_second, count = table
        low, high = difference_interval(only_first, only_second, count)
        mirrored = difference_interval(only_second, only_first, count)
        assert mirrored == pytest.approx((-high, -low), abs=1e-12)
        if count:
            assert -1 <= low <= (only_second - only_first) / count <= high <= 1

    @given(table=tables)
    def test_holds_0_where_the_asymptotic_test_does_not_reject(self, table):
        only_first, only_second, _ = table
        low, high = difference_interval(*table)
        if only_first + only_second:
            z = abs(only_first - only_second) / (only_first + only_second) ** 0.5
            if abs(z - norm.isf(0.025)) > 1e-9:
                assert (low <= 0 <= high) == (z < norm.isf(0.025))

    def test_covers_the_truth_as_often_as_it_says(self):
        """Over every possible outcome on 40 images, each weighted by its probability."""
        count = 40
        outcomes = [(b, c) for b, c in product(range(count + 1), repeat=2) if b + c <= count]
        ends = np.array([difference_interval(b, c, count) for b, c in outcomes])
        cells = np.array([(b, c, count - b - c) for b, c in outcomes])
        covered = []
        for differing, share in product((0.1, 0.2, 0.4, 0.7), (0.5, 0.6, 0.75, 0.9)):
            rates = differing * (1 - share), differing * share, 1 - differing
            truth = rates[1] - rates[0]
            inside = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
            covered.append(multinomial.pmf(cells, count, rates)[inside].sum())
        assert min(covered) > 0.93
        assert 0.94 < np.mean(covered) < 0.965

    def test_the_ends_are_exact(self):
        assert difference_interval(0, 0, 0) == (-1.0, 1.0)
        assert difference_interval(10, 0, 10)[0] == -1.0
        assert difference_interval(0, 10, 10)[1] == 1.0

    @pytest.mark.parametrize("arguments", [(-1, 2, 5), (3, 3, 5), (1, 1, 5, 0), (1, 1, 5, 1)])
    def test_what_is_no_table_or_no_confidence_is_refused(self, arguments):
        with pytest.raises(UsageError):
            difference_interval(*arguments)


def score(difference, only_first, only_second, count):
    """Tango's statistic, its nuisance rate by a search for the highest likelihood."""
    low, high = max(0.0, -difference), (1 - difference) / 2
    for _ in range(40):
        rates = np.linspace(low, high, 41)
        with np.errstate(divide="ignore", invalid="ignore"):
            likelihood = sum(
                np.where(n > 0, n * np.log(np.maximum(p, 1e-300)), 0.0)
                for n, p in (
                    (only_first, rates),
                    (only_second, rates + difference),
                    (count - only_first - only_second, 1 - 2 * rates - difference),
                )
            )
        best = int(np.argmax(likelihood))
        low, high = rates[max(best - 1, 0)], rates[min(best + 1, 40)]
    variance = count * (2 * rates[best] + difference - difference**2)
    return (only_second - only_first - count * difference) / variance**0.5


class TestMcnemar:
    @given(table=tables)
    def test_scipy_gives_the_same(self, table):
        only_first, only_second, _ = table
        if only_first + only_second:
            expected = binomtest(only_first, only_first + only_second).pvalue
            # SciPy rounds what is below the normal floating-point numbers in another way.
            assert mcnemar(only_first, only_second) == pytest.approx(expected, rel=1e-9, abs=1e-290)

    def test_published_example(self):
        assert mcnemar(16, 6) == pytest.approx(0.052479, abs=5e-7)

    def test_by_hand(self):
        assert mcnemar(0, 0) == 1
        assert mcnemar(1, 7) == pytest.approx(2 * (1 + 8) / 2**8)
        assert mcnemar(4, 4) == 1
        assert mcnemar(2, 9) == pytest.approx(2 * sum(comb(11, k) for k in range(3)) / 2**11)


def test_every_rejection_leaves_0_out_of_the_interval():
    """So that a verdict never speaks against its own interval."""
    for differing in range(6, 500):
        # The most even split that the exact test still rejects.
        fewer = int(binom.ppf(0.025, differing, 0.5))
        fewer -= mcnemar(fewer, differing - fewer) > 0.05
        assert mcnemar(fewer, differing - fewer) <= 0.05
        assert (differing - 2 * fewer) / differing**0.5 > norm.isf(0.025)


class TestHolm:
    def test_by_hand(self):
        assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
        assert holm([0.7, 0.6]) == (1.0, 1.0)
        assert holm([0.03]) == (0.03,)
        assert holm([]) == ()

    @given(p_values=st.lists(st.floats(0, 1), min_size=1, max_size=8), level=st.floats(0.001, 0.5))
    def test_rejects_what_the_step_down_procedure_rejects(self, p_values, level):
        rejected = set()
        for rank, place in enumerate(sorted(range(len(p_values)), key=lambda k: p_values[k])):
            if p_values[place] * (len(p_values) - rank) > level:
                break
            rejected.add(place)
        adjusted = holm(p_values)
        assert {place for place, p_value in enumerate(adjusted) if p_value <= level} == rejected


class TestImagesNeeded:
    def test_published_example(self):
        """Rates of 0.45 and 0.05 at 80 % power, in a calculator that follows Connor's page 209."""
        assert images_by_connor(0.5, 0.4, 0.05, 0.8) == 23

    @pytest.mark.parametrize(
        "table", [(45, 5, 100), (0, 5, 5), (0, 5, 100), (3, 9, 100), (10, 20, 1000), (1, 2, 5)]
    )
    def test_the_exact_test_has_that_power_there_and_less_with_fewer(self, table):
        only_first, only_second, count = table
        rates = only_first / count, only_second / count
        needed = images_needed(*table)

        def power(images):
            random = np.random.default_rng(1)
            drawn = random.multinomial(images, (*rates, max(0, 1 - sum(rates))), size=40_000)
            fewer, differing = drawn[:, :2].min(axis=1), drawn[:, :2].sum(axis=1)
            return (2 * binom.cdf(fewer, differing, 0.5) <= 0.05).mean()

        assert power(needed) > 0.79
        assert power(int(0.85 * needed)) < 0.79

    def test_five_of_five_are_not_enough_for_the_exact_test(self):
        assert mcnemar(0, 5) > 0.05
        assert images_needed(0, 5, 5) == 6

    def test_none_where_nothing_differs(self):
        assert images_needed(3, 3, 100) is None
        assert images_needed(0, 0, 100) is None

    def test_with_so_many_four_of_five_trials_show_it(self):
        rates = 0.04, 0.06, 0.9
        count = images_needed(400, 600, 10_000)
        drawn = np.random.default_rng(0).multinomial(count, rates, size=20_000)
        fewer, differing = drawn[:, :2].min(axis=1), drawn[:, :2].sum(axis=1)
        shown = 2 * binom.cdf(fewer, differing, 0.5) <= 0.05
        # The exact test is a little more careful than the formula's.
        assert 0.77 < shown.mean() < 0.82

    def test_what_is_not_distinguishable_needs_more_than_there_are(self):
        for only_first, only_second in product(range(40), repeat=2):
            if only_first != only_second and mcnemar(only_first, only_second) > 0.05:
                assert images_needed(only_first, only_second, 1_000) > 1_000
