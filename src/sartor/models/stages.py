"""Stages: neighbouring layers of a large network, by the beginning of their names.

The names of modules are paths: "stages.stage3.block1.expand" is four levels deep, and at the second
level it belongs to "stages.stage3" with everything else that begins so.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

MOST_LAYERS = 40
"""With more, the layers of a stage are shown as one, unless all are asked for:"""
FEW_STAGES = 20
"""at the deepest level of names that gives at most so many."""
EVERY_LAYER = 0
"""The level at which each layer stands for itself."""


def level_for(names: Sequence[str], wish: int | None = None) -> int:
    """The level at which layers with these names are shown; `wish` where there is one."""
    if wish is not None:
        return wish
    if len(names) <= MOST_LAYERS:
        return EVERY_LAYER
    deepest = max(name.count(".") + 1 for name in names)
    levels = range(deepest - 1, 0, -1)
    return next((one for one in levels if len(stages(names, one)) <= FEW_STAGES), 1)


def stages(names: Sequence[str], level: int) -> list[tuple[str, range]]:
    """The stages at a level, in order: their names, and which of the layers they hold.

    A stage of one layer has the layer's name.
    """
    if level == EVERY_LAYER:
        return [(name, range(place, place + 1)) for place, name in enumerate(names)]
    found = []
    for stage, alike in groupby(range(len(names)), lambda place: _begin(names[place], level)):
        places = list(alike)
        name = names[places[0]] if len(places) == 1 else stage
        found.append((name, range(places[0], places[-1] + 1)))
    return found


def _begin(name: str, level: int) -> str:
    return ".".join(name.split(".")[:level])
