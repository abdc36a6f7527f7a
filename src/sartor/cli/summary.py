"""`sartor summary`: a network's layers. Its flags, its call, its printing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from ..console.streams import print_text
from ..models.settings import Setting
from .output import print_json, refuse_for_bundle
from .parsing import check_depth


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A network's layers: shapes, parameters, multiply-adds, memory."""

    model: Positional[str]
    """A run (folder, name in runs/, or latest), a bundle, path/file.py:Name or a network."""
    data: str = "digits"
    """A set whose images decide the shapes; a run brings its own."""
    model_kwargs: Mapping[str, Setting] = field(default_factory=dict)
    """The network's own settings, such as hidden=512,512 dropout=0.2."""
    trust: bool = False
    """Run a run's or a bundle's own Python file, whoever wrote it, and accept a recipe edited by
    hand."""
    depth: int | None = None
    """Show all layers below this level of names as one: at 2, stages.stage3 stands for all in it.
    0 shows every layer. By default, networks of more than 40 layers are shown by stage."""
    json: bool = False
    """Print the result as one line of JSON."""


def summary(given: Summary) -> int:
    """Show a network's layers."""
    from .. import api
    from ..bundle.format import is_bundle
    from ..models.registry import MODELS
    from ..runs.store import LATEST

    if is_bundle(given.model) and (given.model_kwargs or given.data != "digits"):
        flag = "--model-kwargs" if given.model_kwargs else "--data"
        refuse_for_bundle(given.model, {flag: True})
    is_run = (
        given.model not in MODELS
        and not is_bundle(given.model)
        and (
            given.model == LATEST
            or Path(given.model).is_dir()
            or (Path("runs") / given.model).is_dir()
        )
    )
    model: Any = api.Run.open(given.model, trust=given.trust) if is_run else given.model
    check_depth(given.depth)
    table = api.summary(model, given.data, trust=given.trust, **given.model_kwargs)
    if given.json:
        print_json(table.to_json())
    else:
        shown = table.at_depth(given.depth)
        print_text(str(shown))
        if given.depth is None and len(shown.rows) < len(table.rows):
            print(f"{len(shown.rows)} rows for {len(table.rows)} layers; --depth 0 shows each")
    return 0
