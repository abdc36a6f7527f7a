"""Names of classes that look like one another, hold several, or say that there is no label."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence

from .finding import Finding

# Letters of Cyrillic and Greek that look like Latin ones, after case folding. The full table of
# Unicode (TR39) is not part of Python, and also holds thousands of mathematical and dead letters.
_LOOKALIKES = str.maketrans("аеорсухіјѕԁһкмтвнαορνκτικω", "aeopcyxijsdhkmtbhaopvktikw")
_BETWEEN_LABELS = re.compile(r"\s*[,;|/+&]\s*|\s+and\s+")
_BETWEEN_WORDS = re.compile(r"[\s_-]+")
_NO_LABEL = frozenset(
    "nan null none na n/a nil undefined unlabeled unlabelled unassigned missing unknown ? -".split()  # noqa: SIM905
)


def find(classes: Sequence[str]) -> Iterator[Finding]:
    """Everything about the names as such."""
    yield from _similar(classes)
    yield from _plural(classes)
    yield from _several(classes)
    yield from _no_label(classes)


def same_to_the_eye(name: str) -> str:
    """What is left of a name without case, spacing, width, and the alphabet of its letters."""
    plain = unicodedata.normalize("NFKC", name).casefold().translate(_LOOKALIKES)
    visible = "".join(
        " " if letter.isspace() or letter in "_-" else letter
        for letter in plain
        if unicodedata.category(letter) != "Cf"
    )
    return " ".join(visible.split())


def _similar(classes: Sequence[str]) -> Iterator[Finding]:
    alike = defaultdict(list)
    for name in classes:
        alike[same_to_the_eye(name)].append(name)
    for names in alike.values():
        if len(names) > 1:
            listed = " and ".join(f'"{name}"' for name in names)
            yield Finding(
                check="classes",
                kind="names alike",
                severity="warning",
                summary=f"The classes {listed} differ only in case, spacing or lookalike letters.",
                remedy="If they mean the same, give them one name: move their images into one "
                "folder, or correct the labels.",
                figures={"classes": names},
            )


def labels_in(name: str, classes: Sequence[str]) -> tuple[str, ...]:
    """The other classes that a name lists, if it is two or more of them: ("cat", "dog")."""
    known = {same_to_the_eye(one): one for one in classes if one != name}
    for between in (_BETWEEN_LABELS, _BETWEEN_WORDS):
        parts = [part.strip("[](){}\"' ") for part in between.split(name.strip())]
        found = [known.get(same_to_the_eye(part)) for part in parts if part]
        if len(found) > 1 and None not in found:
            return tuple(dict.fromkeys(one for one in found if one is not None))
    return ()


def _plural(classes: Sequence[str]) -> Iterator[Finding]:
    known = {same_to_the_eye(name): name for name in classes}
    for plain, name in known.items():
        ones = [plain[:-1]] * plain.endswith("s") + [plain[:-2]] * plain.endswith("es")
        one = next((known[one] for one in ones if len(one) > 1 and one in known), None)
        if one is not None:
            yield Finding(
                check="classes",
                kind="plural",
                severity="warning",
                summary=f'The class "{name}" looks like the plural of "{one}".',
                remedy="If they mean the same, give them one name: move their images into one "
                "folder, or correct the labels.",
                figures={"classes": [one, name]},
            )


def _several(classes: Sequence[str]) -> Iterator[Finding]:
    found = {name: several for name in classes if (several := labels_in(name, classes))}
    if not found:
        return
    name, several = next(iter(found.items()))
    more = f", and {len(found) - 1:,} more like it," if len(found) > 1 else ""
    verb = "lists" if len(found) == 1 else "list"
    listed = " and ".join(f'"{one}"' for one in several)
    yield Finding(
        check="classes",
        kind="several labels in one",
        severity="warning",
        summary=f'The class "{name}"{more} {verb} other classes: {listed}. It is learnt as a class '
        "of its own, with no relation to these.",
        remedy="sartor gives an image one label. Leave these images out, or cut out what each "
        "label means.",
        figures={"classes": list(found)},
    )


def _no_label(classes: Sequence[str]) -> Iterator[Finding]:
    found = [name for name in classes if name.strip().casefold() in _NO_LABEL or not name.strip()]
    if found:
        listed = ", ".join(f'"{name}"' for name in found)
        yield Finding(
            check="classes",
            kind="no label as a class",
            severity="warning",
            summary=f"A class is called {listed}: images without a label, it seems. The network "
            "would learn them as a class.",
            remedy="Label these images, or leave them out: sartor fit --exclude FILE.",
            figures={"classes": found},
        )
