"""What lies behind transparent pictures, chosen by what it hides least."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import sartor
from sartor.data.listing import Listing
from sartor.data.pictures.background import background_of, background_of_images, hidden_shares
from sartor.data.settings import DataSettings
from sartor.data.sources import find_source
from sartor.recipe import Recipe, ResolvedRecipe, load_recipe

Colour = tuple[int, int, int]


def disc(colour: Colour, side: int = 24, alpha: int = 255) -> Image.Image:
    picture = Image.new("RGBA", (side, side))
    ImageDraw.Draw(picture).ellipse((4, 4, side - 5, side - 5), fill=(*colour, alpha))
    return picture


def cutouts(root: Path, colours: list[Colour]) -> Path:
    for name, side in (("one", 24), ("two", 50)):
        (root / name).mkdir(parents=True)
        for number, colour in enumerate(colours):
            disc(colour, side + number).save(root / name / f"{number}.png")
    return root


def listing(root: Path) -> Listing:
    opened = find_source(DataSettings(source=str(root)))
    assert isinstance(opened, Listing)
    return opened


class TestMeasuring:
    @pytest.mark.parametrize(
        ("colour", "hidden"),
        [
            ((255, 255, 255), (1.0, 0.0)),
            ((0, 0, 0), (0.0, 1.0)),
            ((255, 255, 0), (0.0, 0.0)),
            ((200, 60, 60), (0.0, 0.0)),
        ],
    )
    def test_outlines_hidden_on_white_and_on_black(
        self, colour: Colour, hidden: tuple[float, float]
    ) -> None:
        assert hidden_shares(disc(colour)) == hidden
        assert hidden_shares(disc(colour, alpha=90)) == hidden

    def test_there_is_no_outline_without_transparency(self) -> None:
        assert hidden_shares(disc((9, 9, 9)).convert("RGB").convert("RGBA")) is None
        assert hidden_shares(Image.new("RGBA", (8, 8))) is None

    @pytest.mark.parametrize(
        ("colours", "chosen"),
        [
            ([(255, 255, 255)] * 4, "black"),
            ([(0, 0, 0)] * 4, "white"),
            ([(255, 255, 255), (0, 0, 0)], "white"),
            ([(200, 60, 60), (60, 60, 200)], "white"),
            ([(255, 255, 255), (200, 60, 60), (60, 60, 200)], "black"),
        ],
        ids=["white", "black", "both", "neither", "some white"],
    )
    def test_the_one_that_hides_less(
        self, tmp_path: Path, colours: list[Colour], chosen: str
    ) -> None:
        found = background_of(listing(cutouts(tmp_path, colours)))
        assert found == (chosen, 2 * len(colours))

    def test_neither_test_pictures_nor_excluded_ones_are_asked(self, tmp_path: Path) -> None:
        cutouts(tmp_path / "train", [(0, 0, 0)])
        cutouts(tmp_path / "test", [(255, 255, 255)] * 9)
        assert background_of(listing(tmp_path)).colour == "white"
        assert background_of(listing(tmp_path), excluded=(18, 19)).transparent == 0

    @pytest.mark.parametrize(("level", "chosen"), [(0, "black"), (90, "white"), (255, "white")])
    def test_opaque_pictures_say_what_they_lie_on(
        self, tmp_path: Path, level: int, chosen: str
    ) -> None:
        images = np.full((4, 1, 12, 12), level, np.uint8)
        images[:, :, 3:9, 3:9] = 200
        assert background_of_images(images, np.arange(4)) == chosen
        for number, image in enumerate(images):
            folder = tmp_path / "ab"[number % 2]
            folder.mkdir(exist_ok=True)
            Image.fromarray(image[0]).save(folder / f"{number}.png")
        assert background_of(listing(tmp_path)) == (chosen, 0)


class TestInTheRun:
    def fitted(self, source: Path | sartor.Dataset, out: Path, **settings: str) -> sartor.Run:
        return sartor.fit(
            source,
            model="linear",
            epochs=1,
            threads=1,
            check=False,
            report=False,
            out=out,
            **settings,
        )

    def test_it_is_part_of_recipe_pixels_and_predictions(self, tmp_path: Path) -> None:
        source = cutouts(tmp_path / "shapes", [(255, 255, 255), (200, 200, 200)] * 8)
        run = self.fitted(source, tmp_path / "auto")
        white = self.fitted(source, tmp_path / "white", background="white")
        assert (run.recipe.preprocess.background, white.recipe.preprocess.background) == (
            "black",
            "white",
        )
        assert run.dataset().images[:, :, 0, 0].max() == 0
        assert white.dataset().images[:, :, 0, 0].min() == 255
        assert run.dataset().fingerprint != white.dataset().fingerprint
        # Over its own background nothing changes; over the other one it does.
        shape = disc((255, 255, 255))
        on_black = Image.alpha_composite(Image.new("RGBA", shape.size, (0, 0, 0, 255)), shape)
        for one, same in ((run, True), (white, False)):
            cut, flat = (r.probabilities for r in one.predict([shape, on_black]))
            assert (cut == flat) == same

    def test_an_open_background_is_that_of_a_dataset_at_hand(self, tmp_path: Path) -> None:
        source = cutouts(tmp_path / "shapes", [(0, 0, 0), (60, 60, 60)] * 8)
        dataset = sartor.load(source, background="black")
        assert self.fitted(dataset, tmp_path / "one").recipe.preprocess.background == "black"
        again = self.fitted(dataset, tmp_path / "two", background="white")
        assert again.dataset().images[:, :, 0, 0].min() == 255

    def test_digits_lie_on_black(self, tmp_path: Path) -> None:
        images = np.zeros((40, 8, 8), np.uint8)
        images[:, 3:5, 3:5] = np.arange(40)[:, None, None] * 6
        run = self.fitted(sartor.Dataset(images, np.arange(40) % 2), tmp_path / "run")
        assert run.recipe.preprocess.background == "black"

    def test_a_recipe_from_before_means_black(self, tmp_path: Path) -> None:
        source = cutouts(tmp_path / "shapes", [(0, 0, 0), (60, 60, 60)] * 8)
        run = self.fitted(source, tmp_path / "run", background="black")
        path = run.path / "recipe.toml"
        now = path.read_text("utf-8")
        path.write_text(now.replace('background = "black"\n', ""), "utf-8")
        assert "background" not in path.read_text("utf-8")
        assert run.recipe == ResolvedRecipe.from_toml(now)
        assert load_recipe(path).preprocess.background == "black"
        assert sartor.Run.open(run.path).evaluate("val").count > 0
        # One that was never resolved leaves it open.
        assert Recipe.from_toml("").preprocess.background == "auto"

    def test_it_is_remembered_for_the_same_pictures(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = cutouts(tmp_path / "shapes", [(255, 255, 255)] * 4)
        first = sartor.load(source)
        monkeypatch.setattr("sartor.data.pictures.geometry.background_of", None)
        assert sartor.load(source).fingerprint == first.fingerprint
