"""A trace against autograd and torch.optim by hand; and that nothing of it shows afterwards."""

from __future__ import annotations

import copy
import json
import math
import re
import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.data.feed.batches import Batch
from sartor.errors import ModelError, UsageError
from sartor.inspection.trace import Layer, ParameterTrace, Product, Statistics
from sartor.models.registry import build_model, names
from sartor.training.objective import Objective

from .networks import Tutorial, batch, plan, traced


@pytest.fixture(scope="module", autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


class TestAgainstPlainTorch:
    def test_loss_gradients_and_step(self) -> None:
        model, given = Tutorial(), batch()
        plain = copy.deepcopy(model)
        trace = traced(model, given)

        logits = plain(given.images)
        loss = F.cross_entropy(logits, given.labels)
        optimizer = torch.optim.Adam(plain.parameters(), lr=0.01)
        loss.backward()
        gradients = {name: one.grad for name, one in plain.named_parameters()}
        before = {name: one.detach().clone() for name, one in plain.named_parameters()}
        optimizer.step()
        after = F.cross_entropy(plain(given.images), given.labels)

        assert trace.step is not None
        assert trace.loss is not None
        torch.testing.assert_close(trace.output, logits.detach())
        torch.testing.assert_close(trace.loss.value, loss.item())
        assert trace.step.loss_before == trace.loss.value
        torch.testing.assert_close(trace.step.loss_after, after.item())
        for name, parameter in plain.named_parameters():
            found = trace.parameter(name)
            torch.testing.assert_close(found.gradient, gradients[name])
            torch.testing.assert_close(found.weight, before[name], rtol=0, atol=0)
            update = parameter.detach() - before[name]
            torch.testing.assert_close(found.update, update)
            ratio = float(update.norm() / before[name].norm())
            assert found.update_ratio == pytest.approx(ratio, rel=1e-4)
            assert found.gradient is not None
            assert found.gradient_norm == pytest.approx(float(found.gradient.norm()), rel=1e-5)

    def test_gradients_of_outputs(self) -> None:
        model, given = Tutorial(), batch()
        trace = traced(model, given)
        kept = {}
        plain = copy.deepcopy(model)
        for name in ("conv1", "fc2", "out"):
            module = plain.get_submodule(name)
            module.register_forward_hook(
                lambda _module, _inputs, output, name=name: (
                    kept.update({name: output}) or output.retain_grad()
                )
            )
        F.cross_entropy(plain(given.images), given.labels).backward()
        for name, output in kept.items():
            layer = trace[name]
            assert isinstance(layer, Layer)
            torch.testing.assert_close(layer.output, output.detach())
            torch.testing.assert_close(layer.gradient, output.grad)

    def test_at_the_logits_the_gradient_is_probability_minus_truth(self) -> None:
        given = batch(4)
        trace = traced(Tutorial(), given)
        assert trace.probabilities is not None
        expected = (trace.probabilities - F.one_hot(given.labels, 10)) / 4
        gradient = trace.layers[-1].gradient
        assert gradient is not None
        torch.testing.assert_close(gradient.double(), expected, rtol=1e-4, atol=1e-7)

    def test_the_loss_comes_from_the_true_class(self) -> None:
        given = batch(3)
        trace = traced(Tutorial(), given)
        assert trace.loss is not None
        assert trace.probabilities is not None
        each = -trace.probabilities[torch.arange(3), given.labels].log()
        torch.testing.assert_close(trace.loss.of_each.double(), each, rtol=1e-4, atol=1e-6)
        assert trace.loss.value == pytest.approx(float(each.mean()), rel=1e-5)
        probability = float(trace.probabilities[0, given.labels[0]])
        assert f"-ln {probability:.4g} = {float(each[0]):.4f}" in trace.loss_in_words()
        assert "ln 10 = 2.3026" in trace.loss_in_words()

    def test_clipping_is_seen_and_the_gradient_before_it_kept(self) -> None:
        model, given = Tutorial(), batch()
        free = traced(model, given, step=plan(opt="sgd"))
        cut = traced(model, given, step=plan(opt="sgd", clip_grad=0.01))
        assert free.step is not None
        assert cut.step is not None
        assert (free.step.clipped_to, cut.step.clipped_to) == (None, 0.01)
        assert cut.step.gradient_norm == pytest.approx(free.step.gradient_norm)
        for one, other in zip(free.parameters, cut.parameters, strict=True):
            assert one.gradient is not None
            torch.testing.assert_close(one.gradient, other.gradient)
        whole = math.sqrt(sum(one.update_norm**2 for one in cut.parameters))
        assert whole == pytest.approx(0.01 * 0.01, rel=1e-3)

    def test_smoothing_and_other_losses(self) -> None:
        model, given = Tutorial(), batch()
        logits = model(given.images).detach()
        smooth = traced(model, given, step=plan(smoothing=0.1))
        expected = F.cross_entropy(logits, given.labels, label_smoothing=0.1)
        assert smooth.loss is not None
        assert smooth.loss.value == pytest.approx(expected.item(), rel=1e-5)
        assert "smoothing 0.1" in smooth.loss_in_words()
        one_hot = F.one_hot(given.labels, 10).float()
        for loss, value in (
            ("mse", F.mse_loss(logits, one_hot)),
            ("bce", F.binary_cross_entropy_with_logits(logits, one_hot)),
        ):
            trace = traced(model, given, step=plan(loss=loss))
            assert trace.loss is not None
            assert trace.loss.value == pytest.approx(float(value), rel=1e-5)
            assert trace.loss_in_words()

    def test_accumulation_is_one_batch(self) -> None:
        model, given = Tutorial(), batch()
        one, parts = traced(model, given), traced(model, given, step=plan(grad_accum_steps=4))
        assert one.step is not None
        assert parts.step is not None
        assert len(one.layers) == len(parts.layers)
        assert parts.step.loss_after == one.step.loss_after


class TestTheSevenSteps:
    def test_one_step_of_adam_lowers_the_loss_of_its_batch(self) -> None:
        for count in (10, 100):
            trace = traced(Tutorial(), batch(count))
            assert trace.step is not None
            assert abs(trace.step.loss_before - math.log(10)) < 0.1
            assert trace.step.loss_after < trace.step.loss_before
            assert trace.step.count == count
            assert trace.predicted is not None
            assert trace.labels is not None
            right = int((trace.predicted == trace.labels).sum())
            assert trace.step.correct_before == right
            after = int((trace.step.logits_after.argmax(1) == trace.labels).sum())
            assert trace.step.correct_after == after

    def test_before_backward_no_gradient_then_one_of_the_weights_shape(self) -> None:
        model = Tutorial()
        assert all(one.grad is None for one in model.parameters())
        trace = traced(model)
        for parameter in trace.parameters:
            assert parameter.gradient is not None
            assert tuple(parameter.gradient.shape) == parameter.shape == parameter.weight.shape

    def test_one_image_through_an_untrained_network(self) -> None:
        trace = traced(Tutorial(), batch(1))
        assert trace.probabilities is not None
        assert trace.layers[-1].output_shape == (1, 10)
        assert (trace.probabilities - 0.1).abs().max() < 0.05
        assert float(trace.probabilities.sum()) == pytest.approx(1)


def state_of(model: nn.Module) -> dict[str, Any]:
    return {
        "tensors": {name: one.clone() for name, one in model.state_dict().items()},
        "modes": [one.training for one in model.modules()],
        "gradients": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "wanted": [p.requires_grad for p in model.parameters()],
        "random": torch.random.get_rng_state(),
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        "threads": torch.get_num_threads(),
    }


class Restless(nn.Module):
    """Statistics, dropout, frozen parts, modes of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.frozen_norm = nn.BatchNorm2d(1).eval().requires_grad_(False)
        self.dropout = nn.Dropout(0.5)
        self.linear = nn.Linear(784, 10)

    def forward(self, images: Tensor) -> Tensor:
        images = self.dropout(self.frozen_norm(self.norm(images)))
        logits: Tensor = self.linear(images.flatten(1) + torch.rand(1) * 0)
        return logits


@pytest.mark.parametrize("training_mode", [False, True])
@pytest.mark.parametrize("labelled", [False, True])
def test_the_network_is_as_before_bit_for_bit(training_mode: bool, labelled: bool) -> None:
    model, given = Restless(), batch()
    model.linear.weight.grad = torch.ones_like(model.linear.weight)
    before, images = state_of(model), given.images.clone()
    traced(model, given, training_mode=training_mode, labelled=labelled)
    torch.testing.assert_close(state_of(model), before, rtol=0, atol=0)
    assert torch.equal(given.images, images)
    assert not given.images.requires_grad


def test_a_failing_network_is_as_before_too() -> None:
    model = Restless()
    before = state_of(model)
    with pytest.raises(ModelError):
        traced(model, batch(4, 3, 8, 8))
    torch.testing.assert_close(state_of(model), before, rtol=0, atol=0)
    assert torch.backends.mha.get_fastpath_enabled()


class TestModes:
    def test_evaluation_lets_all_pass_and_training_drops(self) -> None:
        model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, 10))
        still, moving = traced(model), traced(model, training_mode=True)
        assert not (still.layers[1].output == 0).any()
        assert 0.4 < moving.layers[1].statistics.zeros < 0.6
        again = traced(model, training_mode=True)
        assert torch.equal(again.layers[1].output, moving.layers[1].output)
        other = traced(model, step=replace(plan(), step=7), training_mode=True)
        assert not torch.equal(other.layers[1].output, moving.layers[1].output)

    def test_the_step_is_judged_with_the_same_dropout(self) -> None:
        model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, 10))
        trace = traced(model, step=plan(lr=1e-12, opt="sgd"), training_mode=True)
        assert trace.step is not None
        torch.testing.assert_close(trace.step.logits_after, trace.output)

    def test_batch_statistics_need_a_batch(self) -> None:
        model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784), nn.Linear(784, 10))
        assert traced(model, batch(1)).step is not None
        assert traced(model, batch(2), training_mode=True).step is not None
        with pytest.raises(ModelError, match="trace a batch, or use evaluation mode"):
            traced(model, batch(1), training_mode=True)


class TestUnusualNetworks:
    @pytest.mark.parametrize("name", names())
    @pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
    def test_every_registered_model(self, name: str, shape: tuple[int, int, int]) -> None:
        model = build_model(name, input_shape=shape, num_classes=4, kwargs={})
        trace = traced(model, batch(2, *shape, classes=4))
        assert trace.step is not None
        assert trace.output_layer is not None
        assert trace.layers[-1].output_shape == (2, 4)
        torch.testing.assert_close(trace.layers[-1].output, trace.output)
        for parameter in trace.parameters:
            assert parameter.gradient is not None
            assert (parameter.update_ratio is None) == (parameter.weight_norm == 0)
        assert {name for layer in trace.layers for name in layer.parameters} == {
            parameter.name for parameter in trace.parameters
        }

    def test_shared_unused_and_frozen_parameters(self) -> None:
        class Odd(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.first = nn.Linear(784, 784, bias=False)
                self.twin = self.first
                self.tied = nn.Linear(784, 784, bias=False)
                self.tied.weight = self.first.weight
                self.frozen = nn.Linear(784, 784).requires_grad_(False)
                self.spare = nn.Linear(3, 3)
                self.last = nn.Linear(784, 10)

            def forward(self, images: Tensor) -> Tensor:
                features = self.twin(self.first(images.flatten(1)))
                logits: Tensor = self.last(self.frozen(self.tied(features)))
                return logits

        trace = traced(Odd())
        shared = trace["tied.weight"]
        assert isinstance(shared, ParameterTrace)
        assert (shared.name, shared.also) == ("first.weight", ("twin.weight", "tied.weight"))
        names_of_layers = [layer.name for layer in trace.layers]
        assert names_of_layers == ["flatten", "first", "first#2", "tied", "frozen", "last"]
        assert trace.layers[3].parameters == ("first.weight",)
        frozen, spare = trace.parameter("frozen.weight"), trace.parameter("spare.weight")
        assert (frozen.trainable, frozen.gradient, frozen.update_norm) == (False, None, 0)
        assert (spare.trainable, spare.gradient, spare.update_norm) == (True, None, 0)
        assert trace.layers[4].gradient is not None, "it passes through what is frozen"

    def test_recurrent_and_attention(self) -> None:
        class Recurrent(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.lstm = nn.LSTM(28, 12, num_layers=2, batch_first=True)
                layer = nn.TransformerEncoderLayer(12, 2, 16, batch_first=True)
                self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
                self.head = nn.Linear(12, 10)

            def forward(self, images: Tensor) -> Tensor:
                features, _ = self.lstm(images.squeeze(1))
                logits: Tensor = self.head(self.encoder(features)[:, -1])
                return logits

        trace = traced(Recurrent(), batch(3))
        operations = [layer.operation for layer in trace.layers]
        assert operations[:2] == ["squeeze", "LSTM"]
        assert operations.count("MultiheadAttention") == 2
        assert trace["lstm"].gradient is not None
        assert all(parameter.gradient is not None for parameter in trace.parameters)
        assert len(json.dumps(trace.to_json())) > 1000

    def test_a_frozen_network_still_has_gradients_at_its_outputs(self) -> None:
        trace = traced(Tutorial().requires_grad_(False))
        assert trace.step is not None
        assert trace.step.loss_after == trace.step.loss_before
        assert all(layer.gradient is not None for layer in trace.layers)

    def test_without_a_label_forward_alone_and_any_output(self) -> None:
        trace = traced(Tutorial(), labelled=False)
        assert (trace.loss, trace.step, trace.labels) == (None, None, None)
        assert all(layer.gradient is None for layer in trace.layers)
        assert trace.probabilities is not None
        picture = traced(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh()), labelled=False)
        assert (picture.probabilities, picture.predicted) == (None, None)
        assert picture.layers[0].output_shape == (20, 2, 26, 26)

    def test_bfloat16(self) -> None:
        trace = traced(Tutorial(), step=plan(amp_dtype="bfloat16"))
        assert trace.layers[0].output.dtype == torch.bfloat16
        assert math.isfinite(trace.layers[0].statistics.mean)
        assert trace.step is not None
        assert trace.step.loss_after < trace.step.loss_before


class TestRefusals:
    @pytest.mark.parametrize(
        ("model", "sentence", "hint"),
        [
            (nn.Sequential(nn.Flatten(), nn.Linear(100, 10)), 'in layer "1"', "size and channels"),
            (
                Tutorial().double(),
                "should be the same",
                r"weights are float64, .* call model.float\(\)",
            ),
            (nn.LSTM(28, 3), "cannot take images", "size and channels"),
            (nn.Sequential(nn.Flatten(2), nn.LSTM(784, 3)), "gives a tuple", "only the logits"),
            (nn.Conv2d(1, 2, 3), r"the shape \(20, 2, 26, 26\)", "one output per class"),
            (nn.Sequential(nn.Flatten(), nn.Linear(784, 5)), "a label 9", "Number the classes"),
        ],
    )
    def test_networks_that_do_not_fit(self, model: nn.Module, sentence: str, hint: str) -> None:
        with pytest.raises(ModelError, match=sentence) as caught:
            traced(model)
        assert "\n" not in str(caught.value)
        assert re.search(hint, caught.value.hint)

    def test_no_way_back(self) -> None:
        class Cut(Tutorial):
            def forward(self, images: Tensor) -> Tensor:
                return super().forward(images).detach()

        with pytest.raises(ModelError, match="gradient cannot be computed") as caught:
            traced(Cut())
        assert "detach" in caught.value.hint

    def test_a_lazy_layer(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            model = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
        with pytest.raises(ModelError, match=r"1\.weight has no shape yet"):
            traced(model)

    def test_a_compiled_network(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            model = torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)))
        with pytest.raises(ModelError, match="TorchScript"):
            traced(model)

    def test_what_cannot_be_copied(self) -> None:
        model = Tutorial()
        model.kept = model(torch.zeros(1, 1, 28, 28))
        with pytest.raises(ModelError, match="cannot be copied"):
            traced(model)


class TestValues:
    def test_a_linear_layer_as_a_product(self) -> None:
        weights = torch.tensor([[1.0, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5, 6]])
        vector = torch.tensor([1.0, 2, 3, 4])
        product = Product(weights=weights, vector=vector)
        assert product.result.tolist() == [30, 40, 50]
        assert repr(product).splitlines()[0] == "1*1 + 2*2 + 3*3 + 4*4 = 30"

        layer = nn.Linear(4, 3)
        with torch.no_grad():
            layer.weight.copy_(weights)
        given = Batch(vector[None], torch.tensor([0]))
        found = traced(layer, given).layers[0].as_product()
        expected = torch.tensor([30.0, 40, 50]) + layer.bias.detach()
        torch.testing.assert_close(found.result, expected)
        torch.testing.assert_close(found.terms.sum(1), torch.tensor([30.0, 40, 50]))
        assert repr(found).count("\n") == 2

    def test_what_is_no_product_says_so(self) -> None:
        with pytest.raises(UsageError, match=r"conv1 .* is not a matrix-vector product"):
            traced(Tutorial()).layers[0].as_product()

    def test_statistics(self) -> None:
        values = torch.tensor([[[0.0, 0], [1, -3]], [[0, 0], [0, 2]]])[..., None]
        found = Statistics.of(values)
        assert (found.mean, found.lowest, found.highest) == (0, -3, 2)
        assert found.std == pytest.approx(float(values.std(correction=0)))
        assert found.zeros == 5 / 8
        assert (found.units, found.silent_units) == (2, 1)
        assert not Statistics.of(torch.tensor([[1.0, math.nan]])).finite
        assert Statistics.of(torch.tensor(2.0)).units == 1

    def test_by_name_and_by_number(self) -> None:
        trace = traced(Tutorial())
        assert trace["conv2"] is trace.layers[3]
        assert trace["out.bias"] is trace.parameters[-1]
        assert trace.layers[2].output.device.type == "cpu"
        assert not trace.layers[2].output.requires_grad
        with pytest.raises(KeyError, match="did you mean"):
            trace["conv3"]

    def test_what_a_prompt_shows_is_a_line(self) -> None:
        trace = traced(Tutorial())
        for one in (trace, trace.layers[0], trace.parameters[0], trace.loss, trace.step):
            assert "\n" not in repr(one)
            assert len(repr(one)) < 160
        assert "(20, 1, 28, 28) -> (20, 6, 24, 24)" in repr(trace.layers[0])

    def test_json_holds_all_but_the_tensors(self) -> None:
        document = traced(Tutorial(), batch(2)).to_json()
        assert json.loads(json.dumps(document, allow_nan=False)) == document
        assert [layer["name"] for layer in document["layers"]][:2] == ["conv1", "relu"]
        assert len(document["answers"]) == 2
        assert document["step"]["loss_before"] == document["loss"]["value"]


def test_class_weights_are_in_the_loss_and_named() -> None:
    model, given = Tutorial(), batch()
    weights = torch.linspace(0.1, 2, 10)
    chosen = replace(plan(), objective=Objective(loss="cross-entropy", class_weights=weights))
    trace = traced(model, given, step=chosen)
    expected = F.cross_entropy(model(given.images), given.labels, weight=weights)
    assert trace.loss is not None
    assert trace.loss.value == pytest.approx(expected.item(), rel=1e-5)
    assert "class weights" in trace.loss_in_words()
