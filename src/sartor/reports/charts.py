"""Charts for pages: SVG that takes the page's colours, and so is legible in light and in dark.

matplotlib writes colours and letters into its SVG, takes half a second to import, and its letters
shrink with the picture on a telephone; these charts are as wide as a telephone, and need nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

_WIDTH, _HEIGHT = 360, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 28, 40
_MOST_MARKERS = 40

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a chart."""

    name: str
    """For the legend; without a name it is not in it."""
    points: Points
    """(x, y); a value that is not finite is a gap."""
    colour: str = "blue"
    """A colour of the page: blue, orange, green or quiet."""
    dashed: bool = False


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A direction of a chart."""

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]
    written: Callable[[float], str]
    """A value as it stands beside the axis."""

    @classmethod
    def around(
        cls, values: Iterable[float], label: str = "", *, share: bool = False, whole: bool = False
    ) -> Axis:
        """An axis that holds all finite values, with three to six round ticks.

        Values that are a `share` end at 1 and are written in per cent; `whole` ones are integers.
        """
        known = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
        low, high = min(known), max(known)
        if high - low < 1e-9:
            room = 0.5 if whole else max(abs(low) * 0.05, 0.02)
            low, high = low - room, high + room
        step = _step((high - low) / 4, whole)
        if not whole:
            low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        high = min(high, 1.0) if share else high
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        ticks = tuple(place * step for place in range(first, last + 1))
        return cls(label=label, low=low, high=high, ticks=ticks, written=_written(step, share))


def shares(label: str = "") -> Axis:
    """An axis from 0 to 100 %."""
    return Axis(label=label, low=0, high=1, ticks=(0, 0.25, 0.5, 0.75, 1), written=per_cent)


def line_chart(
    name: str, title: str, description: str, series: Sequence[Series], x: Axis, y: Axis
) -> Markup:
    """Lines over a common axis; `name` is unique on its page, `description` tells what is seen."""
    parts = [_frame(x, y), _legend(series)]
    for one in series:
        parts += _line(one, x, y)
    return _chart(name, title, description, parts)


def learning_chart(history: Sequence[Mapping[str, Any]], quantity: str) -> Markup:
    """Loss or accuracy of the training and of the validation split over the epochs."""
    series = []
    for part, called, colour, dashed in (
        ("train", "training", "blue", False),
        ("val", "validation", "orange", True),
    ):
        points = [(row["epoch"], _number(row[f"{part}_{quantity}"])) for row in history]
        known = [value for _, value in points if math.isfinite(value)]
        if known:
            last = per_cent(known[-1], 2) if quantity == "accuracy" else f"{known[-1]:.4f}"
            name = f"{called}, last {last}"
            series.append(Series(name=name, points=points, colour=colour, dashed=dashed))
    epochs = [float(row["epoch"]) for row in history]
    values = [value for one in series for _, value in one.points]
    return line_chart(
        f"chart-{quantity}",
        f"{quantity} per epoch".capitalize(),
        "; ".join(one.name for one in series) + ".",
        series,
        Axis.around(epochs, "epoch", whole=True),
        Axis.around(values, share=quantity == "accuracy"),
    )


def reliability_chart(name: str, title: str, bins: Sequence[Mapping[str, Any]]) -> Markup:
    """Accuracy over confidence, bin by bin, with 95 % intervals; where the images are, below."""
    x, y = shares("confidence"), shares("accuracy")
    filled = [one for one in bins if one["count"]]
    most = max((one["count"] for one in filled), default=1)
    parts = [_frame(x, y)]
    for one in filled:
        left, right = _x(x, one["low"]), _x(x, one["high"])
        top = _y(y, 0.22 * one["count"] / most)
        parts.append(
            f'<rect class="faint" x="{left + 0.5:.1f}" y="{top:.1f}" '
            f'width="{right - left - 1:.1f}" height="{_y(y, 0) - top:.1f}"/>'
        )
    parts.append(_path([(0, 0), (1, 1)], x, y, "line quiet dashed"))
    for one in filled:
        parts.append(_path([(one["confidence"], end) for end in one["interval"]], x, y, "line"))
    parts += _dots([(one["confidence"], one["accuracy"]) for one in filled], x, y, "blue", 3.2)
    description = "; ".join(
        f"confidence {per_cent(one['confidence'])}, accuracy {per_cent(one['accuracy'])}"
        for one in filled
    )
    return _chart(name, title, f"{description}.", parts)


def coverage_chart(curve: Points) -> Markup:
    """Accuracy of the most confident predictions against their share of all."""
    values = [value for _, value in curve]
    (_, most_confident), (_, everything) = curve[0], curve[-1]
    return line_chart(
        "chart-coverage",
        "Accuracy against coverage",
        f"From {per_cent(most_confident, 1)} on the most confident predictions to "
        f"{per_cent(everything, 1)} "
        "on all images.",
        [Series(name="", points=curve)],
        shares("coverage: share of images accepted, most confident first"),
        Axis.around(values, "accuracy", share=True),
    )


def per_cent(share: float, digits: int = 0) -> str:
    """A share as "87 %"."""
    return f"{100 * share:.{digits}f}\u00a0%"


# ------------------------------------------------------------------------------------ drawing


def _chart(name: str, title: str, description: str, parts: Iterable[str]) -> Markup:
    return Markup(
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-labelledby="{name}-title {name}-desc"><title id="{name}-title">{escape(title)}'
        f'</title><desc id="{name}-desc">{escape(description)}</desc>{"".join(parts)}</svg>'
    )


def _frame(x: Axis, y: Axis) -> str:
    """Ticks and labels; lines across at the ticks of y."""
    parts = []
    for tick in y.ticks:
        height = _y(y, tick)
        parts.append(_path([(x.low, tick), (x.high, tick)], x, y, "grid"))
        parts.append(_text(_LEFT - 6, height + 3.5, y.written(tick), "end"))
    for tick in x.ticks:
        parts.append(_text(_x(x, tick), _HEIGHT - _BOTTOM + 15, x.written(tick), "middle"))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(_text(middle, _HEIGHT - 6, x.label, "middle"))
    parts.append(_text(_LEFT - 38, 14, y.label, "start"))
    return "".join(parts)


def _legend(series: Sequence[Series]) -> str:
    """Names above the chart, from the right."""
    parts, right = [], _WIDTH - _RIGHT
    for one in reversed([one for one in series if one.name]):
        parts.append(_text(right, 14, one.name, "end"))
        right -= round(5.6 * len(one.name)) + 8
        kind = f"line {one.colour}" + " dashed" * one.dashed
        parts.append(f'<path class="{kind}" d="M{right - 16} 10.5H{right}"/>')
        right -= 30
    return "".join(parts)


def _line(one: Series, x: Axis, y: Axis) -> Iterator[str]:
    kind = f"line {one.colour}" + " dashed" * one.dashed
    yield _path(one.points, x, y, kind)
    if len(one.points) <= _MOST_MARKERS:
        yield from _dots(one.points, x, y, one.colour, 2.6)


def _path(points: Points, x: Axis, y: Axis, kind: str) -> str:
    steps, pen = [], "M"
    for place, value in points:
        if not (math.isfinite(place) and math.isfinite(value)):
            pen = "M"
            continue
        steps.append(f"{pen}{_x(x, place):.1f} {_y(y, value):.1f}")
        pen = "L"
    return f'<path class="{kind}" d="{"".join(steps)}"/>' if steps else ""


def _dots(points: Points, x: Axis, y: Axis, colour: str, radius: float) -> Iterator[str]:
    for place, value in points:
        if math.isfinite(value):
            yield (
                f'<circle class="dot {colour}" cx="{_x(x, place):.1f}" '
                f'cy="{_y(y, value):.1f}" r="{radius}"/>'
            )


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _x(axis: Axis, value: float) -> float:
    return _LEFT + (value - axis.low) / (axis.high - axis.low) * (_WIDTH - _LEFT - _RIGHT)


def _y(axis: Axis, value: float) -> float:
    share = (value - axis.low) / (axis.high - axis.low)
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


# ------------------------------------------------------------------------------------ numbers


def _step(least: float, whole: bool) -> float:
    """The next of 1, 2, 2.5, 5, 10 times a power of ten that is not below `least`."""
    if whole and least <= 1:
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    choices = (1, 2, 5, 10) if whole else (1, 2, 2.5, 5, 10)
    return power * next(one for one in choices if power * one >= least * 0.999)


def _written(step: float, share: bool) -> Callable[[float], str]:
    """As many digits after the point as tell the ticks apart."""
    shown = 100 * step if share else step
    digits = next(place for place in range(12) if _is_whole(shown * 10**place))
    if share:
        return lambda value: per_cent(value, digits)
    return lambda value: f"{value:.{digits}f}"


def _is_whole(value: float) -> bool:
    return abs(value - round(value)) < 1e-6 * max(value, 1)


def _number(value: float | None) -> float:
    return math.nan if value is None else value
