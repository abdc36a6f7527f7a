"""What is seen of a forward pass: modules and the functions between them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.inspection.recording import Call, Recording

from .networks import Tutorial


def calls_of(model: nn.Module, images: Tensor) -> list[Call]:
    recording = Recording(model)
    with recording.running():
        model(images)
    return recording.calls


def shown(calls: list[Call]) -> list[tuple[str, str]]:
    return [(call.name, call.operation) for call in calls]


def test_the_shapes_of_the_tutorial() -> None:
    calls = calls_of(Tutorial(), torch.zeros(1, 1, 28, 28))
    assert [(call.name, tuple(call.output.shape)) for call in calls] == [
        ("conv1", (1, 6, 24, 24)),
        ("relu", (1, 6, 24, 24)),
        ("max_pool2d", (1, 6, 12, 12)),
        ("conv2", (1, 12, 8, 8)),
        ("relu#2", (1, 12, 8, 8)),
        ("max_pool2d#2", (1, 12, 4, 4)),
        ("reshape", (1, 192)),
        ("fc1", (1, 120)),
        ("relu#3", (1, 120)),
        ("fc2", (1, 60)),
        ("relu#4", (1, 60)),
        ("out", (1, 10)),
    ]
    assert calls[0].operation == "Conv2d"
    assert calls[0].parameters == {"weight": "conv1.weight", "bias": "conv1.bias"}


def test_each_input_is_the_output_before_it() -> None:
    model, images = Tutorial(), torch.randn(2, 1, 28, 28)
    calls = calls_of(model, images)
    assert calls[0].input is not None
    assert torch.equal(calls[0].input, images)
    for before, after in pairwise(calls):
        assert after.input is not None
        assert torch.equal(after.input, before.output)
    assert torch.equal(calls[-1].output, model(images))


class InPlace(nn.Module):
    """Changes what it just made, by a module, by a function and by a method."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Linear(6, 6)
        self.last = nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        features = self.relu(self.first(images))
        features = self.second(features)
        features.add_(0.5)
        features = F.relu(features, inplace=True)
        logits: Tensor = self.last(features)
        return logits


def test_what_is_changed_in_place_later_was_recorded_before() -> None:
    model, images = InPlace(), torch.randn(5, 4)
    calls = {call.name: call for call in calls_of(model, images)}
    assert list(calls) == ["first", "relu", "second", "add_", "relu#2", "last"]
    first = images @ model.first.weight.T + model.first.bias
    torch.testing.assert_close(calls["first"].output, first)
    assert (calls["first"].output < 0).any()
    relu_input = calls["relu"].input
    assert relu_input is not None
    torch.testing.assert_close(relu_input, first)
    torch.testing.assert_close(calls["relu"].output, first.relu())
    second_input = calls["second"].input
    assert second_input is not None
    torch.testing.assert_close(second_input, first.relu())
    torch.testing.assert_close(calls["add_"].output, calls["second"].output + 0.5)
    torch.testing.assert_close(calls["relu#2"].output, calls["add_"].output.relu())


def test_gradients_in_place_are_those_before_the_change() -> None:
    model, images = InPlace(), torch.randn(5, 4)
    recording = Recording(model)
    with recording.running():
        model(images).sum().backward()
    calls = {call.name: call for call in recording.calls}
    at_last = model.last.weight.sum(0).expand(5, 6)
    before = at_last * (calls["add_"].output > 0)
    for name, expected in {"relu#2": at_last, "add_": before, "second": before}.items():
        (gradient,) = calls[name].gradients
        torch.testing.assert_close(gradient, expected)


class Blocks(nn.Module):
    """Functions inside a container, a layer used twice, and things not worth showing."""

    def __init__(self) -> None:
        super().__init__()
        self.block = _Residual()
        self.scale = nn.Parameter(torch.ones(4))
        self.spare = nn.Linear(4, 4)

    def forward(self, images: Tensor) -> Tensor:
        assert images.size(0) == len(images)
        noise = torch.zeros(4).relu()  # stems from no image
        mixed = self.block(self.block(images.contiguous())) * self.scale + noise
        return mixed.argmax(1).float() + mixed.T[0]


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, images: Tensor) -> Tensor:
        return images + F.gelu(self.linear(images))


def test_containers_repetitions_and_parameters_of_functions() -> None:
    calls = calls_of(Blocks(), torch.randn(4, 4))
    names = [call.name for call in calls]
    assert names[:7] == [
        "block.linear",
        "block.gelu",
        "block.add",
        "block.linear#2",
        "block.gelu#2",
        "block.add#2",
        "mul",
    ]
    assert calls[6].parameters == {"bias": "scale"}
    assert names[7:] == ["add", "T", "getitem", "add#2"]
    assert all(
        call.parameters.get("weight") == "block.linear.weight" for call in (calls[0], calls[3])
    )


class Leaf(nn.Module):
    """A layer of the user's own, in which no other is called."""

    def forward(self, images: Tensor) -> Tensor:
        return (images * 2).relu().flatten(1)


def test_a_layer_is_opaque_but_a_network_is_not() -> None:
    images = torch.randn(2, 3, 3)
    assert shown(calls_of(Leaf(), images)) == [
        ("mul", "mul"),
        ("relu", "relu"),
        ("flatten", "flatten"),
    ]
    assert shown(calls_of(nn.Sequential(Leaf()), images)) == [("0", "Leaf")]
    assert shown(calls_of(nn.Flatten(), images)) == [("Flatten", "Flatten")]


@pytest.mark.parametrize(
    ("model", "shape", "operations"),
    [
        (nn.LSTM(4, 3, batch_first=True), (2, 5, 4), ["LSTM"]),
        (nn.GRU(4, 3), (2, 5, 4), ["GRU"]),
        (nn.Identity(), (2, 4), ["Identity"]),
        (nn.Sequential(), (2, 4), ["Sequential"]),
    ],
)
def test_single_modules(model: nn.Module, shape: tuple[int, ...], operations: list[str]) -> None:
    calls = calls_of(model, torch.randn(*shape))
    assert [call.operation for call in calls] == operations


def test_what_computes_a_weight_is_no_layer() -> None:
    linear = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    model, images = nn.Sequential(nn.ReLU(), linear), torch.randn(2, 4)
    calls = calls_of(model, images)
    assert shown(calls) == [("0", "ReLU"), ("1", "ParametrizedLinear")]
    assert calls[1].weight is not None
    torch.testing.assert_close(calls[1].weight, linear.weight.detach())
    assert len(calls[1].parameters) == 3


def test_nothing_stays_behind() -> None:
    model = Tutorial()
    with pytest.raises(RuntimeError), Recording(model).running():
        model(torch.zeros(1, 3, 28, 28))
    modules: Any = list(model.modules())
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in modules)
    assert not torch.overrides._get_current_function_mode_stack()


def test_a_failure_is_placed() -> None:
    recording = Recording(nn.Sequential(nn.Linear(4, 3), nn.Linear(4, 2)))
    with pytest.raises(RuntimeError), recording.running():
        recording._model(torch.zeros(1, 4))
    assert recording.in_forward
    assert recording.place() == ' in layer "1" (Linear)'
