"""Your own network: `--model path/file.py:Name`, where Name is a class or a function."""

from __future__ import annotations

import importlib.util
import itertools
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from ..errors import ModelError, UsageError, unknown

_load_numbers = itertools.count(1)


def is_custom(spec: str) -> bool:
    """Whether a `--model` names a file, not an entry of the registry."""
    return spec.endswith(".py") or spec.rpartition(":")[0].endswith(".py")


def split(spec: str) -> tuple[Path, str]:
    """The file and the name in it that "path/file.py:Name" stands for.

    Raises:
        UsageError: there is no name, or no such file.
    """
    file, colon, name = spec.rpartition(":")
    if not (colon and file.endswith(".py") and name):
        raise UsageError(
            f'Model "{spec}" does not name a class or function.',
            f"Add it after a colon: {spec.rstrip(':')}:Net",
        )
    path = Path(file).expanduser().absolute()
    if not path.is_file():
        raise UsageError(
            f"There is no file {path}.", "Check the path; it is relative to the current folder."
        )
    return path, name


def source_of(spec: str) -> bytes:
    """The file's content, for a copy that can be loaded under the same name.

    Modules that it imports from its own folder are not part of it.
    """
    path, _ = split(spec)
    return _read(path)


def load(spec: str) -> Callable[..., object]:
    """The class or function of that name, from the file as it is now.

    The file runs as a new module every time. Only while it runs can it import from its own folder,
    and what it imported from there is forgotten, so that two files may each have a neighbour
    `layers.py`. Nothing is written beside it.

    Raises:
        UsageError: there is no such file, or no class or function of that name in it.
        ModelError: the file cannot be read or run.
    """
    path, name = split(spec)
    module = _run(path)
    found = getattr(module, name, None)
    if callable(found) and not _is_network(found):
        return found  # type: ignore[no-any-return]
    raise UsageError(*_no_such_name(module, path, name))


def where(error: BaseException, path: Path) -> str:
    """The line of the file at which an error arose, as " in line 12 of file.py", if it is known."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(path)
    ]
    line = lines[-1] if lines else None
    if isinstance(error, SyntaxError) and error.filename == str(path):
        line = error.lineno
    return f" in line {line} of {path.name}" if line else f" in {path.name}"


def reason_of(error: BaseException) -> str:
    """The first line of an error's message, without its full stop; else the name of its type."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(error).__name__


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ModelError(f"Cannot read {path}: {reason}.", "Check its permissions.") from error


def _run(path: Path) -> ModuleType:
    name = f"sartor_model_{next(_load_numbers)}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "a path that ends in .py always has a loader"
    module = importlib.util.module_from_spec(spec)
    source = _read(path)
    sys.modules[name] = module  # dataclasses and pickle look their module up here
    try:
        with _importing_from(path.parent):
            # From the bytes: a loader would trust, and write, a __pycache__ beside the file.
            exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ModelError(
            f"{type(error).__name__}{where(error, path)}: {reason_of(error)}.",
            "The file must run on its own, as in `import`; put training and printing under "
            'if __name__ == "__main__".',
        ) from error
    return module


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Inside, the folder's modules can be imported; afterwards those that were are forgotten."""
    before = set(sys.modules)
    writes_nothing = sys.dont_write_bytecode
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes_nothing
        with suppress(ValueError):
            sys.path.remove(str(folder))
        new = set(sys.modules) - before
        for name in [name for name in new if _stems_from(folder, name.partition(".")[0])]:
            del sys.modules[name]


def _stems_from(folder: Path, package: str) -> bool:
    """Whether a loaded top-level module is the one that the folder offers under its name."""
    offered = PathFinder.find_spec(package, [str(folder)])
    loaded = getattr(sys.modules.get(package), "__spec__", None)
    return offered is not None and loaded is not None and offered.origin == loaded.origin


def _no_such_name(module: ModuleType, path: Path, name: str) -> tuple[str, str]:
    """What is wrong and what to do where a file has no class or function of that name."""
    if hasattr(module, name):
        return (
            f'"{name}" of {path.name} is neither a class nor a function.',
            "Wrap it into a function that returns the network.",
        )
    names = [key for key, value in vars(module).items() if _is_defined_in(module, key, value)]
    if not names:
        return f"{path.name} defines no class or function.", f"Define {name} in it."
    return unknown(f"class or function of {path.name}", name, names), "Correct the name."


def _is_network(value: object) -> bool:
    # One network made at import would share its weights among all who load it.
    from torch import nn

    return isinstance(value, nn.Module)


def _is_defined_in(module: ModuleType, name: str, value: object) -> bool:
    own = getattr(value, "__module__", None) == module.__name__
    return own and callable(value) and not name.startswith("_")
