"""Licences of pretrained weights, and which of them are taken only when they are named."""

from __future__ import annotations

from ..errors import UsageError

FREE = ("Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "CC-BY-4.0")
"""Licences that allow every use, given the notice that they ask for."""
_NOT_COMMERCIAL = {
    "cc-by-nc-4.0": "forbids commercial use",
    "cc-by-nc-sa-4.0": "forbids commercial use",
    "fair-noncommercial-research-license": "allows only research that is not commercial",
    "apple-amlr": "allows only research",
}
"""What licences forbid, by their names in timm's metadata."""
_NOT_STATED = ("", "unknown", "other", "none")


def normalised(licence: str | None) -> str | None:
    """A licence's name as SPDX spells it where it is a free one; None where none is stated."""
    if licence is None or licence.lower() in _NOT_STATED:
        return None
    return next((one for one in FREE if one.lower() == licence.lower()), licence)


def restriction(licence: str | None) -> str | None:
    """What a licence forbids, as words that follow it; None where nothing is known to be."""
    if licence is None or licence in FREE:
        return None
    return _NOT_COMMERCIAL.get(licence.lower(), "has terms of its own")


def refuse_unless_accepted(weights: str, licence: str | None, accepted: str | None) -> None:
    """Raise where the licence of weights restricts their use, and was not named.

    Raises:
        UsageError: it says what the licence is, and how it is accepted.
    """
    forbids = restriction(licence)
    if forbids is None or licence is None or (accepted or "").lower() == licence.lower():
        return
    other = f", not {accepted}" if accepted else ""
    raise UsageError(
        f'The weights of {weights} are under the licence "{licence}"{other}, which {forbids}.',
        f"Read it; if you may use them, add --accept-licence {licence} (in Python: "
        f'accept_licence="{licence}").',
    )
