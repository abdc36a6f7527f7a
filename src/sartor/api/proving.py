"""Whether a run, killed and resumed, comes to the same bits: tried on a small copy of it."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import assembly
from ..data.named.catalogue import NAMES
from ..errors import RunError
from ..files import make_folder, write_text
from ..models.custom import is_custom
from ..recipe import Recipe
from ..runs.folder import RunFolder
from ..runs.seals import newest_state
from ..wording import plural
from .opened import OpenedRun, load_checkpoint, open_run
from .other_data import recipe_at

EPOCHS, STEPS = 2, 6
"""At least so many epochs of at most so many steps has the copy, and more where these are fewer."""
SIGNALS = ("SIGKILL", "SIGKILL", "SIGTERM", "SIGKILL")
_SECONDS_BETWEEN_LOOKS = 0.001
_TIMES = ("seconds", "images_per_second")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Death:
    """How the training of the copy was ended once."""

    signal: str
    step: int
    """The step that its newest checkpoint has."""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What came of it."""

    run: str
    steps: int
    """Of the copy."""
    deaths: tuple[Death, ...]
    differences: tuple[str, ...]
    """What is not the same: weights, best weights, history, split."""
    repeatable: bool
    """Whether two undisturbed trainings come to the same."""
    weights_sha256: str
    """Of the undisturbed copy."""

    @property
    def is_equal(self) -> bool:
        """Whether all is the same."""
        return not self.differences

    @property
    def sentence(self) -> str:
        """What came of it, for people."""
        times = f"{len(self.deaths)} time{'' if len(self.deaths) == 1 else 's'}"
        if self.is_equal:
            return (
                f"Proved on {plural(self.steps, 'step')} of a small copy of {self.run}: killed "
                f"and resumed {times}, it has the same weights, history and split, "
                "bit for bit, as left alone."
            )
        what = " and ".join(self.differences)
        if not self.repeatable:
            return (
                f"Two copies of {self.run} that nobody disturbed differ in {what}: this training "
                "cannot be repeated, so nothing can be said of resuming it."
            )
        return (
            f"A copy of {self.run} that was killed and resumed {times} differs from one that was "
            f"left alone, in {what}."
        )

    @property
    def hint(self) -> str:
        """What to do where it is not equal."""
        if not self.repeatable:
            return (
                "Look for what is random in the network beside PyTorch's, Python's and NumPy's own "
                "generators, such as a clock; on a GPU use --device cpu."
            )
        return (
            "Keep whatever the network remembers from step to step in buffers, which a checkpoint "
            "has; a counter or a cache in an attribute is lost."
        )

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "run": self.run,
            "equal": self.is_equal,
            "steps": self.steps,
            "deaths": [asdict(death) for death in self.deaths],
            "differences": list(self.differences),
            "repeatable": self.repeatable,
            "weights_sha256": self.weights_sha256,
        }


def prove(
    run: str | Path | OpenedRun,
    *,
    data: str | Path | None = None,
    device: str | None = None,
    trust: bool = False,
    say: Say | None = None,
) -> Proof:
    """Train a small copy of a run undisturbed, and again killed and resumed several times.

    The copy has the run's recipe, with two epochs of a few steps and a checkpoint after each. The
    run itself is only read.

    Args:
        data: where the data lies now, if it moved.
        device: as for `resume`.
        trust: let the run's own Python file run, whoever wrote it.
        say: called with a line about each training.

    Raises:
        RunError: the run is broken, or its data or network exist only as Python objects.
    """
    opened = open_run(run, None, None, device=device, trust=trust)
    recipe = _small(opened, data)
    tell = say or (lambda _line: None)
    with tempfile.TemporaryDirectory(prefix="sartor-", ignore_cleanup_errors=True) as scratch:
        folder = make_folder(Path(scratch) / "proof")
        write_text(folder / "recipe.toml", recipe.to_toml())
        copies = _Copies(folder, trust=is_custom(recipe.model.model))
        alone = copies.undisturbed("alone")
        steps = int(alone["step"])
        tell(f"left alone: {plural(steps, 'step')}, weights {alone['weights'][:12]}")
        killed, deaths = copies.killed("killed", steps, tell)
        differences = _differing(alone, killed)
        repeatable = not differences or not _differing(alone, copies.undisturbed("once more"))
    return Proof(
        run=str(opened.path),
        steps=steps,
        deaths=tuple(deaths),
        differences=differences,
        repeatable=repeatable,
        weights_sha256=str(alone["weights"]),
    )


def _small(run: OpenedRun, data: str | Path | None) -> Recipe:
    """The recipe of the copy.

    Raises:
        RunError: a process of its own cannot make it.
    """
    run.refuse_changes()
    recipe, model_file = run.recipe_here, run.model_file()
    if data is not None:
        recipe = recipe_at(run, recipe, Path(data).absolute())
    source = recipe.data.source
    in_memory = recipe.model.model.startswith(assembly.IN_MEMORY)
    if in_memory or (source not in NAMES and not Path(source).exists()):
        what = "network" if in_memory else f"data {source}"
        raise RunError(
            f"The {what} of {run.path} cannot be given to another process, which a proof needs.",
            "Use a registered model or path/file.py:Name."
            if in_memory
            else "Say where it is now with --data PATH (in Python data=...).",
        )
    training, classes = recipe.training, len(run.classes)
    images = STEPS * training.batch_size * training.grad_accum_steps
    limit = max(2, -(-images // classes))
    known = recipe.data.limit_per_class
    steps = min(STEPS, next((row["step"] for row in run.history if row["epoch"] == 1), STEPS))
    changes: dict[str, Any] = {
        "epochs": max(EPOCHS, -(-EPOCHS * STEPS // steps)),
        "limit_per_class": min(limit, known) if known else limit,
        "checkpoint_seconds": 0.0,
        "split_hash": "",
        "extensions": (),
        "engine_changes": (),
    }
    if model_file is not None:
        name = recipe.model.model.rpartition(":")[2]
        changes["model"] = f"{model_file.absolute()}:{name}"
    lists = {"exclude": run.folder.excluded_path, "fixes": run.folder.fixes_path}
    changes |= {name: path.absolute() for name, path in lists.items() if path.is_file()}
    return recipe.with_settings(changes)


class _Copies:
    """Trainings in processes of their own."""

    def __init__(self, folder: Path, *, trust: bool) -> None:
        self._folder = folder
        self._trust = ("--trust",) if trust else ()

    def undisturbed(self, name: str) -> dict[str, Any]:
        """Train it to its end; all that must not depend on being killed."""
        out = self._folder / name
        self._ended(self._started(self._fit(out)))
        return _outcome(out)

    def killed(self, name: str, steps: int, tell: Say) -> tuple[dict[str, Any], list[Death]]:
        """Train it, ended at several steps and resumed each time."""
        out, deaths = self._folder / name, list[Death]()
        words = self._fit(out)
        for number, signal_name in enumerate(SIGNALS, 1):
            process = self._started(words)
            is_alive = _wait_for_step(out, number * steps // (len(SIGNALS) + 1), process)
            process.send_signal(signal.Signals[signal_name])
            _, said = process.communicate()
            if not is_alive or process.returncode == 0:
                _refuse_failure(process.returncode, said)
                break
            step = _step_of(out)
            deaths.append(Death(signal_name, step))
            tell(f"{signal_name} after step {step}")
            words = ["resume", str(out), *self._trust]
        self._ended(self._started(["resume", str(out), *self._trust]))
        return _outcome(out), deaths

    def _fit(self, out: Path) -> list[str]:
        recipe = str(self._folder / "recipe.toml")
        words = ["fit", "--recipe", recipe, "--out", str(out), "--no-report", "--no-check"]
        return [*words, *self._trust]

    def _started(self, words: Sequence[str]) -> subprocess.Popen[str]:
        line = [sys.executable, "-m", "sartor", *words, "--quiet", "--json"]
        return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def _ended(self, process: subprocess.Popen[str]) -> None:
        _, said = process.communicate()
        _refuse_failure(process.returncode, said)


def _wait_for_step(out: Path, step: int, process: subprocess.Popen[str]) -> bool:
    """Until the newest checkpoint has that step; whether the process is still at work then."""
    while process.poll() is None:
        if _step_of(out) >= step:
            return True
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    return False


def _step_of(out: Path) -> int:
    progress = (newest_state(RunFolder(out)) or {}).get("progress", {})
    return int(progress.get("step", -1))


def _refuse_failure(code: int, said: str) -> None:
    """Raise what a training said that did not come to its end.

    Raises:
        RunError: it did not.
    """
    if code == 0:
        return
    lines = [line for line in said.strip().splitlines() if not line.startswith("warning: ")]
    sentence = lines[0].removeprefix("sartor: ") if lines else f"it ended with code {code}."
    raise RunError(
        f"The small copy could not be trained: {sentence}",
        lines[1] if len(lines) > 1 else "Try `sartor fit --recipe` with the run's recipe.toml.",
    )


def _outcome(out: Path) -> dict[str, Any]:
    """All of a run that must not depend on what happened to it."""
    run = OpenedRun(RunFolder(out))
    last = load_checkpoint(run.folder, "last")
    return {
        "step": last.progress.step,
        "weights": last.weights_sha256,
        "best weights": load_checkpoint(run.folder, "best").weights_sha256,
        "history": [{name: row[name] for name in row if name not in _TIMES} for row in run.history],
        "split": run.split_sha256,
    }


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(name for name in one if one[name] != other[name])
