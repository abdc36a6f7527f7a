"""Trials that make no run: one batch learnt by heart, and the loss over rising learning rates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from .. import assembly
from ..data.dataset import Dataset
from ..inspection.probes.overfit import OverfitResult
from ..inspection.probes.overfit import overfit_batch as learn_by_heart
from ..inspection.probes.range_test import RangeTest as RangeTest
from ..inspection.probes.range_test import range_test
from ..recipe import Recipe
from ..training.engines import hardware
from .composing import assembled_from, dataset_and_recipe, try_model
from .notes import warn


def overfit_batch(
    data: str | Path | Dataset | None = None,
    *,
    model: str | nn.Module | None = None,
    recipe: str | Path | Recipe | None = None,
    trust: bool = False,
    on_step: Callable[[int, float, float], None] = lambda _step, _loss, _accuracy: None,
    **settings: Any,
) -> OverfitResult:
    """Train on only the first batch, not augmented, until it is memorised; makes no run.

    A network that cannot do this has a bug, or its learning rate is far off.
    """
    dataset, wanted = dataset_and_recipe(
        data, model, recipe, settings, None, trust, step_by_step=True
    )
    assembled = assembled_from(wanted, dataset, model)
    job = assembled.job
    _, warned = try_model(assembled)
    warn(warned)
    with hardware.tuned(job.settings):
        return learn_by_heart(job, assembly.first_batch(job), job.settings.lr, on_step)


def find_learning_rate(
    data: str | Path | Dataset | None = None,
    *,
    model: str | nn.Module | None = None,
    recipe: str | Path | Recipe | None = None,
    trust: bool = False,
    on_step: Callable[[int, float, float], None] | None = None,
    **settings: Any,
) -> RangeTest:
    """The loss over rising learning rates, and a rate that it suggests; makes no run.

    Trains a copy of the network for at most 100 steps: a network given as an object, the random
    numbers and the data stay as they are.
    """
    dataset, wanted = dataset_and_recipe(
        data, model, recipe, settings, None, trust, step_by_step=True
    )
    assembled = assembled_from(wanted, dataset, model)
    job = assembled.job
    try_model(assembled)
    with hardware.tuned(job.settings):
        return range_test(job, on_step=on_step)
