"""Puts the parts together: a recipe, a dataset and a network become a job for the loop.

This is where a recipe is resolved: `assemble` orders the steps, `resolve` makes the choices.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
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
from .data.feed.mapped import MappedFile, ReadAhead, mapped_file, read_ahead
from .data.named.names import ink_of
from .data.pictures.background import background_of_images
from .data.pictures.preprocess import Preprocess
from .data.settings import DataSettings
from .data.splits.split import Split, chosen_duplicates, chosen_method
from .device import choose_device
from .errors import ModelError, RecipeError
from .files import sha256_of_file
from .inference.features import backbone_in
from .machine import total_memory
from .models.backbones import BACKBONES, backbone_of, names_backbone
from .models.lazy import materialise
from .models.registry import MODELS, build_model, resolve_kwargs
from .models.starting import StartingWeights, take_weights
from .models.whitening import PatchWhitening
from .recipe import Recipe, ResolvedRecipe
from .training.engines import hardware, native
from .training.engines.updates import with_engine
from .training.loop import Job
from .training.objective import Objective, balanced_weights, effective_weights
from .training.optim import Optimizer
from .training.schedule import chosen_epochs
from .training.seeding import random_numbers_kept, seed_random_numbers
from .training.settings import ResolvedTraining, TrainingSettings

Meanwhile = Callable[[UInt8Array, Int64Array], object]
"""Given the images of a dataset uint8 (N, C, H, W), at the size of the model's input, and which of
them are for training (M,)."""
IN_MEMORY = "in-memory:"
"""Prefix of the name of a model that exists only as a Python object."""
_INITIAL_WEIGHTS = -2
_IMAGES_TO_WHITEN = 2_000
_SMALLEST = 32
"""Height and width in pixels that leave one pixel of the last map of a pretrained network."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Assembly:
    """A job for the loop, and what it was made from."""

    job: Job
    recipe: ResolvedRecipe
    material: Material
    remarks: tuple[str, ...] = ()
    """On the weights that the network starts from."""
    without_native: str | None = None
    """Why the engine native cannot train it, in a clause; None if it can."""

    def with_engine(
        self, plan: hardware.ExecutionPlan, instructions: str | None = None
    ) -> Assembly:
        """The same job with another engine, by default with the recipe's instructions; the
        optimizer is new."""
        recipe = with_plan(self.recipe, plan, instructions)
        network = place_network(self.job.model, recipe)
        job = make_job(recipe, self.material, network)
        return replace(self, job=job, recipe=recipe)


def with_plan(
    recipe: ResolvedRecipe, plan: hardware.ExecutionPlan, instructions: str | None = None
) -> ResolvedRecipe:
    """The recipe with another engine, and with the instructions that this uses here: those given,
    else the recipe's, where they serve its precision."""
    present = instructions or recipe.training.instructions
    used = hardware.instructions_for(plan, present)
    return recipe.with_engine(**vars(plan)).to_run_here({"instructions": used})


def assemble(
    recipe: Recipe,
    dataset: Dataset,
    split: Split,
    network: nn.Module | None = None,
    model_file: Path | None = None,
    weights: StartingWeights | None = None,
    meanwhile: Meanwhile | None = None,
) -> Assembly:
    """Resolve a recipe for a dataset, and make the job that it describes.

    Args:
        network: trained as it is; by default the recipe's network is built.
        model_file: the copy of a user's own model file, read instead of the original.
        weights: what a network that is built starts from, instead of random weights.
        meanwhile: called before the data's fingerprint is waited for.

    Raises:
        RecipeError: with every problem at once. ModelError: the network cannot be built, or the
            weights are those of another one.
    """
    if weights is not None:
        known = {"weights_sha256": weights.sha256, "weights_licence": weights.licence}
        recipe = recipe.with_settings(known)
    shaped = _with_input(recipe, dataset, split, model_file)
    images = _resized_images(shaped, dataset)
    if meanwhile is not None:
        meanwhile(images, split.train)
    model = network
    if model is None:
        model = build_network(shaped, len(dataset.classes), model_file)
    else:
        with torch.random.fork_rng(devices=[]), random_numbers_kept():
            seed_random_numbers(shaped.training.seed, _INITIAL_WEIGHTS, everywhere=True)
            materialise(model, input_shape_of(shaped))
    remarks: list[str] = []
    if weights is not None:
        remarks = take_weights(model, weights, dataset.classes)
    model = model.to(shaped.training.device)
    resolved = resolve(shaped, dataset, split, images, model)
    # Before it is laid out, which is another engine's business.
    shape, classes = input_shape_of(shaped), len(dataset.classes)
    without_native = native.reason_against(shaped.training, model, shape, classes)
    model = place_network(model, resolved)
    material = _material(resolved, dataset, split, images)
    if network is None and weights is None:
        fit_whitening(model, material)
    return Assembly(
        job=make_job(resolved, material, model),
        recipe=resolved,
        material=material,
        remarks=tuple(remarks),
        without_native=without_native,
    )


def resolve(
    recipe: Recipe, dataset: Dataset, split: Split, images: UInt8Array, network: nn.Module
) -> ResolvedRecipe:
    """The recipe with every choice made; the only place where recipes become resolved ones.

    Args:
        images: those of the dataset, at the size of the model's input.
        network: on the device. The engine is the default for it, as long as nothing is measured;
            see `ResolvedRecipe.with_engine`.
    """
    training, data = recipe.training, recipe.data
    mean, std = recipe.preprocess.mean, recipe.preprocess.std
    if not (mean and std):
        measured_mean, measured_std = channel_statistics(images, split.train)
        mean, std = mean or measured_mean, std or measured_std
    transfer = _chosen_transfer(recipe, network)
    decided = recipe.with_settings(
        {
            "exclude": data.exclude if dataset.everything().by_list else None,
            "fingerprint": dataset.fingerprint,
            "fixes_sha256": _sha256_of_fixes(data),
            "split_method": _recorded_method(recipe, dataset),
            "duplicates": chosen_duplicates(data.duplicates, dataset),
            "split_hash": split.sha256(dataset.fingerprint),
            "mean": mean,
            "std": std,
            "transfer": transfer,
            "epochs": 1
            if transfer == "features"
            else chosen_epochs(training.epochs, len(split.train)),
            "batch_size": len(split.train) if training.batch_size == "all" else training.batch_size,
            "threads": hardware.chosen_threads(training.threads),
            "augment": vocabulary.canonical(training.augment),
            "weight_decay_on": _decayed(recipe),
        }
    )
    shape, classes = input_shape_of(decided), len(dataset.classes)
    chosen = hardware.chosen(decided.training, network, shape, classes)
    return ResolvedRecipe.of(decided.with_settings(chosen))


def drawn_before_methods(recipe: Recipe) -> bool:
    """Whether a recipe was resolved before there were ways to split: its split was drawn from the
    images that were left, and stays so."""
    return bool(recipe.data.split_hash) and recipe.data.split_method == "auto"


def split_method_of(recipe: Recipe, dataset: Dataset) -> str:
    """The way in which the recipe's split is made."""
    if drawn_before_methods(recipe):
        return "drawn"
    return chosen_method(recipe.data.split_method, dataset)


def _decayed(recipe: Recipe) -> str:
    """What weight decay acts on. A recipe that was resolved before there was a choice means all."""
    wish = recipe.training.weight_decay_on
    if wish != "auto":
        return wish
    return "all" if recipe.data.fingerprint else "weights"


def has_pretrained_weights(recipe: Recipe) -> bool:
    """Whether the recipe's network begins with weights that it learnt from other pictures."""
    if recipe.model.weights is not None:
        return True
    known = names_backbone(recipe.model.model)
    return known and recipe.model.model_kwargs.get("pretrained", True) is True


def _chosen_transfer(recipe: Recipe, network: nn.Module) -> str:
    """How a backbone is used. A recipe that was resolved before there was a choice is without.

    Raises:
        RecipeError: the network has no features, or no weights to fine-tune.
    """
    wish, name = recipe.training.transfer, recipe.model.model
    if wish in ("features", "ladder") and backbone_in(network) is None:
        raise _without_features(name)
    if wish in ("finetune", "ladder") and not has_pretrained_weights(recipe):
        raise RecipeError(
            [f"{name} has no pretrained weights to fine-tune"],
            f"Name a backbone, such as --model {next(iter(BACKBONES))}, or leave --transfer out.",
        )
    if wish != "auto":
        return wish
    new = not recipe.data.fingerprint
    return "finetune" if new and has_pretrained_weights(recipe) else "scratch"


def _recorded_method(recipe: Recipe, dataset: Dataset) -> str:
    return "auto" if drawn_before_methods(recipe) else split_method_of(recipe, dataset)


def _sha256_of_fixes(data: DataSettings) -> str:
    return (sha256_of_file(Path(data.fixes)) or "") if data.fixes else ""


def build_network(recipe: Recipe, num_classes: int, model_file: Path | None = None) -> nn.Module:
    """The recipe's network with its initial weights, which depend only on the seed.

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
    with torch.random.fork_rng(devices=[]), random_numbers_kept():
        seed_random_numbers(recipe.training.seed, _INITIAL_WEIGHTS, everywhere=True)
        return build_model(
            _model_name(recipe, model_file),
            input_shape=input_shape_of(recipe),
            num_classes=num_classes,
            kwargs=recipe.model.model_kwargs,
        )


def input_shape_of(recipe: Recipe) -> tuple[int, int, int]:
    """Channels, height and width of what the recipe's network takes."""
    height, width = recipe.preprocess.image_size
    return recipe.preprocess.channels or 1, height, width


@dataclass(frozen=True, eq=False, kw_only=True)
class Material:
    """A dataset on the device, prepared as a recipe says."""

    dataset: Dataset
    split: Split
    images: Tensor
    """uint8 (N, C, H, W), at the size of the model's input."""
    labels: Tensor
    """int64 (N,)."""
    preprocess: Preprocess
    read_ahead: ReadAhead | None = None
    mapped_file: MappedFile | None = None

    def feed(self, indices: Int64Array, settings: ResolvedTraining) -> Feed:
        """Batches of the images with these indices."""
        return Feed(
            images=self.images,
            labels=self.labels,
            indices=indices,
            normalize=self.preprocess.normalizer(settings.device),
            memory_format=hardware.torch_memory_format(settings.memory_format),
            read_ahead=self.read_ahead,
            mapped_file=self.mapped_file,
        )


def prepare_material(recipe: ResolvedRecipe, dataset: Dataset, split: Split) -> Material:
    """The images on the device, at the size of the model's input.

    Images of a mapped file stay there if they already have that size and the device is the
    processor.
    """
    return _material(recipe, dataset, split, _resized_images(recipe, dataset))


def place_network(model: nn.Module, recipe: ResolvedRecipe) -> nn.Module:
    """The network on the recipe's device, in its memory format."""
    return hardware.laid_out(model.to(recipe.training.device), recipe.training.memory_format)


def fit_whitening(model: nn.Module, material: Material) -> None:
    """Compute the filters of a whitening layer from evenly spaced training images."""
    first = next((one for one in model.modules() if isinstance(one, PatchWhitening)), None)
    if first is None:
        return
    train = material.split.train
    rows = torch.from_numpy(train[:: max(1, len(train) // _IMAGES_TO_WHITEN)])
    mean, std = (torch.tensor(one) for one in (material.preprocess.mean, material.preprocess.std))
    first.fit(material.images[rows.to(material.images.device)], mean, std)


def make_job(recipe: ResolvedRecipe, material: Material, model: nn.Module) -> Job:
    """Everything for the loop, from a network on the device."""
    training, split = recipe.training, material.split
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
    return with_engine(job, material.preprocess.input_shape)


def check_unchanged(job: Job) -> None:
    """Raise where the file that images are mapped from is not what it was at the beginning.

    Raises:
        DataError: it was changed.
    """
    assert isinstance(job.batches, Batches), "made by make_job"
    if job.batches.feed.mapped_file is not None:
        job.batches.feed.mapped_file.check()


def first_batch(job: Job) -> Batch:
    """The first batch of the first epoch, without augmentation."""
    assert isinstance(job.batches, Batches), "made by make_job"
    return job.batches.feed.take(job.batches.rows(0, 0, 1))


def _model_name(recipe: Recipe, model_file: Path | None) -> str:
    name = recipe.model.model
    return name if model_file is None else f"{model_file}:{name.rpartition(':')[2]}"


@contextmanager
def batches_ahead(job: Job) -> Iterator[Job]:
    """The job, its batches prepared ahead by the number of threads that its settings name."""
    assert isinstance(job.batches, Batches), "made by make_job"
    settings, native = job.settings, job.engine_steps is not None
    workers = chosen_workers(settings.workers, job.batches, settings.threads, yielding=native)
    with prepared_ahead(job.batches, workers) as batches:
        yield replace(job, batches=batches)


def _objective(training: ResolvedTraining, material: Material) -> Objective:
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


def _with_input(recipe: Recipe, dataset: Dataset, split: Split, model_file: Path | None) -> Recipe:
    """The recipe with the device, the model's input and its settings: what a network is built from.

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
    problems += hardware.problems(training, device)
    if problems:
        raise RecipeError(problems, "Correct the recipe or the flags.")
    size = preprocess.image_size or dataset.shape[1:]
    refuse_too_small(recipe, size)
    return recipe.with_settings(
        {
            "image_size": size if len(size) == 2 else (*size, *size),
            "channels": preprocess.channels or dataset.shape[0],
            "background": _background(preprocess.background, dataset, split),
            "value_range": preprocess.value_range
            or (dataset.origin.settings.value_range if dataset.origin else ()),
            "ink": _chosen_ink(recipe, dataset),
            "model_kwargs": kwargs,
            "device": device,
        }
    )


def refuse_without_features(model: str, transfer: str) -> None:
    """Raise where a network's name says already that it is not a backbone.

    Raises:
        RecipeError: it is one of sartor's own, whose weights are always drawn at random.
    """
    if transfer in ("features", "ladder") and model in MODELS and model not in BACKBONES:
        raise _without_features(model)


def _without_features(name: str) -> RecipeError:
    return RecipeError(
        [f"{name} is not a pretrained backbone, so it has no features for a head"],
        f"Name a backbone, such as --model {next(iter(BACKBONES))}, or leave --transfer out.",
    )


def refuse_too_small(recipe: Recipe, image_size: Sequence[int]) -> None:
    """Raise where nothing would be left to see: a pretrained network halves an image five times.

    Raises:
        RecipeError: the images are smaller.
    """
    backbone = backbone_of(recipe.model.model)
    if backbone is None or not has_pretrained_weights(recipe) or min(image_size) >= _SMALLEST:
        return
    height, width = image_size[0], image_size[-1]
    raise RecipeError(
        [
            f"{backbone.name} takes images of at least {_SMALLEST}x{_SMALLEST} pixels, not "
            f"{height}x{width}"
        ],
        f"Leave --image-size out for the {backbone.image_size}x{backbone.image_size} that its "
        "weights were trained for.",
    )


def _background(asked: str, dataset: Dataset, split: Split) -> str:
    """What is behind transparent areas: as asked, as the pictures were prepared, or as measured."""
    if asked != "auto":
        return asked
    if dataset.origin is not None:
        return dataset.origin.settings.background
    return background_of_images(dataset.images, split.train)


def _chosen_ink(recipe: Recipe, dataset: Dataset) -> str:
    """How ink is prepared: as asked, as the pictures were, or as the named set was made."""
    if recipe.preprocess.ink != "auto":
        return recipe.preprocess.ink
    if dataset.origin is not None:
        return Preprocess.from_settings(dataset.origin.settings).ink
    return ink_of(recipe.data.source, dataset.shape)


def _resized_images(recipe: Recipe, dataset: Dataset) -> UInt8Array:
    """The dataset's images at the size of the model's input, which the recipe names."""
    geometry, device = Preprocess.from_settings(recipe.preprocess), recipe.training.device
    if dataset.shape != geometry.input_shape:
        _refuse_to_resize_twice(dataset, geometry)
        _refuse_too_large(len(dataset), geometry, total_memory(), "this machine")
    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(device)
        _refuse_too_large(len(dataset), geometry, free, device)
    return geometry.images(dataset.images)


def _material(
    recipe: ResolvedRecipe, dataset: Dataset, split: Split, images: UInt8Array
) -> Material:
    device = recipe.training.device
    return Material(
        dataset=dataset,
        split=split,
        images=_as_tensor(images).to(device),
        labels=_as_tensor(dataset.labels).to(device),
        preprocess=Preprocess.from_settings(recipe.preprocess),
        read_ahead=read_ahead(images) if device == "cpu" else None,
        mapped_file=mapped_file(images) if device == "cpu" else None,
    )


def _class_weight_problems(training: TrainingSettings, dataset: Dataset) -> list[str]:
    weights = training.class_weights
    if isinstance(weights, str) or len(weights) == len(dataset.classes):
        return []
    return [
        f"class_weights must be {len(dataset.classes)} numbers, one per class, not {len(weights)}"
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
    """Pictures must reach the model in training exactly as they do in prediction."""
    if dataset.origin is not None:
        given, wanted = ("x".join(map(str, one)) for one in (dataset.shape, geometry.input_shape))
        raise RecipeError(
            [f"the pictures were prepared at {given}, not at {wanted}"],
            "Load them at the size of the model's input: sartor.load(..., image_size=...).",
        )


def _refuse_too_large(count: int, geometry: Preprocess, memory: int, where: str) -> None:
    """Resized images must all fit in memory: refuse now rather than bring the machine to a halt.

    Prepared pictures that already have the right size need no memory: they are read from disk.
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


def _as_tensor(array: npt.NDArray[Any]) -> Tensor:
    # Arrays mapped from a file are read-only; nothing writes to them, so sharing them is safe.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)
