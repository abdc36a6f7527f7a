"""How sartor does on folders of pictures as a user has them.

    python benchmarks/own_pictures.py --build DIR                   # npm and apt fetch the packages
    python benchmarks/own_pictures.py --build DIR --sources FOLDER  # they lie in FOLDER already
    python benchmarks/own_pictures.py --accuracy DIR                # what is not measured yet
    python benchmarks/own_pictures.py --accuracy DIR --kind baselines --minutes 10
    python benchmarks/own_pictures.py --planted DIR                 # faults; see planted.py

DIR/icons gets the emoji of three vendors in 10 classes, DIR/photos photographs and cut-outs in 11;
see own_pictures_sets.py. Accuracies, of the default beside those of simple methods, and of the
default with single choices undone, are kept in docs/own_pictures.json and written into
docs/pictures.md and docs/recipes.md; the work may be spent in pieces.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from own_pictures_sets import build_sets


def main(words: Sequence[str] | None = None) -> int:
    """Build the folders, measure what is missing."""
    given = parsed_arguments(words)
    if given.build:
        print(json.dumps(build_sets(given.build, given.sources)))
    if given.accuracy:
        from own_pictures_accuracy import measure
        from own_pictures_page import write_pages

        results = measure(
            given.accuracy,
            kind=given.kind,
            only=given.only,
            minutes=given.minutes,
            fresh=given.fresh,
        )
        write_pages(results)
    if given.planted:
        import planted

        found = planted.measure(
            given.planted, only=given.only, minutes=given.minutes, fresh=given.fresh
        )
        planted.write_page(found)
    return 0


def parsed_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--build", type=Path, metavar="DIR", help="write DIR/icons and DIR/photos")
    parser.add_argument("--sources", type=Path, help="folder that has the packages' files already")
    parser.add_argument("--accuracy", type=Path, metavar="DIR", help="measure on DIR's two sets")
    parser.add_argument("--planted", type=Path, metavar="DIR", help="plant faults into the two")
    parser.add_argument("--kind", choices=["baselines", "choices"], help="one kind of measurement")
    parser.add_argument("--only", choices=["icons", "photos"], help="one of the sets")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin nothing after so many")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
