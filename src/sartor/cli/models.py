"""`sartor models`: the networks there are, and their weights. Its flags, its call, its printing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tyro.conf import Positional

from ..errors import UsageError
from ..models.backbones import BACKBONES, Backbone, backbone_of, weights_path
from ..models.hub_cache import revision_of
from ..models.libraries import RECOMMENDED, LibraryBackbone
from ..models.licences import restriction
from ..models.registry import MODELS, refuse_unknown
from .output import note, print_json

_INDENT = " " * 4


@dataclass(frozen=True, kw_only=True)
class Models:
    """The networks for --model, and whether their pretrained weights are on this machine."""

    words: Positional[tuple[str, ...]] = ()
    """Nothing to list all; NAME to describe one; fetch NAME to download its weights."""
    accept_licence: str | None = None
    """Licence of the weights that you have read and accept, if fetch asks for it."""
    json: bool = False
    """Print the result as one line of JSON."""


def models(given: Models) -> int:
    """List networks, describe some, or fetch weights."""
    if given.words and given.words[0] == "fetch":
        return _fetch(given)
    names = given.words or (*MODELS, *RECOMMENDED)
    found = {name: _found(name) for name in names}
    if given.json:
        print_json([_document(name, backbone) for name, backbone in found.items()])
        return 0
    if given.words:
        for name, backbone in found.items():
            _print(name, backbone)
        return 0
    print("From random weights (--model NAME):")
    for name in MODELS:
        if name not in BACKBONES:
            print(f"  {name:<10}{MODELS[name].description}")
    print("\nPretrained:")
    for backbone in BACKBONES.values():
        _print_backbone(backbone)
    print("\nPretrained, from timm (pip install 'sartor[timm]'):")
    for backbone in RECOMMENDED.values():
        _print_backbone(backbone)
    print("\n--model also takes timm:NAME, torchvision:NAME, a run, and path/file.py:Name.")
    print("More on one of them: sartor models NAME; its layers: sartor summary NAME")
    return 0


def _fetch(given: Models) -> int:
    names = given.words[1:]
    if not names:
        raise UsageError(*_WRONG_WORDS)
    from ..models.fetching import fetch

    paths = {name: str(fetch(name, note=note, accepted=given.accept_licence)) for name in names}
    if given.json:
        print_json([{"name": name, "file": path} for name, path in paths.items()])
    else:
        for name, path in paths.items():
            print(f"{name}: {path}")
    return 0


_WRONG_WORDS = (
    "sartor models fetch needs the name of a network.",
    "Write: sartor models, sartor models NAME, or sartor models fetch NAME.",
)


def _found(name: str) -> Backbone | None:
    try:
        refuse_unknown(name)
    except UsageError as error:
        raise UsageError(str(error), _WRONG_WORDS[1]) from None
    return backbone_of(name)


def _print(name: str, backbone: Backbone | None) -> None:
    if backbone is not None:
        _print_backbone(backbone, with_path=True)
    elif name in MODELS:
        print(f"  {name}  {MODELS[name].description}")
    else:
        print(f"  {name}  no pretrained weights")


def _print_backbone(backbone: Backbone, *, with_path: bool = False) -> None:
    print(f"  {backbone.name}\n{_INDENT}{backbone.source}")
    forbids = restriction(backbone.licence)
    accept = f", which {forbids}: --accept-licence {backbone.licence}" if forbids else ""
    print(f"{_INDENT}licence {backbone.licence or 'not stated'}{accept}")
    sizes = [f"{backbone.image_size}x{backbone.image_size}"]
    if backbone.parameters:
        sizes.append(f"{backbone.parameters / 1e6:.1f} million parameters")
    if backbone.multiply_adds:
        sizes.append(f"{backbone.multiply_adds / 1e6:,.0f} million multiply-adds")
    print(f"{_INDENT}{', '.join(sizes)}")
    if backbone.accuracy is None:
        print(f"{_INDENT}accuracy not stated")
    else:
        print(f"{_INDENT}ImageNet accuracy {backbone.accuracy:.1%}, as stated by its authors")
    if isinstance(backbone, LibraryBackbone) and with_path and backbone.repository:
        print(f"{_INDENT}{revision_line(backbone)}")
    path = weights_path(backbone)
    if path is not None:
        print(f"{_INDENT}weights: {path if with_path else 'on this machine'}")
        return
    known = backbone.file_bytes
    size = f" ({known / 1e6:.0f} MB)" if known else ""
    print(f"{_INDENT}weights not here; get them: sartor models fetch {backbone.name}{size}")


def revision_line(backbone: LibraryBackbone) -> str:
    """Which revision of its repository is taken."""
    if backbone.revision is not None:
        return f"revision {backbone.revision}"
    path = weights_path(backbone)
    here = None if path is None else revision_of(path)
    return f"revision not pinned: {f'{here}, which is here' if here else 'the newest of the hub'}"


def _document(name: str, backbone: Backbone | None) -> dict[str, Any]:
    description = MODELS[name].description if name in MODELS else ""
    document: dict[str, Any] = {
        "name": name,
        "description": description or (backbone.source if backbone else ""),
        "pretrained": backbone is not None,
    }
    if backbone is None:
        return document
    path = weights_path(backbone)
    facts = {key: value for key, value in vars(backbone).items() if key != "name"}
    return {
        **document,
        **facts,
        "restriction": restriction(backbone.licence),
        "available": path is not None,
        "path": path and str(path),
    }
