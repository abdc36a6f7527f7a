"""The ways to run what a bundle holds. All give the same answers; none needs a run.

Reading this imports no torch: who answers by ONNX Runtime does without.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from ..arrays import Float32Array, UInt8Array
from ..errors import BundleError, MissingExtraError
from ..machine import available_cores

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..inference.answering import Answering

INPUT, OUTPUT, NOVELTY = "images", "probabilities", "novelty"
_SMALL_BYTES = 2_000_000
_MANY = 8
"""In a network whose file has at most so many bytes, a second thread costs more than it brings for
fewer images at once. Measured on two cores with lenet, convnet and resnet8 at 28x28: one image 2 to
14 % slower with two threads, four of them alike, eight up to 1.5 times faster."""


class Outputs(NamedTuple):
    """What a network says of N images."""

    probabilities: Float32Array
    """float32 (N, K)."""
    novelty: Float32Array | None
    """float32 (N,): how unlike the training images each is; None where nothing was fitted."""


def joined(parts: Sequence[Outputs]) -> Outputs:
    """What was said of several batches, one behind the other."""
    scores = [one.novelty for one in parts if one.novelty is not None]
    return Outputs(
        np.concatenate([one.probabilities for one in parts]),
        np.concatenate(scores) if scores else None,
    )


class Session(Protocol):
    """A network ready to answer for images uint8 (N, H, W, C) of its size, contiguous."""

    runtime: str

    def __call__(self, images: UInt8Array) -> Outputs: ...


class OnnxSession:
    """model.onnx in ONNX Runtime, on the processor."""

    runtime = "onnx"

    def __init__(self, content: bytes, name: str, *, threads: int | None = None) -> None:
        """
        Args:
            name: what the file is called in messages.
            threads: by default as many as this process may use, and one for a few images of a
                small network.

        Raises:
            MissingExtraError: onnxruntime is not installed. BundleError: it is not such a file.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtraError("Answering by ONNX", "onnxruntime", "export") from error

        def opened(threads: int) -> Any:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4
            options.inter_op_num_threads = 1
            options.intra_op_num_threads = threads
            return onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )

        few, many = (threads, threads) if threads else chosen_threads(len(content))
        try:
            self._session = opened(few)
        except Exception as error:  # classes of its own, which are not public
            raise BundleError(
                f"{name} is not an ONNX file that ONNX Runtime can read.", _EXPORT_AGAIN
            ) from error
        self._check(name)
        self._run = self._session.run
        self._names = [one.name for one in self._session.get_outputs()]
        self.input_shape = tuple(self._session.get_inputs()[0].shape[1:])
        """Height, width and channels."""
        self.threads = few
        """For a few images at once."""
        self._opened_wide = (lambda: opened(many)) if many != few else None

    def __call__(self, images: UInt8Array) -> Outputs:
        run = self._run if len(images) < _MANY else self._run_of_many
        found = run(self._names, {INPUT: images})
        return Outputs(found[0], found[1] if len(found) > 1 else None)

    @cached_property
    def _run_of_many(self) -> Callable[..., Any]:
        run: Callable[..., Any] = self._opened_wide().run if self._opened_wide else self._run
        return run

    @property
    def metadata(self) -> dict[str, str]:
        """What the file says of itself."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def _check(self, name: str) -> None:
        """Raise where the file is an ONNX file, but not that of a bundle.

        Raises:
            BundleError: what it takes, gives or says is something else.
        """
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        ours = (
            [(one.name, one.type, len(one.shape)) for one in inputs]
            == [(INPUT, "tensor(uint8)", 4)]
            and [one.name for one in outputs] in ([OUTPUT], [OUTPUT, NOVELTY])
            and len(outputs[0].shape) == 2
            and "sartor_bundle_format" in self.metadata
        )
        if not ours:
            raise BundleError(
                f"{name} is an ONNX file, but not one of a bundle: it does not take bytes of "
                f"images as {INPUT} and give {OUTPUT}.",
                _EXPORT_AGAIN,
            )

    @property
    def classes(self) -> tuple[str, ...]:
        """Its classes, as the file says; none where it does not say it as a bundle's does."""
        try:
            return tuple(json.loads(self.metadata["classes"]))
        except (KeyError, TypeError, ValueError, RecursionError):
            return ()


class TorchSession:
    """A module that answers, in PyTorch."""

    def __init__(self, answering: nn.Module | Callable[[Tensor], Any], runtime: str) -> None:
        self._answering = answering
        self.runtime = runtime

    def __call__(self, images: UInt8Array) -> Outputs:
        import torch

        with torch.inference_mode():
            # A copy, since the array may be read-only, of which PyTorch warns.
            found = self._answering(torch.from_numpy(np.array(images)))
        if isinstance(found, tuple):
            return Outputs(found[0].numpy(), found[1].numpy())
        return Outputs(found.numpy(), None)


class AnsweringSession(TorchSession):
    """The network itself in PyTorch, which can be looked into."""

    def __init__(self, answering: Answering) -> None:
        super().__init__(answering, "torch")
        self.answering = answering


def images_at_once(input_shape: tuple[int, ...]) -> int:
    """At most four million numbers and 500 images, which suits a processor's cache."""
    return max(1, min(500, 4_000_000 // math.prod(input_shape)))


def chosen_threads(file_bytes: int) -> tuple[int, int]:
    """For few images at once and for many: as many as this process may use, OMP_NUM_THREADS
    honoured; one where few go through a small network."""
    wish = os.environ.get("OMP_NUM_THREADS", "")
    cores = available_cores()
    usable = min(cores, int(wish)) if wish.isdecimal() and int(wish) else cores
    return (1 if file_bytes <= _SMALL_BYTES else usable), usable


_EXPORT_AGAIN = "Export the bundle again: sartor export RUN --out NAME"
