"""Chains without autograd: every layer against autograd, and what is not a chain."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sartor.errors import RecipeError
from sartor.models.dropout import Dropout
from sartor.training.engines import kernels, updates
from sartor.training.engines.direct import Chain, chain_of
from sartor.training.engines.pooled import PooledConvolution, can_be_pooled
from sartor.training.job import Job
from sartor.training.loop import train
from sartor.training.objective import Objective
from sartor.training.settings import TrainingSettings
from sartor.training.state import Progress

MakeJob = Callable[..., Job]
SINGLE = TrainingSettings(amp_dtype="float32", engine="direct")
ONEDNN = TrainingSettings(amp_dtype="float32", engine="onednn")
CLASSES = 4


def head(features: int) -> list[nn.Module]:
    return [nn.Flatten(), nn.Linear(features, CLASSES)]


CHAINS: dict[str, Callable[[], nn.Module]] = {
    "a single layer": lambda: nn.Sequential(nn.Flatten(), nn.Linear(2 * 9 * 8, CLASSES)),
    "chains in chains": lambda: nn.Sequential(
        nn.Sequential(nn.Flatten(), nn.Linear(144, 7, bias=False), nn.ReLU(inplace=True)),
        nn.Sequential(nn.Linear(7, 6), Dropout(0.3), nn.Linear(6, CLASSES)),
    ),
    "dropout and ReLU on images": lambda: nn.Sequential(Dropout(0.2), nn.ReLU(), *head(144)),
    "two stages": lambda: nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(5, 3, (2, 1), bias=False),
        nn.MaxPool2d((1, 2)),
        nn.ReLU(),
        *head(3 * 3 * 2),
    ),
    "a large kernel and an odd rest": lambda: nn.Sequential(
        nn.Conv2d(2, 3, (4, 5), padding=(0, 1), bias=False), nn.MaxPool2d((2, 2)), *head(3 * 3 * 3)
    ),
    "many channels": lambda: nn.Sequential(
        nn.Conv2d(2, 16, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(16, 17, 2, groups=1, dilation=2),
        nn.MaxPool2d(2, stride=1, padding=1),
        *head(17 * 3 * 2),
    ),
    "grouped": lambda: nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), *head(4 * 7 * 6)),
    "nothing trained at first": lambda: frozen(
        nn.Sequential(nn.Conv2d(2, 4, 3), nn.MaxPool2d(2), nn.ReLU(), *head(4 * 3 * 3)), "0.weight"
    ),
    "frozen below": lambda: frozen(
        nn.Sequential(nn.Flatten(), nn.Linear(144, 8), nn.ReLU(), nn.Linear(8, CLASSES)),
        "1.weight",
        "1.bias",
    ),
    "frozen bias and middle": lambda: frozen(
        nn.Sequential(
            nn.Conv2d(2, 4, 2), nn.Conv2d(4, 4, 2), nn.Flatten(), nn.Linear(4 * 7 * 6, CLASSES)
        ),
        "0.bias",
        "1.weight",
        "3.bias",
    ),
}
OBJECTIVES = {
    "plain": Objective(loss="cross-entropy"),
    "smoothed": Objective(loss="cross-entropy", smoothing=0.1),
    "weighted": Objective(loss="cross-entropy", class_weights=torch.tensor([1.0, 2.0, 0.5, 1.0])),
    "mse": Objective(loss="mse"),
    "bce": Objective(loss="bce"),
}


def frozen(network: nn.Module, *names: str) -> nn.Module:
    for name in names:
        network.get_parameter(name).requires_grad_(False)
    return network


def network_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    return CHAINS[name]()


def images(count: int = 6) -> Tensor:
    """With constant areas, where many places under a pooling window are equal."""
    found = torch.rand(count, 2, 9, 8, generator=torch.Generator().manual_seed(1))
    found[:, :, 3:] = 0.5
    return found


def labels(count: int = 6) -> Tensor:
    return torch.arange(count) % CLASSES


def chain(network: nn.Module, settings: TrainingSettings = SINGLE) -> Chain:
    found = chain_of(network, settings)
    assert found is not None
    return found


def by_autograd(network: nn.Module, objective: Objective, truth: Tensor) -> list[Tensor | None]:
    torch.manual_seed(2)
    logits = network(images())
    loss = objective.sum(logits, truth)
    torch.autograd.backward(loss, torch.tensor(0.25))
    return [loss, logits, *(parameter.grad for parameter in network.parameters())]


def directly(
    network: nn.Module,
    objective: Objective,
    truth: Tensor,
    settings: TrainingSettings = SINGLE,
) -> list[Tensor | None]:
    torch.manual_seed(2)
    given = images()
    loss, logits = chain(network, settings)(objective, given, truth, torch.tensor(0.25))
    assert torch.equal(given, images()), "the images stay as they are"
    return [loss, logits, *(parameter.grad for parameter in network.parameters())]


def assert_same(found: list[Tensor | None], expected: list[Tensor | None]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("settings", [SINGLE, ONEDNN], ids=["direct", "onednn"])
@pytest.mark.parametrize("name", CHAINS)
def test_results_and_gradients_are_those_of_autograd(
    name: str,
    settings: TrainingSettings,
    layout: torch.memory_format,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernels, "FEWEST_PRODUCTS", 1)
    network = network_of(name).to(memory_format=layout)  # type: ignore[call-overload]
    ours = copy.deepcopy(network)
    objective = OBJECTIVES["plain"]
    found = directly(ours, objective, labels(), settings)
    assert_same(found, by_autograd(network, objective, labels()))
    for parameter in ours.parameters():
        assert parameter.grad is None or parameter.grad.stride() == parameter.stride()


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_every_loss(objective: Objective, mixed: bool) -> None:
    network = network_of("two stages")
    truth = labels()
    if mixed:
        truth = torch.softmax(torch.randn(6, CLASSES), 1)
    ours = copy.deepcopy(network)
    assert_same(directly(ours, objective, truth), by_autograd(network, objective, truth))


def test_gradients_are_added_to_those_that_are_there() -> None:
    once, twice = (network_of("two stages") for _ in range(2))
    directly(once, OBJECTIVES["plain"], labels())
    for _ in range(2):
        directly(twice, OBJECTIVES["plain"], labels())
    for one, other in zip(once.parameters(), twice.parameters(), strict=True):
        assert one.grad is not None
        torch.testing.assert_close(other.grad, 2 * one.grad)


def test_dropout_rests_where_it_is_told_to() -> None:
    network = network_of("chains in chains").eval()
    _, first, *_ = directly(network, OBJECTIVES["plain"], labels())
    torch.manual_seed(5)
    _, second, *_ = directly(network, OBJECTIVES["plain"], labels())
    assert first is not None
    assert second is not None
    assert torch.equal(first, second)
    assert torch.equal(first, network(images()))


@pytest.mark.parametrize(
    ("pool", "fits"),
    [
        (nn.MaxPool2d(2), True),
        (nn.MaxPool2d((2, 2), stride=2), True),
        (nn.MaxPool2d(3), False),
        (nn.MaxPool2d(2, stride=1), False),
        (nn.MaxPool2d(2, padding=1), False),
        (nn.MaxPool2d(2, dilation=2), False),
        (nn.MaxPool2d(2, ceil_mode=True), False),
        (nn.AvgPool2d(2), False),
    ],
    ids=str,
)
def test_pooling_that_is_part_of_the_convolution(pool: nn.Module, fits: bool) -> None:
    assert can_be_pooled([nn.Conv2d(1, 6, 5), pool]) == fits
    for other in (
        nn.Conv2d(1, 16, 5),
        nn.Conv2d(2, 6, 5, groups=2),
        nn.Conv2d(1, 6, 5, stride=2),
        nn.Conv2d(1, 6, 5, padding="same"),
        nn.Conv2d(1, 6, 5, padding=2, padding_mode="reflect"),
    ):
        assert not can_be_pooled([other, pool])
    assert not can_be_pooled([pool])


def test_of_equal_pixels_the_first_has_the_gradient() -> None:
    """As in PyTorch; a mean over them would not change the weights' gradient, but a sum would."""
    convolution = nn.Conv2d(1, 1, 1, bias=False)
    link = PooledConvolution(convolution)
    with torch.no_grad():
        link.forward(torch.ones(1, 1, 4, 4))
        of_maps = link._to_largest(torch.ones(1, 1, 2, 2))
    assert of_maps.sum((0, 2, 3)).tolist() == [4, 0, 0, 0]


class Own(nn.Linear):
    """A layer of a class of its own."""


def hooked(network: nn.Module) -> nn.Module:
    network[0].register_forward_hook(lambda *_: None)  # type: ignore[index]
    return network


def patched(network: nn.Module) -> nn.Module:
    layer = network[0]  # type: ignore[index]
    layer.forward = lambda values: 2 * type(layer).forward(layer, values)
    return network


def shared() -> nn.Module:
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.ReLU(), layer)


def with_tensor_hook() -> nn.Module:
    network = nn.Sequential(nn.Linear(4, 4))
    network[0].weight.register_hook(lambda gradient: 2 * gradient)  # type: ignore[union-attr,arg-type]
    return network


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)),
        nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)),
        nn.Sequential(Own(4, 4)),
        nn.Sequential(nn.Flatten(0), nn.Linear(4, 4)),
        nn.Sequential(nn.Conv2d(1, 2, 3, padding="same")),
        nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular")),
        nn.Sequential(nn.Linear(4, 4).double()),
        nn.Sequential(nn.Linear(4, 4, device="meta")),
        hooked(nn.Sequential(nn.Linear(4, 4))),
        patched(nn.Sequential(nn.Linear(4, 4))),
        with_tensor_hook(),
        shared(),
        nn.ModuleList([nn.Linear(4, 4)]),
    ],
    ids=lambda network: str(network)[:60].replace("\n", ""),
)
def test_what_is_no_chain(network: nn.Module) -> None:
    assert chain_of(network, SINGLE) is None


def test_other_precision_is_left_to_autograd() -> None:
    settings = TrainingSettings(amp_dtype="bfloat16", engine="direct")
    assert chain_of(network_of("two stages"), settings) is None


def test_auto_takes_it_and_others_say_why_not(make_job: MakeJob) -> None:
    job = make_job(model="mlp", engine="auto")
    assert job.settings.engine == "direct"
    assert isinstance(job.engine_update, updates.Direct)
    assert make_job(model="resnet8", engine="auto").settings.engine == "plain"
    with pytest.raises(RecipeError, match="one after the other"):
        make_job(model="resnet8", engine="direct")


@pytest.mark.parametrize("more", [{}, {"grad_accum_steps": 2, "clip_grad": 0.5}], ids=str)
def test_trains_as_the_plain_engine_does(make_job: MakeJob, more: dict[str, Any]) -> None:
    found = []
    for name in ("plain", "direct"):
        job = make_job(model="lenet", engine=name, batch_size=8, epochs=3, opt="adam", **more)
        progress = Progress()
        for _ in train(job, progress, lambda: False):
            pass
        found.append((job.model.state_dict(), progress.history))
    for name, tensor in found[0][0].items():
        torch.testing.assert_close(found[1][0][name], tensor, rtol=1e-3, atol=1e-4)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        assert other["train_loss"] == pytest.approx(one["train_loss"], rel=1e-4)
