"""How the machine is used, and that it is left as it was found."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sartor.training.engines import hardware, kernels
from sartor.training.settings import ResolvedTraining


def test_channels_last_suits_convolutions() -> None:
    conv, linear = nn.Sequential(nn.Conv2d(1, 2, 3)), nn.Linear(2, 2)
    assert hardware.chosen_memory_format("auto", conv) == "channels-last"
    assert hardware.chosen_memory_format("auto", linear) == "contiguous"
    assert hardware.chosen_memory_format("contiguous", conv) == "contiguous"
    assert hardware.chosen_memory_format("channels-last", linear) == "channels-last"


def resolved(**changes: Any) -> ResolvedTraining:
    choices: dict[str, Any] = {
        "epochs": 1,
        "batch_size": 1,
        "device": "cpu",
        "amp_dtype": "float32",
        "memory_format": "contiguous",
        "threads": 1,
        "engine": "plain",
    }
    return ResolvedTraining(**choices | changes)


def test_threads_are_those_wished_for_or_torchs() -> None:
    assert hardware.chosen_threads(3) == 3
    assert hardware.chosen_threads(None) == torch.get_num_threads()


@pytest.mark.parametrize("fails", [False, True])
def test_tuned_leaves_threads_and_random_numbers_as_they_were(fails: bool) -> None:
    settings = resolved(threads=2)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)

    def use() -> None:
        with hardware.tuned(settings):
            assert torch.get_num_threads() == 2
            torch.manual_seed(99)
            torch.rand(7)
            if fails:
                raise KeyError

    if fails:
        with pytest.raises(KeyError):
            use()
    else:
        use()
    assert torch.get_num_threads() == 1
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.skipif(not kernels.available(), reason="needs a PyTorch with oneDNN")
@pytest.mark.parametrize(
    ("name", "inside"), [("plain", nn.Linear), ("onednn", kernels.OneDnnLinear)]
)
def test_tuned_leaves_the_kernels_of_a_model_as_they_were(name: str, inside: type) -> None:
    settings = resolved(threads=1, engine=name, batch_size=100)
    model = nn.Sequential(nn.Linear(300, 200), nn.Linear(2, 2))
    names = list(model.state_dict())
    with hardware.tuned(settings, model):
        assert [type(layer) for layer in model] == [inside, nn.Linear]
        assert list(model.state_dict()) == names
    assert [type(layer) for layer in model] == [nn.Linear, nn.Linear]


@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
def test_weights_lie_as_in_a_fresh_network_wherever_they_lay_before(layout: str) -> None:
    """Strides of sides of length 1 included, for they decide which kernel is taken."""
    shapes = [(6, 1, 5, 5), (4, 3, 1, 1), (4, 3, 3, 3)]
    networks = [nn.ParameterList(torch.arange(float(torch.Size(s).numel())).view(s) for s in shapes)
                for _ in range(3)]  # fmt: skip
    fresh, moved, turned = networks
    hardware.laid_out(fresh, layout)
    hardware.laid_out(hardware.laid_out(moved, "channels-last"), layout)
    for parameter in turned.parameters():
        parameter.data = parameter.data.transpose(2, 3).contiguous().transpose(2, 3)
    hardware.laid_out(turned, layout)
    for one, *others in zip(*(network.parameters() for network in networks), strict=True):
        for other in others:
            assert other.stride() == one.stride()
            assert torch.equal(other, one)


def test_precision_is_taken_from_the_instructions_where_nothing_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("avx512_bf16", "amx_tile"):
        monkeypatch.setattr(f"torch.cpu._is_{name}_supported", lambda: False)
    assert hardware.chosen_precision("auto", "cpu") == "float32"
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: True)
    assert hardware.chosen_precision("auto", "cpu") == "bfloat16"
    assert hardware.chosen_precision("auto", "mps") == "float32"
    assert hardware.chosen_precision("float32", "cpu") == "float32"
