"""Load and summary: data and networks, before anything is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from .. import assembly
from ..bundle.format import Bundle, is_bundle
from ..bundle.opening import answering_of
from ..data.dataset import Dataset, refuse_strange_parts
from ..data.objects import dataset_of
from ..data.pictures.prepare import Better
from ..data.pictures.preprocess import Preprocess
from ..data.settings import COLUMN_SETTINGS, SourceSettings
from ..data.sources import as_asked, at_any_place, open_source
from ..errors import DataError, UsageError
from ..models.summary import Summary, summarize
from ..recipe import Recipe
from ..training.settings import ResolvedTraining
from .notes import Sink, noting
from .opened import OpenedRun
from .starting import pretrained_backbone


def load(source: Any, *, on_event: Sink | None = None, **settings: Any) -> Dataset:
    """A named set, fetched if it is not on disk yet, or a source of your own, such as a folder.

    Args:
        source: a named set, or the path of a folder of pictures, a list of them, .parquet, .npz,
            IDX files, .zip or .tar; or what `fit` takes besides: (images, labels), a torch or
            Hugging Face dataset, or a DataFrame.
        settings: of the data and of its preparation, such as label_column="kind", image_size=64.

    Raises:
        UsageError: an unknown name. DataError: it cannot be had, or cannot be read.
    """
    if not isinstance(source, str | Path):
        recipe = Recipe().with_settings(settings)
        return dataset_of(source, recipe.data, recipe.preprocess, on_event=on_event)
    recipe = Recipe().with_settings({**settings, "source": str(source)})
    return open_source(recipe.data, recipe.preprocess, note=noting(on_event), on_event=on_event)


def summary(
    model: str | Path | nn.Module | OpenedRun | Bundle,
    data: str | Path | Dataset = "digits",
    *,
    trust: bool = False,
    **model_kwargs: Any,
) -> Summary:
    """A table of a network's layers: shapes, parameters, multiply-adds, memory.

    Args:
        model: a name, "path/file.py:Name", any network, a bundle, or a run, whose data and settings
            it uses.
        data: whose images decide the shapes; a pretrained network has a size of its own.
        trust: let a bundle's own Python file run, whoever exported it.

    Raises:
        UsageError: no such network, or code that nobody vouches for. BundleError: a bundle whose
            network cannot be built.
    """
    if isinstance(model, str | Path) and is_bundle(model):
        model = Bundle.open(model)
    if isinstance(model, Bundle):
        answering = answering_of(model, trust=trust)
        return summarize(answering.trained, model.preprocess.input_shape)
    if isinstance(model, OpenedRun):
        resolved = model.recipe
        shape = Preprocess.from_settings(resolved.preprocess).input_shape
        return with_decay(summarize(model.network("last"), shape), resolved.training)
    dataset, _ = dataset_for(data, Recipe(), None)
    shape = dataset.shape
    if isinstance(model, str | Path):
        recipe = Recipe().with_settings({"model": str(model), "model_kwargs": model_kwargs})
        backbone = pretrained_backbone(recipe)
        if backbone is not None:
            shape = (3, backbone.image_size, backbone.image_size)
        recipe = recipe.with_settings({"image_size": shape[1:], "channels": shape[0]})
        model = assembly.build_network(recipe, len(dataset.classes))
    return summarize(model, shape)


def with_decay(summary: Summary, training: ResolvedTraining) -> Summary:
    """A network's summary with the weight decay of its training."""
    decayed = summary.decayed_parameters
    if training.weight_decay_on != "weights":
        decayed = summary.trainable_parameters
    if not training.weight_decay:
        decayed = 0
    return replace(summary, weight_decay=training.weight_decay, decayed_parameters=decayed)


def dataset_for(
    data: Any,
    recipe: Recipe,
    on_event: Sink | None,
    *,
    resize_given: bool = False,
    better: Better | None = None,
) -> tuple[Dataset, Recipe]:
    """The dataset, and the recipe that says where it can be had again.

    `data` is what `fit` takes. `resize_given` says that the recipe's way of resizing was asked for;
    otherwise that of a dataset which was prepared from pictures stays. `better` is as for
    `open_source`.
    """
    if data is not None and not isinstance(data, str | Path | Dataset):
        data = dataset_of(data, recipe.data, recipe.preprocess, on_event=on_event)
        recipe = recipe.with_settings(dict.fromkeys(COLUMN_SETTINGS))
    if isinstance(data, Dataset):
        data.compute_fingerprint_ahead()
        _refuse_reading(recipe)
        refuse_strange_parts(data)
        recipe = recipe.with_settings({"source": data.name, "split_hash": ""})
        if data.origin and not resize_given:
            recipe = recipe.with_settings({"resize": data.origin.settings.resize})
        return as_asked(data, recipe.data, recipe.preprocess, on_event=on_event), recipe
    source = recipe.data.source if data is None else str(data)
    recipe = recipe.with_settings({"source": source})
    dataset = open_source(
        recipe.data, recipe.preprocess, note=noting(on_event), better=better, on_event=on_event
    )
    dataset.compute_fingerprint_ahead()
    known = recipe.data.fingerprint if data is None else ""
    if known and known != dataset.fingerprint:
        raise DataError(
            f"The data {source} is not what this recipe was made for: its fingerprint differs.",
            "Name the data explicitly to train on it all the same.",
        )
    if data is not None:
        recipe = recipe.with_settings({"split_hash": ""})
    return dataset, recipe.with_settings(at_any_place(recipe.data))


def _refuse_reading(recipe: Recipe) -> None:
    """Settings that say how to read a source mean nothing for a dataset that is at hand."""
    for name, default in vars(SourceSettings()).items():
        if name != "source" and getattr(recipe.data, name) != default:
            raise UsageError(
                f"{name} says how to read a source, and this dataset is read already.",
                f"Leave it out ({name}={default!r} over a recipe), or give the path of the source.",
            )
