"""What is to be done with very many pictures: decided once, followed by every worker."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np

from ..errors import FileError, UsageError

TASKS = ("predict", "check", "features", "decode")
FORMAT = 1
LEASE_SECONDS = 60.0
"""After so long without a sign of life a worker counts as dead."""
LONGEST_LEASE = 86_400.0
_MOST_PICTURES, _MOST_SHARDS = 10**12, 10**6
_DECODERS = ("pil", "libjpeg_turbo", "webp", "libtiff")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that decides the results."""

    task: str
    """One of `TASKS`."""
    pictures: int
    shard_size: int
    """Pictures of a shard; the last one may have fewer."""
    root: str
    """The folder below which all pictures lie, in full; "" where there is none."""
    image_column: str | None = None
    """Of tables that have several columns with pictures."""
    manifest_sha256: str
    lease_seconds: float = LEASE_SECONDS
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What the task is to do, in the words of its flags."""
    identity: Mapping[str, Any] = field(default_factory=dict)
    """What else decides the results: a worker that finds something else does not begin."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of the libraries that decode and compute."""

    @property
    def shards(self) -> int:
        """How many there are."""
        return -(-self.pictures // self.shard_size)

    def rows_of(self, shard: int) -> int:
        """How many pictures a shard has."""
        return min(self.shard_size, self.pictures - shard * self.shard_size)

    @property
    def sha256(self) -> str:
        """Stands for the whole plan: what was made by another is not taken for its results."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"format": FORMAT, **{one.name: getattr(self, one.name) for one in fields(self)}}

    @classmethod
    def from_json(cls, document: Any, where: str) -> Self:
        """
        Raises:
            FileError: it is not a plan, or one of another version.
        """
        try:
            given = dict(document)
            if given.pop("format") != FORMAT:
                raise ValueError("it is of another version of sartor")
            names = {one.name for one in fields(cls)}
            if given.keys() != names or given["task"] not in TASKS:
                raise ValueError("it does not hold what a plan holds")
            _refuse_other_kinds(given)
            return cls(**given)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FileError(
                f"{where} is not a plan of this version: {error}.",
                "Plan again, in a new folder.",
            ) from None

    def refuse_others(self, identity: Mapping[str, Any]) -> None:
        """Raise where something else would be made of the plan.

        Raises:
            UsageError: naming what differs.
        """
        for name, planned in self.identity.items():
            # As JSON has it: tuples became lists.
            found = json.loads(json.dumps(identity.get(name)))
            if found != planned:
                raise UsageError(
                    f"The plan was made with another {name.replace('_', ' ')}: "
                    f"{_short(planned)}, and here it is {_short(found)}.",
                    "Bring back what it was made with, or plan again in a new folder.",
                )

    def refuse_versions(self, *, other_versions: bool) -> None:
        """Raise where this machine has other libraries.

        Raises:
            UsageError: naming one; not if `other_versions` are accepted.
        """
        here = versions(self.versions)
        other = [name for name, planned in self.versions.items() if here[name] != planned]
        if other and not other_versions:
            name = other[0]
            raise UsageError(
                f"The plan was made with {name} {self.versions[name]}, and here is "
                f"{here[name] or 'none'}, which may give other results.",
                "Install the same version, or accept this one with --other-versions.",
            )


def _refuse_other_kinds(given: Mapping[str, Any]) -> None:
    """
    Raises:
        ValueError: a field holds what no plan has there.
    """
    for name in ("pictures", "shard_size"):
        if type(given[name]) is not int or not 0 < given[name] < _MOST_PICTURES:
            raise ValueError("it counts no pictures")
    if given["pictures"] > _MOST_SHARDS * given["shard_size"]:
        raise ValueError("it has too many shards")
    seconds = given["lease_seconds"]
    if type(seconds) not in (int, float) or not 0 < seconds <= LONGEST_LEASE:
        raise ValueError("its lease is not a number of seconds")
    texts = [given["root"], given["manifest_sha256"]]
    tables = [given[name] for name in ("settings", "identity", "versions")]
    if not (
        all(isinstance(one, str) for one in texts)
        and isinstance(given["image_column"], str | None)
        and all(isinstance(one, dict) for one in tables)
        and all(isinstance(one, str) for one in given["versions"].values())
    ):
        raise ValueError("it does not hold what a plan holds")


def versions(names: Iterable[str]) -> dict[str, str]:
    """Of libraries and decoders on this machine; "" for what is not there."""
    return {name: _version(name) for name in names}


def names_of_versions(*more: str) -> tuple[str, ...]:
    """What decides every result, and what decides some of them."""
    return ("sartor", "numpy", "pyarrow", *_DECODERS, *more)


def _version(name: str) -> str:
    if name in _DECODERS:
        from PIL import features

        return str(features.version(name) or "")
    if name == "numpy":
        return np.__version__
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
