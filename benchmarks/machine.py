"""Where and when something was measured: what stands beside every figure in the documents."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from sartor import files
from sartor.runs.environment import describe_environment, exact_processor
from sartor.training.engines.hardware import chosen_threads

DOCS = Path(__file__).resolve().parent.parent / "docs"


def describe(command: str) -> dict[str, str]:
    """Machine, versions, date and command, each a line of text."""
    found = describe_environment()
    packages = found["packages"]
    return {
        "processor": processor(),
        "memory": memory(),
        "load before": load(),
        "system": system(),
        "Python": str(found["python"]),
        "torch": str(packages["torch"]),
        "NumPy": str(packages["numpy"]),
        "sartor": f"{packages['sartor']}, commit {commit()}",
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": command,
    }


def processor() -> str:
    """Its name, family and model, and how many of its cores are used."""
    return f"{exact_processor()}, {chosen_threads(None)} of {os.cpu_count()} cores"


def command_of(script: str) -> str:
    """The command line as it would be typed in the repository's root."""
    return " ".join(["python", f"benchmarks/{script}.py", *sys.argv[1:]])


def commit() -> str:
    """Of this checkout; "-dirty" where files were changed since."""
    words = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        answer = subprocess.run(words, cwd=DOCS.parent, capture_output=True, text=True)
    except OSError:
        return "unknown"
    return answer.stdout.strip() or "unknown"


def load() -> str:
    """How many processes wanted a core in the last minute, where the system tells."""
    try:
        return f"{os.getloadavg()[0]:.1f}"
    except (AttributeError, OSError):
        return "unknown"


def memory() -> str:
    """Main memory, where the system tells."""
    try:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return "unknown"
    return f"{size / 2**30:.1f} GiB"


def system() -> str:
    """Distribution and kernel."""
    try:
        distribution = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        distribution = platform.system()
    return f"{distribution}, kernel {platform.release()}"


def markdown_of(described: Mapping[str, str]) -> list[str]:
    """A table of two columns."""
    rows = [f"| {name} | {text} |" for name, text in described.items()]
    return ["| what | value |", "|---|---|", *rows]


def between(page: Path, begin: str, end: str) -> str:
    """What stands between two marks of a page; nothing where there is none."""
    return (page.read_text() if page.exists() else "").partition(begin)[2].partition(end)[0].strip()


def written_into(page: Path, begin: str, end: str, lines: Sequence[str]) -> None:
    """Replace what stands between two marks of a page."""
    before, _, rest = page.read_text().partition(begin)
    _, _, after = rest.partition(end)
    files.write_text(page, "\n".join([before + begin, "", *lines, "", end + after]))
