"""Settings of a model: their words, their types, their defaults, their problems."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from typing import Literal

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from sartor.errors import ModelError, RecipeError, UsageError
from sartor.models import registry
from sartor.models.settings import ModelSettings, Setting, fitted, parse_model_kwargs


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("hidden=512,512", (512, 512)),
        ("hidden=512,", (512,)),
        ("hidden=512", 512),
        ("hidden=[512,256]", (512, 256)),
        ("hidden=[512]", (512,)),
        ("hidden=()", ()),
        ("dropout=0.2", 0.2),
        ("scales=0.5,2", (0.5, 2)),
        ("rate=1e-3", 1e-3),
        ("bias=true", True),
        ("bias=False", False),
        ("act=gelu", "gelu"),
        ("act=a=b", "a=b"),
        ("names=a,2", "a,2"),
        ("rate=nan", "nan"),
        ("text=(", "("),
    ],
)
def test_a_word_is_read_as_what_it_spells(word: str, value: Setting) -> None:
    key = word.partition("=")[0]
    settings = parse_model_kwargs([word])
    assert settings == {key: value}
    assert type(settings[key]) is type(value)


_numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)


@given(_numbers | st.booleans() | st.lists(_numbers, min_size=1).map(tuple))
def test_a_word_is_read_back_as_what_was_written(value: Setting) -> None:
    text = ",".join(map(str, value)) + "," if isinstance(value, tuple) else str(value)
    assert parse_model_kwargs([f"key={text}"]) == {"key": value}


@pytest.mark.parametrize("word", ["hidden", "=3", "hidden=", "2x=3", "", "a b=3"])
def test_a_malformed_word_is_named(word: str) -> None:
    with pytest.raises(UsageError, match="not of the form key=value") as caught:
        parse_model_kwargs(["dropout=0.2", word])
    assert f'"{word}"' in caught.value.message
    assert caught.value.exit_code == 2


def test_a_setting_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match='"hidden" is given twice'):
        parse_model_kwargs(["hidden=3", "hidden=4"])


def test_lists_become_tuples() -> None:
    settings = ModelSettings(model="mlp", model_kwargs={"hidden": [3, 4]})  # type: ignore[dict-item]
    assert settings == ModelSettings(model="mlp", model_kwargs={"hidden": (3, 4)})


def test_nothing_is_mutated() -> None:
    given_kwargs = {"hidden": [3, 4]}
    registry.resolve_kwargs("mlp", given_kwargs)
    settings = ModelSettings(model_kwargs=given_kwargs)  # type: ignore[arg-type]
    given_kwargs["hidden"] = [5]
    assert settings.model_kwargs == {"hidden": (3, 4)}


def test_resolving_fills_defaults_and_coerces() -> None:
    assert registry.resolve_kwargs("mlp", {}) == ({"hidden": (512, 512), "dropout": 0.0}, [])
    settings, problems = registry.resolve_kwargs("mlp", {"hidden": 64, "dropout": 0})
    assert problems == []
    assert settings == {"hidden": (64,), "dropout": 0.0}
    assert isinstance(settings["dropout"], float)
    assert registry.resolve_kwargs("linear", {}) == ({}, [])


@pytest.mark.parametrize(
    ("annotation", "value", "setting"),
    [
        (float, 1, 1.0),
        (tuple[float, ...], 1, (1.0,)),
        (tuple[int, int], (1, 2), (1, 2)),
        (int | None, 3, 3),
        (Literal["relu", "gelu"], "gelu", "gelu"),
        (str, 7, "7"),
        (str, True, "true"),
        (None, "anything", "anything"),
        (list[int], (1, 2), (1, 2)),
        ("Unknown", 3, 3),
    ],
)
def test_a_value_fits_the_annotation_of_its_parameter(
    annotation: object, value: object, setting: Setting
) -> None:
    result = fitted(value, annotation)
    assert result == setting
    assert type(result) is type(setting)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, True),
        (bool, 1),
        (int | None, None),  # no recipe can hold it
        (Literal["relu", "gelu"], "tanh"),
        (tuple[int, ...], ("a",)),
        (list[int], {"a": 1}),
        (None, (True, 2)),
    ],
)
def test_a_value_that_does_not_fit_is_refused(annotation: object, value: object) -> None:
    with pytest.raises(ValueError, match=r"^must be .*, not "):
        fitted(value, annotation)


@pytest.mark.parametrize("name", registry.names())
def test_resolved_settings_survive_toml_and_json(name: str) -> None:
    settings, _ = registry.resolve_kwargs(name, {})
    for back in (tomllib.loads(tomli_w.dumps(settings)), json.loads(json.dumps(settings))):
        assert registry.resolve_kwargs(name, back) == (settings, [])


@pytest.mark.parametrize(
    ("model", "key", "value", "problem"),
    [
        ("mlp", "hiden", 3, 'unknown setting of mlp "hiden"; did you mean "hidden"?'),
        ("mlp", "zzz", 3, 'unknown setting of mlp "zzz"; known: dropout, hidden'),
        ("linear", "hidden", 3, 'linear has no settings, so "hidden" cannot be set'),
        ("mlp", "num_classes", 3, "num_classes of mlp comes from the data and cannot be set"),
        ("mlp", "dropout", "abc", "dropout of mlp must be a number, not 'abc'"),
        ("mlp", "dropout", True, "must be a number, not True"),
        ("mlp", "dropout", 1, "dropout of mlp must be at least 0 and at most 0.99, not 1"),
        ("mlp", "dropout", -0.1, "must be at least 0 and at most 0.99, not -0.1"),
        ("mlp", "dropout", float("nan"), "must be at least 0 and at most 0.99, not nan"),
        ("mlp", "hidden", (512, 0), "hidden of mlp must be at least 1, not 0"),
        ("mlp", "hidden", [2.5], "must be a list, each a whole number, not (2.5,)"),
        ("mlp", "hidden", "a,b", "must be a list, each a whole number, not 'a,b'"),
        ("mlp", "hidden", None, "must be a list, each a whole number, not None"),
        ("lenet", "kernel", 5.0, "kernel of lenet must be a whole number, not 5.0"),
        ("lenet", "kernel", [], "must be a whole number, not ()"),
        ("lenett", "kernel", 5, 'unknown model "lenett"; did you mean "lenet"?'),
    ],
)
def test_a_problem_is_clear(model: str, key: str, value: object, problem: str) -> None:
    _, problems = registry.resolve_kwargs(model, {key: value})
    assert len(problems) == 1
    assert problem in problems[0]
    assert not problems[0].endswith(".")


def test_all_problems_are_found_at_once() -> None:
    wrong = {"hiden": 3, "dropout": "abc", "hidden": 0}
    assert len(registry.resolve_kwargs("mlp", wrong)[1]) == 3
    with pytest.raises(RecipeError) as caught:
        registry.build_model("mlp", input_shape=(1, 8, 8), num_classes=2, kwargs=wrong)
    assert len(caught.value.problems) == 3


def test_an_unknown_model_is_a_wrong_usage() -> None:
    with pytest.raises(UsageError, match='did you mean "lenet"'):
        registry.build_model("LeNet5", input_shape=(1, 8, 8), num_classes=2, kwargs={})
    with pytest.raises(UsageError, match=r"known: convnet, efficientnet-lite0, .*, lenet, linear"):
        registry.build_model("zzz", input_shape=(1, 8, 8), num_classes=2, kwargs={})


@pytest.mark.parametrize(
    ("shape", "num_classes"), [((1, 0, 8), 10), ((1, 8, 8), 0), ((28, 28), 10)]
)
def test_no_network_without_pixels_or_classes(shape: tuple[int, ...], num_classes: int) -> None:
    with pytest.raises(ModelError, match="Cannot build a network for images of shape"):
        registry.build_model(
            "linear",
            input_shape=shape,  # type: ignore[arg-type]
            num_classes=num_classes,
            kwargs={},
        )


def test_a_network_too_large_for_any_machine_is_refused_in_a_sentence() -> None:
    with pytest.raises(ModelError, match='Model "mlp" cannot be built') as caught:
        registry.build_model(
            "mlp", input_shape=(1, 28, 28), num_classes=10, kwargs={"hidden": 10**15}
        )
    assert "hidden=(1000000000000000,)" in caught.value.hint


def test_settings_and_the_table_of_names_need_no_torch() -> None:
    code = (
        "import sys; from sartor.models import registry, settings, custom; registry.names();"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_entry_is_described_in_one_line() -> None:
    for entry in registry.MODELS.values():
        assert 10 < len(entry.description) <= 70
        assert "\n" not in entry.description
