"""A training that becomes far slower is noticed, and one that only stutters is not."""

from __future__ import annotations

from sartor.training.pace import Pace


def paced(*steps_per_second: float, expected: float = 0.0) -> Pace:
    """After two seconds at each of these paces, seen four times a second."""
    pace = Pace(expected)
    for each in steps_per_second:
        for _ in range(8):
            pace.add(int(each / 4), 0.25)
    return pace


def test_three_windows_below_a_quarter() -> None:
    assert not paced(100, 100, 20, 20).has_fallen
    assert paced(100, 100, 20, 20, 20).has_fallen


def test_a_steady_or_a_little_slower_training_is_not_named() -> None:
    assert not paced(*[100] * 9).has_fallen
    assert not paced(100, *[30] * 9).has_fallen


def test_what_was_measured_before_counts() -> None:
    assert paced(20, 20, 20, expected=100).has_fallen
    assert not paced(20, 20, 20).has_fallen


def test_an_interruption_is_no_fall() -> None:
    pace = paced(100, 100)
    pace.add(1, 600.0)  # a stopped process
    assert not pace.has_fallen
    assert not paced(100, 20, 20, 100, 20, 20).has_fallen


def test_it_begins_again() -> None:
    pace = paced(100, 20, 20, 20)
    pace.begin_again()
    assert not pace.has_fallen
    assert pace.best == 100
