"""Runs the command line as it is, and says when its training has made the first step.

Started by `bench.py` in a fresh process. It takes the words that follow `sartor` and prints the
time of day, in seconds, of the first `StepDone`; then it ends at once.
"""

from __future__ import annotations

import os
import sys
import time

from sartor.cli import output
from sartor.cli.main import run
from sartor.console.progress import PlainProgress
from sartor.events import Event, StepDone


class UntilFirstStep(PlainProgress):
    """The usual lines on stderr, until the first step is done."""

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        if isinstance(event, StepDone):
            print(time.time(), flush=True)
            # The rest of the training is of no interest, nor is what Python does at its end.
            os._exit(0)


def main() -> int:
    """Train with this progress in place of the usual one; 0 once the first step is done."""
    output.progress_for_stderr = UntilFirstStep  # type: ignore[attr-defined]
    code = run(sys.argv[1:])
    print("The training ended without a first step.", file=sys.stderr)
    return code or 1


if __name__ == "__main__":
    sys.exit(main())
