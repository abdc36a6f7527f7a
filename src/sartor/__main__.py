"""`sartor` and `python -m sartor`."""

from __future__ import annotations

import os
import signal
import sys

from .interrupts import end_silently_during_imports


def main() -> None:
    """Run the command line and leave with its exit code."""
    _share_the_processor()
    end_silently_during_imports()
    try:
        from .cli.main import run

        exit_code = run(sys.argv[1:])
    except KeyboardInterrupt:
        # Beside `run`, which takes care of it otherwise.
        exit_code = 130
    # What is left is to leave; nothing is lost by leaving at once.
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(exit_code)


def _share_the_processor() -> None:
    """Let waiting threads give up their core early, which other programs may need.

    OpenMP's threads wait for each other at every operation, by default spinning for milliseconds.
    Where another program holds a core, training can then be many times slower; `benchmarks/busy.py`
    measures it. It must be said before torch is imported, and only where the user said nothing.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    if "WORLD_SIZE" in os.environ:
        # One of several: what ends badly is said in a sentence, not in PyTorch's stack of frames.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


if __name__ == "__main__":
    main()
