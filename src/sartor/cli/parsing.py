"""From words on the command line to a verb's dataclass, by tyro."""

from __future__ import annotations

import os
import re
from collections import abc
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from ..data.augment.vocabulary import ELSEWHERE, STEPS
from ..errors import UsageError
from ..models.settings import parse_model_kwargs
from ..recipe import Recipe, load_recipe, setting_places
from . import arguments as verbs

_REGISTRY = ConstructorRegistry()


@_REGISTRY.primitive_rule
def _words_with_equals(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """`--model-kwargs hidden=512,512 dropout=0.2`."""
    if get_origin(info.type) is not abc.Mapping:
        return None
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar="KEY=VALUE",
        instance_from_str=parse_model_kwargs,
        is_instance=lambda value: isinstance(value, abc.Mapping),
        str_from_instance=lambda settings: [
            f"{key}={_word(value)}" for key, value in settings.items()
        ],
    )


def parse(verb: str, class_name: str, words: list[str]) -> Any:
    """The verb's arguments. Help and mistakes are printed, and leave with 0 and 2."""
    kind = getattr(verbs, class_name)
    if kind is verbs.Fit:
        _explain_augmentation_flags(words)
    if os.environ.get("NO_COLOR"):
        # tyro has no other switch for it.
        tyro._experimental_options["ansi_codes"] = False
    default: Any = _fit_defaults(words) if kind is verbs.Fit else None
    wanted = _help_wanted(words)
    if wanted is not None:
        from .help import help_text

        print(help_text(verb, kind, default, wanted))
        raise SystemExit(0)
    return tyro.cli(
        kind,
        prog=f"sartor {verb}",
        args=words,
        default=tyro.MISSING_NONPROP if default is None else default,
        registry=_REGISTRY,
        config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff),
    )


def _help_wanted(words: list[str]) -> str | None:
    """Which help is asked for: "" the first screen, "all", or a group's name; None: no help."""
    for word, following in pairwise([*words, ""]):
        if word == "--help-all":
            return "all"
        if word in ("-h", "--help"):
            return "" if following.startswith("-") else following
    return None


def _explain_augmentation_flags(words: list[str]) -> None:
    """Who knows timm's flags --hflip, --reprob, --mixup and their like is told ours.

    Raises:
        UsageError: one of them is among the words.
    """
    for word, following in pairwise([*words, ""]):
        flag, _, value = word.partition("=")
        name = ELSEWHERE.get(flag.removeprefix("--"), flag.removeprefix("--"))
        if flag.startswith("--") and name in STEPS:
            number = re.fullmatch(r"[\d.]+", value or following)
            example = f"{name}={number[0]}" if number else name
            raise UsageError(
                f"There is no flag {flag}: random changes are words of --augment.",
                f"Write: --augment {example}",
            )


def changed_settings(parsed: verbs.Fit | verbs.Check) -> dict[str, Any]:
    """The settings that were given as flags, over those of the recipe."""
    named: tuple[str, ...] = ()
    if isinstance(parsed, verbs.Check):
        base = base_recipe(None).settings()
        parts: list[Any] = [parsed.data, parsed.preprocess]
    else:
        # A flag that says what the plain default is all the same counts where the data decide.
        base, named = base_recipe(parsed.recipe).settings(), parsed.named
        parts = [parsed.data, parsed.preprocess, parsed.model, parsed.training]
    given = {name: value for part in parts for name, value in vars(part).items()}
    return {name: value for name, value in given.items() if value != base[name] or name in named}


def base_recipe(name: str | None) -> Recipe:
    """The recipe that flags are laid over."""
    return load_recipe(name) if name else Recipe()


def _fit_defaults(words: list[str]) -> verbs.Fit:
    """The recipe named among the words gives the flags their defaults, so that help shows them."""
    name = None
    for word, following in pairwise([*words, ""]):
        if word == "--recipe" and following:
            name = following
        elif word.startswith("--recipe="):
            name = word.removeprefix("--recipe=")
    recipe = base_recipe(name)
    flags = verbs.DataFlags(**vars(recipe.data))
    return replace(
        verbs.Fit(),
        recipe=name,
        data=flags,
        preprocess=recipe.preprocess,
        model=recipe.model,
        training=recipe.training,
        named=tuple(_settings_named(words)),
    )


def _settings_named(words: list[str]) -> Iterator[str]:
    """Settings by their flags: --epochs, --epochs=5, --no-shuffle."""
    for word in words:
        flag = word.partition("=")[0].replace("_", "-")
        name = flag.removeprefix("--no-" if flag.startswith("--no-") else "--").replace("-", "_")
        if flag.startswith("--") and name in setting_places():
            yield name


def _word(value: object) -> str:
    return ",".join(str(item) for item in value) if isinstance(value, tuple) else str(value)
