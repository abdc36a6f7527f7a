"""A backbone as an ONNX graph, which ONNX Runtime computes several times as fast as PyTorch.

The operations of one forward pass are written down as they are called, each as the ONNX operator
that does the same. That takes tenths of a second, where the exporter of PyTorch takes many; it
knows the operations of convolutional networks, and whoever uses it asks whether there is a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..arrays import Float32Array, UInt8Array
from ..torch_internals import DispatchMode

OPSET = 17
_INPUT, _OUTPUT = "images", "features"
_EXAMPLES = 2
"""Images of the recorded pass: what has so many rows has one for each image of a batch."""


class UnknownOperationError(Exception):
    """The network calls something that has no counterpart here."""


def onnx_of(
    features: Callable[[Tensor], Tensor],
    image_shape: tuple[int, ...],
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
) -> bytes:
    """The content of an ONNX file: images uint8 (N, C, H, W) -> features float32 (N, F).

    Args:
        features: of a network in evaluation mode, on the processor; of normalised images.
        image_shape: (C, H, W).
        mean, std: of each channel of pixels in 0..1, or one for all.

    Raises:
        UnknownOperationError: what is called is not known. ImportError: without the package onnx.
    """
    import onnx
    from onnx import helper

    images = torch.zeros(_EXAMPLES, *image_shape)
    recorder = _Recorder(images, mean, std)
    # Not in inference mode, in which operations reach the recorder undivided.
    with torch.no_grad(), recorder:
        found = features(images)
    recorder.nodes.append(helper.make_node("Identity", [recorder.name_of(found)], [_OUTPUT]))
    kinds = onnx.TensorProto
    graph = helper.make_graph(
        recorder.nodes,
        "backbone",
        [helper.make_tensor_value_info(_INPUT, kinds.UINT8, ["N", *image_shape])],
        [helper.make_tensor_value_info(_OUTPUT, kinds.FLOAT, ["N", found.shape[1]])],
        recorder.constants,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(model.SerializeToString())


class Session:
    """The graph in ONNX Runtime."""

    def __init__(self, content: bytes, threads: int) -> None:
        """
        Raises:
            ImportError: onnxruntime is not installed.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self._session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, images: UInt8Array) -> Float32Array:
        """Features (N, F) of images uint8 (N, C, H, W)."""
        return np.asarray(self._session.run([_OUTPUT], {_INPUT: images})[0], np.float32)


class _Recorder(DispatchMode):  # type: ignore[no-untyped-call]
    """Writes down every operation on tensors that is called while it is entered."""

    def __init__(self, images: Tensor, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._kept: list[Any] = [images]  # an id is one tensor's only while that lives
        scales = (1 / (255 * np.asarray(std))).astype(np.float32).reshape(1, -1, 1, 1)
        shifts = (-np.asarray(mean) / np.asarray(std)).astype(np.float32).reshape(1, -1, 1, 1)
        floats = self.add("Cast", [_INPUT], to=1)  # float32
        scaled = self.add("Mul", [floats, self.constant(scales)])
        self._names = {id(images): self.add("Add", [scaled, self.constant(shifts)])}

    def __torch_dispatch__(
        self,
        operation: Any,
        _types: Any,
        arguments: tuple[Any, ...] = (),
        keywords: dict[str, Any] | None = None,
    ) -> Any:
        write = _WRITERS.get(str(operation.overloadpacket))
        if write is None:
            raise UnknownOperationError(str(operation))
        found = operation(*arguments, **(keywords or {}))
        result = found[0] if isinstance(found, tuple) else found
        # Also an operation in place has a result of its own, under the name that is read next.
        name = write(self, arguments, keywords or {}, result)
        self._kept.append(result)
        self._names[id(result)] = name
        return found

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Asked by PyTorch; with True the first operation imports its compiler, for seconds."""
        return False

    def name_of(self, value: Any) -> str:
        """Of a tensor that was computed, or of one that is a constant."""
        if id(value) not in self._names:
            if not isinstance(value, Tensor):
                raise UnknownOperationError(f"a {type(value).__name__} in the place of a tensor")
            self._kept.append(value)
            self._names[id(value)] = self.constant(value.detach().numpy())
        return self._names[id(value)]

    def constant(self, value: Any) -> str:
        """The name of a new constant."""
        from onnx import numpy_helper

        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        """The name of what an ONNX operator gives."""
        from onnx import helper

        name = f"value{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name


Writer = Callable[[_Recorder, Sequence[Any], dict[str, Any], Tensor], str]


def _elementwise(operator: str) -> Writer:
    def write(to: _Recorder, given: Sequence[Any], _more: dict[str, Any], _found: Tensor) -> str:
        return to.add(operator, [to.name_of(given[0])])

    return write


def _binary(operator: str) -> Writer:
    def write(to: _Recorder, given: Sequence[Any], more: dict[str, Any], _found: Tensor) -> str:
        if more.get("alpha", 1) != 1:
            raise UnknownOperationError("a scaled sum")
        one, other = (
            to.name_of(value) if isinstance(value, Tensor) else to.constant(np.float32(value))
            for value in given[:2]
        )
        return to.add(operator, [one, other])

    return write


def _convolution(to: _Recorder, given: Sequence[Any], _more: dict[str, Any], _found: Tensor) -> str:
    images, weight, bias, stride, padding, dilation, transposed, _, groups = given
    if transposed or weight.ndim != 4:
        raise UnknownOperationError("a transposed convolution")
    inputs = [to.name_of(images), to.name_of(weight)]
    return to.add(
        "Conv",
        inputs if bias is None else [*inputs, to.name_of(bias)],
        strides=list(stride),
        pads=[*padding, *padding],
        dilations=list(dilation),
        group=groups,
    )


def _batch_norm(to: _Recorder, given: Sequence[Any], _more: dict[str, Any], _found: Tensor) -> str:
    images, weight, bias, mean, variance = given[:5]
    if len(given) == 8 and given[5]:
        raise UnknownOperationError("a batch norm in training")
    ones, zeros = torch.ones_like(mean), torch.zeros_like(mean)
    named = [ones if weight is None else weight, zeros if bias is None else bias, mean, variance]
    return to.add(
        "BatchNormalization", [to.name_of(one) for one in (images, *named)], epsilon=given[-1]
    )


def _clip(to: _Recorder, given: Sequence[Any], _more: dict[str, Any], _found: Tensor) -> str:
    low, high = given[1:3] if len(given) > 2 else (-1.0, 1.0)
    bounds = [to.constant(np.float32(low)), to.constant(np.float32(high))]
    return to.add("Clip", [to.name_of(given[0]), *bounds])


def _pad(to: _Recorder, given: Sequence[Any], _more: dict[str, Any], _found: Tensor) -> str:
    images, margins = given[:2]
    if len(margins) != 4:
        raise UnknownOperationError("a margin of other than two dimensions")
    left, right, above, below = margins
    pads = np.array([0, 0, above, left, 0, 0, below, right], np.int64)
    value = np.float32(given[2] if len(given) > 2 else 0)
    return to.add("Pad", [to.name_of(images), to.constant(pads), to.constant(value)])


def _mean(to: _Recorder, given: Sequence[Any], _more: dict[str, Any], _found: Tensor) -> str:
    keep = bool(given[2]) if len(given) > 2 else False
    axes = [axis % given[0].ndim for axis in given[1]]
    return to.add("ReduceMean", [to.name_of(given[0])], axes=axes, keepdims=int(keep))


def _max_pool(to: _Recorder, given: Sequence[Any], _more: dict[str, Any], _found: Tensor) -> str:
    kernel, stride, padding, dilation, ceil = (*given[1:], *([None] * 5))[:5]
    margins = padding or [0, 0]
    return to.add(
        "MaxPool",
        [to.name_of(given[0])],
        kernel_shape=list(kernel),
        strides=list(stride or kernel),
        pads=[*margins, *margins],
        dilations=list(dilation or [1, 1]),
        ceil_mode=int(bool(ceil)),
    )


def _view(to: _Recorder, given: Sequence[Any], _more: dict[str, Any], found: Tensor) -> str:
    source = given[0]
    if source.shape[0] != _EXAMPLES or found.shape[0] != _EXAMPLES:
        raise UnknownOperationError("a change of shape across images")
    shape = to.constant(np.array([0, *found.shape[1:]], np.int64))
    return to.add("Reshape", [to.name_of(source), shape])


def _linear(to: _Recorder, given: Sequence[Any], more: dict[str, Any], _found: Tensor) -> str:
    if more:
        raise UnknownOperationError("a scaled product")
    bias, images, weight = given
    product = to.add("MatMul", [to.name_of(images), to.name_of(weight)])
    return to.add("Add", [product, to.name_of(bias)])


def _transposed(to: _Recorder, given: Sequence[Any], _more: dict[str, Any], found: Tensor) -> str:
    """Of a weight, which is a constant here."""
    if id(given[0]) in to._names:
        raise UnknownOperationError("a transposed value")
    return to.constant(found.detach().numpy())


def _restrided(to: _Recorder, given: Sequence[Any], _more: dict[str, Any], found: Tensor) -> str:
    """As pooling in channels-last does to what it gives: the same single pixel for each channel."""
    if len(given[1]) != 4 or tuple(found.shape[2:]) != (1, 1):
        raise UnknownOperationError("other strides")
    return to.name_of(given[0])


def _same(to: _Recorder, given: Sequence[Any], _more: dict[str, Any], _found: Tensor) -> str:
    return to.name_of(given[0])


_WRITERS: dict[str, Writer] = {
    "aten.convolution": _convolution,
    "aten._native_batch_norm_legit_no_training": _batch_norm,
    "aten.native_batch_norm": _batch_norm,
    "aten.hardtanh": _clip,
    "aten.hardtanh_": _clip,
    "aten.constant_pad_nd": _pad,
    "aten.mean": _mean,
    "aten.max_pool2d_with_indices": _max_pool,
    "aten.addmm": _linear,
    "aten.t": _transposed,
    "aten.view": _view,
    "aten._unsafe_view": _view,
    "aten._reshape_alias": _view,
    "aten.empty": lambda to, _given, _more, found: to.constant(found.numpy()),
    "aten.as_strided_": _restrided,
    "aten.detach": _same,
    "aten.clone": _same,
    "aten.add": _binary("Add"),
    "aten.add_": _binary("Add"),
    "aten.mul": _binary("Mul"),
    "aten.mul_": _binary("Mul"),
    "aten.relu": _elementwise("Relu"),
    "aten.relu_": _elementwise("Relu"),
    "aten.sigmoid": _elementwise("Sigmoid"),
    "aten.sigmoid_": _elementwise("Sigmoid"),
    "aten.hardswish": _elementwise("HardSwish"),
    "aten.hardswish_": _elementwise("HardSwish"),
}
"""How each operation of PyTorch is written."""
