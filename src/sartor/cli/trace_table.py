"""A trace for people: what went forward, what came back, what the step did; 80 columns."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from rich.table import Table

from .tables import _console, _table, name_cell

if TYPE_CHECKING:
    from ..api import Trace
    from ..inspection.trace import Layer, ParameterTrace

_WIDTH = 80
_CLASSES_SHOWN = 5


def print_trace(trace: Trace, *, page_hint: bool) -> None:
    """Everything but the pictures."""
    _print_origin(trace)
    print(f"\nforward: {_shape(tuple(trace.images.shape))} goes in")
    _console().print(_layers(trace))
    if trace.probabilities is not None:
        _print_answers(trace)
    if trace.step is not None:
        _print_way_back(trace)
    if trace.warnings:
        print("\nwarnings")
    for symptom in trace.warnings:
        print(_wrapped(str(symptom), "- "))
    if page_hint:
        print("\nwith pictures: the same command with --out trace.html")


def _print_origin(trace: Trace) -> None:
    about = trace.about
    mode = "training mode" if trace.training_mode else "evaluation mode"
    print(_wrapped(f"{about.network}: {_batch(trace)}"))
    print(f"{mode}" + (", forward only" if trace.step is None else ""))
    for note in about.notes:
        print(_wrapped(note))


def _batch(trace: Trace) -> str:
    """What went in, and what it is."""
    if trace.labels is None or len(trace.images) > 1:
        return trace.about.images
    return f"{trace.about.images}, class {trace.classes[int(trace.labels[0])]}"


def _layers(trace: Trace) -> Table:
    table = _table()
    table.add_column("layer", no_wrap=True, overflow="ellipsis", max_width=16)
    table.add_column("operation", no_wrap=True, overflow="ellipsis", max_width=11)
    table.add_column("output", no_wrap=True, overflow="ellipsis", max_width=18)
    for heading in ("mean", "std", "silent"):
        table.add_column(heading, justify="right", no_wrap=True)
    if trace.step is not None:
        table.add_column("gradient", justify="right", no_wrap=True)
    for layer in trace.layers:
        statistics = layer.statistics
        cells = [
            layer.name,
            _operation(layer),
            _shape(layer.output_shape),
            f"{statistics.mean:.3g}",
            f"{statistics.std:.3g}",
            _silent(layer),
        ]
        if trace.step is not None:
            cells.append("none" if layer.gradient_norm is None else f"{layer.gradient_norm:.2g}")
        table.add_row(*cells)
    return table


def _operation(layer: Layer) -> str:
    """Empty where the name says it already."""
    name = layer.name.rpartition(".")[2].partition("#")[0]
    return "" if name == layer.operation else layer.operation


def _print_answers(trace: Trace) -> None:
    assert trace.probabilities is not None, "asked before"
    count = len(trace.images)
    print("\nprediction" + (f" for the first of {count:,} images" if count > 1 else ""))
    probabilities = trace.probabilities[0]
    shown = probabilities.argsort(descending=True, stable=True)[:_CLASSES_SHOWN].tolist()
    true = None if trace.labels is None else int(trace.labels[0])
    if true is not None and true not in shown:
        shown[-1] = true
    table = _table("class")
    for heading in ("logit", "probability", *(["after the step"] if trace.step else [])):
        table.add_column(heading, justify="right")
    for row in shown:
        cells = [f"{trace.output[0, row]:.3f}", f"{probabilities[row]:.2%}"]
        if trace.step:
            cells.append(f"{trace.step.probabilities_after[0, row]:.2%}")
        table.add_row(name_cell(trace.classes[row] + (" (true)" if row == true else "")), *cells)
    _console().print(table)
    if trace.loss is not None:
        print(_wrapped(trace.loss_in_words()))


def _print_way_back(trace: Trace) -> None:
    step = trace.step
    assert step is not None, "asked before"
    print(f"\nbackward, and one {step.optimizer} step with learning rate {step.learning_rate:.4g}")
    table = _table()
    table.add_column("parameter", no_wrap=True, overflow="ellipsis", max_width=26)
    table.add_column("shape", no_wrap=True, overflow="ellipsis", max_width=18)
    for heading in ("weight", "gradient", "update", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    for parameter in trace.parameters:
        table.add_row(parameter.name, _shape(parameter.shape), *_norms(parameter))
    _console().print(table)
    print("weight, gradient, update: their norms; ratio: update norm / weight norm")
    if step.clipped_to is not None:
        print(f"gradient norm {step.gradient_norm:.3g} clipped to {step.clipped_to:g}")
    right = f"correct {step.correct_before:,} -> {step.correct_after:,} of {step.count:,}"
    print(
        f"loss of this batch {step.loss_before:.4f} -> {step.loss_after:.4f} after one step, "
        f"{right}"
    )


def _norms(parameter: ParameterTrace) -> tuple[str, str, str, str]:
    if not parameter.trainable:
        return f"{parameter.weight_norm:.3g}", "frozen", "", ""
    if parameter.gradient_norm is None:
        return f"{parameter.weight_norm:.3g}", "none", "", ""
    ratio = parameter.update_ratio
    return (
        f"{parameter.weight_norm:.3g}",
        f"{parameter.gradient_norm:.2g}",
        f"{parameter.update_norm:.2g}",
        "" if ratio is None else f"{ratio:.1e}",
    )


def _silent(layer: Layer) -> str:
    """Of an activation: units that are 0 for all images, of all units."""
    if not layer.is_relu:
        return ""
    return f"{layer.statistics.silent_units:,}/{layer.statistics.units:,}"


def _shape(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})"


def _wrapped(text: str, mark: str = "") -> str:
    return textwrap.fill(
        text, _WIDTH, initial_indent=mark, subsequent_indent=" " * len(mark), break_long_words=False
    )
