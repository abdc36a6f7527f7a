"""Pictures that look alike only once they are prepared: the cause, and the way out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sartor
from sartor.errors import DataError

RNG = np.random.default_rng(0)


def alpha_only(level: int) -> Image.Image:
    pixels = np.full((16, 16, 4), level, np.uint8)
    pixels[..., 3] = RNG.integers(0, 256, (16, 16))
    return Image.fromarray(pixels)


def narrow(values: int) -> Image.Image:
    return Image.fromarray((30_000 + RNG.integers(0, values, (16, 16))).astype(np.uint16))


def fine(_level: int) -> Image.Image:
    """One pixel of 256x256 differs, which nobody sees at 16x16."""
    pixels = np.zeros((256, 256), np.uint8)
    pixels[tuple(RNG.integers(0, 256, 2))] = 30
    return Image.fromarray(pixels)


def folder(root: Path, picture: Callable[[int], Image.Image], first: int, second: int) -> Path:
    for name, level in (("one", first), ("two", second)):
        (root / name).mkdir(parents=True)
        for number in range(8):
            picture(level).save(root / name / f"{number}.png")
    return root


@pytest.mark.parametrize(
    ("picture", "level", "settings", "way_out"),
    [
        (alpha_only, 255, {"background": "white"}, {"background": "black"}),
        (alpha_only, 0, {"background": "black"}, {"background": "white"}),
        (narrow, 40, {}, {"value_range": (30_000, 30_039)}),
        (fine, 0, {"image_size": (16, 16)}, {"image_size": (256, 256)}),
    ],
    ids=["white on white", "black on black", "16 bits", "small"],
)
class TestEqualOncePrepared:
    def test_check_runs_and_names_the_cause(
        self,
        tmp_path: Path,
        picture: Callable[[int], Image.Image],
        level: int,
        settings: dict[str, object],
        way_out: dict[str, object],
    ) -> None:
        root = folder(tmp_path / "set", picture, level, level)
        report = sartor.check(root, fast=True, **settings)
        findings = {finding.kind: finding for finding in report.findings}
        found = findings["hidden differences"]
        (name, value), *_ = way_out.items()
        flag = f"--{name.replace('_', '-')}"
        words = value if isinstance(value, str) else str(value)
        assert found.severity == "error"
        assert found.count == 16
        assert found.remedy.split(flag)[1].split(",")[0].strip() in words
        assert flag in findings["no split"].remedy
        with pytest.raises(DataError, match="All 16 images are equal once prepared") as error:
            sartor.fit(root, model="linear", out=tmp_path / "run", **settings)
        assert flag in error.value.hint

    def test_the_way_out_is_one(
        self,
        tmp_path: Path,
        picture: Callable[[int], Image.Image],
        level: int,
        settings: dict[str, object],
        way_out: dict[str, object],
    ) -> None:
        root = folder(tmp_path, picture, level, level)
        kinds = {each.kind for each in sartor.check(root, fast=True, **settings | way_out).findings}
        assert not kinds & {"hidden differences", "no split", "narrow range"}


class TestTransparency:
    def test_auto_shows_pictures_that_differ_only_in_alpha(self, tmp_path: Path) -> None:
        for level in (0, 128, 255):
            root = folder(tmp_path / str(level), alpha_only, level, level)
            images = sartor.load(root).images
            assert len({image.tobytes() for image in images}) == 16


def test_a_narrow_range_is_named_where_pictures_differ_too(tmp_path: Path) -> None:
    report = sartor.check(folder(tmp_path, narrow, 2_000, 2_000), only=["formats"])
    found = {finding.kind: finding for finding in report.findings}["narrow range"]
    assert found.figures["low"] >= 30_000
    assert found.figures["high"] < 32_000
    assert "--value-range 300" in found.remedy
    assert "about 8 of 256 shades" in found.summary


def test_copies_of_one_picture_can_be_checked_but_not_learnt(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", lambda level: Image.new("L", (16, 16), level), 9, 9)
    report = sartor.check(root)
    kinds = {finding.kind for finding in report.findings}
    assert {"no split", "equal, labels differ"} <= kinds
    assert "hidden differences" not in kinds
    with pytest.raises(DataError, match="All 16 images are equal: there is nothing to learn from"):
        sartor.fit(root, model="linear", out=tmp_path / "run")


def test_one_picture_per_class_can_be_checked(tmp_path: Path) -> None:
    root = folder(tmp_path, lambda level: Image.new("L", (16, 16), level), 9, 200)
    report = sartor.check(root, fast=True)
    assert "no split" in {finding.kind for finding in report.findings}
    assert report.parts == {"train": 16, "val": 0, "test": 0}


def test_equal_sets_that_cannot_be_divided_name_what_is_hidden(tmp_path: Path) -> None:
    def colour_behind(level: int) -> Image.Image:
        picture = alpha_only(255)
        picture.paste((level, level, level, 255), (0, 0, 8, 8))
        return picture

    root = folder(tmp_path / "set", colour_behind, 10, 100)
    with pytest.raises(DataError, match="8 images are equal only once prepared") as error:
        sartor.fit(root, model="linear", background="white", out=tmp_path / "run")
    assert "--background black" in error.value.hint


def test_the_range_holds_the_pictures_of_every_class(tmp_path: Path) -> None:
    for name, low in (("a", 1_000), ("b", 1_040)):
        (tmp_path / name).mkdir()
        for number in range(12):
            pixels = np.full((16, 16), low + number, dtype=np.uint16)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    found = {one.kind: one for one in sartor.check(tmp_path, fast=True).findings}
    assert found["hidden differences"].remedy.endswith("--value-range 1000,1051")


@pytest.mark.parametrize("holes", [0, 3])
def test_floats_that_are_no_numbers_are_named(tmp_path: Path, holes: int) -> None:
    """By `check`, and before training."""
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(12):
            pixels = RNG.uniform(0, 1, (16, 16)).astype(np.float32)
            if number < holes:
                pixels[:2, number] = np.nan, np.inf
            Image.fromarray(pixels).save(tmp_path / "set" / name / f"{number}.tiff")
    report = sartor.check(tmp_path / "set", only=["formats"])
    found = [finding for finding in report.findings if finding.kind == "not finite"]
    assert len(found) == bool(holes)
    said: list[str] = []
    sartor.fit(
        tmp_path / "set",
        model="linear",
        epochs=1,
        report=False,
        out=tmp_path / "run",
        on_event=lambda event: said.append(str(event)),
    )
    assert any("6 images hold 12 numbers that are not finite" in one for one in said) == bool(holes)
    if holes:
        assert found[0].count == 6
        assert "become black" in found[0].summary
