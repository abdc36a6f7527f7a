"""The tree of errors: exit codes, hints, nearest spellings."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from sartor import errors

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.SartorError)
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_exit_codes(kind: Any) -> None:
    if kind is errors.Interrupted:
        assert kind(signal.SIGINT, "Stopped.").exit_code == 130
        assert kind(signal.SIGTERM, "Stopped.").exit_code == 143
    elif kind is errors.MissingExtraError:
        assert kind("This", "library", "extra").exit_code == 1
    else:
        error = kind(["wrong"], "Do this.")
        assert error.exit_code == (2 if issubclass(kind, errors.UsageError) else 1)


def test_the_tree_in_the_docstring_is_the_real_one() -> None:
    drawn: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if "── " in line:
            name = line.split("── ")[1].split()[0]
            depth = line.index("── ") // 4
            parent = drawn[depth - 2] if depth > 1 else "SartorError"
            drawn[depth - 1 :] = [name]
            assert getattr(errors, name).__bases__[0].__name__ == parent
    words = set((errors.__doc__ or "").split())
    assert {kind.__name__ for kind in KINDS} <= words


def test_text_is_message_and_hint() -> None:
    error = errors.DataError("It is wrong.", "Do this.")
    assert (error.message, error.hint, str(error)) == ("It is wrong.", "Do this.", error.args[0])
    assert str(error) == "It is wrong. Do this."
    assert str(errors.DataError("It is wrong.")) == "It is wrong."


def test_a_missing_library_comes_with_the_command_that_installs_it() -> None:
    error = errors.MissingExtraError("A map by umap", "umap-learn", "maps")
    assert error.message == "A map by umap needs umap-learn, which is not installed."
    assert "pip install 'sartor[maps]'" in error.hint


def test_a_recipe_error_lists_every_problem() -> None:
    error = errors.RecipeError(["a is wrong", "b too"], "Correct them.")
    assert error.problems == ("a is wrong", "b too")
    assert str(error) == "a is wrong; b too. Correct them."


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("lent", 'did you mean "lenet"?'),
        ("LeNet", 'did you mean "lenet"?'),
        ("mpl", 'did you mean "mlp"?'),
        ("vgg", "known: lenet, linear, mlp"),
        ("", "known: lenet, linear, mlp"),
    ],
)
def test_unknown_names_the_nearest_or_all(name: str, advice: str) -> None:
    known = ["mlp", "linear", "lenet"]
    assert errors.unknown("model", name, known) == f'unknown model "{name}"; {advice}'


def test_interrupted_names_its_signal() -> None:
    assert errors.Interrupted(signal.SIGTERM, "Stopped.").signal_name == "SIGTERM"
