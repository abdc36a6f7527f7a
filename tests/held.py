"""`sartor` as a process that waits where a test wants it to.

    HOLD=PLACE HOLD_IN=sartor.training.loop.validate python tests/held.py ARGUMENT...

A training that is small enough for a test is over before anybody can send it a signal. So the third
call of the function waits as long as there is a file PLACE-3, into which the process writes its
number once it is there; the fifth call likewise for PLACE-5, and so on. Of several processes that
train together only process 1 waits.
"""

from __future__ import annotations

import itertools
import os
import pkgutil
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

HELD = str(Path(__file__))
EPOCHS = "sartor.training.loop.validate"
"""Called at the end of each epoch."""
PATIENCE = 200


class Hold(NamedTuple):
    """Where a process is held."""

    place: Path
    function: str = EPOCHS

    def before(self, *calls: int) -> dict[str, str]:
        """Hold it in these calls, counted from 1; what its environment has to say."""
        for call in calls:
            self._of(call).touch()
        return {"HOLD": str(self.place), "HOLD_IN": self.function}

    def reached(self, call: int, *processes: subprocess.Popen[str]) -> int:
        """Wait until it is there; its number."""
        give_up = time.monotonic() + PATIENCE
        while not (text := self._of(call).read_text(encoding="utf-8")):
            assert all(process.poll() is None for process in processes), "one ended before"
            assert time.monotonic() < give_up, "it never came there"
            time.sleep(0.01)
        return int(text)

    def end(self, call: int) -> None:
        """Let it go on."""
        self._of(call).unlink()

    def _of(self, call: int) -> Path:
        return self.place.with_name(f"{self.place.name}-{call}")


def wait(call: int) -> None:
    """Wait as long as this call is to be held."""
    place = Path(f"{os.environ['HOLD']}-{call}")
    if place.exists():
        place.write_text(str(os.getpid()), encoding="utf-8")
    give_up = time.monotonic() + 2 * PATIENCE
    while place.exists():
        # Of tests that were killed nobody comes to let it go on.
        assert time.monotonic() < give_up, "nobody let it go on"
        time.sleep(0.01)


def hold_calls(function: str) -> None:
    """From now on calls of the function, or method, of that name are waited before."""
    owner_name, _, name = function.rpartition(".")
    owner, calls = pkgutil.resolve_name(owner_name), itertools.count(1)
    really = getattr(owner, name)

    def held(*given: Any, **named: Any) -> Any:
        wait(next(calls))
        return really(*given, **named)

    setattr(owner, name, held)


if __name__ == "__main__":
    from sartor.__main__ import main

    if os.environ.get("HOLD") and os.environ.get("RANK", "1") == "1":
        hold_calls(os.environ["HOLD_IN"])
    main()
