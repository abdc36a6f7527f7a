"""What sets and novelty scores come to on test images and on images of no class.

    python benchmarks/novelty.py [--models lenet convnet resnet8] [--seeds 2] [--photos DIR]
                                 [--icons DIR] [--runs DIR] [--json FILE] [--page FILE]

For MNIST and Fashion-MNIST it trains each network with each seed, as `sartor fit` does, on 1,500
images of each class for two epochs; the calibration is the run's own. Then it shows each network
the test images of its own set and images of others, and holds coverage, false alarms and detections
against what the validation images promised. The page is docs/novelty.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import machine
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

import sartor
from sartor import api
from sartor.evaluation.calibration import log_probabilities, scaled
from sartor.evaluation.conformal import conformal_quantile, members, true_scores
from sartor.evaluation.novelty import auroc
from sartor.evaluation.predictions import Predictions
from sartor.inference.calibration import METHODS, NoveltyScore
from sartor.inference.forward import Forward
from sartor.inference.noise import noise_of
from sartor.inference.novelty import last_linear
from sartor.inference.novelty_fit import Candidates, Seen, scores_of

Images = npt.NDArray[np.uint8]
SETS = ("mnist", "fashion-mnist")
_STRANGERS = 1_000
"""Images of no class of each kind, at most."""
_LEVELS = (0.9, 0.95, 0.99)
_TRAIN = 2_000


def letters(count: int) -> Images:
    """The 26 capital letters in the fonts that come with matplotlib, light on dark, 28x28."""
    from matplotlib import font_manager

    fonts = sorted(
        path
        for path in font_manager.findSystemFonts(
            [str(Path(font_manager.__file__).parent / "mpl-data" / "fonts" / "ttf")]
        )
        if Path(path).name.startswith(("DejaVuSans", "DejaVuSerif", "STIXGeneral"))
        and "Display" not in path
    )
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        canvas = Image.new("L", (112, 112))
        font = ImageFont.truetype(fonts[rng.integers(len(fonts))], int(rng.integers(70, 96)))
        letter = chr(ord("A") + number % 26)
        ImageDraw.Draw(canvas).text((56, 56), letter, fill=255, font=font, anchor="mm")
        turned = canvas.rotate(rng.uniform(-12, 12), Image.Resampling.BILINEAR)
        made.append(np.asarray(turned.resize((28, 28), Image.Resampling.BOX)))
    return np.stack(made)[:, None]


def small_digits() -> Images:
    """The 8x8 digits of scikit-learn, enlarged to 20x20 on 28x28."""
    images = [
        np.pad(np.asarray(Image.fromarray(one[0]).resize((20, 20), Image.Resampling.BILINEAR)), 4)
        for one in sartor.load("digits").images
    ]
    return np.stack(images)[:_STRANGERS, None]


def prepared(folder: Path, preprocess: Any) -> Images:
    """Pictures of a folder as a network is given them, evenly chosen."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".png", ".jpg", ".jpeg"))
    chosen = paths[:: max(1, len(paths) // _STRANGERS)][:_STRANGERS]
    return np.stack([preprocess.picture(Image.open(path)) for path in chosen])


def strangers_of(
    name: str, preprocess: Any, photos: Path | None, icons: Path | None
) -> Iterator[tuple[str, Callable[[], Images]]]:
    """Kinds of images that belong to no class of a set."""
    other = "fashion-mnist" if name == "mnist" else "mnist"
    yield other, lambda: sartor.load(other).images[-_STRANGERS:]
    if name != "mnist":
        yield "8x8 digits, enlarged", small_digits
    yield "letters", lambda: letters(_STRANGERS)
    if icons is not None:
        yield "emoji", lambda: prepared(icons, preprocess)
    if photos is not None:
        yield "photographs", lambda: prepared(photos, preprocess)
    noise = sartor.load(name).images[:_STRANGERS]
    yield "uniform noise", lambda: noise_of("uniform noise", noise, np.zeros(len(noise), int))


class Watch:
    """Features and logits of images by a run's network."""

    def __init__(self, run: sartor.Run) -> None:
        self.predictor = run.predictor()
        self.forward: Forward = self.predictor.forward
        self.preprocess = self.predictor.preprocess
        some = self.predictor.batch(run.dataset().images[:2])
        self.layer = last_linear(self.forward.network, some)

    def seen(self, images: Images) -> Seen:
        """Of uint8 images (N, C, H, W)."""
        parts = [
            self.forward.seen(self.predictor.batch(images[start : start + 500]), self.layer)
            for start in range(0, len(images), 500)
        ]
        features, logits = (
            np.concatenate([one.numpy() for one in part]) for part in zip(*parts, strict=True)
        )
        return Seen(features, logits)


def every_method(run: sartor.Run, watch: Watch) -> dict[str, NoveltyScore]:
    """Each method as `fit` fits it, not only the one that was chosen."""
    dataset, split = run.dataset(), run.split()
    train = split.train[np.linspace(0, len(split.train) - 1, _TRAIN).astype(int)]
    seen, labels = watch.seen(dataset.images[train]), dataset.labels[train]
    with Candidates(seen, labels, watch.layer, "cross-entropy") as candidates:
        return {one.method: one for one in candidates}


def of_novelty(run: sartor.Run, photos: Path | None, icons: Path | None) -> dict[str, Any]:
    """How well the run's own score, and every other, tells strangers from test images."""
    watch = Watch(run)
    calibration = api.calibration_of(run)
    own = calibration.novelty
    assert own is not None
    dataset, split = run.dataset(), run.split()
    test, val = (watch.seen(dataset.images[rows]) for rows in (split.test[:2000], split.val))
    methods = every_method(run, watch)
    known = {name: scores_of(one, test, "cross-entropy") for name, one in methods.items()}
    usual = scores_of(methods[own.method], val, "cross-entropy")
    found: dict[str, Any] = {
        "method": own.method,
        "false_alarms": float(own.unknown(known[own.method]).mean()),
        "false_alarms_at_5": float((known[own.method] > np.quantile(usual, 0.95)).mean()),
        "strangers": {},
    }
    for kind, make in strangers_of(dataset.name, watch.preprocess, photos, icons):
        seen = watch.seen(make())
        scores = {name: scores_of(one, seen, "cross-entropy") for name, one in methods.items()}
        found["strangers"][kind] = {
            "count": len(seen.logits),
            "auroc": {name: auroc(known[name], scores[name]) for name in methods},
            "detected": float(own.unknown(scores[own.method]).mean()),
            "detected_at_5": float((scores[own.method] > np.quantile(usual, 0.95)).mean()),
            "confident": float((softmax(seen.logits, calibration.temperature).max(1) > 0.9).mean()),
        }
    return found


def softmax(logits: npt.NDArray[np.float32], temperature: float) -> npt.NDArray[np.float64]:
    """Probabilities at a temperature."""
    shifted = logits.astype(np.float64) / temperature
    shifted -= shifted.max(axis=1, keepdims=True)
    weights = np.exp(shifted)
    return weights / weights.sum(axis=1, keepdims=True)


def of_sets(run: sartor.Run) -> dict[str, Any]:
    """Coverage and size of the sets on test images, at several levels."""
    run.evaluate("test")
    temperature = api.calibration_of(run).temperature
    val, test = (
        Predictions.load(run.path / "predictions" / f"{part}.npz") for part in ("val", "test")
    )
    p_val, p_test = (np.exp(scaled(log_probabilities(one), temperature)) for one in (val, test))
    found = {}
    for level in _LEVELS:
        threshold = conformal_quantile(true_scores(p_val, val.labels), level)
        assert threshold is not None
        inside = members(p_test, threshold)
        covered = inside[np.arange(len(inside)), test.labels]
        per_class = [covered[test.labels == k].mean() for k in range(len(test.classes))]
        found[str(level)] = {
            "coverage": float(covered.mean()),
            "lowest": float(min(per_class)),
            "size": float(inside.sum(1).mean()),
            "single": float((inside.sum(1) == 1).mean()),
        }
    return found


def of_selection(seeds: int, folder: Path) -> dict[str, Any]:
    """Coverage on test images where few validation images also chose the epoch: the 8x8 digits."""
    coverages: dict[str, list[float]] = {"best": [], "last": []}
    for seed in range(seeds):
        # Steps so large that epochs differ, and it matters which one is chosen.
        settings: dict[str, Any] = {"epochs": 12, "lr": 0.3, "sched": "constant", "threads": 1}
        out = folder / f"digits-{seed}"
        run = sartor.fit(
            "digits", model="linear", seed=seed, out=out, check=False, report=False, **settings
        )
        for which, found in coverages.items():
            sets = sartor.Run.of(run).evaluate("test", checkpoint=which).sets
            assert sets is not None
            found.append(sets.coverage)
    return {
        which: {"mean": statistics.mean(found), "sd": statistics.stdev(found), "runs": seeds}
        for which, found in coverages.items()
    }


def trained(
    folder: Path, name: str, model: str, seed: int, given: argparse.Namespace
) -> sartor.Run:
    """The run in a folder, or a new one there."""
    if (folder / "recipe.toml").exists():
        return sartor.Run.open(folder)
    settings: dict[str, Any] = {"epochs": given.epochs, "limit_per_class": 1_500, "threads": 1}
    run = sartor.fit(
        name,
        model=model,
        seed=seed,
        engine="plain",
        check=False,
        report=False,
        out=folder,
        **settings,
    )
    return sartor.Run.of(run)


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Train and measure everything."""
    described = machine.describe(machine.command_of("novelty"))
    rows, began = [], time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.runs or Path(temporary)
        for seed in range(given.seeds):
            for model in given.models:
                for name in SETS:
                    run = trained(folder / f"{name}-{model}-{seed}", name, model, seed, given)
                    row = {"set": name, "model": model, "seed": seed}
                    row |= {"accuracy": run.evaluate("test").accuracy, "sets": of_sets(run)}
                    rows.append(row | of_novelty(run, given.photos, given.icons))
                    print(f"{time.perf_counter() - began:6.0f} s {name} {model} {seed}", flush=True)
                    if given.json:
                        given.json.write_text(json.dumps({"rows": rows}))
        selection = of_selection(given.selection_seeds, Path(temporary))
    return {"machine": described, "rows": rows, "selection": selection, "epochs": given.epochs}


FIRST = """
What [sets of classes and the novelty score](unsure.md) come to on images that they were not fitted
on. Networks trained on 1,500 images of each class for {epochs} epochs, and calibrated as every run
is; each with as many seeds as its row says. Figures are means over the seeds; the lowest and the
highest stand in brackets. `python benchmarks/novelty.py` makes this page; every number is in
[novelty.json](novelty.json).
"""
SETS_TEXT = """
The threshold is fitted on validation images. On the 10,000 test images: the coverage (the share of
images whose set contains their class), the coverage of the class with the lowest, the mean number
of classes in a set, and the share of sets with a single class. If the accuracy is above the
promised coverage, the first class is enough and covers more. A threshold from 1,500 images covers
95 % give or take 0.6 points (one standard deviation). Nothing is promised for a single class.
"""
FEW_TEXT = """
**Few validation images that also chose the epoch.** The 8x8 digits with 144 validation images, the
network `linear`, 12 epochs with a learning rate so high that epochs differ, 95 % promised; coverage
on 359 test images. The weights of the best epoch were chosen on the same images as the threshold,
those of the last epoch were not: the difference is the price of that choice with so few images.
"""
STRANGERS_TEXT = """
Images of no class, shown to a network. AUROC: how often a stranger is more novel than a test image.
Unknown: the share called unknown at 1 % false alarms, the default of `fit`, and at 5 %. Sure: the
share with a calibrated probability above 90 %, which a user without novelty would trust.
"""
CHOICE_TEXT = """
`fit` chooses the score that best separates validation images from noise made from them. The mean
AUROC over all the strangers above, which it never saw: for the chosen score, and for each score.
"""


def page(found: dict[str, Any]) -> str:
    """docs/novelty.md."""
    rows, selection = found["rows"], found["selection"]
    alarms = [[row[name] for row in rows] for name in ("false_alarms", "false_alarms_at_5")]
    lines = [
        "# Sets and novelty",
        FIRST.format(epochs=found["epochs"]),
        "## Do sets keep their promise?",
        SETS_TEXT,
        "| set, network (seeds) | accuracy | promised | coverage | lowest class | size | single |",
        "|---|---|---|---|---|---|---|",
        *_set_rows(rows),
        FEW_TEXT,
        "| weights | runs | mean coverage | standard deviation over runs |",
        "|---|---|---|---|",
        *(
            f"| {which} | {one['runs']} | {one['mean']:.2%} | {one['sd']:.2%} |"
            for which, one in selection.items()
        ),
        "",
        "## Are strangers found?",
        STRANGERS_TEXT,
        "| network of (seeds) | shown | AUROC | unknown at 1 % | at 5 % | sure |",
        "|---|---|---|---|---|---|",
        *_stranger_rows(rows),
        "",
        f"False alarms on test images: {_spread(alarms[0])} at 1 %, {_spread(alarms[1])} at 5 %.",
        "",
        "## Does noise choose the right score?",
        CHOICE_TEXT,
        "| set, network (seeds) | chosen | AUROC | " + " | ".join((*METHODS, "best")) + " |",
        "|---|---|---|---|---|---|---|---|",
        *_choice_rows(rows),
        "",
        "## Machine",
        "",
        *machine.markdown_of(found["machine"]),
    ]
    return "\n".join(lines) + "\n"


def _of_networks(rows: list[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    names = dict.fromkeys((row["set"], row["model"]) for row in rows)
    for name, model in sorted(names):
        runs = [row for row in rows if (row["set"], row["model"]) == (name, model)]
        yield f"{name}, {model} ({len(runs)})", runs


def _spread(values: list[float]) -> str:
    """Mean, lowest and highest."""
    low, high = min(values), max(values)
    return f"{100 * statistics.mean(values):.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def _set_rows(rows: list[dict[str, Any]]) -> Iterator[str]:
    for name, runs in _of_networks(rows):
        for level in _LEVELS:
            of = [run["sets"][str(level)] for run in runs]
            size = statistics.mean(one["size"] for one in of)
            accuracy = statistics.mean(run["accuracy"] for run in runs)
            yield (
                f"| {name} | {accuracy:.1%} | {level:.0%} | "
                f"{_spread([one['coverage'] for one in of])} | "
                f"{statistics.mean(one['lowest'] for one in of):.1%} | {size:.2f} | "
                f"{statistics.mean(one['single'] for one in of):.1%} |"
            )


def _stranger_rows(rows: list[dict[str, Any]]) -> Iterator[str]:
    for name, runs in _of_networks(rows):
        for kind in runs[0]["strangers"]:
            of = [run["strangers"][kind] for run in runs]
            areas = [one["auroc"][run["method"]] for one, run in zip(of, runs, strict=True)]
            yield (
                f"| {name} | {kind} | {statistics.mean(areas):.3f} [{min(areas):.3f}, "
                f"{max(areas):.3f}] | {_spread([one['detected'] for one in of])} | "
                f"{statistics.mean(one['detected_at_5'] for one in of):.0%} | "
                f"{statistics.mean(one['confident'] for one in of):.0%} |"
            )


def _choice_rows(rows: list[dict[str, Any]]) -> Iterator[str]:
    for name, runs in _of_networks(rows):
        means = {
            method: statistics.mean(
                one["auroc"][method] for run in runs for one in run["strangers"].values()
            )
            for method in METHODS
        }
        chosen = statistics.mean(
            one["auroc"][run["method"]] for run in runs for one in run["strangers"].values()
        )
        names = ", ".join(dict.fromkeys(run["method"] for run in runs))
        cells = " | ".join(f"{means[method]:.3f}" for method in METHODS)
        best = max(means, key=lambda method: means[method])
        yield f"| {name} | {names} | {chosen:.3f} | {cells} | {best} |"


def main() -> None:
    """Measure, keep the figures, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=["lenet", "convnet", "resnet8"])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--selection-seeds", type=int, default=30)
    parser.add_argument("--photos", type=Path, help="a folder of photographs")
    parser.add_argument("--icons", type=Path, help="a folder of emoji")
    parser.add_argument("--runs", type=Path, help="keep the runs here, and use those that are here")
    parser.add_argument("--json", type=Path, default=Path("docs/novelty.json"))
    parser.add_argument("--page", type=Path, default=Path("docs/novelty.md"))
    parser.add_argument("--again", action="store_true", help="only write the page again")
    given = parser.parse_args()
    if given.again:
        found = json.loads(given.json.read_text())
    else:
        found = measure(given)
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    given.page.write_text(page(found))


if __name__ == "__main__":
    main()
