"""Where the weights of timm and torchvision lie on this machine: in the caches of their hubs.

Found by looking at folders and nothing else, so that no hub is asked about what is here already.
The layouts are those of huggingface_hub (models--ORG--NAME/snapshots/REVISION/FILE, which links to
blobs/SHA-256) and of torch.hub (hub/checkpoints/NAME-HASH.pth).
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

_SHA256 = re.compile(r"[0-9a-f]{64}")
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,})\.")


def hub_folder() -> Path:
    """The cache of huggingface_hub: HF_HUB_CACHE, else HF_HOME/hub, else the user's cache."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if named := os.environ.get(name):
            return Path(named).expanduser()
    home = os.environ.get("HF_HOME")
    return (Path(home).expanduser() if home else _user_cache() / "huggingface") / "hub"


def torch_folder() -> Path:
    """The cache of torch.hub's weights: TORCH_HOME/hub/checkpoints, else the user's cache."""
    home = os.environ.get("TORCH_HOME")
    return (Path(home).expanduser() if home else _user_cache() / "torch") / "hub" / "checkpoints"


def repository_folder(repository: str) -> Path:
    """Where a repository of models, ORG/NAME, lies in the hub's cache if it is there."""
    return hub_folder() / f"models--{repository.replace('/', '--')}"


def cached_in_hub(repository: str, names: tuple[str, ...], revision: str | None) -> Path | None:
    """A file of a repository that lies in the hub's cache: the first of these names.

    Without a revision, it is that of the branch main, else the newest that is here.
    """
    folder = repository_folder(repository)
    for snapshot in _snapshots(folder, revision):
        for name in names:
            if (path := snapshot / name).is_file():
                return path
    return None


def cached_in_torch(file: str) -> Path | None:
    """A file of weights that lies in the cache of torch.hub."""
    path = torch_folder() / file
    return path if path.is_file() else None


def announced_sha256(path: Path) -> str:
    """What a cached file's place says of its SHA-256: all 64 digits of it, the first ones, or
    nothing."""
    if path.is_symlink() and _SHA256.fullmatch(name := path.readlink().name):
        return name
    found = _HASH_IN_NAME.search(path.name)
    return found[1] if found else ""


def revision_of(path: Path) -> str | None:
    """The revision that a file in the hub's cache belongs to."""
    folder = path.parent
    return folder.name if folder.parent.name == "snapshots" else None


def _snapshots(folder: Path, revision: str | None) -> list[Path]:
    snapshots = folder / "snapshots"
    if revision is not None:
        return [snapshots / revision]
    found = []
    with suppress(OSError, UnicodeDecodeError):
        found.append(snapshots / (folder / "refs" / "main").read_text("ascii").strip())
    try:
        others = sorted(snapshots.iterdir(), key=lambda one: one.stat().st_mtime, reverse=True)
    except OSError:
        others = []
    return found + [one for one in others if one not in found]


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
