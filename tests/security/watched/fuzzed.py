"""A few inputs of each kind that `make fuzz` makes by the million: read, or refused in words."""

from __future__ import annotations

import json
import random
from pathlib import Path

import fuzz
import fuzz_targets
import pytest
from fuzz_inputs import changed
from fuzz_tried import tried

from sartor.home import cache_home

INPUTS = 12
FOUND = Path(__file__).parents[1] / "found"
"""Inputs that were a fault once, by the name of their target."""


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory, home: Path) -> dict[str, fuzz_targets.Target]:
    del home
    material = fuzz_targets.Material.made(tmp_path_factory.mktemp("fuzz"), onnx=False)
    return fuzz_targets.targets(material)


def test_whole_ones_are_taken(targets: dict[str, fuzz_targets.Target]) -> None:
    for target in targets.values():
        for seed in target.seeds:
            found = tried(target, seed, cache_home())
            assert found.taken, target.name
            assert found.fault == "", target.name


def test_no_change_is_a_fault(targets: dict[str, fuzz_targets.Target]) -> None:
    refused = 0
    for target in targets.values():
        for number in range(INPUTS):
            chance = random.Random(f"{target.name} {number}")
            content = changed(target.seeds, chance, text=target.text, words=target.words)
            found = tried(target, content, cache_home())
            assert found.fault == "", (target.name, number)
            refused += not found.taken
    assert refused > len(targets), "the changes change something"


@pytest.mark.parametrize("path", sorted(FOUND.iterdir()), ids=lambda path: path.name)
def test_what_was_a_fault_once_is_none(path: Path, targets: dict[str, fuzz_targets.Target]) -> None:
    slug = path.name.rpartition("-")[0]
    (target,) = (one for one in targets.values() if one.slug == slug)
    assert tried(target, path.read_bytes(), cache_home()).fault == ""


class TestTheWatch:
    """What is looked for would be found."""

    def test_code_that_runs_and_files_elsewhere(self, tmp_path: Path) -> None:
        outside = tmp_path / "elsewhere"

        def read(way: int) -> fuzz_targets.Target:
            import os
            import pickle
            import subprocess

            ways = {
                0: lambda: outside.write_text("x"),
                1: lambda: (tmp_path / "secret").read_text(),
                2: lambda: subprocess.run(["true"], check=True),
                3: lambda: pickle.loads(b"cos\ngetcwd\n(tR."),
                4: lambda: os.rename(tmp_path / "secret", tmp_path / "moved"),  # noqa: PTH104
                5: lambda: 1 / 0,
            }
            return fuzz_targets.Target(name="x", seeds=(), read=lambda *_: ways[way]())

        (tmp_path / "secret").touch()
        for way, said in enumerate(
            ("writes", "reads", "subprocess", "pickle", "os.rename", "ZeroDivisionError")
        ):
            found = tried(read(way), b"", cache_home())
            assert said in found.fault


def test_a_worker_tries_and_keeps_what_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(content: bytes, folder: Path) -> None:
        (folder / "x").write_bytes(content)
        if content.startswith(b"\xff"):
            raise IndexError("a fault")

    target = fuzz_targets.Target(name="made up", seeds=(b"whole",), read=read)
    monkeypatch.setattr(fuzz_targets, "targets", lambda _material: {"made up": target})
    worker = fuzz.Worker("made up", tmp_path, tmp_path, 1.0)
    assert worker.blindly(7) == 0
    status = json.loads((tmp_path / "status.json").read_bytes())
    assert status["tried"] > 100
    assert status["tried"] > status["taken"] > 0
    (fault,) = status["faults"]
    assert "IndexError: a fault" in fault["fault"]
    fuzz.keep_fault(tmp_path / "faults", "made up", fault)
    kept = [path for path in (tmp_path / "faults").iterdir() if path.suffix != ".txt"]
    assert [path.name.startswith("made-up-") for path in kept] == [True]
    assert kept[0].read_bytes().startswith(b"\xff")
