"""What is done with the pictures of a shard: predict, check, features, decode.

Torch is imported by those that compute with it: workers that only decode begin in half the time.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import AnyArray, Float32Array, UInt8Array
from ..data.listing import Listing
from ..data.pictures.decoding import Seen, decoded_with_facts
from ..data.pictures.exclude import exclusion_list, match, read_exclusions
from ..data.pictures.facts import ROW, PictureFacts
from ..data.pictures.png import png_of
from ..data.pictures.prepare import VERSION as PREPARATION
from ..data.pictures.prepare import Prepared
from ..data.pictures.preprocess import Preprocess
from ..data.pictures.stream import Undecoded, unreadable
from ..data.placed import PlacedPictures
from ..errors import FileError, PictureError, UsageError, unknown
from ..files import remove, sha256_of_file, strict, write_in_place, write_json, write_text
from ..inspection.check.page import check_page
from ..inspection.check.report import CheckReport
from ..models.backbones import BACKBONES, PackagedBackbone
from ..recipe import Recipe
from ..shards.folder import PLAN, WorkFolder
from ..shards.manifest import Listed, arrow
from ..shards.merging import merged
from ..shards.plan import Plan, names_of_versions
from ..shards.working import Task
from .notes import Sink
from .prediction_files import prediction_schema, prediction_table

if TYPE_CHECKING:
    from .predicting import Classifier

Done = Callable[[int], None]
Stopped = Callable[[], bool]

_FEATURE_BLOCK = 32
_FACTS = (
    *("format", "mode", "width", "height", "orientation", "frames", "bits", "gray", "file_bytes"),
)
_HASHES = ("file_sha256", "pixels_sha256")
EXCLUDED = "exclude.txt"
"""A copy of the list of pictures to leave out."""
REPORT, PAGE, QUARANTINE = "report.json", "report.html", "quarantine.txt"


class OfPictures:
    """Gets at the pictures of shards."""

    def __init__(self, plan: Plan) -> None:
        self._placed = PlacedPictures(column=plan.image_column)

    def __call__(self, listed: Listed) -> Undecoded:
        """A picture of the manifest, or the reason that stands there instead."""
        if listed.place is None:
            return unreadable(listed.file, PictureError(listed.fault or "", listed.hint))
        return self._placed.at(listed.file, listed.place)


class Predict:
    """Classify the pictures: the same rows as `sartor predict` writes."""

    def __init__(self, plan: Plan, classifier: Classifier, threads: int | None) -> None:
        self._pictures = OfPictures(plan)
        self._classifier, self._threads = classifier, threads
        self._topk, self._invert = plan.settings["topk"], plan.settings["invert"]
        self._schema = prediction_schema(classifier.predictor.classes, self._topk)

    def table(self, pictures: Sequence[Listed], done: Done, stopped: Stopped) -> Any:
        """See `Task`, as the rest."""
        documents: list[dict[str, Any]] = []
        undecoded = map(self._pictures, pictures)
        with closing(
            self._classifier.answered(undecoded, invert=self._invert, threads=self._threads)
        ) as answered:
            for chunk in answered:
                if stopped():
                    return None
                documents += [strict(row.to_json(self._topk)) for row in chunk.rows]
                done(len(chunk.rows))
        return prediction_table(documents, self._schema, self._topk)

    def finish(self, folder: WorkFolder, stopped: Stopped) -> dict[str, Any] | None:
        return merged(folder, "predictions.parquet", stopped)


class _Decoding:
    """What the tasks have in common that look at the pixels."""

    def __init__(self, plan: Plan, threads: int | None) -> None:
        self._pictures = OfPictures(plan)
        self._threads = threads
        self._classes: Sequence[str] = plan.settings["classes"]
        self._columns: Sequence[str] = plan.settings["columns"]
        recipe = Recipe().with_settings(recipe_settings(plan.settings["recipe"]))
        self.geometry = Preprocess.from_settings(recipe.preprocess)

    def _seen(self, pictures: Sequence[Listed], done: Done, stopped: Stopped) -> Iterator[Seen]:
        store = _Store([self._pictures(one) for one in pictures])
        with closing(decoded_with_facts(store, self.geometry, threads=self._threads)) as chunks:
            for chunk in chunks:
                if stopped():
                    return
                yield chunk
                done(len(chunk.indices))

    def _listed(self, pictures: Sequence[Listed]) -> dict[str, Any]:
        """The columns that the manifest gives."""
        pyarrow = arrow()
        given: dict[str, Callable[[Listed], str | None]] = {
            "label": lambda one: None if one.label is None else self._classes[one.label],
            "split": lambda one: one.part or "train",
            "group": lambda one: one.group,
        }
        named = {"file": lambda one: one.file, **{name: given[name] for name in self._columns}}
        return {
            name: pyarrow.array(map(of, pictures), pyarrow.string()) for name, of in named.items()
        }


class _Store:
    """Pictures of a shard as a `PictureStore`."""

    def __init__(self, pictures: Sequence[Undecoded]) -> None:
        self._pictures = pictures
        self.names = tuple(one.name for one in pictures)

    def read(self, index: int) -> bytes:
        """See `PictureStore`, as the rest."""
        content = self._pictures[index].content()
        assert isinstance(content, bytes), "what lies at a place is encoded"
        return content

    def stamp(self, index: int) -> str:
        raise AssertionError(f"nobody asks for that of picture {index}")


class Decode(_Decoding):
    """Prepare the pictures: each as a PNG of the model's size, which loses nothing."""

    def table(self, pictures: Sequence[Listed], done: Done, stopped: Stopped) -> Any:
        """See `Task`, as the rest."""
        images: list[dict[str, Any] | None] = []
        errors: list[str | None] = []
        for chunk in self._seen(pictures, done, stopped):
            for index, image in zip(chunk.indices.tolist(), chunk.images, strict=True):
                fault = chunk.faults.get(index)
                errors.append(fault)
                path = pictures[index].file
                images.append(None if fault else {"bytes": png_of(image), "path": path})
        if len(errors) < len(pictures):
            return None
        pyarrow = arrow()
        kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
        columns = self._listed(pictures)
        columns["image"] = pyarrow.array(images, kind)
        columns["error"] = pyarrow.array(errors, pyarrow.string())
        return pyarrow.table(columns)

    def finish(self, folder: WorkFolder, stopped: Stopped) -> dict[str, Any] | None:
        return merged(folder, "decoded.parquet", stopped)


class ComputeFeatures(_Decoding):
    """What a pretrained backbone makes of the pictures."""

    def __init__(self, plan: Plan, threads: int | None) -> None:
        super().__init__(plan, threads)
        self._compute = _computation(
            backbone_named(plan.settings["model"]),
            self.geometry,
            plan.settings["runtime"],
            threads,
        )

    def table(self, pictures: Sequence[Listed], done: Done, stopped: Stopped) -> Any:
        """See `Task`, as the rest."""
        rows: list[Float32Array] = []
        errors: list[str | None] = []
        for chunk in self._seen(pictures, done, stopped):
            # Chunks hold the same pictures wherever they are decoded.
            rows.append(self._compute(chunk.images))
            errors += [chunk.faults.get(index) for index in chunk.indices.tolist()]
        if len(errors) < len(pictures):
            return None
        pyarrow = arrow()
        features = np.concatenate(rows)
        width = features.shape[1]
        flat = pyarrow.array(features.ravel(), pyarrow.float32())
        missing = pyarrow.array([error is not None for error in errors])
        columns = self._listed(pictures)
        columns["features"] = pyarrow.FixedSizeListArray.from_arrays(flat, width, mask=missing)
        columns["error"] = pyarrow.array(errors, pyarrow.string())
        return pyarrow.table(columns)

    def finish(self, folder: WorkFolder, stopped: Stopped) -> dict[str, Any] | None:
        return merged(folder, "features.parquet", stopped)


def backbone_named(name: str) -> PackagedBackbone:
    """
    Raises:
        UsageError: there is none of that name.
    """
    if name not in BACKBONES:
        sentence = unknown("backbone", name, BACKBONES)
        raise UsageError(sentence[0].upper() + sentence[1:] + ".", "Name one with --model.")
    return BACKBONES[name]


def _computation(
    backbone: PackagedBackbone, geometry: Preprocess, runtime: str, threads: int | None
) -> Callable[[UInt8Array], Float32Array]:
    """From images uint8 (N, C, H, W) to their features float32 (N, F), `_FEATURE_BLOCK` at a time:
    libraries choose other kernels for other numbers.

    Raises:
        MissingExtraError: the weights are not on this machine. CorruptDataError: nor whole.
    """
    import torch

    from ..inference.features import backbone_in
    from ..inference.forward import evaluating
    from ..inspection.check.backbone import network_of
    from ..machine import available_cores

    network = network_of(backbone).eval()
    trunk = backbone_in(network)
    assert trunk is not None, "a backbone has features"
    if runtime == "onnx":
        from ..inference.onnx_graph import Session, onnx_of

        with evaluating(network):
            graph = onnx_of(trunk.features, geometry.input_shape, geometry.mean, geometry.std)
        by: Callable[[UInt8Array], Float32Array] = Session(graph, threads or available_cores())
    else:
        normalize = geometry.normalizer("cpu")

        def by_torch(images: UInt8Array) -> Float32Array:
            with torch.inference_mode():
                features = trunk.features(normalize(torch.from_numpy(images)))
                return np.asarray(features.float().numpy(), np.float32)

        by = by_torch

    def computed(images: UInt8Array) -> Float32Array:
        found = []
        for start in range(0, len(images), _FEATURE_BLOCK):
            block = images[start : start + _FEATURE_BLOCK]
            padding = np.repeat(block[-1:], _FEATURE_BLOCK - len(block), axis=0)
            found.append(by(np.concatenate([block, padding]))[: len(block)])
        return np.concatenate(found)

    return computed


class Check(_Decoding):
    """See what each file is; the checks look at all of it when everything is there."""

    def __init__(self, plan: Plan, threads: int | None, on_event: Sink | None) -> None:
        super().__init__(plan, threads)
        self._plan, self._on_event = plan, on_event

    def table(self, pictures: Sequence[Listed], done: Done, stopped: Stopped) -> Any:
        """See `Task`, as the rest."""
        facts: list[AnyArray] = []
        images: list[UInt8Array] = []
        errors: list[str | None] = []
        for chunk in self._seen(pictures, done, stopped):
            facts.append(chunk.rows)
            images.append(chunk.images)
            errors += [chunk.faults.get(index) for index in chunk.indices.tolist()]
        if len(errors) < len(pictures):
            return None
        pyarrow = arrow()
        rows = np.concatenate(facts)
        columns = self._listed(pictures)
        for name in _FACTS:
            columns[name] = pyarrow.array(rows[name])
        for name in _HASHES:
            columns[name] = _bytes_of_each(pyarrow, rows[name])
        columns["image"] = _bytes_of_each(pyarrow, np.concatenate(images))
        columns["error"] = pyarrow.array(errors, pyarrow.string())
        return pyarrow.table(columns)

    def finish(self, folder: WorkFolder, stopped: Stopped) -> dict[str, Any] | None:
        # Of this process only: one that slept while another joined the results disturbs nobody.
        pixels = folder.path / f".images-{uuid.uuid4().hex}.tmp"
        try:
            facts = self._joined(folder, pixels, stopped)
            if facts is None:
                return None
            shape = (self._plan.pictures, *self.geometry.input_shape)
            report = self._report(folder, np.memmap(pixels, np.uint8, "r", shape=shape), facts)
            # What it took says nothing of the pictures, and differs each time.
            document = {**report.to_json(), "checked": list(report.checked)}
            del document["seconds"]
            write_text(folder.path / PAGE, check_page(report))
            write_text(folder.path / QUARANTINE, exclusion_list(report.quarantine()))
            write_json(folder.path / REPORT, document)
        finally:
            remove(pixels)
        return {
            "pictures": self._plan.pictures,
            "without": len(facts.faults),
            "file": REPORT,
            "file_sha256": sha256_of_file(folder.path / REPORT),
            "errors": document["errors"],
            "warnings": document["warnings"],
        }

    def _joined(self, folder: WorkFolder, pixels: Path, stopped: Stopped) -> PictureFacts | None:
        """The facts of all pictures, whose prepared images are written into a file."""
        facts, faults, at = np.zeros(self._plan.pictures, ROW), dict[int, str](), 0
        size = int(np.prod(self.geometry.input_shape))
        with write_in_place(pixels) as write:
            for _, table in folder.results(folder.manifest()):
                if stopped():
                    return None
                part = facts[at : at + len(table)]
                for name in _FACTS:
                    part[name] = table.column(name).to_numpy()
                for name in _HASHES:
                    part[name] = np.frombuffer(_joined_bytes(table, name), np.uint8).reshape(-1, 32)
                errors = table.column("error").to_pylist()
                faults |= {at + place: why for place, why in enumerate(errors) if why is not None}
                write(at * size, _joined_bytes(table, "image"))
                at += len(table)
        return PictureFacts(rows=facts, faults=faults)

    def _report(self, folder: WorkFolder, images: UInt8Array, facts: PictureFacts) -> CheckReport:
        from .checking import check_prepared

        settings = self._plan.settings
        listed = list(folder.manifest())
        parts = np.array([one.part or "" for one in listed])
        val, test = (np.flatnonzero(parts == name) for name in ("val", "test"))
        groups = tuple(one.group or "" for one in listed)
        listing = Listing(
            name=settings["name"],
            shape=settings["shape"],
            pictures=_Names(tuple(one.file for one in listed)),
            labels=np.array([one.label for one in listed], np.int64),
            classes=tuple(settings["classes"]),
            val=val if len(val) else None,
            test=test if len(test) else None,
            groups=groups if any(groups) else None,
            remarks=tuple(settings["remarks"]),
        )
        recipe = Recipe().with_settings(recipe_settings(settings["recipe"]))
        excluded = recipe.data.exclude
        entries = read_exclusions(folder.path / excluded) if excluded else {}
        pictures = Prepared(
            listing=listing,
            settings=recipe.preprocess,
            images=images,
            facts=facts,
            folder=folder.path,
        )
        left_out = match(entries, listing.pictures.names, root=settings["source"], known={})
        return check_prepared(
            pictures, settings["checks"], recipe, left_out=left_out, on_event=self._on_event
        )


class _Names:
    """Pictures of which only the names are left."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def read(self, index: int) -> bytes:
        """See `PictureStore`, as the rest."""
        raise PictureError(f"{self.names[index]} is not looked at again.", "Plan again.")

    def stamp(self, index: int) -> str:
        raise PictureError(f"{self.names[index]} is not looked at again.", "Plan again.")


def _bytes_of_each(pyarrow: Any, rows: AnyArray) -> Any:
    """Rows (N, ...) of bytes as an Arrow array of binaries of one length."""
    flat = np.ascontiguousarray(rows, np.uint8).reshape(len(rows), -1)
    kind = pyarrow.binary(flat.shape[1])
    return pyarrow.FixedSizeBinaryArray.from_buffers(
        kind, len(flat), [None, pyarrow.py_buffer(flat)]
    )


def _joined_bytes(table: Any, name: str) -> bytes:
    """The bytes of a column of binaries of one length, behind each other."""
    return b"".join(table.column(name).to_pylist())


def recipe_settings(document: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON has them, whose lists are tuples."""
    return {key: tuple(v) if isinstance(v, list) else v for key, v in document.items()}


def task_of(
    folder: WorkFolder,
    *,
    threads: int | None = None,
    trust: bool = False,
    on_event: Sink | None = None,
) -> tuple[Task, dict[str, Any]]:
    """What the plan of a folder is carried out with, and what decides its results here."""
    plan = folder.plan
    try:
        _refuse_settings(plan)
    except (KeyError, ValueError) as error:
        raise FileError(
            f"{folder.path / PLAN} is damaged: its settings are not those of the task "
            f"{plan.task} ({error}).",
            "Plan again, in a new folder.",
        ) from error
    if plan.task == "predict":
        classifier = classifier_of(folder.path, plan.settings, threads=threads, trust=trust)
        return Predict(plan, classifier, threads), classifier.identity
    identity = identity_of(plan.task, plan.settings)
    if plan.task == "check":
        return Check(plan, threads, on_event), identity
    if plan.task == "decode":
        return Decode(plan, threads), identity
    return ComputeFeatures(plan, threads), identity


_SETTINGS: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "predict": {
        **dict.fromkeys(("model", "abstain", "checkpoint"), (str,)),
        **dict.fromkeys(("runtime", "ink"), (str, NoneType)),
        **{"topk": (int, NoneType), "invert": (bool,), "calibrated": (bool,)},
    },
    "check": {"checks": (list,)},
    "features": {"model": (str,), "runtime": (str,)},
    "decode": {},
}
"""What the settings of a plan hold for each task, by the kinds of JSON."""
_OF_ALL: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("name", "shape", "source"), (str,)),
    **dict.fromkeys(("classes", "columns", "remarks"), (list,)),
    "recipe": (dict,),
}


def _refuse_settings(plan: Plan) -> None:
    """
    Raises:
        ValueError: the settings of a plan, which anybody may have written, are not what they
            should be.
    """
    for name, kinds in {**_SETTINGS[plan.task], **_OF_ALL}.items():
        if type(plan.settings[name]) not in kinds:
            raise ValueError(f"{name} is {plan.settings[name]!r:.60}")
    for name in ("classes", "columns", "remarks", *(["checks"] if plan.task == "check" else [])):
        if not all(isinstance(one, str) for one in plan.settings[name]):
            raise ValueError(f"{name} holds more than text")
    if not {"label", "split", "group"} >= set(plan.settings["columns"]):
        raise ValueError("columns names one that there is not")
    if plan.settings["recipe"].get("exclude", EXCLUDED) not in ("", EXCLUDED, None):
        raise ValueError("exclude is a list elsewhere")


def identity_of(task: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the results of tasks that no trained network carries out."""
    identity: dict[str, Any] = {"preparation": PREPARATION}
    if task == "features":
        identity["weights_sha256"] = backbone_named(settings["model"]).file_sha256
    return identity


def classifier_of(
    folder: Path, settings: Mapping[str, Any], *, threads: int | None = None, trust: bool = False
) -> Classifier:
    """What predicts, as a plan has it."""
    from .predicting import Classifier
    from .predictor import Predictor

    predictor = Predictor(
        folder / settings["model"],
        checkpoint=settings["checkpoint"],
        calibrated=settings["calibrated"],
        runtime=settings["runtime"],
        threads=threads,
        trust=trust,
    )
    return Classifier(predictor, ink=settings["ink"], abstain=settings["abstain"])


def libraries_of(task: str, runtime: str) -> tuple[str, ...]:
    """What computes, besides what decodes."""
    if task in ("check", "decode"):
        return names_of_versions()
    return names_of_versions("onnxruntime" if runtime in ("onnx", "int8") else "torch")
