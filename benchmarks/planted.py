"""Faults planted into folders of pictures, and how many of them `sartor check` finds.

    python benchmarks/planted.py DIR [--only photos] [--minutes 10] [--fresh]

DIR has the folders icons and photos that `own_pictures.py --build DIR` makes. Each fault is planted
into a copy of its own, so that no fault hides another; what check reports of the folder as it is
counts as false, as far as it is not a planted fault. Wrong labels and strangers are looked for by
the features of a pretrained backbone and by small pixels.

Every result is kept in docs/planted.json as soon as it is there, and not measured again; the tables
stand in docs/pictures.md.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import machine
from PIL import Image, ImageOps

import sartor
from sartor.files import write_json
from sartor.home import cache_home
from sartor.inspection.check.finding import Finding

RESULTS = machine.DOCS / "planted.json"
BEGIN, END = "<!-- planted: begin -->", "<!-- planted: end -->"
SETS = ("icons", "photos")
COUNT = 20
"""Faults of each kind."""
STRANGERS = 10
"""Pictures of the other set."""
SHARES = (0.0, 0.02, 0.1)
"""Of labels that are wrong."""
SEEDS = 3
"""Draws of wrong labels, which matter much for what is found."""
JUDGES = ("auto", "off")
"""With the features of a backbone and without."""
Plant = Callable[[Path, random.Random], Path]
"""Makes a fault of a picture, and returns the file to be named."""


class Kind(NamedTuple):
    """A kind of fault."""

    name: str
    check: str
    kinds: tuple[str, ...]
    """Beginnings of the findings' kinds that name it."""
    plant: Plant
    suits: Callable[[Path], bool] = lambda _: True
    """Whether a picture can have it."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """Faults of one kind in one set."""

    data: str
    kind: str
    features: str
    """auto, with a backbone, or off."""
    seed: int
    figures: dict[str, float]


def main(words: Sequence[str] | None = None) -> int:
    """Plant and check what is not measured yet, and write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--only", choices=SETS, help="one of the sets")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin nothing after so many")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    given = parser.parse_args(words)
    results = measure(given.folder, only=given.only, minutes=given.minutes, fresh=given.fresh)
    write_page(results)
    return 0


def measure(
    folder: Path,
    *,
    only: str | None = None,
    minutes: float = 1e9,
    fresh: bool = False,
) -> list[Result]:
    """Every result, those that were kept and those that are missing."""
    kept = {} if fresh or not RESULTS.exists() else json.loads(RESULTS.read_text())
    results = [Result(**one) for one in kept.get("results", [])]
    known = {(one.data, one.kind, one.features, one.seed) for one in results}
    machines = list(kept.get("machines", []))
    end = time.monotonic() + 60 * minutes
    for data in SETS if only is None else (only,):
        for kind, features, seed, planted in _trials(folder, data):
            if (data, kind, features, seed) in known or time.monotonic() > end:
                continue
            with _forgotten_pictures():
                figures = planted()
            results.append(
                Result(data=data, kind=kind, features=features, seed=seed, figures=figures)
            )
            print(f"{data}, {kind}, features {features}: {figures}", flush=True)
            here = machine.describe(machine.command_of("planted"))
            del here["load before"], here["date"], here["command"]
            if here not in machines:
                machines.append(here)
            write_json(RESULTS, {"machines": machines, "results": [asdict(one) for one in results]})
    return results


Trial = tuple[str, str, int, Callable[[], dict[str, float]]]


def _trials(folder: Path, data: str) -> Iterator[Trial]:
    """What is planted into a set: a name, features or not, the seed, and the work."""
    for kind in KINDS:
        yield kind.name, "auto", 0, partial(_of_kind, kind, folder / data, 0)
    for share in SHARES:
        # Where nothing is planted, draws do not differ.
        for seed in range(SEEDS if share else 1):
            for features in JUDGES:
                work = partial(_of_labels, folder / data, share, seed, features)
                yield f"wrong labels, {share:.0%}", features, seed, work
    other = folder / SETS[1 - SETS.index(data)]
    for seed in range(SEEDS):
        yield "strangers", "auto", seed, partial(_of_strangers, folder / data, other, seed)


@contextmanager
def _forgotten_pictures() -> Iterator[None]:
    """Prepared pictures of the copies are removed from the cache; features stay."""
    folder = cache_home() / "pictures"
    before = set(folder.glob("*/*"))
    try:
        yield
    finally:
        for path in set(folder.glob("*-*/*")) - before:
            shutil.rmtree(path)


# ------------------------------------------------------------------------------------ tables


def write_page(results: Sequence[Result]) -> None:
    """Put the tables between their marks."""
    page = machine.DOCS / "pictures.md"
    machine.written_into(page, BEGIN, END, tables(results))


def tables(results: Sequence[Result]) -> list[str]:
    """The results as Markdown: faults, wrong labels, strangers."""
    faults = ("planted", "found", "missed", "false")
    lines = ["| set | fault | planted | found | missed | false |", "|---|---|--:|--:|--:|--:|"]
    kinds = [kind.name for kind in KINDS]
    found = [one for one in results if "missed" in one.figures]
    found.sort(key=lambda one: (SETS.index(one.data), kinds.index(one.kind)))
    lines += [f"| {one.data} | {one.kind} | {_cells(one, faults)} |" for one in found]
    lines += [
        "",
        "| set | judge | draws | wrong labels | named | of these wrong | of the first 24 "
        "| said: at most | labels it predicts |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    labels = ("planted", "named", "named_wrong", "first_24_wrong", "at_most", "agreement")
    lines += [
        f"| {data} | {_JUDGE[features]} | {len(alike)} | {_means(alike, labels)} |"
        for (data, _, features), alike in _by_kind(results, "at_most")
    ]
    lines += [
        "",
        "| set | draws | strangers | of the first 10 | of the first 20 | said far outside: right "
        "| wrong |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    strangers = ("planted", "first_10", "first_20", "far_right", "far_wrong")
    lines += [
        f"| {data} | {len(alike)} | {_means(alike, strangers)} |"
        for (data, _, _), alike in _by_kind(results, "far_right")
    ]
    return lines


_JUDGE = {"auto": "features", "off": "small pixels"}


def _by_kind(
    results: Sequence[Result], figure: str
) -> Iterator[tuple[tuple[str, str, str], list[Result]]]:
    """Results that have a figure, those that differ only in their seed together."""

    having = [one for one in results if figure in one.figures]
    having.sort(key=lambda one: (SETS.index(one.data), one.figures["planted"], one.features))
    for name, alike in groupby(having, lambda one: (one.data, one.kind, one.features)):
        yield name, list(alike)


def _cells(result: Result, names: Sequence[str]) -> str:
    return " | ".join(f"{result.figures[name]:g}" for name in names)


def _means(results: Sequence[Result], names: Sequence[str]) -> str:
    """Means over the draws, and the range where they differ."""
    return " | ".join(_mean([one.figures[name] for one in results], name) for name in names)


def _mean(values: Sequence[float], name: str) -> str:
    mean = statistics.fmean(values)
    if name == "agreement":
        return f"{mean:.0%}"
    if min(values) == max(values):
        return f"{mean:g}"
    return f"{mean:.1f} ({min(values):g} to {max(values):g})"


# ------------------------------------------------------------------------------------ trials


def _of_kind(kind: Kind, folder: Path, seed: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as place:
        copy = Path(shutil.copytree(folder, Path(place) / folder.name))
        dice = random.Random(f"{seed} {kind.name}")
        chosen = dice.sample([path for path in _files(copy) if kind.suits(path)], COUNT)
        before = _named(folder, kind)
        faults = {kind.plant(path, dice).relative_to(copy).as_posix() for path in chosen}
        named = _named(copy, kind)
        origins = {path.relative_to(copy).as_posix() for path in chosen}
    found = len(faults & named)
    return {
        "planted": len(faults),
        "found": found,
        "missed": len(faults) - found,
        "false": len(named - faults - origins - before),
    }


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _named(folder: Path, kind: Kind) -> set[str]:
    """The files that a check names for one kind of fault."""
    report = sartor.check(folder, only=[kind.check])
    return {item.file for finding in _of(report.findings, kind) for item in finding.items}


def _of(findings: Iterable[Finding], kind: Kind) -> list[Finding]:
    return [one for one in findings if one.kind.startswith(kind.kinds)]


def _of_labels(folder: Path, share: float, seed: int, features: str) -> dict[str, float]:
    """Move a share of the pictures into the folder of another class, drawn at random."""
    with tempfile.TemporaryDirectory() as place:
        copy = Path(shutil.copytree(folder, Path(place) / folder.name))
        dice = random.Random(f"{seed} {share}")
        files = _files(copy)
        classes = sorted(path.name for path in copy.iterdir())
        wrong = set()
        for path in dice.sample(files, round(share * len(files))):
            other = dice.choice([name for name in classes if name != path.parent.name])
            moved = path.rename(copy / other / f"moved-{path.parent.name}-{path.name}")
            wrong.add(moved.relative_to(copy).as_posix())
        began = time.perf_counter()
        report = sartor.check(copy, only=["labels"], features=features)
    items = [item for finding in report.findings for item in finding.items]
    items.sort(key=lambda item: item.figures["trust"])
    named = [item.file for item in items if item.figures["probably_wrong"]]
    figures: list[Any] = [one.figures for one in report.findings]
    return {
        "planted": len(wrong),
        "named": len(named),
        "named_wrong": len(wrong & set(named)),
        "first_24_wrong": len(wrong & {item.file for item in items[:24]}),
        "at_most": max((one["wrong_at_most"] for one in figures), default=0),
        "agreement": max((one["agreement"] for one in figures), default=1.0),
        "seconds": round(time.perf_counter() - began, 1),
    }


def _of_strangers(folder: Path, other: Path, seed: int) -> dict[str, float]:
    """Put pictures of another set into classes drawn at random."""
    with tempfile.TemporaryDirectory() as place:
        copy = Path(shutil.copytree(folder, Path(place) / folder.name))
        dice = random.Random(f"{seed} strangers")
        classes = sorted(path.name for path in copy.iterdir())
        strangers = set()
        for number, path in enumerate(dice.sample(_files(other), STRANGERS)):
            target = copy / dice.choice(classes) / f"stranger-{number}{path.suffix}"
            shutil.copy(path, target)
            strangers.add(target.relative_to(copy).as_posix())
        report = sartor.check(copy, only=["outliers"])
    items = [item for finding in report.findings for item in finding.items]
    named = [item.file for item in items]
    far = {item.file for item in items if item.figures["far"]}
    return {
        "planted": len(strangers),
        "first_10": len(strangers & set(named[:10])),
        "first_20": len(strangers & set(named[:20])),
        "far_right": len(strangers & far),
        "far_wrong": len(far - strangers),
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


def _silhouette(path: Path, dice: random.Random) -> Path:
    """Make a picture a black shape, told only by its alpha, and return a smaller copy of that."""
    with Image.open(path) as picture:
        alpha = picture.convert("RGBA").getchannel("A")
    shape = Image.new("RGBA", alpha.size, (0, 0, 0, 0))
    shape.putalpha(alpha)
    shape.save(path)
    copy = path.with_name(f"planted-{dice.randrange(10**9)}.png")
    _smaller(shape).save(copy)
    return copy


def _transparent(path: Path) -> bool:
    """Whether some, but not all of a picture is transparent."""
    if path.suffix != ".png":
        return False
    with Image.open(path) as picture:
        low, high = picture.convert("RGBA").getchannel("A").getextrema()
    return (low, high) == (0, 255)


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
    Kind(
        "smaller copy of a black shape behind alpha",
        "near-duplicates",
        _NEAR,
        _silhouette,
        _transparent,
    ),
)

if __name__ == "__main__":
    sys.exit(main())
