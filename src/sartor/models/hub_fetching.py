"""Weights of timm and torchvision from their hubs into the hubs' own caches."""

from __future__ import annotations

import os
import re
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

from ..errors import UnavailableError
from ..files import make_folder, remove, sha256_of, write_bytes
from . import hub_cache
from .custom import reason_of
from .libraries import LibraryBackbone

_ERRNO = re.compile(r"^\[Errno -?\d+\] ")
_SILENCE_SECONDS = 15.0
"""A hub that says nothing for so long is given up."""


def from_hub(backbone: LibraryBackbone, broken: Path | None, note: Callable[[str], None]) -> Path:
    """The file of the weights, which lies in a hub's cache from now on.

    Args:
        broken: what lies there, and is not whole.

    Raises:
        UnavailableError: it cannot be had from here; with the other ways.
    """
    with _explained(backbone):
        if broken is not None:
            _forget(broken)
        if backbone.repository is not None:
            return _by_huggingface_hub(backbone, note)
        assert backbone.url is not None
        return _by_torch_hub(backbone, backbone.url, note)


def _by_huggingface_hub(backbone: LibraryBackbone, note: Callable[[str], None]) -> Path:
    import huggingface_hub
    from huggingface_hub.utils import disable_progress_bars

    assert backbone.repository is not None
    repository, last = backbone.repository, len(backbone.files) - 1
    for number, file in enumerate(backbone.files):
        url = huggingface_hub.hf_hub_url(repository, file, revision=backbone.revision)
        try:
            # First, for it gives up soon, where the download itself would try for minutes.
            facts = huggingface_hub.get_hf_file_metadata(url, timeout=_SILENCE_SECONDS)
        except huggingface_hub.errors.EntryNotFoundError:
            if number == last:
                raise
            continue
        note(
            f"fetching {file} of {repository} at revision {(facts.commit_hash or 'main')[:12]} "
            f"({(facts.size or 0) / 1e6:.0f} MB) into {hub_cache.repository_folder(repository)}"
            + ("" if backbone.revision else "; no revision is pinned, so this is the newest one")
        )
        disable_progress_bars()
        return Path(
            huggingface_hub.hf_hub_download(
                repository,
                file,
                revision=backbone.revision,
                cache_dir=hub_cache.hub_folder(),
                etag_timeout=_SILENCE_SECONDS,
            )
        )
    raise AssertionError("the last name returns or raises")


def _by_torch_hub(backbone: LibraryBackbone, url: str, note: Callable[[str], None]) -> Path:
    path = hub_cache.torch_folder() / Path(url).name
    size = f" ({backbone.file_bytes / 1e6:.0f} MB)" if backbone.file_bytes else ""
    note(f"fetching {path.name}{size} into {path.parent}")
    with urllib.request.urlopen(url, timeout=_SILENCE_SECONDS) as response:
        content = response.read()
        announced = response.headers.get("Content-Length")
    if announced and len(content) < int(announced):
        raise OSError(f"it broke off after {len(content):,} of {int(announced):,} bytes")
    if not sha256_of(content).startswith(hub_cache.announced_sha256(path)):
        raise OSError("what came is not the file that its name says")
    make_folder(path.parent)
    write_bytes(path, content)
    return path


def _forget(broken: Path) -> None:
    """Remove a file that is not whole, and what it links to: a hub would take it as it is."""
    if broken.is_symlink():
        remove((broken.parent / broken.readlink()).resolve())
    remove(broken)


@contextmanager
def _explained(backbone: LibraryBackbone) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise _unavailable(backbone, "huggingface_hub is not installed") from error
    except (URLError, HTTPException, OSError, ValueError) as error:
        raise _unavailable(backbone, _words(error)) from error
    except Exception as error:
        # Clients of HTTP have trees of errors of their own, another in each version of the hub's.
        if not type(error).__module__.startswith(("http", "huggingface_hub", "requests")):
            raise
        raise _unavailable(backbone, _words(error)) from error


def _words(error: Exception) -> str:
    wrapped = getattr(error, "reason", None)
    cause = wrapped if isinstance(wrapped, Exception) else error
    return _ERRNO.sub("", reason_of(cause))[:160]


def _unavailable(backbone: LibraryBackbone, reason: str) -> UnavailableError:
    offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
    if backbone.repository is not None:
        mirror = "name your mirror of the hub (HF_ENDPOINT=...)"
        folder = hub_cache.repository_folder(backbone.repository)
    else:
        mirror = "let Python through your proxy (HTTPS_PROXY=...)"
        assert backbone.url is not None
        folder = hub_cache.torch_folder() / Path(backbone.url).name
    return UnavailableError(
        f"Cannot fetch the weights of {backbone.name}{offline}: {reason}.",
        f"In a closed network: {mirror}; or copy {folder} from a machine that has it; or bring a "
        f"file of weights: --model {backbone.name} --weights FILE.safetensors",
    )
