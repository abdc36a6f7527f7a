"""Export: what ships of a run, as a bundle that was held against the run before it was written."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from .. import assembly
from ..arrays import Float32Array, Int64Array, UInt8Array
from ..bundle import format as layout
from ..bundle import golden
from ..bundle.card import card
from ..bundle.figures import figures
from ..bundle.format import Architecture, preprocess_to_json, write_bundle
from ..bundle.onnx import Agreement, check_agreement, onnx_bytes
from ..bundle.opening import TORCH
from ..bundle.program import captured, program_bytes
from ..bundle.quantize import CALIBRATION_IMAGES, Material, Quantization, evenly, int8_session
from ..bundle.quantize import quantize as in_8_bits
from ..bundle.sessions import Outputs, TorchSession, images_at_once, joined
from ..data.dataset import Dataset
from ..data.pictures.preprocess import Preprocess
from ..data.splits.split import Split
from ..data.splits.units import units_of
from ..device import torch_memory_format
from ..errors import ExportError, FileError, RunError, UsageError
from ..evaluation.judgement import judge
from ..evaluation.predictions import Predictions
from ..inference import familiarity
from ..inference.answering import Answering
from ..inference.answers import Prediction, answers
from ..inference.calibration import Calibration
from ..inference.familiarity import readable
from ..models.backbones import BACKBONES
from ..models.custom import is_custom
from ..recipe import ResolvedRecipe
from ..runs.trust import mark_content_as_ours
from ..training.state import Checkpoint
from .calibrating import calibration_of
from .judging import choices_of
from .looks import looks_of
from .notes import Sink, note
from .opened import OpenedRun, load_checkpoint, open_run, with_weights
from .other_data import run_with
from .promises import with_promises

NOT_STATED = "not stated"
_PLACES = ("source", "image_root", "exclude", "fixes", "weights")
"""Settings that are paths: of these only the last part leaves the house."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What `export` wrote."""

    path: Path
    sha256: str
    """Stands for the whole bundle."""
    files: Mapping[str, int]
    """Bytes of each file but bundle.json."""
    split: str
    """The part that the gate went over."""
    agreement: Agreement | None
    """Of model.onnx with PyTorch; None without ONNX."""
    quantized: Quantization | None = None
    """Both figures of 8 bits and float32, and whether the former ships; None where not asked."""
    remarks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The keys of `sartor export --json`."""
        return {
            "bundle": str(self.path),
            "sha256": self.sha256,
            "files": dict(self.files),
            "onnx": self.agreement and {"split": self.split, **self.agreement.to_json()},
            "quantized": self.quantized and self.quantized.to_json(),
            "remarks": list(self.remarks),
        }


def export(
    run: str | Path | OpenedRun,
    out: str | Path,
    *,
    program: bool = False,
    onnx: bool = True,
    with_source: bool = False,
    quantize: str | None = None,
    checkpoint: str = "best",
    licence_model: str | None = None,
    licence_data: str | None = None,
    overwrite: bool = False,
    data: Any = None,
    trust: bool = False,
    on_event: Sink | None = None,
) -> Exported:
    """Export a run as a bundle: a folder, or a single file if `out` ends in .zip.

    A bundle is written only if model.onnx answers as PyTorch does on every test image (every
    validation image if there are no test images), in batches of several sizes. This compares two
    sets of answers and reads no labels, so it does not count as a look at the test images.

    Args:
        run: a run, by its path, by its name in runs/, or opened.
        out: where to write the bundle.
        program: also write program.pt2, which runs a network of your own without its source.
        onnx: write model.onnx; without it, the bundle runs in PyTorch only.
        with_source: put the Python file of your own network into the bundle.
        quantize: "int8" to also write the network in 8 bits, if it loses at most half a point of
            accuracy on the validation images and is faster on this machine.
        checkpoint: "best" by the validation split, or "last".
        licence_model, licence_data: the licences to state in the bundle.
        overwrite: replace an existing bundle.
        data: where the run's data is now, if it moved.
        trust: run the run's own Python file, whoever wrote it.
        on_event: called with events of the progress.

    Raises:
        ExportError: the network cannot be exported, or gives different answers when it is.
        UsageError: `out` exists already. RunError: a broken run. DataError: the data is not
            available. MissingExtraError: the extra `export` is not installed.
    """
    out = Path(out)
    layout.refuse_existing(out, overwrite=overwrite)
    _check_quantize(quantize, onnx=onnx)
    # On the processor and in float32, whatever it was trained on: that is what ships.
    opened = open_run(run_with(run, data, on_event=on_event), device="cpu", trust=trust)
    kept = load_checkpoint(opened.folder, checkpoint)
    source = _source_of(opened, with_source)
    shipped = _Shipped.of(opened, kept, checkpoint)
    parts = {layout.WEIGHTS: _weights(kept)}
    if source is not None:
        parts[layout.SOURCE] = source
    part, images, reference = _answers(opened, shipped, on_event)
    caught = (
        captured(shipped.answering, shipped.preprocess.input_shape) if onnx or program else None
    )
    agreement = None
    if onnx:
        assert caught is not None
        note(on_event, "writing model.onnx")
        parts[layout.ONNX] = onnx_bytes(caught, classes=kept.classes, preprocess=shipped.preprocess)
        note(
            on_event, f"comparing it with PyTorch on {len(reference.probabilities):,} {part} images"
        )
        agreement = check_agreement(parts[layout.ONNX], images, reference)
    if program:
        assert caught is not None
        parts[layout.PROGRAM] = program_bytes(caught)
    arrays = shipped.calibration.arrays()
    if arrays:
        parts[layout.CALIBRATION] = _arrays(arrays)
    dataset = opened.dataset()
    quantized = None
    if quantize:
        note(on_event, "quantizing: 8 bits against float32 on the validation images")
        content, quantized = in_8_bits(parts[layout.ONNX], _material(opened, dataset))
        if quantized.kept:
            parts[layout.INT8] = content
    examples, files_of_examples = _golden(
        opened, dataset, shipped, kept.classes, parts.get(layout.INT8)
    )
    parts |= files_of_examples
    record = {
        "sartor": metadata.version("sartor"),
        "architecture": shipped.architecture.to_json(),
        "classes": list(kept.classes),
        "weights_sha256": kept.weights_sha256,
        "preprocess": preprocess_to_json(shipped.preprocess),
        "calibration": shipped.calibration.to_json(),
        "input_ranges": readable(opened.folder.input_ranges()),
        **_origin(opened, dataset, kept),
        "figures": _figures(opened, dataset, kept.weights_sha256, checkpoint, shipped.calibration),
        "onnx": agreement and {"split": part, **agreement.to_json()},
        "quantized": quantized and quantized.to_json(),
        "licence": {
            "model": licence_model or _licence_of_weights(opened.recipe),
            "data": licence_data or NOT_STATED,
        },
        "golden": _golden_facts(examples, opened.split()),
    }
    parts[layout.CARD] = card(_name_of(record), record, sorted(parts)).encode()
    sha256 = write_bundle(out, record, parts, overwrite=overwrite)
    _mark(sha256, opened)
    return Exported(
        path=out,
        sha256=sha256,
        files={name: len(parts[name]) for name in sorted(parts)},
        split=part,
        agreement=agreement,
        quantized=quantized,
        remarks=(
            *_remarks(opened.recipe, shipped.architecture, onnx, program, with_source),
            *_remarks_on_figures(opened, record["figures"]),
        ),
    )


def _golden_facts(examples: golden.Examples, split: Split) -> dict[str, Any]:
    return {
        "count": len(examples),
        "parts": {
            name: int(np.isin(examples.rows, split.part(name)).sum()) for name in ("val", "train")
        },
        "as_they_lie": examples.as_they_lie,
    }


def _check_quantize(quantize: str | None, *, onnx: bool) -> None:
    if quantize not in (None, "int8"):
        raise UsageError(
            f"There is no way to quantize called {quantize}.", "Say int8, or leave it out."
        )
    if quantize and not onnx:
        raise UsageError(f"--quantize {quantize} needs model.onnx.", "Leave --no-onnx out.")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Shipped:
    """What answers, and what is said of it."""

    answering: Answering
    architecture: Architecture
    preprocess: Preprocess
    calibration: Calibration

    @classmethod
    def of(cls, run: OpenedRun, kept: Checkpoint, checkpoint: str) -> _Shipped:
        recipe = run.recipe_here
        network = with_weights(run.untrained_network(len(kept.classes)), kept, run.path).eval()
        preprocess = Preprocess.from_settings(recipe.preprocess)
        calibration = calibration_of(run, checkpoint)
        training, name = recipe.training, recipe.model.model
        own = is_own_network(recipe)
        return cls(
            answering=Answering(
                network,
                preprocess=preprocess,
                loss=training.loss,
                tta=training.tta,
                calibration=calibration,
                memory_format=torch_memory_format(training.memory_format),
            ).eval(),
            architecture=Architecture(
                model=name.rpartition(":")[2] if own else name,
                own=own,
                model_kwargs=dict(recipe.model.model_kwargs),
                input_shape=preprocess.input_shape,
                num_classes=len(kept.classes),
                parameters=sum(one.numel() for one in network.parameters()),
                loss=training.loss,
                tta=training.tta,
                memory_format=training.memory_format,
            ),
            preprocess=preprocess,
            calibration=calibration,
        )


def is_own_network(recipe: ResolvedRecipe) -> bool:
    """Whether the network is the user's own, and not one of the registry."""
    return is_custom(recipe.model.model) or recipe.model.model.startswith(assembly.IN_MEMORY)


def _figures(
    run: OpenedRun, dataset: Dataset, weights: str, checkpoint: str, calibration: Calibration
) -> Any:
    """The run's figures, from predictions that it has saved: of the test images where they were
    judged, else of the validation images; None without any.

    An export judges nothing by itself, so that it costs no look at the test images.
    """
    found = {split: _saved(run, split, weights) for split in ("test", "val")}
    saved = found["test"] or found["val"]
    if saved is None:
        return None
    judgement = judge(
        saved,
        found["val"],
        choices=choices_of(run, saved.split, checkpoint),
        temperature=calibration.temperature,
    )
    promised = with_promises(judgement.evaluation, saved, calibration)
    return figures(
        replace(judgement, evaluation=promised),
        saved,
        _names(dataset),
        temperature=calibration.temperature,
    )


def _saved(run: OpenedRun, split: str, weights_sha256: str) -> Predictions | None:
    try:
        saved = Predictions.load(run.folder.predictions_path(split))
    except RunError:
        return None
    return saved if len(saved) and saved.weights_sha256 == weights_sha256 else None


def _names(dataset: Dataset) -> Sequence[str]:
    """What each image is called: its file, or its number."""
    return dataset.files or [f"image {number}" for number in range(len(dataset))]


def _answers(
    run: OpenedRun, shipped: _Shipped, on_event: Sink | None
) -> tuple[str, Callable[[int, int], UInt8Array], Outputs]:
    """The part of the data that the gate goes over, its images, and PyTorch's answers."""
    dataset, split = run.dataset(on_event=on_event), run.split()
    name = next(name for name in ("test", "val", "train") if len(split.part(name)))
    images = _images(run, dataset, split.part(name))
    session, count = TorchSession(shipped.answering, TORCH), len(split.part(name))
    at_once = images_at_once(shipped.preprocess.input_shape)
    parts = [
        session(images(start, min(start + at_once, count))) for start in range(0, count, at_once)
    ]
    return name, images, joined(parts)


def _images(
    run: OpenedRun, dataset: Dataset, indices: Int64Array
) -> Callable[[int, int], UInt8Array]:
    """uint8 (n, H, W, C) of images from one row up to another, at the size of the network."""
    nothing = np.empty(0, np.int64)
    prepared = assembly.prepare_material(
        run.recipe_here, dataset, Split(indices, nothing, nothing)
    ).images
    places = torch.from_numpy(indices)

    def rows(start: int, stop: int) -> UInt8Array:
        found: UInt8Array = prepared[places[start:stop]].permute(0, 2, 3, 1).contiguous().numpy()
        return found

    return rows


def _weights(kept: Checkpoint) -> bytes:
    return save({name: tensor.contiguous() for name, tensor in kept.weights.items()})


def _arrays(arrays: Mapping[str, Float32Array]) -> bytes:
    from safetensors.numpy import save as save_arrays

    return save_arrays({name: np.ascontiguousarray(one) for name, one in arrays.items()})


def _source_of(run: OpenedRun, wanted: bool) -> bytes | None:
    """The run's own Python file, where it is to be part of the bundle."""
    if not wanted:
        return None
    path = run.model_file()
    if path is None:
        raise UsageError(
            f"The network of {run.path} does not come from a Python file.",
            "Leave --with-source out.",
        )
    return run.folder.read_bytes(path, path.name)


def _material(run: OpenedRun, dataset: Dataset) -> Material:
    """Training images to quantize with, and validation images to decide by."""
    split = run.split()
    groups = None if dataset.groups is None else units_of(dataset, duplicates_together=False)
    training = split.train[evenly(len(split.train), CALIBRATION_IMAGES)]
    return Material(
        training=_images(run, dataset, training)(0, len(training)),
        validation=_images(run, dataset, split.val)(0, len(split.val)),
        labels=dataset.labels[split.val],
        groups=None if groups is None else groups[split.val],
    )


def _golden(
    run: OpenedRun,
    dataset: Dataset,
    shipped: _Shipped,
    classes: tuple[str, ...],
    int8: bytes | None,
) -> tuple[golden.Examples, dict[str, bytes]]:
    """Examples of the validation images, and of the training images where these are too few: test
    images that anyone can see would soon be trained on.

    Raises:
        ExportError: the network has no finite answer for one.
    """
    split = run.split()
    examples = golden.choose(dataset, split.val, shipped.preprocess, reserve=split.train)
    outputs = TorchSession(shipped.answering, TORCH)(examples.images)
    found = answers(
        golden.names_of(examples),
        outputs.probabilities,
        outputs.novelty,
        shipped.calibration,
        classes,
        unlike_training=familiarity.differences(
            examples.images.transpose(0, 3, 1, 2), readable(run.folder.input_ranges())
        ),
    )
    documents = [one.to_json() for one in found if isinstance(one, Prediction)]
    if len(documents) < len(found):
        raise ExportError(
            f"The outputs of {run.path} are not finite for {len(found) - len(documents):,} of "
            f"{len(found):,} golden examples.",
            "Train again with a lower --lr or with --clip-grad.",
        )
    return examples, golden.parts(
        examples,
        classes,
        documents,
        outputs.probabilities,
        outputs.novelty,
        int8=None if int8 is None else int8_session(int8)(examples.images).probabilities,
    )


def _name_of(record: Mapping[str, Any]) -> str:
    """What the card calls the model; not after its folder, which may be called anything."""
    return f"{record['architecture']['model']} on {record['data']['source']}"


def _origin(run: OpenedRun, dataset: Dataset, kept: Checkpoint) -> dict[str, Any]:
    """What the run was made from: data, split, recipe; of paths only the last part."""
    recipe, split = run.recipe, run.split()
    looks = looks_of(run.folder, dataset, split.test)
    tables = recipe.to_tables()
    for table in tables.values():
        for name in _PLACES:
            if isinstance(table.get(name), str):
                table[name] = _last_part(table[name])
    tables["model"]["model"] = _last_part(recipe.model.model)
    return {
        "data": {
            "source": _last_part(recipe.data.source),
            "fingerprint": recipe.data.fingerprint,
            "counts": {
                name: np.bincount(
                    dataset.labels[split.part(name)], minlength=len(kept.classes)
                ).tolist()
                for name in ("train", "val", "test")
            },
            "looks": looks and looks.sentence,
        },
        "split": {
            "sha256": run.split_sha256,
            "method": recipe.data.split_method,
        },
        "epoch": kept.progress.epoch,
        "recipe": tables,
    }


def _last_part(path: str) -> str:
    return Path(path).name if "/" in path or "\\" in path else path


def _licence_of_weights(recipe: ResolvedRecipe) -> str:
    """That of a backbone's weights, which holds for what was made of them."""
    name, licence, source = recipe.model.model, recipe.model.weights_licence, recipe.model.model
    if name in BACKBONES and recipe.model.weights is None:
        # Recipes of old runs do not have it.
        backbone = BACKBONES[name] if assembly.has_pretrained_weights(recipe) else None
        licence, source = (backbone.licence, backbone.source) if backbone else (None, name)
    return (
        f"{NOT_STATED}; it was made from weights of {source}, {licence}" if licence else NOT_STATED
    )


def _mark(sha256: str, run: OpenedRun) -> None:
    """Let this user's own bundle run its program.pt2 later on."""
    try:
        mark_content_as_ours(sha256)
    except FileError as error:
        run.say_once(f"Code of the bundle will run only with --trust. {error.message}")


def _remarks(
    recipe: ResolvedRecipe, architecture: Architecture, onnx: bool, program: bool, source: bool
) -> list[str]:
    """What the user should know of this bundle."""
    remarks = []
    if recipe.training.amp_dtype not in ("float32", "auto"):
        remarks.append(
            f"trained in {recipe.training.amp_dtype}; the bundle computes in float32, so answers "
            "may differ from the run's in the third digit"
        )
    if architecture.own and not (onnx or program or source):
        remarks.append(
            "nothing in this bundle can run its network without its source: add --program, or "
            "--with-source"
        )
    return remarks


def _remarks_on_figures(run: OpenedRun, figures: Mapping[str, Any] | None) -> Iterator[str]:
    """That the bundle says less of itself than it could."""
    if (figures and figures["split"] == "test") or not len(run.split().test):
        return
    says = "are those of the validation images" if figures else "are missing"
    yield (
        f"the bundle's figures {says}, because the test images have not been judged. Once the run "
        f"is final: sartor evaluate {shlex.quote(str(run.path))}, then export it again"
    )
