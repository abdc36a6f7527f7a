"""README.md of a bundle: a model card in Hugging Face's form, made of what bundle.json says.

Nothing in it was written for the occasion: every figure is one of the run's records. What only the
owner can know, such as what the model is meant for, is left open and says so. Names of classes and
files come from outside and may hold anything; they cannot become markup here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tomli_w

from ..wording import plain

NOT_STATED = "not stated"
_LICENCES = frozenset(
    (
        *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "isc", "unlicense", "zlib", "wtfpl"),
        *("cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "pddl"),
        *("gpl-3.0", "lgpl-3.0", "agpl-3.0", "mpl-2.0", "openrail", "unknown"),
    )
)
"""What Hugging Face calls licences; any other is "other", by its name."""
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~&!:@$])")
_CLASSES_SHOWN = 100


def card(name: str, record: Mapping[str, Any], files: Sequence[str]) -> str:
    """The text of README.md.

    Args:
        name: what the model is called.
        record: bundle.json, but for the list of files.
        files: names of the bundle's other files, which say what it can be used with.
    """
    blocks = [
        _front_matter(name, record, files),
        f"# {text(name)}",
        _summary(record),
        "## Intended use",
        "_To be filled in by the owner: what the model is meant for, who uses it, what its answers "
        "lead to, and what it must not be used for._",
        "## How to use it",
        *_usage(record, files),
        "## Data",
        *_data(record),
        "## Figures",
        *_figures(record),
        "## Calibration and coverage",
        *_calibration(record),
        "## Known failures",
        *_failures(record),
        "## What is in here",
        *_contents(record, files),
        "## How it was made",
        *_making(record),
    ]
    return "\n\n".join(blocks) + "\n"


def text(from_outside: Any) -> str:
    """Text from outside for a line of Markdown: shown as it is written, and never markup."""
    one_line = plain(str(from_outside)).replace("\t", " ").replace("\n", "\\n")
    return re.sub(r"(?i)\bwww\.", r"www\.", _MARKUP.sub(r"\\\1", one_line)).strip() or "(empty)"


def _front_matter(name: str, record: Mapping[str, Any], files: Sequence[str]) -> str:
    figures, data = record.get("figures"), record["data"]
    tags = ["image-classification", "sartor", "safetensors", "pytorch"]
    tags += ["onnx"] if "model.onnx" in files else []
    licence = record["licence"]["model"]
    lines = ["---", *_licence(licence), "library_name: sartor"]
    lines += ["pipeline_tag: image-classification", f"tags: {_yaml(tags)}"]
    if figures:
        lines += ["metrics: [accuracy, f1]", "model-index:", f"- name: {_yaml(name)}"]
        lines += ["  results:", "  - task: {type: image-classification}", "    dataset:"]
        lines += [f"      name: {_yaml(data['source'])}", f"      type: {_yaml(data['source'])}"]
        lines += [f"      split: {figures['split']}", f"      revision: {data['fingerprint']}"]
        lines += ["    metrics:"]
        shown = {"accuracy": "accuracy", "f1": "macro_f1"}
        for kind, key in shown.items():
            low, high = figures[f"{key}_interval"]
            called = f"{key.replace('_', ' ')}, 95 % interval {low:.4f} to {high:.4f}"
            lines += [f"    - type: {kind}", f"      value: {figures[key]:.6f}"]
            lines += [f"      name: {_yaml(called)}"]
    return "\n".join([*lines, "---"])


def _licence(named: str) -> list[str]:
    if named == NOT_STATED:
        return ["license: unknown"]
    if named.lower() in _LICENCES:
        return [f"license: {named.lower()}"]
    return ["license: other", f"license_name: {_yaml(named)}"]


def _yaml(value: Any) -> str:
    """A value in quotes, which YAML reads as JSON does."""
    if isinstance(value, list):
        return "[" + ", ".join(value) + "]"
    return json.dumps(plain(str(value)))


def _summary(record: Mapping[str, Any]) -> str:
    architecture, preprocess = record["architecture"], record["preprocess"]
    colour = "colour" if preprocess["channels"] == 3 else "gray"
    sentence = (
        f"An image classifier for {len(record['classes'])} classes: {_listed(record['classes'])}. "
        f"The network {text(architecture['model'])} has {architecture['parameters']:,} parameters "
        f"and sees {colour} images of {preprocess['width']}x{preprocess['height']} pixels."
    )
    figures = record.get("figures")
    if figures:
        sentence += (
            f" On {figures['count']:,} {_split(figures['split'])} images it is right for "
            f"{_percent(figures['accuracy'])} ({_range(figures['accuracy_interval'])})."
        )
    return sentence


def _usage(record: Mapping[str, Any], files: Sequence[str]) -> Iterator[str]:
    example = next((name for name in files if name.startswith("golden/pictures/")), "picture.png")
    yield (
        "In this folder (unpack a .zip first). Check that the bundle still gives the answers that "
        "it gave when it was exported:"
    )
    yield _code("sh", "sartor verify .")
    yield "On the command line:"
    yield _code("sh", f"sartor predict . {example}")
    yield "In Python:"
    yield _code(
        "python",
        "import sartor",
        "",
        f'for answer in sartor.predict(".", "{example}"):',
        "    print(answer.file, answer.label, answer.probability)",
    )
    yield "Over HTTP:"
    yield _code(
        "sh",
        "sartor serve . --port 8000 &",
        f"curl -F file=@{example} http://127.0.0.1:8000/v1/predict",
    )
    if "model.onnx" in files:
        yield (
            "With ONNX Runtime and without sartor: `images` are uint8 (N, H, W, C) after the steps "
            "that `preprocess` in bundle.json names; sartor's docs/preprocess.md specifies them, "
            "and the golden pixels show what each golden picture must become."
        )
        yield _code(
            "python",
            "import json",
            "",
            "import onnxruntime",
            "from safetensors.numpy import load_file",
            "",
            'session = onnxruntime.InferenceSession("model.onnx")',
            'classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])',
            'images = load_file("golden/pixels.safetensors")["images"]',
            '(probabilities,) = session.run(["probabilities"], {"images": images})',
            "for row in probabilities[:3]:",
            "    print(classes[row.argmax()], row.max())",
        )
    else:
        yield "It was exported without ONNX, so it needs sartor and PyTorch."
    if record["architecture"]["own"]:
        yield (
            "The network is its author's own Python code, which the weights do not include: "
            "program.pt2 or model.py, if present, contain it, and run only with `--trust`."
        )


def _code(language: str, *lines: str) -> str:
    # One backtick more than any that stand in a row within.
    within = max(map(len, re.findall("`+", "".join(lines))), default=0)
    fence = "`" * max(3, within + 1)
    return "\n".join([f"{fence}{language}", *lines, fence])


def _data(record: Mapping[str, Any]) -> Iterator[str]:
    data = record["data"]
    yield (
        f"{text(data['source'])}, licence of the data: {text(record['licence']['data'])}. "
        f"SHA-256 over pixels, labels and classes: `{data['fingerprint']}`."
    )
    counts = data["counts"]
    parts = [name for name in ("train", "val", "test") if any(counts[name])]
    rows = [
        [text(one), *(f"{counts[name][place]:,}" for name in parts)]
        for place, one in _shown(record["classes"])
    ]
    rows.append(["all", *(f"{sum(counts[name]):,}" for name in parts)])
    yield _table(["class", *(f"{_split(name)} images" for name in parts)], rows)
    split = record["split"].get("sha256")
    if split:
        yield f"SHA-256 of the split: `{split}`."


def _figures(record: Mapping[str, Any]) -> Iterator[str]:
    figures = record.get("figures")
    if not figures:
        judged = "Its test images" if any(record["data"]["counts"]["test"]) else "Its images"
        yield f"{judged} have not been judged, so nothing is known of its accuracy."
        return
    yield (
        f"On the {figures['count']:,} {_split(figures['split'])} images. Intervals hold 95 %; "
        f"those of shares are {figures['interval_method']}."
    )
    if figures["split"] == "val":
        missing = (
            "have not been judged" if any(record["data"]["counts"]["test"]) else "do not exist"
        )
        yield (
            "These are validation images, on which the epoch was chosen; test images "
            f"{missing}. On new images expect a little less."
        )
    looks = record["data"].get("looks")
    if looks:
        yield f"The test images have been {text(looks)}."
    yield _table(
        ["figure", "value", "95 % interval"],
        [
            [called, _percent(figures[key]), _range(figures[f"{key}_interval"])]
            for called, key in (
                ("accuracy", "accuracy"),
                ("balanced accuracy", "balanced_accuracy"),
                ("macro F1", "macro_f1"),
            )
        ],
    )
    yield _table(
        ["class", "images", "accuracy", "95 % interval", "precision", "F1"],
        [
            [
                text(row["class"]),
                f"{row['count']:,}",
                _percent(row["accuracy"]),
                _range(row["interval"]) if row["count"] else "",
                _percent(row["precision"]),
                _percent(row["f1"]),
            ]
            for _, row in _shown(figures["per_class"])
        ],
    )


def _calibration(record: Mapping[str, Any]) -> Iterator[str]:
    figures, calibration = record.get("figures") or {}, record["calibration"]
    found = figures.get("calibration")
    temperature = calibration["temperature"]
    yield (
        f"Probabilities are scaled by the temperature {temperature:.3f}, fitted on the validation "
        "images."
        if temperature != 1
        else "Probabilities are the network's own (temperature 1)."
    )
    if found:
        after = found["after"] if temperature != 1 and found["after"] else found["before"]
        low, high = after["gap_interval"]
        yield (
            f"On the {_split(figures['split'])} images mean confidence is "
            f"{_percent(after['confidence'])} against {_percent(figures['accuracy'])} accuracy: a "
            f"gap of {100 * after['gap']:+z.1f} points (95 % interval {100 * low:+z.1f} to "
            f"{100 * high:+z.1f}). Expected calibration error "
            f"{_percent(after['ece'])}, where chance alone would show up to "
            f"{_percent(after['ece_by_chance'])}."
        )
    elif figures.get("no_calibration"):
        yield text(figures["no_calibration"])
    yield from _promises(figures, calibration)
    if figures.get("coverage"):
        yield "If the least confident images are left to a person:"
        yield _table(
            ["answered", "accuracy", "95 % interval", "lowest confidence"],
            [
                [
                    _percent(point["coverage"]),
                    _percent(point["accuracy"]),
                    _range(point["interval"]),
                    f"{point['threshold']:.3f}",
                ]
                for point in figures["coverage"]
            ],
        )


def _promises(figures: Mapping[str, Any], calibration: Mapping[str, Any]) -> Iterator[str]:
    """What sets and "unknown" promise, and what came of it on images that were not fitted on."""
    if calibration.get("coverage") is not None:
        sets = figures.get("sets")
        found = (
            ""
            if not sets
            else (
                f" On the {_split(figures['split'])} images they do for "
                f"{_percent(sets['coverage'])} ({_range(sets['interval'])}), with "
                f"{sets['mean_size']:.2f} classes on average."
            )
        )
        yield (
            "Sets of classes are to contain the true class for "
            f"{_percent(calibration['coverage'])} of images, on average, if they come from the "
            f"same source as the validation images (exchangeable data).{found}"
        )
    score = calibration.get("novelty")
    if score and score["threshold"] is not None:
        novelty = figures.get("novelty")
        found = (
            ""
            if not novelty
            else (
                f" On the {_split(figures['split'])} images it was {_percent(novelty['share'])} "
                f"({_range(novelty['interval'])})."
            )
        )
        worst, area = min(score["separation"][score["method"]].items(), key=lambda pair: pair[1])
        yield (
            f"A picture is called unknown if its novelty score ({score['method']}) is above the "
            f"threshold, which is expected for at most {_percent(score['false_alarms'])} of images "
            f"like the validation images.{found} Of the kinds of noise it was tried on, the score "
            f"separates {text(worst)} least well from real images (area under the ROC curve "
            f"{area:.3f}); nothing is guaranteed for anything else that is new."
        )


def _failures(record: Mapping[str, Any]) -> Iterator[str]:
    figures = record.get("figures") or {}
    if not figures:
        yield "They are not known: there were no images to evaluate it on."
    elif not figures.get("mistakes"):
        yield "None is known: it made no mistake on the images it was evaluated on."
    else:
        yield f"On the {_split(figures['split'])} images, the most frequent confusions:"
        yield _table(
            ["true class", "predicted", "images"],
            [
                [text(one["true"]), text(one["predicted"]), f"{one['count']:,} of {one['of']:,}"]
                for one in figures["confused"]
            ],
        )
        yield "The mistakes with the highest loss:"
        yield _table(
            ["picture", "true class", "predicted", "probability"],
            [
                [
                    text(one["file"]),
                    text(one["true"]),
                    text(one["predicted"]),
                    "" if one["probability"] is None else f"{one['probability']:.3f}",
                ]
                for one in figures["mistakes"]
            ],
        )
    yield (
        "It names one of its classes for any picture, even one that shows none of them. These "
        "figures say nothing about pictures unlike those above."
    )


def _contents(record: Mapping[str, Any], files: Sequence[str]) -> Iterator[str]:
    known = {
        "bundle.json": "the description, the preprocessing, and the SHA-256 of every other file",
        "model.safetensors": "the weights",
        "calibration.safetensors": "the arrays of the novelty score",
        "model.onnx": "from uint8 pixels to probabilities, for batches of any size",
        "model.int8.onnx": "the same in 8 bits",
        "program.pt2": "the same for PyTorch, captured by torch.export; loading it can run code",
        "model.py": "the author's own network",
        "golden/": "golden examples: pictures, their pixels once prepared, and the answers",
        "README.md": "this card",
    }
    present = {"bundle.json", "README.md", "golden/", *files}
    yield _table(
        ["file", "contents"],
        [[f"`{name}`", what] for name, what in known.items() if name in present],
    )
    golden = record.get("golden") or {}
    if golden.get("as_they_lie"):
        yield (
            f"The {golden['count']} golden pictures are unchanged files from the data, metadata "
            "included. Do not give the bundle to anybody who may not see them."
        )
    quantized = record.get("quantized")
    if quantized:
        yield quantized["sentence"]


def _making(record: Mapping[str, Any]) -> Iterator[str]:
    yield f"By sartor {text(record['sartor'])}, from this recipe:"
    yield _code("toml", plain(tomli_w.dumps(record["recipe"])).strip())


def _listed(names: Sequence[str]) -> str:
    shown = [text(name) for name in names[:_CLASSES_SHOWN]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def _shown(rows: Sequence[Any]) -> list[tuple[int, Any]]:
    """The first classes; bundle.json has them all."""
    return list(enumerate(rows))[:_CLASSES_SHOWN]


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _split(name: str) -> str:
    return {"val": "validation", "train": "training"}.get(name, name)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _range(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.1%} to {interval[1]:.1%}"
