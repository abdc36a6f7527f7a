"""Trains, does to it whatever a machine and its people can do, resumes it, and compares the bits.

    make torture                                        # ten minutes; writes docs/torture.md
    python benchmarks/torture.py --minutes 60 --seed 7
    python benchmarks/torture.py --trials 20 --only SIGKILL flipped --mixtures augmented

A trial is one small real training of a mixture of what a resume could get wrong, and one kind of
trouble at a random moment, at a random change of its folder or in a random file. Then the run is
resumed. Its weights, its best weights, history, split, calibration and recipe must be those of an
undisturbed training; or else a sentence must say why it cannot be resumed, and the training from
the start must come to the same. Anything else, a traceback above all, is a failure: exit code 1.
Everything follows from the seed but the moments, which depend on the machine.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import lost_writes
import machine
import numpy as np
from PIL import Image, ImageDraw
from torture_crew import Crew, compiled_faults, compiler, outcome
from torture_kinds import (
    BROKEN,
    DIFFERENT,
    EQUAL,
    KINDS,
    REFUSED,
    Mixture,
    Trial,
    Undisturbed,
    Verdict,
    fit_words,
    names_like,
    tried,
)

from sartor import files

CREWS = 2
SMALL = ("digits", "--epochs", "3", "--batch-size", "96", "--threads", "1")
OFTEN = ("--checkpoint-seconds", "0.01")
AUGMENT = ("--augment", "flip", "shift=0.2", "rotate=20", "erase=0.5")

MIXTURES = (
    Mixture(
        name="dropout",
        words=(*SMALL, *OFTEN, "--model", "mlp", "--model-kwargs", "hidden=32", "dropout=0.3"),
        reported=True,
    ),
    Mixture(name="augmented", words=(*SMALL, *OFTEN, "--model", "lenet", *AUGMENT)),
    Mixture(
        name="mixup, workers",
        words=(
            *(*SMALL, *OFTEN, "--model", "mlp", "--augment", "shift=0.1", "mixup", "cutmix"),
            *("--smoothing", "0.1", "--workers", "2"),
        ),
    ),
    Mixture(
        name="balanced sampler",
        words=(
            *(*SMALL, *OFTEN, "--model", "mlp", "--sampler", "balanced", "--augment", "rotate"),
            *("--opt", "rmsprop", "--sched", "step"),
        ),
    ),
    Mixture(
        name="accumulation",
        words=(
            *(*SMALL, *OFTEN, "--model", "mlp", "--batch-size", "40", "--grad-accum-steps", "3"),
            *("--clip-grad", "0.5", "--drop-last", "--opt", "sgd", "--momentum", "0.9"),
        ),
    ),
    Mixture(
        name="early stopping",
        words=(
            *(*SMALL, *OFTEN, "--model", "linear", "--epochs", "9", "--patience", "2"),
            *("--lr", "0.3", "--monitor", "val_loss"),
        ),
    ),
    Mixture(
        name="bfloat16",
        words=(
            *(*SMALL, *OFTEN, "--model", "resnet8", "--amp-dtype", "bfloat16", "--epochs", "1"),
            *("--limit-per-class", "40", "--augment", "flip"),
        ),
    ),
    Mixture(
        name="views",
        words=(
            *(*SMALL, *OFTEN, "--model", "lenet", "--tta", "flip-shift", "--warmup-epochs", "1"),
            *("--sched", "onecycle", "--val-fraction", "0.3"),
        ),
    ),
    Mixture(
        name="a network of one's own",
        words=(*SMALL, *OFTEN, "--model", "FILES/net.py:Net", "--opt", "adam"),
    ),
    Mixture(
        name="features of a backbone",
        words=(
            *("FILES/pictures", "--model", "efficientnet-lite0", "--transfer", "features"),
            *("--image-size", "32", "--threads", "1", "--augment", "flip"),
        ),
    ),
    Mixture(
        name="ladder",
        words=(
            *("FILES/pictures", "--model", "efficientnet-lite0", "--transfer", "ladder"),
            *("--image-size", "32", "--threads", "1", "--epochs", "2", *OFTEN),
        ),
    ),
)


@dataclass
class Tally:
    """What came of all trials."""

    verdicts: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, trial: Trial, kind: str, verdict: Verdict) -> None:
        """Count one."""
        with self.lock:
            key = (kind, trial.mixture.name)
            self.verdicts.setdefault(key, Counter())[verdict.what] += 1
            if verdict.what in (DIFFERENT, BROKEN):
                what = f"{kind}, {trial.mixture.name}: {verdict.what}: {verdict.because}"
                self.failures.append(f"{what} [{'; '.join(trial.notes)}] {trial.out}")

    def total(self) -> Counter[str]:
        """Of all kinds."""
        return sum(self.verdicts.values(), Counter())

    def by(self, part: int) -> dict[str, Counter[str]]:
        """By kind (0) or by mixture (1)."""
        found: dict[str, Counter[str]] = {}
        for key, counts in self.verdicts.items():
            found.setdefault(key[part], Counter()).update(counts)
        return found


def main(words: Sequence[str] | None = None) -> int:
    """Torment, print, write the page."""
    given = _parse(words)
    if compiler() is None:
        print("There is no C compiler (cc, gcc or clang), which the faults need.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="sartor-torture-", ignore_cleanup_errors=True) as temp:
        folder = Path(temp)
        library = compiled_faults(folder)
        with ExitStack() as stack:
            crews = [
                stack.enter_context(Crew(folder / f"crew-{number}", library))
                for number in range(given.crews)
            ]
            tally = torment(folder, crews, given)
            lost = lost_writes.search(folder / "lost", crews[0], given.states, given.seed)
    for failure in (*tally.failures, *lost.failures):
        print(f"FAILED {failure}", file=sys.stderr)
    for line in tables(tally, lost):
        print(line)
    if given.page:
        files.write_text(given.page, page(tally, lost, given))
    return 1 if tally.failures or lost.failures else 0


def torment(folder: Path, crews: Sequence[Crew], given: argparse.Namespace) -> Tally:
    """All trials, each by the next crew that is free."""
    mixtures = _with_files(folder / "files", given.mixtures)
    known = [undisturbed(crews[0], one, folder / "undisturbed") for one in mixtures]
    for crew in crews[1:]:
        # What a first training writes into the cache is there for all.
        for number, one in enumerate(mixtures):
            crew.run(fit_words(one, folder / crew.folder.name / f"first-{number}"))
    tally, began = Tally(), time.monotonic()
    todo = _trials(mixtures, known, names_like(given.only), given.seed)
    if given.trials:
        todo = itertools.islice(todo, given.trials)
    lock = threading.Lock()

    def work(crew: Crew) -> None:
        while given.trials or time.monotonic() - began < 60 * given.minutes:
            with lock:
                found = next(todo, None)
            if found is None:
                return
            number, kind, mixture, expected = found
            trial = Trial(
                crew=crew,
                mixture=mixture,
                expected=expected,
                out=folder / f"trial-{number}" / "run",
                rng=random.Random(f"{given.seed} {number}"),
            )
            trial.out.parent.mkdir()
            verdict = tried(trial, kind)
            tally.add(trial, kind, verdict)
            if given.verbose or verdict.what in (DIFFERENT, BROKEN):
                notes = "; ".join(trial.notes)
                print(f"{number} {kind}, {mixture.name}: {verdict.what} {verdict.because}", notes)

    with ThreadPoolExecutor(len(crews)) as pool:
        for one in [pool.submit(work, crew) for crew in crews]:
            one.result()
    tally.seconds = time.monotonic() - began
    return tally


def undisturbed(crew: Crew, mixture: Mixture, folder: Path) -> Undisturbed:
    """What a mixture comes to: twice, for the first time fills the cache."""
    folder.mkdir(exist_ok=True)
    found = []
    for number in range(2):
        out = folder / f"{mixture.name}-{number}"
        began = time.monotonic()
        started = crew.begin(
            fit_words(mixture, out), {"folder": str(out), "what": "nothing", "at": 1}
        )
        ended = started.wait()
        if ended.code != 0:
            raise SystemExit(f"{mixture.name} cannot be trained: {ended.err}")
        touches = int(Path(f"{started.said}.touches").read_text())
        found.append(
            Undisturbed(outcome=outcome(out), seconds=time.monotonic() - began, touches=touches)
        )
    assert found[0].outcome == found[1].outcome, f"{mixture.name} is not reproducible"
    return found[1]


def _trials(
    mixtures: Sequence[Mixture], known: Sequence[Undisturbed], kinds: Sequence[str], seed: int
) -> Iterator[tuple[int, str, Mixture, Undisturbed]]:
    """Without end: each kind with each mixture, in an order of its own each round."""
    rng = random.Random(seed)
    pairs = list(itertools.product(kinds, range(len(mixtures))))
    numbers = itertools.count()
    while True:
        rng.shuffle(pairs)
        # So that few trials have every kind and every mixture.
        seen: Counter[str] = Counter()
        order = []
        for pair in pairs:
            seen[pair[0]] += 1
            order.append((seen[pair[0]], pair))
        for _, (kind, index) in sorted(order, key=lambda one: one[0]):
            yield next(numbers), kind, mixtures[index], known[index]


NETWORK = """
import random

import numpy as np
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.BatchNorm1d(48), nn.ReLU())
        self.head = nn.Linear(48, num_classes)

    def forward(self, images):
        if self.training:  # random in its own way
            images = images * random.uniform(0.5, 1) + float(np.random.normal(0, 0.1))
        return self.head(self.body(images))
"""


def _with_files(folder: Path, wanted: Sequence[str]) -> list[Mixture]:
    """The mixtures asked for; some are of files in a folder, which are made here."""
    chosen = [one for one in MIXTURES if not wanted or any(word in one.name for word in wanted)]
    draw_pictures(folder / "pictures")
    (folder / "net.py").write_text(NETWORK)
    return [
        Mixture(
            name=one.name,
            words=tuple(word.replace("FILES", str(folder)) for word in one.words),
            reported=one.reported,
        )
        for one in chosen
    ]


def draw_pictures(folder: Path, count: int = 16) -> None:
    """Three classes of shapes in many colours."""
    rng = np.random.default_rng(1)
    for name in ("circle", "square", "line"):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            picture = Image.fromarray(rng.integers(0, 90, (48, 48, 3), np.uint8))
            pen, colour = ImageDraw.Draw(picture), tuple(rng.integers(120, 256, 3).tolist())
            x, y, size = (int(rng.integers(4, 16)), int(rng.integers(4, 16)), 24)
            box = (x, y, x + size, y + size)
            if name == "circle":
                pen.ellipse(box, fill=colour)
            elif name == "square":
                pen.rectangle(box, fill=colour)
            else:
                pen.line(box, fill=colour, width=4)
            picture.save(folder / name / f"{number}.png")


def tables(tally: Tally, lost: lost_writes.Lost) -> list[str]:
    """In Markdown: by kind, by mixture, and what was lost with the machine."""
    heads = ("trouble", "training")
    lines: list[str] = []
    for part, order in ((0, list(KINDS)), (1, [one.name for one in MIXTURES])):
        counts = tally.by(part)
        rows = [(name, counts[name]) for name in order if name in counts]
        lines += [*_table(heads[part], [*rows, ("**all**", tally.total())]), ""]
    return [*lines, *lost.table()]


def _table(head: str, rows: Sequence[tuple[str, Mapping[str, int]]]) -> list[str]:
    lines = [
        f"| {head} | trials | equal | refused in a sentence, equal from the start | different | "
        "broken |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, counts in rows:
        figures = [counts.get(what, 0) for what in (EQUAL, REFUSED, DIFFERENT, BROKEN)]
        lines.append(f"| {name} | {sum(figures)} | {' | '.join(map(str, figures))} |")
    return lines


def page(tally: Tally, lost: lost_writes.Lost, given: argparse.Namespace) -> str:
    """docs/torture.md."""
    described = machine.markdown_of(machine.describe(machine.command_of("torture")))
    total = tally.total()
    good = total[EQUAL] + total[REFUSED]
    failures = [f"- {one}" for one in (*tally.failures, *lost.failures)]
    return "\n".join(
        [
            "# Killed, starved, damaged: what came of it",
            "",
            f"**{good:,} of {sum(total.values()):,} trainings** that were disturbed came to the",
            f"same bits as undisturbed ones: {total[EQUAL]:,} when they were resumed, "
            f"{total[REFUSED]:,} from the start,",
            "after a sentence had said what was lost. "
            f"{total[DIFFERENT]} came to other bits, and {total[BROKEN]} ended in a",
            f"traceback or without a way on. Of {lost.states:,} states of a disk that a crash of "
            f"the machine may",
            f"leave, {lost.good:,} came to the same bits.",
            "",
            *(ABOUT + (__doc__ or "").partition(ABOUT)[2]).strip().splitlines(),
            "",
            *described,
            "",
            f"{tally.seconds / 60:.1f} minutes by {given.crews} processes, seed {given.seed}.",
            "",
            "## What was done",
            "",
            *tables(tally, lost),
            "",
            *EXPLAINED.strip().splitlines(),
            *(["", "## Failures", "", *failures] if failures else []),
            "",
        ]
    )


ABOUT = "A trial is one small real training"

EXPLAINED = """
## How

A library between the program and the C library counts every call that changes the run's folder
([faults.c](../benchmarks/faults/faults.c)): opening for writing, writing, flushing, renaming,
creating, removing, cutting. A fault is put at one of these calls, chosen at random: the process is
killed just before it or after half of the bytes, or the call fails with an error, once or from
then on. Signals come at random moments of a training's time, its first and its last moments
included. A damaged file is any file of the run's folder, chosen at random after the process was
killed at a random call.

"Refused" is what is right where something is gone that nothing else knows: a recipe that was
changed, a split or all checkpoints that are damaged. The sentence says which, and the same training
from the start comes to the same bits.

For a crash of the machine, all changes of one training are written down with their bytes. Then
states of the disk are made up that such a crash may leave: at a random change everything ends; of
what was not flushed any part may be there, bytes may be missing or zero, and names in a folder that
was not flushed may be the old ones. Each state is resumed.

## Tried by tests

Where nothing can be written, be it a file system mounted read-only or a folder without the right,
verbs that only read do so (`data`, `check`, `predict`, `evaluate`, `report`, `show`, `trace`,
`verify`, `resume --prove`), and say what they could not keep; the others end in one sentence and
exit code 1, and nothing changes (`tests/api/test_read_only_places.py`). A file that is there and
may not be read is told as that, not as damaged: nobody is advised to delete it. `resume --prove` is
made of interrupted and of extended runs (`tests/api/test_proving.py`). Bundles are cut, changed by
a bit, and robbed of each of their files (`tests/bundle/`).

Not tried: several disks, network file systems, a kernel that says a flush is done when it is not.
`sartor resume RUN --prove` does some of it to a copy of a run of your own.
"""


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="how long, beside the start")
    parser.add_argument("--trials", type=int, help="how many, instead of how long")
    parser.add_argument("--states", type=int, default=200, help="of a disk after a crash")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--crews", type=int, default=min(CREWS, os.cpu_count() or 1))
    parser.add_argument("--only", nargs="*", default=[], help="words of kinds of trouble")
    parser.add_argument("--mixtures", nargs="*", default=[], help="words of mixtures")
    parser.add_argument("--page", type=Path, help="file to write, such as docs/torture.md")
    parser.add_argument("--verbose", action="store_true", help="a line for every trial")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
