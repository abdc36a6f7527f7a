"""`sartor` as a process that waits where a test wants it to, started by tests/test_torchrun.py.

    HOLD=PLACE python tests/held.py ARGUMENT...

A training that is small enough for a test is over before anybody can send it a signal. So process 1
waits after epoch 3 as long as there is a file PLACE-3, into which it writes its number once it is
there; after epoch 5 likewise for PLACE-5, and so on.
"""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path
from typing import Any

from sartor.__main__ import main


def hold(epoch: int) -> None:
    """Wait, if it is to be waited after so many epochs that were made by this process."""
    place = Path(f"{os.environ['HOLD']}-{epoch}")
    if place.exists():
        place.write_text(str(os.getpid()), encoding="utf-8")
    while place.exists():
        time.sleep(0.01)


def hold_after_epochs() -> None:
    """Before an epoch's validation, in which the others then wait for this process."""
    from sartor.training import loop

    validate, epochs = loop.validate, itertools.count(1)

    def held(*given: Any) -> Any:
        hold(next(epochs))
        return validate(*given)

    loop.validate = held


if __name__ == "__main__":
    if os.environ.get("HOLD") and os.environ["RANK"] == "1":
        hold_after_epochs()
    main()
