"""The recipe that suits the data, where none is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..data.dataset import Dataset
from ..recipe import Recipe, load_recipe
from .notes import Sink, tell

_LARGEST_SMALL = 40
"""Height and width in pixels up to which gray images are small."""
_TOGETHER = {
    "model": {"model_kwargs"},
    "opt": {"lr", "momentum", "nesterov", "betas", "weight_decay"},
    "sched": {"warmup_epochs", "min_lr", "decay_epochs", "decay_rate"},
}
"""What means another thing with another choice, and so is not taken over beside one."""


def suited(
    recipe: Recipe, dataset: Dataset, said: Mapping[str, Any], on_event: Sink | None
) -> Recipe:
    """The recipe, for colour or larger pictures with the settings of the recipe `pictures`.

    What was `said` stays. Small gray images, as those of digits and mnist, change nothing.
    """
    channels = recipe.preprocess.channels or dataset.shape[0]
    if channels == 1 and max(recipe.preprocess.image_size or dataset.shape[1:]) <= _LARGEST_SMALL:
        return recipe
    spoken = set(said).union(*(_TOGETHER.get(name, ()) for name in said))
    plain = Recipe().settings()
    changes = {
        name: value
        for name, value in load_recipe("pictures").settings().items()
        if value != plain[name] and name not in spoken
    }
    kind = "colour" if channels == 3 else f"more than {_LARGEST_SMALL} pixels wide or high"
    tell(on_event, f"recipe pictures, for the images are {kind}; --recipe plain is without it")
    return recipe.with_settings(changes)
