"""Several processes train as one does: the same batches, the same sums, one run."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import sartor
from sartor import native_module
from sartor.errors import SartorWarning
from tests.several import AGAIN, COMMON, TRAININGS

ENGINE_OF = {2: "plain", 3: "native" if native_module.module() else "plain"}
"""What so many processes train with."""
FIGURES = ("epoch", "step", "train_accuracy", "val_accuracy", "val_balanced_accuracy")


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun says to each of its processes."""
    said = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size}
    numbers = {name: str(number) for name, number in said.items()}
    return {**os.environ, **numbers, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


@pytest.fixture(scope="module")
def folders(
    tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[dict[int, Path]]:
    """What two and three processes made of it."""
    folders = {size: tmp_path_factory.mktemp(f"several-{size}") for size in ENGINE_OF}
    script = [sys.executable, str(Path(__file__).with_name("several.py"))]
    started = []
    for size, folder in folders.items():
        port, words = free_port(), [*script, str(folder), ENGINE_OF[size]]
        for rank in range(size):
            pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
            said = environment(rank, size, port)
            started.append(subprocess.Popen(words, env=said, text=True, cwd=folder, **pipes))
    try:
        for process in started:
            said_by_it, _ = process.communicate(timeout=400)
            assert process.returncode == 0, said_by_it
            assert not said_by_it
        yield folders
    finally:
        for process in started:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], sartor.Run]:
    """The same trainings by one process, by engine and name."""
    folder = tmp_path_factory.mktemp("alone")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SartorWarning)
        return {
            (engine, name): sartor.fit(
                "digits", out=folder / engine / name, engine=engine, **COMMON | settings
            )
            for engine in ENGINE_OF.values()
            for name, settings in TRAININGS.items()
        }


@pytest.mark.parametrize("size", ENGINE_OF)
@pytest.mark.parametrize("name", TRAININGS)
def test_weights_and_figures_are_those_of_one_process(
    folders: dict[int, Path], alone: dict[tuple[str, str], sartor.Run], name: str, size: int
) -> None:
    one, several = alone[ENGINE_OF[size], name], sartor.Run.open(folders[size] / name)
    assert one.recipe.training.engine == several.recipe.training.engine == ENGINE_OF[size]
    assert several.status["state"] == one.status["state"]
    expected, found = (run.network("last").state_dict() for run in (one, several))
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, atol=1e-5, rtol=1e-5, msg=key)
    assert len(one.history) == len(several.history)
    for row, other in zip(one.history, several.history, strict=True):
        assert {key: row[key] for key in FIGURES} == {key: other[key] for key in FIGURES}
        assert other["train_loss"] == pytest.approx(row["train_loss"], abs=1e-5)
        assert other["val_loss"] == pytest.approx(row["val_loss"], abs=1e-5)


@pytest.mark.parametrize("size", ENGINE_OF)
@pytest.mark.parametrize("name", AGAIN)
def test_as_many_processes_give_the_same_bits_again_whatever_lies_between_them(
    folders: dict[int, Path], name: str, size: int
) -> None:
    once, again = (sartor.Run.open(folders[size] / one) for one in (name, f"{name} again"))
    assert once.weights_sha256 == again.weights_sha256
    assert [row["val_loss"] for row in once.history] == [row["val_loss"] for row in again.history]


@pytest.mark.parametrize("size", ENGINE_OF)
def test_a_run_knows_how_many_trained_it(folders: dict[int, Path], size: int) -> None:
    run = sartor.Run.open(folders[size] / AGAIN[0])
    assert run.folder.environment()["processes"]["count"] == size


@pytest.mark.parametrize("size", ENGINE_OF)
def test_what_cannot_go_well_is_said_by_the_first_and_known_to_all(
    folders: dict[int, Path], size: int
) -> None:
    first, *others = (
        json.loads((folders[size] / f"told-{rank}.json").read_text(encoding="utf-8"))
        for rank in range(size)
    )
    host = socket.gethostname()
    assert first["other data"].startswith(f"Process 1 on {host} cannot take part: its data ")
    assert first["other data"].endswith("is not that of the first process.")
    assert first["unusable"].startswith("lr must be greater than 0")
    assert first["diverging"].startswith("The loss is nan at step")
    assert first["other arguments"] == (
        f"Process 1 on {host} was started with other arguments than this one."
    )
    for other in others:
        for name, sentence in first.items():
            assert other[name] == f"The first process stopped: {sentence}"
    # Who cannot take part is found out before there is a run.
    assert [name for name in first if (folders[size] / name).exists()] == ["diverging"]
