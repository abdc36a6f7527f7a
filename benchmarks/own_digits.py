"""Digits as people bring them: drawn by strokes, in five styles, and judged by a run.

    python benchmarks/own_digits.py RUN [--seed N] [--draw FOLDER]

Each style draws every digit twice: 100 pictures. Pens, positions, slants and sizes come from the
seed. What is right is counted as a user would: by what `predict` answers.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Points = npt.NDArray[np.float64]
"""(N, 2): x to the right and y down, in 0..1 of the digit's own box."""
SAMPLES_A_DIGIT = 2


def _arc(x: float, y: float, across: float, down: float, begin: float, end: float) -> Points:
    """Part of an ellipse around (x, y); angles in degrees, clockwise from the right."""
    angle = np.radians(np.linspace(begin, end, 40))
    return np.stack([x + across * np.cos(angle), y + down * np.sin(angle)], axis=1)


def _line(*corners: tuple[float, float]) -> Points:
    return np.array(corners, dtype=np.float64)


STROKES: dict[int, list[Points]] = {
    0: [_arc(0.5, 0.5, 0.33, 0.5, -90, 270)],
    1: [_line((0.32, 0.22), (0.52, 0.0), (0.52, 1.0))],
    2: [np.concatenate([_arc(0.5, 0.27, 0.33, 0.27, -170, 35), _line((0.15, 1.0), (0.88, 1.0))])],
    3: [
        np.concatenate(
            [_arc(0.45, 0.25, 0.33, 0.25, -160, 80), _arc(0.45, 0.73, 0.38, 0.27, -80, 160)]
        )
    ],
    4: [_line((0.6, 0.0), (0.1, 0.65), (0.92, 0.65)), _line((0.68, 0.3), (0.68, 1.0))],
    5: [
        _line((0.82, 0.0), (0.25, 0.0), (0.2, 0.45)),
        np.concatenate([_line((0.2, 0.45)), _arc(0.47, 0.69, 0.36, 0.31, -120, 150)]),
    ],
    6: [
        np.concatenate([_line((0.68, 0.0), (0.38, 0.3)), _arc(0.5, 0.7, 0.33, 0.3, -180, 180)])
    ],
    7: [_line((0.1, 0.02), (0.88, 0.02), (0.4, 1.0))],
    8: [_arc(0.5, 0.25, 0.27, 0.25, 90, 450), _arc(0.5, 0.75, 0.33, 0.25, -90, 270)],
    9: [
        np.concatenate([_arc(0.5, 0.28, 0.32, 0.28, 0, -360), _line((0.82, 0.28), (0.72, 1.0))])
    ],
}  # fmt: skip


def _strokes(digit: int, rng: np.random.Generator, height: float) -> list[Points]:
    """The strokes in pixels around (0, 0): slanted, turned, stretched, and a little unsteady."""
    turn, slant = np.radians(rng.uniform(-8, 8)), rng.uniform(-0.25, 0.1)
    across = height * rng.uniform(0.6, 0.85)
    move = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    move = move @ np.array([[1.0, slant], [0.0, 1.0]]) @ np.diag([across, height])
    unsteady = rng.normal(0, 0.015, (2, 4))

    def bent(points: Points) -> Points:
        waves = [np.sin((k + 1) * np.pi * points[:, ::-1]) * unsteady[:, k] for k in range(4)]
        return points + sum(waves)

    return [(bent(points) - 0.5) @ move.T for points in STROKES[digit]]


def _drawn(
    digit: int,
    rng: np.random.Generator,
    size: tuple[int, int],
    *,
    height: float,
    pen: float,
    off_centre: float,
) -> Image.Image:
    """The ink, 0..255, on a picture of a (width, height) with antialiased strokes."""
    scale = 4
    canvas = Image.new("L", (size[0] * scale, size[1] * scale))
    draw = ImageDraw.Draw(canvas)
    shift = np.array(size) * (0.5 + rng.uniform(-off_centre, off_centre, 2))
    for points in _strokes(digit, rng, height):
        path = [tuple(point) for point in (points + shift) * scale]
        draw.line(path, fill=255, width=max(1, round(pen * scale)), joint="curve")
        radius = pen * scale / 2
        for x, y in (path[0], path[-1]):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return canvas.resize(size, Image.Resampling.BOX)


def _inked(ink: Image.Image, paper: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    return Image.composite(Image.new("RGB", ink.size, colour), paper, ink)


def thin_pen(digit: int, rng: np.random.Generator) -> Image.Image:
    """A thin line somewhere on a white page, as a drawing program saves it."""
    ink = _drawn(digit, rng, (200, 200), height=rng.uniform(50, 110), pen=2, off_centre=0.2)
    return _inked(ink, Image.new("RGB", ink.size, "white"), (0, 0, 0))


def marker(digit: int, rng: np.random.Generator) -> Image.Image:
    """A broad coloured pen that fills the page."""
    ink = _drawn(digit, rng, (300, 400), height=rng.uniform(250, 330), pen=34, off_centre=0.03)
    return _inked(ink, Image.new("RGB", ink.size, (250, 248, 240)), (30, 60, 170))


def photograph(digit: int, rng: np.random.Generator) -> Image.Image:
    """Pencil on gray paper, lit from one side, with noise, as a telephone's camera has it."""
    size = (640, 480)
    ink = _drawn(digit, rng, size, height=rng.uniform(130, 260), pen=9, off_centre=0.15)
    down, right = np.mgrid[0:1:480j, 0:1:640j]
    light = 205 - 70 * (rng.uniform(0, 1) * down + rng.uniform(0.3, 1) * right)
    dark = 0.65 * np.asarray(ink.filter(ImageFilter.GaussianBlur(1.5))) / 255
    pixels = light * (1 - dark) + rng.normal(0, 5, light.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def chalk(digit: int, rng: np.random.Generator) -> Image.Image:
    """Light on a dark board."""
    ink = _drawn(digit, rng, (256, 256), height=rng.uniform(90, 200), pen=11, off_centre=0.15)
    return _inked(ink, Image.new("RGB", ink.size, (30, 50, 42)), (225, 230, 215))


def transparent(digit: int, rng: np.random.Generator) -> Image.Image:
    """Strokes alone, on nothing: as a tablet exports them."""
    ink = _drawn(digit, rng, (120, 160), height=rng.uniform(70, 130), pen=7, off_centre=0.08)
    picture = Image.new("RGBA", ink.size, (20, 20, 20, 0))
    picture.putalpha(ink)
    return picture


Style = Callable[[int, np.random.Generator], Image.Image]
STYLES: dict[str, Style] = {
    "thin pen": thin_pen,
    "marker": marker,
    "photograph": photograph,
    "chalk": chalk,
    "transparent": transparent,
}


def draw(folder: Path, seed: int, samples: int = SAMPLES_A_DIGIT) -> dict[Path, tuple[str, str]]:
    """Pictures of every style and digit in a folder; the style and the digit of each."""
    drawn = {}
    for number, (style, made_by) in enumerate(STYLES.items()):
        for digit in range(10):
            for sample in range(samples):
                rng = np.random.default_rng([seed, number, digit, sample])
                path = folder / f"{style.replace(' ', '-')}-{digit}-{sample}.png"
                made_by(digit, rng).save(path)
                drawn[path] = (style, str(digit))
    return drawn


def right_of_each(run: str, drawn: dict[Path, tuple[str, str]]) -> dict[str, int]:
    """How many of each style a run gets right."""
    import sartor

    counts = dict.fromkeys(STYLES, 0)
    for prediction in sartor.predict(run, list(drawn)):
        style, digit = drawn[Path(prediction.file)]
        counts[style] += prediction.label == digit
    return counts


def main() -> None:
    """Draw, predict, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=SAMPLES_A_DIGIT)
    parser.add_argument("--draw", type=Path, help="keep the pictures in this folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.draw or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        drawn = draw(folder, given.seed, given.samples)
        counts = right_of_each(given.run, drawn)
    for style, right in counts.items():
        print(f"{style:<12} {right:>3} of {len(drawn) // len(STYLES)}")
    print(f"{'all':<12} {sum(counts.values()):>3} of {len(drawn)}")


if __name__ == "__main__":
    main()
