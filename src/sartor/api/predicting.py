"""Predict: classify pictures, prepared exactly as in training."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..arrays import UInt8Array
from ..bundle.format import Bundle
from ..data.dataset import Dataset
from ..data.given import is_array
from ..data.pictures.preprocess import Preprocess
from ..data.pictures.stream import Chunk, Undecoded, decoded
from ..data.settings import INK_WAYS
from ..data.unlabelled import Picture as Picture
from ..data.unlabelled import Unlabelled
from ..errors import PictureError, UsageError, unknown
from ..inference import familiarity
from ..inference.answers import ABSTENTIONS, answers
from ..inference.answers import Prediction as Prediction
from ..inference.answers import Row as Row
from ..inference.answers import Unreadable as Unreadable
from .opened import OpenedRun, open_run
from .predictor import Predictor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Source = str | Path | OpenedRun | Bundle | Predictor
"""A run or a bundle, by its path or opened, or what is ready to classify."""
_PICTURES_AT_ONCE = 256
_PIXELS_AT_ONCE = 4_000_000
"""Of all pictures at once: what large ones need in memory stays bounded."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Input:
    """What the network is given of a picture."""

    file: str
    image: UInt8Array
    """uint8 (C, H, W)."""


def predict(
    source: Source,
    pictures: Picture | Iterable[Picture],
    *,
    invert: bool = False,
    ink: str | None = None,
    checkpoint: str = "best",
    calibrated: bool = True,
    abstain: str = "off",
    runtime: str | None = None,
    device: str | None = None,
    trust: bool = False,
) -> list[Prediction]:
    """Classify pictures of any size and mode, prepared exactly as in training.

    Args:
        source: a run or a bundle, by its path or opened; or a `Predictor`, which is opened once
            for many calls and brings its own checkpoint, calibration and runtime.
        pictures: files, folders, patterns, archives, parquet files or pictures in memory; one or
            many. For more than fit into memory, use `predict_stream` or `predict_to_file`.
        invert: set it for dark-on-light pictures if training had light on dark.
        ink: how to prepare handwriting: "mass", "box" or "off"; by default as the run does.
        checkpoint: for a run, "best" by the validation split, or "last".
        calibrated: use the temperature fitted on the validation images, if there is one;
            otherwise probabilities are the network's own, and there are no sets.
        abstain: withhold the label of unknown pictures ("novelty"), or unless the set has exactly
            one class ("set"); "off" by default.
        runtime: for a bundle, "onnx", "int8" or "torch"; by default onnx if it is available.
        device, trust: as for `evaluate`.

    Raises:
        PictureError: names every file that cannot be read, or whose outputs are not finite.
        UsageError: arrays, or no such way to abstain. RunError: a broken run.
    """
    rows = list(
        predict_stream(
            source,
            pictures,
            invert=invert,
            ink=ink,
            checkpoint=checkpoint,
            calibrated=calibrated,
            abstain=abstain,
            runtime=runtime,
            device=device,
            trust=trust,
        )
    )
    faults = [row for row in rows if isinstance(row, Unreadable)]
    if faults:
        raise PictureError("\n".join(fault.error for fault in faults), faults[0].hint)
    return [row for row in rows if isinstance(row, Prediction)]


def predict_stream(
    source: Source,
    pictures: Picture | Iterable[Picture],
    *,
    invert: bool = False,
    ink: str | None = None,
    image_column: str | None = None,
    checkpoint: str = "best",
    calibrated: bool = True,
    abstain: str = "off",
    runtime: str | None = None,
    device: str | None = None,
    trust: bool = False,
) -> Iterator[Row]:
    """Classify any number of pictures, one by one, in constant memory.

    Threads decode the next pictures in the meantime. A picture that cannot be read gives an
    `Unreadable` in its place.

    Args:
        pictures: as for `predict`; also an iterator, which is read lazily.
        image_column: for parquet files with several columns of pictures.
        the others: as for `predict`.

    Raises:
        UsageError: arrays, or no such way to abstain. RunError: a broken run.
    """
    predictor = predictor_of(
        source,
        checkpoint=checkpoint,
        calibrated=calibrated,
        runtime=runtime,
        device=device,
        trust=trust,
    )
    classifier = Classifier(predictor, ink=ink, abstain=abstain)
    named = Unlabelled(named_pictures(pictures), image_column=image_column)
    return _each(classifier.answered(named, invert=invert))


def predictor_of(
    source: Source,
    *,
    checkpoint: str = "best",
    calibrated: bool = True,
    runtime: str | None = None,
    device: str | None = None,
    trust: bool = False,
) -> Predictor:
    """A run or a bundle, ready to classify; a predictor as it is."""
    if isinstance(source, Predictor):
        return source
    return Predictor(
        source,
        checkpoint=checkpoint,
        calibrated=calibrated,
        runtime=runtime,
        device=device,
        trust=trust,
    )


def _each(answered: Generator[Answered, None, None]) -> Iterator[Row]:
    try:
        for chunk in answered:
            yield from chunk.rows
    finally:
        answered.close()


@dataclass(frozen=True, kw_only=True, eq=False)
class Answered:
    """Some neighbours of a stream of pictures, with what is said of each."""

    rows: list[Row]
    images: UInt8Array
    """uint8 (M, C, H, W): what the network was given of those that have a prediction, in order."""


class Classifier:
    """A predictor, and how it is to be asked what pictures show."""

    def __init__(
        self, predictor: Predictor, *, ink: str | None = None, abstain: str = "off"
    ) -> None:
        """
        Raises:
            UsageError: no such way to prepare ink, or to abstain.
        """
        self.abstain = _way_to_abstain(abstain)
        self.predictor = predictor
        self.preprocess = with_ink(predictor.preprocess, ink)

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the answers, by its name in messages; to be compared after a pause."""
        return {
            "weights_sha256": self.predictor.weights_sha256,
            "classes": list(self.predictor.classes),
            "preparation": repr(self.preprocess),
            "runtime": self.predictor.runtime,
            "calibration": hashlib.sha256(
                json.dumps(self.predictor.calibration.to_json(), sort_keys=True).encode()
            ).hexdigest(),
            "abstention": self.abstain,
            "pictures_at_once": self.pictures_at_once,
        }

    @property
    def pictures_at_once(self) -> int:
        """How many are decoded, and go through the network, together."""
        fitting = _PIXELS_AT_ONCE // int(np.prod(self.preprocess.input_shape))
        return max(1, min(_PICTURES_AT_ONCE, fitting))

    def answered(
        self,
        pictures: Iterable[Undecoded],
        *,
        invert: bool = False,
        threads: int | None = None,
        idle: Callable[[], bool] = lambda: False,
        whole: bool = True,
    ) -> Generator[Answered, None, None]:
        """The answers to a stream of pictures; to be closed by whoever stops before its end.

        Args:
            threads: that decode; by default as many as this process may use.
            idle, whole: as for `decoded`.
        """
        chunks = decoded(
            pictures,
            self.preprocess,
            size=self.pictures_at_once,
            invert=invert,
            threads=threads,
            idle=idle,
            whole=whole,
        )
        try:
            for chunk in chunks:
                yield self._answers(chunk)
        finally:
            chunks.close()

    def _answers(self, chunk: Chunk) -> Answered:
        names = [name for place, name in enumerate(chunk.names) if place not in chunk.faults]
        found = iter(self._rows(names, chunk.images))
        rows = [
            Unreadable(file=name, error=fault.message, hint=fault.hint)
            if (fault := chunk.faults.get(place))
            else next(found)
            for place, name in enumerate(chunk.names)
        ]
        read = [row for place, row in enumerate(rows) if place not in chunk.faults]
        known = [place for place, row in enumerate(read) if isinstance(row, Prediction)]
        images = chunk.images if len(known) == len(chunk.images) else chunk.images[known]
        return Answered(rows=rows, images=images)

    def _rows(self, names: Sequence[str], images: UInt8Array) -> list[Row]:
        if not names:
            return []
        # The threads of the process are the run's only for as long as the network works.
        with self.predictor.at_work():
            probabilities, novelty, predicted = self.predictor.scored(images)
        found = answers(
            names,
            probabilities,
            novelty,
            self.predictor.calibration,
            self.predictor.classes,
            predicted=predicted,
            unlike_training=familiarity.differences(images, self.predictor.input_ranges),
        )
        return [
            row.abstaining(self.abstain)
            if isinstance(row, Prediction) and (predicted is None or predicted[place] >= 0)
            else self._without_prediction(row.file)
            for place, row in enumerate(found)
        ]

    def _without_prediction(self, name: str) -> Unreadable:
        return Unreadable(
            file=name,
            error=f"The outputs of {self.predictor.name} are not finite for {name}, so there is no "
            "prediction.",
            hint="Train again with a lower --lr or with --clip-grad.",
        )


def with_ink(preprocess: Preprocess, ink: str | None) -> Preprocess:
    """With another way to prepare ink than the run's.

    Raises:
        UsageError: there is no such way.
    """
    if ink is None:
        return preprocess
    if ink not in INK_WAYS or ink == "auto":
        raise UsageError(
            f"There is no way to prepare ink called {ink}.",
            "Say mass, box or off, or leave it out.",
        )
    return replace(preprocess, ink=ink)


def inputs(
    run: str | Path | OpenedRun,
    pictures: Picture | Iterable[Picture],
    *,
    invert: bool = False,
    ink: str | None = None,
) -> list[Input]:
    """What the network is given of each picture.

    Raises:
        PictureError: naming every file that cannot be read. RunError: a broken run.
    """
    preprocess = with_ink(Preprocess.from_settings(open_run(run).recipe.preprocess), ink)
    names, images = prepared_pictures(pictures, preprocess, invert)
    return [Input(file=name, image=image) for name, image in zip(names, images, strict=True)]


def inputs_figure(inputs: Sequence[Input], captions: Sequence[str] | None = None) -> Figure:
    """The images as the network sees them, each with its file's name or a caption."""
    from ..reports.figures import sample_grid

    images = np.stack([one.image for one in inputs])
    shown = Dataset(images, np.zeros(len(images), np.int64), ("picture", "none"))
    names = captions or [one.file for one in inputs]
    return sample_grid(shown, range(len(images)), captions=names)


def prepared_pictures(
    pictures: Picture | Iterable[Picture], preprocess: Preprocess, invert: bool
) -> tuple[list[str], UInt8Array]:
    """Names and uint8 images (N, C, H, W) of pictures, all at once.

    Raises:
        PictureError: naming every one that cannot be read.
    """
    chunks = list(
        decoded(
            Unlabelled(named_pictures(pictures)), preprocess, size=_PICTURES_AT_ONCE, invert=invert
        )
    )
    faults = [fault for chunk in chunks for fault in chunk.faults.values()]
    if faults:
        raise PictureError("\n".join(fault.message for fault in faults), faults[0].hint)
    nothing = np.empty((0, *preprocess.input_shape), np.uint8)
    return (
        [name for chunk in chunks for name in chunk.names],
        np.concatenate([nothing, *(chunk.images for chunk in chunks)]),
    )


def named_pictures(given: Picture | Iterable[Picture]) -> Iterable[Picture]:
    """One picture or many as many; a sequence stays one, since it can be counted."""
    if isinstance(given, str | os.PathLike | Image.Image):
        return [given]
    if is_array(given):
        raise _arrays()
    if isinstance(given, Sequence) and not isinstance(given, bytes | bytearray):
        for one in given:
            _refuse_others(one)
        return given
    if isinstance(given, bytes | bytearray) or not isinstance(given, Iterable):
        _refuse_others(given)
    return _refusing_others(given)


def _refusing_others(given: Iterable[Picture]) -> Iterator[Picture]:
    for one in given:
        _refuse_others(one)
        yield one


def _refuse_others(one: Any) -> None:
    """
    Raises:
        UsageError: it is nothing that names a picture, or is one.
    """
    if is_array(one):
        raise _arrays()
    if not isinstance(one, str | os.PathLike | Image.Image):
        raise UsageError(
            f"{type(one).__name__} is not a picture, nor does it name one.",
            "Give paths, pictures of Pillow (PIL.Image.open), or an iterable of these.",
        )


def _arrays() -> UsageError:
    return UsageError(
        "Arrays are no pictures to prepare.",
        "Make pictures of them with PIL.Image.fromarray, or give arrays of the training's "
        "size to sartor.Predictor.",
    )


def _way_to_abstain(word: str) -> str:
    if word not in ABSTENTIONS:
        raise UsageError(unknown("way to abstain", word, ABSTENTIONS), "Say off, novelty or set.")
    return word
