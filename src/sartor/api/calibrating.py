"""The temperature of a run, from the predictions that were saved for its validation images."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import numpy as np

from ..errors import RunError, UsageError
from ..evaluation.calibration import (
    Temperature,
    confidence_of,
    fit_temperature,
    gap_interval,
    log_probabilities,
)
from ..evaluation.predictions import Predictions, gives_probabilities
from .opened import OpenedRun, load_checkpoint


@dataclass(frozen=True, kw_only=True)
class FittedTemperature:
    """What the validation images say of a run's probabilities."""

    temperature: Temperature
    needed: bool
    """Whether confidence and accuracy differ on these images by more than chance."""


def saved_temperature(run: OpenedRun, checkpoint: str = "best") -> FittedTemperature | None:
    """The temperature of a checkpoint; None where no saved predictions of it allow one."""
    return _of_weights(run, load_checkpoint(run.folder, checkpoint).weights_sha256)


def _of_weights(run: OpenedRun, weights_sha256: str) -> FittedTemperature | None:
    try:
        saved = Predictions.load(run.folder.predictions_path("val"))
    except RunError:
        return None
    usable = saved.split == "val" and len(saved) and saved.weights_sha256 == weights_sha256
    if not usable or not gives_probabilities(saved.loss) or not np.isfinite(saved.logits).all():
        return None
    log_p, predicted = log_probabilities(saved), saved.predicted()
    low, high = gap_interval(confidence_of(log_p, predicted), predicted == saved.labels)
    return FittedTemperature(temperature=fit_temperature(saved), needed=not low <= 0 <= high)


def temperature_value(run: OpenedRun, weights_sha256: str, loss: str) -> float:
    """The temperature of these weights.

    Raises:
        UsageError: the loss gives no probabilities, or no predictions are saved to fit it on.
    """
    if not gives_probabilities(loss):
        raise UsageError(
            f"{run.path} was trained with the loss {loss}, which gives scores, not probabilities.",
            "Leave --calibrated out.",
        )
    found = _of_weights(run, weights_sha256)
    if found is None:
        raise UsageError(
            f"{run.path} has no predictions of its validation images to fit a temperature on.",
            f"Make them: sartor evaluate {shlex.quote(str(run.path))} --split val",
        )
    return found.temperature.value
