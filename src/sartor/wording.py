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
_AT_THE_MARGIN = re.compile(r"\n(?!  |$)")
_LONGEST_REASON = 300
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def plain(text: str) -> str:
    r"""The same text; what a reader would not see as it is stands escaped, such as \x1b."""
    return _UNSAFE.sub(_escaped, text)


def one_line(text: str) -> str:
    r"""As `plain`, with tabs and line breaks escaped, too, such as \n."""
    return plain(text).replace("\n", "\\n").replace("\t", "\\t")


def message(text: str) -> str:
    r"""As `plain`, for a sentence with names in it: where a line within it would begin at the
    margin, as no list in a message does, the line break is one of a name and stands as \n.
    """
    sentence = text.lstrip("\n")
    before = text[: len(text) - len(sentence)]
    return before + _AT_THE_MARGIN.sub(r"\\n", plain(sentence.replace("\t", "\\t")))


def reason(error: BaseException) -> str:
    """What a library says of a fault, for a sentence: some quote all of a damaged file."""
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."


def plural(count: int, name: str) -> str:
    """A count with its noun, such as "1 picture" and "2,000 pictures"."""
    return f"{count:,} {name}" if count == 1 else f"{count:,} {name}s"


def cell(text: str) -> str:
    """The same text for a cell of a CSV file: no spreadsheet takes it for a formula (OWASP)."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _escaped(unsafe: re.Match[str]) -> str:
    number = ord(unsafe[0])
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
