"""What a training starts from: pretrained weights, a file of weights, or a former run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..assembly import IN_MEMORY
from ..data.settings import PreprocessSettings
from ..errors import RecipeError, RunError, SartorError, UsageError
from ..files import can_only_be_a_path, sha256_of_file
from ..models.backbones import Backbone, backbone_of, pretrained_weights
from ..models.custom import is_custom
from ..models.registry import MODELS, resolve_kwargs
from ..models.starting import StartingWeights
from ..models.weight_files import is_weights_file, read_weights
from ..recipe import Recipe
from ..runs.store import LATEST, RUNS, find_run
from ..training.state import Checkpoint
from .opened import OpenedRun, load_checkpoint

_STATISTICS = ("mean", "std")


def starting_weights(recipe: Recipe) -> StartingWeights | None:
    """The weights that a recipe names; None where all are drawn at random.

    Raises:
        MissingExtraError: pretrained ones that are not on this machine. RecipeError: others than
            the recipe was resolved with. As their readers say.
    """
    place = recipe.model.weights
    if place is not None:
        weights = _of_file(place) if is_weights_file(place) else _of_run(place)
    else:
        backbone = pretrained_backbone(recipe)
        if backbone is None:
            return None
        weights = StartingWeights(
            tensors=pretrained_weights(backbone),
            sha256=backbone.file_sha256,
            origin=f"{backbone.name} as trained on ImageNet",
        )
    expected = recipe.model.weights_sha256
    if expected not in (None, weights.sha256):
        raise RecipeError(
            [
                f"{weights.origin} has not the weights that the recipe was made with: SHA-256 "
                f"{weights.sha256[:12]}, not {expected[:12]}"
            ],
            "Name the weights with --weights to start from these all the same.",
        )
    return weights


def pretrained_backbone(recipe: Recipe) -> Backbone | None:
    """The backbone whose pretrained weights a recipe's network has at first."""
    backbone = backbone_of(recipe.model.model)
    if backbone is None:
        return None
    settings, _ = resolve_kwargs(recipe.model.model, recipe.model.model_kwargs)
    return backbone if settings.get("pretrained", True) else None


def as_the_weights_want(recipe: Recipe, given: Mapping[str, Any]) -> Recipe:
    """The recipe with the preprocess of its weights, where nothing else was `given`."""
    place, backbone = recipe.model.weights, backbone_of(recipe.model.model)
    if place is not None and not is_weights_file(place):
        wanted = dict(vars(_opened(place).recipe.preprocess))
    elif place is not None or pretrained_backbone(recipe) is not None:
        wanted = _preprocess_of(backbone) if backbone else {}
    else:
        return recipe
    plain = vars(PreprocessSettings())
    now = vars(recipe.preprocess)
    changes = {
        name: value
        for name, value in wanted.items()
        if name not in given and now[name] == plain[name]
    }
    return recipe.with_settings(_consistent(changes, recipe))


def run_of(model: str) -> OpenedRun | None:
    """The run that a `--model` names; None where it is a network's name or a file."""
    if model in MODELS or is_custom(model) or model.startswith(IN_MEMORY):
        return None
    if model == LATEST or Path(model).is_dir() or (RUNS / model).is_dir():
        return _opened(model)
    return None


def network_of_run(run: OpenedRun) -> dict[str, Any]:
    """The settings with which a new run starts from the network and the weights of another."""
    model = run.recipe.model
    if model.model.startswith(IN_MEMORY):
        raise RunError(
            f"{run.path} trained {model.model.removeprefix(IN_MEMORY)}, an object of a Python "
            "program, which is not kept.",
            "Give the network in Python: sartor.fit(data, model=network).",
        )
    file = run.model_file()
    name = model.model if file is None else f"{file}:{model.model.rpartition(':')[2]}"
    return {
        "model": name,
        "model_kwargs": dict(model.model_kwargs),
        "weights": str(run.path.absolute()),
        "weights_sha256": None,
    }


def place_of(weights: str) -> str:
    """The absolute path of a file of weights or of a run, for a recipe that is used elsewhere.

    Raises:
        RunError: it is no file's name, and there is no such run.
    """
    if is_weights_file(weights):
        return str(Path(weights).expanduser().absolute())
    return str(find_run(weights).path.absolute())


def refuse_strange_path(model: str) -> None:
    """Say of a path that is neither a run nor a Python file what a model is.

    Raises:
        UsageError: it is one.
    """
    if is_custom(model) or model.startswith(IN_MEMORY) or not can_only_be_a_path(model):
        return
    if is_weights_file(model):
        raise UsageError(
            f"{model} holds weights, and does not say of which network.",
            f"Name both: --model NAME --weights {shlex.quote(model)}",
        )
    raise UsageError(
        f"There is no run at {model}.",
        "Name a run's folder, path/file.py:Name, or a network of `sartor models`.",
    )


def _consistent(changes: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    """Mean and standard deviation for as many channels as there will be."""
    channels = recipe.preprocess.channels or changes.get("channels")
    for name in _STATISTICS:
        values = changes.get(name)
        if values and len(values) not in (1, channels):
            changes[name] = values[:1] if len(set(values)) == 1 else ()
    return changes


def _preprocess_of(backbone: Backbone) -> dict[str, Any]:
    return {
        "image_size": (backbone.image_size, backbone.image_size),
        "channels": 3,
        "mean": backbone.mean,
        "std": backbone.std,
    }


def _of_file(place: str) -> StartingWeights:
    path = Path(place).expanduser()
    tensors, classes = read_weights(path), None
    sha256 = sha256_of_file(path)
    if any(name.startswith("optimizer.") for name in tensors) or "checkpoints" in path.parts:
        try:
            kept = Checkpoint.from_bytes(path.read_bytes(), str(path))
        except SartorError:
            pass
        else:
            tensors, classes = kept.weights, kept.classes
    return StartingWeights(tensors=tensors, sha256=sha256 or "", origin=str(place), classes=classes)


def _of_run(place: str) -> StartingWeights:
    run = _opened(place)
    kept = load_checkpoint(run.folder, "best")
    return StartingWeights(
        tensors=kept.weights,
        sha256=kept.weights_sha256,
        origin=f"the run {shlex.quote(str(place))}",
        classes=kept.classes,
    )


def _opened(place: str) -> OpenedRun:
    return OpenedRun.open(find_run(place).path)
