"""The optimizers against those of `torch.optim`."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sartor.training.optim import Optimizer
from sartor.training.settings import TrainingSettings

STEPS = 20
CASES: list[tuple[dict[str, Any], type[torch.optim.Optimizer], dict[str, Any]]] = [
    ({"opt": "sgd"}, torch.optim.SGD, {}),
    ({"opt": "sgd", "weight_decay": 0.1}, torch.optim.SGD, {"weight_decay": 0.1}),
    ({"opt": "sgd", "momentum": 0.9}, torch.optim.SGD, {"momentum": 0.9}),
    (
        {"opt": "sgd", "momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
        torch.optim.SGD,
        {"momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
    ),
    ({"opt": "adam"}, torch.optim.Adam, {}),
    (
        {"opt": "adam", "betas": (0.8, 0.95), "weight_decay": 0.1},
        torch.optim.Adam,
        {"betas": (0.8, 0.95), "weight_decay": 0.1},
    ),
    ({"opt": "adamw"}, torch.optim.AdamW, {"weight_decay": 0.0}),
    ({"opt": "adamw", "weight_decay": 0.5}, torch.optim.AdamW, {"weight_decay": 0.5}),
    ({"opt": "rmsprop"}, torch.optim.RMSprop, {}),
    (
        {"opt": "rmsprop", "momentum": 0.7, "weight_decay": 0.1},
        torch.optim.RMSprop,
        {"momentum": 0.7, "weight_decay": 0.1},
    ),
]
FORGETFUL = ({"opt": "sgd"}, {"opt": "sgd", "weight_decay": 0.1})
IDS = [" ".join(f"{key}={value}" for key, value in case[0].items()) for case in CASES]
EVERY_CASE = pytest.mark.parametrize(("settings", "torchs", "options"), CASES, ids=IDS)


class Net(nn.Module):
    """Weights of several shapes; one part is used in every third step, one never, one is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.seldom = nn.Conv2d(8, 8, 3, padding=1)
        self.never = nn.Linear(4, 4)
        self.frozen = nn.Linear(8, 8)
        self.frozen.requires_grad_(False)
        self.head = nn.Linear(8, 5)
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, images: Tensor, step: int) -> Tensor:
        features = torch.relu(self.conv(images))
        if step % 3 == 1:
            features = features + self.seldom(features)
        return self.head(self.frozen(features.mean((2, 3)))) * self.scale


@pytest.fixture(params=["contiguous", "channels-last"])
def net(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    net = Net()
    if request.param == "channels-last":
        net = net.to(memory_format=torch.channels_last)
        assert not net.conv.weight.is_contiguous()
    return net


def gradients(net: nn.Module, steps: range) -> Iterator[int]:
    """Leave the gradients of a step in the network, from images that depend on the step alone."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        images = torch.randn(6, 3, 7, 7, generator=generator).to(net.head.weight.dtype)
        net.zero_grad(set_to_none=True)
        (net(images, step) ** 2).mean().backward()
        yield step


def rate(step: int) -> float:
    """Another learning rate every step."""
    return 0.01 * (1 + step % 4)


def trained_by_sartor(net: nn.Module, settings: dict[str, Any]) -> Optimizer:
    optimizer = Optimizer(net, TrainingSettings(**settings))
    for step in gradients(net, range(STEPS)):
        optimizer.step(rate(step))
    return optimizer


def trained_by_torch(net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for step in gradients(net, range(STEPS)):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.step()


@EVERY_CASE
def test_is_torchs_optimizer_bit_for_bit(
    net: nn.Module,
    settings: dict[str, Any],
    torchs: type[torch.optim.Optimizer],
    options: dict[str, Any],
) -> None:
    """With the same kernels: fused where torch has them."""
    other = deepcopy(net)
    trained_by_sartor(net, settings)
    fused = {} if torchs is torch.optim.RMSprop else {"fused": True}
    reference = torchs(trainable(other), lr=1.0, **options, **fused)
    if torchs is torch.optim.SGD and "momentum" in options:
        # Fused, torch's own fails where a parameter gets its first gradient after the others.
        for parameter in trainable(other):
            reference.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    trained_by_torch(other, reference)
    for (name, ours), theirs in zip(net.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs), name


@EVERY_CASE
def test_is_the_formula_that_torch_computes_step_by_step(
    net: nn.Module,
    settings: dict[str, Any],
    torchs: type[torch.optim.Optimizer],
    options: dict[str, Any],
) -> None:
    """In double precision, where the order of operations shows in no relevant digit."""
    net = net.double()
    other = deepcopy(net)
    before = deepcopy(net.state_dict())
    trained_by_sartor(net, settings)
    trained_by_torch(other, torchs(trainable(other), lr=1.0, **options, foreach=False))
    for (name, ours), theirs in zip(net.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
        moved = not name.startswith(("frozen", "never"))
        assert torch.equal(ours, before[name]) != moved


def trainable(net: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in net.parameters() if parameter.requires_grad]


class TestState:
    @pytest.mark.parametrize("settings", [case[0] for case in CASES], ids=IDS)
    def test_continues_midway_from_a_copy(self, net: nn.Module, settings: dict[str, Any]) -> None:
        straight = deepcopy(net)
        expected = trained_by_sartor(straight, settings).tensors
        first = Optimizer(net, TrainingSettings(**settings))
        for step in gradients(net, range(7)):
            first.step(rate(step))
        kept = {name: tensor.contiguous().clone() for name, tensor in first.tensors.items()}
        resumed = deepcopy(net)
        second = Optimizer(resumed, TrainingSettings(**settings))
        second.load(kept)
        for step in gradients(resumed, range(7, STEPS)):
            second.step(rate(step))
        assert all(map(torch.equal, straight.parameters(), resumed.parameters()))
        assert second.tensors.keys() == expected.keys()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in second.tensors.items())

    @pytest.mark.parametrize("settings", [case[0] for case in CASES if case[0] not in FORGETFUL])
    def test_matters(self, net: nn.Module, settings: dict[str, Any]) -> None:
        """The test above would show nothing if a fresh state did as well."""
        trained = trained_by_sartor(net, settings)
        other = deepcopy(net)
        fresh = Optimizer(other, TrainingSettings(**settings))
        for one, optimizer in [(net, trained), (other, fresh)]:
            for _ in gradients(one, range(1)):
                optimizer.step(0.01)
        assert not torch.equal(net.head.weight, other.head.weight)

    def test_names_what_it_belongs_to(self, net: nn.Module) -> None:
        tensors = Optimizer(net, TrainingSettings(opt="adam")).tensors
        assert {"mean.conv.weight", "square.head.bias", "steps.scale"} <= tensors.keys()
        assert not any("frozen" in name for name in tensors)

    def test_of_other_settings_is_refused(self, net: nn.Module) -> None:
        adam = Optimizer(net, TrainingSettings(opt="adam"))
        with pytest.raises(ValueError, match="differs in"):
            adam.load(Optimizer(net, TrainingSettings(opt="rmsprop")).tensors)

    def test_is_not_shared_with_what_it_was_loaded_from(self, net: nn.Module) -> None:
        """A checkpoint that training goes on from must stay what it was."""
        kept = {k: t.clone() for k, t in trained_by_sartor(net, {"opt": "adam"}).tensors.items()}
        before = {name: tensor.clone() for name, tensor in kept.items()}
        optimizer = Optimizer(net, TrainingSettings(opt="adam"))
        optimizer.load(kept)
        for step in gradients(net, range(3)):
            optimizer.step(rate(step))
        assert all(torch.equal(kept[name], tensor) for name, tensor in before.items())


def test_zero_grad_forgets() -> None:
    net = nn.Linear(2, 2)
    optimizer = Optimizer(net, TrainingSettings())
    net(torch.ones(1, 2)).sum().backward()
    optimizer.zero_grad()
    assert net.weight.grad is None


@pytest.mark.parametrize("opt", ["sgd", "adam", "adamw", "rmsprop"])
def test_a_step_without_any_gradient_changes_nothing(opt: str) -> None:
    net = nn.Linear(2, 2)
    before = deepcopy(net.state_dict())
    Optimizer(net, TrainingSettings(opt=opt, weight_decay=0.5)).step(0.1)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


class Normed(nn.Module):
    """Weights, biases and norms of every usual shape."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.batch = nn.BatchNorm2d(4)
        self.layer = nn.LayerNorm((4, 5, 5))
        self.head = nn.Linear(4, 2)
        self.bias = nn.Parameter(torch.ones(1, 2))

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layer(self.batch(self.conv(images))).mean((2, 3))
        outputs: Tensor = self.head(features) + self.bias
        return outputs


class TestDecay:
    @pytest.mark.parametrize("opt", ["sgd", "adam", "adamw", "rmsprop"])
    def test_acts_on_weights_as_torchs_with_two_groups(self, opt: str) -> None:
        torch.manual_seed(0)
        # With statistics of the batch, the gradients of some biases would be 0 but for rounding.
        ours, theirs = Normed().eval(), Normed().eval()
        theirs.load_state_dict(ours.state_dict())
        settings = TrainingSettings(opt=opt, weight_decay=0.3, weight_decay_on="weights")
        weights = {"conv.weight", "head.weight"}
        named = dict(theirs.named_parameters())
        groups: list[dict[str, Any]] = [
            {"params": [named[name] for name in weights]},
            {"params": [named[name] for name in set(named) - weights], "weight_decay": 0.0},
        ]
        kinds: dict[str, Any] = {
            "sgd": torch.optim.SGD,
            "adam": torch.optim.Adam,
            "adamw": torch.optim.AdamW,
            "rmsprop": torch.optim.RMSprop,
        }
        optimizer = Optimizer(ours, settings)
        oracle = kinds[opt](groups, lr=0.01, weight_decay=0.3)
        for step in range(5):
            images = torch.randn(6, 3, 7, 7, generator=torch.Generator().manual_seed(step))
            for net in (ours, theirs):
                net.zero_grad()
                net(images).square().sum().backward()
            optimizer.step(0.01)
            oracle.step()
        for name, one in ours.named_parameters():
            torch.testing.assert_close(one, named[name])

    def test_without_any_changes_no_bit(self, net: nn.Module) -> None:
        ends = []
        for choice in ("auto", "weights", "all"):
            copy = deepcopy(net)
            optimizer = Optimizer(copy, TrainingSettings(weight_decay_on=choice))
            for _ in gradients(copy, range(3)):
                optimizer.step(0.01)
            ends.append(copy.state_dict())
        assert all(torch.equal(ends[0][k], end[k]) for end in ends[1:] for k in ends[0])

    def test_auto_is_that_of_runs_from_before_there_was_a_choice(self) -> None:
        torch.manual_seed(0)
        nets = {"auto": Normed(), "weights": Normed()}
        nets["weights"].load_state_dict(nets["auto"].state_dict())
        before = nets["auto"].head.bias.detach().clone()
        for choice, net in nets.items():
            net(torch.zeros(2, 3, 7, 7)).mul(0).sum().backward()
            settings = TrainingSettings(opt="sgd", weight_decay=0.5, weight_decay_on=choice)
            Optimizer(net, settings).step(0.1)
        assert torch.allclose(nets["auto"].head.bias, before * 0.95)
        assert torch.equal(nets["weights"].head.bias, before)
        assert torch.allclose(nets["weights"].head.weight, nets["auto"].head.weight)


def test_layer_decay_slows_early_parts_down() -> None:
    """One step of plain gradient descent is proportional to the part's rate."""
    images = torch.rand(8, 4, generator=torch.Generator().manual_seed(0))

    def moved(layer_decay: float) -> list[Tensor]:
        torch.manual_seed(1)
        network = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 4), nn.Linear(4, 3))
        before = [parameter.detach().clone() for parameter in network.parameters()]
        settings = TrainingSettings(opt="sgd", layer_decay=layer_decay)
        optimizer = Optimizer(network, settings)
        network(images).square().sum().backward()
        optimizer.step(0.01)
        after = network.parameters()
        return [one.detach() - two for one, two in zip(after, before, strict=True)]

    for number, (slow, even) in enumerate(zip(moved(0.5), moved(1.0), strict=True)):
        torch.testing.assert_close(slow, even * 0.5 ** (2 - number // 2), rtol=1e-4, atol=1e-7)
