"""Verify: whether a bundle is what was exported, and still answers as it did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..bundle import verify as proof
from ..bundle.browser import Browser
from ..bundle.served import Server
from ..bundle.verify import Check as Check
from ..bundle.verify import Verification as Verification


def verify(
    bundle: str | Path,
    *,
    url: str | None = None,
    token: str | None = None,
    browser: bool = False,
    trust: bool = False,
    on_check: Callable[[Check], None] = lambda _check: None,
) -> Verification:
    """Check every file of a bundle, and replay its golden examples in every runtime it supports.

    Args:
        bundle: its folder or .zip.
        url: a server that serves the bundle, to be checked as well.
        token: the server's token, if it needs one.
        browser: also check the page of `sartor export --web`, in headless Chromium.
        trust: run code in the bundle (its Python file, its program.pt2), whoever exported it.
        on_check: called with each check as soon as it is done.

    Raises:
        BundleError: there is no bundle, it is too damaged to be checked, or it has a newer format.
        UsageError: no such address.
    """
    paths: list[proof.Path_] = [Server(url, token=token)] if url else []
    if browser:
        paths.append(Browser())
    return proof.verify(bundle, trust=trust, paths=paths, on_check=on_check)
