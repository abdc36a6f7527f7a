"""Fit a temperature and the threshold of sets on predictions of validation images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..evaluation.calibration import fit_temperature, log_probabilities, scaled
from ..evaluation.conformal import conformal_quantile, fewest_for, true_scores
from ..evaluation.predictions import Predictions, gives_probabilities
from .calibration import EVERY_CLASS, Calibration

FEWEST = 20
"""Of fewer images no temperature is taken: one wrong answer would decide it."""


def calibrated_by(validation: Predictions | None, coverage: float) -> Calibration:
    """Temperature and threshold; what these images do not allow stays out, and is said.

    The sets are meant for probabilities at that temperature. With groups, images of one group count
    together as one.

    Args:
        validation: predictions of the validation images; None where there are none.
        coverage: in 0..1, the share of images whose set is to hold the true class.
    """
    if validation is None or not len(validation):
        return Calibration(
            remarks=(
                "There are no validation images, so probabilities are the network's own, and there "
                "are neither sets nor a novelty score.",
            )
        )
    groups, images = validation.groups, len(validation)
    count = images if groups is None else len(np.unique(groups))
    known = Calibration(images=images, groups=None if groups is None else count)
    if not gives_probabilities(validation.loss):
        reason = f"Trained with the loss {validation.loss}, the network gives scores, not"
        return replace(known, remarks=(f"{reason} probabilities: there are no sets.",))
    if not np.isfinite(validation.logits).all():
        reason = "Some outputs for validation images are not finite:"
        return replace(known, remarks=(f"{reason} there is no temperature and no set.",))
    unit = "validation images" if groups is None else "groups of validation images"
    temperature, remarks = _temperature(validation, count, unit)
    probabilities = np.exp(scaled(log_probabilities(validation), temperature))
    threshold = conformal_quantile(true_scores(probabilities, validation.labels), coverage, groups)
    if threshold is None:
        remarks += (
            f"Sets at a coverage of {coverage:.4g} need {fewest_for(coverage):,} {unit} and there "
            f"are {count:,}, so every set contains every class.",
        )
    return replace(
        known,
        temperature=temperature,
        coverage=coverage,
        set_threshold=EVERY_CLASS if threshold is None else threshold,
        remarks=remarks,
    )


def _temperature(validation: Predictions, count: int, unit: str) -> tuple[float, tuple[str, ...]]:
    """The temperature to use, and why it is not the fitted one where it is not."""
    if len(validation.classes) < 2:
        return 1.0, ()
    if count < FEWEST:
        return 1.0, (
            f"A temperature needs {FEWEST} {unit} and there are {count}, so probabilities "
            "are the network's own.",
        )
    found = fit_temperature(validation)
    if (validation.predicted() == validation.labels).all():
        return 1.0, (
            f"All {len(validation):,} validation images are classified correctly, so no "
            "temperature can be fitted, and probabilities are the network's own.",
        )
    return found.value, ()
