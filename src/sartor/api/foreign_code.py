"""Recipes from files that name Python code: it runs only for those who vouch for it."""

from __future__ import annotations

import shlex
from pathlib import Path

from ..errors import UsageError
from ..files import sha256_of_file
from ..models.custom import is_custom
from ..recipe import Recipe
from ..runs.folder import RunFolder
from ..runs.trust import is_ours


def refuse_foreign_code(path: Path, recipe: Recipe) -> None:
    """Raise where a recipe's file names a Python file, and is not that of a run of this user.

    Raises:
        UsageError: it says what would run, and how it may.
    """
    model = recipe.model.model
    if not is_custom(model) or _is_of_own_run(path, recipe):
        return
    code = Path(model.rpartition(":")[0]).expanduser().absolute()
    sha256 = sha256_of_file(code)
    known = f" (SHA-256 {sha256})" if sha256 else ""
    raise UsageError(
        f"The recipe {path} names Python code, which training would run: {code}{known}.",
        f"Read the file; then name it yourself with --model {shlex.quote(model)}, or add --trust "
        "(in Python: trust=True).",
    )


def _is_of_own_run(path: Path, recipe: Recipe) -> bool:
    folder = RunFolder(path.absolute().parent)
    if path.name != folder.recipe_path.name or not folder.model_source_path.is_file():
        return False
    return is_ours(folder, recipe.to_tables()["model"])
