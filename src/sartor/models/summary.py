"""A network's layers in call order, with shapes and costs."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..errors import ModelError
from .custom import reason_of
from .decayed import decayed_parameters
from .stages import EVERY_LAYER, level_for, stages

Shape = tuple[int, ...]

COLUMNS = ("layer", "kind", "output", "weight", "params", "mult-adds", "memory")
"""Headings of `Summary.rows_for_table`."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One call of one layer."""

    name: str
    """Where the layer stands in the network, such as "features.conv1"."""
    kind: str
    """The layer's class."""
    output_shape: Shape
    """Of the batch that comes out; of the first tensor if there are several."""
    parameter_shapes: dict[str, Shape]
    parameters: int
    """Number of parameters."""
    parameter_bytes: int
    multiply_adds: int
    """For one image: products and sums that torch's counter knows, such as linear layers,
    convolutions and attention."""
    memory_bytes: int
    """What the output takes for the batch; 0 where it is a view of the input, as in Flatten."""
    repeated: bool
    """The layer was called before: its parameters are the ones counted there."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Summary:
    """The layers of a network and their totals."""

    model: str
    """The network's class."""
    input_shape: Shape
    """(B, C, H, W) of the batch that went through."""
    output_shape: Shape
    """(B, num_classes) of what came out."""
    rows: tuple[Row, ...]
    """Calls in which no other layer is called, in their order."""
    parameters: int
    """Each counted once, however often it is used; also those outside the rows."""
    trainable_parameters: int
    parameter_bytes: int
    multiply_adds: int
    """For one image; also those outside the rows."""
    memory_bytes: int
    """Of all outputs together, for the batch."""
    decayed_parameters: int = 0
    """Those that weight decay acts on: by default neither biases nor norms."""
    weight_decay: float | None = None
    """That of the run; None for a network without one."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        document: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return document

    def rows_for_table(self) -> list[tuple[str, ...]]:
        """The text of every cell, under `COLUMNS`."""
        return [_cells(row) for row in self.rows]

    def totals(self) -> str:
        """One line on the whole network."""
        frozen = self.parameters - self.trainable_parameters
        outside = self.parameters - sum(row.parameters for row in self.rows if not row.repeated)
        remarks = [_size(self.parameter_bytes)]
        remarks += [f"{frozen:,} frozen"] * (frozen > 0)
        remarks += [f"{outside:,} outside these layers"] * (outside > 0)
        return (
            f"{self.parameters:,} parameters ({', '.join(remarks)}), "
            f"{self.multiply_adds:,} multiply-adds, outputs {_size(self.memory_bytes)}"
        )

    def decay(self) -> str:
        """One line on weight decay."""
        if self.weight_decay == 0:
            return "no weight decay"
        amount = "" if self.weight_decay is None else f" {self.weight_decay:g}"
        spared = self.trainable_parameters - self.decayed_parameters
        if not spared:
            return f"weight decay{amount} on all of them"
        return (
            f"weight decay{amount} on {self.decayed_parameters:,} of them, not on {spared:,} of "
            "biases and norms"
        )

    def at_depth(self, depth: int | None = None) -> Summary:
        """The same with all layers below a level of names as one row: at 2, "stages.stage3" stands
        for all that begins so.

        Args:
            depth: the level; 0 for every layer. By default every layer of a network of up to 40,
                and of a larger one the deepest level that gives at most 20 rows.
        """
        names = [row.name for row in self.rows]
        level = level_for(names, depth)
        if level == EVERY_LAYER:
            return self
        found = stages(names, level)
        return replace(
            self, rows=tuple(_together(name, self.rows[p.start : p.stop]) for name, p in found)
        )

    def __repr__(self) -> str:
        table = [COLUMNS, *self.rows_for_table()]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [_line(cells, widths) for cells in table]
        title = f"{self.model}: {_shown(self.input_shape)} -> {_shown(self.output_shape)}"
        return "\n".join([title, *lines, self.totals(), self.decay()])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in COLUMNS)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
            for cells in self.rows_for_table()
        )
        caption = html.escape(f"{self.model}: {self.totals()}")
        return f"<table><caption>{caption}</caption><tr>{head}</tr>{body}</table>"


def summarize(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    *,
    batch_size: int = 1,
    count_multiply_adds: bool = True,
) -> Summary:
    """Send a batch of zeros through the network and note what every layer does.

    The network is as before afterwards: mode, hooks, gradients and torch's random state. Without
    `count_multiply_adds` they are all 0; torch's counter imports the compiler, a second's work.

    Raises:
        ModelError: it cannot take images of this shape; the layer and torch's reason.
    """
    images = _zeros_for(model, (batch_size, *input_shape))
    with ExitStack() as stack:
        stack.enter_context(_in_evaluation(model))
        stack.enter_context(_random_state_kept(images.device))
        stack.enter_context(torch.no_grad())
        stack.enter_context(_attention_in_parts())
        counter = FlopCounterMode(display=False)
        if count_multiply_adds:
            stack.enter_context(counter)
        recorder = stack.enter_context(_recording(model, counter, batch_size))
        output = _forward(model, images, recorder)
    parameters = list(model.parameters())
    return Summary(
        model=type(model).__name__,
        input_shape=tuple(images.shape),
        output_shape=_shape_of(output),
        rows=tuple(recorder.rows),
        parameters=sum(one.numel() for one in parameters),
        trainable_parameters=sum(one.numel() for one in parameters if one.requires_grad),
        parameter_bytes=sum(one.nbytes for one in parameters),
        multiply_adds=_multiply_adds(counter.get_total_flops(), batch_size),
        memory_bytes=sum(row.memory_bytes for row in recorder.rows),
        decayed_parameters=decayed_parameters(model),
    )


@dataclass
class _Call:
    """A call of a module that has not returned yet."""

    module: nn.Module
    operations: int
    """Counted before it."""
    calls_others: bool = False


class _Recorder:
    """Hooks that write a row for every call in which no other module is called."""

    def __init__(self, model: nn.Module, counter: FlopCounterMode, batch_size: int) -> None:
        self.names = {module: name for name, module in model.named_modules()}
        self.counter = counter
        self.batch_size = batch_size
        self.inside: list[_Call] = []
        """Outermost first."""
        self.rows: list[Row] = []
        self.seen: set[nn.Module] = set()

    def enter(self, module: nn.Module, _inputs: object) -> None:
        if self.inside:
            self.inside[-1].calls_others = True
        self.inside.append(_Call(module, self.counter.get_total_flops()))

    def leave(self, module: nn.Module, args: object, kwargs: object, output: object) -> None:
        call = self.inside.pop()
        if not call.calls_others:
            operations = self.counter.get_total_flops() - call.operations
            self.rows.append(self._row(module, (args, kwargs), output, operations))
            self.seen.add(module)

    def _row(self, module: nn.Module, inputs: object, output: object, operations: int) -> Row:
        own = dict(module.named_parameters())
        return Row(
            name=self.names[module] or "model",
            kind=type(module).__name__,
            output_shape=_shape_of(output),
            parameter_shapes={name: tuple(one.shape) for name, one in own.items()},
            parameters=sum(one.numel() for one in own.values()),
            parameter_bytes=sum(one.nbytes for one in own.values()),
            multiply_adds=_multiply_adds(operations, self.batch_size),
            memory_bytes=_new_bytes(inputs, output),
            repeated=module in self.seen,
        )

    def place(self) -> str:
        """The innermost layer being called, as a part of a sentence; empty for the network."""
        module = self.inside[-1].module if self.inside else None
        name = self.names[module] if module else ""
        return f' in layer "{name}" ({type(module).__name__})' if name else ""


@contextmanager
def _recording(model: nn.Module, counter: FlopCounterMode, batch_size: int) -> Iterator[_Recorder]:
    recorder = _Recorder(model, counter, batch_size)
    handles = []
    try:
        for module in recorder.names:
            handles.append(module.register_forward_pre_hook(recorder.enter))
            handles.append(module.register_forward_hook(recorder.leave, with_kwargs=True))
        yield recorder
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _in_evaluation(model: nn.Module) -> Iterator[None]:
    """Every module in evaluation mode, each back in its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _attention_in_parts() -> Iterator[None]:
    """Without fused forms of attention, into which torch's counter cannot see."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _random_state_kept(device: torch.device) -> AbstractContextManager[None]:
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def _zeros_for(model: nn.Module, shape: Shape) -> Tensor:
    """Zeros of the type and on the device of the network's parameters."""
    like = next((one for one in model.parameters() if one.is_floating_point()), torch.empty(0))
    return torch.zeros(shape, dtype=like.dtype, device=like.device)


def _forward(model: nn.Module, images: Tensor, recorder: _Recorder) -> object:
    try:
        return model(images)
    except Exception as error:
        raise ModelError(
            f"The network cannot take images of shape {tuple(images.shape[1:])}: "
            f"{reason_of(error)}{recorder.place()}.",
            "Check that each layer accepts the output shape of the one before it.",
        ) from error


def tensors_in(value: object) -> Iterator[Tensor]:
    """Every tensor in nested tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for one in value:
            yield from tensors_in(one)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


def _shape_of(value: object) -> Shape:
    return next((tuple(tensor.shape) for tensor in tensors_in(value)), ())


def _new_bytes(inputs: object, outputs: object) -> int:
    """The size of the outputs, without those that lie in the memory of an input."""
    # A tensor without memory, as on the meta device, has the address 0.
    known = {one.untyped_storage().data_ptr() for one in tensors_in(inputs)} - {0}
    new = (one for one in tensors_in(outputs) if one.untyped_storage().data_ptr() not in known)
    return sum(one.nbytes for one in new)


def _multiply_adds(operations: int, batch_size: int) -> int:
    """Of one image; torch counts a product and its sum as two operations."""
    return operations // (2 * batch_size)


def _together(name: str, rows: Sequence[Row]) -> Row:
    """Several layers as one row; parameters that were counted before stay out."""
    if len(rows) == 1:
        return rows[0]
    new = [row for row in rows if not row.repeated]
    return Row(
        name=name,
        kind=f"{len(rows)} layers",
        output_shape=rows[-1].output_shape,
        parameter_shapes={},
        parameters=sum(row.parameters for row in new or rows),
        parameter_bytes=sum(row.parameter_bytes for row in new or rows),
        multiply_adds=sum(row.multiply_adds for row in rows),
        memory_bytes=sum(row.memory_bytes for row in rows),
        repeated=not new,
    )


def _cells(row: Row) -> tuple[str, ...]:
    shapes = row.parameter_shapes
    weight = shapes.get("weight", next(iter(shapes.values()), None))
    return (
        row.name,
        row.kind,
        _shown(row.output_shape),
        "" if weight is None else _shown(weight),
        "shared" if row.repeated and row.parameters else _count(row.parameters),
        _count(row.multiply_adds),
        _size(row.memory_bytes) if row.memory_bytes else "",
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Text to the left, the last three columns, numbers, to the right."""
    texts = [cell.ljust(width) for cell, width in zip(cells[:-3], widths, strict=False)]
    numbers = [cell.rjust(width) for cell, width in zip(cells[-3:], widths[-3:], strict=True)]
    return "  ".join(texts + numbers).rstrip()


def _shown(shape: Shape) -> str:
    return f"({', '.join(map(str, shape))})"


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _size(number: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.4g} {unit}"
        number /= 1024
    return f"{number:.4g} GiB"
