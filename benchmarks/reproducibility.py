"""What must be the same for a training to come to the same bits, tried one by one.

    python benchmarks/reproducibility.py --page docs/reproducibility.md
    python benchmarks/reproducibility.py --only thread   # prints, for conditions of these words
    python benchmarks/reproducibility.py --kept bits.json --minutes 3   # in pieces

Each condition is a process of its own that trains some small networks on the digits, all of them
augmented, by the engine native or by plain. Its weights are compared with those of a reference: one
thread, no workers, the machine's own instructions. Equal means every bit of every weight. Where it
is not equal, the largest difference of a weight is given as a share of the largest weight of its
tensor, and how many of the validation images are classified differently in the end.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import machine
import numpy as np

from sartor import files, native_module

_MLP = {"model": "mlp", "model_kwargs": {"hidden": (64, 32), "dropout": 0.2}}
_RESNET = {"model": "resnet8", "limit_per_class": 30}
_NATIVE, _PLAIN = {"engine": "native"}, {"engine": "plain"}
BY_NATIVE: Mapping[str, Mapping[str, Any]] = {
    "mlp by native": {**_MLP, **_NATIVE},
    "lenet by native": {"model": "lenet", **_NATIVE},
    "convnet by native": {"model": "convnet", "limit_per_class": 20, **_NATIVE},
}
BY_PLAIN: Mapping[str, Mapping[str, Any]] = {
    "mlp by plain": {**_MLP, **_PLAIN},
    "lenet by plain": {"model": "lenet", **_PLAIN},
    "resnet8 by plain": {**_RESNET, **_PLAIN, "amp_dtype": "float32"},
    "resnet8 by plain in bfloat16": {**_RESNET, **_PLAIN, "amp_dtype": "bfloat16"},
}
NETWORKS: Mapping[str, Mapping[str, Any]] = {**BY_NATIVE, **BY_PLAIN}
COMMON: Mapping[str, Any] = {
    "epochs": 2,
    "batch_size": 96,
    "augment": ("flip", "shift=0.1", "rotate=10"),
    "report": False,
    "check": False,
}


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What is not as in the reference."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    like: str = ""
    """The condition whose bits it is compared with; empty for the reference."""
    promised: bool = False
    """Whether sartor promises that it changes no bit."""
    at_once: int = 1
    """How many processes do it at the same time."""
    networks: tuple[str, ...] = tuple(NETWORKS)


def _of_instructions() -> Iterator[Condition]:
    """The engine native with each instruction set of this processor, and on several threads."""
    *narrower, widest = native_module.instruction_sets() or ("auto",)
    several: dict[str, Any] = {"networks": tuple(BY_NATIVE)}
    yield Condition(
        name=f"instructions {widest}, by name",
        settings={"instructions": widest},
        promised=True,
        **several,
    )
    for one in reversed(narrower):
        name, settings = f"instructions {one}", {"instructions": one}
        # All but generic round a product and a sum once.
        yield Condition(name=name, settings=settings, promised=one != "generic", **several)
        yield Condition(
            name=f"{name}, again", settings=settings, like=name, promised=True, **several
        )
        with_two = {**settings, "threads": 2}
        yield Condition(name=f"{name}, two threads", settings=with_two, like=name, **several)
        yield Condition(
            name=f"{name}, two threads again",
            settings=with_two,
            like=f"{name}, two threads",
            promised=True,
            **several,
        )


_INSTRUCTIONS = tuple(_of_instructions())
CONDITIONS = (
    Condition(name="the same again", promised=True),
    Condition(
        name="another hash seed, folder and time zone",
        variables={"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C"},
        promised=True,
    ),
    Condition(name="beside two others on a busy machine", at_once=3, promised=True),
    Condition(name="two workers", settings={"workers": 2}, promised=True),
    Condition(
        name="a checkpoint after every step", settings={"checkpoint_seconds": 0.0}, promised=True
    ),
    Condition(name="two threads", settings={"threads": 2}),
    Condition(name="two threads again", settings={"threads": 2}, like="two threads", promised=True),
    Condition(name="four threads", settings={"threads": 4}),
    Condition(
        name="four threads again", settings={"threads": 4}, like="four threads", promised=True
    ),
    *_INSTRUCTIONS,
    Condition(
        name="channels-last",
        settings={"memory_format": "channels-last"},
        networks=tuple(BY_PLAIN),
    ),
    Condition(
        name="contiguous", settings={"memory_format": "contiguous"}, networks=tuple(BY_PLAIN)
    ),
    Condition(name="PyTorch's kernels for AVX2", variables={"ATEN_CPU_CAPABILITY": "avx2"}),
    Condition(name="PyTorch's kernels for SSE", variables={"ATEN_CPU_CAPABILITY": "default"}),
    Condition(name="oneDNN with at most AVX2", variables={"ONEDNN_MAX_CPU_ISA": "AVX2"}),
    Condition(name="oneDNN with at most SSE4.1", variables={"ONEDNN_MAX_CPU_ISA": "SSE41"}),
    Condition(name="MKL with at most AVX2", variables={"MKL_ENABLE_INSTRUCTIONS": "AVX2"}),
    Condition(
        name="all three with at most AVX2",
        variables={
            "ATEN_CPU_CAPABILITY": "avx2",
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        },
    ),
    Condition(
        name="all three with at most AVX2, again",
        variables={
            "ATEN_CPU_CAPABILITY": "avx2",
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        },
        like="all three with at most AVX2",
        promised=True,
    ),
)
ON_A_GPU = (
    Condition(name="a GPU", settings={"device": "cuda"}),
    Condition(name="the same GPU again", settings={"device": "cuda"}, like="a GPU"),
)


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A condition, and what came of it."""

    condition: Condition
    equal: tuple[str, ...]
    different: tuple[str, ...]
    largest: float
    """Difference of a weight, as a share of the largest of its tensor."""
    answers: float
    """Share of validation images that are classified differently, at most."""

    @property
    def is_broken_promise(self) -> bool:
        return self.condition.promised and bool(self.different)


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    given = _parse(words)
    if given.inside:
        train_all(given.inside, json.loads(given.settings), given.networks)
        return 0
    kept = _read_kept(given.kept)
    wanted = _wanted(given.only)
    left = [one for one in wanted if one.name not in kept]
    needed = _with_likes(left, wanted)
    ends = time.monotonic() + 60 * given.minutes
    with tempfile.TemporaryDirectory(prefix="sartor-bits-") as folder:
        for one in measured(Path(folder), needed) if left else ():
            kept[one.condition.name] = one
            print(*table([one])[2:], flush=True)
            if given.kept:
                _keep(given.kept, kept)
            if time.monotonic() > ends:
                break
    still_left = [one for one in wanted if one.name not in kept] if given.kept else []
    if still_left:
        print(f"{len(still_left)} conditions are left", file=sys.stderr)
        return 1
    found = [kept[one.name] for one in wanted] if given.kept else list(kept.values())
    if given.page:
        files.write_text(given.page, page(found))
    broken = [one.condition.name for one in found if one.is_broken_promise]
    for name in broken:
        print(f"BROKEN PROMISE: {name}", file=sys.stderr)
    return 1 if broken else 0


def measured(folder: Path, wanted: Sequence[Condition]) -> Iterator[Compared]:
    """Each condition in turn, after the reference."""
    reference = Condition(name="")
    done = {"": results(folder / "reference", reference)[0]}
    for number, condition in enumerate(wanted):
        several = results(folder / str(number), condition)
        done[condition.name] = several[0]
        yield compared(condition, done[condition.like], several)


def results(folder: Path, condition: Condition) -> list[dict[str, Any]]:
    """The weights and answers of each network, of each process."""
    folder.mkdir()
    processes = []
    for number in range(condition.at_once):
        place = folder / f"process-{number}"
        place.mkdir()
        words = ["--inside", str(place), "--settings", json.dumps(dict(condition.settings))]
        words += ["--networks", *condition.networks]
        # Threads that wait for others without spinning: on a busy machine far faster.
        variables = {**os.environ, "OMP_WAIT_POLICY": "passive", **condition.variables}
        line = [sys.executable, __file__, *words]
        processes.append((place, subprocess.Popen(line, env=variables, cwd=place)))
    found = []
    for place, process in processes:
        if process.wait():
            raise SystemExit(f"{condition.name}: the training failed")
        found.append({name: dict(np.load(place / f"{name}.npz")) for name in condition.networks})
    return found


def train_all(place: str, settings: Mapping[str, Any], networks: Sequence[str]) -> None:
    """In a process of its own: train the networks, and keep their weights and answers."""
    import torch

    import sartor
    from sartor import api

    torch.set_num_threads(1)
    for name in networks:
        chosen = {"threads": 1, "workers": 0, **COMMON, **NETWORKS[name], **settings}
        out = Path(place) / f"run {name}"
        run = sartor.fit("digits", out=out, **chosen)
        kept = api.load_checkpoint(run.folder, "last")
        arrays = {f"weights {key}": one.numpy() for key, one in kept.weights.items()}
        answers = api.predictions_of(run, "val", checkpoint="last").logits.argmax(1)
        np.savez(Path(place) / f"{name}.npz", answers=answers, **arrays)


def compared(
    condition: Condition, reference: Mapping[str, Any], several: Sequence[Mapping[str, Any]]
) -> Compared:
    """Against the reference, network by network; of several processes the worst."""
    equal, different, largest, answers = [], [], 0.0, 0.0
    for name in condition.networks:
        shares = [_difference(reference[name], found[name]) for found in several]
        share, changed, is_equal = (max(column) for column in zip(*shares, strict=True))
        (different if is_equal else equal).append(name)
        largest, answers = max(largest, share), max(answers, changed)
    return Compared(
        condition=condition,
        equal=tuple(equal),
        different=tuple(different),
        largest=largest,
        answers=answers,
    )


def _difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[float, float, bool]:
    """The largest share that weights differ by, the share of other answers, and if any bit is
    another."""
    largest, other_bits = 0.0, False
    for key in one:
        if not key.startswith("weights "):
            continue
        other_bits |= one[key].tobytes() != other[key].tobytes()
        if one[key].size and one[key].dtype.kind == "f":
            scale = float(np.abs(one[key]).max()) or 1.0
            largest = max(largest, float(np.abs(one[key] - other[key]).max()) / scale)
    return largest, float((one["answers"] != other["answers"]).mean()), other_bits


def table(found: Sequence[Compared]) -> list[str]:
    """In Markdown."""
    lines = [
        "| condition | compared with | promised | networks with equal bits | largest difference of "
        "a weight | other answers, at most |",
        "|---|---|---|--:|--:|--:|",
    ]
    for one in found:
        condition = one.condition
        count = len(one.equal) + len(one.different)
        which = "" if len(one.different) in (0, count) else f" (not {', '.join(one.different)})"
        lines.append(
            f"| {condition.name} | {condition.like or 'the reference'} "
            f"| {'yes' if condition.promised else ''} | {len(one.equal)} of {count}{which} "
            f"| {f'{one.largest:.1e}' if one.largest else '0'} | {100 * one.answers:.1f} % |"
        )
    return lines


def page(found: Sequence[Compared]) -> str:
    """docs/reproducibility.md."""
    described = machine.markdown_of(machine.describe(machine.command_of("reproducibility")))
    kept = sum(not one.different for one in found if one.condition.promised)
    promised = sum(one.condition.promised for one in found)
    return "\n".join(
        [
            *BEFORE.strip().splitlines(),
            "",
            "## Measured",
            "",
            f"Promises kept: {kept} of {promised}.",
            "",
            *(__doc__ or "").strip().split("\n\n", 2)[2].splitlines(),
            "",
            f"Networks: {', '.join(NETWORKS)}.",
            "",
            *described,
            f"| instructions | {_instructions()} |",
            f"| GPU | {_gpu()} |",
            "",
            *table(found),
            "",
            *AFTER.strip().splitlines(),
            "",
        ]
    )


BEFORE = """
# The same bits again

What sartor promises, on a processor: **the same recipe, data and seed on the same machine with the
same software end in the same bits**, every time, however often the training was killed and resumed
on the way. The weights' SHA-256 (`sartor show RUN`) says whether two runs are equal.

| what | must it be the same? |
|---|---|
| recipe, with `seed`, `threads`, `engine` and `instructions` | yes; a run's recipe.toml has all of them, also those that were chosen |
| data | yes, the same pixels in the same order; the fingerprint is checked |
| processor | of the same kind: libraries choose their kernels by its instructions |
| versions of sartor, PyTorch, NumPy; Python's 3.x | yes |
| number of threads | yes: sums are divided among them, and the order of additions changes rounding. It is part of the recipe, so a machine with another number of cores makes the same bits, if perhaps more slowly |
| `workers`, `checkpoint_seconds`, how busy the machine is | no |
| folder, user, time, language, hash seed | no |
| interruptions, kills, full disks, a moved folder | no; [torture](torture.md) tries them |

Two choices are made by measuring: `engine auto` in long trainings, and which library computes the
features of a backbone. Each is measured once on a machine and kept in the cache (`SARTOR_HOME`), so
the next training makes the same choice; the recipe of a run holds what was chosen, and
`sartor fit --recipe RUN/recipe.toml` makes the same bits without measuring. Where a busy machine
made another engine far faster, the run changes to it and its recipe says from which step on.
`--engine plain` measures nothing.

**On resume** the run's environment.json is compared with the present one. What has changed and may
change bits is named in a warning (versions, processor, instructions, GPU, environment variables
that libraries choose kernels by), and the run keeps a list of it.

**Between machines.** Other instruction sets add in another order, and results differ in their last
digits, which training then magnifies; how far is measured below. The order of batches,
augmentation, dropout and the split are the same everywhere: they come from counter-based generators
in whole numbers. Of two machines expect equal figures, not equal bits. The engine native is closer:
its kernels for AVX2 and AVX-512 give the same bits, and what the README shows of Fashion-MNIST,
measured on an AMD EPYC, was the same to the last digit on an Intel Xeon.

**On a GPU** kernels may add in whatever order their threads come. sartor does not switch PyTorch to
deterministic algorithms, which are slower and do not exist for everything; a resumed run then
equals an undisturbed one as two undisturbed ones equal each other.

A network of your own keeps the promise if all that it remembers from step to step is in its
parameters and buffers, and all that is random in it comes from the generators of PyTorch, NumPy or
Python, which are seeded before every step. `sartor resume RUN --prove` tries it on a small copy.
"""  # noqa: E501

AFTER = """
Not measured here: other processors, other operating systems, and a GPU where the table has no row
for it.
"""


def _instructions() -> str:
    import torch

    ours = ", ".join(native_module.instruction_sets()) or "none"
    pytorch = torch.backends.cpu.get_cpu_capability()
    return f"{platform.machine()}; of the engine native: {ours}; PyTorch: {pytorch}"


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"


def _wanted(words: Sequence[str]) -> list[Condition]:
    """Of all conditions those with one of the words, and what they are compared with."""
    import torch

    known = [*CONDITIONS, *(ON_A_GPU if torch.cuda.is_available() else ())]
    chosen = [one for one in known if not words or any(word in one.name for word in words)]
    return _with_likes(chosen, known)


def _with_likes(chosen: Sequence[Condition], known: Sequence[Condition]) -> list[Condition]:
    """And what they are compared with, which may itself be compared with another."""
    found = list(chosen)
    for _ in range(2):
        likes = {one.like for one in found}
        found = [one for one in known if one in found or one.name in likes]
    return found


def _read_kept(path: Path | None) -> dict[str, Compared]:
    """What was measured before, by the name of the condition."""
    if path is None or not path.exists():
        return {}
    known = {one.name: one for one in (*CONDITIONS, *ON_A_GPU)}
    rows = json.loads(path.read_text())
    return {
        row["condition"]: Compared(
            condition=known[row["condition"]],
            equal=tuple(row["equal"]),
            different=tuple(row["different"]),
            largest=row["largest"],
            answers=row["answers"],
        )
        for row in rows
    }


def _keep(path: Path, found: Mapping[str, Compared]) -> None:
    rows = [{**vars(one), "condition": name} for name, one in found.items()]
    files.write_text(path, json.dumps(rows, indent=1) + "\n")


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], help="words of conditions")
    parser.add_argument("--page", type=Path, help="file to write, such as docs/reproducibility.md")
    parser.add_argument("--kept", type=Path, help="JSON to keep results in, and to go on from")
    parser.add_argument("--minutes", type=float, default=math.inf, help="at most, with --kept")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    parser.add_argument("--settings", default="{}", help=argparse.SUPPRESS)
    parser.add_argument("--networks", nargs="*", default=[], help=argparse.SUPPRESS)
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
