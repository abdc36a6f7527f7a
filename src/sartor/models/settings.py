"""Which network to build, and its own settings as they stand in a recipe or on the command line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, TypeGuard, get_args, get_origin

from ..errors import UsageError

Setting = bool | int | float | str | tuple[int | float, ...]
"""What a setting may be: all of it fits into TOML and JSON, where a tuple is a list."""


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The network of a recipe."""

    model: str = "lenet"
    """Registered name, or path/file.py:ClassOrFunction."""
    model_kwargs: Mapping[str, Setting] = field(default_factory=dict)
    """The model's own settings, such as hidden=512,512 dropout=0.2."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "model_kwargs", with_tuples(self.model_kwargs))


@dataclass(frozen=True, kw_only=True)
class Range:
    """Limits of a number, or of every number in a tuple: `Annotated[float, Range(least=0)]`."""

    least: float
    """The smallest value allowed."""
    below: float = math.inf
    """Every value is smaller than this."""

    def __contains__(self, value: float) -> bool:
        return self.least <= value < self.below

    def __str__(self) -> str:
        upper = "" if self.below == math.inf else f" and below {self.below:g}"
        return f"of at least {self.least:g}{upper}"


def with_tuples(given: Mapping[str, object]) -> dict[str, object]:
    """The same settings with every list, TOML's only sequence, as a tuple."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}


def parse_model_kwargs(words: Sequence[str]) -> dict[str, Setting]:
    """Settings from words such as `hidden=512,512`, `dropout=0.2`, `bias=true`.

    Raises:
        UsageError: a word is not of the form key=value, or a key comes twice.
    """
    settings: dict[str, Setting] = {}
    for word in words:
        key, equals, text = (part.strip() for part in word.partition("="))
        if not (key.isidentifier() and equals and text):
            raise UsageError(
                f'Model setting "{word}" is not of the form key=value.',
                "Write for example: --model-kwargs hidden=512,512 dropout=0.2",
            )
        if key in settings:
            raise UsageError(f'Model setting "{key}" is given twice.', "Give it once.")
        settings[key] = _value_of(text)
    return settings


def _value_of(text: str) -> Setting:
    """The value that a text spells; one that spells nothing else is itself."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    inner = text[1:-1] if text[0] + text[-1] in ("()", "[]") else text
    parts = [part.strip() for part in inner.split(",")]
    if not parts[-1]:  # "512," is a tuple of one, "[]" of none
        parts.pop()
    numbers = [_number_of(part) for part in parts]
    known = tuple(number for number in numbers if number is not None)
    if len(known) < len(numbers):
        return text
    return known[0] if inner == text and "," not in text else known


def _number_of(text: str) -> int | float | None:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def is_setting(value: object) -> TypeGuard[Setting]:
    """Whether a value may stand in a recipe."""
    return _as_setting(value) is not None


def coerced(value: object, annotation: object) -> Setting:
    """`value` as the type that `annotation` names: bool, int, float, str or a tuple of numbers.

    A single number becomes a tuple of one where a tuple is wanted, and a whole number a float.
    Under any other annotation (a network of one's own may have none) every `Setting` passes.

    Raises:
        ValueError: it is none; the text says what it must be.
    """
    kind, limits = _kind_and_limits(annotation)
    setting = _as_kind(value, kind, limits)
    if setting is None:
        raise ValueError(f"must be {_expected(kind, limits)}, not {_shown(value)}")
    return setting


def _kind_and_limits(annotation: object) -> tuple[object, Range | None]:
    if get_origin(annotation) is not Annotated:
        return annotation, None
    kind, *notes = get_args(annotation)
    return kind, next((note for note in notes if isinstance(note, Range)), None)


def _element_kind(kind: object) -> object:
    """int for `tuple[int, ...]`, float for `tuple[float, ...]`, None for anything else."""
    arguments = get_args(kind)
    variadic = get_origin(kind) is tuple and len(arguments) == 2 and arguments[1] is Ellipsis
    return arguments[0] if variadic and arguments[0] in (int, float) else None


def _as_kind(value: object, kind: object, limits: Range | None) -> Setting | None:
    element = _element_kind(kind)
    if element is not None:
        return _as_numbers(value, element, limits)
    if kind in (int, float):
        return _as_number(value, kind, limits)
    if kind is bool:
        return value if isinstance(value, bool) else None
    if kind is str:
        # The command line has read 7 as a number already; a text may look like one.
        return value if isinstance(value, str) else _spelled(value)
    return _as_setting(value)


def _as_numbers(
    value: object, element: object, limits: Range | None
) -> tuple[int | float, ...] | None:
    values = value if isinstance(value, tuple) else (value,)
    numbers = [_as_number(one, element, limits) for one in values]
    known = tuple(number for number in numbers if number is not None)
    return known if len(known) == len(numbers) else None


def _as_number(value: object, kind: object, limits: Range | None) -> int | float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if kind is int and not isinstance(value, int):
        return None
    if not math.isfinite(value) or (limits is not None and value not in limits):
        return None
    return float(value) if kind is float else value


def _as_setting(value: object) -> Setting | None:
    if isinstance(value, tuple):
        return _as_numbers(value, None, None)
    return value if isinstance(value, bool | int | float | str) else None


def _spelled(value: object) -> str | None:
    return json.dumps(value) if isinstance(value, bool | int | float) else None


def _expected(kind: object, limits: Range | None) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    plural = {int: "whole numbers", float: "numbers"}
    element = _element_kind(kind)
    if isinstance(element, type):
        name = plural[element]
    elif isinstance(kind, type) and kind in names:
        name = names[kind]
    else:
        return "true or false, a number, a text or a list of numbers"
    return name if limits is None else f"{name} {limits}"


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(str(one) for one in value) or "an empty list"
    return json.dumps(value, default=str)
