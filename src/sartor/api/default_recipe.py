"""The default recipe for a dataset, where none is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..data.dataset import Dataset
from ..recipe import Recipe, load_recipe
from .notes import Sink, note

_LARGEST_SMALL = 40
"""Height and width in pixels up to which gray images are small."""
_LARGEST_TINY = 12
"""The same for images of a few pixels, such as those of digits."""
_TOGETHER = {
    "model": {"model_kwargs", "lr"},
    "loss": {"smoothing"},
    "opt": {"lr", "momentum", "nesterov", "betas", "weight_decay", "weight_decay_on"},
    "sched": {"warmup_epochs", "min_lr", "decay_epochs", "decay_rate"},
}
"""Settings whose meaning depends on another one: given that one, they keep their defaults."""


def default_recipe(
    recipe: Recipe, dataset: Dataset, given: Mapping[str, Any], on_event: Sink | None
) -> Recipe:
    """The recipe with the settings of the shipped one that suits the images, where there is one.

    Colour or larger images take `pictures`; gray ones of a few pixels, as in the set digits, take
    `digits`, unless a network is named, since its settings belong to its network. Others stay
    plain. Settings that were `given` stay.
    """
    channels = recipe.preprocess.channels or dataset.shape[0]
    longest = max(recipe.preprocess.image_size or dataset.shape[1:])
    if channels > 1 or longest > _LARGEST_SMALL:
        kind, name = "colour" if channels == 3 else f"over {_LARGEST_SMALL} pixels", "pictures"
    elif longest <= _LARGEST_TINY and not {"model", "model_kwargs"} & set(given):
        kind, name = f"gray, up to {_LARGEST_TINY} pixels", "digits"
    else:
        return recipe
    kept = set(given).union(*(_TOGETHER.get(one, ()) for one in given))
    plain = Recipe().settings()
    changes = {
        setting: value
        for setting, value in load_recipe(name).settings().items()
        if value != plain[setting] and setting not in kept
    }
    note(on_event, f"recipe {name}: the images are {kind}; --recipe plain opts out")
    return recipe.with_settings(changes)
