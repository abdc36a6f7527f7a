"""A recipe: the frozen, complete description of one training.

`Recipe` is what somebody asks for, with choices left open; `ResolvedRecipe` is what is done.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from inspect import get_annotations
from pathlib import Path
from typing import Any, Self

import tomli_w

from .data.augment import vocabulary
from .data.settings import (
    UNFIT_SETTINGS,
    DataSettings,
    PreprocessSettings,
    ResolvedData,
    ResolvedPreprocess,
)
from .errors import RecipeError, UsageError, unknown
from .files import read_document
from .models.settings import ModelSettings, is_setting
from .settings import build, fields_of
from .training.engine_changes import cut_at, parsed_engine_changes, with_engine_change
from .training.schedule import parsed_extensions, with_extension
from .training.settings import (
    BFLOAT16_INSTRUCTIONS,
    RETIRED_ENGINES,
    ResolvedTraining,
    TrainingSettings,
)

PARTS: Mapping[str, type] = {
    "data": DataSettings,
    "preprocess": PreprocessSettings,
    "model": ModelSettings,
    "training": TrainingSettings,
}
_DECIDED = {
    "data": tuple(get_annotations(ResolvedData)),
    "preprocess": tuple(get_annotations(ResolvedPreprocess)),
    "training": tuple(get_annotations(ResolvedTraining)),
}
"""The settings that a resolved recipe must decide: those that its parts declare again."""
_OPEN: tuple[object, ...] = (None, "auto", "all", "", ())
_ARRAY = re.compile(r"\[\n((?: +.*,\n)+)\]")
_LARGEST = 16 << 20
_HINT = "Correct the recipe or the flags; `sartor fit --help-all` lists every setting."


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to train on, what to train, and how. TOML on disk, one table a part."""

    data: DataSettings = field(default_factory=DataSettings)
    preprocess: PreprocessSettings = field(default_factory=PreprocessSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)

    @classmethod
    def from_tables(cls, tables: Mapping[str, Any]) -> Self:
        """A recipe from nested tables, such as parsed TOML.

        Raises:
            RecipeError: with every problem at once.
        """
        tables = _as_meant_then(tables)
        found = [unknown("table", name, PARTS) for name in tables if name not in PARTS]
        parts: dict[str, Any] = {}
        for name, part in PARTS.items():
            table = tables.get(name, {})
            if not isinstance(table, Mapping):
                found.append(f"[{name}] must be a table, not {table!r}")
                continue
            parts[name], problems = build(part, table, f"[{name}] ")
            found += problems
        if not found:
            found = list(_contradictions(cls(**parts)))
        if found:
            raise RecipeError(found, _HINT)
        return cls(**parts)

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """A recipe from TOML.

        Raises:
            RecipeError: the text is not TOML, or with every problem at once.
        """
        try:
            tables = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            # Mostly TOMLDecodeError; a number of 5,000 digits or 1,000 brackets fail differently.
            raise RecipeError(
                [f"the recipe is not valid TOML: {error}"], "Correct that line."
            ) from error
        return cls.from_tables(tables)

    def to_tables(self) -> dict[str, dict[str, Any]]:
        """Nested tables, without the settings that are None, which TOML cannot express."""
        return {
            name: {
                key: dict(value) if isinstance(value, Mapping) else value
                for key, value in vars(getattr(self, name)).items()
                if value is not None
            }
            for name in PARTS
        }

    def to_toml(self) -> str:
        """TOML that `from_toml` reads back to an equal recipe."""
        # Line breaks occur only in arrays, since those in strings are escaped.
        return _ARRAY.sub(_on_one_line, tomli_w.dumps(self.to_tables()))

    def with_settings(self, settings: Mapping[str, Any]) -> Recipe:
        """A recipe with some settings replaced, named like the flags: `epochs`, `lr`, ...

        A changed recipe is a wish again, even where this one is resolved.

        Raises:
            RecipeError: with every problem at once.
        """
        tables: dict[str, dict[str, Any]] = self.to_tables()
        places = setting_places()
        found = [unknown("setting", name, places) for name in settings if name not in places]
        for name, value in settings.items():
            if name in places and value is None:
                tables[places[name]].pop(name, None)
            elif name in places:
                tables[places[name]][name] = str(value) if isinstance(value, Path) else value
        try:
            recipe = Recipe.from_tables(tables)
        except RecipeError as error:
            raise RecipeError([*found, *error.problems], _HINT) from None
        if found:
            raise RecipeError(found, _HINT)
        return recipe

    def settings(self) -> dict[str, Any]:
        """Every setting by its flat name."""
        return {key: value for part in PARTS for key, value in vars(getattr(self, part)).items()}


@dataclass(frozen=True, kw_only=True)
class ResolvedRecipe(Recipe):
    """What is done: every choice of a recipe made. The training loop and a run's folder have these.

    `assembly.assemble` makes them from a recipe, a dataset, a split and a network; a run's
    recipe.toml holds one.
    """

    data: ResolvedData = field()
    preprocess: ResolvedPreprocess = field()
    training: ResolvedTraining = field()

    @classmethod
    def of(cls, recipe: Recipe) -> Self:
        """The same recipe as a resolved one.

        Raises:
            RecipeError: it leaves something to be decided.
        """
        undecided = [
            name
            for part, names in _DECIDED.items()
            for name in names
            if getattr(getattr(recipe, part), name) in _OPEN
        ]
        if undecided:
            raise RecipeError(
                [f"the recipe is not resolved; undecided: {', '.join(undecided)}"],
                "Train from it: sartor fit --recipe FILE resolves it.",
            )
        return cls(
            data=ResolvedData(**vars(recipe.data)),
            preprocess=ResolvedPreprocess(**vars(recipe.preprocess)),
            model=recipe.model,
            training=ResolvedTraining(**vars(recipe.training)),
        )

    @classmethod
    def from_tables(cls, tables: Mapping[str, Any]) -> Self:
        """A resolved recipe from nested tables, such as parsed TOML.

        Raises:
            RecipeError: with every problem at once, or it leaves something to be decided.
        """
        return cls.of(Recipe.from_tables(tables))

    def with_engine(
        self, *, memory_format: str, amp_dtype: str, threads: int, engine: str
    ) -> ResolvedRecipe:
        """With the engine that measuring chose; measuring needs a resolved recipe first."""
        return self._changed(
            memory_format=memory_format,
            amp_dtype=amp_dtype,
            threads=threads,
            engine=engine,
        )

    def with_engine_from(
        self, step: int, *, memory_format: str, amp_dtype: str, threads: int, engine: str
    ) -> ResolvedRecipe:
        """With another engine after so many steps; the recipe says what it was until then."""
        return self._changed(
            memory_format=memory_format,
            amp_dtype=amp_dtype,
            threads=threads,
            engine=engine,
            engine_changes=with_engine_change(self.training, step),
        )

    def without_engines_after(self, step: int) -> ResolvedRecipe:
        """With the engine that makes the update number `step` until the end."""
        return self._changed(**cut_at(self.training, step))

    def to_run_here(self, changes: Mapping[str, str]) -> ResolvedRecipe:
        """With another device, precision or engine, for a machine unlike the one that trained."""
        return self._changed(**changes) if changes else self

    def extended(self, epochs: int, step: int) -> ResolvedRecipe:
        """With another number of epochs, for a run that has made so many steps already.

        Raises:
            RecipeError: the other settings do not allow that number.
        """
        return self._changed(epochs=epochs, extensions=with_extension(self.training, step))

    def with_data_at(self, source: str, image_root: str | None) -> ResolvedRecipe:
        """For data that was moved since."""
        return self._changed(source=source, image_root=image_root)

    def with_lists(self, **paths: Path) -> ResolvedRecipe:
        """With a run's own copies of `exclude` and `fixes`; the folder is made last."""
        return self._changed(**{name: str(path) for name, path in paths.items()})

    def _changed(self, **settings: Any) -> ResolvedRecipe:
        return ResolvedRecipe.of(self.with_settings(settings))


@cache
def setting_places() -> dict[str, str]:
    """The part that each setting belongs to: {"epochs": "training", ...}."""
    return {name: part for part, kind in PARTS.items() for name, _, _ in fields_of(kind)}


def shipped_recipes() -> tuple[str, ...]:
    """Names of the recipes that come with the package."""
    folder = resources.files("sartor") / "recipes"
    return tuple(
        sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".toml"))
    )


def load_recipe(name_or_path: str | Path) -> Recipe:
    """A shipped recipe by name, or one from a TOML file.

    Raises:
        UsageError: no such recipe, or a file that cannot be read.
        RecipeError: with every problem at once.
    """
    name = str(name_or_path)
    path = Path(name)
    if name in shipped_recipes():
        return Recipe.from_toml(
            (resources.files("sartor") / "recipes" / f"{name}.toml").read_text("utf-8")
        )
    if path.suffix != ".toml" and not path.is_file():
        raise UsageError(
            unknown("recipe", name, shipped_recipes()).capitalize(),
            "Name a shipped recipe or the path of a .toml file.",
        )
    try:
        # Editors of Windows put a byte order mark first, which is not TOML.
        return Recipe.from_toml(read_document(path, _LARGEST).decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"Cannot read the recipe {path}: {reason}.", "Check the path.") from error


def _as_meant_then(tables: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tables of a recipe that was resolved before there was a setting, with what it was then.

    Black was behind all transparent areas, and ink was not looked for.
    """
    data, preprocess = tables.get("data"), tables.get("preprocess", {})
    if not (isinstance(data, Mapping) and isinstance(preprocess, Mapping)):
        return tables
    if not data.get("fingerprint"):
        return tables
    return {**tables, "preprocess": {"background": "black", "ink": "off", **preprocess}}


def _on_one_line(array: re.Match[str]) -> str:
    # Not at every line break that Unicode knows: those in strings are not escaped.
    lines = array[1].removesuffix("\n").split("\n")
    items = [line.strip(" ").removesuffix(",") for line in lines]
    return f"[{', '.join(items)}]"


def _contradictions(recipe: Recipe) -> Iterator[str]:
    """Settings that exclude each other: nothing that was asked for is silently ignored."""
    yield from _of_data(recipe)
    yield from _of_model_kwargs(recipe)
    yield from vocabulary.parse(recipe.training.augment)[1]
    yield from _of_optimizer(recipe.training)
    yield from _of_engine(recipe.training, resolved=bool(recipe.data.fingerprint))
    yield from _of_transfer(recipe)
    yield from _of_loss(recipe.training)
    yield from _of_schedule(recipe)
    yield from _of_preprocess(recipe)


def _of_data(recipe: Recipe) -> Iterator[str]:
    for name in UNFIT_SETTINGS.get(recipe.data.format, ()):
        if getattr(recipe.data, name) not in (None, ()):
            yield f"{name} means nothing for the format {recipe.data.format}"


def _of_model_kwargs(recipe: Recipe) -> Iterator[str]:
    for name, value in recipe.model.model_kwargs.items():
        numbers = value if isinstance(value, tuple) else (value,)
        finite = not any(isinstance(one, float) and not math.isfinite(one) for one in numbers)
        if not (isinstance(name, str) and is_setting(value) and finite):
            yield (
                f"{name} of model_kwargs must be true, false, a number, a word or a list of "
                f"numbers, not {value!r}"
            )


def _of_optimizer(training: TrainingSettings) -> Iterator[str]:
    if training.nesterov and not (training.opt == "sgd" and training.momentum > 0):
        yield "nesterov needs opt sgd and a momentum above 0"
    if training.momentum and training.opt not in ("sgd", "rmsprop"):
        yield f"momentum has no effect on {training.opt}, which has betas instead"
    if training.amp_dtype == "float16" and training.opt == "rmsprop":
        yield "amp_dtype float16 works with sgd, adam and adamw: rmsprop cannot leave out a step"
    if len(training.betas) != 2:
        yield f"betas must be two numbers, not {len(training.betas)}"


def _of_engine(training: TrainingSettings, *, resolved: bool) -> Iterator[str]:
    """A resolved recipe may name an engine that is gone, and gets another one first and then the
    instructions for it."""
    engine, instructions = training.engine, training.instructions
    if engine in RETIRED_ENGINES and not resolved:
        yield f"the engine {engine} is gone: leave engine out, which chooses native"
    if engine == "native" and training.memory_format == "channels-last":
        yield "the engine native keeps weights contiguous, not channels-last"
    if engine == "native" and training.amp_dtype == "float16":
        yield "the engine native computes in float32 or bfloat16, not in float16"
    if instructions != "auto" and not resolved:
        rounding = instructions in BFLOAT16_INSTRUCTIONS
        if engine not in ("auto", "native"):
            yield f"instructions are those of the engine native, not of {engine}"
        elif rounding and training.amp_dtype == "float32":
            yield f"instructions {instructions} multiply bfloat16, not float32"
        elif not rounding and engine == "native" and training.amp_dtype == "bfloat16":
            yield f"instructions {instructions} multiply float32, not bfloat16"
    if training.freeze_epochs and engine not in ("auto", "plain", "compiled"):
        yield f"freeze_epochs needs the engine plain or compiled, not {engine}"


def _of_transfer(recipe: Recipe) -> Iterator[str]:
    if recipe.training.transfer != "ladder":
        return
    if recipe.training.patience is not None:
        yield "patience means nothing for the ladder, which compares its last epoch: use finetune"
    if recipe.data.val_fraction == 0:
        yield "the ladder chooses on validation images: raise val_fraction, or use finetune"


def _of_loss(training: TrainingSettings) -> Iterator[str]:
    weights = training.class_weights
    if training.smoothing and training.loss != "cross-entropy":
        yield f"smoothing requires cross-entropy loss, not {training.loss}"
    if training.sampler == "balanced" and not training.shuffle:
        yield "sampler balanced has an order of its own: leave shuffle on"
    if training.sampler == "balanced" and isinstance(weights, str) and weights != "none":
        yield f"sampler balanced and class_weights {weights} make up for the same: use one"
    if training.effective_beta != TrainingSettings.effective_beta and weights != "effective":
        yield "effective_beta requires class_weights effective"


def _of_schedule(recipe: Recipe) -> Iterator[str]:
    training = recipe.training
    try:
        parsed_extensions(training.extensions)
        parsed_engine_changes(training.engine_changes)
    except ValueError as error:
        yield str(error)
    epochs, warmup = training.epochs, training.warmup_epochs
    if epochs != "auto" and warmup >= epochs:
        yield f"warmup_epochs ({warmup:g}) must be fewer than epochs ({epochs})"
    if training.min_lr and training.sched != "cosine":
        yield f"min_lr requires the schedule cosine, not {training.sched}"
    if training.min_lr > training.lr:
        yield f"min_lr ({training.min_lr:g}) must not exceed lr ({training.lr:g})"
    if recipe.data.val_fraction == 0 and training.patience is not None:
        yield "patience needs a validation split: raise val_fraction"


def _of_preprocess(recipe: Recipe) -> Iterator[str]:
    preprocess = recipe.preprocess
    if len(preprocess.image_size) > 2:
        yield "image_size must be one number, or height and width"
    if preprocess.value_range and not (
        len(preprocess.value_range) == 2 and preprocess.value_range[0] < preprocess.value_range[1]
    ):
        yield "value_range must be two numbers, the lower one first"
    if preprocess.channels == 2:
        yield "channels must be 1 or 3"
