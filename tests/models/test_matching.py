"""Weights of other origins find their layers, or are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sartor.errors import ModelError
from sartor.models.backbones import BACKBONES, weights_path
from sartor.models.efficientnet_lite import weights_named_here
from sartor.models.registry import build_model
from sartor.models.starting import StartingWeights, take_weights
from sartor.models.weight_files import read_weights

CLASSES = ["a", "b", "c"]


def network(name: str = "resnet8", channels: int = 3) -> nn.Module:
    torch.manual_seed(1)
    return build_model(name, input_shape=(channels, 32, 32), num_classes=3, kwargs={})


def taken(into: nn.Module, tensors: dict[str, Tensor], *, in_order: bool = True) -> list[str]:
    weights = StartingWeights(tensors=tensors, sha256="", origin="file.pth", in_order=in_order)
    return take_weights(into, weights, CLASSES)


def body(of: nn.Module) -> dict[str, Tensor]:
    *names, _, _ = [key for key, one in of.named_parameters()]
    return {key: one for key, one in of.state_dict().items() if key in names}


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.module.", "module.backbone."])
def test_prefixes_of_wrappers_fall_off(prefix: str) -> None:
    source = network()
    torch.manual_seed(2)
    for one in source.parameters():
        nn.init.normal_(one)
    target = network()
    said = taken(target, {prefix + key: one for key, one in source.state_dict().items()})
    assert "without a wrapper's prefix" in said[0]
    for key, one in body(source).items():
        assert torch.equal(target.state_dict()[key], one)


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """EfficientNet-Lite under the names of the package that it comes from."""
    path = weights_path(BACKBONES["efficientnet-lite0"])
    assert path is not None
    return read_weights(path)


class TestOrder:
    def test_other_names_for_the_same_layers_are_matched_by_order(
        self, weights: dict[str, Tensor]
    ) -> None:
        target = network("efficientnet-lite0")
        said = taken(target, weights)
        assert "matched by the order of the layers" in said[0]
        expected = weights_named_here(weights)
        found = target.state_dict()
        assert all(
            torch.equal(found[key], expected[key]) for key in found if not key.startswith("head")
        )

    def test_not_where_the_order_says_nothing(self, weights: dict[str, Tensor]) -> None:
        by_word = dict(sorted(weights.items()))
        for tensors, in_order in ((weights, False), (by_word, True)):
            with pytest.raises(ModelError, match="another network"):
                taken(network("efficientnet-lite0"), tensors, in_order=in_order)

    def test_not_where_one_layer_is_missing_or_of_another_shape(
        self, weights: dict[str, Tensor]
    ) -> None:
        for name in ("_blocks.5._bn1.weight", "_conv_head.weight"):
            less = {key: one for key, one in weights.items() if key != name}
            with pytest.raises(ModelError, match="another network"):
                taken(network("efficientnet-lite0"), less)
            with pytest.raises(ModelError, match="another network"):
                taken(network("efficientnet-lite0"), {**weights, name: weights[name][:-1]})

    def test_not_for_networks_of_matrices(self) -> None:
        """There one layer may have the shape of another that means something else."""
        layers = [nn.Flatten(), *(nn.Linear(12, 12) for _ in range(3)), nn.Linear(12, 3)]
        target = nn.Sequential(*layers)
        renamed = {f"x{key}": one for key, one in target.state_dict().items()}
        with pytest.raises(ModelError, match="another network"):
            taken(target, renamed)


@pytest.mark.parametrize(
    ("channels", "words"), [(1, "are added up for gray"), (3, "are shared by three channels")]
)
def test_what_is_done_with_other_channels_is_said(channels: int, words: str) -> None:
    source = network(channels=4 - channels)
    assert any(words in line for line in taken(network(channels=channels), source.state_dict()))


def test_weights_made_for_the_very_network_must_fit_entirely() -> None:
    tensors = network().state_dict()
    first = next(iter(tensors))
    less = {key: one for key, one in tensors.items() if key != first}
    assert any(first in line for line in taken(network(), less))
    weights = StartingWeights(tensors=less, sha256="", origin="hub", whole=True)
    with pytest.raises(ModelError, match=f"missing {first}"):
        take_weights(network(), weights, CLASSES)


def test_half_a_pickled_file_is_said_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "half.pth"
    torch.save(network().state_dict(), path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(Exception, match=r"half\.pth (is not a whole file|holds more)") as caught:
        read_weights(path)
    assert getattr(caught.value, "hint", "")
