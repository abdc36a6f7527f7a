"""How values become settings: lossless conversions, ranges, and every fault at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sartor.recipe import PARTS
from sartor.settings import OneOf, Range, build, coerced, described, fields_of


@dataclass(frozen=True, kw_only=True)
class Oven:
    """Settings of every kind."""

    degrees: Annotated[float, Range(0, 300, open_low=True)] = 180.0
    minutes: Annotated[int, Range(1)] = 30
    fan: bool = False
    trays: Annotated[tuple[int, ...], Range(1, 5)] = (2,)
    dish: Annotated[str, OneOf("dish", ("bread", "cake"))] = "bread"
    size: Annotated[int | Literal["full"], Range(1, 9)] = 3
    timer: Annotated[float | None, Range(0)] = None
    extras: Mapping[str, float] = field(default_factory=dict)


NUMBERS = [0, 1, -7, 2**70, 0.5, -0.0, 1e300]


class TestCoerced:
    @pytest.mark.parametrize(
        ("value", "hint", "result"),
        [
            (3, float, 3.0),
            (-(2**53), float, -(2.0**53)),
            (3, int, 3),
            (True, bool, True),
            ("a", str, "a"),
            (5, tuple[int, ...], (5,)),
            ([1, 2], tuple[int, ...], (1, 2)),
            ((1, 2.5), tuple[float, ...], (1.0, 2.5)),
            ([], tuple[float, ...], ()),
            (None, int | None, None),
            (4, float | None, 4.0),
            ("all", int | Literal["all"], "all"),
            (7, int | Literal["all"], 7),
            ([1, 2], Literal["none"] | tuple[float, ...], (1.0, 2.0)),
            ("none", Literal["none"] | tuple[float, ...], "none"),
            ({"a": 1}, Mapping[str, int], {"a": 1}),
        ],
    )
    def test_without_loss(self, value: Any, hint: Any, result: Any) -> None:
        assert coerced(value, hint) == (True, result)
        assert type(coerced(value, hint)[1]) is type(result)

    @pytest.mark.parametrize(
        ("value", "hint"),
        [
            (3.0, int),
            (3.5, int),
            ("3", int),
            ("3", float),
            (True, int),
            (False, float),
            (1, bool),
            ("true", bool),
            (None, int),
            (3, str),
            ([1, "2"], tuple[int, ...]),
            ([1.5], tuple[int, ...]),
            ([[1]], tuple[int, ...]),
            ([True], tuple[int, ...]),
            ("12", tuple[int, ...]),
            ("most", int | Literal["all"]),
            (True, int | Literal["all"]),
            ([1], Mapping[str, int]),
            (10**400, float),
            ([1, 10**400], tuple[float, ...]),
        ],
    )
    def test_never_with_loss(self, value: Any, hint: Any) -> None:
        assert not coerced(value, hint)[0]

    @given(st.integers())
    def test_whole_numbers_that_a_float_holds(self, value: int) -> None:
        fits, number = coerced(value, float)
        assert not fits or (isinstance(number, float) and math.isfinite(number))

    def test_a_table_is_copied(self) -> None:
        table = {"a": 1}
        assert coerced(table, Mapping[str, int])[1] is not table


class TestRange:
    @pytest.mark.parametrize(
        "value", [*NUMBERS, math.inf, -math.inf, math.nan, 10**400, -(10**400)]
    )
    @pytest.mark.parametrize("open_low", [False, True])
    @pytest.mark.parametrize("high", [100.0, math.inf])
    def test_accepts_what_lies_inside(self, value: float, open_low: bool, high: float) -> None:
        inside = (value > 0 if open_low else value >= 0) and value <= high and value != math.inf
        assert (Range(0, high, open_low).problem(value) == "") == inside

    @pytest.mark.parametrize(
        ("limits", "sentence"),
        [
            (Range(1), "must be at least 1"),
            (Range(0, 0.9), "must be at least 0 and at most 0.9"),
            (Range(0, 1_000_000, open_low=True), "must be greater than 0 and at most 1000000"),
            (Range(0, 2**32 - 1), "must be at least 0 and at most 4294967295"),
        ],
    )
    def test_says_what_is_accepted_digit_for_digit(self, limits: Range, sentence: str) -> None:
        assert limits.problem(-1) == sentence


class TestBuild:
    def test_accepts(self) -> None:
        oven, problems = build(Oven, {"degrees": 200, "trays": [1, 3], "extras": {"salt": 1}}, "")
        assert problems == []
        assert oven == Oven(degrees=200.0, trays=(1, 3), extras={"salt": 1})
        assert isinstance(oven.degrees, float)

    def test_finds_every_problem_and_keeps_the_rest(self) -> None:
        oven, problems = build(
            Oven,
            {
                "degree": 200,
                "degrees": 0,
                "minutes": 1.5,
                "fan": "yes",
                "trays": [1, 6],
                "dish": "brad",
                "size": 10,
                "timer": -1.0,
                "extras": 3,
            },
            "[oven] ",
        )
        assert oven == Oven()
        assert problems == [
            'unknown [oven] key "degree"; did you mean "degrees"?',
            "degrees must be greater than 0 and at most 300, not 0",
            "minutes must be a whole number, not 1.5",
            "fan must be true or false, not 'yes'",
            "trays must be at least 1 and at most 5, not 6",
            'unknown dish "brad"; did you mean "bread"?',
            "size must be at least 1 and at most 9, not 10",
            "timer must be at least 0, not -1",
            "extras must be a table of settings, not 3",
        ]

    def test_lists_what_is_known_where_nothing_is_near(self) -> None:
        _, problems = build(Oven, {"zzz": 1}, "")
        known = "degrees, dish, extras, fan, minutes, size, timer, trays"
        assert problems == [f'unknown key "zzz"; known: {known}']

    @pytest.mark.parametrize("value", [10**400, -(10**400), 1e999, math.nan])
    def test_numbers_beyond_all_floats(self, value: float) -> None:
        for name in ("degrees", "minutes", "timer", "size", "trays"):
            _, problems = build(Oven, {name: value}, "")
            huge = value == 10**400 and name == "minutes"
            assert len(problems) == (0 if huge else 1), name

    def test_refuses_a_number_just_outside_with_all_its_digits(self) -> None:
        """Not "at most 1e+06, not 1e+06"."""
        _, problems = build(PARTS["training"], {"epochs": 1_000_001}, "")
        assert problems == ["epochs must be at least 1 and at most 1000000, not 1000001"]


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int, "a whole number"),
        (float | None, "a number"),
        (int | Literal["all"], 'a whole number or "all"'),
        (tuple[int, ...], "a list, each a whole number"),
        (Literal["a", "b"] | tuple[float, ...], '"a" or "b" or a list, each a number'),
        (bool, "true or false"),
        (Mapping[str, int], "a table of settings"),
    ],
)
def test_described(hint: Any, words: str) -> None:
    assert described(hint) == words


FIELDS = [
    (part, name, constraints)
    for part, kind in PARTS.items()
    for name, _, constraints in fields_of(kind)
]
LIMITED = [(part, name, c) for part, name, cs in FIELDS for c in cs if isinstance(c, Range)]
CHOSEN = [(part, name, c) for part, name, cs in FIELDS for c in cs if isinstance(c, OneOf)]


class TestEveryField:
    """Of the settings that ship."""

    @pytest.mark.parametrize("part", PARTS)
    def test_defaults_are_accepted(self, part: str) -> None:
        defaults = vars(PARTS[part]())
        rebuilt, problems = build(PARTS[part], defaults, "")
        assert problems == []
        assert rebuilt == PARTS[part]()

    @pytest.mark.parametrize(("part", "name", "limits"), LIMITED, ids=[f[1] for f in LIMITED])
    def test_just_outside_its_range_is_refused(self, part: str, name: str, limits: Range) -> None:
        below = limits.low if limits.open_low else limits.low - 1
        outside = [below] if math.isinf(limits.high) else [below, limits.high + 1]
        for value in [*outside, math.nan, math.inf]:
            for written in (value, [value], [limits.low + 1, value]):
                _, problems = build(PARTS[part], {name: written}, "")
                assert len(problems) == 1
                assert problems[0].startswith(f"{name} must be ")

    @pytest.mark.parametrize(("part", "name", "choice"), CHOSEN, ids=[f[1] for f in CHOSEN])
    def test_another_word_is_refused_and_each_word_accepted(
        self, part: str, name: str, choice: OneOf
    ) -> None:
        for word in choice.words:
            assert build(PARTS[part], {name: word}, "")[1] == []
        typo = choice.words[0][:-1] + "q"
        assert build(PARTS[part], {name: typo}, "")[1] == [
            f'unknown {choice.kind} "{typo}"; did you mean "{choice.words[0]}"?'
        ]

    @pytest.mark.parametrize(("part", "name"), [field[:2] for field in FIELDS])
    def test_a_thing_that_is_no_setting_at_all_is_refused(self, part: str, name: str) -> None:
        _, problems = build(PARTS[part], {name: object()}, "")
        assert len(problems) == 1
        assert problems[0].startswith(f"{name} must be ")
