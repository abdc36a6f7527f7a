"""How sartor does on folders of pictures as a user has them.

    python benchmarks/own_pictures.py --build DIR                   # npm and apt fetch the packages
    python benchmarks/own_pictures.py --build DIR --sources FOLDER  # they lie in FOLDER already

DIR/icons gets the emoji of three vendors in 10 classes, DIR/photos photographs and cut-outs in 11;
see own_pictures_sets.py.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from own_pictures_sets import build_sets


def main(words: Sequence[str] | None = None) -> int:
    """Build the folders."""
    given = parsed_arguments(words)
    if given.build:
        print(json.dumps(build_sets(given.build, given.sources)))
    return 0


def parsed_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--build", type=Path, metavar="DIR", help="write DIR/icons and DIR/photos")
    parser.add_argument("--sources", type=Path, help="folder that has the packages' files already")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
