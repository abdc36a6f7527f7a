"""Trains when it is told to, each time in a process of its own, which a fault can be put into.

Run by `torture.py`, with `faults/faults.c` preloaded. A fork of a process that has imported torch
begins to train at once, so that hundreds of trainings fit into minutes. Takes one JSON document per
line, such as {"words": ["resume", "run"], "said": "file", "fault": {...}}; answers with the number
of the process, and when it has ended with how.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

FAULTS = ("nothing", "kill", "half", "fail", "short", "stop", "jump")


def main() -> None:
    """Until the input ends."""
    prepare()
    answer({"ready": os.getpid()})
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            work(order)
        answer({"process": child})
        _, status = os.waitpid(child, 0)
        answer({"ended": os.waitstatus_to_exitcode(status)})


def answer(document: dict[str, int]) -> None:
    """One line on the output."""
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def prepare() -> None:
    """Import all that a training needs, by one that is thrown away."""
    import tempfile

    import sartor
    from sartor.runs import environment

    commit = environment._commit(Path(environment.__file__).parent)
    environment._commit = lambda _folder: commit  # asking git takes longer than the training
    with tempfile.TemporaryDirectory() as folder:
        run = sartor.fit("digits", model="lenet", epochs=1, threads=1, out=Path(folder, "run"))
        warnings.filterwarnings("ignore", "After step", sartor.SartorWarning)
        sartor.resume(run, epochs=2)


def work(order: dict[str, Any]) -> None:
    """In the child: do what the command line does, and leave."""
    os.setsid()
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    redirect(order)
    put(order.get("fault"), order.get("log"))
    code = 70
    try:
        from sartor.cli.main import run

        code = run(order["words"])
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    except BaseException:
        traceback.print_exc()
    # As at the end of a process: what cannot be written is no news any more.
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    Path(f"{order['said']}.touches").write_text(str(ctypes.CDLL(None).faults_touches()))
    os._exit(code)


def redirect(order: dict[str, Any]) -> None:
    """Where the child speaks: into files, or to nobody."""
    said = order["said"]
    devices = {"full": "/dev/full"}
    for name, number in (("out", 1), ("err", 2)):
        way = order.get(name, "file")
        if way == "closed":
            os.close(number)
            continue
        if way == "pipe":  # whose reader has gone
            reading, handle = os.pipe()
            os.close(reading)
        else:
            path = devices.get(way, f"{said}.{name}")
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(handle, number)
        os.close(handle)
    # What Python made of the streams before belongs to the parent.
    for name, number in (("stdout", 1), ("stderr", 2)):
        try:
            os.fstat(number)
            stream = open(number, "w", closefd=False, encoding="utf-8")  # noqa: SIM115
        except OSError:
            stream = None
        setattr(sys, name, stream)


def put(fault: dict[str, Any] | None, log: str | None) -> None:
    """Put a fault into this process."""
    library = ctypes.CDLL(None)
    if log is not None:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        library.faults_log(str(fault["folder"] if fault else "").encode(), handle)
        return
    if fault is not None:
        library.faults_set(
            str(fault["folder"]).encode(),
            FAULTS.index(fault["what"]),
            ctypes.c_long(fault["at"]),
            ctypes.c_long(fault.get("count", 1)),
            fault.get("error", 0),
            ctypes.c_long(fault.get("jump", 0)),
        )


if __name__ == "__main__":
    main()
