"""A network caught by torch.export: what `model.onnx` is made of, and `program.pt2` holds.

A .pt2 runs a network of the user's own without its Python file. Reading one can run code, though:
`torch.export.load` unpickles parts of it and evaluates its expressions. So it is only read where
the user trusts the bundle, or exported it here.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..errors import BundleError, ExportError
from ..inference.answering import Answering
from ..models.copying import copied_network
from ..models.custom import reason_of

_EXAMPLES = 3
"""Images to capture with. Of 0 and 1 it would take the number as fixed; of 2, in places, as a
boolean's."""
_MEANINGS = {
    "data-dependent": (
        "its way is data-dependent: an `if`, a loop or .item() on values that come of the images"
    ),
    "Constraints violated": (
        "it works only for the number of images that it was captured with: it loops over the "
        "batch, or takes its size as a number"
    ),
}
"""What some of PyTorch's reasons mean, by words in them."""
_TRACES = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn")


def captured(answering: Answering, input_shape: tuple[int, int, int]) -> ExportedProgram:
    """The graph from images uint8 (N, H, W, C) to probabilities, for any N.

    Args:
        input_shape: channels, height and width.

    Raises:
        ExportError: naming the layer that PyTorch cannot capture, and why.
    """
    plain = _in_plain_layout(answering)
    channels, height, width = input_shape
    images = torch.zeros(_EXAMPLES, height, width, channels, dtype=torch.uint8)
    try:
        return _without_traces(_captured(plain, images, "images"))
    except Exception as error:  # whatever a network of the user's own may leave with
        layer, reason = _culprit(plain, images, error)
        raise ExportError(
            f"The network cannot be exported: PyTorch cannot capture {layer}: {reason}.",
            "Change that layer, or write a bundle without ONNX: --no-onnx",
        ) from error


def program_bytes(program: ExportedProgram) -> bytes:
    """The content of program.pt2."""
    stream = io.BytesIO()
    with quiet():
        torch.export.save(program, stream)
    return stream.getvalue()


def loaded_program(content: bytes, name: str) -> nn.Module:
    """What `program_bytes` gave, ready to answer; it can run code, so only for who is trusted.

    Raises:
        BundleError: it cannot be read.
    """
    try:
        with quiet():
            return torch.export.load(io.BytesIO(content)).module()
    except Exception as error:
        raise BundleError(
            f"{name} cannot be read: {reason_of(error)}.",
            "Use the version of PyTorch that wrote it, or model.onnx.",
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """What exporters print, log and warn of on their way is for their authors."""
    loggers = [logging.getLogger(name) for name in ("torch", "onnxscript", "onnx_ir")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)


def _captured(module: nn.Module, images: Tensor, argument: str) -> ExportedProgram:
    # Of a network that it cannot capture, it prints the graph that it has so far.
    with quiet(), torch.no_grad(), redirect_stderr(io.StringIO()):
        return torch.export.export(
            module,
            (images,),
            dynamic_shapes={argument: {0: Dim("N", min=1)}},
            strict=False,
        )


def _without_traces(program: ExportedProgram) -> ExportedProgram:
    """Without the lines of Python that each operation came from: paths of this machine, which
    differ from export to export."""
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                for key in _TRACES:
                    node.meta.pop(key, None)
    return program


def _in_plain_layout(answering: Answering) -> Answering:
    """A copy whose images and weights are contiguous: elsewhere no layout has a second name."""
    copy = copied_network(answering)
    assert isinstance(copy, Answering)
    copy.memory_format = torch.contiguous_format
    for tensor in (*copy.parameters(), *copy.buffers()):
        tensor.requires_grad_(False)
        # Through a new tensor, for the strides of a side of length 1 can be those of both layouts.
        tensor.data = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.data)
    return copy.eval()


def _culprit(answering: Answering, images: Tensor, error: Exception) -> tuple[str, str]:
    """The innermost layer that cannot be captured by itself, and why."""
    calls = _calls(answering, images)
    name, module = "", answering.trained
    while True:
        for key, child in module.named_children():
            inner = f"{name}.{key}" if name else key
            found = _failure(child, calls.get(inner))
            if found is not None:
                name, module, error = inner, child, found
                break
        else:
            break
    kind = type(module).__name__
    return (f"its layer {name} ({kind})" if name else kind), _reason(error)


def _calls(answering: Answering, images: Tensor) -> dict[str, Tensor]:
    """What each layer is given, of those that are given one tensor."""
    given: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            # A layer that is given single images out of the batch is no example for all.
            if len(inputs) != 1 or not isinstance(inputs[0], Tensor):
                return
            if inputs[0].shape[:1] == images.shape[:1]:
                given[name] = inputs[0].detach().clone()

        return hook

    handles = [
        module.register_forward_pre_hook(keep(name))
        for name, module in answering.trained.named_modules()
    ]
    try:
        with torch.no_grad():
            answering(images)
    except Exception:  # then the layers that it came to must do
        pass
    finally:
        for handle in handles:
            handle.remove()
    return given


class _Alone(nn.Module):
    """A layer under a name of its argument that is known."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, given: Tensor) -> Any:
        return self.layer(given)


def _failure(layer: nn.Module, given: Tensor | None) -> Exception | None:
    if given is None:
        return None
    try:
        _captured(_Alone(layer), given, "given")
    except Exception as error:
        return error
    return None


def _reason(error: Exception) -> str:
    """What is wrong, or a sentence of PyTorch's that tells something; its messages begin in
    different ways."""
    for words, meaning in _MEANINGS.items():
        if words in str(error):
            return meaning
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("-", "*", "Call", "from user"))]
    first = told[0] if told else type(error).__name__
    if first.endswith(":") and len(told) > 1:
        first = f"{first} {told[1]}"
    return first.rstrip(". ")[:300]
