"""How long `export` and `verify` take, gates and the start of Python included.

    python benchmarks/export.py [--runs 3] [--folder runs/export]

Trains lenet, convnet and resnet8 for one epoch on Fashion-MNIST where they are not there yet, then
exports and verifies each as often as asked, in processes of their own. The gate goes over all
10,000 test images, in batches of four sizes.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

MODELS = ("lenet", "convnet", "resnet8")


def sartor(*words: str | Path) -> float:
    """Seconds of a command."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "sartor", *map(str, words)], check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("runs/export"))
    given = parser.parse_args()
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, {given.runs} runs")
    for model in MODELS:
        run, out = given.folder / model, given.folder / f"{model}-bundle"
        if not run.exists():
            sartor("fit", "fashion-mnist", "--model", model, "--epochs", "1", "--out", run)
        seconds: dict[str, list[float]] = {"export": [], "verify": []}
        for _ in range(given.runs):
            shutil.rmtree(out, ignore_errors=True)
            seconds["export"].append(sartor("export", run, "--out", out))
            seconds["verify"].append(sartor("verify", out))
        told = ", ".join(
            f"{verb} {statistics.median(each):.1f} s ({min(each):.1f} to {max(each):.1f})"
            for verb, each in seconds.items()
        )
        print(f"{model}: {told}", flush=True)


if __name__ == "__main__":
    main()
