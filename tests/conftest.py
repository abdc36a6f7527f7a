"""What tests of more than one room share."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir

import sartor
from sartor.cli import main
from sartor.data.dataset import Dataset
from sartor.data.named.catalogue import load_named
from sartor.home import cache_home
from tests.held import HELD, Hold

# How long an example takes says more about the machine's other work than about the code. What
# decides on a change tries the same examples each time; elsewhere they are new ones.
settings.register_profile("untimed", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("untimed")
# Where it is by default, but seen from every working folder.
set_hypothesis_home_dir(Path(__file__).parents[1] / ".hypothesis")


SHELL = {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "SARTOR_DEBUG"}
"""What a shell exports must not decide what a test sees."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """End with what was skipped, each with its reason, which says how to have it."""
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple)
    )
    for reason, count in reasons.items():
        terminalreporter.write_line(f"skipped {count}: {reason}")


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup() -> None:
    """Draw the same random numbers in a fixture and in a test, whichever ran before."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    """See `pytest_fixture_setup`."""
    pytest_fixture_setup()


@pytest.fixture(scope="session", autouse=True)
def _no_hook_that_stays(request: pytest.FixtureRequest) -> Iterator[None]:
    """No audit hook but in tests/security/watched; test_watched.py says what one would do."""

    def refused(_hook: object) -> None:
        raise AssertionError("a test that needs an audit hook belongs in tests/security/watched")

    with pytest.MonkeyPatch.context() as patch:
        if {item.path.parent.name for item in request.session.items} != {"watched"}:
            patch.setattr(sys, "addaudithook", refused)
        yield


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home and a cache for the session: nothing of the user's is read but what was fetched.

    The working folder is an empty one too, for fixtures that outlive a test.
    """
    home = tmp_path_factory.mktemp("home")
    for name in ("sets", "browser"):
        fetched = cache_home().absolute() / name
        fetched.mkdir(parents=True, exist_ok=True)
        (home / name).symlink_to(fetched)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        for name in os.environ.keys() & SHELL | {n for n in os.environ if n.startswith("XDG_")}:
            patch.delenv(name)
        patch.setenv("SARTOR_HOME", str(home))
        patch.chdir(tmp_path_factory.mktemp("working-folder"))
        yield home


@pytest.fixture(scope="session")
def _working_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Names for a new folder per test; `mktemp` would list all before it each time."""
    folder = tmp_path_factory.mktemp("working-folders")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def _working_folder(_working_folders: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder for each test, so that no `runs/` of anyone else is found."""
    folder = next(_working_folders)
    folder.mkdir()
    monkeypatch.chdir(folder)


@pytest.fixture(scope="session")
def mnist() -> Dataset:
    """MNIST, fetched into the normal cache the first time."""
    return load_named("mnist")


@pytest.fixture(scope="session")
def fashion_mnist() -> Dataset:
    """Fashion-MNIST, fetched into the normal cache the first time."""
    return load_named("fashion-mnist")


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """The set inside scikit-learn."""
    return load_named("digits")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Path:
    """A finished run of three epochs, with a validation split; not to be changed."""
    # Its page says whether anybody has looked at the test images, which other tests may have.
    shutil.rmtree(home / "looks", ignore_errors=True)
    settings: dict[str, Any] = {"model_kwargs": {"dropout": 0.2}, "threads": 1, "seed": 3}
    out = tmp_path_factory.mktemp("trained") / "run"
    return sartor.fit("digits", epochs=3, out=out, **settings).path


@pytest.fixture
def run_copy(trained: Path, tmp_path: Path) -> Path:
    """A copy of `trained` to resume or to damage."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


class Answer(NamedTuple):
    """What a command left behind."""

    exit_code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document that is all of stdout, on one line."""
        assert self.out.count("\n") == 1, "not one line on stdout"
        assert self.out.endswith("\n"), "not one line on stdout"
        return json.loads(self.out, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Run `sartor WORDS` in this process."""

    def run(*words: object) -> Answer:
        capsys.readouterr()
        with warnings.catch_warnings():
            warnings.simplefilter("always", sartor.SartorWarning)
            try:
                exit_code = main.run([str(word) for word in words])
            except SystemExit as leaving:
                exit_code = int(leaving.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert "should not have happened" not in err
        return Answer(exit_code, out, err)

    return run


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `sartor WORDS` as a process of its own; it ends with the test at the latest.

    With `held`, which a Hold says, it waits where that says; see held.py.
    """
    started: list[subprocess.Popen[str]] = []

    def begin(
        *words: object, held: dict[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        program = ["-m", "sartor"] if held is None else [HELD]
        line = [sys.executable, *program, *map(str, words)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environment = {"env": {**os.environ, **(held or {})}}
        process = subprocess.Popen(line, text=True, **(pipes | environment | options))
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def hold(tmp_path: Path) -> Hold:
    """What holds a process at the end of an epoch."""
    return Hold(tmp_path / "hold")


@pytest.fixture(scope="session")
def free_port() -> Iterator[Callable[[], int]]:
    """Finds ports at which a process may listen, and that the system gives to nobody else.

    A socket that does not listen keeps each; SO_REUSEADDR, which servers set, lets them in.
    """
    with ExitStack() as kept:

        def find() -> int:
            keeper = kept.enter_context(socket.socket())
            keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            keeper.bind(("", 0))
            port: int = keeper.getsockname()[1]
            return port

        yield find


@pytest.fixture(scope="session")
def rivals(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Three judged runs: linear with seeds 0 and 1, and an mlp with seed 0; not to be changed."""
    folder = tmp_path_factory.mktemp("rivals")
    settings: dict[str, Any] = {"epochs": 3, "lr": 0.02, "threads": 1, "report": False}
    linear = [
        sartor.fit("digits", model="linear", seed=seed, out=folder / f"linear-{seed}", **settings)
        for seed in (0, 1)
    ]
    mlp = sartor.fit("digits", model="mlp", out=folder / "mlp", **settings)
    for run in (*linear, mlp):
        run.evaluate("test")
    return linear[0].path, linear[1].path, mlp.path


@pytest.fixture
def rival_copies(rivals: tuple[Path, Path, Path], tmp_path: Path) -> tuple[Path, Path, Path]:
    """Copies of `rivals` to resume or to damage."""
    first, second, third = (
        Path(shutil.copytree(path, tmp_path / "copies" / path.name)) for path in rivals
    )
    return first, second, third
