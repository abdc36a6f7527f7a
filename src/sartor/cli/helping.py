"""The help of a verb: its most used flags on one screen, all of them on request. No torch in here.

The texts are the docstrings of the fields, the defaults those of the recipe that the words name,
and what exists (sets, models, recipes, checks) comes from the registries.
"""

from __future__ import annotations

import ast
import inspect
import re
import shutil
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from tyro.conf import Positional, Suppress

from ..data.named.names import NAMED_SETS
from ..models.registry import MODELS
from ..recipe import shipped_recipes
from ..settings import OneOf
from .arguments import FIRST_SCREEN, GROUPS

_WIDEST = 100
_COLUMN = 25
_MANY_CHOICES = 3
_HELP_WORDS = ("-h", "--help", "--help-all")
_SUPPRESS, _POSITIONAL = (get_args(mark)[1] for mark in (Suppress[int], Positional[int]))
_OFF = "Off: "
"""Begins the sentence of a field's docstring that describes its flag `--no-...`."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """A flag or a positional argument as help shows it."""

    name: str
    """Of the field."""
    spelling: str
    """`--epochs N`, `--no-shuffle`, or the positional's metavar."""
    text: str
    default: str
    """As typed; empty where nothing is to be shown."""
    group: str
    positional: bool


def asks_for_help(words: Sequence[str]) -> bool:
    """Whether help is wanted and not the verb itself."""
    return any(word in _HELP_WORDS for word in words)


def help_text(verb: str, kind: type, defaults: object, words: Sequence[str]) -> str:
    """The help of a verb; `--help-all` shows every flag, `--help GROUP` those of one group."""
    options = list(_options(kind, defaults))
    groups = list(dict.fromkeys(one.group for one in options if not one.positional))
    wanted = _group_asked(words, groups)
    first = FIRST_SCREEN.get(verb)
    lines = [_usage(verb, options), "", *_wrapped(inspect.getdoc(kind) or "", 0)]
    if first is None or "--help-all" in words or wanted:
        chosen = [one for one in options if not wanted or one.group == wanted]
        lines += _listed(chosen, groups, short=False)
    else:
        order = {name: place for place, name in enumerate(first)}
        chosen = sorted(
            (one for one in options if one.positional or one.name in order),
            key=lambda one: order.get(one.name, -1),
        )
        lines += _listed(chosen, groups, short=True)
        all_flags = f"Defaults stand in brackets. Every flag: sartor {verb} --help-all"
        one_group = f"; one group: --help {'|'.join(groups)}" if len(groups) > 1 else ""
        lines += ["", *_wrapped(all_flags + one_group, 0)]
    return "\n".join(lines)


def _group_asked(words: Sequence[str], groups: Sequence[str]) -> str:
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word in _HELP_WORDS and following in groups:
            return following
    return ""


def _usage(verb: str, options: Sequence[Option]) -> str:
    targets = [one.spelling for one in options if one.positional]
    return " ".join(["usage: sartor", verb, *targets, "[flags]"])


def _listed(options: Sequence[Option], groups: Sequence[str], *, short: bool) -> Iterator[str]:
    targets = [one for one in options if one.positional]
    if targets:
        yield ""
        for one in targets:
            yield from _shown(one, short=False)
    for group in groups:
        members = [one for one in options if one.group == group and not one.positional]
        if members:
            yield from ("", f"{group.capitalize()}:")
            for one in members:
                yield from _shown(one, short=short)


def _shown(option: Option, *, short: bool) -> Iterator[str]:
    if short:
        default = f" [{option.default}]" if option.default else ""
        text = _beginning(option.text, _width() - _COLUMN - len(default))
    else:
        default = f" (default: {option.default})" if option.default else ""
        text = option.text
    lines = _wrapped(text + default, _COLUMN)
    head = f"  {option.spelling}"
    if len(head) > _COLUMN - 2:
        yield head
    else:
        lines = [head.ljust(_COLUMN) + lines[0].strip(), *lines[1:]]
    yield from lines


def _beginning(text: str, width: int) -> str:
    """Whole clauses of a text, as many as fit into two lines if one enumerates, else into one."""
    sentence = re.split(r"[.;](?: |$)", _without_brackets(text), maxsplit=1)[0]
    if len(sentence) <= width:
        return text[: len(sentence)]
    clause = re.split(r"[:,] ", sentence, maxsplit=1)[0]
    if sentence[len(clause)] == ":" and len(sentence) <= 2 * width:
        return text[: len(sentence)]
    return text[: len(clause)] if len(clause) <= width else _shortened(text, width)


def _without_brackets(text: str) -> str:
    """The text with what stands in brackets blanked, as long as before."""
    return re.sub(r"\([^()]*\)", lambda match: "_" * len(match[0]), text)


def _shortened(text: str, width: int) -> str:
    return textwrap.shorten(text, width, placeholder=" ...")


def _wrapped(text: str, indent: int) -> list[str]:
    paragraph = " ".join(text.split())
    margin = " " * indent
    return textwrap.wrap(
        paragraph,
        _width(),
        initial_indent=margin,
        subsequent_indent=margin,
        break_on_hyphens=False,
    )


def _width() -> int:
    return min(shutil.get_terminal_size().columns, _WIDEST)


def _options(kind: type, defaults: object, group: str = "general") -> Iterator[Option]:
    hints = get_type_hints(kind, include_extras=True)
    texts = _docstrings(kind)
    for field in fields(kind):
        marks, hint = _unwrapped(hints[field.name])
        if _SUPPRESS in marks:
            continue
        value = getattr(defaults, field.name, None)
        if is_dataclass(hint):
            yield from _options(typing.cast(type, hint), value, GROUPS[field.name])
            continue
        positional = _POSITIONAL in marks
        named = [mark.metavar for mark in marks if getattr(mark, "metavar", None)]
        metavar = named[0] if named else _metavar(field.name, hint, marks)
        yield Option(
            name=field.name,
            spelling=_spelling(field.name, hint, value, metavar, positional),
            text=_filled_in(_text_of(texts.get(field.name, ""), value)),
            default=_typed(value),
            group=group,
            positional=positional,
        )


def _unwrapped(hint: Any) -> tuple[tuple[Any, ...], Any]:
    """What an annotation carries besides the type, and the type without None."""
    marks: tuple[Any, ...] = ()
    while get_origin(hint) is Annotated:
        hint, *more = get_args(hint)
        marks += tuple(more)
    if type(None) in get_args(hint) and get_origin(hint) is not Literal:
        arms = tuple(one for one in get_args(hint) if one is not type(None))
        inner, hint = _unwrapped(Union[arms])  # noqa: UP007
        marks += inner
    return marks, hint


def _spelling(name: str, hint: Any, value: object, metavar: str, positional: bool) -> str:
    flag = name.replace("_", "-")
    if positional:
        optional = value is not None or hint is Any
        return f"[{metavar}]" if optional or name in ("target",) else metavar
    if hint is bool:
        return f"--no-{flag}" if value is True else f"--{flag}"
    return f"--{flag} {metavar}"


_METAVARS = {
    "target": "SET|PATH",
    "data": "SET|PATH",
    "run": "RUN",
    "model": "NAME",
    "recipe": "NAME|FILE",
    "folder": "FOLDER",
    "image_root": "FOLDER",
    "image_size": "PIXELS",
    "pictures": "PICTURE...",
    "format": "NAME",
    "duplicates": "NAME",
    "tta": "NAME",
    "engine": "NAME",
    "monitor": "NAME",
    "amp_dtype": "NAME",
    "memory_format": "NAME",
    "augment": "WORD...",
    "mean": "NUMBER...",
    "std": "NUMBER...",
    "betas": "B1 B2",
    "exclude": "FILE",
    "lr": "RATE",
    "opt": "NAME",
    "sched": "NAME",
    "loss": "NAME",
    "device": "NAME",
    "sampler": "NAME",
    "resize": "NAME",
    "only": "CHECK...",
    "skip": "CHECK...",
    "class_weights": "WORD|NUMBER...",
    "label": "CLASS",
}


def _metavar(name: str, hint: Any, marks: tuple[Any, ...] = ()) -> str:
    words = next((mark.words for mark in marks if isinstance(mark, OneOf)), ())
    if words and len(f"  --{name} {'|'.join(words)}") <= _COLUMN - 2:
        return "|".join(words)
    if name in _METAVARS:
        return _METAVARS[name]
    if get_origin(hint) is Literal:
        words = tuple(map(str, get_args(hint)))
        return "|".join(words) if len(words) < _MANY_CHOICES else "NAME"
    if get_origin(hint) in (Union, types.UnionType):
        return "|".join(dict.fromkeys(_metavar("", one) for one in get_args(hint)))
    if name.endswith("_column"):
        return "COLUMN"
    if hint is Path:
        return "FILE"
    if get_origin(hint) is not None and Mapping in (get_origin(hint), *get_args(hint)):
        return "K=V..."
    return {int: "N", float: "X", str: "WORD"}.get(hint, "K=V...")


def _typed(value: object) -> str:
    """A default as one would type it; nothing for what is off, open or empty."""
    if value is None or value is True or value is False or value == "" or value in ((), {}):
        return ""
    if isinstance(value, Mapping):
        return " ".join(f"{key}={_typed(one)}" for key, one in value.items())
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value) if not is_dataclass(value) else ""


def _text_of(text: str, value: object) -> str:
    """What the flag does: the one that turns something off is described as that."""
    on, off, off_text = text.partition(_OFF)
    return off_text if off and value is True else on if off else text


def _filled_in(text: str) -> str:
    """With what exists in the place of {sets}, {models} and {recipes}."""
    return (
        text.replace("{sets}", ", ".join(NAMED_SETS))
        .replace("{models}", ", ".join(sorted(MODELS)))
        .replace("{recipes}", ", ".join(shipped_recipes()))
    )


@cache
def _docstrings(kind: type) -> Mapping[str, str]:
    """The docstring under each field, inherited ones too."""
    texts: dict[str, str] = {}
    for owner in reversed(kind.__mro__):
        if not is_dataclass(owner):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                texts[field.target.id] = " ".join(str(text.value.value).split())
    return texts
