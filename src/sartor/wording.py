"""How text from outside is shown: names of files, classes and runs may hold anything.

Escape sequences move a terminal's cursor or set its title, bidirectional marks make a text read
differently from what it is, and spreadsheets take some cells for formulas.
"""

from __future__ import annotations

import re

_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but for tab and newline
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction of writing (Unicode, UAX #9)
    "\u2028\u2029\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def plain(text: str) -> str:
    r"""The same text; what a reader would not see as it is stands escaped, such as \x1b."""
    return _UNSAFE.sub(_escaped, text)


def cell(text: str) -> str:
    """The same text for a cell of a CSV file: no spreadsheet takes it for a formula (OWASP)."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _escaped(unsafe: re.Match[str]) -> str:
    number = ord(unsafe[0])
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
