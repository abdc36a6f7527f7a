"""`model.onnx`: made of a captured network, and allowed to exist once it gave the same answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import Float32Array, UInt8Array
from ..errors import ExportError, MissingExtraError
from ..models.custom import reason_of
from .format import FORMAT, preprocess_to_json
from .sessions import INPUT, NOVELTY, OUTPUT, OnnxSession, Outputs

if TYPE_CHECKING:
    import onnx
    from torch.export import ExportedProgram

    from ..data.pictures.preprocess import Preprocess

BATCHES = (1, 2, 7, 64)
"""Images at once that the gate tries."""
LARGEST_DIFFERENCE = 1e-4
LARGEST_NOVELTY_DIFFERENCE = 1e-3
TIE = 1e-5
"""Where the two highest probabilities are no further apart, either class may be the first."""
_WITHOUT = "Report the network, or write a bundle without ONNX: --no-onnx"
_BATCH_DIMENSION = "N"


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far the answers of a file are from those of PyTorch, over all images of a split."""

    images: int
    batches: tuple[int, ...]
    largest_difference: float
    """Between probabilities, in 0..1."""
    disagreeing: int
    """Images whose first class is another one, ties left out; over all batches."""
    ties: int
    """Images whose two highest probabilities are within 1e-5."""
    novelty_difference: float | None = None
    """Largest difference of a novelty score, in standard deviations of the scores; None without."""

    @property
    def holds(self) -> bool:
        """Whether the file may exist."""
        novelty = self.novelty_difference or 0.0
        return (
            not self.disagreeing
            and self.largest_difference <= LARGEST_DIFFERENCE
            and novelty <= LARGEST_NOVELTY_DIFFERENCE
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**vars(self), "batches": list(self.batches)}


def onnx_bytes(
    program: ExportedProgram, *, classes: tuple[str, ...], preprocess: Preprocess
) -> bytes:
    """The content of model.onnx: one file, N images at once, with what belongs to it inside.

    Raises:
        MissingExtraError: without the extra export. ExportError: naming what has no counterpart
            in ONNX.
    """
    with _extra():
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    import torch.onnx

    from .program import quiet

    try:
        with quiet():
            made = torch.onnx.export(
                program,
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT, NOVELTY][: len(program.graph_signature.user_outputs)],
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # of three libraries, with classes of their own
        raise ExportError(
            f"The network cannot be written as ONNX: {_reason(error)}.", _WITHOUT
        ) from error
    assert made is not None
    return _cleaned(
        made.model_proto,
        {
            "sartor_bundle_format": str(FORMAT),
            "classes": json.dumps(classes, ensure_ascii=False),
            "preprocess": json.dumps(preprocess_to_json(preprocess)),
        },
    )


def check_agreement(
    content: bytes,
    images: Callable[[int, int], UInt8Array],
    reference: Outputs,
) -> Agreement:
    """Hold a file's answers against those of PyTorch, in batches of every size of `BATCHES`.

    Args:
        images: uint8 (n, H, W, C) from one row up to another.
        reference: what PyTorch says of all of them.

    Raises:
        ExportError: they differ: the file must not be used. MissingExtraError: no onnxruntime.
    """
    session = OnnxSession(content, "model.onnx")
    found = measured(session, images, reference)
    if not found.holds:
        raise ExportError(
            f"The ONNX file does not answer as the network does: of {found.images:,} images in "
            f"batches of {', '.join(map(str, BATCHES))}, {found.disagreeing:,} have another first "
            f"class, and probabilities differ by up to {found.largest_difference:.2g} "
            f"({LARGEST_DIFFERENCE:g} are allowed){_on_novelty(found)}. It was deleted.",
            "A layer that is random when it classifies, or that looks at the other images of its "
            "batch, does this. Change it, or write a bundle without ONNX: --no-onnx",
        )
    return found


def measured(
    session: Callable[[UInt8Array], Outputs],
    images: Callable[[int, int], UInt8Array],
    reference: Outputs,
) -> Agreement:
    """The same for any way to answer, without a verdict."""
    wanted, count = reference.probabilities, len(reference.probabilities)
    ordered = np.sort(wanted, axis=1)
    tied = ordered[:, -1] - ordered[:, -2] <= TIE if wanted.shape[1] > 1 else np.ones(count, bool)
    largest, disagreeing, novelty = 0.0, 0, None if reference.novelty is None else 0.0
    for size in BATCHES:
        for start in range(0, count, size):
            rows = slice(start, min(start + size, count))
            found = session(images(rows.start, rows.stop))
            if found.probabilities.shape != wanted[rows].shape:
                raise ExportError(
                    f"The ONNX file gives {found.probabilities.shape} for {rows.stop - start} "
                    f"images and {wanted.shape[1]} classes. It was deleted.",
                    _WITHOUT,
                )
            largest = max(largest, _difference(found.probabilities, wanted[rows]))
            other = found.probabilities.argmax(1) != wanted[rows].argmax(1)
            disagreeing += int((other & ~tied[rows]).sum())
            if novelty is not None:
                assert reference.novelty is not None
                assert found.novelty is not None, "captured with it"
                novelty = max(novelty, _difference(found.novelty, reference.novelty[rows]))
    return Agreement(
        images=count,
        batches=BATCHES,
        largest_difference=largest,
        disagreeing=disagreeing,
        ties=int(tied.sum()),
        novelty_difference=None if novelty is None else novelty / _scale(reference.novelty),
    )


def _on_novelty(found: Agreement) -> str:
    if not found.novelty_difference or found.novelty_difference <= LARGEST_NOVELTY_DIFFERENCE:
        return ""
    return f", novelty scores by {found.novelty_difference:.2g} standard deviations"


def _scale(scores: Float32Array | None) -> float:
    """Standard deviation of the scores that are finite."""
    assert scores is not None
    finite = scores[np.isfinite(scores)].astype(np.float64)
    return max(float(finite.std()) if len(finite) else 0.0, 1e-12)


def _difference(one: Float32Array, other: Float32Array) -> float:
    """The largest; numbers that are not finite differ from all but their like."""
    apart = np.abs(one - other)
    same = (np.isnan(one) & np.isnan(other)) | (one == other)
    return float(np.where(same, 0, np.nan_to_num(apart, nan=np.inf)).max(initial=0))


@contextmanager
def _extra() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(
            "Writing ONNX", str(error.name), "export", or_else="or leave it out: --no-onnx"
        ) from error


def _cleaned(model: onnx.ModelProto, metadata: Mapping[str, str]) -> bytes:
    """Without what the exporter noted on the way, names of folders here among it; the first
    dimension is called N; equal networks give equal bytes."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    del graph.value_info[:]
    graph.name = "sartor"
    for value in (*graph.input, *graph.output):
        dimension = value.type.tensor_type.shape.dim[0]
        dimension.Clear()
        dimension.dim_param = _BATCH_DIMENSION
    for key, text in metadata.items():
        model.metadata_props.add(key=key, value=text)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _reason(error: BaseException) -> str:
    """The innermost cause: the exporter wraps it several times."""
    while error.__cause__ is not None:
        error = error.__cause__
    return reason_of(error)[:300]
