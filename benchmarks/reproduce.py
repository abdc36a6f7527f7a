"""The walk-throughs' figures beside those of sartor's recipes, over several seeds.

    python benchmarks/reproduce.py            all of it; writes docs/reproduction.md
    python benchmarks/reproduce.py --only mnist-logistic --seeds 20    one recipe; writes nothing

Every recipe is trained as it is shipped, mnist-logistic for 20 epochs instead of 5, since its
walk-through goes on that far; with a constant learning rate the first 5 are the same.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import machine
import torch
import torch.nn.functional as F
from reproduce_page import Figure, Reported, document, tables

import sartor
from sartor.assembly import build_network
from sartor.files import write_text

Figures = dict[str, float]
"""What one run gives, by the name of the figure."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A recipe, what its walk-through reports, and how the same is read from a run."""

    name: str
    source: str
    reported: Mapping[str, Reported]
    figures_of: Callable[[sartor.Run], Figures]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the recipe."""


def main(words: Sequence[str] | None = None) -> int:
    """Train, compare, print, write."""
    given = parsed_arguments(words)
    began = time.perf_counter()
    described = machine.describe(machine.command_of("reproduce"))
    figures: dict[str, list[Figure]] = {}
    for case in CASES:
        if given.only in (None, case.name):
            dataset = sartor.load(case.source, on_event=sartor.PlainProgress())
            figures[case.name] = measure(case, dataset, range(given.seeds))
    print("\n".join(tables(figures)))
    if not (given.only or given.no_write):
        described["total time"] = f"{(time.perf_counter() - began) / 60:.1f} minutes"
        write_text(machine.DOCS / "reproduction.md", document(described, figures))
    return 0


def parsed_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0")
    parser.add_argument("--only", choices=[case.name for case in CASES], help="one recipe")
    parser.add_argument("--no-write", action="store_true", help="leave the document as it is")
    given = parser.parse_args(words)
    if given.seeds < 2:
        parser.error("--seeds must be at least 2, for a spread")
    return given


def measure(case: Case, dataset: sartor.Dataset, seeds: Sequence[int]) -> list[Figure]:
    """Train with every seed; every figure with its values, reported or not."""
    runs = [figures_of_seed(case, dataset, seed) for seed in seeds]
    return [
        Figure(name=name, reported=reported, values=tuple(figures[name] for figures in runs))
        for name, reported in case.reported.items()
    ]


def figures_of_seed(case: Case, dataset: sartor.Dataset, seed: int) -> Figures:
    """Train once."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="sartor-reproduce-") as folder:
        run = sartor.fit(
            dataset, recipe=case.name, seed=seed, out=Path(folder) / "run", **case.settings
        )
        figures = case.figures_of(run)
    seconds = time.perf_counter() - began
    print(f"{case.name}, seed {seed}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return figures


def numbered(name: str, values: Sequence[float], digits: int) -> dict[str, Reported]:
    """One figure per epoch, from the first."""
    return {f"{name} {n}": Reported(value, digits) for n, value in enumerate(values, start=1)}


def fashion_cnn_figures(run: sartor.Run) -> Figures:
    """Number correct and sum of the batches' losses in every epoch."""
    figures: Figures = {}
    for row in run.history:
        figures[f"correct of 60,000 in epoch {row['epoch']}"] = row["train_accuracy"] * 60_000
        # Batches of equal size: the mean over the images is the mean over the batches.
        figures[f"sum of 600 losses in epoch {row['epoch']}"] = row["train_loss"] * 600
    return figures


def mnist_mlp_figures(run: sartor.Run) -> Figures:
    """Training loss of every epoch, and the judgement of the test images."""
    figures = {f"training loss in epoch {row['epoch']}": row["train_loss"] for row in run.history}
    test = run.evaluate("test")
    figures["test loss"] = test.loss
    figures["test images correct of 10,000"] = test.accuracy * 10_000
    for one in test.per_class:
        figures[f"test accuracy of digit {one.class_name}, %"] = 100 * (one.accuracy or 0)
    return figures


def mnist_logistic_figures(run: sartor.Run) -> Figures:
    """Validation before training and after some epochs; the test images at the end."""
    loss, accuracy = untrained_figures(run)
    figures = {"validation loss before training": loss, "validation accuracy before it": accuracy}
    for row in run.history:
        figures[f"validation accuracy after epoch {row['epoch']}"] = row["val_accuracy"]
    figures["test accuracy after epoch 20"] = run.evaluate("test", checkpoint="last").accuracy
    return figures


def fashion_mlp_figures(run: sartor.Run) -> Figures:
    """Validation after every epoch."""
    figures: Figures = {}
    for row in run.history:
        figures[f"validation accuracy after epoch {row['epoch']}, %"] = 100 * row["val_accuracy"]
        figures[f"validation loss after epoch {row['epoch']}"] = row["val_loss"]
    return figures


@torch.no_grad()
def untrained_figures(run: sartor.Run) -> tuple[float, float]:
    """Loss and accuracy of the run's first weights on its validation images."""
    dataset, kept = run.dataset(), run.split().val
    network = build_network(run.recipe, len(dataset.classes)).eval()
    logits = network(torch.from_numpy(dataset.images[kept]).float() / 255)
    labels = torch.from_numpy(dataset.labels[kept])
    correct = logits.argmax(dim=1) == labels
    return float(F.cross_entropy(logits, labels)), float(correct.double().mean())


CASES = (
    Case(
        name="fashion-cnn",
        source="fashion-mnist",
        figures_of=fashion_cnn_figures,
        reported={
            **numbered("correct of 60,000 in epoch", (46_946, 51_189, 51_831, 52_269, 52_547), 0),
            **numbered("sum of 600 losses in epoch", (342.4, 237.2, 218.7, 207.5, 201.7), 1),
        },
    ),
    Case(
        name="mnist-mlp",
        source="mnist",
        figures_of=mnist_mlp_figures,
        reported={
            **numbered("training loss in epoch", (1.0856, 0.3878, 0.3141), 4),
            "test loss": Reported(0.2553, 4),
            "test images correct of 10,000": Reported(9_253, 0),
            **{
                f"test accuracy of digit {digit}, %": Reported(value, 2)
                for digit, value in enumerate(
                    (98.47, 97.53, 88.86, 90.89, 94.91, 89.46, 94.68, 93.29, 87.99, 88.5)
                )
            },
        },
    ),
    Case(
        name="mnist-logistic",
        source="mnist",
        figures_of=mnist_logistic_figures,
        settings={"epochs": 20},
        reported={
            "validation loss before training": Reported(2.333, 3),
            "validation accuracy before it": Reported(0.128, 3),
            **numbered(
                "validation accuracy after epoch", (0.6301, 0.7341, 0.7609, 0.7882, 0.7999), 4
            ),
            "validation accuracy after epoch 10": Reported(0.8340, 4),
            "validation accuracy after epoch 15": Reported(0.8505, 4),
            "validation accuracy after epoch 20": Reported(0.8580, 4),
            "test accuracy after epoch 20": Reported(None, 4),
        },
    ),
    Case(
        name="fashion-mlp",
        source="fashion-mnist",
        figures_of=fashion_mlp_figures,
        reported={
            "validation accuracy after epoch 1, %": Reported(9.6, 1),
            "validation accuracy after epoch 10, %": Reported(30.9, 1),
            "validation loss after epoch 1": Reported(2.300, 3),
            "validation loss after epoch 10": Reported(2.127, 3),
        },
    ),
)

if __name__ == "__main__":
    sys.exit(main())
