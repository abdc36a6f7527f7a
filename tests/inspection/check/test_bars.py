"""Bars of letterboxing: none of what is compared lies in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sartor.inspection.check.bars import WithoutBars, without_bars

from .conftest import Found, subject_of_folder


@pytest.fixture
def cut_outs(tmp_path: Path) -> Path:
    """Wide pictures of noise in which an ellipse is opaque; of some a copy as JPEG, on white."""
    random = np.random.default_rng(0)
    shape = np.hypot(*np.meshgrid(np.linspace(-1.2, 1.2, 80), np.linspace(-1.2, 1.2, 40))) < 1
    for number in range(30):
        folder = tmp_path / "pictures" / ("one" if number % 2 else "two")
        folder.mkdir(parents=True, exist_ok=True)
        blocks = random.integers(0, 200, (4, 8, 3), np.uint8).repeat(10, 0).repeat(10, 1)
        pixels = np.concatenate([blocks, 255 * shape[..., None].astype(np.uint8)], axis=2)
        picture = Image.fromarray(pixels)
        picture.save(folder / f"{number:02}.png")
        if number < 6:
            white = Image.new("RGBA", picture.size, "white")
            white.alpha_composite(picture)
            white.convert("RGB").save(folder / f"copy-{number:02}.jpg", quality=90)
    return tmp_path / "pictures"


def test_a_cut_out_and_its_copy_on_white_are_one_picture(found: Found, cut_outs: Path) -> None:
    subject = subject_of_folder(cut_outs, image_size=(64, 64))
    findings = found(subject, "near-duplicates")
    clusters: dict[tuple[str, int | None], set[str]] = {}
    for finding in findings.values():
        for item in finding.items:
            clusters.setdefault((finding.kind, item.cluster), set()).add(Path(item.file).stem)
    pairs = {frozenset(cluster) for cluster in clusters.values()}
    assert pairs == {frozenset({f"{n:02}", f"copy-{n:02}"}) for n in range(6)}


def test_a_bar_has_the_mean_colour_of_its_picture(cut_outs: Path) -> None:
    subject = subject_of_folder(cut_outs, image_size=(64, 64))
    images = without_bars(subject)
    assert isinstance(images, WithoutBars)
    assert images.shape == subject.dataset.images.shape
    rows = np.array([3, 0])
    for image, raw, (top, left, height, width) in zip(
        images[rows], subject.dataset.images[rows], images.contents[rows].tolist(), strict=True
    ):
        inner = (slice(None), slice(top, top + height), slice(left, left + width))
        assert np.array_equal(image[inner], raw[inner])
        assert np.ptp(image[:, :top], axis=(1, 2)).max() == 0
        assert image[:, 0, 0] == pytest.approx(raw[inner].mean(axis=(1, 2)), abs=0.51)


def test_stretched_pictures_have_none(cut_outs: Path) -> None:
    subject = subject_of_folder(cut_outs, image_size=(64, 64), resize="stretch")
    assert without_bars(subject) is subject.dataset.images
