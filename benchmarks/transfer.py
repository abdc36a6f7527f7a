"""Accuracy by the features of a frozen backbone, beside training from scratch, and what it costs.

    python benchmarks/own_pictures.py --build DIR
    python benchmarks/transfer.py DIR [--sets icons photos digits ...] [--seeds 5] [--scratch N]
    python benchmarks/transfer.py --page

Every figure is kept in docs/transfer.json as soon as it is there, and measured once: stopped, it
goes on where it was. `--page` prints the tables of docs/transfer.md from that file.

The test images of a set are the same for all seeds, which draw the images to learn from. Test
images choose nothing: the strength of the penalty is found by cross-validation on the images to
learn from. Of mnist and fashion-mnist the test images are 1,000 of the official test part. For
icons-shift the images to learn from are two vendors' drawings, those of the third are judged.
`--scratch N` trains the default from scratch on N seeds of 5 per class, by `sartor.fit`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

import sartor
from sartor.data.dataset import Dataset
from sartor.data.pictures.preprocess import Preprocess
from sartor.data.splits.split import make_split
from sartor.files import write_json
from sartor.inference.features import Features, hashes_of
from sartor.models.backbones import BACKBONES, pretrained_weights
from sartor.models.registry import build_model
from sartor.training.head import fit_head

BACKBONE = BACKBONES["efficientnet-lite0"]
RECORDS = Path(__file__).parents[1] / "docs" / "transfer.json"
FOLDERS, NAMED = ("icons", "photos"), ("digits", "mnist", "fashion-mnist")
SHIFT = "icons-shift"
SETS = (*FOLDERS, SHIFT, *NAMED)
PER_CLASS: tuple[int | None, ...] = (5, 20, 100, None)
_VENDORS = ("apple", "google", "twitter")
_MOST_TEST, _MOST_TRAIN = 1_000, 150
"""Images judged of a named set, and images a class that seeds draw from, where there are more."""
_QUIET = {"threads": 1, "check": False, "report": False, "progress": False}


def main() -> None:
    """Measure what is asked for and not kept yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="that of own_pictures.py --build")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--scratch", type=int, default=0, metavar="N")
    parser.add_argument("--page", action="store_true")
    given = parser.parse_args()
    if given.page:
        print(page(json.loads(RECORDS.read_text())))
        return
    torch.set_num_threads(1)
    records = json.loads(RECORDS.read_text()) if RECORDS.exists() else []
    for name in given.sets:
        for record in figures(name, given.folder, given.seeds, given.scratch, records):
            print(json.dumps(record), flush=True)
            records.append(record)
            write_json(RECORDS, records)


def figures(
    name: str, folder: Path | None, seeds: int, scratch: int, records: list[dict[str, object]]
) -> Iterator[dict[str, object]]:
    """The records of a set that are not among those given."""
    known = {(one["set"], one["way"], one["per_class"], one["seed"]) for one in records}

    def wanted(way: str, count: int | None, seed: int) -> bool:
        return (name, way, count, seed) not in known

    for seed in range(scratch if name in FOLDERS else 0):
        if wanted("scratch", 5, seed):
            assert folder is not None, "icons and photos lie in a folder"
            yield record(name, "scratch", 5, seed, *from_scratch(folder / name, seed))
    drawn = [(count, seed) for count in counts_of(name) for seed in range(seeds)]
    if not any(wanted("features", count, seed) for count, seed in drawn):
        return
    dataset, train, test = parts(name, folder)
    rows = np.concatenate([train, test])
    found = np.empty((len(dataset), BACKBONE.features), np.float32)
    found[rows] = features_of(dataset, rows)
    for count, seed in drawn:
        if wanted("features", count, seed):
            some = drawn_of(dataset.labels, train, count, seed)
            head = fit_head(found[some], dataset.labels[some], len(dataset.classes), seed=seed)
            correct = head.logits(found[test]).argmax(1) == dataset.labels[test]
            yield record(name, "features", count, seed, float(correct.mean()), len(test))


def counts_of(name: str) -> tuple[int | None, ...]:
    """Images of a class to learn from; None for all there are, one seed of which is enough."""
    if name in NAMED:
        return PER_CLASS if name == "digits" else PER_CLASS[:3]
    return (5, 20, None)


def record(
    name: str, way: str, count: int | None, seed: int, accuracy: float, judged: int
) -> dict[str, object]:
    """One figure as it is kept."""
    return {
        "set": name,
        "way": way,
        "per_class": count,
        "seed": seed,
        "accuracy": round(accuracy, 4),
        "test_images": judged,
    }


def parts(name: str, folder: Path | None) -> tuple[Dataset, np.ndarray, np.ndarray]:
    """A set, and the indices of the images to draw from and of those to judge."""
    if name in NAMED:
        dataset = sartor.load(name)
        split = make_split(dataset, val_fraction=0.0, test_fraction=0.2, seed=0)
        generator = np.random.default_rng(0)
        test = generator.permutation(split.test)[:_MOST_TEST]
        return dataset, drawn_of(dataset.labels, split.train, _MOST_TRAIN, 0), np.sort(test)
    assert folder is not None, "icons and photos lie in a folder"
    path = folder / name.removesuffix("-shift")
    dataset = sartor.load(path, image_size=BACKBONE.image_size, channels=3)
    if name == SHIFT:
        assert dataset.files is not None
        vendor = np.array([Path(file).name.partition("-")[0] for file in dataset.files])
        last = vendor == _VENDORS[-1]
        return dataset, np.flatnonzero(~last), np.flatnonzero(last)
    split = make_split(dataset, val_fraction=0.0, test_fraction=0.2, seed=0)
    return dataset, split.train, split.test


def drawn_of(labels: np.ndarray, train: np.ndarray, count: int | None, seed: int) -> np.ndarray:
    """At most so many images of each class."""
    if count is None:
        return train
    order = np.random.default_rng(seed).permutation(train)
    each = [order[labels[order] == label][:count] for label in np.unique(labels[train])]
    return np.sort(np.concatenate(each))


def features_of(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """Of the images with these indices, from the cache as far as they are in it."""
    side = BACKBONE.image_size
    preprocess = Preprocess(
        channels=3,
        height=side,
        width=side,
        resize="letterbox",
        mean=BACKBONE.mean,
        std=BACKBONE.std,
    )
    network = build_model(
        BACKBONE.name,
        input_shape=(3, side, side),
        num_classes=1000,
        kwargs={"pretrained": False},
    )
    network.load_state_dict(pretrained_weights(BACKBONE))
    network = network.to(memory_format=torch.channels_last)
    images = dataset.images[rows]
    if images.shape[1:] != (3, side, side):
        images = preprocess.images(images)
    normalize = preprocess.normalizer("cpu")
    features = Features(
        network=network,
        name=BACKBONE.name,
        images=torch.from_numpy(np.ascontiguousarray(images)),
        floats=lambda some: normalize(some).contiguous(memory_format=torch.channels_last),
        normalization=(BACKBONE.mean, BACKBONE.std),
        device="cpu",
        amp_dtype="float32",
        pixels_sha256=hashes_of(images),
    )
    for _ in features.computed(print):
        pass
    return features.of(np.arange(len(rows)))


def from_scratch(path: Path, seed: int) -> tuple[float, int]:
    """Test accuracy of the default without a backbone on five pictures of each class."""
    out = Path(tempfile.mkdtemp()) / "run"
    run = sartor.fit(path, transfer="scratch", seed=seed, limit_per_class=5, out=out, **_QUIET)
    judged = run.evaluate("test")
    return judged.accuracy, judged.count


def page(records: list[dict[str, object]]) -> str:
    """Mean and standard deviation over the seeds, a row for each set and way."""
    cells: dict[tuple[object, object], dict[object, list[float]]] = defaultdict(
        lambda: defaultdict(list)
    )
    judged = {}
    for one in records:
        cells[one["set"], one["way"]][one["per_class"]].append(float(str(one["accuracy"])))
        judged[one["set"], one["way"]] = one["test_images"]
    heading = ["set", "way", "5 per class", "20", "100", "all", "test images"]
    lines = [heading, ["---", "---", "--:", "--:", "--:", "--:", "--:"]]
    for name, way in sorted(cells, key=lambda key: (SETS.index(str(key[0])), str(key[1]))):
        found = cells[name, way]
        row = [_cell(found.get(count, [])) for count in PER_CLASS]
        lines.append([str(name), str(way), *row, f"{judged[name, way]:,}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    mean = f"{100 * np.mean(values):.1f}"
    if np.ptp(values) == 0:
        return mean
    return f"{mean} ± {100 * np.std(values, ddof=1):.1f} ({len(values)})"


if __name__ == "__main__":
    main()
