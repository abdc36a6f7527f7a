"""Every symptom: shown by a network that has the fault, and by none that has not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from sartor.data.feed.batches import Batch
from sartor.inspection.trace import Symptom, Trace
from sartor.models.backbones import BACKBONES
from sartor.models.registry import build_model, names

from .networks import Tutorial, batch, plan, traced


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def kinds(trace: Trace) -> list[str]:
    return [symptom.kind for symptom in trace.warnings]


def symptom(trace: Trace, kind: str) -> Symptom:
    (found,) = [one for one in trace.warnings if one.kind == kind]
    for sentence in (found.message, found.advice):
        assert sentence.endswith(".")
        assert sentence[0].isupper() or sentence.startswith(found.place)
    return found


def ending_with(*last: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10), *last)


class TestHealthy:
    @pytest.mark.parametrize("name", sorted(set(names()) - set(BACKBONES)))
    @pytest.mark.parametrize("count", [1, 64])
    @pytest.mark.parametrize("optimizer", [("adam", 0.002), ("sgd", 0.01)])
    def test_registered_models_show_nothing(
        self, name: str, count: int, optimizer: tuple[str, float]
    ) -> None:
        model = build_model(name, input_shape=(1, 28, 28), num_classes=10, kwargs={})
        opt, lr = optimizer
        trace = traced(model, batch(count), step=plan(lr=lr, opt=opt))
        assert trace.warnings == ()

    @pytest.mark.parametrize("loss", ["mse", "bce"])
    def test_other_losses(self, loss: str) -> None:
        model = build_model("lenet", input_shape=(1, 28, 28), num_classes=10, kwargs={})
        assert traced(model, step=plan(lr=0.002, loss=loss)).warnings == ()

    def test_the_tutorial(self) -> None:
        assert traced(Tutorial(), batch(100)).warnings == ()
        assert traced(Tutorial(), labelled=False).warnings == ()


class TestLossAtStart:
    def test_far_above(self) -> None:
        model = ending_with()
        with torch.no_grad():
            model[-1].weight.mul_(100)
        trace = traced(model)
        found = symptom(trace, "loss-at-start")
        assert "ln 10 = 2.303" in found.message
        assert found.message.startswith("The loss before training is ")
        unknown = symptom(traced(model, untrained=None), "loss-at-start")
        assert unknown.message.startswith("If this network is untrained: the loss is ")
        assert "loss-at-start" not in kinds(traced(model, untrained=False))

    def test_far_below_is_odd_only_where_nothing_is_trained(self) -> None:
        given = batch(8)

        class Cheat(nn.Module):
            """Gets the labels as its first pixel."""

            def __init__(self) -> None:
                super().__init__()
                self.scale = nn.Parameter(torch.tensor(9.0))

            def forward(self, images: Tensor) -> Tensor:
                classes = images[:, 0, 0, 0].round().long()
                return self.scale * torch.eye(10)[classes] + 0 * images[:, 0, 0, :10]

        given.images[:, 0, 0, 0] = given.labels.float()
        found = symptom(traced(Cheat(), given), "loss-at-start")
        assert "better than chance already" in found.advice
        assert "loss-at-start" not in kinds(traced(Cheat(), given, untrained=None))


class TestActivationBeforeLoss:
    @pytest.mark.parametrize(
        ("last", "loss", "words"),
        [
            (nn.Softmax(1), "cross-entropy", "ends with a softmax, and cross-entropy applies"),
            (nn.Sigmoid(), "cross-entropy", "ends with a sigmoid, and cross-entropy applies"),
            (nn.LogSoftmax(1), "cross-entropy", "takes a log-softmax, and cross-entropy takes"),
            (
                nn.Sigmoid(),
                "bce",
                "ends with a sigmoid, and binary cross-entropy applies its own sig",
            ),
        ],
    )
    def test_by_operation(self, last: nn.Module, loss: str, words: str) -> None:
        found = symptom(traced(ending_with(last), step=plan(loss=loss)), "softmax-before-loss")
        assert found.place == "4"
        assert words in found.message
        assert "return" in found.advice

    def test_by_function_and_by_value(self) -> None:
        class Function(nn.Module):
            def __init__(self, divide: bool) -> None:
                super().__init__()
                self.net, self.divide = ending_with(), divide

            def forward(self, images: Tensor) -> Tensor:
                logits = self.net(images)
                if self.divide:
                    shares = logits.exp()
                    return shares / shares.sum(1, keepdim=True)
                return logits.softmax(1)

        assert symptom(traced(Function(False)), "softmax-before-loss").place == "softmax"
        found = symptom(traced(Function(True)), "softmax-before-loss")
        assert "gives probabilities" in found.message

    def test_fine_for_squared_error(self) -> None:
        for last in (nn.Softmax(1), nn.Sigmoid()):
            trace = traced(ending_with(last), step=plan(loss="mse"))
            assert "softmax-before-loss" not in kinds(trace)

    def test_relu_before_the_loss(self) -> None:
        found = symptom(traced(ending_with(nn.ReLU())), "relu-before-loss")
        assert "cuts negative logits" in found.message


class TestDeadUnits:
    def dead(self, bias: float) -> nn.Module:
        model = ending_with()
        with torch.no_grad():
            model[1].bias[:20] = bias
        return model

    def test_units_that_are_silent_for_a_whole_batch(self) -> None:
        found = symptom(traced(self.dead(-100)), "dead-units")
        assert found.place == "2"
        count = traced(self.dead(-100)).layers[2].statistics.silent_units
        assert count >= 20
        assert f"{count} of 32 units of 2 are 0 for all 20 images" in found.message
        assert "dead-units" not in kinds(traced(self.dead(0)))

    def test_for_one_image_only_a_silent_layer_is_worth_a_word(self) -> None:
        assert kinds(traced(self.dead(-100), batch(1))) == []
        model = ending_with()
        with torch.no_grad():
            model[1].bias.fill_(-100)
        found = symptom(traced(model, batch(1)), "silent-layer")
        assert "silent for this image" in found.message
        assert "dead" in found.advice


class TestGradients:
    def deep(self, activation: type[nn.Module], gain: float) -> nn.Module:
        layers: list[nn.Module] = [nn.Flatten(), nn.Linear(784, 32), activation()]
        for _ in range(8):
            layers += [nn.Linear(32, 32), activation()]
        model = nn.Sequential(*layers, nn.Linear(32, 10))
        for module in model:
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=gain / math.sqrt(module.in_features))
        return model

    def test_vanishing(self) -> None:
        found = symptom(traced(self.deep(nn.Sigmoid, 1.0)), "vanishing-gradients")
        assert found.place == "1.weight"
        healthy = traced(self.deep(nn.ReLU, math.sqrt(2)))
        assert not {"vanishing-gradients", "exploding-gradients"} & set(kinds(healthy))

    def test_exploding(self) -> None:
        class Growing(nn.Module):
            """Its first layer's output is multiplied again and again."""

            def __init__(self, factor: float) -> None:
                super().__init__()
                self.first, self.last = nn.Linear(784, 10), nn.Linear(10, 10)
                self.factor = factor

            def forward(self, images: Tensor) -> Tensor:
                features = torch.tanh(self.first(images.flatten(1)) * self.factor)
                logits: Tensor = self.last(features)
                return logits

        with torch.no_grad():
            model = Growing(1e6)
            model.first.weight.mul_(1e-7)
            model.first.bias.mul_(1e-7)
        assert symptom(traced(model), "exploding-gradients").place == "first.weight"
        assert "exploding-gradients" not in kinds(traced(Growing(1.0)))

    def test_a_long_gradient(self) -> None:
        given = batch()
        large = Batch(given.images * 1e5, given.labels)
        trace = traced(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), large)
        assert "exploding-gradients" in kinds(trace)
        assert "input-scale" in kinds(trace)


class TestOutputNeverChanges:
    def test_frozen(self) -> None:
        model = ending_with()
        model[-1].requires_grad_(False)
        found = symptom(traced(model), "output-never-changes")
        assert (found.place, "frozen" in found.message) == ("3", True)

    def test_frozen_features_are_fine(self) -> None:
        model = ending_with()
        model[1].requires_grad_(False)
        assert traced(model).warnings == ()

    def test_no_gradient_gets_through(self) -> None:
        model = ending_with(nn.ReLU())
        with torch.no_grad():
            model[3].bias.fill_(-100)
        trace = traced(model)
        assert "exactly 0" in symptom(trace, "output-never-changes").message

    def test_no_learning_rate(self) -> None:
        trace = traced(ending_with(), step=plan(lr=0.0, opt="sgd"))
        assert "learning rate of 0" in symptom(trace, "output-never-changes").message


class TestUnused:
    def test_parameters_that_take_no_part(self) -> None:
        class Spare(Tutorial):
            def __init__(self) -> None:
                super().__init__()
                self.spare = nn.Linear(3, 3)

        found = symptom(traced(Spare()), "unused-parameters")
        assert found.place == "spare.weight"
        assert "spare.weight, spare.bias" in found.message

    def test_detached_features(self) -> None:
        class Detached(Tutorial):
            def forward(self, images: Tensor) -> Tensor:
                features = self.conv2(torch.relu(self.conv1(images)))
                pooled = nn.functional.adaptive_avg_pool2d(features, 4).flatten(1)
                logits: Tensor = self.out(self.fc2(self.fc1(pooled.detach())))
                return logits

        found = symptom(traced(Detached()), "unused-parameters")
        assert "conv1.weight and 3 others" in found.message


class TestUpdates:
    def test_too_large(self) -> None:
        found = symptom(traced(ending_with(), step=plan(lr=5.0)), "update-too-large")
        assert "Lower the learning rate, now 5." in found.advice

    def test_a_step_that_goes_too_far(self) -> None:
        found = symptom(traced(ending_with(), step=plan(lr=1.0)), "loss-rises")
        assert "now 1," in found.advice
        assert "loss-rises" not in kinds(traced(ending_with(), step=plan(lr=0.001)))

    def test_too_small(self) -> None:
        found = symptom(traced(ending_with(), step=plan(lr=1e-7)), "update-too-small")
        assert "now 1e-07" in found.advice

    def test_small_is_fine_where_all_is_known(self) -> None:
        model, given = ending_with(), batch(1)
        with torch.no_grad():
            model[-1].bias[given.labels] = 8.0
        trace = traced(model, given, step=plan(lr=1e-4, opt="sgd"), untrained=False)
        assert trace.warnings == ()


class TestNotFinite:
    def test_the_input(self) -> None:
        given = batch()
        given.images[0, 0, 3, 3] = math.nan
        trace = traced(ending_with(), given)
        assert symptom(trace, "not-finite").place == "input"

    def test_a_weight(self) -> None:
        model = ending_with()
        with torch.no_grad():
            model[3].weight[0, 0] = math.inf
        assert symptom(traced(model), "not-finite").place == "3.weight"

    def test_the_first_layer_that_breaks(self) -> None:
        class Logarithm(Tutorial):
            def forward(self, images: Tensor) -> Tensor:
                return super().forward(images).log()

        found = symptom(traced(Logarithm()), "not-finite")
        assert found.place == "log"

    def test_a_gradient(self) -> None:
        class Root(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.linear = nn.Linear(784, 10, bias=False)

            def forward(self, images: Tensor) -> Tensor:
                squares = self.linear(images.flatten(1)).square()
                logits: Tensor = (squares * 0).sqrt() + squares
                return logits

        assert symptom(traced(Root()), "not-finite").place == "linear.weight"


def test_the_gravest_comes_first() -> None:
    given = batch()
    broken = Batch(given.images * math.nan, given.labels)
    trace = traced(ending_with(nn.Softmax(1)), broken, step=replace(plan(), learning_rate=5.0))
    assert kinds(trace)[0] == "not-finite"
