"""Summaries against figures worked out by hand."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.errors import ModelError
from sartor.models.registry import build_model
from sartor.models.summary import COLUMNS, Summary, summarize

MNIST = (1, 28, 28)


def lenet(**kwargs: object) -> nn.Module:
    return build_model("lenet", input_shape=MNIST, num_classes=10, kwargs=kwargs)


def test_lenet_layer_by_layer() -> None:
    summary = summarize(lenet(), MNIST)
    rows = {row.name: row for row in summary.rows}
    conv2 = rows["conv2"]
    assert conv2.kind == "Conv2d"
    assert conv2.parameter_shapes == {"weight": (12, 6, 5, 5), "bias": (12,)}
    assert conv2.parameters == 12 * 6 * 5 * 5 + 12
    assert conv2.parameter_bytes == 4 * conv2.parameters
    assert conv2.multiply_adds == 12 * 8 * 8 * 6 * 5 * 5
    assert conv2.memory_bytes == 12 * 8 * 8 * 4
    assert rows["flatten"].memory_bytes == 0
    assert rows["relu1"].memory_bytes == 6 * 12 * 12 * 4
    assert rows["linear5"].multiply_adds == 600
    assert not any(row.repeated for row in summary.rows)


def test_lenet_in_total() -> None:
    summary = summarize(lenet(), MNIST)
    assert summary.input_shape == (1, 1, 28, 28)
    assert summary.output_shape == (1, 10)
    assert summary.parameters == summary.trainable_parameters == 32_998
    assert summary.parameter_bytes == 4 * 32_998
    # 6x24x24x25 + 12x8x8x150 + 192x120 + 120x60 + 60x10
    assert summary.multiply_adds == 86_400 + 115_200 + 23_040 + 7_200 + 600
    outputs = 6 * 24 * 24 + 2 * 6 * 12 * 12 + 12 * 8 * 8 + 2 * 12 * 4 * 4 + 2 * 120 + 2 * 60 + 10
    assert summary.memory_bytes == 4 * outputs


def test_a_batch_needs_its_memory_but_an_image_its_operations() -> None:
    one, many = summarize(lenet(), MNIST), summarize(lenet(), MNIST, batch_size=7)
    assert many.input_shape == (7, 1, 28, 28)
    assert many.multiply_adds == one.multiply_adds
    assert many.memory_bytes == 7 * one.memory_bytes
    assert [row.multiply_adds for row in many.rows] == [row.multiply_adds for row in one.rows]


class Shared(nn.Module):
    """One layer used twice, one parameter outside any layer, and frozen ones."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.ones(3))
        self.last = nn.Linear(4, 2, bias=False).requires_grad_(False)
        self.unused = nn.Linear(5, 5)

    def forward(self, images: Tensor) -> Tensor:
        features = images.flatten(1)
        features = self.first(features)
        features = F.relu(self.first(features)) @ torch.ones(4, 4)
        logits: Tensor = self.last(features) * self.scale[0]
        return logits


def test_a_layer_called_twice_appears_twice_and_counts_once() -> None:
    summary = summarize(Shared(), (1, 2, 2))
    assert [row.name for row in summary.rows] == ["first", "first", "last"]
    assert [row.repeated for row in summary.rows] == [False, True, False]
    assert summary.parameters == 20 + 3 + 8 + 30
    assert summary.trainable_parameters == 53
    assert summary.multiply_adds == 16 + 16 + 16 + 8
    assert sum(row.multiply_adds for row in summary.rows) == 40
    assert "shared" in summary.rows_for_table()[1]
    assert "8 frozen, 33 outside these layers" in summary.totals()


class Restless(nn.Module):
    """Changes with its mode, its statistics and the random state."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.frozen_norm = nn.BatchNorm2d(1).eval()
        self.modes: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        self.modes.append(self.training)
        noisy = images + torch.randn_like(images)
        result: Tensor = self.frozen_norm(self.norm(noisy)).flatten(1)
        return result


def test_the_network_is_as_before() -> None:
    torch.manual_seed(0)
    model = Restless()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 3)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    random_state = torch.random.get_rng_state()

    summarize(model, (1, 4, 4))

    assert model.modes == [False]
    assert model.training
    assert model.norm.training
    assert not model.frozen_norm.training
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all((parameter.grad == 3).all() for parameter in model.parameters())
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in model.modules())


def test_a_failing_network_is_named_with_its_layer_and_is_as_before() -> None:
    model = build_model("mlp", input_shape=MNIST, num_classes=10, kwargs={}).train()
    random_state = torch.random.get_rng_state()
    with pytest.raises(ModelError) as caught:
        summarize(model, (3, 32, 32))
    assert caught.value.message.startswith("The network cannot take images of shape (3, 32, 32): ")
    assert "mat1 and mat2 shapes cannot be multiplied (1x3072 and 784x512)" in caught.value.message
    assert caught.value.message.endswith(' in layer "linear1" (Linear).')
    assert "\n" not in str(caught.value)
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in model.modules())


class Unusual(nn.Module):
    """Layers that give tuples and work in place, and a dictionary at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(4, 3, batch_first=True)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        sequence, _ = self.rnn(images.squeeze(1))
        return {"logits": self.relu(sequence).mean(dim=1)}


def test_any_module_will_do() -> None:
    summary = summarize(Unusual(), (1, 5, 4))
    assert [row.output_shape for row in summary.rows] == [(1, 5, 3), (1, 5, 3)]
    assert summary.rows[0].memory_bytes == 4 * (15 + 3 + 3)
    assert summary.rows[1].memory_bytes == 0
    assert summary.output_shape == (1, 3)
    single = summarize(nn.Flatten(), (1, 2, 2))
    assert (single.rows[0].name, single.parameters, single.output_shape) == ("model", 0, (1, 4))


class Attention(nn.Module):
    """Uses its inner layers' weights without calling them."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, images: Tensor) -> Tensor:
        tokens = images.squeeze(1)
        mixed: Tensor = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return mixed.mean(dim=1)


def test_attention_is_one_row_with_all_its_weights_and_products() -> None:
    fused = torch.backends.mha.get_fastpath_enabled()
    (row,) = summarize(Attention(), (1, 5, 8)).rows
    assert torch.backends.mha.get_fastpath_enabled() is fused
    assert row.parameters == 24 * 8 + 24 + 8 * 8 + 8
    # The three projections, queries by keys, weights by values, the projection of the result.
    assert row.multiply_adds == 5 * 8 * 24 + 5 * 5 * 8 + 5 * 5 * 8 + 5 * 8 * 8


def test_the_type_and_the_device_of_the_parameters_are_used() -> None:
    assert summarize(lenet().double(), MNIST).memory_bytes == 2 * 26_824
    with torch.device("meta"):
        model = lenet()
    assert summarize(model, MNIST).multiply_adds == 232_440


def test_json_holds_everything() -> None:
    summary = summarize(lenet(), MNIST)
    document = summary.to_json()
    assert json.loads(json.dumps(document)) == document
    assert document["rows"][3]["parameter_shapes"] == {"weight": [12, 6, 5, 5], "bias": [12]}
    assert document["multiply_adds"] == 232_440


def test_its_text_is_a_table_of_at_most_80_columns() -> None:
    lines = repr(summarize(lenet(), MNIST)).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "Sequential: (1, 1, 28, 28) -> (1, 10)"
    assert " ".join(lines[5].split()) == (
        "conv2 Conv2d (1, 12, 8, 8) (12, 6, 5, 5) 1,812 115,200 3 KiB"
    )
    assert lines[-1] == "weight decay on 32,790 of them, not on 208 of biases and norms"
    assert lines[-2] == ("32,998 parameters (128.9 KiB), 232,440 multiply-adds, outputs 26.2 KiB")


def test_a_notebook_shows_a_table() -> None:
    class Less(nn.Flatten):
        pass

    Less.__name__ = "A<b>"
    table = ElementTree.fromstring(summarize(Less(), (1, 2, 2))._repr_html_())
    assert [cell.text for cell in table.iter("th")] == list(COLUMNS)
    assert [cell.text for cell in table.iter("td")][:2] == ["model", "A<b>"]


@pytest.fixture(scope="module")
def large() -> Summary:
    network = build_model(
        "efficientnet-lite0", input_shape=(3, 32, 32), num_classes=5, kwargs={"pretrained": False}
    )
    return summarize(network, (3, 32, 32), count_multiply_adds=False)


class TestDepth:
    def test_a_large_network_is_shown_by_stage(self, large: Summary) -> None:
        shown = large.at_depth()
        assert len(large.rows) > 100
        names = [row.name for row in shown.rows]
        assert names[3:10] == [f"stages.stage{number}" for number in range(1, 8)]
        assert names[-1] == "head"
        of_stage = [row for row in large.rows if row.name.startswith("stages.stage3.")]
        assert shown.rows[5].kind == f"{len(of_stage)} layers"
        assert shown.rows[5].output_shape == of_stage[-1].output_shape
        assert "stages.stage3  16 layers" in repr(shown)

    @pytest.mark.parametrize("depth", [1, 2, 3, None])
    def test_sums_stay(self, large: Summary, depth: int | None) -> None:
        shown = large.at_depth(depth)
        assert len(shown.rows) < len(large.rows)
        assert shown.totals() == large.totals()
        assert sum(row.memory_bytes for row in shown.rows) == large.memory_bytes
        assert sum(row.parameters for row in shown.rows) == large.parameters

    def test_every_layer_is_shown_where_asked_or_few(self, large: Summary) -> None:
        assert large.at_depth(0) is large
        small = summarize(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), (1, 2, 2))
        assert small.at_depth() is small

    def test_shared_layers_are_counted_once(self) -> None:
        one = nn.Linear(4, 4)
        parts = (nn.Sequential(one, nn.ReLU()), nn.Sequential(nn.ReLU()), nn.Sequential(one, one))
        table = summarize(nn.Sequential(nn.Flatten(), *parts), (1, 2, 2)).at_depth(1)
        assert [row.kind for row in table.rows] == ["Flatten", "2 layers", "ReLU", "2 layers"]
        assert [row.parameters for row in table.rows if not row.repeated] == [0, 20, 0]
        assert "shared" in table.rows_for_table()[3]
        assert table.parameters == 20
        assert "outside" not in table.totals()
