"""Checkpoints: what goes in comes out, and no damaged bit goes unnoticed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor, nn

from sartor.errors import CheckpointError
from sartor.training import state
from sartor.training.optim import Optimizer
from sartor.training.settings import TrainingSettings
from sartor.training.state import Checkpoint, Progress, Sums, copied, snapshot

PROGRESS = Progress(
    step=123,
    epoch=4,
    position=3,
    sums=Sums(loss=0.1 + 0.2, weight=17.25, correct=5, count=9, seconds=1 / 3),
    seconds=12.345678901234567,
    best_epoch=2,
    best_value=1e-17,
    patience_from=3,
    stopped_early=True,
    history=[{"epoch": 1, "train_loss": 2 / 3, "val_loss": None}, {"epoch": 2, "seconds": 5e300}],
)
CHECKPOINT = Checkpoint(
    weights={
        "conv.weight": torch.randn(2, 1, 2, 2, generator=torch.Generator().manual_seed(0)),
        "norm.count": torch.tensor(2**40),
        "half": torch.tensor([1.5, -0.0, math.inf], dtype=torch.bfloat16),
        "mask": torch.tensor([True, False]),
        "nothing": torch.empty(0, 3),
    },
    optimizer={
        "mean.conv.weight": torch.tensor([1e-42, -0.0, 3.0]),
        "steps.conv": torch.tensor(7.0),
    },
    progress=PROGRESS,
    classes=("Ähre", 'a "quoted" word', "日本", "\\"),
)
CONTENT = CHECKPOINT.to_bytes()


def assert_equal(ours: Checkpoint, expected: Checkpoint) -> None:
    assert ours.progress == expected.progress
    assert ours.classes == expected.classes
    for mine, others in [(ours.weights, expected.weights), (ours.optimizer, expected.optimizer)]:
        assert mine.keys() == others.keys()
        for name, tensor in mine.items():
            assert tensor.dtype == others[name].dtype
            assert tensor.shape == others[name].shape
            assert raw(tensor) == raw(others[name])


def raw(tensor: Tensor) -> bytes:
    """Bits, for which -0.0 differs from 0.0 and a NaN equals itself."""
    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8)) if tensor.numel() else b""


def test_round_trip() -> None:
    again = Checkpoint.from_bytes(CONTENT, "last")
    assert_equal(again, CHECKPOINT)
    assert again.weights_sha256 == CHECKPOINT.weights_sha256


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
ROWS = st.lists(
    st.dictionaries(st.text(max_size=5), st.none() | FLOATS | st.integers(0, 2**53), max_size=4),
    max_size=3,
)


@settings(deadline=None, max_examples=60)
@given(
    st.builds(
        Progress,
        step=st.integers(0, 2**53),
        epoch=st.integers(0, 10**6),
        position=st.integers(0, 10**6),
        sums=st.builds(Sums, loss=FLOATS, weight=FLOATS, correct=st.integers(0, 2**53)),
        seconds=FLOATS,
        best_value=st.none() | FLOATS,
        stopped_early=st.booleans(),
        history=ROWS,
    ),
    st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=4),
)
def test_round_trip_of_any_progress(progress: Progress, classes: list[str]) -> None:
    """Floats come back to the last bit, for the sums of an epoch go on from them."""
    kept = replace(CHECKPOINT, progress=progress, classes=tuple(classes))
    assert_equal(Checkpoint.from_bytes(kept.to_bytes(), "last"), kept)


class TestDamage:
    @pytest.mark.parametrize("bit", range(8))
    def test_a_flipped_bit_is_noticed_wherever_it_is(self, bit: int) -> None:
        refused = 0
        for place in range(len(CONTENT)):
            damaged = bytearray(CONTENT)
            damaged[place] ^= 1 << bit
            try:
                # Padding may turn into other white space, which changes nothing.
                assert_equal(Checkpoint.from_bytes(bytes(damaged), "last"), CHECKPOINT)
            except CheckpointError:
                refused += 1
        assert refused >= len(CONTENT) - 8

    def test_every_truncation_is_noticed(self) -> None:
        for length in range(len(CONTENT)):
            with pytest.raises(
                CheckpointError, match=r"^last\.safetensors is damaged: .*\. An older"
            ):
                Checkpoint.from_bytes(CONTENT[:length], "last.safetensors")

    @settings(deadline=None, max_examples=150)
    @given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda tail: CONTENT[:200] + tail))
    def test_any_bytes_are_refused(self, content: bytes) -> None:
        with pytest.raises(CheckpointError):
            Checkpoint.from_bytes(content, "last")

    @settings(deadline=None, max_examples=100)
    @given(st.data())
    def test_swapped_pieces_are_noticed(self, data: st.DataObject) -> None:
        """Bytes that are all there, in another order, unless it says the same: white space is
        padding wherever it is."""
        first = data.draw(st.integers(0, len(CONTENT) - 2))
        second = data.draw(st.integers(first + 1, len(CONTENT) - 1))
        mixed = bytearray(CONTENT)
        mixed[first], mixed[second] = mixed[second], mixed[first]
        noticed = False
        try:
            assert_equal(Checkpoint.from_bytes(bytes(mixed), "last"), CHECKPOINT)
        except CheckpointError:
            noticed = True
        padding = ord(" ") in (mixed[first], mixed[second])
        assert noticed or padding or bytes(mixed) == CONTENT

    def test_appended_bytes_are_noticed(self) -> None:
        with pytest.raises(CheckpointError):
            Checkpoint.from_bytes(CONTENT + b"\0", "last")

    @pytest.mark.parametrize(
        ("old", "new"), [("step", {"step": 124}), ("classes", {"classes": ["b", "a"]})]
    )
    def test_a_changed_word_is_noticed(self, old: str, new: dict[str, Any]) -> None:
        """Valid in form, but not what was written."""
        for metadata in changed_metadata(new, into="progress" if old == "step" else None):
            with pytest.raises(CheckpointError, match="checksum does not match"):
                Checkpoint.from_bytes(with_metadata(load(CONTENT), metadata), "last")

    def test_renamed_tensors_are_noticed(self) -> None:
        tensors = load(CONTENT)
        tensors["model.conv.bias"] = tensors.pop("model.conv.weight")
        with pytest.raises(CheckpointError, match="checksum"):
            Checkpoint.from_bytes(with_metadata(tensors, metadata_of(CONTENT)), "last")

    def test_another_file_of_safetensors_is_refused(self) -> None:
        for content in (
            save({}),
            save({"a": torch.ones(2)}),
            save({"a": torch.ones(2)}, {"b": "c"}),
        ):
            with pytest.raises(CheckpointError, match="last is damaged"):
                Checkpoint.from_bytes(content, "last")


def metadata_of(content: bytes) -> dict[str, str]:
    length = int.from_bytes(content[:8], "little")
    return dict(json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["sartor"]))


def with_metadata(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> bytes:
    return save(tensors, {"sartor": json.dumps(metadata)})


def changed_metadata(change: dict[str, Any], into: str | None) -> Iterator[dict[str, str]]:
    metadata = metadata_of(CONTENT)
    kept = json.loads(metadata["state"])
    (kept[into] if into else kept).update(change)
    yield metadata | {"state": json.dumps(kept, sort_keys=True)}


def test_another_format_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole, but from a version to come."""
    monkeypatch.setattr(state, "FORMAT", 2)
    newer = CHECKPOINT.to_bytes()
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="has the format 2; this version of sartor reads 1"):
        Checkpoint.from_bytes(newer, "last")


def test_the_same_state_gives_the_same_bytes() -> None:
    assert len({CHECKPOINT.to_bytes() for _ in range(8)}) == 1


class TestSnapshot:
    def test_shares_no_memory_with_what_goes_on(self) -> None:
        model = nn.Linear(2, 2)
        optimizer = Optimizer(model, TrainingSettings(opt="adam"))
        progress = Progress(history=[{"epoch": 1}])
        kept = snapshot(model, optimizer, progress, ("a", "b"))
        before = kept.to_bytes()
        with torch.no_grad():
            for tensor in [*model.parameters(), *optimizer.tensors.values()]:
                tensor.add_(1)
        progress.step, progress.sums.loss = 9, 9.0
        progress.history.append({"epoch": 2})
        assert_equal(kept, Checkpoint.from_bytes(before, "before"))

    def test_of_channels_last_is_contiguous_with_the_same_values(self) -> None:
        weight = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
        kept = copied({"weight": weight})["weight"]
        assert kept.is_contiguous()
        assert torch.equal(kept, weight)

    def test_of_tied_weights(self) -> None:
        """Two names for one tensor, which safetensors alone would refuse."""
        model = nn.ModuleDict({"first": nn.Linear(3, 3), "second": nn.Linear(3, 3)})
        model["second"].weight = model["first"].weight
        optimizer = Optimizer(model, TrainingSettings())
        kept = snapshot(model, optimizer, Progress(), ("a", "b"))
        again = Checkpoint.from_bytes(kept.to_bytes(), "last")
        assert torch.equal(again.weights["second.weight"], model["first"].weight)


def test_weights_sha256_names_names_shapes_and_bytes() -> None:
    weights = {"b": torch.ones(2, 3), "a": torch.zeros(1)}
    base = replace(CHECKPOINT, weights=weights).weights_sha256
    turned = dict(reversed(weights.items()))
    assert replace(CHECKPOINT, weights=turned).weights_sha256 == base
    for other in (
        {"b": torch.ones(3, 2), "a": torch.zeros(1)},
        {"c": torch.ones(2, 3), "a": torch.zeros(1)},
        {"b": torch.ones(2, 3), "a": torch.tensor([-0.0])},
        {"b": torch.ones(2, 3)},
    ):
        assert replace(CHECKPOINT, weights=other).weights_sha256 != base
