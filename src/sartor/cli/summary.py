"""`sartor summary`: a network's layers. Its flags, its call, its printing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from ..models.settings import Setting
from .output import print_json


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A network's layers: shapes, parameters, multiply-adds, memory."""

    model: Positional[str]
    """A run (folder, name in runs/, or latest), path/file.py:Name or a network."""
    data: str = "digits"
    """A set whose images decide the shapes; a run brings its own."""
    model_kwargs: Mapping[str, Setting] = field(default_factory=dict)
    """The network's own settings, such as hidden=512,512 dropout=0.2."""
    trust: bool = False
    """Use the run's own Python file, whoever wrote it, and a recipe that was changed by hand."""
    json: bool = False
    """Print the result as one line of JSON."""


def summary(given: Summary) -> int:
    """Show a network's layers."""
    from .. import api
    from ..models.registry import MODELS
    from ..runs.store import LATEST

    is_run = given.model not in MODELS and (
        given.model == LATEST or Path(given.model).is_dir() or (Path("runs") / given.model).is_dir()
    )
    model: Any = api.Run.open(given.model, trust=given.trust) if is_run else given.model
    table = api.summary(model, given.data, **given.model_kwargs)
    if given.json:
        print_json(table.to_json())
    else:
        print(table)
    return 0
