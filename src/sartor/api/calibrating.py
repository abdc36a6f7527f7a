"""Calibrate: what the validation images say of a run's answers, fitted once and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from .. import assembly
from ..arrays import Float32Array, Int64Array
from ..assembly import Material
from ..data.splits.split import Split
from ..errors import FileError, RunError, SartorError, UsageError
from ..evaluation.predictions import Predictions
from ..inference.calibrated import calibrated_by
from ..inference.calibration import Calibration, NoveltyScore
from ..inference.features import Features, backbone_in
from ..inference.forward import Forward, evaluating
from ..inference.noise import KINDS, noise_of
from ..inference.novelty_fit import WIDEST, Candidates, Seen, best_of
from ..recipe import ResolvedRecipe
from ..training.engines import hardware
from .kept_calibration import keep_calibration, kept_calibration
from .opened import OpenedRun, load_checkpoint
from .split_predictions import validation_predictions
from .transferring import features_of

T = TypeVar("T")
_MOST_TRAIN, _MOST_VAL = 2_000, 2_000
"""Images of training and of validation that a novelty score is fitted on."""
_LEAST_NOISE, _MOST_NOISE, _NOISE_SHARE = 10, 100, 30
"""Images of each kind of noise: one for so many other images, so that a backbone whose features are
known need not compute many more."""


def calibration_of(run: OpenedRun, checkpoint: str = "best") -> Calibration:
    """What the run keeps for these weights; else it is fitted on the validation images, and kept.

    Raises:
        RunError: a broken run. DataError: its data is not at hand.
    """
    weights = load_checkpoint(run.folder, checkpoint).weights_sha256
    kept = kept_calibration(run, weights, checkpoint)
    if kept is not None:
        return kept
    calibration = _fitted(run, checkpoint)
    try:
        keep_calibration(run, calibration, weights, checkpoint)
    except (FileError, RunError) as error:
        run.say_once(f"The calibration is not kept in the run. {error.message}")
    return calibration


def calibrate(run: OpenedRun, checkpoint: str = "best") -> Calibration | None:
    """As `calibration_of`; a run is worth more than that, so a warning says what fails.

    Raises:
        UsageError: there is no such checkpoint.
    """
    try:
        return calibration_of(run, checkpoint)
    except UsageError:
        raise
    except Exception as error:
        # Without a checkpoint there is nothing to judge either, and that is said by whoever judges.
        load_checkpoint(run.folder, checkpoint)
        run.say_once(f"The run could not be calibrated: {_reason(error)}")
        return None


def _fitted(run: OpenedRun, checkpoint: str) -> Calibration:
    parts, training = run.split(), run.recipe.training
    if not len(parts.val):
        return calibrated_by(None, training.coverage)
    with ThreadPoolExecutor(1, "sartor-calibration") as thread, ExitStack() as held:
        # First, for a thread of its own fits the slowest method beside the validation images.
        looked = _or_reason(lambda: _looked(run, checkpoint, parts, held))
        validation = validation_predictions(run, checkpoint)
        coming = thread.submit(calibrated_by, validation, training.coverage)
        novelty: NoveltyScore | _Reason | None
        if isinstance(looked, _Reason):
            novelty = looked
        else:
            watch, candidates = looked
            novelty = _or_reason(lambda: _novelty(run, parts, validation, watch, candidates))
        return _with_novelty(coming.result(), novelty)


@dataclass(frozen=True)
class _Reason:
    """Why there is no novelty score, as the end of a sentence."""

    text: str


def _or_reason(action: Callable[[], T]) -> T | _Reason:
    try:
        return action()
    except (SartorError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a network of the user's own may do anything
        return _Reason(_reason(error))


def _with_novelty(calibration: Calibration, novelty: NoveltyScore | _Reason | None) -> Calibration:
    remarks = calibration.remarks
    if isinstance(novelty, _Reason):
        reason = f"There is no novelty score: {novelty.text}"
        return replace(calibration, remarks=(*remarks, reason))
    if novelty is None:
        remarks += ("There is no novelty score: features or outputs are not finite.",)
    elif novelty.threshold is None:
        remarks += (
            "There are too few validation images to call any picture unknown; the novelty score is "
            "given all the same.",
        )
    return replace(calibration, novelty=novelty, remarks=remarks)


def _looked(
    run: OpenedRun, checkpoint: str, parts: Split, held: ExitStack
) -> tuple[_Watch, Candidates]:
    """The network at work, and the methods that are being fitted to training images."""
    recipe, dataset = run.recipe_here, run.dataset()
    network = run.network(checkpoint)
    material = assembly.prepare_material(recipe, dataset, parts)
    train = _evenly(parts.train, _MOST_TRAIN)
    held.enter_context(hardware.tuned(recipe.training))
    watch = _Watch(network, recipe, material, train)
    held.enter_context(watch.own_threads())
    seen, labels, loss = watch.images(train), dataset.labels[train], recipe.training.loss
    return watch, held.enter_context(Candidates(seen, labels, watch.layer, loss))


def _novelty(
    run: OpenedRun,
    parts: Split,
    validation: Predictions,
    watch: _Watch,
    candidates: Candidates,
) -> NoveltyScore | None:
    chosen = _evenly(np.arange(len(parts.val)), _MOST_VAL)
    share = (len(parts.train) + len(parts.val)) // _NOISE_SHARE
    noise = min(max(share, _LEAST_NOISE), _MOST_NOISE)
    return best_of(
        candidates,
        watch.images(parts.val[chosen]),
        watch.noise(_evenly(parts.val, noise)),
        false_alarms=run.recipe.training.false_alarms,
        groups=None if validation.groups is None else validation.groups[chosen],
    )


class _Watch:
    """What a network makes of images: features before its last linear layer, and logits."""

    def __init__(
        self, network: nn.Module, recipe: ResolvedRecipe, material: Material, some: Int64Array
    ) -> None:
        self._network, self._recipe, self._material = network, recipe, material
        self._forward = Forward.of(network, recipe.training)
        self.own_threads = self._forward.own_threads
        self.layer = self._layer(some[:2])

    def _layer(self, some: Int64Array) -> str:
        if self._head is not None and self._head.in_features <= WIDEST:
            return self._name_of(self._head)
        (batch,) = self._material.feed(some, self._recipe.training).in_order(len(some))
        layer = self._forward.last_linear(batch.images)
        if layer:
            with evaluating(self._network):
                features, _ = self._forward.seen(batch.images, layer)
            layer = layer if features.shape[1] <= WIDEST else ""
        return layer

    def images(self, rows: Int64Array) -> Seen:
        """Of images of the dataset."""
        return self._from_cache(rows) or self._computed(self._material, rows)

    def noise(self, rows: Int64Array) -> Mapping[str, Seen]:
        """Of every kind of noise that is made from images of the dataset."""
        material = self._material
        pixels = material.images[torch.from_numpy(rows).to(material.images.device)].cpu().numpy()
        labels = material.dataset.labels[rows]
        device, every = material.images.device, np.arange(len(rows))
        found = {}
        for kind in KINDS:
            made = torch.from_numpy(noise_of(kind, pixels, labels)).to(device)
            other = replace(
                material,
                images=made,
                labels=torch.from_numpy(labels).to(device),
                read_ahead=None,
                mapped_file=None,
            )
            # Made of the same images it is the same noise, which the next fit meets again.
            found[kind] = self._by_head(made) or self._computed(other, every)
        return found

    def _computed(self, material: Material, rows: Int64Array) -> Seen:
        feed = material.feed(rows, self._recipe.training)
        features, logits = self._forward.all_seen(feed, self.layer)
        return Seen(features.cpu().numpy(), logits.cpu().numpy())

    def _from_cache(self, rows: Int64Array) -> Seen | None:
        """Where a head was fitted to features, these are known."""
        if not self._watches_head:
            return None
        features = self._features.kept(rows)
        return None if features is None else self._seen_by_head(features)

    def _by_head(self, images: Tensor) -> Seen | None:
        """Of other images, where a head was fitted to features."""
        return self._seen_by_head(self._features.of_others(images)) if self._watches_head else None

    @cached_property
    def _features(self) -> Features:
        return features_of(self._network, self._recipe, self._material)

    @property
    def _head(self) -> nn.Linear | None:
        """The head, where it was fitted to features and nothing else was trained."""
        training, backbone = self._recipe.training, backbone_in(self._network)
        if training.transfer != "features" or training.tta != "none" or backbone is None:
            return None
        return backbone.head

    @property
    def _watches_head(self) -> bool:
        return self._head is not None and self.layer == self._name_of(self._head)

    def _name_of(self, layer: nn.Module) -> str:
        modules: Iterator[tuple[str, nn.Module]] = self._network.named_modules()
        return next(name for name, module in modules if module is layer)

    def _seen_by_head(self, features: Float32Array) -> Seen:
        head = self._head
        assert head is not None
        with torch.inference_mode():
            logits = head(torch.from_numpy(features).to(self._recipe.training.device))
        return Seen(features, logits.float().cpu().numpy())


def _evenly(rows: Int64Array, most: int) -> Int64Array:
    """At most so many, evenly chosen."""
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def _reason(error: Exception) -> str:
    return error.message if isinstance(error, SartorError) else f"{type(error).__name__}: {error}"
