"""Bundles for the tests of their parts: one of pictures as found in the wild, one of arrays."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sartor
from sartor.api import export
from sartor.bundle.format import Bundle, write_bundle

CLASSES = ("a | b `c` <script>alert(1)", "[x](javascript:1) *y* _z_", "ünï www.x.org")
"""Names that would be markup in Markdown, if they were let."""


def picture(label: int, number: int) -> tuple[str, bytes]:
    """A picture of a class: its brightness says which; of many sizes, modes and formats."""
    random = np.random.default_rng([label, number])
    height, width = (15 + 2 * (number % 5), 16 + number % 7)
    values = random.integers(0, 60, (height, width, 4)) + 90 * label
    values[..., 3] = 255 - (random.integers(0, 2, (height, width)) * 200)
    whole = Image.fromarray(values.clip(0, 255).astype(np.uint8), "RGBA")
    kinds = {
        0: ("PNG", whole),
        1: ("JPEG", whole.convert("RGB")),
        2: ("PNG", whole.convert("L")),
        3: ("GIF", whole.convert("RGB").quantize(16)),
        4: ("PNG", whole.convert("RGB").quantize(8)),
        5: ("PNG", whole.convert("LA")),
        6: ("TIFF", Image.fromarray((values[..., 0] * 257).astype(np.uint16))),
        7: ("JPEG", whole.convert("RGB")),
    }
    kind, shown = kinds[number % len(kinds)]
    options = {"exif": _turned(shown, 6)} if number % len(kinds) == 7 else {}
    stream = io.BytesIO()
    shown.save(stream, kind, **options)
    return f"{number:03d}.{kind.lower()}", stream.getvalue()


def _turned(shown: Image.Image, orientation: int) -> bytes:
    exif = shown.getexif()
    exif[0x0112] = orientation
    return exif.tobytes()


@pytest.fixture(scope="session")
def wild_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 3 classes with 64 pictures each."""
    root = tmp_path_factory.mktemp("wild") / "pictures of mine"
    for label, name in enumerate(CLASSES):
        folder = root / name
        folder.mkdir(parents=True)
        for number in range(64):
            file, content = picture(label, number)
            (folder / file).write_bytes(content)
    return root


@pytest.fixture(scope="session")
def wild_run(wild_pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on them, judged on its test images; not to be changed."""
    run = sartor.fit(
        wild_pictures,
        recipe="plain",
        model="lenet",
        image_size=20,
        channels=3,
        epochs=3,
        threads=1,
        report=False,
        out=tmp_path_factory.mktemp("wild-run") / "run",
    )
    run.evaluate("val")
    run.evaluate("test")
    return run.path


@pytest.fixture(scope="session")
def wild_bundle(wild_run: Path) -> Path:
    """The folder of that run's bundle, with program.pt2; not to be changed."""
    return export(wild_run, wild_run.parent / "bundle", program=True).path


def resealed(
    bundle: Path, out: Path, *, more: dict[str, bytes] | None = None, **parts: Any
) -> Path:
    """A bundle with some files changed, sealed again: as one that was made wrongly.

    Args:
        more: files that it has not.
        parts: by name, with __ for a slash and _dot_ for a dot: a function of the content, or None
            for a file that is left out.
    """
    opened = Bundle.open(bundle)
    content = {name: opened.read(name) for name in opened.names}
    for key, change in parts.items():
        name = key.replace("__", "/").replace("_dot_", ".")
        old = content.pop(name)
        if change is not None:
            content[name] = change(old)
    said = {k: v for k, v in opened.record.items() if k not in ("format", "files", "sha256")}
    write_bundle(out, said, content | (more or {}))
    return out
