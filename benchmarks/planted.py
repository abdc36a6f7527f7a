"""Faults planted into a folder of pictures, and how many of them `sartor check` finds.

    python benchmarks/planted.py FOLDER [FOLDER ...] [--seed 0] [--page FILE]

FOLDER is one that `own_pictures.py --build` made, a folder per class. Each fault is planted into a
copy of its own, so that no fault hides another; what check reports of the folder as it is counts
as false, as far as it is not a planted fault.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageOps

import sartor
from sartor.inspection.check.finding import Finding

COUNT = 20
"""Faults of each kind."""
Plant = Callable[[Path, random.Random], Path]
"""Makes a fault of a picture, and returns the file to be named."""


class Kind(NamedTuple):
    """A kind of fault."""

    name: str
    check: str
    kinds: tuple[str, ...]
    """Beginnings of the findings' kinds that name it."""
    plant: Plant


def main(words: Sequence[str] | None = None) -> int:
    """Plant, check, and print or write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--page", type=Path, help="write the tables to this file, as Markdown")
    given = parser.parse_args(words)
    results = {folder.name: planted(folder, given.seed) for folder in given.folders}
    print(json.dumps(results, indent=2))
    if given.page:
        given.page.write_text(tables(results))
    return 0


def planted(folder: Path, seed: int = 0) -> dict[str, dict[str, float]]:
    """Found, missed and false of each kind of fault, and of wrong labels at 2 and 10 %."""
    results: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as place:
            results[kind.name] = _of_kind(kind, folder, Path(place) / folder.name, seed)
    for share in (0.0, 0.02, 0.1):
        with tempfile.TemporaryDirectory() as place:
            copy = Path(place) / folder.name
            results[f"wrong labels, {share:.0%}"] = _of_labels(folder, copy, share, seed)
    return results


def tables(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """The results as Markdown: a table of faults, and one of labels."""
    lines = ["| set | fault | planted | found | missed | false |", "|---|---|---|---|---|---|"]
    labels = [
        "| set | wrong labels | named | of these wrong | of the first 24 | said: at most |",
        "|---|---|---|---|---|---|",
    ]
    for name, kinds in results.items():
        for kind, row in kinds.items():
            if "named" in row:
                cells = ("planted", "named", "named_wrong", "first_24_wrong", "at_most")
                labels.append(
                    f"| {name} | " + " | ".join(f"{row[cell]:g}" for cell in cells) + " |"
                )
            else:
                cells = ("planted", "found", "missed", "false")
                lines.append(
                    f"| {name} | {kind} | " + " | ".join(f"{row[cell]:g}" for cell in cells) + " |"
                )
    return "\n".join([*lines, "", *labels]) + "\n"


def _of_kind(kind: Kind, folder: Path, copy: Path, seed: int) -> dict[str, float]:
    shutil.copytree(folder, copy)
    dice = random.Random(f"{seed} {kind.name}")
    chosen = dice.sample(sorted(path for path in copy.rglob("*") if path.is_file()), COUNT)
    before = _named(folder, kind)
    faults = {kind.plant(path, dice).relative_to(copy).as_posix() for path in chosen}
    named = _named(copy, kind)
    found = len(faults & named)
    origins = {path.relative_to(copy).as_posix() for path in chosen}
    return {
        "planted": len(faults),
        "found": found,
        "missed": len(faults) - found,
        "false": len(named - faults - origins - before),
    }


def _named(folder: Path, kind: Kind) -> set[str]:
    """The files that a check names for one kind of fault."""
    report = sartor.check(folder, only=[kind.check])
    return {item.file for finding in _of(report.findings, kind) for item in finding.items}


def _of(findings: Iterable[Finding], kind: Kind) -> list[Finding]:
    return [one for one in findings if one.kind.startswith(kind.kinds)]


def _of_labels(folder: Path, copy: Path, share: float, seed: int) -> dict[str, float]:
    """Move a share of the pictures into the folder of another class, drawn at random."""
    shutil.copytree(folder, copy)
    dice = random.Random(f"{seed} {share}")
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    classes = sorted(path.name for path in copy.iterdir())
    wrong = set()
    for path in dice.sample(files, round(share * len(files))):
        other = dice.choice([name for name in classes if name != path.parent.name])
        moved = path.rename(copy / other / f"moved-{path.parent.name}-{path.name}")
        wrong.add(moved.relative_to(copy).as_posix())
    report = sartor.check(copy, only=["labels"])
    items = [item for finding in report.findings for item in finding.items]
    items = sorted(
        (item for item in items if item.figures["probably_wrong"]),
        key=lambda item: item.figures["trust"],
    )
    at_most = max((one.figures["wrong_at_most"] for one in report.findings), default=0)
    return {
        "planted": len(wrong),
        "named": len(items),
        "named_wrong": sum(item.file in wrong for item in items),
        "first_24_wrong": sum(item.file in wrong for item in items[:24]),
        "at_most": at_most,
    }


# ------------------------------------------------------------------------------------ faults


def _cut_off(path: Path, _: random.Random) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def _wrong_suffix(path: Path, _: random.Random) -> Path:
    other = ".jpg" if path.suffix.lower() == ".png" else ".png"
    return path.rename(path.with_suffix(other))


def _turned_by_exif(path: Path, _: random.Random) -> Path:
    with Image.open(path) as picture:
        exif = picture.getexif()
        exif[0x0112] = 6
        picture.save(path, exif=exif)
    return path


def _copied(change: Callable[[Image.Image], Image.Image] | None, suffix: str = "") -> Plant:
    def plant(path: Path, dice: random.Random) -> Path:
        copy = path.with_name(f"planted-{dice.randrange(10**9)}{suffix or path.suffix}")
        if change is None:
            return Path(shutil.copy(path, copy))
        with Image.open(path) as picture:
            changed = change(picture.convert("RGBA" if picture.mode in "PLA" else picture.mode))
            if copy.suffix.lower() in (".jpg", ".jpeg"):
                over = Image.new("RGBA", changed.size, "white")
                over.alpha_composite(changed.convert("RGBA"))
                over.convert("RGB").save(copy, quality=85)
            else:
                changed.save(copy)
        return copy

    return plant


def _smaller(picture: Image.Image) -> Image.Image:
    return picture.resize(tuple(max(1, round(side * 0.7)) for side in picture.size))


_NEAR = ("almost equal", "equal")

KINDS = (
    Kind("cut off", "files", ("unreadable",), _cut_off),
    Kind("wrong suffix", "files", ("wrong ending",), _wrong_suffix),
    Kind("turned by EXIF", "formats", ("turned",), _turned_by_exif),
    Kind("exact copy", "duplicates", ("equal",), _copied(None)),
    Kind("smaller copy", "near-duplicates", _NEAR, _copied(_smaller)),
    Kind("copy as JPEG", "near-duplicates", _NEAR, _copied(lambda one: one, ".jpg")),
    Kind("mirrored copy", "near-duplicates", _NEAR, _copied(ImageOps.mirror, ".png")),
    Kind(
        "copy turned by 90 degrees",
        "near-duplicates",
        _NEAR,
        _copied(lambda one: one.transpose(Image.Transpose.ROTATE_90), ".png"),
    ),
)

if __name__ == "__main__":
    sys.exit(main())
