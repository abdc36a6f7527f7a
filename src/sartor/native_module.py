"""The compiled module behind the engine `native`, where it was built, and why it is not there."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType
from typing import Any

_ABI = 3
"""Of the module's functions, which this version of the package calls."""

HOW_TO_HAVE_IT = (
    "For sartor's own, which is several times as fast for small networks, install a C++17 compiler "
    "(g++ or clang++) and then sartor again."
)


@functools.cache
def module() -> ModuleType | None:
    """`sartor._native`; None where `missing` says why."""
    return _found()[0]


def missing() -> str | None:
    """Why there is no engine `native` here, in one clause; None where there is one."""
    return _found()[1]


@functools.cache
def _found() -> tuple[ModuleType | None, str | None]:
    try:
        found = importlib.import_module("sartor._native")
    except ModuleNotFoundError:
        return None, "it was not built: there was no C++ compiler when sartor was installed"
    except ImportError as error:  # made for another Python, processor or C library
        return None, f"its module cannot be loaded here: {error}"
    abi = found.build().get("abi")
    if abi != _ABI:
        return None, f"its module is of another version (it has the interface {abi}, not {_ABI})"
    return found, None


def instruction_sets() -> tuple[str, ...]:
    """Those that the module has and this processor too, the widest last."""
    found = module()
    return () if found is None else tuple(found.build()["isas"])


def bfloat16_sets() -> tuple[str, ...]:
    """Those of its instruction sets that multiply bfloat16 and are here, the fastest last."""
    found = module()
    return () if found is None else tuple(found.build()["bfloat16"])


def describe() -> dict[str, Any]:
    """For environment.json: what the module was built with, or why there is none."""
    found = module()
    return {"missing": missing()} if found is None else dict(found.build())
