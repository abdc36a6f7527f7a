"""The words with which a recipe asks for random changes, such as `flip`, `crop=4`, `erase=0.25`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from ...errors import RecipeError, unknown
from ...settings import OneOf, Range, build

PADDINGS = ("zero", "reflect", "edge")
HINT = "Write for example: --augment flip crop=4 erase=0.25"


@dataclass(frozen=True, kw_only=True)
class Flip:
    """Mirror, left and right."""

    chance: Annotated[float | Literal["alternating"], Range(0, 1)] = 0.5
    """Share of the pictures; alternating mirrors each in every second epoch (airbench)."""


@dataclass(frozen=True, kw_only=True)
class VerticalFlip:
    """Mirror, top and bottom."""

    chance: Annotated[float, Range(0, 1)] = 0.5
    """Share of the pictures."""


@dataclass(frozen=True, kw_only=True)
class Crop:
    """Pad all around, then cut the size it had before out of a random place."""

    pixels: Annotated[int, Range(1, 1_024)] = 4
    """Padding on each side."""
    padding: Annotated[str, OneOf("padding", PADDINGS)] = "zero"
    """zero (black), reflect or edge (the outermost pixels again)."""


@dataclass(frozen=True, kw_only=True)
class Shift:
    """Move by whole pixels; black comes in."""

    share: Annotated[float, Range(0, 1, open_low=True)] = 0.1
    """Of height and width, at most."""


@dataclass(frozen=True, kw_only=True)
class Rotate:
    """Turn about the centre; black comes in."""

    degrees: Annotated[float, Range(0, 180, open_low=True)] = 10.0
    """At most, to either side."""


@dataclass(frozen=True, kw_only=True)
class Affine:
    """Turn, move, resize and shear at once; black comes in."""

    degrees: Annotated[float, Range(0, 180)] = 10.0
    """Turned at most so far, to either side."""
    share: Annotated[float, Range(0, 1)] = 0.1
    """Moved at most by this share of height and width."""
    scale: Annotated[float, Range(0, 0.9)] = 0.1
    """Resized to 1 - scale to 1 + scale."""
    shear: Annotated[float, Range(0, 80)] = 5.0
    """Sheared along x at most by so many degrees."""


@dataclass(frozen=True, kw_only=True)
class Perspective:
    """Move the four corners inwards, each on its own; black comes in."""

    distortion: Annotated[float, Range(0, 0.6, open_low=True)] = 0.3
    """At most by this share of half the height and width; beyond 0.6 pictures could fold."""
    chance: Annotated[float, Range(0, 1)] = 0.5
    """Share of the pictures."""


@dataclass(frozen=True, kw_only=True)
class ResizedCrop:
    """Cut out a part and enlarge it to the whole size."""

    smallest: Annotated[float, Range(0.01, 1)] = 0.35
    """Area of the smallest part, as a share of the picture; the largest is all of it."""
    ratio: Annotated[float, Range(1, 4)] = 1.33
    """Widens or narrows the part at most by this factor."""


@dataclass(frozen=True, kw_only=True)
class Cutout:
    """Paint over a square around a random pixel with the mean colour (DeVries and Taylor, 2017)."""

    pixels: Annotated[int, Range(1, 4_096)] = 8
    """Side of the square."""


@dataclass(frozen=True, kw_only=True)
class Erase:
    """Paint over a random rectangle with the mean colour (Zhong et al., 2017)."""

    chance: Annotated[float, Range(0, 1)] = 0.25
    """Share of the pictures."""
    smallest: Annotated[float, Range(0, 1)] = 0.02
    """Area of the smallest rectangle, as a share of the picture."""
    largest: Annotated[float, Range(0, 1)] = 0.33
    """Area of the largest rectangle."""


@dataclass(frozen=True, kw_only=True)
class Grayscale:
    """Take the colour away."""

    chance: Annotated[float, Range(0, 1)] = 0.1
    """Share of the pictures."""


@dataclass(frozen=True, kw_only=True)
class ColorJitter:
    """Change brightness, contrast, saturation and hue, in this order."""

    brightness: Annotated[float, Range(0, 1)] = 0.4
    """Factor 1 - brightness to 1 + brightness."""
    contrast: Annotated[float, Range(0, 1)] = 0.4
    """As brightness."""
    saturation: Annotated[float, Range(0, 1)] = 0.4
    """As brightness; gray pictures have none."""
    hue: Annotated[float, Range(0, 0.5)] = 0.0
    """Turned at most by this share of the circle of colours; gray pictures have none."""


@dataclass(frozen=True, kw_only=True)
class Blur:
    """Blur with a Gaussian."""

    sigma: Annotated[float, Range(0.1, 32)] = 1.0
    """Its largest standard deviation in pixels; the smallest is 0.1."""
    chance: Annotated[float, Range(0, 1)] = 0.5
    """Share of the pictures."""


@dataclass(frozen=True, kw_only=True)
class Sharpness:
    """Soften or sharpen."""

    strength: Annotated[float, Range(0, 10, open_low=True)] = 0.5
    """Factor 1 - strength (not below 0, which is blurred) to 1 + strength."""


@dataclass(frozen=True, kw_only=True)
class RandAugment:
    """A few changes out of fourteen, all of one strength (Cubuk et al., 2019)."""

    count: Annotated[int, Range(1, 14)] = 2
    """Changes, one after the other."""
    strength: Annotated[int, Range(0, 30)] = 9
    """0 is none, 30 the strongest."""


@dataclass(frozen=True, kw_only=True)
class TrivialAugment:
    """One change out of fourteen, of random strength (Müller and Hutter, 2021)."""


@dataclass(frozen=True, kw_only=True)
class Mixup:
    """Blend two pictures and their labels (Zhang et al., 2017)."""

    alpha: Annotated[float, Range(0.01, 100)] = 0.2
    """Of the Beta distribution of the shares; 1 is uniform, less is mostly one of the two."""


@dataclass(frozen=True, kw_only=True)
class Cutmix:
    """Paste a rectangle of another picture, and mix the labels by area (Yun et al., 2019)."""

    alpha: Annotated[float, Range(0.01, 100)] = 1.0
    """Of the Beta distribution of the shares."""


Step = (
    Flip
    | VerticalFlip
    | Crop
    | Shift
    | Rotate
    | Affine
    | Perspective
    | ResizedCrop
    | Cutout
    | Erase
    | Grayscale
    | ColorJitter
    | Blur
    | Sharpness
    | RandAugment
    | TrivialAugment
    | Mixup
    | Cutmix
)

STEPS: Mapping[str, type[Step]] = {
    "flip": Flip,
    "vflip": VerticalFlip,
    "crop": Crop,
    "shift": Shift,
    "rotate": Rotate,
    "affine": Affine,
    "perspective": Perspective,
    "resized-crop": ResizedCrop,
    "cutout": Cutout,
    "erase": Erase,
    "grayscale": Grayscale,
    "color-jitter": ColorJitter,
    "blur": Blur,
    "sharpness": Sharpness,
    "randaugment": RandAugment,
    "trivialaugment": TrivialAugment,
    "mixup": Mixup,
    "cutmix": Cutmix,
}
MIXING = (Mixup, Cutmix)
BY_KORNIA = (ColorJitter, RandAugment, TrivialAugment)
"""What needs the extra "augment"."""

ELSEWHERE: Mapping[str, str] = {
    "hflip": "flip",
    "horizontal-flip": "flip",
    "vertical-flip": "vflip",
    "random-crop": "crop",
    "translate": "shift",
    "rotation": "rotate",
    "random-resized-crop": "resized-crop",
    "reprob": "erase",
    "random-erasing": "erase",
    "gaussian-blur": "blur",
    "aa": "randaugment",
    "auto-augment": "randaugment",
    "trivialaugmentwide": "trivialaugment",
}
"""What other libraries call them."""


def parse(words: Sequence[str]) -> tuple[dict[str, Step], list[str]]:
    """The steps that `words` ask for, by name and in order, and every problem found on the way.

    A word is a name, or a name with values in the order of its settings: `crop=4,reflect`. The one
    word `none` asks for no step.
    """
    steps: dict[str, Step] = {}
    found: list[str] = []
    split = " ".join(words).split()
    for word in split if split != ["none"] else ():
        name, equals, text = word.partition("=")
        kind = STEPS.get(name)
        if kind is None:
            found.append(_unknown(name))
        elif name in steps:
            found.append(f'augment names "{name}" twice')
        elif equals and not text:
            found.append(f'augment "{word}" has no value')
        else:
            steps[name], problems = _built(kind, text)
            found += [f'augment "{word}": {problem}' for problem in problems]
    return steps, found


def steps_of(words: Sequence[str]) -> dict[str, Step]:
    """As `parse`.

    Raises:
        RecipeError: with every problem at once.
    """
    steps, found = parse(words)
    if found:
        raise RecipeError(found, HINT)
    return steps


def canonical(words: Sequence[str]) -> tuple[str, ...]:
    """The same words with every default written out, so that they go on meaning the same."""
    return tuple(
        f"{name}={','.join(values)}" if (values := _values(step)) else name
        for name, step in parse(words)[0].items()
    )


def _built(kind: type[Step], text: str) -> tuple[Step, list[str]]:
    names = [field.name for field in fields(kind)]
    values = [_value_of(part) for part in text.split(",")] if text else []
    if len(values) > len(names):
        takes = f"{len(names)} at most ({', '.join(names)})" if names else "none"
        return kind(), [f"it has {len(values)} values and takes {takes}"]
    step: Any
    step, found = build(kind, dict(zip(names, values, strict=False)), "")
    if isinstance(step, Erase) and step.smallest > step.largest:
        found.append(f"smallest ({step.smallest:g}) must not exceed largest ({step.largest:g})")
    return step, found


def _unknown(name: str) -> str:
    if name == "none":
        return 'augment "none" stands beside other words; it means none of them'
    plain = name.lower().replace("_", "-").removeprefix("--")
    if plain in STEPS or plain in ELSEWHERE:
        return f'unknown augmentation "{name}"; did you mean "{ELSEWHERE.get(plain, plain)}"?'
    return unknown("augmentation", name, STEPS)


def _values(step: Step) -> list[str]:
    return [_written(getattr(step, field.name)) for field in fields(step)]


def _value_of(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _written(value: float | str) -> str:
    """As short as it can be read back exactly."""
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return short if isinstance(value, str) or float(short) == value else repr(value)
