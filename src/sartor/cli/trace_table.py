"""A trace for people: what went forward, what came back, what the step did; 80 columns."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from ..console.streams import print_text
from ..models.stages import level_for, stages
from ..wording import one_line
from .tables import _console, _table, name_cell

if TYPE_CHECKING:
    from ..api import Trace
    from ..inspection.trace import Layer, ParameterTrace

_WIDTH = 80
_CLASSES_SHOWN = 5


def print_trace(trace: Trace, *, page_hint: bool, depth: int | None = None) -> None:
    """Everything but the pictures; layers below a level of names as one."""
    names = [layer.name for layer in trace.layers]
    level = level_for(names, depth)
    found = stages(names, level)
    _print_origin(trace)
    print(f"\nforward: {_shape(tuple(trace.images.shape))} goes in")
    _console().print(_layers(trace, found))
    if len(found) < len(names):
        opened = "; --depth 0 shows each" if depth is None else ""
        print(f"{len(found)} rows for {len(names)} layers: figures are of a stage's output{opened}")
    if trace.probabilities is not None:
        _print_answers(trace)
    if trace.step is not None:
        _print_way_back(trace, level)
    if trace.warnings:
        print("\nwarnings")
    for symptom in trace.warnings:
        print_text(_wrapped(str(symptom), "- "))
    if page_hint:
        print("\nwith pictures: the same command with --out trace.html")


def _print_origin(trace: Trace) -> None:
    about = trace.about
    mode = "training mode" if trace.training_mode else "evaluation mode"
    print_text(_wrapped(f"{about.network}: {_batch(trace)}"))
    print(f"{mode}" + (", forward only" if trace.step is None else ""))
    for note in about.notes:
        print_text(_wrapped(note))


def _batch(trace: Trace) -> str:
    """What went in, and what it is."""
    if trace.labels is None or len(trace.images) > 1:
        return trace.about.images
    return f"{trace.about.images}, class {trace.classes[int(trace.labels[0])]}"


def _layers(trace: Trace, found: Sequence[tuple[str, range]]) -> Table:
    table = _table()
    table.add_column("layer", no_wrap=True)
    by_stage = any(len(places) > 1 for _, places in found)
    table.add_column("operation", no_wrap=True, overflow="ellipsis", max_width=11 - 3 * by_stage)
    table.add_column("output", no_wrap=True, overflow="ellipsis", max_width=18)
    for heading in ("mean", "std", "silent"):
        table.add_column(heading, justify="right", no_wrap=True)
    if trace.step is not None:
        table.add_column("gradient", justify="right", no_wrap=True)
    for name, places in found:
        held = trace.layers[places.start : places.stop]
        last = held[-1]
        cells = [
            _end(name, 16),
            _operation(last) if len(held) == 1 else f"{len(held)} layers",
            _shape(last.output_shape, "," if by_stage else ", "),
            f"{last.statistics.mean:.{2 if by_stage else 3}g}",
            f"{last.statistics.std:.3g}",
            _silent(held, share=by_stage),
        ]
        if trace.step is not None:
            cells.append("none" if last.gradient_norm is None else f"{last.gradient_norm:.2g}")
        table.add_row(*cells)
    return table


def _end(name: str, width: int) -> str:
    """A name, or the end of it: layers of a stage differ in that."""
    return name if len(name) <= width else "…" + name[1 - width :]


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
        print_text(_wrapped(trace.loss_in_words()))


def _print_way_back(trace: Trace, level: int) -> None:
    step = trace.step
    assert step is not None, "asked before"
    print(f"\nbackward, and one {step.optimizer} step with learning rate {step.learning_rate:.4g}")
    table = _table()
    table.add_column("parameter", no_wrap=True)
    table.add_column("shape", no_wrap=True, overflow="ellipsis", max_width=18)
    for heading in ("weight", "gradient", "update", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, places in stages([one.name for one in trace.parameters], level):
        held = trace.parameters[places.start : places.stop]
        shape = _shape(held[0].shape) if len(held) == 1 else f"{len(held)} tensors"
        table.add_row(_end(name, 26), shape, *_norms(held))
    _console().print(table)
    print("weight, gradient, update: their norms; ratio: update norm / weight norm")
    if step.clipped_to is not None:
        print(f"gradient norm {step.gradient_norm:.3g} clipped to {step.clipped_to:g}")
    right = f"correct {step.correct_before:,} -> {step.correct_after:,} of {step.count:,}"
    print(
        f"loss of this batch {step.loss_before:.4f} -> {step.loss_after:.4f} after one step, "
        f"{right}"
    )


def _norms(held: Sequence[ParameterTrace]) -> tuple[str, str, str, str]:
    """Of all of them together."""
    weight = _norm(one.weight_norm for one in held)
    gradients = [one.gradient_norm for one in held if one.gradient_norm is not None]
    if not any(one.trainable for one in held):
        return f"{weight:.3g}", "frozen", "", ""
    if not gradients:
        return f"{weight:.3g}", "none", "", ""
    update = _norm(one.update_norm for one in held)
    ratio = f"{update / weight:.1e}" if weight else ""
    return f"{weight:.3g}", f"{_norm(gradients):.2g}", f"{update:.2g}", ratio


def _norm(norms: Iterable[float]) -> float:
    """Of the whole, from those of its parts."""
    return math.sqrt(sum(norm**2 for norm in norms))


def _silent(held: Sequence[Layer], *, share: bool) -> str:
    """Of activations: units that are 0 for all images, of all units or as their share."""
    relus = [layer.statistics for layer in held if layer.is_relu]
    silent = sum(one.silent_units for one in relus)
    units = sum(one.units for one in relus)
    if not units:
        return ""
    return f"{silent / units:.0%}" if share else f"{silent:,}/{units:,}"


def _shape(shape: tuple[int, ...], between: str = ", ") -> str:
    return f"({between.join(map(str, shape))})"


def _wrapped(text: str, mark: str = "") -> str:
    return textwrap.fill(
        one_line(text),
        _WIDTH,
        initial_indent=mark,
        subsequent_indent=" " * len(mark),
        break_long_words=False,
    )
