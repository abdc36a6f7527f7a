"""How the machine is used, and that it is left as it was found."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from sartor.errors import RecipeError
from sartor.training.engines import hardware
from sartor.training.settings import ResolvedTraining, TrainingSettings


def test_channels_last_suits_convolutions() -> None:
    conv, linear = nn.Sequential(nn.Conv2d(1, 2, 3)), nn.Linear(2, 2)
    assert hardware.chosen_memory_format("auto", conv) == "channels-last"
    assert hardware.chosen_memory_format("auto", linear) == "contiguous"
    assert hardware.chosen_memory_format("contiguous", conv) == "contiguous"
    assert hardware.chosen_memory_format("channels-last", linear) == "channels-last"


# In a process of its own, for the wrong kernel writes beyond its output.
COMPARISON = """
import json, random, torch
torch.set_num_threads(1)
random.seed(7)
shapes = [(1, 7, (4, 4), (1, 2), (2, 0), 1, (12, 5)), (1, 16, (6, 5), (1, 3), (3, 2), 1, (10, 2))]
while len(shapes) < 250:
    groups = random.choice((1, 1, 4))
    inputs = random.choice((1, 1, 2, 3)) * groups
    shape = (
        inputs, random.choice((1, 2, 7)) * groups,
        (random.randint(2, 7), random.randint(2, 7)), (random.randint(1, 2), random.randint(1, 3)),
        (random.randint(0, 3), random.randint(0, 3)), groups,
        (random.randint(1, 16), random.randint(1, 9)),
    )
    if all(size + 2 * pad >= k for size, pad, k in zip(shape[6], shape[4], shape[2])):
        shapes.append(shape)
found = []
for inputs, outputs, kernel, stride, padding, groups, size in shapes:
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups)
    images = torch.randn(2, inputs, *size)
    with torch.no_grad():
        expected = conv.double()(images.double()).float()
        conv = conv.float().to(memory_format=torch.channels_last)
        got = conv(images.to(memory_format=torch.channels_last))
    wrong = not torch.allclose(got, expected, rtol=1e-3, atol=1e-3)
    found.append([inputs, outputs, kernel, stride, padding, groups, size, wrong])
    print(json.dumps(found[-1]), flush=True)
"""


def test_where_pytorch_is_wrong_channels_last_the_layout_is_contiguous() -> None:
    told = subprocess.run(
        [sys.executable, "-c", COMPARISON], capture_output=True, text=True, check=False
    )
    rows = [json.loads(line) for line in told.stdout.splitlines()]
    assert len(rows) >= 2, told.stderr
    spared = 0
    harmed = False
    for inputs, outputs, kernel, stride, padding, groups, _, wrong in rows:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups)
        against = hardware.against_channels_last(nn.Sequential(conv), "cpu")
        # What follows a write beyond an output may be wrong for that alone.
        assert not wrong or against or harmed, (inputs, outputs, kernel, stride, padding)
        harmed = harmed or wrong
        spared += against is None
    if len(rows) == 250:
        assert spared > 150, "the rule is narrow"


def test_a_layout_that_computes_wrongly_is_refused_where_it_is_asked_for() -> None:
    conv = nn.Conv2d(1, 7, (4, 4), stride=(1, 2), padding=(2, 0))
    model = nn.Sequential(conv, nn.Flatten(), nn.LazyLinear(3))
    wish = replace(TrainingSettings(), device="cpu", engine="plain")
    with torch.no_grad():
        model(torch.zeros(1, 1, 12, 5))
    assert hardware.chosen(wish, model, (1, 12, 5), 3)["memory_format"] == "contiguous"
    with pytest.raises(RecipeError) as refused:
        hardware.chosen(replace(wish, memory_format="channels-last"), model, (1, 12, 5), 3)
    assert refused.value.message == (
        "memory_format channels-last: PyTorch computes convolutions of one channel with stride "
        '(1, 2) wrongly in it, here layer "0", Conv2d(1, 7, kernel_size=(4, 4), stride=(1, 2), '
        "padding=(2, 0))."
    )
    assert hardware.against_channels_last(model, "cuda") is None


@pytest.mark.parametrize(
    ("width", "side", "instructions", "clear"),
    [
        (48, 28, "x86-64-v4", True),
        (64, 28, "x86-64-v4", False),
        (48, 64, "x86-64-v4", False),
        (48, 28, "generic", False),
    ],
)
def test_native_is_clearly_faster_for_narrow_convolutions_on_small_images(
    width: int, side: int, instructions: str, clear: bool
) -> None:
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, width, 3))
    assert hardware.is_clearly_native(model, (1, side, side), instructions) == clear
    assert not hardware.is_clearly_native(nn.Linear(4, 2), (1, side, side), instructions)


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
