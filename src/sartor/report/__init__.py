"""Figures, text and pages; and, called, the verb of that name: `sartor.report(run)`."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _RoomAndVerb(ModuleType):
    """Importing this room would else hide the function `sartor.report`, which `api` makes."""

    def __call__(self, *args: Any, **settings: Any) -> Any:
        """As `sartor.api.report`."""
        return import_module("sartor.api").report(*args, **settings)


sys.modules[__name__].__class__ = _RoomAndVerb
