"""A bundle or a run held ready to answer a server's requests: checked, measured, of one piece."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..arrays import UInt8Array
from ..bundle.format import Bundle, is_bundle, preprocess_to_json
from ..bundle.opening import BY_ONNX, session_of
from ..bundle.public import public
from ..bundle.sessions import Outputs
from ..bundle.verify import verify
from ..data.pictures.preprocess import Preprocess
from ..errors import BundleError
from ..inference.answers import Prediction, Unreadable, answers
from ..inference.calibration import Calibration
from ..inference.familiarity import Ranges, differences
from ..machine import available_cores
from .predictor import Predictor

_BATCH_SECONDS = 0.1
"""What a batch may take: others wait for it."""
_FASTER = 0.95
"""A larger batch is worth its wait where an image takes at most so much of the time."""
_TRIES, _TRY_SECONDS = 5, 0.3
_WORTH_ALL_CORES = 0.75
"""One image on all cores must take at most so much of its time on one; else every core had better
answer for another."""


class Session(Protocol):
    """Images uint8 (N, H, W, C) of the network's size -> probabilities (N, K), novelty (N,)."""

    def __call__(self, images: UInt8Array) -> Outputs: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Servable:
    """All that a server needs of a classifier; it does not change."""

    name: str
    source: Path
    """Where it was read from."""
    classes: tuple[str, ...]
    preprocess: Preprocess
    calibration: Calibration
    input_ranges: Ranges
    """Of the training images; without any, nothing is said of unlike ones."""
    session: Session
    """May be called in several threads at once."""
    at_once: int
    """How many calls at once use the machine best."""
    public: Mapping[str, Any]
    """What everybody may know of it."""

    def answers(
        self, names: Sequence[str], images: Sequence[UInt8Array]
    ) -> list[Prediction | Unreadable]:
        """What is said of images uint8 (C, H, W), one answer for each."""
        stacked = np.stack(images)
        outputs = self.session(_channels_last(stacked))
        return answers(
            names,
            outputs.probabilities,
            outputs.novelty,
            self.calibration,
            self.classes,
            unlike_training=differences(stacked, self.input_ranges) if self.input_ranges else None,
        )

    def best_batch(self, most: int) -> int:
        """How many images to give to the network at once, as measured: no more than pay.

        Larger batches are tried as long as they answer soon enough for those who wait.
        """
        best, fastest, size = 1, self.seconds_per_image(1), 2
        while size <= most and size * fastest <= _BATCH_SECONDS:
            seconds = self.seconds_per_image(size)
            if seconds <= _FASTER * fastest:
                best, fastest = size, seconds
            size *= 2
        return best

    def seconds_per_image(self, count: int) -> float:
        """The least time of a few tries, for so many images at once."""
        return _seconds_per_image(self.session, self.preprocess, count)


def servable(
    target: str, name: str, *, runtime: str | None = None, trust: bool = False
) -> Servable:
    """Open a bundle or a run; whatever is wrong with it is said now, and not to who asks later.

    A bundle has to prove itself first: all its files as they were exported, and its golden examples
    answered as they were.

    Args:
        runtime: of a bundle, onnx or torch; by default the fastest there is.

    Raises:
        BundleError: it is damaged, or answers otherwise than it did. RunError: a broken run.
    """
    # A run is a folder, so a file was meant to be a bundle.
    if is_bundle(target) or Path(target).is_file():
        return _of_bundle(Bundle.open(target), name, runtime, trust)
    return _of_run(target, name, runtime, trust)


def _of_bundle(bundle: Bundle, name: str, runtime: str | None, trust: bool) -> Servable:
    session, at_once = session_of(bundle, runtime, threads=1, trust=trust), 1
    _prove(bundle, session.runtime, trust)
    cores = available_cores()
    if session.runtime == BY_ONNX and cores > 1:
        at_once = cores
        on_all = session_of(bundle, BY_ONNX, threads=cores)
        alone, together = (
            _seconds_per_image(one, bundle.preprocess, 1) for one in (session, on_all)
        )
        if together <= _WORTH_ALL_CORES * alone:
            session, at_once = on_all, 1
    return Servable(
        name=name,
        source=bundle.path,
        classes=bundle.classes,
        preprocess=bundle.preprocess,
        calibration=bundle.calibration,
        input_ranges=bundle.input_ranges,
        session=session,
        at_once=at_once,
        public={
            "runtime": session.runtime,
            "input": _input(bundle.preprocess),
            **public(bundle),
        },
    )


def _prove(bundle: Bundle, runtime: str, trust: bool) -> None:
    """Raise where a bundle is not what was exported, or does not answer as it did.

    Raises:
        BundleError: naming what differs.
    """
    found = verify(bundle.path, runtimes=[runtime], trust=trust)
    faults = [f"{check.name}: {check.detail}" for check in found.checks if not check.ok]
    if faults:
        raise BundleError(
            f"The bundle {bundle.path} does not prove itself. {' '.join(faults)}",
            f"See more with `sartor verify {shlex.quote(str(bundle.path))}`, or export it again.",
        )


def _of_run(target: str, name: str, runtime: str | None, trust: bool) -> Servable:
    predictor = Predictor(target, runtime=runtime, trust=trust)

    def session(images: UInt8Array) -> Outputs:
        with predictor.at_work():
            return predictor.outputs(images)

    return Servable(
        name=name,
        source=Path(predictor.name),
        classes=predictor.classes,
        preprocess=predictor.preprocess,
        calibration=predictor.calibration,
        input_ranges=predictor.input_ranges,
        session=session,
        at_once=1,
        public={
            "runtime": predictor.runtime,
            "input": _input(predictor.preprocess),
            "classes": list(predictor.classes),
            "weights_sha256": predictor.weights_sha256,
            "preprocess": preprocess_to_json(predictor.preprocess),
            "calibration": {"coverage": predictor.calibration.coverage},
            "input_ranges": predictor.input_ranges,
        },
    )


def _input(preprocess: Preprocess) -> dict[str, int]:
    channels, height, width = preprocess.input_shape
    return {"channels": channels, "height": height, "width": width}


def _channels_last(images: UInt8Array) -> UInt8Array:
    """(N, H, W, C), contiguous, of (N, C, H, W)."""
    if images.shape[1] == 1:
        return images.reshape(len(images), *images.shape[2:], 1)
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))


def _seconds_per_image(session: Session, preprocess: Preprocess, count: int) -> float:
    channels, height, width = preprocess.input_shape
    images = np.zeros((count, height, width, channels), np.uint8)
    session(images)
    times: list[float] = []
    while len(times) < _TRIES and sum(times) < _TRY_SECONDS:
        times.append(_seconds(lambda: session(images)))
    return min(times) / count


def _seconds(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun
