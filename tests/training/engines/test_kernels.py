"""Linear layers by oneDNN against those of PyTorch, and what else they leave as it was."""

from __future__ import annotations

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.training.engines import kernels
from sartor.training.engines.kernels import OneDnnLinear

pytestmark = pytest.mark.skipif(not kernels.available(), reason="needs a PyTorch with oneDNN")
ROWS, INPUTS, OUTPUTS = 31, 17, 12


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the layer."""
    monkeypatch.setattr(kernels, "FEWEST_PRODUCTS", 1)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by an entry with every product that oneDNN computes."""
    calls: list[int] = []
    product = kernels._product

    def noted(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        calls.append(len(rows))
        return product(rows, weight, bias)

    monkeypatch.setattr(kernels, "_product", noted)
    return calls


def net(bias: bool = True) -> nn.Module:
    torch.manual_seed(0)
    first, last = nn.Linear(INPUTS, OUTPUTS, bias=bias), nn.Linear(OUTPUTS, 5, bias=bias)
    return nn.Sequential(first, nn.ReLU(), last)


def rows(count: int = ROWS) -> Tensor:
    return torch.randn(count, INPUTS, generator=torch.Generator().manual_seed(1))


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("transposed", [False, True], ids=["rows", "columns"])
@pytest.mark.parametrize("count", [0, 1, ROWS])
def test_results_and_gradients_are_those_of_torch(
    used: list[int], bias: bool, transposed: bool, count: int
) -> None:
    plain = net(bias)
    ours = copy.deepcopy(plain)
    assert kernels.apply_to(ours, ROWS) == 2
    found = []
    for one in (plain, ours):
        images = rows(count)
        images = images.t().contiguous().t() if transposed else images
        images.requires_grad_()
        logits = one(images)
        (logits**2).sum().backward()
        found.append([logits, images.grad, *(p.grad for p in one.parameters())])
    assert used or not count
    for expected, result in zip(*found, strict=True):
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("everywhere")
def test_only_the_gradients_that_are_asked_for_are_computed(used: list[int]) -> None:
    model = net()
    kernels.apply_to(model, ROWS)
    model[2].weight.requires_grad_(False)
    model(rows()).sum().backward()
    # Two layers forward; the inputs of the second and the weights of the first.
    assert len(used) == 4
    assert model[2].weight.grad is None
    used.clear()
    with torch.inference_mode():
        torch.testing.assert_close(model(rows()), _plain(model)(rows()))
    assert len(used) == 2


def _plain(model: nn.Module) -> nn.Module:
    other = copy.deepcopy(model)
    kernels.remove_from(other)
    assert type(other[0]) is nn.Linear
    return other


@pytest.mark.usefixtures("everywhere")
def test_small_batches_and_other_arithmetic_stay_with_torch(
    used: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = net()
    kernels.apply_to(model, ROWS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(rows()).dtype == torch.bfloat16
    assert copy.deepcopy(model).double()(rows().double()).dtype == torch.float64
    assert model(rows()[None]).shape == (1, ROWS, 5)
    monkeypatch.setattr(kernels, "FEWEST_PRODUCTS", ROWS * INPUTS * OUTPUTS)
    expected = F.linear(rows(ROWS - 1), model[0].weight, model[0].bias)
    assert torch.equal(model[0](rows(ROWS - 1)), expected)
    assert not used
    model[0](rows())
    assert used == [ROWS]


def test_only_plain_linear_layers_that_are_large_enough_are_taken() -> None:
    class Own(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(1000, 1000), nn.Linear(1000, 10), Own(1000, 1000))
    assert [kernels.applicable(one, 32) for one in (model, model[0], model[1:])] == [
        True,
        True,
        False,
    ]
    assert kernels.apply_to(model, 32) == 1
    assert [type(one) for one in model] == [OneDnnLinear, nn.Linear, Own]
    kernels.remove_from(model)
    assert [type(one) for one in model] == [nn.Linear, nn.Linear, Own]


@pytest.mark.usefixtures("everywhere")
def test_the_state_dict_stays_and_copies_keep_the_kernels() -> None:
    plain = net()
    ours = copy.deepcopy(plain)
    kernels.apply_to(ours, ROWS)
    assert list(ours.state_dict()) == list(plain.state_dict())
    file = io.BytesIO()
    torch.save(ours.state_dict(), file)
    file.seek(0)
    plain.load_state_dict(torch.load(file, weights_only=True))
    assert type(copy.deepcopy(ours)[0]) is OneDnnLinear


@pytest.mark.usefixtures("everywhere")
def test_the_same_bits_every_time() -> None:
    model = net()
    kernels.apply_to(model, ROWS)
    results = []
    for _ in range(3):
        model.zero_grad()
        model(rows()).sum().backward()
        results.append(model[0].weight.grad.clone())
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
