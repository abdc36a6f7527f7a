"""Files that claim, or inflate to, more than there is: refused before anything is allocated."""

from __future__ import annotations

import io
import json
import re
import shutil
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sartor
from sartor import api
from sartor.bundle.format import Bundle
from sartor.bundle.opening import session_of
from sartor.data.splits.split import Split
from sartor.errors import BundleError, ModelError, RunError
from sartor.evaluation.predictions import Predictions
from sartor.runs.folder import RunFolder

MOST_BYTES = 80 << 20


@contextmanager
def little() -> Iterator[None]:
    """Inside, neither much memory is taken by Python nor much time."""
    tracemalloc.start()
    begun = time.process_time()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
        assert time.process_time() - begun < 10
    finally:
        tracemalloc.stop()


def bomb(names: tuple[str, ...], count: int = 1 << 28) -> bytes:
    """An .npz of zeros, a thousandth as large as what it holds."""
    header = io.BytesIO()
    shape = {"descr": "<i8", "fortran_order": False, "shape": (count // 8,)}
    np.lib.format.write_array_header_1_0(header, shape)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in names:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                member.write(header.getvalue())
                for _ in range(count >> 20):
                    member.write(bytes(1 << 20))
    return stream.getvalue()


def test_packed_arrays() -> None:
    content = bomb(("train", "val", "test"))
    assert len(content) < 10_000_000
    with little(), pytest.raises(RunError, match=r"split\.npz is damaged"):
        Split.from_bytes(content)


def test_packed_predictions(tmp_path: Path) -> None:
    (tmp_path / "test.npz").write_bytes(bomb(("logits", "labels", "indices")))
    with little(), pytest.raises(RunError, match="is packed"):
        Predictions.load(tmp_path / "test.npz")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("history.jsonl", b'{"epoch": "' + b"x" * (70 << 20)),
        ("status.json", b"[" * 3_000_000),
        ("status.json", b'{"format": 1, "state": ' + b"9" * 1_000_000 + b"}"),
        ("environment.json", b'{"a":' * 100_000),
        ("findings.json", b"[NaN, Infinity, -Infinity, 1e999]"),
        ("input_ranges.json", b'{"brightness": [1e999, NaN], "x": [' + b"9" * 5_000 + b", 1]}"),
        ("recipe.toml", b"a = 1\n" * 3_000_000),
        ("recipe.toml", b"a = " + b"[" * 100_000),
    ],
    ids=lambda value: value if isinstance(value, str) else str(len(value)),
)
def test_documents_of_a_run(name: str, content: bytes, run_copy: Path, command: Any) -> None:
    (run_copy / name).write_bytes(content)
    for words in (["show", run_copy], ["runs", run_copy.parent], ["evaluate", run_copy]):
        answer = command(*words)
        assert answer.exit_code in (0, 1)
        assert len(answer.err) < 5_000


def sealed_again(run: Path, change: Callable[[str], str]) -> None:
    """Change a run's recipe, and what its checkpoints say that it was: as whoever made the run
    could have."""
    from sartor.training.state import Checkpoint

    text = change((run / "recipe.toml").read_text())
    (run / "recipe.toml").write_text(text)
    for path in (run / "checkpoints").glob("*.safetensors"):
        kept = Checkpoint.from_bytes(path.read_bytes(), path.name)
        path.write_bytes(kept.to_bytes({**kept.sealed, "recipe.toml": text}))


def test_a_network_that_its_weights_cannot_be_of(run_copy: Path) -> None:
    def larger(text: str) -> str:
        return re.sub(r"hidden = .*", "hidden = 2000000000", text)

    sealed_again(run_copy, larger)
    assert "2000000000" in (run_copy / "recipe.toml").read_text()
    for call in (sartor.evaluate, sartor.trace, sartor.report):
        with little(), pytest.raises(ModelError, match=r"would have .* numbers, and the file"):
            call(run_copy)


def test_a_bundle_whose_network_is_another(trained: Path, tmp_path: Path) -> None:
    from sartor.bundle import format as bundles

    made = api.export(trained, tmp_path / "bundle", onnx=False).path
    record = json.loads((made / "bundle.json").read_bytes())
    parts = {name: (made / name).read_bytes() for name in record["files"]}
    for change in (
        lambda found: found["architecture"]["model_kwargs"].update(hidden=2_000_000_000),
        lambda found: found["preprocess"].update(height=10**9),
    ):
        said = json.loads((made / "bundle.json").read_bytes())
        change(said)
        said = {key: said[key] for key in said if key not in ("format", "files", "sha256")}
        shutil.rmtree(tmp_path / "other", ignore_errors=True)
        bundles.write_bundle(tmp_path / "other", said, parts)
        with little(), pytest.raises((BundleError, ModelError)):
            session_of(Bundle.open(tmp_path / "other"), "torch")


def test_a_header_that_claims_terabytes(run_copy: Path, command: Any) -> None:
    header = {"model.x": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}
    text = json.dumps(header).encode()
    for name in ("last", "best", "previous"):
        path = run_copy / "checkpoints" / f"{name}.safetensors"
        path.write_bytes(len(text).to_bytes(8, "little") + text)
    assert command("evaluate", run_copy).exit_code == 1
    for name in ("last", "best", "previous"):
        path = run_copy / "checkpoints" / f"{name}.safetensors"
        path.write_bytes((1 << 62).to_bytes(8, "little") + b"{")
    answer = command("evaluate", run_copy)
    assert answer.exit_code == 1
    assert "is damaged" in answer.err
    assert RunFolder(run_copy).history()
