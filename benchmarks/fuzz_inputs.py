"""Other contents from whole ones: bytes and numbers changed, parts cut, doubled and swapped; in
JSON also values that no author would write.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

DEEP = 5_000
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 0.5, 2**31, 2**63, -(2**63), 10**30, 1e308, 1e-320),
    *(float("nan"), float("inf"), float("-inf"), "", "nan", "x" * 5_000, "\0", "a\nb", "a\x1b[2Jb"),
    *("\u202egnp.exe", "\ud800", "../../x", "/etc/passwd", "<script>alert(1)</script>", "%s%n"),
    *([], {}, [[]], [None], {"": None}, [0] * 1_000, ["a", 1], {"a": {"b": []}}),
)
_WORDS = (
    *(b"\0", b"\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\n", b"\r\n"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"-1", b"0", b"1e999", b"NaN", b"Infinity", b"9" * 400),
    *(b'"', b"'", b",", b";", b"\t", b"{", b"[", b"\x1b[2J", b"\xe2\x80\xae", b"\xed\xa0\x80"),
    *(b"../", b"/etc/passwd", b"%s", b"=1+1", b"1" + b"0" * 20),
)
_MOST_CHANGES = 6


def changed(
    seeds: Sequence[bytes],
    chance: random.Random,
    *,
    text: bool = False,
    words: Sequence[bytes] = (),
) -> bytes:
    """One of the seeds, changed in one place or in several."""
    content = chance.choice(seeds)
    if text and chance.random() < 0.7:
        by_value = _json_changed(content, chance)
        if by_value is not None:
            return by_value
    changes = chance.randint(1, _MOST_CHANGES)
    for _ in range(changes):
        content = _bytes_changed(content, seeds, chance, (*_WORDS, *words))
    return content


def _bytes_changed(
    content: bytes, seeds: Sequence[bytes], chance: random.Random, words: Sequence[bytes]
) -> bytes:
    # The first bytes say what a file is and how large: they are changed as often as all others.
    size = len(content)
    span = size if chance.random() < 0.6 else min(size, 256)
    at = chance.randint(0, span) if span else 0
    length = min(size - at, 1 << chance.randint(0, 10))
    way = chance.randrange(9)
    if way == 0 and at < size:
        return content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]
    if way == 1 and at < size:
        return content[:at] + bytes([chance.randrange(256)]) + content[at + 1 :]
    if way == 2:
        return content[:at]
    if way == 3:
        return content[:at] + content[at + length :]
    if way == 4:
        return content[:at] + content[at : at + length] * 2 + content[at + length :]
    if way == 5:
        return content[:at] + chance.choice(words) + content[at:]
    if way == 6:
        word = chance.choice(words)
        return content[:at] + word + content[at + len(word) :]
    if way == 7:
        other = chance.choice(seeds)
        start = chance.randint(0, len(other))
        return content[:at] + other[start:]
    width = chance.choice((1, 2, 4, 8))
    number = chance.choice((0, 1, -1, 2**31 - 1, 2**32 - 1, 2**63 - 1, chance.getrandbits(63)))
    order = chance.choice(("little", "big"))
    packed = (number % (1 << 8 * width)).to_bytes(width, order)  # type: ignore[arg-type]
    return content[:at] + packed + content[at + width :]


def _json_changed(content: bytes, chance: random.Random) -> bytes | None:
    """The document, or one of the documents in lines, with values that were replaced or moved;
    None where it is not JSON."""
    try:
        document = json.loads(content)
        lines = [content]
        place = 0
    except (ValueError, RecursionError):
        lines = content.splitlines()
        if not lines:
            return None
        place = chance.randrange(len(lines))
        try:
            document = json.loads(lines[place])
        except (ValueError, RecursionError):
            return None
    if chance.random() < 0.03:
        return b"[" * DEEP + b"]" * chance.choice((0, DEEP))
    for _ in range(chance.randint(1, 3)):
        document = _value_changed(document, chance)
    lines[place] = json.dumps(document, indent=2 if len(lines) == 1 else None).encode()
    return b"\n".join(lines) + b"\n"


def _value_changed(document: Any, chance: random.Random) -> Any:
    if not isinstance(document, dict | list) or not document or chance.random() < 0.1:
        return chance.choice(ODD_VALUES)
    keys = list(document) if isinstance(document, dict) else list(range(len(document)))
    key = chance.choice(keys)
    way = chance.random()
    if isinstance(document, dict):
        if way < 0.1:
            return {name: value for name, value in document.items() if name != key}
        if way < 0.15:
            return {**document, chance.choice(("", "x", "__class__", "a\x1b")): document[key]}
        return {
            name: _value_changed(value, chance) if name == key else value
            for name, value in document.items()
        }
    if way < 0.1:
        return [value for place, value in enumerate(document) if place != key]
    if way < 0.15:
        return [*document, document[key]]
    return [
        _value_changed(value, chance) if place == key else value
        for place, value in enumerate(document)
    ]
