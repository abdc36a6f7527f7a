"""From words on the command line to a verb's dataclass, by tyro."""

from __future__ import annotations

import io
import os
import re
import sys
from collections import abc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from itertools import pairwise
from typing import Any, get_args, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from ..console.streams import print_text
from ..data.augment.vocabulary import ELSEWHERE, STEPS
from ..errors import UsageError
from ..models.settings import parse_model_kwargs
from ..recipe import Recipe, load_recipe, setting_places
from ..wording import one_line, plain

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


@_REGISTRY.primitive_rule
def _numbers(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """`--image-size 32 48` and `--image-size 32,48`."""
    if get_origin(info.type) is not tuple or get_args(info.type)[0] not in (int, float):
        return None
    kind = get_args(info.type)[0]
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar=kind.__name__.upper(),
        instance_from_str=lambda words: tuple(
            kind(number) for word in words for number in word.split(",") if number
        ),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda numbers: [str(number) for number in numbers],
    )


def parse(verb: str, kind: type, words: list[str], default: Any = None) -> Any:
    """The verb's flags over those of `default`. Help and mistakes are printed, and exit 0 and 2."""
    if os.environ.get("NO_COLOR"):
        # tyro has no other switch for it.
        tyro._experimental_options["ansi_codes"] = False
    wanted = _help_wanted(words)
    if wanted is not None:
        from .help import help_text

        print_text(help_text(verb, kind, default, wanted))
        raise SystemExit(0)
    with _mistakes_escaped(words):
        return tyro.cli(
            kind,
            prog=f"sartor {verb}",
            args=words,
            default=tyro.MISSING_NONPROP if default is None else default,
            registry=_REGISTRY,
            config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff),
        )


@contextmanager
def _mistakes_escaped(words: list[str]) -> Iterator[None]:
    """Words that a terminal would obey, such as a file's name that a pattern stands for, are shown
    escaped where tyro says what is wrong with them; all other words as it shows them."""
    if all(one_line(word) == word for word in words):
        yield
        return
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            yield
    finally:
        sys.stderr.write(plain(said.getvalue()))


def _help_wanted(words: list[str]) -> str | None:
    """Which help is asked for: "" the first screen, "all", or a group's name; None: no help."""
    for word, following in pairwise([*words, ""]):
        if word == "--help-all":
            return "all"
        if word in ("-h", "--help"):
            return "" if following.startswith("-") else following
    return None


def refuse_flags_of_timm(words: list[str]) -> None:
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


def changed_settings(
    parts: Sequence[object], base: Recipe, named: Sequence[str] = ()
) -> dict[str, Any]:
    """The settings of these parts that differ from the recipe, or whose flags were `named`."""
    before = base.settings()
    given = {name: value for part in parts for name, value in vars(part).items()}
    return {name: value for name, value in given.items() if value != before[name] or name in named}


def base_recipe(name: str | None) -> Recipe:
    """The recipe that flags are laid over."""
    return load_recipe(name) if name else Recipe()


def settings_named(words: list[str]) -> Iterator[str]:
    """Settings by their flags: --epochs, --epochs=5, --no-shuffle."""
    for word in words:
        flag = word.partition("=")[0].replace("_", "-")
        name = flag.removeprefix("--no-" if flag.startswith("--no-") else "--").replace("-", "_")
        if flag.startswith("--") and name in setting_places():
            yield name


def _word(value: object) -> str:
    return ",".join(str(item) for item in value) if isinstance(value, tuple) else str(value)


def check_depth(depth: int | None) -> None:
    """Before the work.

    Raises:
        UsageError: it is below 0.
    """
    if depth is not None and depth < 0:
        raise UsageError(
            f"--depth {depth} is no level of names.", "Choose 0 for every layer, or 1, 2, ..."
        )
