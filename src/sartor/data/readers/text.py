"""Text from the bytes of a file, in the encodings in which lists are written."""

from __future__ import annotations

import re

from ...errors import CorruptDataError

_CONTROL = re.compile("[\\x00-\\x08\\x0e-\\x19\\x1b-\\x1f]")
_OTHER_FILE = "Save it as UTF-8, or name another file."


def text_of(content: bytes, source: str) -> tuple[str, str]:
    """The text, and a remark where it is not in Unicode.

    UTF-8, UTF-16 with its mark, or else Windows-1252, which spreadsheets still write.

    Raises:
        CorruptDataError: it is not text.
    """
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    remark = ""
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        remark = (
            f"{source} is not in UTF-8, and is read as Windows-1252: save it as UTF-8 if names "
            "look wrong."
        )
        try:
            text = content.decode("cp1252")
        except UnicodeDecodeError:
            text = "\0"
        if _CONTROL.search(text):
            raise CorruptDataError(
                f"{source} is not text in UTF-8: byte {error.start + 1:,} does not fit.",
                _OTHER_FILE,
            ) from None
    if "\0" in text:
        raise CorruptDataError(f"{source} is not text: it holds zero bytes.", "Name another file.")
    return text, remark
