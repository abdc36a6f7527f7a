"""The public table: complete, and free until something of it is used."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys

import pytest

import sartor


@pytest.mark.parametrize("name", sartor.__all__)
def test_every_name_can_be_imported_and_is_documented(name: str) -> None:
    found = getattr(sartor, name)
    assert callable(found)
    assert found.__doc__


def test_nothing_else_is_promised() -> None:
    assert dir(sartor) == sartor.__all__ == sorted(set(sartor.__all__))
    with pytest.raises(AttributeError, match="fitt"):
        sartor.fitt  # noqa: B018


def modules_after(code: str) -> set[str]:
    code += "\nimport json, sys; sys.stdout.write(json.dumps(sorted(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return set(json.loads(answer.stdout.splitlines()[-1]))


def test_importing_the_package_imports_nothing_heavy() -> None:
    loaded = modules_after("import sartor; sartor.SartorError; sartor.Recipe")
    assert not {"torch", "numpy", "PIL", "sklearn", "rich", "tyro"} & loaded


def test_errors_are_one_family() -> None:
    assert issubclass(sartor.Interrupted, sartor.SartorError)
    assert issubclass(sartor.SartorWarning, UserWarning)


def test_no_room_hides_a_name_of_the_table() -> None:
    """Importing a package sets it as an attribute of the one it lies in."""
    rooms = {module.name for module in pkgutil.iter_modules(sartor.__path__)}
    assert not rooms & set(sartor.__all__)
