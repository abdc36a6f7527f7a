"""Which network to build, and its own settings as they stand in a recipe or on the command line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import Annotated, Literal, TypeGuard, Union, get_args, get_origin

from ..errors import UsageError
from ..settings import Range, coerced, described, shown

Setting = bool | int | float | str | tuple[int | float, ...]
"""What a setting may be: all of it fits into TOML and JSON, where a tuple is a list."""


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The network of a recipe."""

    model: str = "lenet"
    """path/file.py:Name, a run to start from, or a network. timm:NAME and torchvision:NAME are the
    networks of these libraries."""
    model_kwargs: Mapping[str, Setting] = field(default_factory=dict)
    """Network settings, such as hidden=512,512 dropout=0.2."""
    weights: str | None = None
    """What the network starts from: a file (.safetensors, .pth) or a run, whose network is taken
    too where none is named. Layers are matched by name, classes too. By default pretrained weights
    where the network has some, else random ones."""
    weights_sha256: str | None = None
    """SHA-256 of the weights that the network started from; filled in when a run is made."""
    weights_licence: str | None = None
    """Licence of the weights that the network started from, where it is known; filled in when a run
    is made."""
    accept_licence: str | None = None
    """Licence of pretrained weights that you have read and may follow, by its name. Needed where it
    forbids commercial use or has terms of its own."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "model_kwargs", with_tuples(self.model_kwargs))


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
    if isinstance(value, tuple):
        return all(isinstance(one, int | float) and not isinstance(one, bool) for one in value)
    return isinstance(value, bool | int | float | str)


def fitted(value: object, annotation: object) -> Setting:
    """`value` in the type that a model's parameter is annotated with, if it is within its `Range`.

    No annotation, or one that no recipe can express, as a network of one's own may have, lets
    every `Setting` pass as it is.

    Raises:
        ValueError: it does not fit; the text says what it must be.
    """
    hint, *notes = get_args(annotation) if get_origin(annotation) is Annotated else [annotation]
    if not _is_expressible(hint):
        if is_setting(value):
            return value
        raise ValueError(
            f"must be true, false, a number, a word or a list of numbers, not {value!r}"
        )
    if hint is str and not isinstance(value, str) and is_setting(value):
        value = json.dumps(value)  # the command line has read the word 7 as a number
    fits, setting = coerced(value, hint)
    if not (fits and is_setting(setting)):
        raise ValueError(f"must be {described(hint)}, not {value!r}")
    for limits in notes:
        for number in setting if isinstance(setting, tuple) else (setting,):
            if isinstance(limits, Range) and (problem := limits.problem(number)):
                raise ValueError(f"{problem}, not {shown(number)}")
    return setting


def _is_expressible(hint: object) -> bool:
    """Whether an annotation is made of nothing but what `coerced` knows."""
    if get_origin(hint) is Literal:
        return True
    if get_origin(hint) in (tuple, Union, UnionType):
        parts = [part for part in get_args(hint) if part is not Ellipsis]
        return bool(parts) and all(map(_is_expressible, parts))
    return hint in (bool, int, float, str, NoneType)
