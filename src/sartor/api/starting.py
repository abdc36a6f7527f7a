"""What a training starts from: pretrained weights, a file of weights, or a former run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..assembly import IN_MEMORY, build_network, has_pretrained_weights
from ..data.settings import PreprocessSettings
from ..errors import RecipeError, RunError, SartorError, UsageError
from ..files import can_only_be_a_path, sha256_of_file
from ..models.backbones import (
    Backbone,
    PackagedBackbone,
    backbone_of,
    checked_path,
    is_available,
    names_backbone,
    pretrained_weights,
)
from ..models.custom import is_custom
from ..models.fetching import fetch
from ..models.hub_cache import revision_of
from ..models.licences import refuse_unless_accepted
from ..models.registry import MODELS, refuse_unknown, resolve_kwargs
from ..models.starting import StartingWeights, knows_none, take_weights
from ..models.weight_files import is_weights_file, read_weights
from ..recipe import Recipe
from ..runs.store import LATEST, RUNS, find_run
from ..training.state import Checkpoint
from .notes import Sink, noting
from .opened import OpenedRun, load_checkpoint

_STATISTICS = ("mean", "std")
_USUAL_SIZE = (64,)
"""At which a network is tried whose input is not known yet."""


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
        weights = _of_backbone(backbone)
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


def refuse_unfit(recipe: Recipe, *, is_named: bool) -> None:
    """Read the weights that a recipe names and try them on its network, before pictures are
    prepared, which takes longer.

    Where the size of its input is not known yet, only weights are refused that know nothing of it.

    Args:
        is_named: whether the network is; else what the pictures are decides it.

    Raises:
        ModelError: they are those of another network. As `starting_weights`.
    """
    weights = None if recipe.model.weights is None else starting_weights(recipe)
    if weights is None or not is_named or is_custom(recipe.model.model):
        return
    preprocess = recipe.preprocess
    size, channels = preprocess.image_size or _USUAL_SIZE, preprocess.channels or 3
    tried = recipe.with_settings({"image_size": (size * 2)[:2], "channels": channels})
    # Its head does not count, which is made for classes that are not known yet.
    network, classes = build_network(tried, 2), ("", " ")
    is_known = preprocess.image_size and preprocess.channels
    if is_known or knows_none(network, weights, len(classes)):
        take_weights(network, replace(weights, classes=None), classes)


def run_of_weights(settings: Mapping[str, Any]) -> str | None:
    """The run whose weights are asked for, as `--model` names it; None for a file of weights.

    Raises:
        RunError: there is no such run.
    """
    weights = settings.get("weights")
    if weights is None or is_weights_file(str(weights)):
        return None
    return str(find_run(str(weights)).path)


def pretrained_backbone(recipe: Recipe) -> Backbone | None:
    """The backbone whose pretrained weights a recipe's network has at first."""
    name = recipe.model.model
    if not names_backbone(name):
        return None
    settings, _ = resolve_kwargs(name, recipe.model.model_kwargs)
    return backbone_of(name) if settings.get("pretrained", True) else None


def refuse_licence(recipe: Recipe) -> None:
    """Raise where the weights that a recipe starts from restrict their use, and it does not accept
    their licence.

    Raises:
        UsageError: it says which licence that is, and how it is accepted.
    """
    place, accepted = recipe.model.weights, recipe.model.accept_licence
    if place is None:
        backbone = pretrained_backbone(recipe)
        if backbone is not None:
            refuse_unless_accepted(backbone.name, backbone.licence, accepted)
    elif not is_weights_file(place):
        licence = _opened(place).recipe.model.weights_licence
        refuse_unless_accepted(f"the run {place}", licence, accepted)


def bring_weights(recipe: Recipe, on_event: Sink | None) -> None:
    """Fetch the pretrained weights of the backbone that a recipe names, unless they lie here.

    Raises:
        UsageError: there are none. UnavailableError: they cannot be had from here; with the other
            ways.
    """
    name = recipe.model.model
    if recipe.model.weights is not None or not has_pretrained_weights(recipe):
        return
    backbone = pretrained_backbone(recipe)
    if backbone is None:
        raise UsageError(
            f"There are no pretrained weights of {name}.",
            "Bring some with --weights FILE, or train from random ones: --model-kwargs "
            "pretrained=false",
        )
    if not is_available(backbone):
        fetch(name, note=noting(on_event), accepted=recipe.model.accept_licence)


def as_the_weights_want(recipe: Recipe, given: Mapping[str, Any]) -> Recipe:
    """The recipe with the preprocess of its weights, where nothing else was `given`."""
    place = recipe.model.weights
    if place is not None and not is_weights_file(place):
        wanted = dict(vars(_opened(place).recipe.preprocess))
    elif place is not None or pretrained_backbone(recipe) is not None:
        backbone = backbone_of(recipe.model.model)
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
        "weights_licence": None,
        "accept_licence": model.accept_licence,
    }


def licence_at(weights: str) -> dict[str, Any]:
    """The licence that was accepted for the weights of a run, as a setting; empty for a file."""
    if is_weights_file(weights):
        return {}
    return {"accept_licence": _opened(weights).recipe.model.accept_licence}


def place_of(weights: str) -> str:
    """The absolute path of a file of weights or of a run, for a recipe that is used elsewhere.

    Raises:
        RunError: it is no file's name, and there is no such run.
    """
    if is_weights_file(weights):
        return str(Path(weights).expanduser().absolute())
    return str(find_run(weights).path.absolute())


def refuse_strange_model(model: str) -> None:
    """Say what a model is, where this is neither a run, nor a Python file, nor a known name.

    Raises:
        UsageError: it is one.
    """
    if is_custom(model) or model.startswith(IN_MEMORY):
        return
    if not can_only_be_a_path(model):
        refuse_unknown(model)
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
        "resampling": backbone.resampling,
        "mean": backbone.mean,
        "std": backbone.std,
    }


def _of_backbone(backbone: Backbone) -> StartingWeights:
    if isinstance(backbone, PackagedBackbone):
        return StartingWeights(
            tensors=pretrained_weights(backbone),
            sha256=backbone.file_sha256,
            origin=f"{backbone.name} as trained on ImageNet",
            licence=backbone.licence,
            whole=True,
        )
    path = checked_path(backbone)
    revision = revision_of(path)
    return StartingWeights(
        tensors=read_weights(path),
        sha256=sha256_of_file(path) or "",
        origin=f"{backbone.name}{f' at revision {revision[:12]}' if revision else ''}",
        licence=backbone.licence,
        whole=True,
    )


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
    return StartingWeights(
        tensors=tensors,
        sha256=sha256 or "",
        origin=str(place),
        classes=classes,
        in_order=path.suffix.lower() != ".safetensors",
    )


def _of_run(place: str) -> StartingWeights:
    run = _opened(place)
    kept = load_checkpoint(run.folder, "best")
    return StartingWeights(
        tensors=kept.weights,
        sha256=kept.weights_sha256,
        origin=f"the run {shlex.quote(str(place))}",
        classes=kept.classes,
        licence=run.recipe.model.weights_licence,
    )


def _opened(place: str) -> OpenedRun:
    return OpenedRun.open(find_run(place).path)
