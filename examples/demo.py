"""The tour of `make demo`: fit, evaluate and predict on Fashion-MNIST, command by command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import sartor
from sartor.data.pictures.preprocess import as_picture

PICTURES = 5


def main() -> None:
    """Run each command as one would type it."""
    run = fit("fashion-mnist", "--epochs", "5")
    command("evaluate", run, "--mistakes", f"{run}/mistakes.png")
    command("show", run, "--plot", f"{run}/curves.png")
    pictures = save_test_pictures(Path(run) / "pictures")
    command("predict", run, *map(str, pictures))
    print(
        f"\nThe run is in {run}, with curves.png and mistakes.png.\n"
        "Next:\n"
        f"  .venv/bin/sartor resume {run} --epochs 10     train it longer\n"
        f"  .venv/bin/sartor predict {run} YOUR.png       classify your own picture\n"
        "  .venv/bin/sartor fit mnist --model mlp       another dataset and network"
    )


def fit(*words: str) -> str:
    """Train with the command line and return the run's folder."""
    say("fit", *words)
    # The result as JSON names the folder; progress goes to the terminal as usual.
    words = (*words, "--json")
    done = subprocess.run(sartor_command("fit", *words), stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return str(json.loads(done.stdout)["run"])


def command(*words: str) -> None:
    """Show a command, then run it."""
    say(*words)
    code = subprocess.run(sartor_command(*words)).returncode
    if code:
        sys.exit(code)


def say(*words: str) -> None:
    """Show a command as it would be typed."""
    print(f"\n$ sartor {' '.join(words)}", flush=True)


def sartor_command(*words: str) -> list[str]:
    """The command line of the same environment."""
    return [sys.executable, "-m", "sartor", *words]


def save_test_pictures(folder: Path) -> list[Path]:
    """The first test images as PNG files named after their true class."""
    folder.mkdir(parents=True, exist_ok=True)
    dataset = sartor.load("fashion-mnist")
    assert dataset.test is not None
    paths = []
    for index in dataset.test[:PICTURES].tolist():
        image, _, name = dataset[index]
        path = folder / f"{index}-{name.lower().replace('/', '-').replace(' ', '-')}.png"
        as_picture(image).save(path)
        paths.append(path)
    return paths


if __name__ == "__main__":
    main()
