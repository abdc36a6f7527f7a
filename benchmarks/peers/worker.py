"""The process of one contender: takes orders as lines of JSON, answers with lines of JSON.

    python -m peers.worker CONTENDER MATERIAL

What the tools themselves print, bars included, goes into files of the folder it was started in.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from .contenders import CONTENDERS, Contender, Trainee
from .disturbance import now, share_of_others
from .judge import judge
from .material import read_material
from .prediction import measure
from .tasks import Task


def main(words: list[str]) -> int:
    """Answer until the orders end."""
    answers = _private_stdout()
    name, folder = words
    contender = CONTENDERS[name]
    contender.import_tool()
    _say(answers, {"ready": True})
    for line in sys.stdin:
        order = json.loads(line)
        _say(answers, _ANSWERS[order["order"]](contender, Path(folder), order))
    return 0


def train(contender: Contender, folder: Path, order: dict[str, Any]) -> dict[str, Any]:
    """All that is measured of one task."""
    task = Task(**order["task"])
    material = read_material(folder, task)
    trainee = contender.trainee(material)
    found: dict[str, Any] = {"epochs": contender.epochs(task)}
    began = now()
    found["first_seconds"] = seconds_of(trainee, epochs=1, head=True)
    found["head_seconds"] = seconds_of(trainee, epochs=1, head=True)
    if task.table == "batches":
        found["one_epoch_seconds"] = seconds_of(trainee, epochs=1, head=False)
    found["seconds"] = seconds_of(trainee, epochs=found["epochs"], head=False)
    found["others"] = share_of_others(began, now())
    found["loss"], found["accuracy"] = judge(material, trainee.weights())
    return found


def seconds_of(trainee: Trainee, *, epochs: int, head: bool) -> float:
    """Wall time of a training from the first weights."""
    trainee.prepare(epochs, head)
    began = time.perf_counter()
    trainee.fit()
    return time.perf_counter() - began


def predict(contender: Contender, folder: Path, order: dict[str, Any]) -> dict[str, Any]:
    """All that is measured of the predictions of one network."""
    material = read_material(folder, Task(**order["task"]))
    began = now()
    found = measure(contender.predictor(material), material)
    return found | {"others": share_of_others(began, now())}


_ANSWERS = {"train": train, "predict": predict}


def _private_stdout() -> TextIO:
    """The pipe to the driver; from here on everybody else's output goes into files."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    for descriptor, name in ((1, "stdout.txt"), (2, "stderr.txt")):
        opened = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, descriptor)
        os.close(opened)
    return answers


def _say(stream: TextIO, answer: dict[str, Any]) -> None:
    stream.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
