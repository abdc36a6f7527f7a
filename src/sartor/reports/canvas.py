"""What every figure is drawn with: empty figures, frames, colours, and letters that fit."""

from __future__ import annotations

import io
from bisect import bisect_right
from functools import lru_cache
from typing import Any

from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

# Okabe and Ito (2008): distinguishable with every kind of colour blindness.
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
INK, GRAY, FAINT = "#222222", "#8A8A8A", "#D9D9D9"

POINTS_PER_INCH = 72
"""Figures are measured in inches, letters in points."""

# Asked in turn for letters that DejaVu Sans, which matplotlib brings along, does not have.
_FALLBACK_FONTS = (
    "Noto Sans CJK JP",
    "Hiragino Sans",
    "Yu Gothic",
    "Microsoft YaHei",
    "Malgun Gothic",
    "Arial Unicode MS",
)


class _Figure(Figure):
    """Shows itself in a notebook, which without pyplot knows no figures."""

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png")
        return stream.getvalue()


# ------------------------------------------------------------------------------------ frames


def new_figure(width: float, height: float, layout: Any = None) -> Figure:
    """An empty figure, in inches."""
    return _Figure(figsize=(width, height), dpi=100, facecolor="white", layout=layout)


def axes_at(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes in inches from the upper left corner."""
    whole_width, whole_height = figure.get_size_inches()
    bottom = whole_height - top - height
    return figure.add_axes(
        (
            left / whole_width,
            bottom / whole_height,
            width / whole_width,
            height / whole_height,
        )
    )


def frame(axes: Axes) -> None:
    """No ticks, and a thin line that shows where a white image ends."""
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set(color=FAINT, linewidth=0.8)


def open_axes(axes: Axes, *sides: str) -> None:
    """Axes with lines only on these sides, whatever the reader's matplotlib style."""
    axes.set_facecolor("white")
    axes.tick_params(colors=INK)
    for name, side in axes.spines.items():
        side.set(color=GRAY, linewidth=0.8, visible=name in sides)


# ------------------------------------------------------------------------------------ letters


def lettering(size: float) -> dict[str, Any]:
    """How names from outside are written: in fonts that have their letters, "$" as itself."""
    return {"fontproperties": _font(size), "color": INK, "parse_math": False}


def wrapped(text: str, width: float, size: float) -> str:
    """Each line of `text` on at most two lines of `width` points."""
    lines: list[str] = []
    for line in text.split("\n"):
        lines += _broken(_drawable(line), width, size)
    return "\n".join(lines)


def _broken(line: str, width: float, size: float) -> list[str]:
    if text_width(line, size) <= width:
        return [line]
    fits = _count_that_fit(line, width, size)
    after_mark = max(line.rfind(mark, 1, fits + 1) for mark in " /_-") + 1
    cut = min(after_mark, fits) if after_mark else fits
    return [line[:cut].rstrip(), shortened(line[cut:].lstrip(), width, size)]


def shortened(text: str, width: float, size: float) -> str:
    """`text`, ending in "…" where it would take more than `width` points."""
    text = _drawable(text)
    if text_width(text, size) <= width:
        return text
    return text[: _count_that_fit(text, width - text_width("…", size), size)].rstrip() + "…"


def _count_that_fit(text: str, width: float, size: float) -> int:
    """How many of its first letters stay within `width` points, at least one."""
    counts = range(1, len(text) + 1)
    return max(bisect_right(counts, width, key=lambda count: text_width(text[:count], size)), 1)


def _drawable(text: str) -> str:
    """`text` with a box for each letter that no font here has, instead of a warning."""
    return "".join(letter if _has_glyph(letter) else "□" for letter in text)


def text_width(text: str, size: float) -> float:
    """Width in points."""
    width, _, _ = TextToPath().get_text_width_height_descent(text, _font(size), ismath=False)
    return float(width)


def _font(size: float) -> FontProperties:
    return FontProperties(family=list(_families()), size=size)


@lru_cache(maxsize=1)
def _families() -> tuple[str, ...]:
    installed = set(font_manager.get_font_names())
    return ("DejaVu Sans", *(name for name in _FALLBACK_FONTS if name in installed))


@lru_cache(maxsize=4096)
def _has_glyph(letter: str) -> bool:
    files = (font_manager.findfont(FontProperties(family=[name])) for name in _families())
    return any(font_manager.get_font(file).get_char_index(ord(letter)) for file in files)
