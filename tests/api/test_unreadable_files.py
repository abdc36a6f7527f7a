"""What is there and may not be read is told as that: nothing is called damaged or missing."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import sartor

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="rights as Linux has them")
_VERSION, _OVERRIDE, _READ_SEARCH = 0x20080522, 1 << 1, 1 << 2


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Rights(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint32) for name in ("effective", "permitted", "inherited"))


@contextmanager
def rights_of_others() -> Iterator[None]:
    """Without root's right to read whatever there is, see capabilities(7)."""
    libc, header, rights = ctypes.CDLL(None), _Header(_VERSION, 0), (_Rights * 2)()
    assert libc.capget(ctypes.byref(header), rights) == 0
    before = rights[0].effective
    rights[0].effective &= ~(_OVERRIDE | _READ_SEARCH)
    assert libc.capset(ctypes.byref(header), rights) == 0
    try:
        yield
    finally:
        rights[0].effective = before
        assert libc.capset(ctypes.byref(header), rights) == 0


@contextmanager
def closed(*paths: Path) -> Iterator[None]:
    modes = {path: path.stat().st_mode for path in paths}
    for path in modes:
        path.chmod(0)
    try:
        with rights_of_others():
            assert not os.access(paths[0], os.R_OK, effective_ids=True)
            yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def refuse_blame(answer: Any, path: Path) -> None:
    assert answer.exit_code == 1
    assert f"{path}: permission denied" in answer.err
    for word in ("damaged", "delete", "whole", "again", "missing", "write to"):
        assert word not in answer.err.replace(str(path), "")


@pytest.mark.parametrize("verb", ["show", "evaluate", "predict", "export", "resume", "trace"])
def test_a_run(verb: str, run_copy: Path, command: Any, tmp_path: Path) -> None:
    more = {"predict": [tmp_path / "x.png"], "export": ["--out", tmp_path / "b.zip"]}
    with closed(run_copy / "recipe.toml"):
        answer = command(verb, run_copy, *more.get(verb, []))
    refuse_blame(answer, run_copy / "recipe.toml")


@pytest.mark.parametrize("verb", ["show", "predict", "verify"])
def test_the_folder_of_a_run_or_a_bundle(
    verb: str, run_copy: Path, command: Any, tmp_path: Path
) -> None:
    if verb == "verify":
        sartor.Run.open(run_copy).export(tmp_path / "bundle", onnx=False)
    folder = tmp_path / "bundle" if verb == "verify" else run_copy
    with closed(folder):
        answer = command(verb, folder, *([tmp_path / "x.png"] if verb == "predict" else []))
    assert answer.exit_code == 1
    assert "permission denied" in answer.err


@pytest.mark.parametrize("verb", ["verify", "predict", "serve"])
def test_a_bundle(verb: str, run_copy: Path, command: Any, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.zip"
    sartor.Run.open(run_copy).export(bundle, onnx=False)
    with closed(bundle):
        answer = command(verb, bundle, *([tmp_path / "x.png"] if verb == "predict" else []))
    refuse_blame(answer, bundle)


@pytest.mark.parametrize("name", ["plan.json", "manifest.parquet"])
def test_a_plan(name: str, command: Any, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs the extra parquet")
    from PIL import Image

    for label in "ab":
        (tmp_path / "pictures" / label).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "pictures" / label / "0.png")
    job = tmp_path / "job"
    sartor.plan_work(job, "decode", tmp_path / "pictures", image_size=8)
    with closed(job / name):
        refuse_blame(command("work", job, "--threads", 1), job / name)
