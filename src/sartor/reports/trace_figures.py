"""A trace as a matplotlib figure: one row per layer, its output beside its gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .canvas import INK, axes_at, frame, lettering, new_figure, shortened
from .trace_pictures import Drawing, draw_output

if TYPE_CHECKING:
    from torch import Tensor

    from .drawable import Layer, Trace

_LABEL, _PANEL, _GAP, _TOP = 2.2, 3.6, 0.2, 0.45
"""Inches."""


def trace_figure(trace: Trace) -> Figure:
    """Every layer's output for the first image, and the gradient of the loss there."""
    panels = 1 if trace.step is None else 2
    drawn = [[_draw(one) for one in _tensors(layer, panels)] for layer in trace.layers]
    heights = [max(_height(one) for one in row if one is not None) for row in drawn]
    width = _LABEL + panels * (_PANEL + _GAP) + _GAP
    figure = new_figure(width, _TOP + sum(heights) + _GAP * (len(heights) + 1))
    top = _TOP
    for layer, row, height in zip(trace.layers, drawn, heights, strict=True):
        _write_label(figure, layer, top, height)
        for place, drawing in enumerate(row):
            if drawing is not None:
                left = _LABEL + place * (_PANEL + _GAP)
                size = _height(drawing)
                axes = axes_at(figure, left, top + (height - size) / 2, _PANEL, size)
                _show(axes, drawing)
        top += height + _GAP
    for place, title in enumerate(("output", "gradient of the loss")[:panels]):
        left = (_LABEL + place * (_PANEL + _GAP)) / width
        figure.text(left, 1 - 0.25 / figure.get_figheight(), title, fontsize=11, color=INK)
    return figure


def _tensors(layer: Layer, panels: int) -> list[Tensor | None]:
    return [layer.output, layer.gradient][:panels]


def _draw(values: Tensor | None) -> Drawing | None:
    if values is None:
        return None
    return draw_output((values[0] if values.ndim else values).double().numpy())


def _height(drawing: Drawing) -> float:
    """Inches, at the width of a panel."""
    _, height, width = drawing.pixels.shape
    return float(min(max(_PANEL * height / width, 0.3), 2.4))


def _show(axes: Axes, drawing: Drawing) -> None:
    pixels = drawing.pixels.transpose(1, 2, 0)
    _, height, width = drawing.pixels.shape
    fits = 0.3 <= _PANEL * height / width <= 2.4
    axes.imshow(pixels, interpolation="nearest", aspect="equal" if fits else "auto")
    axes.set_xlabel(f"\u00b1{drawing.limit:.3g}", fontsize=7, color=INK, labelpad=1, loc="left")
    frame(axes)


def _write_label(figure: Figure, layer: Layer, top: float, height: float) -> None:
    width, whole = figure.get_size_inches()
    middle = 1 - (top + height / 2) / whole
    shape = " x ".join(map(str, layer.output_shape[1:]))
    name = shortened(layer.name, 135, 10)
    operation = shortened(layer.operation, 135, 8.5)
    figure.text(
        _GAP / width, middle + 0.09 / whole, name, va="center", weight="bold", **lettering(10)
    )
    figure.text(
        _GAP / width, middle - 0.12 / whole, f"{operation}  {shape}", va="center", **lettering(8.5)
    )
