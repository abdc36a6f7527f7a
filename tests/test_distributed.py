"""What the environment of a launcher says, and that without one nothing is different."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from sartor import distributed
from sartor.distributed import Member
from sartor.errors import UsageError
from tests.conftest import Answer

COMPLETE = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}


def setting(monkeypatch: pytest.MonkeyPatch, said: dict[str, str]) -> None:
    for name in (*COMPLETE, "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, text in said.items():
        monkeypatch.setenv(name, text)


def test_a_launcher_says_which_process_this_is(monkeypatch: pytest.MonkeyPatch) -> None:
    setting(monkeypatch, COMPLETE)
    assert distributed.member() == Member(rank=3, size=4, local_rank=1, local_size=2)
    assert distributed.processes() == 4
    assert distributed.follows()


@pytest.mark.parametrize("said", [{}, {**COMPLETE, "RANK": "0", "WORLD_SIZE": "1"}])
def test_one_process_is_alone(monkeypatch: pytest.MonkeyPatch, said: dict[str, str]) -> None:
    setting(monkeypatch, said)
    assert distributed.member() is None
    assert distributed.team() is None
    assert distributed.processes() == 1
    assert distributed.description() == {}


MISTAKES = [
    ({"RANK": "1"}, "The environment has RANK but not WORLD_SIZE"),
    ({"WORLD_SIZE": "2"}, "The environment has WORLD_SIZE but not RANK"),
    ({**COMPLETE, "RANK": "4"}, "RANK=4 of WORLD_SIZE=4"),
    ({**COMPLETE, "RANK": "-1"}, "RANK=-1 of WORLD_SIZE=4"),
    ({**COMPLETE, "RANK": "one"}, 'RANK="one", which is not a whole number'),
    ({**COMPLETE, "WORLD_SIZE": "2.5"}, 'WORLD_SIZE="2.5", which is not a whole number'),
    ({"RANK": "1", "WORLD_SIZE": "2"}, "1 of 2, but MASTER_ADDR and MASTER_PORT are not set"),
    ({**COMPLETE, "MASTER_PORT": ""}, "process 3 of 4, but MASTER_PORT is not set"),
]


@pytest.mark.parametrize(("said", "sentence"), MISTAKES)
def test_half_an_environment_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    said: dict[str, str],
    sentence: str,
    command: Callable[..., Answer],
) -> None:
    setting(monkeypatch, said)
    with pytest.raises(UsageError, match=re.escape(sentence)):
        distributed.member()
    result = command("fit", "digits", "--epochs", "1")
    assert result.exit_code == 2
    assert sentence in result.err
    assert "torchrun" in result.err
    # Another verb has nothing to do with it.
    assert command("models").exit_code == 0


def test_a_launch_is_known_by_its_name_else_by_who_launched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setting(monkeypatch, {})
    assert distributed.launch() == ""
    assert distributed.restarts() == 0
    setting(monkeypatch, {"TORCHELASTIC_RUN_ID": "tonight", "TORCHELASTIC_RESTART_COUNT": "2"})
    assert distributed.launch() == "tonight"
    assert distributed.restarts() == 2
    setting(monkeypatch, {"TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_RESTART_COUNT": "0"})
    assert distributed.launch().rpartition(":")[2].isdecimal()


def test_alone_nothing_of_it_is_imported() -> None:
    """Training in one process costs no import more."""
    code = (
        "import sys; from sartor.cli.main import run; "
        "run(['fit', '--help']); "
        "assert 'torch' not in sys.modules; import sartor.distributed as d; "
        "assert d.team() is None; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
