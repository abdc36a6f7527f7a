"""Fuzz all that sartor reads: inputs are made for as long as wanted, and every fault is kept.

    python benchmarks/fuzz.py                              # half a minute for each kind of file
    python benchmarks/fuzz.py --seconds 600 --only checkpoint "picture PNG"
    python benchmarks/fuzz.py --list

With atheris (pip install atheris) what each input reaches in sartor's code decides which are
changed further; without it, or with --blind, inputs are changed blindly, which begins at once. Each
kind runs in a process of its own, which may take 3 GiB and 20 s for one input. What was tried is
added to docs/security.json, and the table in docs/security.md is written again; inputs that are a
fault lie in fuzz-faults/. Exit code 1 where there is one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

DOCS = Path(__file__).parents[1] / "docs"
MOST_BYTES, MOST_SILENCE, FOR_IMPORTS = 3 << 30, 20.0, 300.0
BEGIN, END = "<!-- figures: make fuzz -->", "<!-- end of figures -->"
_SAVED_SECONDS = 0.5


def main() -> int:
    """Fuzz, add up, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30, help="for each kind of file")
    parser.add_argument("--only", nargs="*", default=[], help="names, or parts of names")
    parser.add_argument("--list", action="store_true", help="the names of all kinds")
    parser.add_argument("--docs", type=Path, default=DOCS, help="where the figures are kept")
    parser.add_argument("--faults", type=Path, default=Path("fuzz-faults"))
    parser.add_argument("--seed", type=int, help="of the changes; by default another each time")
    parser.add_argument("--blind", action="store_true", help="unguided, but begun at once")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(*options.worker, options.seconds, options.seed)
    with tempfile.TemporaryDirectory(dir=in_memory()) as folder:
        os.environ["SARTOR_HOME"] = str(Path(folder) / "home")
        os.environ["TMPDIR"] = folder
        names = names_of(Path(folder))
        if options.list:
            print(*names, sep="\n")
            return 0
        chosen = [one for one in names if not options.only or is_one(one, options.only, names)]
        seed = random.getrandbits(32) if options.seed is None else options.seed
        print(f"{len(chosen)} kinds, {options.seconds:g} s each, seed {seed}", flush=True)
        faults = 0
        for name in chosen:
            begin = forked if options.blind else started
            found = fuzzed(name, Path(folder), options.seconds, seed, options.faults, begin)
            faults += len(found["faults"])
            tell(name, found)
            add(options.docs / "security.json", name, found)
        write_page(options.docs)
    return 1 if faults else 0


def is_one(name: str, wanted: list[str], names: list[str]) -> bool:
    """Whether a kind is meant: by its whole name, or by a part that is nobody's whole name."""
    return any(name == part or (part in name and part not in names) for part in wanted)


def in_memory() -> str | None:
    """A folder in main memory, where inputs of dozens of files are made at several times the speed
    of a disk's; None where there is none."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and os.access(memory, os.W_OK) else None


def names_of(folder: Path) -> list[str]:
    """All kinds; what they are made of is trained into the folder."""
    from fuzz_targets import Material, targets

    material = Material.made(folder / "material")
    return list(targets(material))


class Running(Protocol):
    """A process that tries inputs, as `subprocess.Popen` has it."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None: ...

    def kill(self) -> None: ...

    def wait(self) -> int: ...


Begin = Callable[[str, Path, float, int], Running]


def started(name: str, folder: Path, seconds: float, seed: int) -> Running:
    """A new interpreter, which instruments what it imports: that takes some seconds."""
    out = folder / "out"
    words = ["--seconds", f"{seconds:.1f}", "--seed", str(seed), "--worker", name, str(folder)]
    with (out / "log").open("wb") as log:
        line = [sys.executable, __file__, *words, str(out)]
        return subprocess.Popen(line, stdout=log, stderr=log)


class Fork:
    """A copy of this process, which has imported everything."""

    def __init__(self, work: Callable[[], int], log: Path) -> None:
        sys.stdout.flush()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid:
            return
        code = 1
        try:
            handle = os.open(log, os.O_WRONLY | os.O_CREAT)
            for stream in (1, 2):
                os.dup2(handle, stream)
            code = work()
        finally:
            os._exit(code)

    def poll(self) -> int | None:
        """Its exit code; None while it works."""
        return self._ended(os.WNOHANG)

    def wait(self) -> int:
        """The same when it has ended."""
        return self._ended(0) or 0

    def kill(self) -> None:
        """End it."""
        os.kill(self.pid, signal.SIGKILL)

    def _ended(self, way: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, way)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode


def forked(name: str, folder: Path, seconds: float, seed: int) -> Running:
    """A fork, which begins at once and is not guided."""
    out = folder / "out"
    return Fork(lambda: Worker(name, folder, out, seconds).blindly(seed), out / "log")


def fuzzed(
    name: str, folder: Path, seconds: float, seed: int, faults: Path, begin: Begin = started
) -> dict[str, Any]:
    """Fuzz one kind of file in processes of its own; another one where one ends before its time."""
    out = folder / "out"
    out.mkdir(exist_ok=True)
    total: dict[str, Any] = {"tried": 0, "taken": 0, "seconds": 0.0, "faults": [], "way": ""}
    while (left := seconds - total["seconds"]) > 0.5:
        shutil.rmtree(out)
        out.mkdir()
        reason = watch_over(begin(name, folder, left, seed), out, left)
        part = read_json(out / "status.json") or {}
        for key in ("tried", "taken", "seconds"):
            total[key] += part.get(key, 0)
        total["way"] = part.get("way", total["way"])
        found = part.get("faults", [])
        if reason and (out / "current").exists():
            said = (out / "log").read_text(errors="replace")[-4000:]
            content = (out / "current").read_bytes().hex()
            found.append({"fault": f"{said}\n{reason}", "input": content})
        elif not part or reason:
            print(f"{name}: its process did not begin: {reason}", file=sys.stderr)
            break
        for fault in found:
            keep_fault(faults, name, fault)
        total["faults"] += [fault["fault"].strip().splitlines()[-1][:200] for fault in found]
        seed += 1
    return total


def watch_over(worker: Running, out: Path, seconds: float) -> str:
    """Why a process ended before its time, or had to; empty where it came to its end."""
    status = out / "status.json"
    begun = time.monotonic()
    heard = begun + FOR_IMPORTS
    before = -1
    while worker.poll() is None:
        time.sleep(0.2)
        tried = (read_json(status) or {}).get("tried", -1)
        if tried != before:
            before, heard = tried, time.monotonic()
        reason = ""
        if resident_bytes(worker.pid) > MOST_BYTES:
            reason = f"more than {MOST_BYTES >> 30} GiB of memory"
        elif time.monotonic() > heard + MOST_SILENCE:
            reason = f"more than {MOST_SILENCE:g} s for one input"
        elif time.monotonic() > begun + seconds + 120:
            reason = "it did not end"
        if reason:
            worker.kill()
            worker.wait()
            return reason
    if worker.returncode:
        return f"the process ended with {worker.returncode}"
    return ""


def resident_bytes(pid: int) -> int:
    """Main memory that a process holds; 0 where that is not told."""
    with contextlib.suppress(OSError, ValueError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def read_json(path: Path) -> Any:
    """What a file holds; None where it is not there yet."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def keep_fault(faults: Path, name: str, fault: dict[str, str]) -> None:
    """The input, and what came of it, for who mends it."""
    import hashlib
    import re

    content = bytes.fromhex(fault["input"])
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", name)
    faults.mkdir(exist_ok=True)
    place = faults / f"{slug}-{hashlib.sha256(content).hexdigest()[:8]}"
    place.write_bytes(content)
    place.with_name(f"{place.name}.txt").write_text(fault["fault"])


def work(name: str, folder: str, out: str, seconds: float, seed: int) -> int:
    """Try inputs of one kind for so many seconds; says in `out` how far it is."""
    worker = Worker(name, Path(folder), Path(out), seconds)
    try:
        import atheris
    except ImportError:
        return worker.blindly(seed)
    return worker.guided(atheris, seed)


class Worker:
    """Tries inputs, and keeps count."""

    def __init__(self, name: str, folder: Path, out: Path, seconds: float) -> None:
        self._name, self._folder, self._out = name, folder, out
        self._seconds = seconds
        self._tried = self._taken = 0
        self._faults: dict[str, dict[str, str]] = {}
        self._saved = 0.0
        self._way = ""

    def _begin(self, way: str) -> None:
        from fuzz_targets import Material, targets
        from fuzz_tried import tried

        self._way = way
        made = self._folder / "material"
        self.target = targets(Material(run=made / "run", bundle=made / "bundle"))[self._name]
        self._try = tried
        self._home = self._folder / "home"
        self._home.mkdir(exist_ok=True)
        for content in self.target.seeds:
            # What is imported when it is needed takes longer than any input.
            tried(self.target, content, self._home)
        self._begun = time.monotonic()
        self._save()

    def _one(self, content: bytes) -> None:
        (self._out / "current").write_bytes(content)
        found = self._try(self.target, content, self._home)
        self._tried += 1
        self._taken += found.taken
        if found.fault:
            # The place of a fault tells it from others; what it says may differ each time.
            lines = found.fault.strip().splitlines()
            key = "\n".join(lines[-3:-1]) or lines[-1].partition("/")[0][:80]
            self._faults.setdefault(key, {"fault": found.fault, "input": content.hex()})

    def _save(self) -> None:
        self._saved = time.monotonic()
        status = {
            "tried": self._tried,
            "taken": self._taken,
            "seconds": self._saved - self._begun,
            "faults": list(self._faults.values()),
            "way": self._way,
        }
        new = self._out / "new"
        new.write_text(json.dumps(status))
        new.replace(self._out / "status.json")

    def blindly(self, seed: int) -> int:
        """Without knowing what an input reaches."""
        from fuzz_inputs import changed

        self._begin("blind")
        target = self.target
        number = 0
        while time.monotonic() < self._begun + self._seconds:
            chance = random.Random(f"{seed} {number}")
            self._one(changed(target.seeds, chance, text=target.text, words=target.words))
            number += 1
            if time.monotonic() > self._saved + _SAVED_SECONDS:
                self._save()
        self._save()
        return 0

    def guided(self, atheris: Any, seed: int) -> int:
        """By what is reached of sartor's code, and of the libraries' that are written in Python."""
        from fuzz_inputs import changed

        with atheris.instrument_imports(include=["sartor", "zipfile", "tarfile", "PIL"]):
            self._begin("guided by coverage")
        corpus = self._out / "corpus"
        corpus.mkdir(exist_ok=True)
        target = self.target
        for number, content in enumerate(target.seeds):
            (corpus / f"seed-{number}").write_bytes(content)

        def one(content: bytes) -> None:
            self._one(content)
            if time.monotonic() > self._saved + _SAVED_SECONDS:
                self._save()
            if time.monotonic() > self._begun + self._seconds:
                self._save()
                os._exit(0)

        def mutated(content: bytes, most: int, seed: int) -> bytes:
            chance = random.Random(seed)
            if chance.random() < 0.5:
                return bytes(atheris.Mutate(content, most))
            seeds = (content, *target.seeds) if chance.random() < 0.1 else (content,)
            return changed(seeds, chance, text=target.text, words=target.words)[:most]

        largest = max(map(len, target.seeds))
        line = [f"-seed={seed % (1 << 31) or 1}", f"-max_len={max(4096, 2 * largest)}"]
        line += ["-rss_limit_mb=0", "-timeout=100000", "-verbosity=0"]
        line += [f"-artifact_prefix={self._out}/"]
        atheris.Setup([sys.argv[0], *line, str(corpus)], one, custom_mutator=mutated)
        atheris.Fuzz()
        return 0


def tell(name: str, found: dict[str, Any]) -> None:
    """One line, and one for each fault."""
    refused = found["tried"] - found["taken"]
    print(f"{name:32}{found['tried']:>9,} tried {refused:>9,} refused  {found['way']}", flush=True)
    for fault in found["faults"]:
        print(f"  FAULT: {fault}", flush=True)


def add(path: Path, name: str, found: dict[str, Any]) -> None:
    """Add what was tried to the figures that are kept."""
    kept = read_json(path) or {"command": "make fuzz", "targets": {}}
    before = kept["targets"].get(name, {"tried": 0, "taken": 0, "seconds": 0.0})
    kept["targets"][name] = {
        "tried": before["tried"] + found["tried"],
        "taken": before["taken"] + found["taken"],
        "seconds": round(before["seconds"] + found["seconds"], 1),
        "faults": len(found["faults"]),
        "way": found["way"],
    }
    kept["machine"] = machine()
    path.write_text(json.dumps(kept, indent=2) + "\n")


def machine() -> str:
    """What the figures were made with."""
    from importlib.metadata import version

    names = ("pillow", "numpy", "torch", "safetensors", "pyarrow", "onnxruntime")
    libraries = ", ".join(f"{name} {version(name)}" for name in names)
    return f"Python {platform.python_version()} on {platform.machine()}; {libraries}"


def lines_of(kept: dict[str, Any]) -> Iterator[str]:
    """The table of the page."""
    rows = kept["targets"]
    tried, taken = (sum(row[key] for row in rows.values()) for key in ("tried", "taken"))
    hours = sum(row["seconds"] for row in rows.values()) / 3600
    faults = sum(row["faults"] for row in rows.values())
    yield f"{tried:,} inputs of {len(rows)} kinds in {hours:.1f} hours: {taken:,} were read, "
    yield f"{tried - taken:,} refused with a sentence and a hint; faults left: {faults}."
    yield ""
    yield "| kind of file | inputs | read | refused | minutes | faults left |"
    yield "|---|---:|---:|---:|---:|---:|"
    for name, row in rows.items():
        yield (
            f"| {name} | {row['tried']:,} | {row['taken']:,} | {row['tried'] - row['taken']:,} | "
            f"{row['seconds'] / 60:.1f} | {row['faults']} |"
        )
    yield ""
    yield f"{kept.get('machine', '')}."


def write_page(docs: Path) -> None:
    """Write the figures into docs/security.md, between their marks."""
    kept, page = read_json(docs / "security.json"), docs / "security.md"
    text = page.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n" + "\n".join(lines_of(kept)) + f"\n{END}{after}")


if __name__ == "__main__":
    sys.exit(main())
