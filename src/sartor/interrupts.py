"""Ctrl-C, SIGTERM and SIGHUP: the first asks training to stop and save, the second ends it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
    # The terminal is gone; Windows has no such signal.
    *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()),
)


def end_silently_during_imports() -> None:
    """From now on Ctrl-C ends the process at once while a module is imported, with code 130.

    A KeyboardInterrupt there would meet code of others, which may swallow it or turn it into an
    error of its own. Anywhere else it is raised as usual.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        if _is_importing(frame):
            os._exit(128 + number)
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, interrupt)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


@dataclass
class StopRequest:
    """Which signal asked for an end; 0 while none did."""

    signal_number: int = 0
    agreed_number: int | None = None
    """The one that all of several processes stop for after the same step; None for a process that
    is alone, which need not agree with anybody."""

    @property
    def number(self) -> int:
        """The signal to stop for now; 0 while there is none."""
        return self.signal_number if self.agreed_number is None else self.agreed_number

    def asked(self) -> bool:
        return self.number != 0


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Listen to signals inside. Outside the main thread nobody may listen, and nothing happens."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    # What is ignored stays so: nohup ignores SIGHUP, a shell Ctrl-C for what is in the background.
    before = {number: kept for number, kept in before.items() if kept != signal.SIG_IGN}

    def remember(number: int, _frame: FrameType | None) -> None:
        request.signal_number = number
        for other in before:
            at_once = signal.default_int_handler if other == signal.SIGINT else signal.SIG_DFL
            signal.signal(other, at_once)

    for number in before:
        signal.signal(number, remember)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
