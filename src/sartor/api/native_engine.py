"""What is said of the engine `native`: why a training is without it, and how to have it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from .. import native_module
from ..assembly import Assembly
from ..errors import FileError
from ..files import make_folder, write_text
from ..home import cache_home
from ..recipe import Recipe
from ..training.engines.hardware import against_channels_last
from .notes import Sink, note


def reason_without(wanted: Recipe, assembled: Assembly) -> str:
    """Why a training does not use the engine, in a clause; empty if it does.

    Args:
        wanted: the recipe before it was resolved, which says what was asked for.
    """
    engine, wish = assembled.recipe.training.engine, wanted.training.engine
    if engine == "native":
        return ""
    if wish != "auto":
        return f"engine {wish} was asked for"
    precision = assembled.recipe.training.amp_dtype
    return assembled.without_native or f"{engine} in {precision} was measured to be faster"


def facts(reason: str, assembled: Assembly, how_chosen: str) -> dict[str, Any]:
    """For environment.json: what native was built with, why it is not used, and what decided."""
    settings = assembled.job.settings
    layout = against_channels_last(assembled.job.model, settings.device)
    return {
        "native": {**native_module.describe(), "unused": reason or None},
        "engine_choice": how_chosen,
        **({"contiguous_because": layout} if layout else {}),
    }


def say_once_how_to_have_it(on_event: Sink | None) -> None:
    """Where the engine was not built: one line, the first time that something is trained here."""
    if on_event is None or native_module.missing() is None:
        return
    with suppress(FileError):
        told = make_folder(cache_home() / "engines") / "told-native"
        if not told.exists():
            note(on_event, f"Training with PyTorch's engine. {native_module.HOW_TO_HAVE_IT}")
            write_text(told, "")
