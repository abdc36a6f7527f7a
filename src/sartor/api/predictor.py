"""A run's or a bundle's network, held ready to classify again and again.

Importing this imports no torch, and neither does a bundle that answers by ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..arrays import AnyArray, Float32Array, Float64Array, Int64Array, UInt8Array
from ..bundle.format import Bundle, is_bundle
from ..bundle.opening import BY_ONNX, TORCH, session_of
from ..bundle.sessions import AnsweringSession, Outputs, Session, images_at_once, joined
from ..data.given import images_in_order
from ..data.pictures.preprocess import Preprocess
from ..errors import DataError, RunError, UsageError
from ..inference.calibration import Calibration
from ..inference.familiarity import Ranges, readable
from ..wording import plain

if TYPE_CHECKING:
    from torch import Tensor

    from ..inference import predictor
    from ..inference.forward import Forward
    from .opened import OpenedRun


class Scored(NamedTuple):
    """What a network says of N images, and which class it prefers."""

    probabilities: Float64Array
    """float64 (N, K)."""
    novelty: Float32Array | None
    """float32 (N,); None where no score was fitted."""
    predicted: Int64Array | None
    """int64 (N,), -1 where outputs are not finite; None where only probabilities tell."""


class Predictor:
    """Classifies arrays. Opens its run or bundle once, while `sartor.predict` does in every call.

    The process's number of threads stays as it is, except inside `at_work`.
    """

    classes: tuple[str, ...]
    """What each column of the probabilities means."""
    preprocess: Preprocess
    calibration: Calibration
    """What the probabilities are scaled by, and what answers are made of."""
    runtime: str
    """What computes: onnx, torch or program."""
    name: str
    """Path of the run or the bundle."""
    input_ranges: Ranges
    """What is usual among the training images, for `familiarity.differences`."""
    loss: str
    weights_sha256: str
    """The weights that predict; empty where nothing says so."""

    def __init__(
        self,
        source: str | Path | OpenedRun | Bundle,
        *,
        checkpoint: str = "best",
        calibrated: bool = True,
        runtime: str | None = None,
        threads: int | None = None,
        device: str | None = None,
        trust: bool = False,
    ) -> None:
        """
        Args:
            source: a run or a bundle, by its path or opened.
            checkpoint: for a run, "best" or "last".
            calibrated: for a run, divide the logits by the temperature fitted on the validation
                images, if there is one; a bundle always does. Without it there are no sets, since
                they are defined for calibrated probabilities.
            runtime: for a bundle, "onnx", "int8" or "torch"; by default onnx if the bundle has it
                and ONNX Runtime is installed.
            threads: for ONNX Runtime; by default all that the process may use, or one for a small
                network.
            device: for a run, as in `evaluate`.
            trust: run Python code that the run or bundle contains, whoever wrote it.

        Raises:
            RunError: a broken run, or one without a checkpoint. BundleError: a damaged bundle.
            UsageError: there is no such runtime.
        """
        self._options = {
            "checkpoint": checkpoint,
            "calibrated": calibrated,
            "runtime": runtime,
            "threads": threads,
            "device": device,
            "trust": trust,
        }
        self._network: predictor.Predictor | None = None
        self._session: Session | None = None
        self._at_work: Callable[[], AbstractContextManager[None]] = nullcontext
        if isinstance(source, str | Path) and is_bundle(source):
            source = Bundle.open(source)
        if isinstance(source, Bundle):
            self._open_bundle(source, runtime, threads, trust)
        else:
            self._open_run(source, checkpoint, calibrated, runtime, device, trust)

    def __repr__(self) -> str:
        weights = f", weights {self.weights_sha256[:12]}" if self.weights_sha256 else ""
        about = f"{len(self.classes)} classes, {self.runtime}{weights}"
        return plain(f"<Predictor of {self.name}: {about}>")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled, it is its path and its options: another process opens it again."""
        where = str(Path(self.name).absolute())
        return _opened_again, (where, self._options, self.weights_sha256)

    def _open_bundle(
        self, bundle: Bundle, runtime: str | None, threads: int | None, trust: bool
    ) -> None:
        self._session = session_of(bundle, runtime, threads=threads, trust=trust)
        self._network = self._network_of(bundle)
        self.name = str(bundle.path)
        self.input_ranges = bundle.input_ranges
        self.classes = bundle.classes
        self.preprocess = bundle.preprocess
        self.calibration = bundle.calibration
        self.runtime = self._session.runtime
        self.loss = bundle.architecture.loss
        self.weights_sha256 = str(bundle.record.get("weights_sha256", ""))

    def _network_of(self, bundle: Bundle) -> predictor.Predictor | None:
        """The network of a bundle that answers in PyTorch, for its logits and explanations."""
        assert self._session is not None
        if not isinstance(self._session, AnsweringSession):
            return None
        from ..inference.forward import Forward
        from ..inference.predictor import Predictor as InPyTorch

        answering = self._session.answering
        return InPyTorch(
            Forward(
                network=answering.trained,
                device="cpu",
                amp_dtype="float32",
                tta=answering.tta,
            ),
            classes=bundle.classes,
            preprocess=bundle.preprocess,
            memory_format=answering.memory_format,
            loss=answering.loss,
            calibration=bundle.calibration,
        )

    def _open_run(
        self,
        source: str | Path | OpenedRun,
        checkpoint: str,
        calibrated: bool,
        runtime: str | None,
        device: str | None,
        trust: bool,
    ) -> None:
        from .network_predictor import NetworkPredictor
        from .opened import open_run

        if runtime not in (None, TORCH):
            raise UsageError(
                f"A run answers in PyTorch, not by the runtime {runtime}.",
                "Export it, and name the bundle: sartor export RUN --out NAME",
            )
        run = open_run(source, device=device, trust=trust)
        network = NetworkPredictor(run, checkpoint=checkpoint, calibrated=calibrated)
        self._network = network
        self._at_work = network.at_work
        self.name = str(run.path)
        self.input_ranges = readable(run.folder.input_ranges())
        self.classes = network.classes
        self.preprocess = network.preprocess
        self.calibration = network.calibration
        self.runtime = TORCH
        self.loss = run.recipe.training.loss
        self.weights_sha256 = network.weights_sha256

    def outputs(self, images: AnyArray) -> Outputs:
        """Probabilities float32 (N, classes) and novelty scores float32 (N,), for `answers`.

        Args:
            images: (N, H, W), (N, H, W, C) or (N, C, H, W), bytes or floats in 0..1, as `fit`
                takes them; those of another size than the network's are prepared as pictures are.

        Raises:
            DataError: another shape, other numbers, or a single image in colour, (H, W, 3).
        """
        if self._session is None:
            logits, novelty = self._in_pytorch.scored(images)
            return Outputs(self.probabilities_of(logits).astype(np.float32), novelty)
        batch = self._batch(images)
        at_once = images_at_once(self.preprocess.input_shape)
        if len(batch) <= at_once:
            return self._session(batch)
        return joined(
            [
                self._session(batch[start : start + at_once])
                for start in range(0, len(batch), at_once)
            ]
        )

    def scored(self, images: AnyArray) -> Scored:
        """What is said of each image, as `answers` takes it; images as for `outputs`."""
        if self._session is None:
            from ..evaluation.predictions import predicted_of

            logits, novelty = self._in_pytorch.scored(images)
            return Scored(self.probabilities_of(logits), novelty, predicted_of(logits))
        probabilities, novelty = self.outputs(images)
        return Scored(probabilities.astype(np.float64), novelty, None)

    def probabilities(self, images: AnyArray) -> Float64Array:
        """float64 (N, classes), each row summing to 1; NaN where outputs are not finite.

        Images as for `outputs`. They are probabilities as the network gives them; of one trained
        with mse they are shares of its scores.
        """
        if self._session is None:
            return self._in_pytorch.probabilities(images)
        return self.outputs(images).probabilities.astype(np.float64)

    def labels(self, images: AnyArray) -> list[str]:
        """The most probable class for each image; images as for `outputs`.

        Raises:
            DataError: also where outputs are not finite, so that there is no such class.
        """
        if self._session is None:
            return self._in_pytorch.labels(images)
        probabilities = self.outputs(images).probabilities
        unknown = int((~np.isfinite(probabilities)).any(axis=1).sum())
        if unknown:
            raise DataError(
                f"The network's outputs are not finite for {unknown:,} of {len(probabilities):,} "
                "images, so they have no label.",
                "Train again with a lower --lr, and export again.",
            )
        return [self.classes[place] for place in probabilities.argmax(axis=1)]

    def logits(self, images: AnyArray) -> Float32Array:
        """float32 (N, classes), in PyTorch; images as for `outputs`.

        Raises:
            UsageError: another runtime answers, which gives probabilities only.
        """
        return self._in_pytorch.logits(images)

    def probabilities_of(self, logits: Float32Array) -> Float64Array:
        """Of logits that were computed before."""
        return self._in_pytorch.probabilities_of(logits)

    @property
    def forward(self) -> Forward:
        """The network with its precision and its views, in PyTorch."""
        return self._in_pytorch.forward

    def batch(self, images: UInt8Array) -> Tensor:
        """The network's input, float (B, C, H, W), of images uint8 (B, C, H, W) of its size."""
        return self._in_pytorch.batch(images)

    @property
    def temperature(self) -> float:
        """What the logits are divided by."""
        return self.calibration.temperature

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """For a stretch of work: of a run, as many threads as in training and evaluation, so the
        same bits.

        A setting of the whole process, which is as before afterwards.
        """
        with self._at_work():
            yield

    @property
    def _in_pytorch(self) -> predictor.Predictor:
        if self._network is None:
            own = self.runtime != BY_ONNX
            raise UsageError(
                f"{self.name} answers by {'program.pt2' if own else 'ONNX Runtime'}, which gives "
                "no logits and lets nobody look inside.",
                "Export the run again with --with-source, or name the run."
                if own
                else 'Open it in PyTorch: sartor.Predictor(..., runtime="torch").',
            )
        return self._network

    def _batch(self, images: AnyArray) -> UInt8Array:
        """uint8 (N, H, W, C), contiguous."""
        channels, height, width = self.preprocess.input_shape
        if (
            isinstance(images, np.ndarray)
            and images.dtype == np.uint8
            and images.shape[1:] == (height, width, channels)
            and height > 3
            and images.flags.c_contiguous
        ):
            return images
        ordered = images_in_order(images, self.preprocess.input_shape)
        prepared = self.preprocess.pictures(ordered)
        return np.ascontiguousarray(prepared.transpose(0, 2, 3, 1))


def _opened_again(where: str, options: dict[str, Any], weights_sha256: str) -> Predictor:
    """A predictor in another process, or at another time.

    Raises:
        RunError: other weights lie there now. Others as `Predictor`.
    """
    found = Predictor(where, **options)
    if found.weights_sha256 != weights_sha256:
        raise RunError(
            f"{where} has other weights than when its predictor was pickled.",
            "Open it again: sartor.Predictor(PATH).",
        )
    return found
