"""How settings are declared: dataclass fields that carry their own range and choices.

One dataclass tree makes the command's flags, the keys of a recipe and the keywords of `sartor.fit`.
Values from any of the three go through `coerced` and `problems`, which finds all faults at once.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import math
import textwrap
import types
from collections import abc
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import unknown

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Range:
    """The numbers a field accepts: from `low` to `high`, both included unless `open_low`."""

    low: float
    high: float = math.inf
    open_low: bool = False

    def problem(self, value: float) -> str:
        """What is wrong with `value`, or nothing."""
        above = value > self.low if self.open_low else value >= self.low
        # A whole number may be too large for isfinite, which is for floats.
        if above and value <= self.high and (isinstance(value, int) or math.isfinite(value)):
            return ""
        low = f"{'greater than' if self.open_low else 'at least'} {shown(self.low)}"
        return f"must be {low}" + (
            "" if math.isinf(self.high) else f" and at most {shown(self.high)}"
        )


@dataclass(frozen=True)
class OneOf:
    """The words a field accepts."""

    kind: str
    words: tuple[str, ...]
    retired: tuple[str, ...] = ()
    """Words of earlier versions, which are still read."""


def fields_of(settings: type) -> tuple[tuple[str, Any, tuple[Any, ...]], ...]:
    """Name, plain type and constraints of each field of a settings dataclass."""
    return _fields_of(settings)


@functools.cache
def _fields_of(settings: Any) -> tuple[tuple[str, Any, tuple[Any, ...]], ...]:
    hints, found = get_type_hints(settings, include_extras=True), []
    for field in dataclasses.fields(settings):
        hint = hints[field.name]
        constraints: tuple[Any, ...] = ()
        if get_origin(hint) is Annotated:
            hint, *extras = get_args(hint)
            constraints = tuple(extras)
        found.append((field.name, hint, constraints))
    return tuple(found)


def build(
    settings: type[Settings], values: Mapping[str, Any], where: str
) -> tuple[Settings, list[str]]:
    """Settings made of `values` over the defaults, and every problem found on the way.

    A value with a problem leaves its field at the default, so that the rest can still be checked.
    """
    found: list[str] = []
    hints = {name: (hint, constraints) for name, hint, constraints in fields_of(settings)}
    accepted: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:
            found.append(unknown(f"{where}key", name, hints))
            continue
        hint, constraints = hints[name]
        fitting, value = coerced(value, hint)
        if not fitting:
            found.append(f"{name} must be {described(hint)}, not {value!r}")
            continue
        problem = _constraint_problem(name, value, constraints)
        if problem:
            found.append(problem)
        else:
            accepted[name] = value
    return settings(**accepted), found


def coerced(value: Any, hint: Any) -> tuple[bool, Any]:
    """Whether `value` fits the type `hint`, and the value in that type.

    Lossless conversions only: a whole number for a float, a list or one value for a tuple.
    """
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return next(
            (hit for hit in (coerced(value, arm) for arm in get_args(hint)) if hit[0]),
            (False, value),
        )
    if origin is Literal:
        return value in get_args(hint), value
    if origin is tuple:
        return _coerced_tuple(value, get_args(hint)[0])
    if origin is abc.Mapping:
        return isinstance(value, Mapping), dict(value) if isinstance(value, Mapping) else value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return _coerced_float(value)
    if hint is type(None):
        return value is None, value
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool)), value


def described(hint: Any) -> str:
    """A type in the words of a user."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(described(arm) for arm in get_args(hint) if arm is not type(None))
    if origin is Literal:
        return " or ".join(f'"{word}"' for word in get_args(hint))
    if origin is tuple:
        return f"a list, each {described(get_args(hint)[0])}"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
    return words.get(hint, "a table of settings")


def shown(number: float) -> str:
    """A number as a user would write it: whole ones with every digit, floats in short."""
    return str(number) if isinstance(number, int) else f"{number:g}"


def _coerced_float(value: int) -> tuple[bool, float]:
    try:
        return True, float(value)
    except OverflowError:
        return False, value


def _coerced_tuple(value: Any, item: Any) -> tuple[bool, Any]:
    values = value if isinstance(value, list | tuple) else [value]
    hits = [coerced(each, item) for each in values]
    fitting = all(hit for hit, _ in hits)
    return fitting, tuple(each for _, each in hits) if fitting else value


def _constraint_problem(name: str, value: Any, constraints: tuple[Any, ...]) -> str:
    if isinstance(value, str) and "\0" in value:
        return f"{name} must not hold the character NUL, which no path has"
    for constraint in constraints:
        if (
            isinstance(constraint, OneOf)
            and isinstance(value, str)
            and value not in (*constraint.words, *constraint.retired)
        ):
            return unknown(constraint.kind, value, constraint.words)
        if isinstance(constraint, Range):
            numbers = value if isinstance(value, tuple) else (value,)
            for number in numbers:
                if isinstance(number, int | float) and (problem := constraint.problem(number)):
                    return f"{name} {problem}, not {shown(number)}"
    return ""


def attribute_docstrings(settings: type) -> dict[str, str]:
    """The text under each field of a dataclass, those it inherits included, on one line."""
    texts: dict[str, str] = {}
    for kind in reversed(settings.__mro__[:-1]):
        body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in pairwise(body.body):
            match field, text:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(words))),
                ):
                    texts[name] = " ".join(words.split())
    return texts
