import json
from pathlib import Path

import pytest
import torch

import sartor
from sartor.api import load_checkpoint
from sartor.runs.weights_file import stored_weights_sha256
from sartor.training.state import Checkpoint, Progress


def test_equals_the_hash_of_a_run(trained: Path) -> None:
    run = sartor.Run.open(trained)
    for which in ("best", "last"):
        (path, *_) = run.folder.checkpoints(which)
        assert stored_weights_sha256(path) == load_checkpoint(run.folder, which).weights_sha256


def test_equals_torch_for_every_kind_of_tensor(tmp_path: Path) -> None:
    weights = {
        "b.weight": torch.randn(3, 2),
        "a": torch.tensor(4, dtype=torch.int64),
        "half": torch.randn(5).to(torch.bfloat16),
        "empty": torch.zeros(0, 3),
        "flags": torch.tensor([True, False]),
    }
    kept = Checkpoint(
        weights=weights,
        optimizer={"model.": torch.ones(2)},
        progress=Progress(),
        classes=("a", "b"),
    )
    path = tmp_path / "kept.safetensors"
    path.write_bytes(kept.to_bytes())
    assert stored_weights_sha256(path) == kept.weights_sha256


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        b"\xff" * 7 + b"\x7f{}",
        (2).to_bytes(8, "little") + b"[]",
        (30).to_bytes(8, "little") + json.dumps({"model.a": {"shape": [1]}}).encode(),
        (44).to_bytes(8, "little") + b'{"model.a":{"shape":1,"data_offsets":[1,0]}}',
    ],
)
def test_what_is_no_checkpoint_has_no_hash(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(content)
    assert stored_weights_sha256(path) is None
    assert stored_weights_sha256(tmp_path / "missing.safetensors") is None


def test_a_changed_bit_changes_the_hash(run_copy: Path) -> None:
    path = run_copy / "checkpoints" / "best.safetensors"
    before = stored_weights_sha256(path)
    content = bytearray(path.read_bytes())
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    begin, _ = next(e["data_offsets"] for n, e in header.items() if n.startswith("model."))
    content[8 + length + begin] ^= 1
    path.write_bytes(content)
    assert stored_weights_sha256(path) not in (None, before)
