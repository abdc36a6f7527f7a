"""Evaluate a bundle on labelled pictures, by what it answers: the very probabilities that ship."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Float32Array, Int64Array
from ..bundle.format import Bundle
from ..bundle.sessions import images_at_once
from ..data.dataset import Dataset
from ..data.objects import dataset_of
from ..data.pictures.preprocess import Preprocess
from ..data.settings import DataSettings, PreprocessSettings
from ..data.sources import open_source
from ..data.splits.units import groups_of
from ..errors import DataError, UsageError
from ..evaluation.metrics import Evaluation
from ..evaluation.predictions import Predictions
from ..runs.looks import key_of_images, log_look_of_bundle
from .looks import pictures_of
from .notes import Sink, noting, warn
from .other_data import judged, matched
from .predictor import Predictor

# Of a float32; the logarithm of 0 has no number.
_SMALLEST = float(np.finfo(np.float32).tiny)


def evaluate_bundle(
    bundle: str | Path | Bundle,
    data: Any,
    split: str = "test",
    *,
    runtime: str | None = None,
    trust: bool = False,
    on_event: Sink | None = None,
) -> tuple[Evaluation, Predictions, Dataset]:
    """The evaluation, the predictions behind it, and the data as it was prepared.

    The logits of the predictions are the logarithms of the bundle's probabilities, so that loss and
    sets are those at its temperature.

    Args:
        data: labelled pictures, as a path, a named set or what `fit` takes from a program.
        split: the part that the data has; of data without parts "test" judges all.

    Raises:
        UsageError: no data; the data has no such part; or the bundle was trained on it, and it does
            not tell its test part. DataError: classes or images that do not fit. BundleError.
    """
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    if data is None:
        raise UsageError(
            f"{opened.path} is a bundle, which brings no data to be evaluated on.",
            f"Name labelled pictures: sartor evaluate {shlex.quote(str(opened.path))} DATA",
        )
    predictor = Predictor(opened, runtime=runtime, trust=trust)
    dataset = _dataset(predictor.preprocess, data, on_event)
    own = dataset.fingerprint == _learnt(opened.record)
    if own and dataset.test is None and split == "test":
        raise UsageError(
            f"{opened.path} was trained on images of {dataset.name}, which does not tell its test "
            "part.",
            "Evaluate the run that it was exported from, or name other pictures.",
        )
    found = matched(dataset, split, predictor.classes, str(opened.path))

    def predicted(indices: Int64Array) -> Predictions:
        return _predictions(predictor, found.dataset, indices, found.part)

    at_its_temperature = replace(predictor.calibration, temperature=1.0)
    evaluation, predictions = judged(found, predicted, at_its_temperature)
    if own and found.part == "test":
        key = key_of_images(dataset.fingerprint, predictions.indices, predictions.pictures)
        weights = predictor.weights_sha256
        if not log_look_of_bundle(opened.path, key, weights=weights, images=len(predictions)):
            warn(["A look at test images could not be counted: the cache cannot be written."])
    return evaluation, predictions, dataset


def _dataset(preprocess: Preprocess, data: Any, on_event: Sink | None) -> Dataset:
    settings = PreprocessSettings(
        image_size=(preprocess.height, preprocess.width),
        channels=preprocess.channels,
        resize=preprocess.resize,
        background=preprocess.background,
        value_range=preprocess.value_range,
        ink=preprocess.ink,
        mean=preprocess.mean,
        std=preprocess.std,
    )
    if isinstance(data, str | Path):
        source = DataSettings(source=str(data))
        found = open_source(source, settings, note=noting(on_event), on_event=on_event)
    elif isinstance(data, Dataset):
        found = data
    else:
        found = dataset_of(data, DataSettings(), settings, on_event=on_event)
    if found.origin is None and found.shape[0] != preprocess.channels:
        sizes = ["x".join(map(str, shape)) for shape in (found.shape, preprocess.input_shape)]
        raise DataError(
            f"The images of {found.name} are {sizes[0]}, and the bundle takes {sizes[1]}.",
            "Convert them to gray or colour as in training.",
        )
    return found


def _learnt(record: Mapping[str, Any]) -> str:
    """The fingerprint of the data that a bundle says it was trained on."""
    data = record.get("data")
    return str(data.get("fingerprint", "")) if isinstance(data, Mapping) else ""


def _predictions(
    predictor: Predictor, dataset: Dataset, indices: Int64Array, part: str
) -> Predictions:
    at_once = images_at_once(predictor.preprocess.input_shape)
    logits: list[Float32Array] = [np.empty((0, len(predictor.classes)), np.float32)]
    novelty: list[Float32Array] = []
    for start in range(0, len(indices), at_once):
        images = dataset.images[indices[start : start + at_once]]
        found = predictor.outputs(predictor.preprocess.images(images))
        # NaN stays NaN.
        logits.append(np.log(np.maximum(found.probabilities, _SMALLEST)).astype(np.float32))
        if found.novelty is not None:
            novelty.append(found.novelty)
    return Predictions(
        logits=np.concatenate(logits),
        labels=dataset.labels[indices],
        indices=indices,
        classes=predictor.classes,
        split=part,
        loss="cross-entropy",
        weights_sha256=predictor.weights_sha256,
        dataset_fingerprint=dataset.fingerprint,
        groups=groups_of(dataset, indices),
        pictures=pictures_of(dataset, indices),
        novelty=np.concatenate(novelty) if novelty else None,
    )
