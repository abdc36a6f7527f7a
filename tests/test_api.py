"""The verbs in Python."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch
from PIL import Image
from torch import nn

import sartor
from sartor import api
from sartor.data.dataset import Dataset
from sartor.data.feed.ahead import Ahead
from sartor.data.feed.batches import Batch, Batches
from sartor.data.pictures.preprocess import as_picture
from sartor.errors import (
    DataError,
    FileError,
    ModelError,
    PictureError,
    RecipeError,
    RunError,
    UsageError,
)
from sartor.evaluation.predictions import Predictions
from sartor.events import CheckpointDue, Ended, EpochDone, Event, Started
from sartor.runs.folder import RunFolder

SMALL: dict[str, Any] = {
    "model": "mlp",
    "model_kwargs": {"hidden": (16,), "dropout": 0.2},
    "batch_size": 200,
    "epochs": 2,
    "threads": 1,
    "report": False,
}
COLUMNS = {
    "epoch",
    "step",
    "seconds",
    "learning_rate",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "images_per_second",
    "val_balanced_accuracy",
    "val_macro_f1",
}


@pytest.fixture(scope="module")
def run(trained: Path) -> sartor.Run:
    """The finished run; only read here, but for its predictions."""
    return sartor.Run.open(trained)


class TestFit:
    def test_same_recipe_same_weights_other_seed_others(
        self, digits: Dataset, tmp_path: Path
    ) -> None:
        runs = [
            sartor.fit(digits, out=tmp_path / str(number), seed=seed, **SMALL)
            for number, seed in enumerate((7, 7, 8))
        ]
        one, same, other = (run.weights_sha256 for run in runs)
        assert one == same != other
        assert runs[0].recipe == runs[1].recipe
        assert not np.array_equal(runs[0].split().val, runs[2].split().val)
        assert np.array_equal(runs[0].split().test, runs[2].split().test), "comparable"

    def test_threads_that_prepare_batches_change_no_bit(
        self, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made: list[int] = []
        before = Ahead.batch
        monkeypatch.setattr(Ahead, "batch", lambda *place: made.append(1) or before(*place))
        alone = sartor.fit(digits, out=tmp_path / "alone", **SMALL)
        assert not made
        helped = sartor.fit(digits, out=tmp_path / "helped", workers=2, **SMALL)
        assert len(made) == helped.result()["steps"]
        assert helped.weights_sha256 == alone.weights_sha256

    def test_a_fault_in_such_a_thread_ends_training_with_its_sentence(
        self, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = Batches.group

        def failing(batches: Batches, epoch: int, group: int) -> list[Batch]:
            if epoch == 1:
                raise DataError("The disk went away.", "Plug it in.")
            return before(batches, epoch, group)

        monkeypatch.setattr(Batches, "group", failing)
        with pytest.raises(DataError, match="The disk went away"):
            sartor.fit(digits, out=tmp_path / "run", workers=1, **SMALL | {"epochs": 3})
        assert RunFolder(tmp_path / "run").status()["state"] == "failed"

    def test_images_that_would_fill_the_memory_are_refused(
        self, digits: Dataset, tmp_path: Path
    ) -> None:
        out = tmp_path / "run"
        with pytest.raises(RecipeError, match=r"4096x4096 take .* GiB; this machine has"):
            sartor.fit(digits, out=out, image_size=4096, **SMALL)
        assert not out.exists()

    def test_nothing_around_it_decides(self, digits: Dataset, tmp_path: Path) -> None:
        torch.manual_seed(1)
        np.random.seed(1)
        one = sartor.fit(digits, out=tmp_path / "one", **SMALL).weights_sha256
        after = torch.rand(3)
        torch.manual_seed(1)
        assert torch.equal(after, torch.rand(3)), "training leaves the generator as it was"
        assert sartor.fit(digits, out=tmp_path / "two", **SMALL).weights_sha256 == one

    def test_a_run_can_be_made_again_from_its_recipe(self, run: sartor.Run, tmp_path: Path) -> None:
        again = sartor.fit(recipe=run.path / "recipe.toml", out=tmp_path / "again")
        assert again.weights_sha256 == run.weights_sha256
        assert again.recipe == run.recipe
        assert (again.path / "recipe.toml").read_bytes() == (run.path / "recipe.toml").read_bytes()
        assert (again.path / "split.npz").read_bytes() == (run.path / "split.npz").read_bytes()
        third = sartor.fit(recipe=run.recipe, out=tmp_path / "third", seed=4)
        assert third.weights_sha256 != run.weights_sha256

    def test_the_recipe_is_complete(self, digits: Dataset, tmp_path: Path) -> None:
        settings = SMALL | {"batch_size": "all", "device": "auto", "threads": None}
        recipe = sartor.fit(digits, out=tmp_path / "run", **settings).recipe
        assert recipe.training.batch_size == 1294
        assert recipe.training.device != "auto"
        assert recipe.training.memory_format != "auto"
        assert recipe.training.threads
        assert recipe.preprocess.image_size == (8, 8)
        assert recipe.preprocess.channels == 1
        assert len(recipe.preprocess.mean) == len(recipe.preprocess.std) == 1
        assert recipe.data.fingerprint == digits.fingerprint
        assert recipe.model.model_kwargs == {"hidden": (16,), "dropout": 0.2}
        assert sartor.Recipe.from_toml(recipe.to_toml()) == recipe

    def test_the_test_split_is_not_touched(self, digits: Dataset, tmp_path: Path) -> None:
        """Other images and labels there: the same weights, history and best epoch."""
        test = np.arange(0, len(digits), 5)
        images, labels = digits.images.copy(), digits.labels.copy()
        images[test], labels[test] = 255 - images[test], (labels[test] + 1) % 10
        found = []
        for number, (pixels, classes) in enumerate(
            [(digits.images, digits.labels), (images, labels)]
        ):
            data = Dataset(pixels, classes, test=test)
            run = sartor.fit(data, out=tmp_path / str(number), **SMALL)
            rows = [row["val_loss"] for row in run.history]
            best = api.load_checkpoint(run.folder, "best").weights_sha256
            found.append((run.weights_sha256, best, rows, run.recipe.preprocess))
        assert found[0] == found[1]

    def test_without_a_validation_split(self, digits: Dataset, tmp_path: Path) -> None:
        run = sartor.fit(digits, out=tmp_path / "run", val_fraction=0.0, **SMALL)
        assert run.history[0]["val_loss"] is None
        assert run.history[0]["val_accuracy"] is None
        assert run.result()["val_accuracy"] is None
        assert "train accuracy" in repr(run)
        assert run.evaluate("test").to_json() == run.evaluate(checkpoint="last").to_json()
        with pytest.raises(UsageError, match=r"val split of .* has no images") as caught:
            run.evaluate("val")
        assert "--split" in caught.value.hint
        assert caught.value.exit_code == 2
        with pytest.raises(RecipeError, match="patience needs a validation split"):
            sartor.fit(digits, val_fraction=0.0, patience=3, **SMALL)

    def test_history_and_result(self, run: sartor.Run) -> None:
        assert [row["epoch"] for row in run.history] == [1, 2, 3]
        assert all(row.keys() == COLUMNS for row in run.history)
        assert [row["step"] for row in run.history] == [21, 42, 63]
        result = run.result()
        assert result["steps"] == 63
        assert result["weights_sha256"] == run.weights_sha256
        for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
            assert result[name] == run.history[-1][name]
        assert result["seconds"] >= run.history[-1]["seconds"]

    def test_events_come_in_order(self, digits: Dataset, tmp_path: Path) -> None:
        events: list[Event] = []
        sartor.fit(digits, out=tmp_path / "run", on_event=events.append, **SMALL)
        kinds = [type(event) for event in events if isinstance(event, Started | EpochDone | Ended)]
        assert kinds == [Started, EpochDone, EpochDone, Ended]
        started = next(event for event in events if isinstance(event, Started))
        assert (started.train_images, started.val_images, started.test_images) == (1294, 144, 359)
        assert started.expected_loss == pytest.approx(math.log(10))
        assert started.steps_per_epoch == 7
        assert isinstance(events[-2], CheckpointDue), "nothing is lost at the end"

    def test_what_a_listener_raises_comes_out_and_the_run_can_go_on(
        self, digits: Dataset, tmp_path: Path
    ) -> None:
        def fails(event: Event) -> None:
            if isinstance(event, EpochDone):
                raise ZeroDivisionError("mine")

        with pytest.raises(ZeroDivisionError, match="mine"):
            sartor.fit(digits, out=tmp_path / "run", on_event=fails, **SMALL)
        run = sartor.Run.open(tmp_path / "run")
        assert run.status == {"format": 1, "state": "failed", "reason": "mine"}
        whole = sartor.fit(digits, out=tmp_path / "whole", **SMALL)
        assert run.resume().weights_sha256 == whole.weights_sha256

    def test_status_can_be_read_while_it_trains(self, digits: Dataset, tmp_path: Path) -> None:
        states = []

        def look(event: Event) -> None:
            if isinstance(event, EpochDone):
                states.append(sartor.Run.open(tmp_path / "run").status["state"])

        sartor.fit(digits, out=tmp_path / "run", on_event=look, **SMALL)
        assert states == ["running", "running"]

    def test_the_default_folder_counts_up(
        self, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        paths = [str(sartor.fit(digits, **SMALL).path) for _ in range(2)]
        assert paths == ["runs/digits-mlp-1", "runs/digits-mlp-2"]
        assert sartor.Run.open("latest").path == Path(paths[1])
        assert sartor.evaluate("digits-mlp-1").count == 359

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"epochs": 0}, ["epochs must be at least 1"]),
            ({"epoch": 3}, ['unknown setting "epoch"; did you mean "epochs"?']),
            ({"lr": math.nan, "batch_size": -3}, ["lr must be", "batch_size must be"]),
            ({"opt": "adm", "sched": "cosin"}, ['mean "adam"', 'mean "cosine"']),
            ({"model": "mpl"}, ['unknown model "mpl"; did you mean "mlp"?']),
            ({"model_kwargs": {"hiden": 3}}, ['did you mean "hidden"?']),
            ({"val_fraction": 1.5, "seed": -1}, ["val_fraction must be", "seed must be"]),
            ({"recipe": "fashon-cnn"}, ['did you mean "fashion-cnn"?']),
            ({"class_weights": (1.0, 2.0)}, ["class_weights must be 10 numbers"]),
            ({"nesterov": True}, ["nesterov needs opt sgd"]),
        ],
    )
    def test_wrong_settings(
        self,
        settings: dict[str, Any],
        words: list[str],
        digits: Dataset,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UsageError) as caught:
            sartor.fit(digits, **(SMALL | settings))
        assert all(word in str(caught.value) for word in words), caught.value
        assert list(tmp_path.iterdir()) == []

    def test_unknown_data(self) -> None:
        with pytest.raises(UsageError, match=r'Unknown set "digitz"; did you mean "digits"?'):
            sartor.load("digitz")

    def test_a_recipe_for_other_data(
        self, run: sartor.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        text = (run.path / "recipe.toml").read_text().replace(run.recipe.data.fingerprint, "0" * 64)
        Path("recipe.toml").write_text(text)
        with pytest.raises(DataError, match="its fingerprint differs"):
            sartor.fit(recipe="recipe.toml")


class Net(nn.Module):
    """A network of one's own, with a buffer and tied weights."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first = nn.Linear(64, 10)
        self.norm = nn.BatchNorm1d(10)
        self.last = nn.Linear(10, 10, bias=False)
        self.again = self.last
        self.scale = scale

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.norm(self.first(images.flatten(1)) * self.scale).relu()
        logits: torch.Tensor = self.again(self.last(features))
        return logits


class TestPythonObjects:
    @pytest.fixture
    def data(self, digits: Dataset) -> Dataset:
        return Dataset(digits.images[:300], digits.labels[:300], name="mine")

    @pytest.fixture
    def mine(self, data: Dataset, tmp_path: Path) -> Path:
        settings = {"epochs": 2, "batch_size": 50, "threads": 1, "lr": 0.01, "report": False}
        return sartor.fit(data, model=Net(), out=tmp_path / "mine", **settings).path  # type: ignore[arg-type]

    def test_the_run_at_hand_has_them(self, data: Dataset, tmp_path: Path) -> None:
        settings: dict[str, Any] = {"batch_size": 50, "threads": 1, "sched": "constant"}
        run = sartor.fit(data, model=Net(), epochs=1, out=tmp_path / "mine", **settings)
        assert run.evaluate().count == 60
        assert run.resume(epochs=2).evaluate("val").count == 24
        long = sartor.fit(data, model=Net(), epochs=2, out=tmp_path / "long", **settings)
        assert run.weights_sha256 == long.weights_sha256

    def test_given_again(self, mine: Path, data: Dataset) -> None:
        run = sartor.resume(mine, epochs=3, data=data, model=Net())
        assert len(run.history) == 3
        evaluation = sartor.evaluate(mine, data=data, model=Net())
        assert evaluation.to_json() == run.evaluate().to_json()

    def test_not_given_again(self, mine: Path, data: Dataset) -> None:
        with pytest.raises(DataError, match="The run's data mine is not at hand") as caught:
            sartor.evaluate(mine)
        assert "data=..." in caught.value.hint
        for call in (sartor.evaluate, sartor.resume):
            with pytest.raises(ModelError, match="trained Net, an object of a Python") as problem:
                call(mine, data=data, **({"epochs": 9} if call is sartor.resume else {}))  # type: ignore[operator]
            assert "model=..." in problem.value.hint
        assert sartor.Run.open(mine).recipe.training.epochs == 2, "a refused resume changes nothing"
        with pytest.raises(ModelError, match="an object of a Python program"):
            sartor.predict(mine, as_picture(data.images[0]))

    def test_other_data_or_another_network(
        self, mine: Path, digits: Dataset, data: Dataset
    ) -> None:
        with pytest.raises(DataError, match=r"is not what .* was trained on"):
            sartor.evaluate(mine, data=digits, model=Net())
        with pytest.raises(RunError, match="do not fit its model"):
            sartor.evaluate(mine, data=data, model=nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))

    def test_networks_that_do_not_fit(
        self, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for network, reason in (
            (nn.Sequential(nn.Flatten(), nn.Linear(64, 7)), r"gives the shape \(64, 7\)"),
            (nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), "cannot take images of shape"),
            (nn.Flatten(), "has no trainable parameters"),
            (nn.LSTM(8, 10), "cannot take images|not a tensor"),
        ):
            with pytest.raises(ModelError, match=reason) as caught:
                sartor.fit(data, model=network)
            assert caught.value.hint
        assert list(tmp_path.iterdir()) == [], "no run was begun"

    def test_outputs_that_are_probabilities_are_warned_of(
        self, data: Dataset, tmp_path: Path
    ) -> None:
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Softmax(dim=1))
        with pytest.warns(sartor.SartorWarning, match="as after a softmax"):
            sartor.fit(data, model=network, epochs=1, out=tmp_path / "run")


SOURCE = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes, width: int = 8):
        last = nn.Linear(width, num_classes)
        super().__init__(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), last)
"""


class TestModelFile:
    @pytest.mark.parametrize("change", ["vanishes", "changes", "breaks"])
    def test_the_copy_in_the_run_is_used(
        self, change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        file = Path("net.py")
        file.write_text(SOURCE)
        settings: dict[str, Any] = {"threads": 1, "sched": "constant", "batch_size": 300}
        settings["report"] = False
        model = {"model": "net.py:Net", "model_kwargs": {"width": 9}}
        long = sartor.fit("digits", epochs=3, out="long", **model, **settings)
        run = sartor.fit("digits", epochs=2, out="run", **model, **settings)
        assert (run.path / "model.py").read_text() == SOURCE
        before = run.evaluate().to_json()

        if change == "vanishes":
            file.unlink()
        else:
            text = SOURCE.replace("ReLU", "Tanh") if change == "changes" else "def ("
            file.write_text(text)
        assert sartor.evaluate("run").to_json() == before
        assert sartor.resume("run", epochs=3).weights_sha256 == long.weights_sha256
        assert sartor.evaluate("run").to_json() == long.evaluate().to_json()
        assert sartor.summary(sartor.Run.open("run")).parameters == 64 * 9 + 9 + 9 * 10 + 10

    def test_again_from_its_recipe(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("net.py").write_text(SOURCE)
        run = sartor.fit("digits", model="net.py:Net", epochs=1, threads=1)
        assert run.path == Path("runs/digits-net-1")
        again = sartor.fit(recipe=run.path / "recipe.toml")
        assert again.weights_sha256 == run.weights_sha256


class TestEvaluate:
    def test_equals_scikit_learn_on_the_saved_predictions(self, run: sartor.Run) -> None:
        evaluation = run.evaluate("test")
        saved = Predictions.load(run.path / "predictions" / "test.npz")
        labels, predicted = saved.labels, saved.logits.argmax(axis=1)
        assert evaluation.count == len(labels) == 359
        assert evaluation.accuracy == sklearn.metrics.accuracy_score(labels, predicted)
        assert evaluation.loss == pytest.approx(
            sklearn.metrics.log_loss(labels, saved.probabilities()), rel=1e-9
        )
        assert np.array_equal(
            evaluation.confusion, sklearn.metrics.confusion_matrix(labels, predicted)
        )
        columns = sklearn.metrics.precision_recall_fscore_support(
            labels, predicted, zero_division=np.nan
        )
        for name, column in zip(("precision", "recall", "f1", "count"), columns, strict=True):
            own = [getattr(row, name) for row in evaluation.per_class]
            assert [math.nan if value is None else value for value in own] == pytest.approx(
                column.tolist(), nan_ok=True
            )

    def test_the_saved_predictions_say_where_they_come_from(
        self, run: sartor.Run, digits: Dataset
    ) -> None:
        for split in ("test", "val", "train"):
            evaluation = run.evaluate(split)
            saved = Predictions.load(run.path / "predictions" / f"{split}.npz")
            assert saved.split == evaluation.split == split
            assert np.array_equal(saved.indices, run.split().part(split))
            assert np.array_equal(saved.labels, digits.labels[saved.indices])
            assert saved.dataset_fingerprint == digits.fingerprint
            assert saved.classes == digits.classes == run.classes

    def test_validation_as_in_the_history(self, run: sartor.Run) -> None:
        last = run.evaluate("val", checkpoint="last")
        assert last.accuracy == run.history[-1]["val_accuracy"]
        assert last.loss == pytest.approx(run.history[-1]["val_loss"], rel=1e-5)
        best = run.evaluate("val", checkpoint="best")
        assert best.accuracy == max(row["val_accuracy"] for row in run.history)

    def test_unknown_split_and_checkpoint(self, run: sartor.Run) -> None:
        with pytest.raises(UsageError, match='There is no split "tets"'):
            run.evaluate("tets")
        with pytest.raises(UsageError, match='There is no checkpoint "first"'):
            run.evaluate(checkpoint="first")


class TestPredict:
    @pytest.fixture(scope="class")
    @classmethod
    def saved(cls, run: sartor.Run) -> Predictions:
        run.evaluate("test")
        return Predictions.load(run.path / "predictions" / "test.npz")

    def test_a_saved_test_image_is_judged_as_in_the_evaluation(
        self, run: sartor.Run, saved: Predictions, digits: Dataset, tmp_path: Path
    ) -> None:
        for row, index in enumerate(saved.indices[:40]):
            as_picture(digits.images[index]).save(tmp_path / f"{row}.png")
        answers = run.predict(tmp_path)
        assert [Path(answer.file).name for answer in answers] == [f"{n}.png" for n in range(40)]
        for row, answer in enumerate(answers):
            expected = saved.probabilities()[row]
            assert answer.label == digits.classes[saved.predicted()[row]]
            assert list(answer.probabilities) == list(digits.classes)
            assert list(answer.probabilities.values()) == pytest.approx(expected, abs=1e-6)
            assert answer.probability == max(answer.probabilities.values())
            assert sum(answer.probabilities.values()) == pytest.approx(1)

    def test_files_folders_patterns_and_pictures_in_memory(
        self, run: sartor.Run, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("in").mkdir()
        picture = as_picture(digits.images[3])
        picture.save("in/a.png")
        picture.convert("RGBA").save("in/b.png")
        (one,) = run.predict("in/a.png")
        answers = run.predict(["in/a.png", Path("in"), "in/*.png", picture])
        assert [answer.file for answer in answers] == [
            *("in/a.png", "in/a.png", "in/b.png", "in/a.png", "in/b.png"),
            "picture",
        ]
        assert {answer.label for answer in answers} == {one.label}
        assert sartor.predict(run.path, "in/a.png") == [one]

    def test_more_pictures_than_fit_at_once(self, run: sartor.Run, digits: Dataset) -> None:
        pictures = [as_picture(image) for image in digits.images[:300]]
        answers = run.predict(pictures)
        assert len(answers) == 300
        (alone,) = run.predict(pictures[299])
        assert answers[299].label == alone.label
        assert answers[299].probability == pytest.approx(alone.probability, abs=1e-6)

    def test_inverted(self, run: sartor.Run, digits: Dataset) -> None:
        light, dark = digits.images[3], 255 - digits.images[3]
        (one,), (two,) = (
            run.predict(as_picture(light)),
            run.predict(as_picture(dark), invert=True),
        )
        assert one.probabilities == two.probabilities

    def test_every_bad_file_is_named(self, run: sartor.Run, tmp_path: Path) -> None:
        (tmp_path / "text.png").write_text("hello")
        (tmp_path / "empty.png").touch()
        Image.new("L", (9, 9)).save(tmp_path / "good.png")
        with pytest.raises(PictureError) as caught:
            run.predict(tmp_path)
        assert "text.png" in caught.value.message
        assert "empty.png" in caught.value.message
        assert "good.png" not in caught.value.message

    def test_top(self, run: sartor.Run, digits: Dataset) -> None:
        (one,) = run.predict(as_picture(digits.images[3]))
        assert [name for name, _ in one.top(1)] == [one.label]
        probabilities = [p for _, p in one.top(10)]
        assert probabilities == sorted(one.probabilities.values(), reverse=True)
        assert list(one.to_json(2)["probabilities"]) == [name for name, _ in one.top(2)]


class TestRun:
    def test_repr(self, run: sartor.Run) -> None:
        accuracy = f"{run.history[-1]['val_accuracy']:.2%}"
        assert repr(run) == f"<Run {run.path}: finished, 3 epochs, val accuracy {accuracy}>"

    def test_html_for_notebooks(self, run: sartor.Run, tmp_path: Path) -> None:
        page = run._repr_html_()
        assert page.startswith("<code>&lt;Run ")
        assert '<img alt="loss and accuracy over epochs" src="data:image/png;base64,' in page
        empty = tmp_path / "<b>"
        empty.mkdir()
        (empty / "recipe.toml").touch()
        page = sartor.Run.open(empty)._repr_html_()
        assert "<b>" not in page
        assert "<img" not in page

    def test_plot(self, run: sartor.Run, tmp_path: Path) -> None:
        run.plot().savefig(tmp_path / "plot.png")
        with Image.open(tmp_path / "plot.png") as picture:
            assert picture.width > 100

    def test_open(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="There is no run at"):
            sartor.Run.open(tmp_path / "nowhere")
        with pytest.raises(RunError, match="is not a complete run"):
            sartor.Run.open(tmp_path)

    def test_network_has_the_weights(self, run: sartor.Run) -> None:
        network = run.network("last")
        assert not network.training
        kept = api.load_checkpoint(run.folder, "last").weights
        assert all(torch.equal(kept[name], tensor) for name, tensor in network.state_dict().items())


class TestOthers:
    def test_overfit_batch(self, digits: Dataset) -> None:
        said: list[int] = []
        result = sartor.overfit_batch(
            digits,
            model="mlp",
            batch_size=16,
            threads=1,
            said=lambda step, _loss, _accuracy: said.append(step),
        )
        assert result.learnt
        assert (result.images, result.accuracy) == (16, 1.0)
        assert said == list(range(1, result.steps + 1))
        assert result.loss < result.first_loss / 10

    def test_overfit_batch_of_a_network_that_cannot(self, digits: Dataset) -> None:
        class Deaf(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.bias = nn.Parameter(torch.zeros(10))

            def forward(self, images: torch.Tensor) -> torch.Tensor:
                return self.bias.repeat(len(images), 1)

        result = sartor.overfit_batch(digits, model=Deaf(), batch_size=16, threads=1)
        assert not result.learnt
        assert result.accuracy < 0.6

    def test_summary_counts_what_torch_counts(self, run: sartor.Run) -> None:
        network = run.network()
        expected = sum(parameter.numel() for parameter in network.parameters())
        for table in (
            sartor.summary(run),
            sartor.summary(network, "digits"),
            sartor.summary("lenet", "digits", dropout=0.2),
        ):
            assert table.parameters == expected

    def test_recipes_are_loaded_by_name_and_by_path(self, tmp_path: Path) -> None:
        recipe = sartor.load_recipe("fashion-cnn")
        (tmp_path / "mine.toml").write_text(recipe.to_toml())
        assert sartor.load_recipe(tmp_path / "mine.toml") == recipe

    def test_out_where_nothing_can_be_written(self, digits: Dataset, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(FileError, match="Cannot create the folder"):
            sartor.fit(digits, out=tmp_path / "file" / "run", **SMALL)
        with pytest.raises(RunError, match="is not empty"):
            sartor.fit(digits, out=tmp_path, **SMALL)


def test_a_learning_rate_is_suggested_without_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    before = network[1].weight.clone()
    found = sartor.find_learning_rate("digits", model=network, opt="adam")
    assert found.suggestion is not None
    assert 1e-4 < found.suggestion < 1
    _, curve, suggestion = found.plot().axes[0].lines
    assert curve.get_ydata().tolist() == list(found.smoothed)
    assert set(suggestion.get_xdata()) == {found.suggestion}
    assert torch.equal(before, network[1].weight)
    assert not list(tmp_path.iterdir())
