"""The recipe: TOML there and back, every problem at once, and the nearest spelling."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_origin

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sartor.errors import RecipeError, UsageError
from sartor.recipe import (
    PARTS,
    Recipe,
    ResolvedRecipe,
    load_recipe,
    setting_places,
    shipped_recipes,
)
from sartor.settings import OneOf, Range, fields_of

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
"""NUL is in no path: a setting with it is refused."""
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
KWARGS = st.dictionaries(
    TEXT,
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | NUMBER
    | TEXT
    | st.lists(st.integers(-99, 99) | NUMBER, max_size=3),
    max_size=3,
)


def values(hint: Any, constraints: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    """Any value that a field accepts."""
    words = [one for one in constraints if isinstance(one, OneOf)]
    limits = next((one for one in constraints if isinstance(one, Range)), None)
    if words:
        return st.sampled_from(words[0].words)
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    if get_origin(hint) is tuple:
        return st.lists(values(get_args(hint)[0], constraints), max_size=3).map(tuple)
    if hint is float and limits:
        return st.floats(
            limits.low, min(limits.high, 1e300), exclude_min=limits.open_low, allow_nan=False
        )
    if hint is int and limits:
        return st.integers(int(limits.low), int(min(limits.high, 2**62)))
    plain = {bool: st.booleans(), str: TEXT, type(None): st.none(), float: NUMBER}
    if hint in plain:
        return plain[hint]
    return st.one_of(*(values(arm, constraints) for arm in get_args(hint)))


def parts() -> st.SearchStrategy[dict[str, dict[str, Any]]]:
    """Tables that are fine alone; together they may contradict each other."""
    tables = {}
    for part, kind in PARTS.items():
        fields = {
            name: KWARGS
            if get_origin(hint) is Mapping or name == "model_kwargs"
            else values(hint, cs)
            for name, hint, cs in fields_of(kind)
        }
        tables[part] = st.fixed_dictionaries({}, optional=fields)
    return st.fixed_dictionaries({}, optional=tables)


def accepted(tables: Mapping[str, Mapping[str, Any]]) -> Recipe | None:
    plain = {
        part: {key: value for key, value in table.items() if value is not None}
        for part, table in tables.items()
    }
    try:
        return Recipe.from_tables(plain)
    except RecipeError:
        return None


class TestRoundTrip:
    @pytest.mark.parametrize("name", shipped_recipes())
    def test_of_every_recipe_that_ships(self, name: str) -> None:
        recipe = load_recipe(name)
        assert Recipe.from_toml(recipe.to_toml()) == recipe
        if name not in ("digits", "finetune", "pictures", "plain"):  # for images of any source
            assert recipe.data.source in ("mnist", "fashion-mnist")

    @settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
    @given(parts())
    def test_of_any_recipe(self, tables: dict[str, dict[str, Any]]) -> None:
        recipe = accepted(tables)
        if recipe is None:
            tables.pop("training", None)
            tables.pop("preprocess", None)
            tables.pop("data", None)
            recipe = accepted(tables)
        assert recipe is not None
        again = Recipe.from_toml(recipe.to_toml())
        assert again == recipe
        assert same_types(again.settings(), recipe.settings())
        assert again.to_toml() == recipe.to_toml()

    def test_of_the_default_is_all_written_out(self) -> None:
        """Complete: the file names every setting that has a value."""
        text = Recipe().to_toml()
        for name, value in Recipe().settings().items():
            assert (f"\n{name} = " in text) == (value is not None and value != {}), name

    def test_lists_stand_on_one_line(self) -> None:
        recipe = Recipe().with_settings({"model_kwargs": {"hidden": [1, 2], "a]": "[\n  1,\n]"}})
        assert "hidden = [1, 2]" in recipe.to_toml()
        assert Recipe.from_toml(recipe.to_toml()) == recipe

    @pytest.mark.parametrize("value", [np.float64(0.1), np.float32(0.25).item(), 1, 0.1 + 0.2])
    def test_numbers_of_numpy_are_numbers(self, value: float) -> None:
        recipe = Recipe().with_settings({"lr": value})
        assert Recipe.from_toml(recipe.to_toml()).training.lr == value


def same_types(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, Mapping):
        return all(same_types(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, tuple):
        return type(ours) is type(theirs) and all(map(same_types, ours, theirs))
    return type(ours) is type(theirs)


def problems_of(tables: Mapping[str, Any]) -> tuple[str, ...]:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_tables(tables)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    return caught.value.problems


class TestProblems:
    def test_are_found_all_at_once_with_the_nearest_spelling(self) -> None:
        assert problems_of(
            {
                "trainig": {},
                "data": {"sorce": "digits", "val_fraction": 0.95},
                "preprocess": 5,
                "model": {"model": 7},
                "training": {
                    "epoch": 5,
                    "opt": "adamm",
                    "lr": "fast",
                    "batch_size": 0,
                    "class_weights": "equal",
                },
            }
        ) == (
            'unknown table "trainig"; did you mean "training"?',
            'unknown [data] key "sorce"; did you mean "source"?',
            "val_fraction must be at least 0 and at most 0.9, not 0.95",
            "[preprocess] must be a table, not 5",
            "model must be a word, not 7",
            'unknown [training] key "epoch"; did you mean "epochs"?',
            'unknown optimizer "adamm"; did you mean "adam"?',
            "lr must be a number, not 'fast'",
            "batch_size must be at least 1 and at most 10000000, not 0",
            'class_weights must be "none" or "balanced" or "effective" or a list, each a number, '
            "not 'equal'",
        )

    @pytest.mark.parametrize(
        ("tables", "sentence"),
        [
            (
                {"training": {"nesterov": True, "opt": "sgd"}},
                "nesterov needs opt sgd and a momentum",
            ),
            (
                {"training": {"nesterov": True, "opt": "rmsprop", "momentum": 0.9}},
                "nesterov needs opt sgd",
            ),
            ({"training": {"opt": "adam", "momentum": 0.9}}, "momentum has no effect on adam,"),
            ({"training": {"momentum": 0.9}}, "momentum has no effect on adamw,"),
            ({"training": {"betas": [0.9]}}, "betas must be two numbers, not 1"),
            ({"training": {"betas": [0.9, 0.9, 0.9]}}, "betas must be two numbers, not 3"),
            (
                {"training": {"smoothing": 0.1, "loss": "mse"}},
                "smoothing requires .*, not mse",
            ),
            (
                {"training": {"warmup_epochs": 5, "epochs": 5}},
                r"warmup_epochs \(5\) must be fewer than epochs \(5\)",
            ),
            (
                {"training": {"min_lr": 0.1, "lr": 0.01}},
                r"min_lr \(0.1\) must not exceed lr \(0.01\)",
            ),
            (
                {"training": {"patience": 3}, "data": {"val_fraction": 0}},
                "patience needs a validation split",
            ),
            (
                {"training": {"sampler": "balanced", "shuffle": False}},
                "sampler balanced has an order of its own",
            ),
            (
                {"training": {"sampler": "balanced", "class_weights": "effective"}},
                "sampler balanced and class_weights effective make up for the same",
            ),
            ({"training": {"effective_beta": 0.9}}, "effective_beta requires class_weights"),
            ({"preprocess": {"image_size": [1, 2, 3]}}, "image_size must be one number, or height"),
            ({"preprocess": {"channels": 2}}, "channels must be 1 or 3"),
        ],
    )
    def test_of_settings_that_contradict_each_other(
        self, tables: dict[str, Any], sentence: str
    ) -> None:
        with pytest.raises(RecipeError, match=sentence):
            Recipe.from_tables(tables)

    def test_contradictions_come_together_too(self) -> None:
        found = problems_of(
            {"training": {"nesterov": True, "betas": []}, "preprocess": {"channels": 2}}
        )
        assert len(found) == 3

    @pytest.mark.parametrize(
        "training",
        [
            {"nesterov": True, "opt": "sgd", "momentum": 0.9},
            {"opt": "rmsprop", "momentum": 0.9},
            {"smoothing": 0.1},
            {"warmup_epochs": 4.9, "epochs": 5},
            {"min_lr": 0.01, "lr": 0.01},
            {"patience": 3},
            {"sampler": "balanced"},
            {"sampler": "balanced", "class_weights": [1, 2]},
            {"class_weights": "effective", "effective_beta": 0.9},
        ],
    )
    def test_what_goes_together_is_accepted(self, training: dict[str, Any]) -> None:
        assert accepted({"training": training}) is not None

    @pytest.mark.parametrize(
        "text",
        [
            "[training\nepochs = 5",
            "epochs 5",
            "[training]\nlr = " + "9" * 5_000,
            "[training]\nlr = " + "[" * 3_000,
            "\0",
        ],
        ids=["bracket", "word", "digits", "depth", "zero"],
    )
    def test_of_a_text_that_is_no_toml(self, text: str) -> None:
        with pytest.raises(RecipeError, match="not valid TOML"):
            Recipe.from_toml(text)

    @pytest.mark.parametrize("name", ["mean", "std", "lr", "momentum", "val_fraction"])
    @pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1" + "0" * 400])
    def test_of_numbers_that_are_none(self, name: str, value: str) -> None:
        with pytest.raises(RecipeError, match=f"{name} must be"):
            Recipe.from_toml(f"[{setting_places()[name]}]\n{name} = {value}")

    @given(st.text(max_size=30))
    def test_any_text_is_a_recipe_or_refused(self, text: str) -> None:
        try:
            Recipe.from_toml(text)
        except RecipeError as error:
            assert error.problems  # noqa: PT017


class TestWithSettings:
    def test_replaces_what_is_named_and_nothing_else(self) -> None:
        base = Recipe()
        changed = base.with_settings({"epochs": 3, "val_fraction": 0.2, "image_size": 14, "lr": 1})
        assert changed.training == dataclasses.replace(base.training, epochs=3, lr=1.0)
        assert changed.data == dataclasses.replace(base.data, val_fraction=0.2)
        assert changed.preprocess.image_size == (14,)
        assert base == Recipe()

    def test_none_means_the_default(self) -> None:
        chosen = Recipe().with_settings({"patience": 3, "lr": 0.5})
        assert chosen.with_settings({"patience": None, "lr": None}) == Recipe()

    def test_finds_unknown_settings_and_wrong_values_together(self) -> None:
        with pytest.raises(RecipeError) as caught:
            Recipe().with_settings({"epoch": 5, "lr": -1, "smothing": 0.1, "nesterov": 1})
        assert caught.value.problems == (
            'unknown setting "epoch"; did you mean "epochs"?',
            'unknown setting "smothing"; did you mean "smoothing"?',
            "lr must be greater than 0 and at most 1000, not -1",
            "nesterov must be true or false, not 1",
        )

    def test_is_what_from_tables_makes(self) -> None:
        tables = {"training": {"opt": "sgd"}, "model": {"model_kwargs": {"hidden": [3, 4]}}}
        flat = {"opt": "sgd", "model_kwargs": {"hidden": [3, 4]}}
        assert Recipe().with_settings(flat) == Recipe.from_tables(tables)

    def test_every_setting_has_one_place(self) -> None:
        """Flat names would otherwise set the wrong one."""
        names = [name for kind in PARTS.values() for name, _, _ in fields_of(kind)]
        assert len(names) == len(set(names)) == len(setting_places())
        assert Recipe().settings().keys() == setting_places().keys()


class TestFrozen:
    def test_fields_cannot_be_set(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            Recipe().training.epochs = 3  # type: ignore[misc]

    def test_a_table_given_in_stays_apart(self) -> None:
        kwargs = {"hidden": [3]}
        recipe = Recipe().with_settings({"model_kwargs": kwargs})
        kwargs["dropout"] = 0.5  # type: ignore[assignment]
        assert recipe.model.model_kwargs == {"hidden": (3,)}

    def test_a_table_given_out_stays_apart(self) -> None:
        recipe = Recipe().with_settings({"model_kwargs": {"hidden": [3]}})
        recipe.to_tables()["model"]["model_kwargs"]["dropout"] = 0.5
        assert recipe.model.model_kwargs == {"hidden": (3,)}


class TestLoading:
    def test_a_shipped_one_by_name(self) -> None:
        recipe = load_recipe("fashion-cnn")
        assert recipe.model.model_kwargs["channels"] == (6, 12)
        assert recipe.training.batch_size == 100

    def test_a_file(self, tmp_path: Path) -> None:
        file = tmp_path / "mine.toml"
        file.write_text("[training]\nepochs = 4\n")
        assert load_recipe(file).training.epochs == 4
        assert load_recipe(str(file)) == load_recipe(file)

    def test_a_file_from_windows(self, tmp_path: Path) -> None:
        file = tmp_path / "mine.toml"
        file.write_bytes("\ufeff[training]\r\nepochs = 4\r\n".encode())
        assert load_recipe(file).training.epochs == 4

    def test_a_file_of_another_suffix(self, tmp_path: Path) -> None:
        file = tmp_path / "mine.txt"
        file.write_text("[training]\nepochs = 4\n")
        assert load_recipe(file).training.epochs == 4

    def test_a_name_that_is_none(self) -> None:
        with pytest.raises(
            UsageError, match='Unknown recipe "mnist-mpl"; did you mean "mnist-mlp"'
        ):
            load_recipe("mnist-mpl")

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"Cannot read the recipe .*none\.toml: No such file"):
            load_recipe(tmp_path / "none.toml")

    def test_a_file_that_is_no_text(self, tmp_path: Path) -> None:
        file = tmp_path / "mine.toml"
        file.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(UsageError, match="it is not text"):
            load_recipe(file)


class TestResolved:
    """What is done is a recipe with every choice made."""

    CHOICES: ClassVar[dict[str, Any]] = {
        "fingerprint": "f" * 64,
        "image_size": (8, 8),
        "channels": 1,
        "background": "white",
        "ink": "off",
        "mean": (0.5,),
        "std": (0.25,),
        "device": "cpu",
        "memory_format": "contiguous",
        "threads": 2,
        "engine": "plain",
    }

    def resolved(self, **settings: Any) -> ResolvedRecipe:
        return ResolvedRecipe.of(Recipe().with_settings(self.CHOICES | settings))

    def test_says_and_reads_what_the_recipe_says(self) -> None:
        wish = Recipe().with_settings(self.CHOICES)
        recipe = ResolvedRecipe.of(wish)
        assert recipe.settings() == wish.settings()
        assert recipe.to_toml() == wish.to_toml()
        assert ResolvedRecipe.from_toml(recipe.to_toml()) == recipe

    # Without a background or a way with ink a resolved recipe is from before there was one.
    @pytest.mark.parametrize("name", sorted(CHOICES.keys() - {"background", "ink"}))
    def test_refuses_each_choice_that_is_open(self, name: str) -> None:
        text = Recipe().with_settings({**self.CHOICES, name: None}).to_toml()
        with pytest.raises(RecipeError, match=f"the recipe is not resolved; undecided: {name}"):
            ResolvedRecipe.from_toml(text)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("epochs", "auto"),
            ("batch_size", "all"),
            ("amp_dtype", "auto"),
            ("background", "auto"),
            ("ink", "auto"),
        ],
    )
    def test_refuses_words_that_stand_for_a_choice(self, name: str, value: str) -> None:
        with pytest.raises(RecipeError, match=f"undecided: {name}"):
            self.resolved(**{name: value})

    def test_names_all_open_choices_at_once(self) -> None:
        with pytest.raises(RecipeError) as caught:
            ResolvedRecipe.of(Recipe())
        assert all(name in str(caught.value) for name in self.CHOICES)

    def test_stays_resolved_with_an_engine_or_more_epochs(self) -> None:
        recipe = self.resolved()
        engine = {"memory_format": "channels-last", "amp_dtype": "bfloat16", "threads": 1}
        faster = recipe.with_engine(engine="compiled", **engine)
        assert isinstance(faster, ResolvedRecipe)
        assert faster == self.resolved(engine="compiled", **engine)
        assert recipe.extended(7, 0) == self.resolved(epochs=7)
        before = ("10 epochs until step 30",)
        assert recipe.extended(7, 30) == self.resolved(epochs=7, extensions=before)
        assert self.resolved(warmup_epochs=2).extended(3, 0).training.epochs == 3
        with pytest.raises(RecipeError, match="warmup_epochs"):
            self.resolved(warmup_epochs=2).extended(1, 0)

    def test_that_is_changed_is_a_wish_again(self) -> None:
        assert type(self.resolved().with_settings({"epochs": "auto"})) is Recipe


def test_a_path_of_a_program_is_a_word() -> None:
    assert Recipe().with_settings({"fixes": Path("fixes.csv")}).data.fixes == "fixes.csv"


def test_words_may_hold_every_line_break_of_unicode() -> None:
    recipe = Recipe().with_settings({"split_words": ("\x85", "a\u2028b", "\x0b")})
    assert Recipe.from_toml(recipe.to_toml()) == recipe
