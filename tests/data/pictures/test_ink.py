"""Ink on paper becomes what MNIST's pictures are, whatever page it stands on."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from scipy import ndimage

import sartor
from sartor.data.dataset import Dataset
from sartor.data.pictures.ink import ink_picture
from sartor.data.pictures.preprocess import Preprocess, as_picture
from sartor.errors import UsageError

sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))

import own_digits

STYLES = list(own_digits.STYLES.values())


def preprocess(ink: str = "mass", size: int = 28, channels: int = 1) -> Preprocess:
    return Preprocess(
        channels=channels,
        height=size,
        width=size,
        resize="letterbox",
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        ink=ink,
    )


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.__name__)
@pytest.mark.parametrize("digit", [0, 1, 4, 7])
def test_every_page_gives_light_ink_of_20_pixels_around_its_centre_of_mass(
    style: own_digits.Style, digit: int
) -> None:
    picture = style(digit, np.random.default_rng([3, digit]))
    image = preprocess().picture(picture)
    assert image.shape == (1, 28, 28)
    rows, columns = np.nonzero(image[0] > 20)
    assert 18 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 21
    assert np.abs(np.array(ndimage.center_of_mass(image[0])) - 14).max() < 1
    assert image.max() > 200
    assert np.median(image) == 0
    assert 0.03 < image.mean() / 255 < 0.25


def test_dark_and_light_ink_become_the_same() -> None:
    picture = own_digits.marker(5, np.random.default_rng(0)).convert("L")
    dark, light = (preprocess().picture(one) for one in (picture, ImageOps.invert(picture)))
    assert np.abs(dark.astype(int) - light).mean() < 1


def test_dust_and_a_shadow_at_the_edge_are_not_ink() -> None:
    clean = own_digits.marker(3, np.random.default_rng(1)).convert("L")
    pixels = np.array(clean)
    pixels[20:24, 30:34] = 0
    pixels[:, :12] = 40
    image, expected = (preprocess().picture(one) for one in (Image.fromarray(pixels), clean))
    assert np.abs(image.astype(int) - expected).mean() < 3


def test_images_of_the_sets_stay_as_they_are(mnist: Dataset, digits: Dataset) -> None:
    for dataset, way, size in ((mnist, "mass", 28), (digits, "box", 8)):
        for image in dataset.images[:200]:
            found = ink_picture(as_picture(image), size, size, way)
            np.testing.assert_array_equal(found, image[0])


@pytest.mark.parametrize("colour", ["white", "black", "gray"])
def test_a_page_without_ink_is_resized_as_pictures_are(colour: str) -> None:
    picture = Image.new("L", (50, 40), colour)
    image = preprocess().picture(picture)
    np.testing.assert_array_equal(image, preprocess("off").picture(picture))


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 2), (3, 3)])
@pytest.mark.parametrize("way", ["mass", "box"])
def test_pictures_of_hardly_any_pixels(size: tuple[int, int], way: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0]), dtype=np.uint8)
    assert preprocess(way).picture(Image.fromarray(pixels)).shape == (1, 28, 28)


def test_colour_models_are_given_it_three_times() -> None:
    image = preprocess(channels=3).picture(own_digits.chalk(2, np.random.default_rng(0)))
    assert image.shape == (3, 28, 28)
    assert (image == image[0]).all()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pages for each of two digits."""
    root = tmp_path_factory.mktemp("pages")
    for digit in (1, 8):
        (root / str(digit)).mkdir()
        for number in range(12):
            rng = np.random.default_rng([digit, number])
            own_digits.thin_pen(digit, rng).save(root / str(digit) / f"{number}.png")
    return root


class TestRuns:
    def test_the_named_sets_say_how_they_were_made(self, trained: Path) -> None:
        assert sartor.Run.open(trained).recipe.preprocess.ink == "box"

    def test_a_folder_is_prepared_so_where_it_is_asked_for(
        self, pages: Path, tmp_path: Path
    ) -> None:
        settings = {"epochs": 1, "report": False, "check": False}
        run = sartor.fit(pages, ink="mass", image_size=28, out=tmp_path / "run", **settings)
        assert run.recipe.preprocess.ink == "mass"
        image = run.dataset().images[0]
        file = next((pages / "1").iterdir())
        (given,) = sartor.api.inputs(run, [file])
        for one in (image, given.image):
            rows, _ = np.nonzero(one[0] > 20)
            assert 18 <= np.ptp(rows) + 1 <= 21
        plain = sartor.fit(pages, image_size=28, out=tmp_path / "plain", **settings)
        assert plain.recipe.preprocess.ink == "off"

    def test_a_recipe_from_before_means_off(self, trained: Path) -> None:
        text = (trained / "recipe.toml").read_text().replace('ink = "box"\n', "")
        assert "ink" not in text
        assert sartor.Recipe.from_toml(text).preprocess.ink == "off"


class TestPredict:
    def test_most_own_digits_are_right_and_hardly_any_without_preparation(
        self, tmp_path: Path
    ) -> None:
        """The set digits has but 8x8 pixels, and figures that look different: so not all."""
        settings = {"check": False, "report": False, "threads": 1}
        run = sartor.fit("digits", out=tmp_path / "run", **settings)
        drawn = own_digits.draw(tmp_path, seed=1, samples=1)
        right = {
            ink: sum(
                one.label == drawn[Path(one.file)][1]
                for one in sartor.predict(run, list(drawn), ink=ink)
            )
            for ink in (None, "off")
        }
        assert right[None] >= 35 > 20 >= right["off"]

    def test_what_is_unlike_training_is_said(self, trained: Path, tmp_path: Path) -> None:
        page = tmp_path / "page.png"
        own_digits.thin_pen(7, np.random.default_rng(0)).save(page)
        (prepared,) = sartor.predict(trained, page)
        assert prepared.unlike_training == ()
        (plain,) = sartor.predict(trained, page, ink="off")
        assert any("brightness" in one for one in plain.unlike_training)
        assert plain.to_json()["unlike_training"] == list(plain.unlike_training)

    def test_test_images_are_like_training(self, trained: Path) -> None:
        run = sartor.Run.open(trained)
        dataset, test = run.dataset(), run.split().test
        answers = run.predict([as_picture(dataset.images[index]) for index in test])
        assert sum(bool(one.unlike_training) for one in answers) <= 0.01 * len(test)

    def test_another_way_is_refused(self, trained: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no way to prepare ink called pen"):
            sartor.predict(trained, tmp_path, ink="pen")
