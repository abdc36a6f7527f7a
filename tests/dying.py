"""Trains again and again, and dies at another touch of the file system each time.

Run by test_kill.py in a process of its own: `python dying.py FOLDER`. Writes one JSON document: how
the undisturbed run came out, and how each of the others did after it was resumed.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
import warnings
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import torch

import sartor
from sartor import api
from sartor.data.dataset import Dataset
from sartor.runs import environment
from sartor.runs.folder import RunFolder
from sartor.training import progress

_TOUCHES = ("open", "os.mkdir", "os.chmod", "os.rename", "os.remove")
_TIMES = ("seconds", "images_per_second")


def main(folder: Path) -> None:
    torch.set_num_threads(1)  # a fork in which OpenMP has threads waits for them for ever
    progress._CHECKPOINT_SHARE = 1e9  # a checkpoint after every step
    environment._commit = lambda _folder: None  # calling git 140 times takes seconds
    os.fsync = lambda _handle: None  # the death of a process loses nothing that it has written
    data = sartor.load("digits")
    undisturbed = fit(data, folder / "undisturbed")
    found = {
        "undisturbed": undisturbed,
        "once": list(die_once_everywhere(data, folder)),
        "often": die_often(data, folder / "often"),
        "longer": outcome(extend(folder / "undisturbed", folder / "longer")),
        "extended": list(die_extending(folder)),
        "disk": fill_the_disk(data, folder / "disk"),
    }
    sys.stdout.write(json.dumps(found))


def fit(data: Dataset, out: Path, width: int = 8) -> dict[str, Any]:
    run = sartor.fit(
        data,
        model="mlp",
        model_kwargs={"hidden": (width,), "dropout": 0.3},
        epochs=2,
        batch_size=700,
        threads=1,
        report=False,
        out=out,
    )
    return outcome(run)


def outcome(run: sartor.Run) -> dict[str, Any]:
    """All that must not depend on a death: weights, best weights, history, state, leftovers."""
    rows = [{key: row[key] for key in row if key not in _TIMES} for row in run.history]
    return {
        "weights": run.weights_sha256,
        "best": api.load_checkpoint(run.folder, "best").weights_sha256,
        "history": rows,
        "state": run.status["state"],
        "checkpoints": sorted(path.name for path in (run.path / "checkpoints").iterdir()),
    }


def die_once_everywhere(data: Dataset, folder: Path) -> Any:
    for touch in count(1):
        out = folder / f"touch-{touch}"
        if not killed(lambda touch=touch, out=out: die_at(touch, out) or fit(data, out)):
            return
        state = RunFolder(out).status()["state"] if out.exists() else "nothing"
        was_run = (out / "recipe.toml").exists()
        try:
            result = outcome(sartor.resume(out, report=False))
        except sartor.SartorError as error:
            # Nothing to resume, and nothing in the way of the same command.
            result = {"error": str(error), "again": fit(data, out)}
        yield {"touch": touch, "was_run": was_run, "was": state} | result


def die_often(data: Dataset, out: Path) -> dict[str, Any]:
    """Dies in `fit`, then in one `resume` after the other, each a little later than the last."""
    assert killed(lambda: die_at(60, out) or fit(data, out))
    deaths = 1
    for touch in count(5, 3):
        if not killed(lambda touch=touch: die_at(touch, out) or sartor.resume(out, report=False)):
            return {"deaths": deaths} | outcome(sartor.Run.open(out))
        deaths += 1
    raise AssertionError("numbers do not end")


def extend(finished: Path, out: Path) -> sartor.Run:
    """Trains a copy of a finished run for one epoch more."""
    if not out.exists():
        shutil.copytree(finished, out)
    return sartor.resume(out, epochs=3, report=False)


def die_extending(folder: Path) -> Any:
    for touch in count(1, 3):
        out = folder / f"extending-{touch}"
        shutil.copytree(folder / "undisturbed", out)
        if not killed(lambda touch=touch, out=out: die_at(touch, out) or extend(out, out)):
            return
        yield {"touch": touch} | outcome(extend(out, out))


def fill_the_disk(data: Dataset, out: Path) -> dict[str, Any]:
    """Trains where no file may be as large as the last checkpoint, then without that limit."""
    undisturbed = fit(data, out.parent / "wide", width=64)
    size = (out.parent / "wide" / "checkpoints" / "last.safetensors").stat().st_size

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size - 100, size - 100))
        try:
            fit(data, out, width=64)
        except sartor.SartorError as error:
            Path(f"{out}.error").write_text(str(error))

    assert not killed(work)
    left = {
        "error": Path(f"{out}.error").read_text(),
        "was": RunFolder(out).status()["state"],
        "steps": api.load_checkpoint(RunFolder(out), "last").progress.step,
        "files": sorted(path.name for path in (out / "checkpoints").iterdir()),
    }
    return left | {
        "as_if_nothing_happened": outcome(sartor.resume(out, report=False)) == undisturbed
    }


def killed(work: Callable[[], object]) -> bool:
    """Whether a child process that does the work was killed; any other failure is an error."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status) == signal.SIGKILL
    assert os.WEXITSTATUS(status) == 0, "the work failed in the child"
    return False


def die_at(touch: int, folder: Path) -> None:
    """From now on the process dies just before its `touch`-th touch of the folder, or fsync."""
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if done == touch:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _TOUCHES and str(arguments[0]).startswith(str(folder)):
            step()

    os.fsync = lambda _handle: step()
    sys.addaudithook(watch)


if __name__ == "__main__":
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    main(Path(sys.argv[1]))
