"""Trace: one image or one batch, forward and back through a network, as under a microscope."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from ..arrays import Int64Array
from ..assembly import assemble
from ..data.dataset import Dataset
from ..data.feed.batches import Batch
from ..data.feed.order import epoch_order
from ..data.pictures.preprocess import read_picture
from ..data.splits.split import PARTS
from ..errors import MissingExtraError, UsageError, unknown
from ..evaluation.calibration import log_probabilities_of, scaled
from ..inspection.attribution import METHODS, attribute
from ..inspection.microscope import Plan, copied, trace_batch
from ..inspection.trace import About
from ..inspection.trace import Trace as Trace
from ..models.custom import is_custom
from ..models.registry import MODELS
from ..recipe import Recipe, ResolvedRecipe
from ..runs.store import RUNS
from ..training.engines import hardware
from ..training.loop import Job
from ..training.objective import Objective
from ..training.schedule import chosen_epochs, learning_rate
from ..training.settings import ResolvedTraining, TrainingSettings
from ..training.state import Checkpoint
from . import looks, starting
from .composing import compose_recipe
from .kept_calibration import calibration_at_hand
from .looking import dataset_for
from .notes import warn
from .opened import OpenedRun, load_checkpoint, open_run, with_weights
from .other_data import run_with
from .splitting import split_of

if TYPE_CHECKING:
    from ..assembly import Material

_NO_LABEL = "Without a label there is no loss, so there is no backward pass and no step."


@dataclass(frozen=True, eq=False, kw_only=True)
class _Subject:
    """A network with what it takes to feed it and to train it a step."""

    network: nn.Module
    plan: Plan
    material: Material
    recipe: ResolvedRecipe
    description: str
    notes: tuple[str, ...]
    untrained: bool | None
    temperature: float = 1.0
    """What predictions divide the logits by."""


def trace(
    target: str | Path | OpenedRun | nn.Module | None = None,
    images: Tensor | None = None,
    labels: Tensor | None = None,
    *,
    data: str | Path | Dataset | None = None,
    model: nn.Module | None = None,
    trust: bool = False,
    image: int | None = None,
    batch: int | None = None,
    picture: str | Path | Image.Image | None = None,
    label: str | int | None = None,
    invert: bool = False,
    split: str | None = None,
    checkpoint: str = "best",
    untrained: bool = False,
    training_mode: bool = False,
    recipe: str | Path | Recipe | None = None,
    **settings: Any,
) -> Trace:
    """One image or one batch through a network, forward and back, then one step of the optimizer.

    The network, its gradients and torch's random state stay as they are: all is done to a copy.

    Args:
        target: a run, a registered model, "path/file.py:Name" or any network.
        images: float (B, C, H, W), for a network given as an object; then `data` is not needed.
        labels: int64 (B,) for `images`; without them, only the forward pass.
        data: a named set, a folder or a `Dataset`; a run brings its own.
        model: the network of a run that was given it as a Python object.
        trust: let a run's own Python file run, whoever wrote it.
        image: number of an image, counted from 0, in the dataset or in `split`; by default 0.
        batch: so many images instead of one, the first in the order of training, or of `split`.
        picture: a file or a picture in memory instead; `label` is its class, if that is known.
        checkpoint: "best" or "last", of a run.
        untrained: the run's network with its first weights.
        training_mode: with dropout and batch statistics as in training; by default without.
        recipe: where no run is given, what to start from.
        settings: anything that `sartor fit --help-all` lists, such as opt="sgd", lr=0.01.

    Raises:
        UsageError: no such image, class or checkpoint. ModelError: the network does not fit.
    """
    if images is not None:
        if not isinstance(target, nn.Module):
            raise UsageError(
                "Images as a tensor need a network as an object.",
                "Give an nn.Module first, or name images by image=, batch= or picture=.",
            )
        return _trace_tensors(target, images, labels, training_mode, recipe, settings)
    _check_choice(image=image, batch=batch, picture=picture)
    if picture is None:
        _check_for_pictures(label=label, invert=invert or None)
    else:
        _check_choice(picture=picture, split=split)
    run = _run_or_none(target)
    if run is not None:
        _refuse_recipe_for_runs(recipe)
        device = settings.pop("device", None)
        opened = run_with(open_run(run, None, model, device=device, trust=trust), data)
        subject = _trained(opened, checkpoint, untrained, settings)
    else:
        subject = _fresh(target, data, recipe, settings, trust)
    if picture is not None:
        chosen, about = _picture(subject, picture, label, invert)
    else:
        chosen, about = _from_dataset(subject, image, batch, split)
    if run is not None and about.split == "test":
        _count_look(opened, subject, len(about.indices or ()), checkpoint)
    values = trace_batch(
        subject.network,
        chosen,
        subject.plan,
        about=about,
        classes=subject.material.dataset.classes,
        labelled=picture is None or label is not None,
        training_mode=training_mode,
    )
    about = replace(about, notes=(*about.notes, *_about_temperature(subject, values)))
    return replace(values, about=about, evidence=_evidence(subject, values))


def _about_temperature(subject: _Subject, trace: Trace) -> tuple[str, ...]:
    """That predictions of the first image have another probability than stands here."""
    temperature = subject.temperature
    if temperature == 1 or trace.probabilities is None or trace.training_mode:
        return ()
    objective = trace.loss.name if trace.loss else subject.recipe.training.loss
    logits = trace.output[:1].float().cpu().numpy()
    scaled_ = np.exp(scaled(log_probabilities_of(logits, objective), temperature))[0]
    best = int(scaled_.argmax())
    return (
        "Probabilities and loss here are the network's own, as in training. sartor predict "
        f"divides the logits by the temperature {temperature:.3f}, which was fitted on validation "
        f"images: {trace.classes[best]} then has {scaled_[best]:.2%}.",
    )


def _count_look(run: OpenedRun, subject: _Subject, images: int, checkpoint: str) -> None:
    key = looks.key_of(subject.material.dataset, subject.material.split.test)
    weights = load_checkpoint(run.folder, checkpoint).weights_sha256
    looks.looked(run.folder, key, "trace", weights, images)


def _evidence(subject: _Subject, trace: Trace) -> npt.NDArray[np.float32] | None:
    """Why this answer, where captum is there and the network lets itself be asked."""
    if trace.predicted is None or trace.images.ndim != 4:
        return None
    device = subject.recipe.training.device
    image = trace.images[:1].to(device)
    black = torch.zeros_like(image, dtype=torch.uint8)
    try:
        maps = attribute(
            subject.network,
            image,
            trace.predicted[:1].to(device),
            method=METHODS[0],
            baseline=subject.material.preprocess.normalizer(device)(black),
        )
    except MissingExtraError:
        return None
    except Exception as error:  # a network of the user's own may do anything
        warn([f"The answer could not be explained: {type(error).__name__}: {error}"])
        return None
    evidence: npt.NDArray[np.float32] = maps[0]
    return evidence


# ------------------------------------------------------------------------------------ networks


def _run_or_none(
    target: str | Path | OpenedRun | nn.Module | None,
) -> str | Path | OpenedRun | None:
    """The target, if it is a run; None for a network.

    Raises:
        UsageError: it is neither.
    """
    if isinstance(target, OpenedRun):
        return target
    if target is None or isinstance(target, nn.Module):
        return None
    name = str(target)
    if name in MODELS or is_custom(name):
        return None
    if name == "latest" or Path(name).exists() or (RUNS / name).exists():
        return name
    known = [*MODELS, *(path.name for path in RUNS.glob("*/"))]
    sentence = unknown("run or model", name, known)
    raise UsageError(
        sentence[0].upper() + sentence[1:], "`sartor runs` lists runs; path/file.py:Name is yours."
    )


def _refuse_recipe_for_runs(recipe: object) -> None:
    if recipe is not None:
        raise UsageError("A run brings its own recipe.", "Leave recipe out, or name a model.")


def _trained(
    run: OpenedRun, checkpoint: str, untrained: bool, settings: dict[str, Any]
) -> _Subject:
    kept = load_checkpoint(run.folder, checkpoint)
    dataset, recipe = run.dataset(), run.recipe_here
    network = run.untrained_network(len(kept.classes))
    if not untrained:
        with_weights(network, kept, run.path)
    elif run.given_network is not None:
        raise UsageError(
            f"The first weights of {run.path} are not kept, for it trained a Python object.",
            "Trace the object itself: sartor.trace(network, data=...).",
        )
    changed = recipe.with_settings(settings)
    weights = starting.starting_weights(changed) if untrained else None
    assembled = assemble(changed, dataset, run.split(), network, run.model_file(), weights)
    job, resolved, material = assembled.job, assembled.recipe, assembled.material
    step = 0 if untrained else kept.progress.step
    rate, notes = _learning_rate(job, step, settings)
    optimizer: dict[str, Tensor] = {}
    if not untrained:
        optimizer, note = _optimizer_state(run, kept, job)
        notes += note
    epoch = kept.progress.epoch
    temperature = 1.0
    if not untrained:
        temperature = calibration_at_hand(run, kept.weights_sha256, checkpoint).temperature
    which = "untrained" if untrained else f"{checkpoint} checkpoint (after epoch {epoch})"
    return _Subject(
        network=job.model,
        plan=_plan(job, rate, step, optimizer),
        material=material,
        recipe=resolved,
        description=f"{run.path}, {which}",
        notes=notes,
        untrained=untrained or step == 0,
        temperature=temperature,
    )


def _fresh(
    target: str | Path | nn.Module | OpenedRun | None,
    data: str | Path | Dataset | None,
    recipe: str | Path | Recipe | None,
    settings: dict[str, Any],
    trust: bool,
) -> _Subject:
    model = copied(target) if isinstance(target, nn.Module) else target
    assert not isinstance(model, OpenedRun)
    model = str(model) if isinstance(model, Path) else model
    wanted = compose_recipe(recipe, model, settings, trust=trust)
    wanted = starting.as_the_weights_want(wanted, settings)
    dataset, wanted = dataset_for(data, wanted, None)
    assembled = assemble(
        wanted,
        dataset,
        split_of(wanted, dataset),
        model if isinstance(model, nn.Module) else None,
        weights=starting.starting_weights(wanted),
    )
    job, resolved, material = assembled.job, assembled.recipe, assembled.material
    rate, notes = _learning_rate(job, 0, settings)
    given = isinstance(target, nn.Module)
    name = type(target).__name__ if given else f"{resolved.model.model}, untrained"
    return _Subject(
        network=job.model,
        plan=_plan(job, rate, 0, {}),
        material=material,
        recipe=resolved,
        description=name,
        notes=notes,
        untrained=None if given else True,
    )


def _plan(job: Job, rate: float, step: int, optimizer: dict[str, Tensor]) -> Plan:
    return Plan(
        objective=job.objective,
        settings=job.settings,
        learning_rate=rate,
        step=step,
        optimizer=optimizer,
    )


def _learning_rate(job: Job, step: int, given: dict[str, Any]) -> tuple[float, tuple[str, ...]]:
    """The one that the step would have in training, and what to say of it."""
    settings, steps = job.settings, len(job.batches)
    if "lr" in given:
        return settings.lr, ()
    if settings.transfer == "features":
        note = (
            f"Only a head was fitted, without an optimizer; the step here has lr {settings.lr:g}."
        )
        return settings.lr, (note,)
    if step >= settings.epochs * steps:
        note = f"Training is over, and its schedule with it: the step takes lr {settings.lr:g}."
        return settings.lr, (note,)
    return learning_rate(settings, step, steps), ()


def _optimizer_state(
    run: OpenedRun, kept: Checkpoint, job: Job
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """What the optimizer remembered at this checkpoint, where that is kept."""
    state, own = kept.optimizer, job.optimizer.tensors
    if not state:
        last = load_checkpoint(run.folder, "last")
        # The best weights may be the last ones.
        state = last.optimizer if last.progress.step == kept.progress.step else {}
    if state.keys() == own.keys():
        return state, ()
    if job.settings.transfer == "features":
        return {}, ()
    if kept.progress.step == 0 or all(name.startswith("steps.") for name in own):
        return {}, ()
    return {}, (f"{job.settings.opt} begins afresh: its averages at this point are not kept.",)


# ------------------------------------------------------------------------------------ images


def _check_choice(**choices: object) -> None:
    given = [f"--{name}" for name, value in choices.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other.", "Give one of them.")


def _check_for_pictures(**choices: object) -> None:
    for name, value in choices.items():
        if value is not None:
            raise UsageError(f"--{name} says something of a picture.", "Give it with --picture.")


def _from_dataset(
    subject: _Subject, image: int | None, batch: int | None, split: str | None
) -> tuple[Batch, About]:
    dataset, parts = subject.material.dataset, subject.material.split
    if split is not None and split not in PARTS:
        raise UsageError(f'There is no split "{split}".', "Choose train, val or test.")
    indices: Int64Array
    if batch is not None:
        indices, split = _first(subject, batch, split), split or "train"
        order = "in the order of training" if split == "train" else "in the order of the data"
        text = f"{batch:,} images of {dataset.name} ({split} split), the first {order}"
    else:
        within = np.arange(len(dataset)) if split is None else parts.part(split)
        number = 0 if image is None else image
        if not 0 <= number < len(within):
            where = f"the {split} split of {dataset.name}" if split else dataset.name
            raise UsageError(
                f"There is no image {number}: {where} holds {len(within):,}, numbered from 0.",
                f"Choose one from 0 to {len(within) - 1}."
                if len(within)
                else "Choose another with --split.",
            )
        indices = within[number : number + 1]
        split = next((part for part in PARTS if indices[0] in parts.part(part)), None)
        place = f" ({split} split)" if split else ""
        text = f"image {indices[0]} of {dataset.name}{place}"
    feed = subject.material.feed(indices, subject.recipe.training)
    pixels = subject.material.images[torch.from_numpy(indices)].cpu().numpy()
    about = About(
        network=subject.description,
        images=text,
        notes=subject.notes,
        pixels=pixels,
        indices=tuple(indices.tolist()),
        split=split,
        untrained=subject.untrained,
    )
    return feed.take(torch.from_numpy(indices).to(feed.images.device)), about


def _first(subject: _Subject, count: int, split: str | None) -> Int64Array:
    """The first images of an epoch's order, or of a split."""
    training, part = subject.recipe.training, split or "train"
    indices = subject.material.split.part(part)
    if not 1 <= count <= len(indices):
        raise UsageError(
            f"A batch of {count:,} is not to be had: the {part} split has {len(indices):,} images.",
            f"Choose from 1 to {len(indices):,}." if len(indices) else "Choose another --split.",
        )
    if part == "train" and training.shuffle:
        indices = indices[epoch_order(len(indices), training.seed, 0)]
    return indices[:count]


def _picture(
    subject: _Subject, picture: str | Path | Image.Image, label: str | int | None, invert: bool
) -> tuple[Batch, About]:
    preprocess = subject.material.preprocess
    opened = (
        picture if isinstance(picture, Image.Image) else read_picture(Path(picture), preprocess)
    )
    name = getattr(opened, "filename", "") if isinstance(picture, Image.Image) else str(picture)
    pixels = np.stack([preprocess.picture(opened, invert=invert)])
    training = subject.recipe.training
    images = preprocess.normalizer(training.device)(torch.from_numpy(pixels).to(training.device))
    layout = hardware.torch_memory_format(training.memory_format)
    number = 0 if label is None else _class_number(label, subject.material.dataset.classes)
    notes = () if label is not None else (_NO_LABEL,)
    about = About(
        network=subject.description,
        images=name or "a picture",
        notes=subject.notes + notes,
        pixels=pixels,
        untrained=subject.untrained,
    )
    labels = torch.tensor([number], device=training.device)
    return Batch(images.contiguous(memory_format=layout), labels), about


def _class_number(label: str | int, classes: Sequence[str]) -> int:
    if isinstance(label, str) and label in classes:
        return classes.index(label)
    if str(label).isdecimal() and int(label) < len(classes):
        return int(label)
    sentence = unknown("class", str(label), classes)
    raise UsageError(sentence[0].upper() + sentence[1:], "Give its name, or its number from 0.")


# ------------------------------------------------------------------------------------ tensors


def _trace_tensors(
    network: nn.Module,
    images: Tensor,
    labels: Tensor | None,
    training_mode: bool,
    recipe: str | Path | Recipe | None,
    settings: dict[str, Any],
) -> Trace:
    images, given = _checked_tensors(images, labels)
    training = _resolved_for(images, compose_recipe(recipe, None, settings, trust=True).training)
    count = f"{len(images):,} images" if len(images) > 1 else "an image"
    values = trace_batch(
        network,
        Batch(images, given),
        Plan(
            objective=_objective(training, images.device),
            settings=training,
            learning_rate=learning_rate(training, 0, 1),
        ),
        about=About(
            network=type(network).__name__,
            images=f"{count} given as a tensor",
            notes=() if labels is not None else (_NO_LABEL,),
        ),
        labelled=labels is not None,
        training_mode=training_mode,
    )
    return Trace(**vars(values))


def _checked_tensors(images: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """Images, and labels on their device; zeros where there are none."""
    if images.ndim < 2 or not len(images) or not images.is_floating_point():
        kind = str(images.dtype).removeprefix("torch.")
        raise UsageError(
            f"Images must be a batch of floats such as (B, C, H, W), not {kind} of shape "
            f"{tuple(images.shape)}.",
            "For one image, add the first axis with image[None]; divide bytes by 255.",
        )
    if labels is None:
        return images.detach(), torch.zeros(len(images), dtype=torch.int64, device=images.device)
    if labels.shape != images.shape[:1] or labels.dtype != torch.int64:
        kind = str(labels.dtype).removeprefix("torch.")
        raise UsageError(
            f"{len(images)} images need as many labels of type int64, not {kind} of shape "
            f"{tuple(labels.shape)}.",
            "Give the number of the class of each image.",
        )
    return images.detach(), labels.to(images.device)


def _resolved_for(images: Tensor, wish: TrainingSettings) -> ResolvedTraining:
    """The training whose only batch these images are; a trace takes no engine but the plain one."""
    decided = {
        "epochs": chosen_epochs(wish.epochs, len(images)),
        "batch_size": len(images) if wish.batch_size == "all" else wish.batch_size,
        "device": images.device.type,
        "amp_dtype": "float32" if wish.amp_dtype == "auto" else wish.amp_dtype,
        "memory_format": "contiguous" if wish.memory_format == "auto" else wish.memory_format,
        "threads": hardware.chosen_threads(wish.threads),
        "engine": "plain" if wish.engine == "auto" else wish.engine,
    }
    return ResolvedTraining(**vars(wish) | decided)


def _objective(training: TrainingSettings, device: torch.device) -> Objective:
    weights = training.class_weights
    if weights == "balanced":
        raise UsageError(
            "A tensor of images has no training split to balance classes by.",
            "Give class_weights as numbers, one per class.",
        )
    numbers = None if isinstance(weights, str) else torch.tensor(weights, device=device)
    return Objective(loss=training.loss, smoothing=training.smoothing, class_weights=numbers)
