"""`sartor` and `python -m sartor`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    try:
        from .cli.main import run

        exit_code = run(sys.argv[1:])
    except KeyboardInterrupt:
        # While the first modules were read; from then on `run` takes care of it.
        exit_code = 130
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
