"""`model.int8.onnx`: the network in 8 bits, where that costs next to nothing and saves time here.

Weights and activations become signed 8-bit integers with a scale for each channel of a weight and
each activation (static quantization, QDQ). The ranges of activations are those of training images.
It is kept only if, on the validation images, the 95 % interval of the change in accuracy leaves at
most half a point of loss, and if it was measured faster than float32 on this machine, for one image
at a time and for many. The decision is a choice, so it never looks at test images.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import files
from ..arrays import Int64Array, UInt8Array
from ..errors import ExportError, MissingExtraError
from ..evaluation.clusters import paired_interval
from ..evaluation.paired import difference_interval
from .format import INT8
from .sessions import INPUT, OUTPUT, OnnxSession

if TYPE_CHECKING:
    import onnx

MOST_LOSS = 0.005
"""Of accuracy: the interval of the difference must leave no more."""
CALIBRATION_IMAGES = 512
"""Training images that the ranges of activations are measured on, evenly spaced."""
SIZES = (1, 64)
"""Images at once that both are timed with."""
_ROUNDS = 15
_SECONDS_A_ROUND = 0.02
_AT_ONCE = 64
_HEAVY = ("Conv", "Gemm", "MatMul")
"""What has weights, and is worth being done in integers."""
_CARRIED = (
    *("Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "Add", "Concat"),
    *("Flatten", "Reshape", "Transpose"),
)
"""What may stand between them without going back to floats."""


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """Both files side by side, and the verdict."""

    kept: bool
    sentence: str
    """What was found, with the figures."""
    images: int
    """Validation images."""
    accuracy: float
    int8_accuracy: float
    difference_interval: tuple[float, float]
    """95 % interval of int8's accuracy minus float32's, of accuracies on the same images."""
    seconds: dict[str, float]
    """Median seconds for so many images at once, float32."""
    int8_seconds: dict[str, float]
    size: int
    """Bytes of model.onnx."""
    int8_size: int
    reduced_range: bool
    """Whether weights have 7 bits, since this processor's 8-bit products would overflow."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**vars(self), "difference_interval": list(self.difference_interval)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """What a network is quantized and judged with."""

    training: UInt8Array
    """uint8 (M, H, W, C): images that set the ranges; see `CALIBRATION_IMAGES`."""
    validation: UInt8Array
    """uint8 (N, H, W, C)."""
    labels: Int64Array
    """int64 (N,): true classes of the validation images."""
    groups: Int64Array | None = None
    """int64 (N,): which validation images belong together."""


def quantize(content: bytes, material: Material) -> tuple[bytes, Quantization]:
    """The network in 8 bits, and whether it may ship.

    Args:
        content: of model.onnx.

    Raises:
        ExportError: there are no validation images to decide by, or ONNX Runtime cannot quantize
            the network. MissingExtraError: onnx or onnxruntime is not installed.
    """
    if not len(material.validation):
        raise ExportError(
            "Without validation images nothing says whether 8 bits are enough.",
            "Leave --quantize out, or train with a validation split (--val-fraction).",
        )
    reduced = needs_reduced_range()
    quantized = int8_bytes(content, material.training, reduced=reduced)
    session, int8 = OnnxSession(content, "model.onnx"), int8_session(quantized)
    right, int8_right = (
        _predicted(one, material.validation) == material.labels for one in (session, int8)
    )
    interval = _interval(right, int8_right, material.groups)
    seconds, int8_seconds = _timed(session, int8, material.validation)
    found = _judged(
        right=right,
        int8_right=int8_right,
        interval=interval,
        seconds=seconds,
        int8_seconds=int8_seconds,
        sizes=(len(content), len(quantized)),
        reduced=reduced,
    )
    return quantized, found


def int8_bytes(content: bytes, training: UInt8Array, *, reduced: bool) -> bytes:
    """The content of model.int8.onnx, without a verdict.

    Args:
        training: uint8 (M, H, W, C), from which the ranges of activations follow.
        reduced: weights of 7 bits.

    Raises:
        ExportError: ONNX Runtime cannot quantize the network. MissingExtraError.
    """
    try:
        import onnx
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise MissingExtraError("Quantizing", str(error.name), "export") from error
    from .program import quiet

    chosen = training[evenly(len(training), CALIBRATION_IMAGES)]

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # untyped
        """Batches of training images, as the quantizer asks for them."""

        def __init__(self) -> None:
            self._batches = iter(range(0, len(chosen), _AT_ONCE))

        def get_next(self) -> dict[str, UInt8Array] | None:
            start = next(self._batches, None)
            if start is None:
                return None
            return {INPUT: np.ascontiguousarray(chosen[start : start + _AT_ONCE])}

    try:
        with quiet(), tempfile.TemporaryDirectory() as folder:
            given, prepared = Path(folder, "given.onnx"), Path(folder, "prepared.onnx")
            target = Path(folder, INT8)
            files.write_bytes(given, content)
            quant_pre_process(given, prepared, skip_symbolic_shape=True)
            graph = onnx.load(prepared)
            quantization.quantize_static(
                graph,
                target,
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                activation_type=quantization.QuantType.QInt8,
                weight_type=quantization.QuantType.QInt8,
                per_channel=True,
                reduce_range=reduced,
                op_types_to_quantize=[*_HEAVY, *_CARRIED],
                nodes_to_exclude=sorted(_outside(graph.graph)),
            )
            made = onnx.load(target)
    except MissingExtraError:
        raise
    except Exception as error:  # of a library with classes of its own
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ExportError(
            f"The network cannot be quantized: {reason.rstrip('.')}.", "Leave --quantize out."
        ) from error
    return _with_metadata(made, onnx.load_model_from_string(content), reduced)


def needs_reduced_range() -> bool:
    """Whether this processor adds pairs of 8-bit products in 16 bits, where they overflow.

    Of x86 processors these are all without VNNI; ARM's have no such instruction.
    """
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:  # another system: the safe way
        return True
    words = set(text.split())
    if "vendor_id" not in words:
        return False
    return not words & {"avx512_vnni", "avx_vnni"}


def _outside(graph: onnx.GraphProto) -> Iterator[str]:
    """Nodes that stay in floats: what scales the pixels, the layer that gives the logits and all
    behind it, and what novelty is computed of, whose sums of squares 8 bits would spoil."""
    makers = {name: node for node in graph.node for name in node.output}
    before = {node.name: _reached(node, makers) for node in graph.node}
    (last,) = (makers[one.name] for one in graph.output if one.name == OUTPUT)
    network = before[last.name] | {last.name}
    heavy = {node.name for node in graph.node if node.op_type in _HEAVY} & network
    followed = set().union(*(before[name] for name in heavy))
    for node in graph.node:
        begun = node.name in heavy or before[node.name] & heavy
        if node.name not in network or not begun or node.name not in followed:
            yield node.name


def _reached(node: onnx.NodeProto, makers: dict[str, onnx.NodeProto]) -> set[str]:
    """Names of all nodes that one depends on."""
    found: set[str] = set()
    waiting = [node]
    while waiting:
        for name in waiting.pop().input:
            maker = makers.get(name)
            if maker is not None and maker.name not in found:
                found.add(maker.name)
                waiting.append(maker)
    return found


def _with_metadata(made: onnx.ModelProto, source: onnx.ModelProto, reduced: bool) -> bytes:
    """With what the float32 file says of itself, and how it was quantized; equal runs give equal
    bytes."""
    del made.metadata_props[:]
    for entry in source.metadata_props:
        made.metadata_props.add(key=entry.key, value=entry.value)
    made.metadata_props.add(key="quantized", value="int8" + " reduced range" * reduced)
    made.producer_name, made.producer_version = source.producer_name, source.producer_version
    content: bytes = made.SerializeToString(deterministic=True)
    return content


def _predicted(session: OnnxSession, images: UInt8Array) -> Int64Array:
    """The most probable class of each image; -1 where there is none."""
    rows = np.concatenate(
        [
            session(np.ascontiguousarray(images[start : start + _AT_ONCE])).probabilities
            for start in range(0, len(images), _AT_ONCE)
        ]
    )
    result: Int64Array = np.where(np.isfinite(rows).all(axis=1), rows.argmax(axis=1), -1)
    return result


def _interval(right: Any, int8_right: Any, groups: Int64Array | None) -> tuple[float, float]:
    """The 95 % interval of int8's accuracy minus float32's."""
    only, only_int8 = right & ~int8_right, int8_right & ~right
    if groups is not None:
        return paired_interval(only, only_int8, groups)
    return difference_interval(int(only.sum()), int(only_int8.sum()), len(right))


def _timed(
    session: Callable[[UInt8Array], Any], int8: Callable[[UInt8Array], Any], images: UInt8Array
) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds of both for each of `SIZES`, in turns, so that what else the machine does
    meets both alike."""
    first: dict[str, float] = {}
    second: dict[str, float] = {}
    for size in SIZES:
        batch = np.ascontiguousarray(np.resize(images[:size], (size, *images.shape[1:])))
        repeats = max(1, round(_SECONDS_A_ROUND / max(_seconds(session, batch, 2), 1e-6)))
        _seconds(int8, batch, 2)
        rounds = [
            (_seconds(session, batch, repeats), _seconds(int8, batch, repeats))
            for _ in range(_ROUNDS)
        ]
        first[str(size)] = statistics.median(one for one, _ in rounds)
        second[str(size)] = statistics.median(other for _, other in rounds)
    return first, second


def _seconds(session: Callable[[UInt8Array], Any], batch: UInt8Array, repeats: int) -> float:
    began = time.perf_counter()
    for _ in range(repeats):
        session(batch)
    return (time.perf_counter() - began) / repeats


def _judged(
    *,
    right: Any,
    int8_right: Any,
    interval: tuple[float, float],
    seconds: dict[str, float],
    int8_seconds: dict[str, float],
    sizes: tuple[int, int],
    reduced: bool,
) -> Quantization:
    accurate = interval[0] >= -MOST_LOSS
    faster = all(int8_seconds[size] < seconds[size] for size in seconds)
    low, high = (100 * bound for bound in interval)
    reasons = [] if accurate else [f"more than {100 * MOST_LOSS:g} points of loss are possible"]
    reasons += [] if faster else ["it is not faster here"]
    verdict = "kept" if not reasons else f"not kept, since {' and '.join(reasons)}"
    times = ", ".join(
        f"{_milliseconds(int8_seconds[size])} against {_milliseconds(seconds[size])} ms for {size} "
        f"image{'' if size == '1' else 's'} at once"
        for size in seconds
    )
    accuracies = float(np.mean(right)), float(np.mean(int8_right))
    return Quantization(
        kept=not reasons,
        sentence=(
            f"In 8 bits: {verdict}. On {len(right):,} validation images {accuracies[1]:.2%} "
            f"against {accuracies[0]:.2%} in float32, "
            f"{100 * (accuracies[1] - accuracies[0]):+z.2f} points "
            f"(95 % interval {low:+z.2f} to {high:+z.2f}); {times}; "
            f"{sizes[1]:,} against {sizes[0]:,} bytes."
        ),
        images=len(right),
        accuracy=accuracies[0],
        int8_accuracy=accuracies[1],
        difference_interval=interval,
        seconds=seconds,
        int8_seconds=int8_seconds,
        size=sizes[0],
        int8_size=sizes[1],
        reduced_range=reduced,
    )


def _milliseconds(seconds: float) -> str:
    """Three digits or more, without an exponent."""
    count = 1000 * seconds
    return f"{count:,.0f}" if count >= 100 else f"{count:.3g}"


def int8_session(content: bytes) -> OnnxSession:
    """model.int8.onnx of a bundle, ready to answer.

    Raises:
        BundleError: it is not such a file. MissingExtraError: onnxruntime is not installed.
    """
    return OnnxSession(content, INT8)


def evenly(count: int, most: int) -> Int64Array:
    """Places of at most so many of `count` things, at equal distances."""
    result: Int64Array = np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)
    return result
