"""Charts of pages."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from sartor.reports.charts import (
    Axis,
    Series,
    coverage_chart,
    learning_chart,
    line_chart,
    per_cent,
    reliability_chart,
    shares,
)


def read(chart: str) -> ElementTree.Element:
    return ElementTree.fromstring(chart)


def row(epoch: int, **values: float | None) -> dict[str, Any]:
    empty = {"train_loss": None, "val_loss": None, "train_accuracy": None, "val_accuracy": None}
    return {"epoch": epoch, **empty, **values}


class TestAxis:
    @pytest.mark.parametrize(
        ("values", "share", "written"),
        [
            ([0.31, 0.58], False, ["0.3", "0.4", "0.5", "0.6"]),
            ([0.784, 0.875], True, ["77.5 %", "80.0 %", "82.5 %", "85.0 %", "87.5 %"]),
            ([0.2, 0.97], True, ["20 %", "40 %", "60 %", "80 %", "100 %"]),
            ([12.0, 187.0], False, ["0", "50", "100", "150", "200"]),
            ([0.00012, 0.00019], False, ["0.00012", "0.00014", "0.00016", "0.00018", "0.00020"]),
        ],
    )
    def test_ticks_are_round_and_told_apart(
        self, values: list[float], share: bool, written: list[str]
    ) -> None:
        axis = Axis.around(values, share=share)
        assert [axis.written(tick).replace("\u00a0", " ") for tick in axis.ticks] == written
        assert axis.low <= min(values) * 1.000001
        assert axis.high >= max(values)

    @pytest.mark.parametrize("values", [[], [0.5], [0.0], [1.0, 1.0], [math.nan], [-3.0], [1e9]])
    def test_hardly_any_values(self, values: list[float]) -> None:
        axis = Axis.around(values)
        assert axis.low < axis.high
        assert 1 <= len(axis.ticks) <= 8

    def test_a_share_ends_at_one(self) -> None:
        axis = Axis.around([1.0, 1.0], share=True)
        assert axis.high == 1
        assert axis.low < 1

    def test_epochs_are_whole(self) -> None:
        for last in (1, 2, 3, 7, 30, 200):
            axis = Axis.around(range(1, last + 1), whole=True)
            assert 1 <= len(axis.ticks) <= 6
            assert all(tick == int(tick) for tick in axis.ticks)


class TestCharts:
    def test_values_stand_where_they_belong(self) -> None:
        chart = line_chart(
            "c", "t", "d", [Series(name="", points=[(0, 0), (1, 1)])], shares("x"), shares("y")
        )
        circles = [one for one in read(chart) if one.tag == "circle"]
        (left, low), (right, high) = [(float(c.get("cx")), float(c.get("cy"))) for c in circles]
        texts = {one.text: one for one in read(chart) if one.tag == "text"}
        assert left < right
        assert high < low, "up is more"
        assert float(texts["100\u00a0%"].get("x")) in (right, pytest.approx(left - 6))

    def test_a_value_that_is_no_number_is_a_gap(self) -> None:
        chart = learning_chart(
            [row(1, train_loss=3.0), row(2, train_loss=math.nan), row(3, train_loss=1.0)], "loss"
        )
        path = next(one for one in read(chart) if "line blue" in (one.get("class") or ""))
        assert path.get("d", "").count("M") in (1, 2)
        assert "nan" not in chart

    def test_both_splits_are_named_with_their_last_value(self) -> None:
        chart = learning_chart([row(1, train_accuracy=0.5, val_accuracy=0.25)], "accuracy")
        description = read(chart).findtext("desc")
        assert description == "training, last 50.00\u00a0%; validation, last 25.00\u00a0%."
        without = learning_chart([row(1, train_accuracy=0.5)], "accuracy")
        assert "validation" not in without

    def test_everything_has_a_name_for_those_who_do_not_see(self) -> None:
        bins = [
            {
                "low": 0.8,
                "high": 0.9,
                "count": 3,
                "confidence": 0.85,
                "accuracy": 2 / 3,
                "interval": [0.2, 0.9],
            },
            {
                "low": 0.9,
                "high": 1.0,
                "count": 0,
                "confidence": None,
                "accuracy": None,
                "interval": [0.0, 1.0],
            },
        ]
        for chart in (
            reliability_chart("r", "As it is", bins),
            coverage_chart([(0.1, 1.0), (1.0, 0.8)]),
            reliability_chart("none", "As it is", []),
        ):
            svg = read(chart)
            assert svg.get("role") == "img"
            named = {one.get("id"): one.text for one in svg if one.get("id")}
            assert set(svg.get("aria-labelledby", "").split()) == set(named)
        assert "confidence 85\u00a0%, accuracy 67\u00a0%" in reliability_chart(
            "r", "As it is", bins
        )

    def test_no_colour_of_its_own(self) -> None:
        """So that a page can be light or dark."""
        chart = learning_chart([row(1, train_loss=1.0), row(2, train_loss=0.5)], "loss")
        assert not re.search(r"#[0-9a-f]{3}|rgb|fill=|stroke=", chart)

    def test_letters_are_escaped(self) -> None:
        chart = line_chart("c", "<b>", "a & b", [], shares(), shares())
        assert read(chart).findtext("title") == "<b>"
        assert per_cent(0.5) == "50\u00a0%"
