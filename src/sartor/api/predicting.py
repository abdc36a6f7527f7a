"""Predict: classify pictures, prepared exactly as in training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..arrays import UInt8Array
from ..data.dataset import Dataset
from ..data.given import is_array
from ..data.pictures.preprocess import Preprocess, find_pictures, read_picture
from ..data.settings import INK_WAYS
from ..errors import PictureError, UsageError
from ..evaluation.predictions import NO_PREDICTION, predicted_of
from ..inference import familiarity
from .opened import OpenedRun, open_run
from .predictor import Predictor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Picture = str | Path | Image.Image
"""A file, a folder, a pattern, or a picture in memory."""
_PICTURES_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a run says of one picture; of a run trained with mse, shares of its scores."""

    file: str
    label: str
    probability: float
    """Of the label, in 0..1."""
    probabilities: dict[str, float]
    """Of every class, in 0..1; they sum to 1."""
    unlike_training: tuple[str, ...] = ()
    """In what the picture lies outside all training images, such as "brightness 0.97, in training
    0.04 to 0.31"; its prediction means little then."""

    def to_json(self, topk: int | None = None) -> dict[str, Any]:
        """The keys of `predict --json`; with `topk`, only the most probable classes."""
        chosen = self.top(topk) if topk else list(self.probabilities.items())
        return {
            "file": self.file,
            "label": self.label,
            "probability": self.probability,
            "probabilities": dict(chosen),
            "unlike_training": list(self.unlike_training),
        }

    def top(self, count: int) -> list[tuple[str, float]]:
        """The most probable classes, the first first."""
        # The label is first also where another class has the same probability.
        return sorted(
            self.probabilities.items(), key=lambda pair: (-pair[1], pair[0] != self.label)
        )[:count]


@dataclass(frozen=True, kw_only=True, eq=False)
class Input:
    """What the network is given of a picture."""

    file: str
    image: UInt8Array
    """uint8 (C, H, W)."""


def predict(
    run: str | Path | OpenedRun,
    pictures: Picture | Sequence[Picture],
    *,
    invert: bool = False,
    ink: str | None = None,
    checkpoint: str = "best",
    calibrated: bool = False,
    device: str | None = None,
    trust: bool = False,
) -> list[Prediction]:
    """Classify pictures of any size and mode, prepared exactly as in training.

    Args:
        pictures: files, folders, patterns or pictures in memory; one or many.
        invert: for dark on light, where training had light on dark.
        ink: how to prepare writing, mass, box or off; by default as the run does.
        calibrated: at the temperature that was fitted on the validation images.
        device, trust: as for `evaluate`.

    Raises:
        PictureError: naming every file that cannot be read, or has outputs that are not finite.
        UsageError: `calibrated` without validation images, or arrays. RunError: a broken run.
    """
    several = [pictures] if isinstance(pictures, str | Path | Image.Image) else list(pictures)
    if any(map(is_array, several)):
        raise UsageError(
            "Arrays are no pictures to prepare.",
            "Make pictures of them with PIL.Image.fromarray, or give arrays of the training's "
            "size to sartor.Predictor.",
        )
    predictions, faults = predict_readable(
        open_run(run, device=device, trust=trust),
        several,
        invert=invert,
        ink=ink,
        checkpoint=checkpoint,
        calibrated=calibrated,
    )
    if faults:
        raise PictureError("\n".join(fault.message for fault in faults), faults[0].hint)
    return predictions


def predict_readable(
    run: OpenedRun,
    pictures: Sequence[Picture],
    *,
    invert: bool = False,
    ink: str | None = None,
    checkpoint: str = "best",
    calibrated: bool = False,
) -> tuple[list[Prediction], list[PictureError]]:
    """Predictions for the pictures that have one, and the reasons for the others."""
    predictor = Predictor(run, checkpoint=checkpoint, calibrated=calibrated)
    predictions: list[Prediction] = []
    faults: list[PictureError] = []
    not_finite: list[str] = []
    preprocess = with_ink(predictor.preprocess, ink)
    ranges = familiarity.readable(run.folder.input_ranges())
    with predictor.at_work():
        for names, images in prepared_pictures(pictures, preprocess, invert, faults):
            logits = predictor.logits(images)
            rows = zip(
                names,
                predicted_of(logits),
                predictor.probabilities_of(logits),
                familiarity.differences(images, ranges),
                strict=True,
            )
            for name, best, row, unlike in rows:
                if best == NO_PREDICTION:
                    not_finite.append(name)
                else:
                    found = _prediction(name, int(best), row, predictor.classes)
                    predictions.append(replace(found, unlike_training=tuple(unlike)))
    if not_finite:
        faults.append(_without_prediction(not_finite, run))
    return predictions, faults


def _without_prediction(names: list[str], run: OpenedRun) -> PictureError:
    listed = ", ".join(names[:5]) + f" and {len(names) - 5:,} more" * (len(names) > 5)
    return PictureError(
        f"The outputs of {run.path} are not finite for {len(names):,} "
        f"picture{'s' * (len(names) > 1)}, so there is no prediction: {listed}.",
        "Train again with a lower --lr or with --clip-grad.",
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
    pictures: Picture | Sequence[Picture],
    *,
    invert: bool = False,
    ink: str | None = None,
) -> list[Input]:
    """What the network is given of each picture.

    Raises:
        PictureError: naming every file that cannot be read. RunError: a broken run.
    """
    several = [pictures] if isinstance(pictures, str | Path | Image.Image) else list(pictures)
    preprocess = with_ink(Preprocess.from_settings(open_run(run).recipe.preprocess), ink)
    faults: list[PictureError] = []
    found = [
        Input(file=name, image=image)
        for names, images in prepared_pictures(several, preprocess, invert, faults)
        for name, image in zip(names, images, strict=True)
    ]
    if faults:
        raise PictureError("\n".join(fault.message for fault in faults), faults[0].hint)
    return found


def inputs_figure(inputs: Sequence[Input], captions: Sequence[str] | None = None) -> Figure:
    """The images as the network sees them, each with its file's name or a caption."""
    from ..reports.figures import sample_grid

    images = np.stack([one.image for one in inputs])
    shown = Dataset(images, np.zeros(len(images), np.int64), ("picture", "none"))
    names = captions or [one.file for one in inputs]
    return sample_grid(shown, range(len(images)), captions=names)


def prepared_pictures(
    pictures: Iterable[Picture], preprocess: Preprocess, invert: bool, faults: list[PictureError]
) -> Iterable[tuple[list[str], np.ndarray[Any, np.dtype[np.uint8]]]]:
    """Names and uint8 images (B, C, H, W), a few at a time so that any number fits into memory."""
    names, images = [], []
    for name, open_picture in _opened(pictures, preprocess, faults):
        try:
            images.append(preprocess.picture(open_picture(), invert=invert))
        except PictureError as error:
            faults.append(error)
            continue
        names.append(name)
        if len(images) == _PICTURES_AT_ONCE:
            yield names, np.stack(images)
            names, images = [], []
    if images:
        yield names, np.stack(images)


def _opened(
    pictures: Iterable[Picture], preprocess: Preprocess, faults: list[PictureError]
) -> Iterable[tuple[str, Callable[[], Image.Image]]]:
    for picture in pictures:
        if isinstance(picture, Image.Image):
            yield getattr(picture, "filename", "") or "picture", partial(_same, picture)
            continue
        try:
            paths = find_pictures([str(picture)])
        except PictureError as error:
            faults.append(error)
            continue
        for path in paths:
            yield str(path), partial(read_picture, path, preprocess)


def _same(picture: Image.Image) -> Image.Image:
    return picture


def _prediction(
    name: str, best: int, row: np.ndarray[Any, np.dtype[np.float64]], classes: Sequence[str]
) -> Prediction:
    return Prediction(
        file=name,
        label=classes[best],
        probability=float(row[best]),
        probabilities={one: float(p) for one, p in zip(classes, row, strict=True)},
    )
