"""Every error that sartor raises on purpose.

    SartorError                 exit code 1
    ├── UsageError              exit code 2: an unknown name, a value out of range
    │   └── RecipeError         every problem of a recipe, found at once
    ├── FileError               a full disk, a folder that cannot be written
    ├── DataError               data that cannot be used
    │   ├── CorruptDataError    bytes that do not match their format or checksum
    │   ├── UnavailableError    no source could deliver a named set
    │   └── PictureError        a file that cannot be read as an image
    ├── ModelError              a network that does not fit the data
    ├── RunError                a run's folder that is missing, broken or from another version
    │   └── CheckpointError     a checkpoint whose bytes do not match its checksum
    ├── BundleError             a bundle that is missing, damaged or of a newer format
    ├── ExportError             a network that cannot be exported, or that answers differently then
    ├── MissingExtraError       an optional library is not installed
    ├── ServerError             a server that cannot listen, such as on a port in use
    ├── TrainingError           training that cannot continue, such as a loss that is not finite
    └── Interrupted             exit code 130 or 143, after the state was saved

A message says what is wrong in one sentence, a hint says what to do in another.
"""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable


class SartorError(Exception):
    """A problem that the user can fix."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message} {hint}".strip())
        self.message = message
        self.hint = hint


class UsageError(SartorError):
    """The request itself is wrong: an unknown name, a value out of range."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe that cannot be run; `problems` lists every reason."""

    def __init__(self, problems: Iterable[str], hint: str = "") -> None:
        self.problems = tuple(problems)
        sentence = "; ".join(self.problems)
        super().__init__(sentence if sentence.endswith("?") else f"{sentence}.", hint)


class FileError(SartorError):
    """The file system refused: a full disk, a folder that cannot be written."""


class DataError(SartorError):
    """Data that cannot be used as it is."""


class CorruptDataError(DataError):
    """Bytes that do not match their format or checksum."""


class UnavailableError(DataError):
    """No source could deliver a named set."""


class PictureError(DataError):
    """A file that cannot be read as an image."""


class ModelError(SartorError):
    """A network that cannot be built, or does not fit the images or the classes."""


class RunError(SartorError):
    """A run's folder that is missing, broken, in use or from another version."""


class CheckpointError(RunError):
    """A checkpoint whose bytes do not match its checksum."""


class BundleError(SartorError):
    """A bundle that is missing, damaged or of a newer format."""


class ExportError(SartorError):
    """A network that cannot be exported, or whose export gives other answers than it does."""


class MissingExtraError(SartorError):
    """An optional library is not installed."""

    def __init__(self, what: str, library: str, extra: str, *, or_else: str = "") -> None:
        super().__init__(
            f"{what} needs {library}, which is not installed.",
            f"Install it: pip install 'sartor[{extra}]'{', ' * bool(or_else)}{or_else}",
        )


class ServerError(SartorError):
    """A server that cannot start."""


class TrainingError(SartorError):
    """Training that cannot continue."""


class Interrupted(SartorError):  # noqa: N818  (an interruption is not an error; the name says what happened)
    """Training stopped by a signal, after its state was saved."""

    def __init__(self, signal_number: int, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.exit_code = 128 + signal_number
        self.signal_name = signal.Signals(signal_number).name


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """A sentence about an unknown name, with the nearest spelling or all known names."""
    spelled = {one.lower(): one for one in sorted(known)}
    near = difflib.get_close_matches(name.lower(), spelled, n=1, cutoff=0.6)
    listed = ", ".join(spelled.values())
    advice = f'did you mean "{spelled[near[0]]}"?' if near else f"known: {listed}"
    return f'unknown {kind} "{name}"; {advice}'


class SartorWarning(UserWarning):
    """Something the user should know that does not stop the program."""
