"""What is trained where nothing is said: a recipe that suits the images, under what was said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sartor
from sartor.api.default_recipe import default_recipe
from sartor.data.dataset import Dataset
from sartor.events import Event, Note
from sartor.recipe import Recipe, load_recipe

PICTURES = load_recipe("pictures").settings()


def images_of(channels: int, height: int, width: int) -> Dataset:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (60, channels, height, width)).astype(np.uint8)
    return Dataset(images, np.arange(60) % 2, name="toys")


COLOUR, GRAY = images_of(3, 16, 16), images_of(1, 28, 28)


def chosen(dataset: Dataset, **said: Any) -> Recipe:
    return default_recipe(Recipe().with_settings(said), dataset, said, None)


class TestChoice:
    @pytest.mark.parametrize("shape", [(1, 13, 8), (1, 28, 28), (1, 40, 40)])
    def test_small_gray_images_change_nothing(self, shape: tuple[int, int, int]) -> None:
        assert chosen(images_of(*shape)) == Recipe()
        assert Recipe() == load_recipe("plain")

    @pytest.mark.parametrize("shape", [(1, 8, 8), (1, 12, 12)])
    def test_tiny_gray_images_get_digits(self, shape: tuple[int, int, int]) -> None:
        dataset = images_of(*shape)
        assert chosen(dataset).settings() == load_recipe("digits").settings()
        assert chosen(dataset, model="lenet") == Recipe()

    @pytest.mark.parametrize("shape", [(3, 8, 8), (3, 32, 32), (1, 41, 8), (1, 8, 64)])
    def test_others_get_pictures(self, shape: tuple[int, int, int]) -> None:
        assert chosen(images_of(*shape)).settings() == PICTURES

    def test_decided_by_what_the_model_takes(self) -> None:
        assert chosen(COLOUR, channels=1).model.model == "lenet"
        assert chosen(COLOUR, channels=1, image_size=64).model.model == PICTURES["model"]
        assert chosen(GRAY, image_size=(20, 50)).model.model == PICTURES["model"]

    def test_what_is_said_stays_even_where_it_is_the_default(self) -> None:
        recipe = chosen(COLOUR, epochs=10, model="lenet")
        assert (recipe.training.epochs, recipe.model.model) == (10, "lenet")
        assert recipe.training.weight_decay == PICTURES["weight_decay"]

    def test_another_network_has_other_settings(self) -> None:
        recipe = chosen(COLOUR, model="resnet8")
        assert recipe.model.model_kwargs == {}
        assert recipe.training.lr == Recipe().training.lr
        assert recipe.training.augment == PICTURES["augment"]

    @pytest.mark.parametrize("loss", ["mse", "bce"])
    def test_another_loss_takes_no_smoothing(self, loss: str, tmp_path: Path) -> None:
        run = sartor.fit(COLOUR, loss=loss, epochs=1, threads=1, out=tmp_path / "run", report=False)
        assert run.recipe.training.smoothing == 0

    def test_another_optimizer_has_other_settings(self) -> None:
        recipe = chosen(COLOUR, opt="sgd", lr=0.1)
        plain = Recipe().training
        assert recipe.training.weight_decay == plain.weight_decay
        assert recipe.training.epochs == "auto"

    def test_is_said_in_a_line(self) -> None:
        said: list[Event] = []
        default_recipe(Recipe(), GRAY, {}, said.append)
        assert said == []
        default_recipe(Recipe(), COLOUR, {}, said.append)
        (note,) = said
        assert isinstance(note, Note)
        assert note.text.startswith("recipe pictures: the images are colour")
        assert len(note.text) <= 80


class TestFit:
    SMALL = {"epochs": 1, "threads": 1, "batch_size": 16}  # noqa: RUF012

    def test_takes_what_suits(self, tmp_path: Path) -> None:
        run = sartor.fit(COLOUR, out=tmp_path / "run", **self.SMALL)
        assert run.path.name == "run"
        assert run.recipe.model.model == PICTURES["model"]
        assert run.recipe.training.weight_decay == PICTURES["weight_decay"]
        assert run.recipe.training.epochs == 1

    def test_a_named_recipe_is_what_it_says(self, tmp_path: Path) -> None:
        for number, recipe in enumerate(("plain", Recipe())):
            run = sartor.fit(COLOUR, recipe=recipe, out=tmp_path / str(number), **self.SMALL)
            assert run.recipe.model.model == "lenet"
            assert run.recipe.training.weight_decay == 0

    def test_epochs_follow_from_the_number_of_images(self, tmp_path: Path) -> None:
        settings = {"threads": 1, "batch_size": 48, "model": "linear", "epochs": "auto"}
        run = sartor.fit(GRAY, out=tmp_path / "run", **settings)
        assert run.recipe.training.epochs == len(run.history) == 100

    def test_again_from_its_recipe(self, tmp_path: Path) -> None:
        run = sartor.fit(COLOUR, out=tmp_path / "run", **self.SMALL)
        again = sartor.fit(COLOUR, recipe=run.path / "recipe.toml", out=tmp_path / "again")
        assert again.weights_sha256 == run.weights_sha256
        assert again.split_sha256 == run.split_sha256


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of 20 colour pictures."""
    rng = np.random.default_rng(0)
    for name in ("ash", "birch"):
        (tmp_path / "trees" / name).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(0, 255, (12, 12, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "trees" / name / f"{number}.png")
    return tmp_path / "trees"


class TestCommandLine:
    def test_a_flag_with_the_plain_default_counts(
        self, command: Callable[..., Any], folder: Path, tmp_path: Path
    ) -> None:
        words = ["--threads", 1, "--out", tmp_path / "run"]
        answer = command("fit", folder, "--epochs", 1, "--model=lenet", "--weight_decay", 0, *words)
        assert answer.exit_code == 0
        assert "recipe pictures: the images are colour; --recipe plain" in answer.err
        recipe = sartor.Run.open(tmp_path / "run").recipe
        assert (recipe.model.model, recipe.training.weight_decay) == ("lenet", 0)

    def test_an_optimizer_of_the_default_counts_too(
        self, command: Callable[..., Any], folder: Path, tmp_path: Path
    ) -> None:
        words = ["--threads", 1, "--epochs", 1, "--out", tmp_path / "run"]
        assert command("fit", folder, "--opt", "adamw", *words).exit_code == 0
        assert sartor.Run.open(tmp_path / "run").recipe.training.weight_decay == 0

    def test_plain_is_without(
        self, command: Callable[..., Any], folder: Path, tmp_path: Path
    ) -> None:
        words = ["--threads", 1, "--epochs", 1, "--out", tmp_path / "run"]
        answer = command("fit", folder, "--recipe", "plain", *words)
        assert answer.exit_code == 0
        assert "recipe pictures" not in answer.err
        assert sartor.Run.open(tmp_path / "run").recipe.model.model == "lenet"

    def test_help_shows_a_recipe_and_tells_of_the_choice(self, command: Callable[..., Any]) -> None:
        text = " ".join(command("fit", "--help-all").out.split())
        assert "By default pictures" in text
        assert "resized-crop" in command("fit", "--recipe", "pictures", "--help-all").out
