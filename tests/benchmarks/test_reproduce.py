"""The comparison with the walk-throughs is fair, and every figure of theirs is looked for."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import reproduce
from reproduce_page import REASONS, Figure, Reported, reasons, row, share_by_chance
from scipy import stats

from sartor.data.dataset import Dataset


def figure(value: float | None, *values: float, digits: int = 1) -> Figure:
    return Figure(name="some figure", reported=Reported(value, digits), values=values)


@pytest.mark.parametrize(
    ("found", "agrees"),
    [
        (figure(2.0, 1.0, 2.0, 3.0), True),
        (figure(4.0, 1.0, 2.0, 3.0), True),  # mean 2, deviation 1
        (figure(4.1, 1.0, 2.0, 3.0), False),
        (figure(-0.1, 1.0, 2.0, 3.0), False),
        (figure(9.0, *[0.0] * 30, 9.0), True),  # far from the mean, yet seen
        (figure(98.5, 98.46, 98.46), True),  # 98.46 is printed as 98.5
        (figure(98.6, 98.46, 98.46), False),
        (figure(None, 1.0, 2.0), None),
    ],
)
def test_agreement(found: Figure, agrees: bool | None) -> None:
    assert found.agrees is agrees


def test_a_row_has_the_digits_of_what_is_reported() -> None:
    found = row(figure(1234.0, 1200.0, 1300.0, digits=0))
    assert found == "| some figure | 1,234 | 1,250 | 70.7 | 1,200 to 1,300 | yes |"


def test_reasons_are_given_for_what_differs_alone() -> None:
    (recipe, name), reason = next(iter(REASONS.items()))
    differs = Figure(name=name, reported=Reported(9.0, 1), values=(1.0, 1.1))
    agrees = Figure(name=name, reported=Reported(1.0, 1), values=(1.0, 1.1))
    assert reasons(recipe, [differs])[0] == f"- {name}: {reason}"
    assert reasons(recipe, [agrees]) == []
    assert "not explained yet" in reasons(recipe, [figure(9.0, 1.0, 1.1)])[0]


def test_reasons_belong_to_figures() -> None:
    names = {(case.name, name) for case in reproduce.CASES for name in case.reported}
    assert set(REASONS) <= names


def test_how_often_chance_disagrees() -> None:
    # With five seeds, lowest to highest lies within two deviations: Student's t gives the answer.
    expected = 2 * stats.t.sf(2 / math.sqrt(1 + 1 / 5), df=4)
    assert share_by_chance(5) == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("case", reproduce.CASES, ids=lambda case: case.name)
def test_every_reported_figure_is_read_from_a_run(
    case: reproduce.Case, small_sets: dict[str, Dataset]
) -> None:
    settings = {**case.settings, "device": "cpu"}
    found = reproduce.measure(replace(case, settings=settings), small_sets[case.source], range(2))
    assert [one.name for one in found] == list(case.reported)
    for one in found:
        assert len(one.values) == 2
        assert all(math.isfinite(value) for value in one.values)


def test_figures_of_an_untrained_network_are_those_of_guessing(
    small_sets: dict[str, Dataset],
) -> None:
    case = next(case for case in reproduce.CASES if case.name == "mnist-logistic")
    figures = reproduce.figures_of_seed(case, small_sets["mnist"], 0)
    assert figures["validation loss before training"] == pytest.approx(math.log(10), abs=0.1)
    assert figures["validation accuracy before it"] < 0.3
