"""`sartor.trace`: runs, models and networks; images by number, in batches, as tensors."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import sartor
from sartor.data.dataset import Dataset
from sartor.errors import SartorWarning, UsageError
from sartor.training.optim import Optimizer
from sartor.training.schedule import learning_rate


@pytest.fixture(scope="module")
def run(trained: Path) -> sartor.Run:
    return sartor.Run.open(trained)


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


class TestRuns:
    def test_the_answer_is_that_of_predict(self, run: sartor.Run) -> None:
        data = run.dataset()
        for number in (0, 1700):
            trace = sartor.trace(run, image=number)
            assert trace.about.indices == (number,)
            assert trace.about.pixels is not None
            np.testing.assert_array_equal(trace.about.pixels[0], data[number].image)
            from sartor.data.pictures.preprocess import as_picture

            picture = as_picture(data[number].image)
            (predicted,) = run.predict(picture, calibrated=False)
            assert trace.probabilities is not None
            shares = list(predicted.probabilities.values())
            np.testing.assert_allclose(trace.probabilities[0], shares, rtol=1e-5)

    def test_an_image_says_its_split_and_a_split_counts_for_itself(self, run: sartor.Run) -> None:
        split = run.split()
        for part in ("train", "val", "test"):
            trace = sartor.trace(run, split=part, image=7)
            index = int(split.part(part)[7])
            assert (trace.about.indices, trace.about.split) == ((index,), part)
            assert sartor.trace(run, image=index).about.split == part

    def test_the_step_is_the_next_one_of_training(self, tmp_path: Path) -> None:
        """At the last checkpoint, with the optimizer's memory and the schedule's learning rate."""
        out = tmp_path / "run"
        settings: dict[str, Any] = {"opt": "sgd", "momentum": 0.9, "threads": 1, "val_fraction": 0}
        short = sartor.fit("digits", model="linear", epochs=1, out=out, **settings)
        text = short.folder.recipe_path.read_text().replace("epochs = 1\n", "epochs = 2\n")
        short.folder.recipe_path.write_text(text)
        kept = sartor.api.load_checkpoint(short.folder, "last")
        short = sartor.Run.open(out, trust=True)
        with pytest.warns(SartorWarning):
            trace = sartor.trace(short, batch=32, checkpoint="last")
        assert trace.step is not None
        training = short.recipe.training
        steps = len(short.split().train) // 64 + 1
        assert kept.progress.step == steps
        assert trace.step.learning_rate == learning_rate(training, steps, steps)

        plain = short.network("last")
        optimizer = Optimizer(plain, training)
        optimizer.load(kept.optimizer)
        assert trace.labels is not None
        F.cross_entropy(plain(trace.images), trace.labels).backward()
        before = {name: one.detach().clone() for name, one in plain.named_parameters()}
        optimizer.step(trace.step.learning_rate)
        for name, parameter in plain.named_parameters():
            expected = parameter.detach() - before[name]
            torch.testing.assert_close(trace.parameter(name).update, expected)

    def test_notes_say_what_is_not_as_in_training(self, run: sartor.Run) -> None:
        best = sartor.trace(run, checkpoint="best")
        last = sartor.trace(run, checkpoint="last")
        assert best.step is not None
        assert "schedule" in " ".join(last.about.notes)
        assert last.step is not None
        assert last.step.learning_rate == run.recipe.training.lr
        assert sartor.trace(run, lr=0.5).step.learning_rate == 0.5  # type: ignore[union-attr]
        changed = sartor.trace(run, checkpoint="last", opt="rmsprop")
        assert "rmsprop begins afresh" in " ".join(changed.about.notes)

    def test_untrained_is_the_network_that_training_began_with(self, run: sartor.Run) -> None:
        trace = sartor.trace(run, untrained=True, batch=64)
        assert trace.about.untrained
        assert trace.loss is not None
        assert abs(trace.loss.value - 2.303) < 0.2
        assert run.recipe.training.seed == 3
        again = sartor.trace("lenet", seed=3, data="digits", model_kwargs={"dropout": 0.2})
        torch.testing.assert_close(
            trace.parameters[0].weight, again.parameters[0].weight, rtol=0, atol=0
        )

    def test_a_batch_is_the_first_of_training(self, run: sartor.Run) -> None:
        from sartor.data.feed.order import epoch_order

        train = run.split().train
        trace = sartor.trace(run, batch=10)
        expected = train[epoch_order(len(train), 3, 0)][:10]
        assert trace.about.indices == tuple(expected.tolist())
        assert trace.labels is not None
        assert trace.labels.tolist() == run.dataset().labels[expected].tolist()
        val = sartor.trace(run, batch=3, split="val")
        assert val.about.indices == tuple(run.split().val[:3].tolist())

    def test_nothing_in_the_run_changes(self, run_copy: Path) -> None:
        before = {path: path.read_bytes() for path in run_copy.rglob("*") if path.is_file()}
        sartor.Run.open(run_copy).trace(image=3)
        after = {path: path.read_bytes() for path in run_copy.rglob("*") if path.is_file()}
        # But that a test image was looked at is kept.
        looks = run_copy / "looks.jsonl"
        assert after | {looks: b""} == before | {looks: b""}

    def test_a_run_of_an_object_needs_the_object(self, tmp_path: Path) -> None:
        model = network()
        out = tmp_path / "run"
        made = sartor.fit("digits", model=model, epochs=1, threads=1, out=out)
        opened = sartor.Run.open(made.path)
        before = copy.deepcopy(model.state_dict())
        trace = sartor.trace(opened, model=model, image=0)
        assert [layer.operation for layer in trace.layers] == [
            "Flatten",
            "Linear",
            "ReLU",
            "Linear",
        ]
        torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
        with pytest.raises(UsageError, match=r"first weights .* are not kept"):
            sartor.trace(opened, model=model, untrained=True)


class TestNetworks:
    def test_a_registered_model_with_a_recipe(self) -> None:
        trace = sartor.trace("mlp", data="digits", recipe="mnist-mlp", image=2)
        assert trace.step is not None
        assert (trace.step.optimizer, trace.step.learning_rate) == ("sgd", 0.01)
        assert len(trace.images) == 1

    def test_a_module_on_a_dataset_stays_as_it_is(self) -> None:
        model = network()
        before = copy.deepcopy(model.state_dict())
        strides = [one.stride() for one in model.parameters()]
        trace = sartor.trace(model, data="digits", batch=16)
        torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
        assert strides == [one.stride() for one in model.parameters()]
        torch.testing.assert_close(trace.parameters[0].weight, before["1.weight"])
        assert trace.about.network == "Sequential"

    def test_a_dataset_of_ones_own(self) -> None:
        images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
        data = sartor.Dataset(images, np.arange(40) % 2, classes=["cat", "dog"])
        trace = sartor.trace("lenet", data=data, image=1)
        assert trace.classes == ("cat", "dog")
        assert tuple(trace.images.shape) == (1, 3, 8, 8)

    def test_tensors(self) -> None:
        model = network()
        images, labels = torch.randn(5, 1, 8, 8), torch.tensor([0, 1, 2, 3, 9])
        trace = sartor.trace(model, images, labels, opt="sgd", lr=0.1)
        assert trace.loss is not None
        expected = F.cross_entropy(model(images), labels)
        assert trace.loss.value == pytest.approx(expected.item(), rel=1e-5)
        assert trace.classes == tuple("0123456789")
        assert isinstance(trace["1"], type(trace.layers[0]))
        assert trace.layers[2].output.shape == (5, 16)
        forward = sartor.trace(model, images)
        assert forward.step is None

    def test_what_tensors_must_be(self) -> None:
        model, images = network(), torch.randn(5, 1, 8, 8)
        wrong: list[tuple[Any, Any, str]] = [
            (images[0, 0, 0], None, "must be a batch"),
            ((images * 255).to(torch.uint8), None, "must be a batch of floats"),
            (images, torch.zeros(4, dtype=torch.int64), "need as many labels"),
            (images, torch.zeros(5), "need as many labels"),
        ]
        for given, labels, sentence in wrong:
            with pytest.raises(UsageError, match=sentence):
                sartor.trace(model, given, labels)
        with pytest.raises(UsageError, match="need a network as an object"):
            sartor.trace("lenet", images)
        with pytest.raises(UsageError, match="balance"):
            sartor.trace(model, images, class_weights="balanced")


def test_why_this_answer(run: sartor.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    traced = sartor.trace(run, image=5)
    [explained] = sartor.explain(run, 5)
    assert traced.evidence == pytest.approx(explained.map)
    assert f'alt="evidence for {explained.label}"' in traced.page()
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    without = sartor.trace(run, image=5)
    assert without.evidence is None
    assert "Why this answer" not in without.page()


def test_ways_to_show_it(run: sartor.Run, tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    trace = run.trace(image=3)
    assert isinstance(trace, sartor.Trace)
    assert isinstance(trace.plot(), Figure)
    path = trace.save(tmp_path / "page.html")
    assert path.read_text("utf-8") == trace.page()
    with pytest.raises(UsageError, match=r"page\.txt"):
        trace.save(tmp_path / "page.txt")
    assert trace._repr_html_().count("<img") == 2 * len(trace.layers)
    assert repr(trace).startswith("<Trace of image 3 of digits")


def test_what_predict_says_stands_beside_the_networks_own_probabilities(
    trained: Path, digits: Dataset
) -> None:
    run = sartor.Run.open(trained)
    traced = sartor.trace(run, image=0, split="val")
    index = traced.about.indices[0]  # type: ignore[index]
    predictor = sartor.Predictor(trained)
    assert predictor.temperature != 1
    (calibrated,) = predictor.probabilities(digits.images[index : index + 1])
    best = int(calibrated.argmax())
    note = traced.about.notes[-1]
    assert f"temperature {predictor.temperature:.3f}" in note
    assert f"{digits.classes[best]} then has {calibrated[best]:.2%}" in note
    others = [sartor.trace(run, image=0, untrained=True), sartor.trace("linear", image=0)]
    for other in (*others, sartor.trace(run, image=0, training_mode=True)):
        assert "temperature" not in " ".join(other.about.notes)
