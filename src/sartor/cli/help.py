"""What `--help` prints: a first screen with what most people set, `--help-all` for the rest.

Texts are the attribute docstrings, defaults those of the recipe, names those of the registries.
"""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from tyro.conf import Positional, Suppress

from ..data.named.names import NAMES
from ..errors import UsageError, unknown
from ..models.registry import MODELS
from ..recipe import PARTS, shipped_recipes
from ..settings import OneOf, attribute_docstrings

_WIDTH = 80
_SUPPRESS = get_args(Suppress[str])[1]
_POSITIONAL = get_args(Positional[str])[1]

GROUPS: Mapping[str, tuple[str, str]] = {
    "data": (
        "Reading the data",
        "format image_column label_column group_column split_column split_words image_root "
        "max_unreadable",
    ),
    "split": (
        "Splitting the data",
        "exclude fixes val_fraction test_fraction split_method duplicates limit_per_class",
    ),
    "preprocess": (
        "Preparing images",
        "image_size channels resize resampling background value_range ink mean std",
    ),
    "model": ("Network", "model model_kwargs weights accept_licence"),
    "training": (
        "Training",
        "epochs batch_size shuffle sampler drop_last grad_accum_steps clip_grad transfer "
        "layer_decay freeze_epochs freeze_norms seed",
    ),
    "augment": ("Augmentation", "augment tta"),
    "opt": ("Optimizer", "opt lr momentum nesterov betas weight_decay weight_decay_on"),
    "sched": ("Learning-rate schedule", "sched warmup_epochs min_lr decay_epochs decay_rate"),
    "loss": ("Loss", "loss smoothing class_weights effective_beta"),
    "calibration": ("Calibration", "coverage false_alarms"),
    "best": ("Best epoch and early stopping", "monitor patience"),
    "speed": (
        "Hardware and speed",
        "device amp_dtype memory_format threads engine instructions workers gradient_sum "
        "checkpoint_seconds",
    ),
}
"""Groups of settings: the word for `--help GROUP`, the heading, the settings."""

_FIRST: Mapping[str, Mapping[str, str]] = {
    "fit": {
        "Start from": "recipe model model_kwargs",
        "Training": "epochs batch_size lr opt sched weight_decay augment seed",
        "Data": "val_fraction image_size",
        "Run": "out seeds device json",
    },
    "work": {
        "Plan": "plan model reading shard_size lease",
        "Work": "processes threads engine wait root retry other_versions status json",
        "What predictions are like": "topk invert ink abstain checkpoint calibrated runtime",
        "What to check": "only skip fast seed",
        "Preparing for check, features and decode": "image_size channels resize background",
    },
    "trace": {
        "What to trace": "image batch split picture label checkpoint untrained",
        "An untrained network": "data recipe model_kwargs",
        "Output": "out depth json",
    },
}
"""What the first screen shows; for other verbs, all that is the verb's own."""

_METAVARS = {
    "lr": "RATE",
    "min_lr": "RATE",
    "augment": "WORD...",
    "only": "CHECK...",
    "skip": "CHECK...",
    "image_size": "H [W]",
    "value_range": "LO,HI",
    "mean": "X...",
    "std": "X...",
    "betas": "B1 B2",
    "model_kwargs": "K=V...",
    "class_weights": "WAY",
    "image_root": "DIR",
    "exclude": "FILE",
    "fixes": "FILE",
    "weights": "FILE",
    "accept_licence": "LICENCE",
    "fit.out": "DIR",
    "export.out": "NAME",
    "web": "DIR",
    "quantize": "int8",
    "licence_model": "NAME",
    "licence_data": "NAME",
    "pictures": "PICTURE...",
    "models": "MODEL...",
    "words": "NAME...",
    "token": "TOKEN",
    "other": "DATA",
    "runs": "RUN...",
    "label": "CLASS",
    "batch_size": "N",
    "epochs": "N",
    "workers": "N",
    "checkpoint_seconds": "S",
    "data": "SET",
    "url": "URL",
    "root": "DIR",
    "lease": "SECONDS",
}
_INVERTED = {
    "shuffle": "Keep the images in file order instead of a new order each epoch.",
    "nesterov": "Use plain momentum instead of Nesterov momentum.",
    "calibrated": "Show the network's own probabilities instead of calibrated ones, and no sets.",
    "wait": "Leave when no shard is free any more, instead of staying in case another worker dies.",
    "drop_last": "Keep the last step of an epoch even if its batch is incomplete.",
}
"""What --no-NAME does, where a switch is on by default."""


@dataclass(frozen=True, kw_only=True)
class Flag:
    """A flag or a positional argument as its user sees it."""

    field: str
    spelling: str
    text: str
    names: tuple[str, ...] = ()
    default: str = ""
    positional: bool = False
    own: bool = False
    """Whether it belongs to the verb, not to the settings of a recipe."""

    def lines(self, *, briefly: bool) -> list[str]:
        """Spelling, text and default; briefly, only the first sentence of the text."""
        text, _, more = self.text.partition(". ")
        text = text.removesuffix(".")
        if self.names and (briefly or not more):
            text = f"{text}: {', '.join(self.names)}"
        if not briefly:
            names = f" Names: {', '.join(self.names)}." if self.names and more else ""
            text = f"{text}. {more}{names}".rstrip()
        if self.default:
            text += f" [{self.default}]" if briefly else f" (default: {self.default})"
        column = 24 if briefly else 25
        wrapped = textwrap.wrap(text, _WIDTH - column, break_on_hyphens=False)
        indented = [" " * column + line for line in wrapped]
        head = f"  {self.spelling.strip('[]') if self.positional else self.spelling}"
        if len(head) >= column:
            return [head, *indented]
        return [f"{head:<{column}}{wrapped[0]}", *indented[1:]]


def help_text(verb: str, kind: type, default: Any, wanted: str) -> str:
    """The help of a verb: "" for the first screen, "all", or a group.

    Raises:
        UsageError: there is no such group.
    """
    flags = list(_flags_of(verb, kind, default))
    groups = _groups(flags)
    if wanted and wanted != "all":
        if wanted not in groups:
            raise UsageError(
                unknown("group of flags", wanted, groups).capitalize(),
                f"sartor {verb} --help-all lists every flag.",
            )
        heading, members = groups[wanted]
        return "\n".join([f"{heading}:", *_lines(members, briefly=False)])
    positional = [flag for flag in flags if flag.positional]
    blocks = [
        f"usage: sartor {verb} {' '.join(flag.spelling for flag in positional)} [flags]\n\n"
        + textwrap.fill(kind.__doc__ or "", _WIDTH)
    ]
    if wanted == "all":
        blocks.append("\n".join(_lines(positional, briefly=False)))
        for heading, members in groups.values():
            blocks.append("\n".join([f"{heading}:", *_lines(members, briefly=False)]))
        return "\n\n".join(block for block in blocks if block)
    if positional:
        blocks.append("\n".join(_lines(positional, briefly=verb == "fit")))
    sections = _first_sections(verb, flags)
    for heading, members in sections.items():
        blocks.append("\n".join([f"{heading}:", *_lines(members, briefly=verb == "fit")]))
    if sum(map(len, sections.values())) + len(positional) < len(flags):
        blocks.append(_more(groups))
    return "\n\n".join(blocks)


def _more(groups: Mapping[str, object]) -> str:
    words = " ".join(groups)
    return textwrap.fill(
        f"All flags: --help-all. Only a group: --help GROUP, with {words}.", _WIDTH
    )


def _first_sections(verb: str, flags: Sequence[Flag]) -> dict[str, list[Flag]]:
    if verb not in _FIRST:
        return {"Flags": [flag for flag in flags if flag.own and not flag.positional]}
    by_field = {flag.field: flag for flag in flags}
    return {
        heading: [by_field[name] for name in names.split()]
        for heading, names in _FIRST[verb].items()
    }


def _groups(flags: Sequence[Flag]) -> dict[str, tuple[str, list[Flag]]]:
    own = [flag for flag in flags if flag.own and not flag.positional]
    settings = {flag.field: flag for flag in flags if not flag.own}
    groups = {"run": ("Flags of the command", own)}
    for word, (heading, names) in GROUPS.items():
        members = [settings[name] for name in names.split() if name in settings]
        if members:
            groups[word] = (heading, members)
    return groups


def _lines(flags: Sequence[Flag], *, briefly: bool) -> list[str]:
    return [line for flag in flags for line in flag.lines(briefly=briefly)]


def _flags_of(verb: str, kind: type, default: Any, *, own: bool = True) -> Iterator[Flag]:
    """Every flag of a dataclass, in its order, those of nested dataclasses in their place."""
    hints = get_type_hints(kind, include_extras=True)
    texts = attribute_docstrings(kind)
    for field in dataclasses.fields(kind):
        hint, notes = _unwrapped(hints[field.name])
        if _SUPPRESS in notes:
            continue
        value = getattr(default, field.name, field.default) if default else _default_of(field)
        if dataclasses.is_dataclass(hint):
            assert isinstance(hint, type)
            yield from _flags_of(verb, hint, value, own=field.name not in PARTS)
        else:
            yield _flag(verb, field.name, hint, notes, value, texts.get(field.name, ""), own)


def _flag(
    verb: str, name: str, hint: Any, notes: tuple[Any, ...], value: Any, text: str, own: bool
) -> Flag:
    positional = _POSITIONAL in notes
    words = next((note.words for note in notes if isinstance(note, OneOf)), ())
    words = words or tuple(word for word in get_args(hint) if isinstance(word, str))
    if all(word in text for word in words):
        words = ()
    names = _registered(verb, name) or words
    metavar = _METAVARS.get(f"{verb}.{name}") or _METAVARS.get(name) or _metavar(hint)
    flag = name.replace("_", "-")
    if positional:
        metavar = metavar if name in _METAVARS else name.upper()
        spelling = metavar if value is dataclasses.MISSING else f"[{metavar}]"
    elif hint is bool:
        spelling = f"--no-{flag}" if value is True else f"--{flag}"
        text = _INVERTED[name] if value is True else text
    else:
        spelling = f"--{flag} {metavar}"
    return Flag(
        field=name,
        spelling=spelling,
        text=text,
        names=names,
        default=_shown(value),
        positional=positional,
        own=own,
    )


def _registered(verb: str, name: str) -> tuple[str, ...]:
    if name == "recipe" and verb != "show":
        return shipped_recipes()
    if name == "model" and verb != "work":
        return tuple(sorted(MODELS))
    if name in ("target", "source") and verb != "trace":
        return NAMES
    return ()


def _unwrapped(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type without its annotations and without None, and the annotations."""
    notes: tuple[Any, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *extras = get_args(hint)
        notes = tuple(extras)
    arms = [arm for arm in get_args(hint) if arm is not type(None)]
    if type(None) in get_args(hint) and len(arms) == 1:
        hint, more = _unwrapped(arms[0])
        notes += more
    return hint, notes


def _metavar(hint: Any) -> str:
    return {int: "N", float: "X", Path: "FILE"}.get(hint, "NAME")


def _default_of(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _shown(value: Any) -> str:
    """A default as it would be typed; nothing for what is off or found out."""
    if value is dataclasses.MISSING or value is None or isinstance(value, bool):
        return ""
    if isinstance(value, Mapping):
        return " ".join(f"{key}={_word(each)}" for key, each in value.items())
    if isinstance(value, tuple):
        return " ".join(map(_word, value))
    return _word(value)


def _word(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_word, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
