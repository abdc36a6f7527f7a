"""Plan: what is to be done with very many pictures, and the list of them for all workers."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from ..bundle.format import RECORD, Bundle, is_bundle
from ..data.listing import Listing
from ..data.pictures.exclude import read_exclusions
from ..data.pictures.stream import Undecoded
from ..data.placed import column_of, places_of
from ..data.settings import PreprocessSettings, SourceSettings
from ..data.sources import find_source
from ..data.unlabelled import Unlabelled
from ..errors import (
    DataError,
    MissingExtraError,
    PictureError,
    UsageError,
    unknown,
)
from ..files import (
    explain_os_errors,
    json_line,
    make_folder,
    read_regular,
    remove,
    sha256_of_file,
    write_bytes,
    write_folder,
)
from ..inspection.check.table import FAST, chosen
from ..models.backbones import checked_path
from ..recipe import Recipe
from ..shards.folder import MANIFEST, PLAN, WorkFolder
from ..shards.manifest import Listed, arrow, write_manifest
from ..shards.plan import LEASE_SECONDS, LONGEST_LEASE, TASKS, Plan, versions
from .notes import Sink, note, noting
from .opened import open_run
from .predicting import Picture, named_pictures
from .shard_tasks import EXCLUDED, backbone_named, classifier_of, identity_of, libraries_of
from .transferring import DEFAULT_BACKBONE

READINGS = ("pictures", "data")
_SHARD = 2_048
_LARGE_SHARD = 512
"""Of tasks whose results are larger than the pictures."""
_CHECK_SIDE, _DECODE_SIDE = 32, 64
_NOTE_EVERY = 10.0
_SETTINGS = (SourceSettings, PreprocessSettings)

_PREDICT_ONLY = ("topk", "invert", "ink", "abstain", "checkpoint", "calibrated")
"""Options of `plan_work` that mean something for predictions only."""
_DEFAULTS: Mapping[str, Any] = {
    **dict.fromkeys(("model", "topk", "ink", "runtime"), None),
    **{"invert": False, "abstain": "off", "checkpoint": "best", "calibrated": True},
    **{"only": (), "skip": (), "fast": False},
}
_FIT = {
    "predict": ("model", "runtime", *_PREDICT_ONLY),
    "check": ("only", "skip", "fast"),
    "features": ("model", "runtime"),
    "decode": (),
}
"""Which of them mean something for each task."""


def plan_work(
    folder: str | Path,
    task: str,
    pictures: Picture | Iterable[Picture],
    *,
    reading: str | None = None,
    shard_size: int | None = None,
    lease_seconds: float = LEASE_SECONDS,
    trust: bool = False,
    on_event: Sink | None = None,
    model: str | Path | None = None,
    runtime: str | None = None,
    topk: int | None = None,
    invert: bool = False,
    ink: str | None = None,
    abstain: str = "off",
    checkpoint: str = "best",
    calibrated: bool = True,
    only: Iterable[str] = (),
    skip: Iterable[str] = (),
    fast: bool = False,
    **settings: Any,
) -> Plan:
    """Decide what is to be done with very many pictures, and list them, into a new folder.

    Then any number of processes do it: `work`. What they make depends on the plan only.

    Args:
        folder: to be made; on a disk that all workers share.
        task: "predict", "check", "features" or "decode".
        pictures: as for `predict` (`reading="pictures"`), or one labelled source, as for `fit`
            (`reading="data"`); by default the former for predict and features.
        shard_size: pictures that a worker does at a time; rounded up to whole batches.
        lease_seconds: after so long without a sign of life a worker counts as dead.
        model: a run or a bundle for predict; the name of a backbone for features.
        runtime: of the bundle, as for `predict`; for features onnx or torch.
        topk, invert, ink, abstain, checkpoint, calibrated: as for `predict_to_file`.
        only, skip, fast: which checks, as for `check`; by default the fast ones, and
            near-duplicates.
        settings: of the data and its preparation, such as image_size=64, label_column="class".

    Raises:
        UsageError: the folder holds a plan already; an option means nothing for the task; there
            are no pictures. MissingExtraError: without pyarrow. Others as the verbs themselves.
    """
    arrow()
    where = Path(folder)
    options = {
        "model": model,
        "runtime": runtime,
        "topk": topk,
        "invert": invert,
        "ink": ink if task == "predict" else None,
        "abstain": abstain,
        "checkpoint": checkpoint,
        "calibrated": calibrated,
        "only": tuple(only),
        "skip": tuple(skip),
        "fast": fast,
    }
    if ink is not None and task != "predict":
        settings["ink"] = ink
    _refuse(where, task, shard_size, lease_seconds, options)
    reading = _reading_for(task, reading)
    _refuse_settings(task, reading, settings)
    recipe = Recipe().with_settings(settings)
    make_folder(where)
    decided = _DECIDED[task](where, options, recipe, dict(settings), trust)
    shard_size = _multiple(shard_size or decided.shard_size, decided.unit)
    source, listed = _listed(pictures, reading, recipe, on_event)
    column = source.pop("image_column")
    facts = {**decided.settings, "recipe": decided.recipe, **source}
    # The number is only known at the end.
    written = write_manifest(where / MANIFEST, _counted(listed, on_event), shard_size)
    if not written.pictures:
        remove(where / MANIFEST)
        raise UsageError("There are no pictures.", "Name files, folders or a pattern.")
    plan = Plan(
        task=task,
        pictures=written.pictures,
        shard_size=shard_size,
        root=written.root,
        image_column=column,
        manifest_sha256=sha256_of_file(where / MANIFEST) or "",
        lease_seconds=float(lease_seconds),
        settings=facts,
        identity=json.loads(json_line(decided.identity or identity_of(task, facts))),
        versions=versions(libraries_of(task, str(facts.get("runtime") or ""))),
    )
    return WorkFolder.begin(where, plan).plan


class _Decided(NamedTuple):
    """What a task's own options come to."""

    settings: dict[str, Any]
    recipe: dict[str, Any]
    """Settings of the data and its preparation."""
    shard_size: int
    """Where nobody says otherwise."""
    unit: int = 1
    """Pictures that are computed together."""
    identity: Mapping[str, Any] = MappingProxyType({})
    """What decides the results besides; where it is open, what the settings say."""


def _to_predict(
    where: Path, options: Mapping[str, Any], _recipe: Recipe, given: dict[str, Any], trust: bool
) -> _Decided:
    model = options["model"]
    if is_bundle(model):
        # Every worker has the same, whatever becomes of the one that was named.
        kept = _copied(Bundle.open(model), where)
    else:
        kept = str(open_run(model, trust=trust).path.absolute())
    settings = {"model": kept, **{name: options[name] for name in ("runtime", *_PREDICT_ONLY)}}
    classifier = classifier_of(where, settings, trust=trust)
    settings["runtime"] = options["runtime"] or classifier.predictor.runtime
    return _Decided(settings, given, _SHARD, classifier.pictures_at_once, classifier.identity)


def _to_check(
    where: Path, options: Mapping[str, Any], recipe: Recipe, given: dict[str, Any], _trust: bool
) -> _Decided:
    checks = chosen(options["only"], options["skip"], fast=options["fast"])
    if not (options["only"] or options["fast"]):
        checks = tuple(one for one in checks if one in (*FAST, "near-duplicates"))
    if recipe.data.exclude:
        with explain_os_errors(f"read {recipe.data.exclude}"):
            content = read_regular(Path(recipe.data.exclude))
        write_bytes(where / EXCLUDED, content)
        read_exclusions(where / EXCLUDED)
        given["exclude"] = EXCLUDED
    return _Decided({"checks": list(checks)}, _complete(recipe, given, _CHECK_SIDE), _SHARD)


def _to_decode(
    _where: Path, _options: Mapping[str, Any], recipe: Recipe, given: dict[str, Any], _trust: bool
) -> _Decided:
    return _Decided({}, _complete(recipe, given, _DECODE_SIDE), _LARGE_SHARD)


def _to_compute_features(
    _where: Path, options: Mapping[str, Any], recipe: Recipe, given: dict[str, Any], _trust: bool
) -> _Decided:
    settings, given = _feature_settings(options, recipe, given)
    return _Decided(settings, given, _LARGE_SHARD)


_DECIDED: Mapping[str, Callable[..., _Decided]] = {
    "predict": _to_predict,
    "check": _to_check,
    "features": _to_compute_features,
    "decode": _to_decode,
}


def _reading_for(task: str, reading: str | None) -> str:
    """How the pictures are read.

    Raises:
        UsageError: there is no such way, or not for the task.
    """
    if reading is None:
        return "data" if task in ("check", "decode") else "pictures"
    if reading not in READINGS:
        sentence = unknown("reading", reading, READINGS)
        raise UsageError(sentence[0].upper() + sentence[1:], "Say pictures or data.")
    if task == "check" and reading != "data":
        raise UsageError(
            "check looks at classes too, so it reads labelled data.", "Leave --reading out."
        )
    return reading


def _refuse_settings(task: str, reading: str, settings: Mapping[str, Any]) -> None:
    """Nothing that is asked for is ignored in silence.

    Raises:
        UsageError: a setting means nothing for the task.
    """
    of_source, of_pictures = ({one.name for one in fields(kind)} for kind in _SETTINGS)
    allowed = of_source - {"source"} if reading == "data" else {"image_column"}
    allowed |= set() if task == "predict" else of_pictures
    for name in settings if task != "check" else ():
        if name not in allowed:
            because = ": the model says how pictures are prepared" * (name in of_pictures)
            raise UsageError(
                f"--{name.replace('_', '-')} means nothing for the task {task}"
                f"{' with --reading pictures' * (name in of_source)}{because}.",
                "Leave it out.",
            )


def _refuse(
    where: Path,
    task: str,
    shard_size: int | None,
    lease_seconds: float,
    options: Mapping[str, Any],
) -> None:
    """Before any work.

    Raises:
        UsageError: what is asked for makes no sense.
    """
    if task not in TASKS:
        sentence = unknown("task", task, TASKS)
        raise UsageError(sentence[0].upper() + sentence[1:], f"Say one of {', '.join(TASKS)}.")
    if (where / PLAN).exists():
        raise UsageError(
            f"{where} holds a plan already.",
            f"Follow it: sartor work {shlex.quote(str(where))}. Or plan in a new folder.",
        )
    if shard_size is not None and shard_size < 1:
        raise UsageError(
            f"A shard of {shard_size} pictures is none.", "Give --shard-size a larger number."
        )
    if not 1 <= lease_seconds <= LONGEST_LEASE:
        raise UsageError(
            f"A lease of {lease_seconds:g} seconds is of no use.",
            f"Give --lease 1 to {LONGEST_LEASE:.0f} seconds.",
        )
    for name, value in options.items():
        if value != _DEFAULTS[name] and name not in _FIT[task]:
            raise UsageError(f"--{name} means nothing for the task {task}.", "Leave it out.")
    if task == "predict" and options["model"] is None:
        raise UsageError("No model is named that predicts.", "Name a bundle or a run: --model")


def _multiple(size: int, unit: int) -> int:
    """At least `size`, in whole units: what is computed together stays together, as in a file of
    `sartor predict`, so that it gets the same bits."""
    return -(-size // unit) * unit


def _copied(bundle: Bundle, where: Path) -> str:
    """The name of a copy of a bundle in a folder."""
    if bundle.path.is_file():
        with explain_os_errors(f"read {bundle.path}"):
            content = read_regular(bundle.path)
        write_bytes(where / "model.zip", content)
        return "model.zip"
    with explain_os_errors(f"read {bundle.path}"):
        record = read_regular(bundle.path / RECORD)
    write_folder(where / "model", {RECORD: record, **{n: bundle.read(n) for n in bundle.names}})
    return "model"


def _feature_settings(
    options: Mapping[str, Any], recipe: Recipe, given: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The backbone and its way to prepare pictures."""
    backbone = backbone_named(str(options["model"] or DEFAULT_BACKBONE))
    checked_path(backbone)
    runtime = options["runtime"] or ("onnx" if _has_onnx() else "torch")
    if runtime not in ("onnx", "torch"):
        raise UsageError(f"Features are not computed by {runtime}.", "Say onnx or torch.")
    if runtime == "onnx" and not _has_onnx():
        raise MissingExtraError("Computing features by ONNX Runtime", "onnxruntime", "pretrained")
    preprocess = {
        "channels": 3,
        "resampling": backbone.resampling,
        "mean": backbone.mean,
        "std": backbone.std,
    }
    for name in preprocess:
        if name in given and list(_many(given[name])) != list(_many(preprocess[name])):
            raise UsageError(f"{backbone.name} has a {name} of its own.", f"Leave --{name} out.")
    given = _complete(recipe, {**given, **preprocess}, backbone.image_size)
    return {"model": backbone.name, "runtime": runtime}, given


def _many(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list | tuple) else (value,)


def _has_onnx() -> bool:
    return all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))


def _complete(recipe: Recipe, given: dict[str, Any], side: int) -> dict[str, Any]:
    """Settings of the preparation with nothing left open, since nobody sees all pictures before
    they are decoded."""
    size = tuple(recipe.preprocess.image_size) or (side,)
    background = recipe.preprocess.background
    return {
        **given,
        "image_size": [size[0], size[-1]],
        "channels": given.get("channels") or recipe.preprocess.channels or 3,
        "background": "white" if background == "auto" else background,
    }


def _listed(
    pictures: Picture | Iterable[Picture], reading: str, recipe: Recipe, on_event: Sink | None
) -> tuple[dict[str, Any], Iterator[Listed]]:
    """What is to be said of the source as a whole, and its pictures."""
    if reading == "pictures":
        column = recipe.data.image_column
        named = Unlabelled(named_pictures(pictures), image_column=column, note=noting(on_event))
        unlabelled: dict[str, Any] = {
            "name": "pictures",
            "shape": "pictures",
            "source": "",
            "classes": [],
        }
        return {**unlabelled, "remarks": [], "columns": [], "image_column": column}, map(
            _unlabelled, named
        )
    sources: list[Any] = list(named_pictures(pictures))
    if len(sources) != 1 or not isinstance(sources[0], str | Path):
        raise UsageError(
            f"Labelled data is one source, not {len(sources):,}.",
            "Name one folder, list, archive or parquet file; or say --reading pictures.",
        )
    source = str(Path(sources[0]).absolute()) if Path(sources[0]).exists() else str(sources[0])
    data = recipe.with_settings({"source": source}).data
    listing = find_source(data, note=noting(on_event))
    if not isinstance(listing, Listing):
        raise DataError(
            f"{sources[0]} is not made of picture files.", "Name a folder or a list of pictures."
        )
    about: dict[str, Any] = {
        "name": listing.name,
        "shape": listing.shape,
        "source": source,
        "classes": list(listing.classes),
        "remarks": list(listing.remarks),
        "columns": [
            "label",
            *["split"] * (listing.val is not None or listing.test is not None),
            *["group"] * (listing.groups is not None),
        ],
        "image_column": column_of(listing),
    }
    return about, _labelled(listing)


def _unlabelled(one: Undecoded) -> Listed:
    if one.place is not None:
        path = os.path.abspath(one.place.path)  # noqa: PTH100  (Path refuses what holds a NUL)
        return Listed(one.name, one.place._replace(path=path))
    try:
        one.content()
    except PictureError as fault:
        return Listed(one.name, None, fault=fault.message, hint=fault.hint)
    raise UsageError(
        f"{one.name} lies in memory, where no other process finds it.", "Save it as a file."
    )


def _labelled(listing: Listing) -> Iterator[Listed]:
    parts: dict[int, str] = {}
    for name, indices in (("val", listing.val), ("test", listing.test)):
        parts |= dict.fromkeys([] if indices is None else indices.tolist(), name)
    names, places = listing.pictures.names, places_of(listing)
    for index, label in enumerate(listing.labels.tolist()):
        group = None if listing.groups is None else listing.groups[index]
        yield Listed(names[index], places[index], label, parts.get(index), group)


def _counted(listed: Iterator[Listed], on_event: Sink | None) -> Iterator[Listed]:
    """The same, with a word now and then on how many there were."""
    said = time.monotonic()
    for number, one in enumerate(listed):
        if time.monotonic() - said > _NOTE_EVERY:
            said = time.monotonic()
            note(on_event, f"listed {number:,} pictures so far")
        yield one
