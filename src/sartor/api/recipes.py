"""The recipes of several runs: what differs between them, and which differ only in their seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import RecipeError
from ..files import sha256_of
from ..models.custom import is_custom
from ..recipe import Recipe
from ..runs.folder import RunFolder, read_tables

_MEASURED = ("mean", "std")
_FOLLOWS = ("split_hash", "fixes_sha256")
"""What follows from other settings."""
_NEAR = 0.1
"""Share of the standard deviation by which figures of two training splits may differ."""


def settings_of(folder: RunFolder) -> dict[str, Any]:
    """Every setting of a run by its flat name; what another version wrote as far as it is there.

    Raises:
        RunError: the run has no recipe.
    """
    text = folder.read_recipe_text()
    try:
        settings = Recipe.from_toml(text).settings()
    except RecipeError:
        parts = (part for part in read_tables(text).values() if isinstance(part, dict))
        settings = {name: value for part in parts for name, value in part.items()}
    if is_custom(str(settings.get("model"))) and folder.model_source_path.is_file():
        source = folder.read_bytes(folder.model_source_path, "model.py")
        settings["model_source"] = sha256_of(source)[:16]
    settings |= _lists_of(folder)
    return {name: _plain(value) for name, value in settings.items()}


def _lists_of(folder: RunFolder) -> dict[str, str]:
    """What a run left out and corrected, by content: each run has a copy at a place of its own."""
    lists = {"exclude": folder.excluded_path, "fixes": folder.fixes_path}
    return {
        name: sha256_of(folder.read_bytes(path, path.name))[:16]
        for name, path in lists.items()
        if path.is_file()
    }


def differing_settings(settings: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The settings that are not the same in all runs, with the value of each run."""
    names = {name: None for run in settings for name in run if name not in _FOLLOWS}
    values = {name: [run.get(name) for run in settings] for name in names}
    return {name: each for name, each in values.items() if any(one != each[0] for one in each)}


def seed_groups(settings: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """The positions of runs that share a recipe but for the seed, in groups of at least two seeds.

    Mean and standard deviation of the pixels may differ a little, since each seed measures them on
    training images of its own. Of several runs with one seed the first counts.
    """
    groups: list[list[int]] = []
    for position, run in enumerate(settings):
        if "seed" not in run:
            continue
        home = next((group for group in groups if _same_but_seed(settings[group[0]], run)), None)
        if home is None:
            groups.append([position])
        elif all(settings[member]["seed"] != run["seed"] for member in home):
            home.append(position)
    return [group for group in groups if len(group) > 1]


def _same_but_seed(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    free = ("seed", *_MEASURED, *_FOLLOWS)
    kept = [{k: v for k, v in run.items() if k not in free} for run in (one, other)]
    return kept[0] == kept[1] and all(
        _near(one.get(name), other.get(name), one.get("std")) for name in _MEASURED
    )


def _near(one: Any, other: Any, std: Any) -> bool:
    try:
        triples = zip(one, other, std, strict=True)
        return all(abs(a - b) <= _NEAR * size for a, b, size in triples)
    except (TypeError, ValueError):
        return bool(one == other)


def _plain(value: Any) -> Any:
    """The value as JSON has it, whichever way it was read."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
