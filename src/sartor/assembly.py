"""Puts the parts together: a recipe, a dataset and a network become a job for the loop."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from .arrays import Int64Array, UInt8Array
from .data.augment import vocabulary
from .data.augment.pipeline import augmentation_of
from .data.dataset import Dataset
from .data.description import channel_statistics
from .data.feed.ahead import chosen_workers, prepared_ahead
from .data.feed.batches import Batch, Batches, Feed
from .data.feed.mapped import ReadAhead, read_ahead
from .data.pictures.preprocess import Preprocess
from .data.splits.split import Split, chosen_duplicates
from .device import choose_device
from .errors import ModelError, RecipeError
from .machine import total_memory
from .models.registry import build_model, resolve_kwargs
from .models.whitening import PatchWhitening
from .recipe import Recipe
from .training.engines import hardware as engine
from .training.engines.updates import update_for
from .training.loop import Job, seed_random_numbers
from .training.objective import Objective, balanced_weights, effective_weights
from .training.optim import Optimizer
from .training.schedule import chosen_epochs
from .training.settings import TrainingSettings

IN_MEMORY = "in-memory:"
"""Begins the name of a model that exists as a Python object alone."""
_INITIAL_WEIGHTS = -2
_IMAGES_TO_WHITEN = 2_000


def resolve(
    recipe: Recipe, dataset: Dataset, split: Split, model_file: Path | None = None
) -> Recipe:
    """The recipe with every default and every derived number filled in.

    `model_file` is the copy of a user's own model file, read instead of the original.

    Raises:
        RecipeError: with every problem at once.
    """
    training, preprocess = recipe.training, recipe.preprocess
    problems = _class_weight_problems(training, dataset) + _split_problems(training, split)
    kwargs = dict(recipe.model.model_kwargs)
    if not recipe.model.model.startswith(IN_MEMORY):
        kwargs, more = resolve_kwargs(_model_name(recipe, model_file), kwargs)
        problems += more
    device = choose_device(training.device)
    problems += engine.problems(training, device)
    if problems:
        raise RecipeError(problems, "Correct the recipe or the flags.")
    size = preprocess.image_size or dataset.shape[1:]
    return recipe.with_settings(
        {
            "fingerprint": dataset.fingerprint,
            "duplicates": chosen_duplicates(recipe.data.duplicates, dataset),
            "split_hash": split.sha256(dataset.fingerprint),
            "image_size": size if len(size) == 2 else (*size, *size),
            "channels": preprocess.channels or dataset.shape[0],
            "model_kwargs": kwargs,
            "epochs": chosen_epochs(training.epochs, len(split.train)),
            "batch_size": len(split.train) if training.batch_size == "all" else training.batch_size,
            "device": device,
            "threads": engine.chosen_threads(training.threads),
            "amp_dtype": engine.chosen_precision(training.amp_dtype, device),
            "augment": vocabulary.canonical(training.augment),
        }
    )


def build_network(recipe: Recipe, num_classes: int, model_file: Path | None = None) -> nn.Module:
    """The recipe's network with its first weights, which depend on the seed alone.

    `model_file` is the copy of a user's own model file, read instead of the original.

    Raises:
        ModelError: it cannot be built.
    """
    name = recipe.model.model
    if name.startswith(IN_MEMORY):
        raise ModelError(
            f"This run trained {name.removeprefix(IN_MEMORY)}, an object of a Python program.",
            "Give the network again with model=..., or train one from a file: path/file.py:Name.",
        )
    height, width = recipe.preprocess.image_size
    with torch.random.fork_rng(devices=[]):
        seed_random_numbers(recipe.training.seed, _INITIAL_WEIGHTS)
        return build_model(
            _model_name(recipe, model_file),
            input_shape=(recipe.preprocess.channels or 1, height, width),
            num_classes=num_classes,
            kwargs=recipe.model.model_kwargs,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Material:
    """A dataset on the device, prepared for a recipe."""

    dataset: Dataset
    split: Split
    images: Tensor
    """uint8 (N, C, H, W), at the size of the model's input."""
    labels: Tensor
    """int64 (N,)."""
    preprocess: Preprocess
    read_ahead: ReadAhead | None = None

    def feed(self, indices: Int64Array, settings: TrainingSettings) -> Feed:
        """Batches of these images."""
        return Feed(
            images=self.images,
            labels=self.labels,
            indices=indices,
            normalize=self.preprocess.normalizer(settings.device),
            memory_format=engine.torch_memory_format(settings.memory_format),
            read_ahead=self.read_ahead,
        )


def prepare_material(recipe: Recipe, dataset: Dataset, split: Split) -> tuple[Material, Recipe]:
    """The images at the input's size on the device, and the recipe with their mean and spread.

    Images of a mapped file stay there where they are trained as they are, on the processor.
    """
    geometry = Preprocess.from_settings(recipe.preprocess)
    if dataset.shape != geometry.input_shape:
        _refuse_to_resize_twice(dataset, geometry)
        _refuse_too_large(len(dataset), geometry, total_memory(), "this machine")
    if recipe.training.device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(recipe.training.device)
        _refuse_too_large(len(dataset), geometry, free, recipe.training.device)
    images = geometry.images(dataset.images)
    recipe = _with_statistics(recipe, images, split)
    device = recipe.training.device
    material = Material(
        dataset=dataset,
        split=split,
        images=_as_tensor(images).to(device),
        labels=_as_tensor(dataset.labels).to(device),
        preprocess=Preprocess.from_settings(recipe.preprocess),
        read_ahead=read_ahead(images) if device == "cpu" else None,
    )
    return material, recipe


def place_network(model: nn.Module, recipe: Recipe) -> tuple[nn.Module, Recipe]:
    """The network on the device in the layout that suits it, and the recipe that says which.

    The recipe also names the engine, as long as nothing was measured.
    """
    training = recipe.training
    layout = engine.chosen_memory_format(training.memory_format, model)
    model = engine.laid_out(model.to(training.device), layout)
    chosen = {"memory_format": layout, "engine": engine.chosen_engine(training, model)}
    return model, recipe.with_settings(chosen)


def fit_whitening(model: nn.Module, material: Material) -> None:
    """Give a layer that whitens the image its filters, from training images spread evenly."""
    first = next((one for one in model.modules() if isinstance(one, PatchWhitening)), None)
    if first is None:
        return
    train = material.split.train
    rows = torch.from_numpy(train[:: max(1, len(train) // _IMAGES_TO_WHITEN)])
    mean, std = (torch.tensor(one) for one in (material.preprocess.mean, material.preprocess.std))
    first.fit(material.images[rows.to(material.images.device)], mean, std)


def make_job(recipe: Recipe, material: Material, model: nn.Module) -> Job:
    """Everything for the loop, from a resolved recipe and a placed network."""
    training, split = recipe.training, material.split
    assert training.batch_size != "all", "resolved to a number"
    train_labels = material.dataset.labels[split.train]
    job = Job(
        model=model,
        batches=Batches(
            feed=material.feed(split.train, training),
            batch_size=training.batch_size * training.grad_accum_steps,
            shuffle=training.shuffle,
            drop_last=training.drop_last,
            seed=training.seed,
            augmentation=augmentation_of(
                training.augment,
                seed=training.seed,
                num_classes=len(material.dataset.classes),
                mean=material.preprocess.mean,
                device=training.device,
            ),
            balance=train_labels if training.sampler == "balanced" else None,
        ),
        val=material.feed(split.val, training) if len(split.val) else None,
        objective=_objective(training, material),
        optimizer=Optimizer(model, training),
        settings=training,
        classes=material.dataset.classes,
    )
    return replace(job, engine_update=update_for(job))


def first_batch(job: Job) -> Batch:
    """The first batch of the first epoch as it is without augmentation."""
    assert isinstance(job.batches, Batches), "made by make_job"
    return job.batches.plain().batch(0, 0)


def _model_name(recipe: Recipe, model_file: Path | None) -> str:
    name = recipe.model.model
    return name if model_file is None else f"{model_file}:{name.rpartition(':')[2]}"


@contextmanager
def batches_ahead(job: Job) -> Iterator[Job]:
    """The job with batches made ahead by as many threads as its settings say."""
    assert isinstance(job.batches, Batches), "made by make_job"
    workers = chosen_workers(job.settings.workers, job.batches, job.settings.threads)
    with prepared_ahead(job.batches, workers) as batches:
        yield replace(job, batches=batches)


def _objective(training: TrainingSettings, material: Material) -> Objective:
    weights: Tensor | None = None
    labels = torch.from_numpy(material.dataset.labels[material.split.train])
    if training.class_weights == "balanced":
        weights = balanced_weights(labels, len(material.dataset.classes))
    elif training.class_weights == "effective":
        weights = effective_weights(labels, len(material.dataset.classes), training.effective_beta)
    elif not isinstance(training.class_weights, str):
        weights = torch.tensor(training.class_weights)
    return Objective(
        loss=training.loss,
        smoothing=training.smoothing,
        class_weights=None if weights is None else weights.to(training.device),
    )


def _class_weight_problems(training: TrainingSettings, dataset: Dataset) -> list[str]:
    weights = training.class_weights
    if isinstance(weights, str) or len(weights) == len(dataset.classes):
        return []
    return [
        f"class_weights must be {len(dataset.classes)} numbers, one a class, not {len(weights)}"
    ]


def _split_problems(training: TrainingSettings, split: Split) -> list[str]:
    problems = []
    if training.patience is not None and not len(split.val):
        problems.append("patience needs a validation split, and val_fraction gives it no image")
    count = len(split.train)
    images = (count if training.batch_size == "all" else training.batch_size) * (
        training.grad_accum_steps
    )
    if training.drop_last and images > count:
        problems.append(
            f"drop_last leaves nothing of {count} training images: a step takes {images}"
        )
    return problems


def _refuse_to_resize_twice(dataset: Dataset, geometry: Preprocess) -> None:
    """Pictures of files would reach the model by another way than those of a prediction."""
    if dataset.origin is not None:
        given, wanted = ("x".join(map(str, one)) for one in (dataset.shape, geometry.input_shape))
        raise RecipeError(
            [f"the pictures were prepared at {given}, not at {wanted}"],
            "Load them at the size of the model's input: sartor.load(..., image_size=...).",
        )


def _refuse_too_large(count: int, geometry: Preprocess, memory: int, where: str) -> None:
    """All images would lie in memory; better a sentence now than a machine that stands still.

    Prepared pictures that are trained as they are need none: they are read from the disk.
    """
    channels, height, width = geometry.input_shape
    wanted = count * channels * height * width
    if memory and wanted > memory / 2:
        raise RecipeError(
            [
                f"{count:,} images of {channels}x{height}x{width} take {wanted / 2**30:.0f} GiB; "
                f"{where} has {memory / 2**30:.0f} GiB of memory"
            ],
            "Lower --image-size.",
        )


def _with_statistics(recipe: Recipe, images: UInt8Array, split: Split) -> Recipe:
    """Mean and standard deviation of each channel of the training images, where none are given."""
    given = recipe.preprocess
    if given.mean and given.std:
        return recipe
    mean, std = channel_statistics(images, split.train)
    return recipe.with_settings({"mean": given.mean or mean, "std": given.std or std})


def _as_tensor(array: npt.NDArray[Any]) -> Tensor:
    # Arrays mapped from a file are read-only; nobody writes to them, so sharing them is safe.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)
