"""The command line: find the verb, parse its flags, run it, turn errors into sentences."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from ..console.streams import forget, has_vanished, plain_stdout, print_text, say
from ..distributed import dismiss, follows
from ..errors import FileError, SartorError, UsageError, unknown


class Verb(NamedTuple):
    """A row of the table of verbs."""

    arguments: str
    """Name of the dataclass of its flags, in the module of the verb's name."""
    does: str


VERBS = {
    "data": Verb("Data", "look at a set: counts, classes, samples"),
    "check": Verb("Check", "find faults in a set"),
    "fit": Verb("Fit", "train a classifier"),
    "resume": Verb("Resume", "resume a run where it stopped, or train it longer"),
    "runs": Verb("Runs", "list the runs"),
    "show": Verb("Show", "show one run: state, figures, history"),
    "evaluate": Verb("Evaluate", "evaluate a run on images it has not seen"),
    "compare": Verb("Compare", "is one run better than another?"),
    "report": Verb("Report", "a run as one page: figures, mistakes, calibration"),
    "predict": Verb("Predict", "classify pictures"),
    "work": Verb("Work", "predict, check or decode millions of pictures, in shards"),
    "export": Verb("Export", "write a bundle to ship: weights, ONNX, model card"),
    "verify": Verb("Verify", "check that a bundle still gives the same answers"),
    "serve": Verb("Serve", "serve predictions over HTTP"),
    "summary": Verb("Summary", "a network's layers, shapes and costs"),
    "models": Verb("Models", "list the networks, fetch pretrained weights"),
    "trace": Verb("Trace", "one image or batch through a network, forward and back"),
}


TOGETHER = ("fit", "resume")
"""Verbs that several processes carry out together; any other is that of the first one alone."""


def run(arguments: Sequence[str]) -> int:
    """Run the command; its exit code. Results go to stdout, everything else to stderr."""
    exit_code = _run(arguments)
    if arguments and arguments[0] in TOGETHER:
        dismiss(exit_code)
    return exit_code


def _run(arguments: Sequence[str]) -> int:
    _prepare_streams()
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    try:
        with plain_stdout():
            exit_code = _answer(arguments)
        # Here, and not while Python shuts down, a failure can still be told.
        sys.stdout.flush()
        return exit_code
    except SartorError as error:
        if os.environ.get("SARTOR_DEBUG"):
            raise
        _say_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        say("Stopped.")
        return 130
    except Exception as error:
        if isinstance(error, OSError):
            forget(sys.stdout)
            if has_vanished(error):
                # Whoever read our output has gone, as `head` does; that is not an error of ours.
                return 0
        if os.environ.get("SARTOR_DEBUG"):
            raise
        for line in _unexpected(error):
            say(line)
        return 1


def _answer(arguments: Sequence[str]) -> int:
    if arguments and arguments[0] in TOGETHER:
        if follows():
            return _follow()
    elif os.environ.get("RANK", "0") != "0" and os.environ.get("WORLD_SIZE"):
        return 0
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print_text(_help())
        return 0
    if arguments[0] in ("-V", "--version", "version"):
        print(f"sartor {_version()}")
        return 0
    return _run_verb(arguments[0], list(arguments[1:]))


def _run_verb(name: str, arguments: list[str]) -> int:
    if name not in VERBS:
        sentence = unknown("command", name, VERBS)
        raise UsageError(sentence[0].upper() + sentence[1:], "`sartor --help` lists all.")
    _refuse_deleted_folder()
    from .parsing import parse

    module = import_module(f"sartor.cli.{name}")
    verb: Callable[[Any], int] = getattr(module, name)
    # A recipe that is named among the words gives the other flags their defaults.
    default = module.defaults(arguments) if name == "fit" else None
    return verb(parse(name, getattr(module, VERBS[name].arguments), arguments, default))


def _follow() -> int:
    """Take part in what the first of several processes does, and say nothing."""
    warnings.showwarning = lambda *_rest: None
    from ..api.following import follow

    return follow()


def _refuse_deleted_folder() -> None:
    """Libraries end in errors of their own where the working folder is gone.

    Raises:
        FileError: it is.
    """
    try:
        os.getcwd()  # noqa: PTH109
    except OSError as error:
        raise FileError(
            "The folder that you are in does not exist any more.",
            "Change to another folder first, such as: cd ~",
        ) from error


def _prepare_streams() -> None:
    """What a terminal cannot show becomes a question mark; a closed stream swallows all."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _help() -> str:
    verbs = "\n".join(f"  {name:<10}{verb.does}" for name, verb in VERBS.items())
    return f"""sartor {_version()}: labelled images in, a classifier you can trust out.

usage: sartor VERB TARGET [flags]

{verbs}

Start here:
  sartor fit fashion-mnist          train a first classifier
  sartor report latest --split val  see what it gets right and wrong
  sartor evaluate latest            at the end, evaluate it on the test images
  sartor VERB --help                flags of a verb; --help-all: every flag"""


def _version() -> str:
    from importlib.metadata import version

    return version("sartor")


def _say_error(error: SartorError) -> None:
    say(f"sartor: {error.message}")
    if error.hint:
        say(error.hint)


def _unexpected(error: Exception) -> tuple[str, str]:
    """What to say of an error that no part of sartor raised, in two lines."""
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        advice = "Lower --batch-size, or use smaller images or a smaller model."
        return f"sartor: Out of memory: {first_line}", advice
    if isinstance(error, OSError):
        place = f" {error.filename}" if error.filename else ""
        reason = (error.strerror or first_line).lower()
        return f"sartor: Cannot read or write{place}: {reason}.", "Check the path and the disk."
    return (
        f"sartor: {type(error).__name__}: {first_line}",
        "This should not have happened. SARTOR_DEBUG=1 shows where it did.",
    )


def _show_warning(message: Warning | str, category: type[Warning], *_rest: object) -> None:
    from ..errors import SartorWarning

    if issubclass(category, SartorWarning):
        say(f"warning: {message}")
