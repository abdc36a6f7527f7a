"""Chooses the engine of a training, by measuring or from an earlier measurement.

Measurements stay in the cache, so that a second training makes the same choice: the decision is a
function of what is written there once and of the number of steps.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import assembly, native_module
from ..assembly import Assembly
from ..distributed import processes
from ..errors import FileError, ModelError
from ..files import make_folder, sha256_of, write_json
from ..home import cache_home, locked
from ..machine import available_cores
from ..models.copying import copied_network
from ..models.custom import reason_of
from ..recipe import Recipe
from ..runs.environment import exact_processor
from ..runs.folder import RunFolder
from ..training.engines import race
from ..training.engines.hardware import ExecutionPlan, is_clearly_native, problem
from ..training.engines.race import Measurement, Timing
from ..training.loop import Job
from ..training.settings import ResolvedTraining

FORMAT = 5
_FEWEST_STEPS = 800
"""With fewer steps, measuring all engines would take more than `_SHARE` of the training."""
_FEWEST_STEPS_OF_A_DUEL = 200
"""With fewer, so would measuring two."""
_SHORTEST_SECONDS = 1.5
_SHARE = 0.05
_MOST_SECONDS = 2.0
_MOST_BYTES = 2**31
_LONG_SECONDS = 600.0
"""Compiling takes up to a minute, and is tried only if training is expected to take this long."""


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What was chosen, and why."""

    engine: ExecutionPlan
    line: str
    """For people."""
    document: dict[str, Any]
    """For engine.json."""
    steps_per_second: float = 0.0
    """Of the chosen engine; 0 where that was not measured, or on a busy machine."""


def tune(wanted: Recipe, assembled: Assembly) -> Tuning | None:
    """The engine for a training; None where training is too short, or there is nothing to choose.

    The job stays as it is, bit for bit.

    Args:
        wanted: the recipe before it was resolved, which says what was left to be chosen.
    """
    job = assembled.job
    steps = len(job.batches) * job.settings.epochs
    fewest = min(_FEWEST_STEPS, _FEWEST_STEPS_OF_A_DUEL)
    if wanted.training.engine != "auto" or steps < fewest or processes() > 1:
        return None
    contest = _contest(wanted, assembled, short=steps < _FEWEST_STEPS)
    count = len(contest.engines) + len(contest.threads)
    if count < 2 or _copies_bytes(job, count) > _MOST_BYTES:
        return None
    facts = _facts(wanted, assembled)
    try:
        with _kept(facts) as kept:
            found = _found(kept, contest, steps)
    except FileError:
        # The next training would measure again, and might choose differently.
        return None
    except Exception as error:  # whatever a user's own network may raise
        return _unmeasured(contest.engines[0], reason_of(error), facts)
    return None if found is None else _tuning(*found, facts)


@dataclass(frozen=True, kw_only=True)
class _Contest:
    """The engines to be measured."""

    engines: list[ExecutionPlan]
    """The default first."""
    threads: list[int]
    compiled: bool
    """Whether compiling can be tried."""
    job_of: race.JobOf
    name: str = "measured"
    """Under which the measurement is kept: a short training's is another one, so that its choice
    does not depend on whether a longer one was measured meanwhile."""


def _contest(wanted: Recipe, assembled: Assembly, *, short: bool) -> _Contest:
    job, settings = assembled.job, assembled.job.settings
    free = _open_settings(wanted, settings.device)
    default = ExecutionPlan.of(settings)
    clear = _is_clear(assembled)
    engines_of = race.duel if short else race.choices
    engines = engines_of(default, free, job.model, settings.device)
    if clear:
        engines = [one for one in engines if one.engine == "native"]
    return _Contest(
        engines=_usable(engines, settings),
        threads=[] if short else race.fewer_threads(default, free),
        compiled=not clear and problem("compiled", settings.device) is None,
        job_of=lambda one: _trial(one, assembled),
        name="duel" if short else "measured",
    )


def _is_clear(assembled: Assembly) -> bool:
    settings = assembled.job.settings
    shape = assembly.input_shape_of(assembled.recipe)
    return settings.engine == "native" and is_clearly_native(
        assembled.job.model, shape, settings.instructions
    )


def how_chosen(wanted: Recipe, assembled: Assembly, tuning: Tuning | None) -> str:
    """For environment.json: how the engine was chosen, in a sentence or two."""
    plan = ExecutionPlan.of(assembled.job.settings)
    chosen = f"{plan.engine}, {plan.amp_dtype}, {plan.memory_format}"
    if wanted.training.engine != "auto":
        return f"{chosen}: engine {wanted.training.engine} was asked for."
    if tuning is not None:
        return f"{chosen}. {_compared(tuning.document)}"
    if plan.engine != "native":
        return f"{chosen}: not measured, as the training is short or nothing was left open."
    if _is_clear(assembled):
        return f"{chosen}: not measured, as native is always faster for convolutions this narrow."
    return f"{chosen}: not measured, as the training is short or nothing else was left open."


def _compared(document: Mapping[str, Any]) -> str:
    """How fast each engine was that was measured."""
    measured = document["measured"]
    if measured is None:
        return str(document["line"])
    rows = [(ExecutionPlan(**one["engine"]), one["times_as_fast"]) for one in measured["timings"]]
    names = ("engine", "amp_dtype", "memory_format", "threads")
    when = "before" if document["measured_before"] else f"in {measured['seconds']:.1f} s"
    others = "; ".join(f"{_shown(one, names)}: {times:.2f}" for one, times in rows[1:])
    return f"Measured {when}, times as fast as {_shown(rows[0][0], names)}: {others}."


def _found(kept: dict[str, Any], contest: _Contest, steps: int) -> tuple[Measurement, bool] | None:
    """The measurement, and whether it is an earlier one; None for a training that is too short.

    A function of what is kept and of the number of steps, once all that is needed is kept. What a
    busy machine says is not kept: the next training measures again.
    """
    paced_before = "seconds_a_step" in kept
    if not paced_before:
        default = contest.job_of(contest.engines[0])
        kept["seconds_a_step"] = race.seconds_a_step(default)
    expected = steps * kept["seconds_a_step"]
    if expected < _SHORTEST_SECONDS:
        return None
    seconds = min(_MOST_SECONDS, _SHARE * expected)
    measured, before = _measured(
        kept,
        contest.name,
        lambda: race.measure(contest.engines, contest.threads, contest.job_of, seconds),
    )
    if measured.busy and not paced_before:
        del kept["seconds_a_step"]
    if measured.busy or expected < _LONG_SECONDS or not contest.compiled:
        return measured, before
    return _measured(
        kept, "compiled", lambda: race.with_compiled(measured, contest.job_of, seconds)
    )


def _measured(
    kept: dict[str, Any], name: str, measure: Callable[[], Measurement]
) -> tuple[Measurement, bool]:
    """What is kept under a name, measured now if it is missing; whether it was there."""
    if name in kept:
        return _measurement(kept[name]), True
    measured = measure()
    if not measured.busy:
        kept[name] = asdict(measured)
    return measured, False


def _tuning(measured: Measurement, before: bool, facts: dict[str, Any]) -> Tuning:
    chosen = measured.choice
    line = _line(measured, before)
    document = {
        "format": FORMAT,
        "line": line,
        "chosen": asdict(chosen.engine),
        "measured_before": before,
        "measured": asdict(measured),
        "for": facts,
    }
    pace = 0.0 if measured.busy else 1 / chosen.seconds_a_step
    return Tuning(engine=chosen.engine, line=line, document=document, steps_per_second=pace)


def can_measure_again(folder: RunFolder, settings: ResolvedTraining) -> bool:
    """Whether the engine of a run was left to be chosen, and may be chosen again."""
    return bool(_open_again(folder)) and settings.device == "cpu" and settings.engine != "compiled"


def faster_engine(
    folder: RunFolder, assembled: Assembly, step: int
) -> tuple[ExecutionPlan | None, str]:
    """An engine that is far faster than the present one while the machine is busy, and what to say.

    The precision stays: other engines compute the same up to rounding.
    """
    job = assembled.job
    default, free = ExecutionPlan.of(job.settings), _open_again(folder)
    engines = _usable(
        race.choices(default, free, job.model, job.settings.device),
        job.settings,
    )
    threads = race.fewer_threads(default, free)
    if "threads" in free and torch.get_num_threads() > default.threads:
        threads.append(torch.get_num_threads())
    if _copies_bytes(job, len(engines) + len(threads)) > _MOST_BYTES:
        return None, ""
    try:
        measured = race.measure(engines, threads, lambda one: _trial(one, assembled), _MOST_SECONDS)
    except Exception as error:  # whatever a user's own network may raise
        return None, f"The engine could not be measured again: {reason_of(error)}."
    chosen = race.fastest(measured.timings, busy=True)
    names = race.differing(default, chosen.engine)
    if not names:
        return None, "Measured again: no other engine is far faster at present."
    return chosen.engine, (
        f"Measured again: from step {step} on with {_shown(chosen.engine, names)}, "
        f"{chosen.times_as_fast:.1f} times as fast as {_shown(default, names)} at present. "
        "recipe.toml records the change; weights differ from those without it by rounding."
    )


def _open_again(folder: RunFolder) -> set[str]:
    """The settings that were left to be chosen when the engine was; none where it was not."""
    document = folder.engine() or {}
    facts = document.get("for")
    found = facts.get("open") if isinstance(facts, dict) else None
    return (
        set(map(str, found)) - {"amp_dtype", "instructions"} if isinstance(found, list) else set()
    )


def _unmeasured(default: ExecutionPlan, reason: str, facts: dict[str, Any]) -> Tuning:
    """Nothing could be measured. If a step fails, training will report why."""
    sentence = f"engine: default (none could be measured): {reason}"
    line = textwrap.shorten(sentence, 80, placeholder=" ...")
    document = {
        "format": FORMAT,
        "line": line,
        "chosen": asdict(default),
        "measured_before": False,
        "measured": None,
        "for": facts,
    }
    return Tuning(engine=default, line=line, document=document)


def _line(measured: Measurement, before: bool) -> str:
    """What was chosen and how much faster it is, in at most 80 columns."""
    when = "before" if before else f"in {measured.seconds:.1f} s"
    default, chosen = measured.timings[0].engine, measured.choice
    names = race.differing(default, chosen.engine)
    if not names and measured.busy:
        return f"engine: default (other programs kept the machine busy, measured {when})"
    if not names:
        return f"engine: default (fastest of {len(measured.timings)}, measured {when})"
    new, old = (_shown(one, names) for one in (chosen.engine, default))
    line = f"engine: {new}; {chosen.times_as_fast:.1f} times as fast"
    if measured.busy:
        endings = [f" as {old} (while busy, {when})", f" (while busy, {when})", " (busy)"]
    else:
        endings = [f" as {old} (measured {when})", f" (measured {when})", f" ({when})"]
    lines = [line + ending for ending in endings]
    return next((each for each in lines if len(each) <= 80), line)


def _shown(one: ExecutionPlan, names: Sequence[str]) -> str:
    """The named settings of an engine."""
    threads = f"{one.threads} thread{'s' if one.threads > 1 else ''}"
    shown = {**asdict(one), "threads": threads}
    return ", ".join(shown[name] for name in names)


def _usable(engines: list[ExecutionPlan], settings: ResolvedTraining) -> list[ExecutionPlan]:
    """Without those that take it that the same parameters are trained in every step."""
    if not settings.freeze_epochs:
        return engines
    return [one for one in engines if one.engine in ("plain", "compiled")]


def _open_settings(wanted: Recipe, device: str) -> set[str]:
    """Settings that were left to be chosen, and that matter on the device."""
    training = wanted.training
    asked = {
        "memory_format": training.memory_format == "auto",
        "amp_dtype": training.amp_dtype == "auto",
        "threads": training.threads is None and device == "cpu",
        "instructions": training.amp_dtype == training.instructions == "auto" and device == "cpu",
    }
    return {name for name, is_open in asked.items() if is_open}


def _trial(one: ExecutionPlan, assembled: Assembly) -> Job:
    """The job that `fit` would make with an engine, on a copy of the model."""
    recipe = assembly.with_plan(assembled.recipe, one)
    model = assembly.place_network(_copied(assembled), recipe)
    return assembly.make_job(recipe, assembled.material, model)


def _copied(assembled: Assembly) -> nn.Module:
    """A copy of the job's network, built again from its class where it cannot be copied.

    Raises:
        ModelError: it cannot be copied, and a program gave it as an object.
    """
    model, recipe = assembled.job.model, assembled.recipe
    try:
        return copied_network(model)
    except ModelError:
        if recipe.model.model.startswith(assembly.IN_MEMORY):
            raise
    again = assembly.build_network(recipe, assembled.job.num_classes)
    again.load_state_dict(model.state_dict())
    return again.to(recipe.training.device)


def _copies_bytes(job: Job, count: int) -> int:
    """Memory of `count` copies: weights, gradients, and two averages of the optimizer."""
    weights = sum(tensor.numel() * tensor.element_size() for tensor in job.model.parameters())
    return 4 * weights * count


def _facts(wanted: Recipe, assembled: Assembly) -> dict[str, Any]:
    """Everything that may decide what is fastest: equal facts, equal choice."""
    job, recipe = assembled.job, assembled.recipe
    settings = job.settings
    return {
        "format": FORMAT,
        "torch": torch.__version__,
        "device": _device_name(settings.device),
        "cores": available_cores(),
        "threads": settings.threads,
        "open": sorted(_open_settings(wanted, settings.device)),
        "settings": asdict(ExecutionPlan.of(settings)),
        "model": recipe.model.model,
        "structure": sha256_of(_structure(job).encode()),
        "input": [recipe.preprocess.channels, *recipe.preprocess.image_size],
        "batch_size": settings.batch_size,
        "grad_accum_steps": settings.grad_accum_steps,
        "workers": settings.workers,
        "augment": list(settings.augment),
        "opt": settings.opt,
        "loss": settings.loss,
        "native": {**native_module.describe(), "instructions": settings.instructions},
    }


def _structure(job: Job) -> str:
    shapes = [f"{name} {tuple(tensor.shape)}" for name, tensor in job.model.state_dict().items()]
    return "\n".join([repr(job.model), *shapes])


def _device_name(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{exact_processor()}, {torch.backends.cpu.get_cpu_capability()}"


@contextmanager
def _kept(facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The measurements for these facts; additions are kept. One process at a time.

    Raises:
        FileError: the cache cannot be written.
    """
    folder = make_folder(cache_home() / "engines")
    path = folder / f"{sha256_of(json.dumps(facts, sort_keys=True).encode())[:32]}.json"
    with locked(path.with_suffix(".lock"), what=str(path)):
        kept = _read(path)
        known = set(kept)
        yield kept
        if set(kept) != known:
            write_json(path, {**kept, "for": facts})


def _read(path: Path) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_bytes())
        for name in {"measured", "duel", "compiled"}.intersection(kept):
            _measurement(kept[name])
        float(kept["seconds_a_step"])
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    return dict(kept)


def _measurement(kept: Mapping[str, Any]) -> Measurement:
    return Measurement(
        timings=tuple(
            Timing(**{**timing, "engine": ExecutionPlan(**timing["engine"])})
            for timing in kept["timings"]
        ),
        left_out=tuple((ExecutionPlan(**one), reason) for one, reason in kept["left_out"]),
        seconds=kept["seconds"],
        interruptions=kept["interruptions"],
    )
