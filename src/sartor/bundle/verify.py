"""A bundle proves itself: every file as it was exported, every golden example answered as it was.

The golden pictures go the whole way again, from file to answer, through every path that there is.
A difference is told where it begins: in the files, in the pixels, or in a path's probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Float64Array, UInt8Array
from ..data.pictures.decode import quiet_decoding
from ..errors import BundleError, MissingExtraError, PictureError, SartorError
from ..evaluation.conformal import members
from ..inference.answers import answers
from ..inference.calibration import Calibration
from ..wording import plural
from . import golden as examples
from .format import INT8, ONNX, PROGRAM, SOURCE, Bundle
from .golden import Golden
from .opening import BY_ONNX, BY_PROGRAM, IN_8_BITS, TORCH, session_of
from .sessions import Outputs

GOAL = 1e-5
"""What paths of one machine are to stay below, in probabilities."""
TOLERANCE = 1e-4
"""What a path may differ by, in probabilities: other processors round in other places."""
LOOSE = 0.1
"""The same for a picture that another decoder may read a little differently, such as a JPEG, where
only its answer is known, from a server."""
LOOSE_INT8 = 0.02
"""The same for the network in 8 bits, where a last bit that is rounded otherwise counts more."""
MEAN_LEVELS = 2.0
"""Mean absolute difference, in levels of 255, that two decoders of such a picture may have."""
_NOVELTY_SHARE = 1e-3
"""Of a novelty score: sums of squares differ more than probabilities."""
_NAMED = 3
_NOTHING_ANSWERS = (
    "Not checked. The network is its maker's own, and nothing in the bundle can run it: export the "
    "run again with --program or --with-source."
)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    largest_difference: float | None = None
    """In probabilities; of the check `pixels` in levels of 255. None where nothing is compared."""
    detail: str
    """In a sentence or two, what was found."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class Verification:
    """Everything that was looked at."""

    bundle: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether the bundle is what was exported, and answers as it did."""
        return all(check.ok for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """The keys of `sartor verify --json`."""
        checks = [check.to_json() for check in self.checks]
        return {"bundle": self.bundle, "ok": self.ok, "checks": checks}


@dataclass(frozen=True, kw_only=True, eq=False)
class Replay:
    """The golden examples of a bundle, and their pictures prepared again."""

    bundle: Bundle
    golden: Golden
    contents: Mapping[str, bytes]
    """The file of each picture, by its name in the bundle."""
    images: UInt8Array
    """uint8 (N, H, W, C): made of the files, or where these were read a little differently than
    when they were exported, as they were then."""
    exact: Sequence[bool]
    """Of which pictures every decoder gives the same pixels."""


Path_ = Callable[[Replay], Check]
"""A path outside this module, such as a server or a browser: golden examples in, a check out."""


def verify(
    path: str | Path,
    *,
    runtimes: Sequence[str] | None = None,
    trust: bool = False,
    paths: Sequence[Path_] = (),
    on_check: Callable[[Check], None] = lambda _check: None,
) -> Verification:
    """Check a bundle's files, and replay its golden examples through every path.

    Args:
        path: a folder or a .zip.
        runtimes: of `opening.RUNTIMES`, those to try; by default all that the bundle has.
        trust: let code of the bundle run, whoever exported it.
        paths: others, beside these.
        on_check: is given each check as soon as it is made.

    Raises:
        BundleError: there is nothing at `path`, or it is not a bundle at all, or of a newer format.
    """
    made: list[Check] = []
    for check in _checks(path, runtimes, trust, paths):
        on_check(check)
        made.append(check)
    return Verification(bundle=str(path), checks=tuple(made))


def _checks(
    path: str | Path, runtimes: Sequence[str] | None, trust: bool, paths: Sequence[Path_]
) -> Iterator[Check]:
    bundle = Bundle.open(path)
    files = _files(bundle)
    yield files
    try:
        replay, pixels = _replay(bundle)
    except BundleError as error:
        yield Check(name="golden", ok=False, detail=error.message)
        return
    yield pixels
    asked = runtimes if runtimes is not None else _present(bundle)
    for runtime in asked:
        yield _runtime(replay, runtime, trust)
    if runtimes is None and not asked and not paths:
        yield Check(name="answers", ok=False, detail=_NOTHING_ANSWERS)
    for other in paths:
        yield other(replay)


def _files(bundle: Bundle) -> Check:
    faults = bundle.faults()
    if faults:
        return Check(name="files", ok=False, detail=_in_a_sentence(list(faults.values())))
    count = len(bundle.names) + 1
    detail = f"{count:,} files as exported, no others; SHA-256 {bundle.sha256}"
    return Check(name="files", ok=True, detail=detail)


def _in_a_sentence(sentences: Sequence[str]) -> str:
    more = len(sentences) - _NAMED
    shown = " ".join(sentences[:_NAMED])
    return f"{shown} And {more:,} more." if more > 0 else shown


def _present(bundle: Bundle) -> list[str]:
    """The paths that a bundle has: PyTorch, ONNX Runtime, the captured program."""
    builds = not bundle.architecture.own or SOURCE in bundle.names
    has = {TORCH: builds, BY_ONNX: ONNX in bundle.names, BY_PROGRAM: PROGRAM in bundle.names}
    return [name for name, present in {**has, IN_8_BITS: INT8 in bundle.names}.items() if present]


def _replay(bundle: Bundle) -> tuple[Replay, Check]:
    """The golden examples with their pictures prepared again, and how these compare.

    Raises:
        BundleError: there are none, or they do not fit the bundle.
    """
    preprocess = bundle.preprocess
    golden = examples.read(
        bundle.read(examples.DOCUMENT),
        bundle.read(examples.PIXELS),
        classes=bundle.classes,
        shape=(preprocess.height, preprocess.width, preprocess.channels),
    )
    if not len(golden):
        raise BundleError("The bundle has no golden examples.", "Export it again.")
    contents = {name: bundle.read(name) for name in golden.names}
    images, exact = golden.images.copy(), []
    faults, largest, read_otherwise = [], 0.0, 0
    for place, (name, content) in enumerate(contents.items()):
        try:
            with quiet_decoding():
                pixels = preprocess.seen(content, name).pixels.transpose(1, 2, 0)
            exact.append(examples.is_exact(content))
        except PictureError as error:
            exact.append(False)
            faults.append(error.message)
            continue
        apart = np.abs(pixels.astype(np.int64) - golden.images[place])
        largest = max(largest, float(apart.max()))
        if not apart.any():
            continue
        if exact[-1] or apart.mean() > MEAN_LEVELS:
            faults.append(
                f"{name} becomes other pixels, by up to {apart.max()} levels of 255 and "
                f"{apart.mean():.2f} on average."
            )
            images[place] = pixels
        read_otherwise += 1
    ways = f"{sum(exact):,} in lossless formats" if not all(exact) else "all"
    detail = f"{len(golden):,} pictures give the same pixels, {ways} bit for bit"
    if faults:
        detail = _in_a_sentence(faults)
    elif read_otherwise:
        detail = (
            f"{read_otherwise:,} of {len(golden):,} pictures are decoded a little differently "
            f"here, by at most {MEAN_LEVELS:g} levels on average, as decoders of JPEG may; the "
            "rest bit for bit"
        )
    replay = Replay(bundle=bundle, golden=golden, contents=contents, images=images, exact=exact)
    return replay, Check(name="pixels", ok=not faults, largest_difference=largest, detail=detail)


def _runtime(replay: Replay, runtime: str, trust: bool) -> Check:
    try:
        session = session_of(replay.bundle, runtime, trust=trust)
        outputs = session(np.ascontiguousarray(replay.images))
    except MissingExtraError as error:
        return Check(name=runtime, ok=False, detail=f"Not checked. {error}")
    except SartorError as error:
        return Check(name=runtime, ok=False, detail=f"{error}")
    if runtime == IN_8_BITS:
        return _in_8_bits(replay, outputs)
    return compared(runtime, replay, outputs)


def _in_8_bits(replay: Replay, outputs: Outputs) -> Check:
    """model.int8.onnx against what it answered itself when it was exported."""
    golden = replay.golden
    if golden.int8 is None:
        return Check(name=IN_8_BITS, ok=False, detail=f"Nothing says what {INT8} has to answer.")
    if outputs.probabilities.shape != golden.int8.shape:
        shape = outputs.probabilities.shape
        return Check(name=IN_8_BITS, ok=False, detail=f"It gives {shape}.")
    largest = float(differences(outputs.probabilities, golden.int8).max())
    return Check(
        name=IN_8_BITS,
        ok=largest <= LOOSE_INT8,
        largest_difference=largest,
        detail=f"{len(golden):,} answers in 8 bits against those of the export; {LOOSE_INT8:g} is "
        "allowed, since processors round 8 bits in their own ways",
    )


def compared(name: str, replay: Replay, outputs: Outputs) -> Check:
    """How outputs for `replay.images` differ from the golden ones."""
    golden = replay.golden
    found = np.asarray(outputs.probabilities, np.float64)
    if found.shape != golden.probabilities.shape:
        return Check(
            name=name,
            ok=False,
            detail=f"It gives {found.shape} for {len(golden):,} images of "
            f"{len(replay.bundle.classes)} classes.",
        )
    apart = differences(found, golden.probabilities)
    largest = float(apart.max())
    faults = []
    if largest > TOLERANCE:
        worst = int(apart.max(axis=1).argmax())
        faults.append(
            f"Probabilities differ by up to {largest:.2g}, most of all for {golden.names[worst]}; "
            f"at most {TOLERANCE:g} is allowed."
        )
    faults += _verdict_faults(replay, found, outputs)
    if faults:
        return Check(name=name, ok=False, largest_difference=largest, detail=" ".join(faults))
    met = "within the target of" if largest <= GOAL else "above the target of"
    detail = f"{len(golden):,} answers, {met} {GOAL:g}; {TOLERANCE:g} is allowed"
    return Check(name=name, ok=True, largest_difference=largest, detail=detail)


def differences(found: Any, wanted: Any) -> Float64Array:
    """(N, K): 0 also where both are the same infinity or no number, infinite where only one is."""
    one, other = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.abs(one - other)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    result: Float64Array = np.where(same, 0, np.nan_to_num(apart, nan=np.inf))
    return result


def _verdict_faults(replay: Replay, found: Float64Array, outputs: Outputs) -> Iterator[str]:
    """Sets, novelty and "unknown" that are not the golden ones, rounding at thresholds aside."""
    golden, calibration = replay.golden, replay.bundle.calibration
    if (outputs.novelty is None) != (golden.novelty is None):
        yield "It has a novelty score and the golden examples none, or the reverse."
    elif outputs.novelty is not None and golden.novelty is not None:
        allowed = _NOVELTY_SHARE * np.maximum(1, np.abs(golden.novelty))
        apart = differences(outputs.novelty, golden.novelty)
        if (apart > allowed).any():
            yield f"Novelty scores differ by up to {apart.max():.2g}."
        yield from _unknown_faults(replay, outputs)
    if calibration.set_threshold is not None:
        yield from _set_faults(golden, found, calibration, replay.bundle.classes)


def other_words(replay: Replay, name: str, answer: Mapping[str, Any]) -> list[str]:
    """In what a path says something else than this package does of the same numbers."""
    bundle = replay.bundle
    row = np.array([[answer["probabilities"][one] for one in bundle.classes]])
    novelty = answer.get("novelty")
    scores = None if novelty is None else np.array([novelty], np.float32)
    (expected,) = answers([name], row, scores, bundle.calibration, bundle.classes)
    wanted = expected.to_json()
    return [
        f"{name}: {key} is {answer.get(key)}, not {wanted.get(key)}."
        for key in ("label", "set", "novelty_percentile", "unknown")
        if answer.get(key) != wanted.get(key)
    ]


def _unknown_faults(replay: Replay, outputs: Outputs) -> Iterator[str]:
    threshold, scores = replay.bundle.calibration.novelty_threshold, outputs.novelty
    if threshold is None or scores is None:
        return
    near = np.abs(scores - threshold) <= _NOVELTY_SHARE * max(1, abs(threshold))
    wanted = np.array([bool(answer["unknown"]) for answer in replay.golden.answers])
    other = int(((~(scores <= threshold) != wanted) & ~near).sum())
    if other:
        yield f"{other:,} pictures are unknown that were not, or the reverse."


def _set_faults(
    golden: Golden, found: Float64Array, calibration: Calibration, classes: Sequence[str]
) -> Iterator[str]:
    assert calibration.set_threshold is not None
    finite = np.isfinite(found).all(axis=1)
    kept = [set(answer["set"]) for answer in golden.answers]
    wanted = np.array([[name in inside for name in classes] for inside in kept])
    surely = members(found, calibration.set_threshold - TOLERANCE)
    perhaps = members(found, calibration.set_threshold + TOLERANCE)
    other = ((surely & ~wanted) | (wanted & ~perhaps)).any(axis=1) & finite
    if other.any():
        yield f"The set of classes differs for {plural(int(other.sum()), 'picture')}."
