"""Every error that is raised says what to do, and has an exit code: read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import sartor
from sartor import errors

SOURCE = Path(sartor.__file__).parent
KINDS = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.SartorError)
}
WITH_A_HINT = {"MissingExtraError"}
"""They make their own."""
REASONS = "data/named/places.py"
"""Why one place of several failed: the error that lists all of them says what to do."""


def raised() -> Iterator[tuple[str, ast.Call]]:
    """Every place in the package where an error is made."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                name = node.func.id
                if name in KINDS and path.name != "errors.py":
                    yield f"{path.relative_to(SOURCE)}:{node.lineno}", node


def text_of(node: ast.expr) -> str | None:
    """What a literal says, with "x" for what is filled in; None for what is no literal."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(one) or "x" for one in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = text_of(node.left), text_of(node.right)
        return None if left is None or right is None else left + right
    return None


def test_every_error_says_what_to_do() -> None:
    places = list(raised())
    assert len(places) > 400
    for place, call in places:
        assert isinstance(call.func, ast.Name)
        if call.func.id in WITH_A_HINT or place.startswith(REASONS):
            continue
        if any(isinstance(one, ast.Starred) for one in call.args):
            continue
        needed = 3 if issubclass(KINDS[call.func.id], errors.Interrupted) else 2
        named = {one.arg for one in call.keywords}
        assert len(call.args) + len(named & {"hint"}) >= needed, place


def test_a_message_is_a_sentence_and_so_is_a_hint() -> None:
    for place, call in raised():
        for argument in call.args[:2]:
            text = text_of(argument)
            if text is None:
                continue
            assert text == text.strip(), place
            assert "\n" not in text, place
            assert text, place


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.__name__)
def test_every_kind_has_an_exit_code_and_a_reason_to_be(kind: type[errors.SartorError]) -> None:
    assert kind.__doc__
    if kind is not errors.Interrupted:
        assert kind.exit_code == (2 if issubclass(kind, errors.UsageError) else 1)
