"""Predict: classify pictures, prepared exactly as in training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data.pictures.preprocess import Preprocess, find_pictures, read_picture
from ..errors import PictureError
from .opened import OpenedRun, open_run
from .predictor import Predictor

Picture = str | Path | Image.Image
"""A file, a folder, a pattern, or a picture in memory."""
_PICTURES_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a run says of one picture."""

    file: str
    label: str
    probability: float
    """Of the label, in 0..1."""
    probabilities: dict[str, float]
    """Of every class, in 0..1; they sum to 1."""

    def to_json(self, topk: int | None = None) -> dict[str, Any]:
        """The keys of `predict --json`; with `topk`, only the most probable classes."""
        chosen = self.top(topk) if topk else list(self.probabilities.items())
        return {
            "file": self.file,
            "label": self.label,
            "probability": self.probability,
            "probabilities": dict(chosen),
        }

    def top(self, count: int) -> list[tuple[str, float]]:
        """The most probable classes, the first first."""
        return sorted(self.probabilities.items(), key=lambda pair: -pair[1])[:count]


def predict(
    run: str | Path | OpenedRun,
    pictures: Picture | Sequence[Picture],
    *,
    invert: bool = False,
    checkpoint: str = "best",
    device: str | None = None,
    trust: bool = False,
) -> list[Prediction]:
    """Classify pictures of any size and mode, prepared exactly as in training.

    Args:
        pictures: files, folders, patterns or pictures in memory; one or many.
        invert: for dark on light, where training had light on dark.
        device, trust: as for `evaluate`.

    Raises:
        PictureError: naming every file that cannot be read. RunError: a broken run.
    """
    several = [pictures] if isinstance(pictures, str | Path | Image.Image) else list(pictures)
    predictions, faults = predict_readable(
        open_run(run, device=device, trust=trust), several, invert=invert, checkpoint=checkpoint
    )
    if faults:
        raise PictureError("\n".join(fault.message for fault in faults), faults[0].hint)
    return predictions


def predict_readable(
    run: OpenedRun,
    pictures: Sequence[Picture],
    *,
    invert: bool = False,
    checkpoint: str = "best",
) -> tuple[list[Prediction], list[PictureError]]:
    """Predictions for the pictures that can be read, and the reasons for the others."""
    predictor = Predictor(run, checkpoint=checkpoint)
    predictions: list[Prediction] = []
    faults: list[PictureError] = []
    with predictor.at_work():
        for names, images in prepared_pictures(pictures, predictor.preprocess, invert, faults):
            predictions += [
                _prediction(name, row, predictor.classes)
                for name, row in zip(names, predictor.probabilities(images), strict=True)
            ]
    return predictions, faults


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
    name: str, row: np.ndarray[Any, np.dtype[np.float64]], classes: Sequence[str]
) -> Prediction:
    best = int(row.argmax())
    return Prediction(
        file=name,
        label=classes[best],
        probability=float(row[best]),
        probabilities={one: float(p) for one, p in zip(classes, row, strict=True)},
    )
