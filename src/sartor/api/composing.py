"""From what was asked for to a job: the recipe, the data, and the network on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from .. import assembly
from ..assembly import Assembly, Meanwhile, assemble
from ..data.dataset import Dataset
from ..data.settings import PreprocessSettings
from ..data.sources import as_asked
from ..device import torch_threads
from ..distributed import processes
from ..inspection.probes.memory import check_memory
from ..inspection.probes.preflight import check_model
from ..recipe import Recipe, load_recipe
from ..training.engines import hardware
from . import starting
from .default_recipe import default_recipe
from .foreign_code import refuse_foreign_code
from .looking import dataset_for
from .notes import Sink
from .splitting import split_of, without_stale_split
from .transferring import as_far_as_it_pays, offered, with_transfer

_MAKING_STEPS = {
    *("epochs", "batch_size", "grad_accum_steps", "drop_last", "sched"),
    *("val_fraction", "test_fraction", "duplicates", "limit_per_class", "exclude"),
}
"""Settings that decide what an extension's step means."""
_OF_THE_WEIGHTS: Mapping[str, Any] = {
    "model_kwargs": {},
    **dict.fromkeys(("weights", "weights_sha256", "weights_licence", "accept_licence")),
}
"""Settings that belong to one network, as they are for another."""
_ENGINE = {"engine", "threads", "memory_format", "amp_dtype", "device"}
"""Who names one of these wants that engine from the first step."""


def compose_recipe(
    recipe: str | Path | Recipe | None,
    model: str | nn.Module | None,
    settings: Mapping[str, Any],
    *,
    trust: bool = False,
) -> Recipe:
    """The recipe to start from, with the settings that were given besides.

    Raises:
        UsageError: its file names Python code, which nobody vouches for.
    """
    base = recipe if isinstance(recipe, Recipe) else load_recipe(recipe) if recipe else Recipe()
    if not (trust or model is not None or recipe is None or isinstance(recipe, Recipe)):
        refuse_foreign_code(Path(recipe), base)
    changes = without_stale_split(settings)
    if {"weights", "model_kwargs"} & set(settings):
        changes = {"weights_sha256": None, "weights_licence": None, **changes}
    if changes.get("weights") is not None:
        changes = {**starting.licence_at(str(changes["weights"])), **changes}
        changes["weights"] = starting.place_of(str(changes["weights"]))
    if _MAKING_STEPS & set(settings):
        changes["extensions"] = ()
    if (_MAKING_STEPS | _ENGINE) & set(settings):
        changes["engine_changes"] = ()
    if isinstance(model, nn.Module):
        changes |= {"model": assembly.IN_MEMORY + type(model).__name__, "model_kwargs": {}}
    elif model is not None and (run := starting.run_of(model)) is not None:
        changes = {**starting.network_of_run(run), **changes}
    elif model is not None:
        starting.refuse_strange_model(model)
        changes["model"] = model
        if model != base.model.model:
            # Another network has other settings and other weights.
            changes = {**_OF_THE_WEIGHTS, **changes}
    return base.with_settings(changes)


def dataset_and_recipe(
    data: str | Path | Dataset | None,
    model: str | nn.Module | None,
    recipe: str | Path | Recipe | None,
    settings: Mapping[str, Any],
    on_event: Sink | None,
    trust: bool,
    *,
    step_by_step: bool = False,
) -> tuple[Dataset, Recipe]:
    """The data, and its recipe: the one that was named, else the default for such images.

    Args:
        step_by_step: the training is to be one by the loop.
    """
    if model is None and recipe is None:
        model = starting.run_of_weights(settings)
    wanted = compose_recipe(recipe, model, settings, trust=trust)
    if wanted.preprocess.image_size:
        assembly.refuse_too_small(wanted, wanted.preprocess.image_size)
    if isinstance(model, str):
        assembly.refuse_without_features(wanted.model.model, wanted.training.transfer)
    starting.refuse_licence(wanted)
    starting.bring_weights(wanted, on_event)
    by_loop = step_by_step or recipe is not None
    is_open = wanted.training.transfer == "auto" and not wanted.data.fingerprint
    wanted = with_transfer(wanted, settings, by_loop=by_loop)
    wanted = starting.as_the_weights_want(wanted, settings)
    starting.refuse_unfit(wanted, is_named=not (model is None and recipe is None))
    given = dict(settings) if model is None else {**settings, "model": model}
    offer = _Offer(wanted, given, on_event) if not by_loop else None
    dataset, wanted = dataset_for(
        data,
        wanted,
        on_event,
        resize_given=recipe is not None or "resize" in settings,
        better=offer.before_decoding if offer else None,
    )
    training = wanted.training
    recorded = training.extensions or training.engine_changes
    if recorded and wanted.data.fingerprint != dataset.fingerprint:
        # Steps of other data.
        wanted = wanted.with_settings({"extensions": (), "engine_changes": ()})
    if recipe is not None:
        return dataset, wanted
    if offer and (taken := offer.taken_for(dataset)):
        wanted = starting.as_the_weights_want(wanted.with_settings(taken), settings)
        if not offer.came_first:
            # The recipe goes on naming the source, from which the run is read back.
            dataset = as_asked(dataset, wanted.data, wanted.preprocess, on_event=on_event)
    if wanted.training.transfer == "features":
        split = split_of(wanted, dataset) if is_open else None
        if split and as_far_as_it_pays(wanted, len(split.train), len(split.val), on_event):
            wanted = wanted.with_settings({"transfer": "ladder"})
        else:
            return dataset, wanted
    pretrained = starting.pretrained_backbone(wanted) is not None
    return dataset, default_recipe(wanted, dataset, given, on_event, pretrained=pretrained)


class _Offer:
    """Whether a backbone is taken for pictures of which nobody said how to train on them: decided
    once, before they are decoded where that is to come."""

    def __init__(self, recipe: Recipe, given: Mapping[str, Any], on_event: Sink | None) -> None:
        self._recipe, self._given, self._on_event = recipe, given, on_event
        self._decided: dict[str, Any] | None = None
        self.came_first = False
        """Whether the pictures were prepared for it."""

    def before_decoding(self, settings: PreprocessSettings) -> PreprocessSettings:
        """What pictures are prepared with that would be prepared as `settings` say."""
        self._decide(settings.image_size, from_files=True)
        if not self._decided:
            return settings
        self.came_first = True
        recipe = self._recipe.with_settings(self._decided)
        wanted = starting.as_the_weights_want(recipe, self._given).preprocess
        # What was seen of the pictures is not looked for again.
        return replace(wanted, background=settings.background, value_range=settings.value_range)

    def taken_for(self, dataset: Dataset) -> dict[str, Any]:
        """The settings of the backbone that is taken; none where none is."""
        if self._decided is None:
            size = self._recipe.preprocess.image_size or dataset.shape[1:]
            self._decide(size, from_files=dataset.origin is not None)
        return self._decided or {}

    def _decide(self, image_size: Sequence[int], *, from_files: bool) -> None:
        found = offered(
            self._recipe, image_size, self._given, self._on_event, from_files=from_files
        )
        self._decided = found or {}


def assembled_from(
    recipe: Recipe,
    dataset: Dataset,
    model: str | nn.Module | None,
    meanwhile: Meanwhile | None = None,
) -> Assembly:
    """The job that a recipe makes of the data, with the weights that it starts from.

    `meanwhile` is as for `assemble`.
    """
    network = model if isinstance(model, nn.Module) else None
    weights = starting.starting_weights(recipe)
    split = split_of(recipe, dataset)
    return assemble(recipe, dataset, split, network, weights=weights, meanwhile=meanwhile)


def try_model(assembled: Assembly) -> tuple[float, list[str]]:
    """The loss before training, and what is suspicious about the network."""
    job = assembled.job
    # Beside the engine native one thread does it: waking others would take longer.
    threads = 1 if job.settings.engine == "native" else job.settings.threads
    with hardware.tuned(job.settings), torch_threads(threads):
        batch = assembly.first_batch(job)
        refuse_small_memory(assembled)
        return check_model(job, batch, untrained=not assembled.remarks)


def refuse_small_memory(assembled: Assembly) -> None:
    """Raise where a step would not fit into the memory that is free."""
    job = assembled.job
    images = min(job.settings.batch_size, len(assembled.material.split.train))
    images = -(-images // processes())
    check_memory(job, assembled.material.preprocess.input_shape, images)
