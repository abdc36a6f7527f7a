"""The parts of networks, which are trained at rates of their own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sartor.models import registry
from sartor.models.parts import early_parameters, learning_rate_factors, parts_of


@pytest.mark.parametrize("name", registry.names())
def test_every_parameter_is_in_one_part(name: str) -> None:
    with torch.device("meta"):
        network = registry.build_model(name, input_shape=(3, 32, 32), num_classes=5, kwargs={})
    names = [name for part in parts_of(network) for name in part]
    assert sorted(names) == sorted(name for name, _ in network.named_parameters())


class Wrapped(nn.Module):
    """Its head is defined before its body, and the body holds almost everything."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 3)
        self.scale = nn.Parameter(torch.ones(1))
        self.body = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))


def test_large_parts_are_opened_and_the_head_comes_last() -> None:
    first = [names[0] for names in parts_of(Wrapped())]
    assert first == ["scale", "body.0.weight", "body.1.weight", "body.2.weight", "head.weight"]


def test_rates_fall_from_the_head_to_the_input() -> None:
    factors = learning_rate_factors(Wrapped(), 0.5)
    assert factors["head.bias"] == 1
    assert factors["body.2.weight"] == 0.5
    assert factors["scale"] == 0.5**4


def test_the_last_parts_hold_half_of_the_parameters() -> None:
    network = Wrapped()
    early = early_parameters(network)
    # 27 of the head and 72 of each part of the body are 171 of 244.
    assert early == {"scale", "body.0.weight", "body.0.bias"}
