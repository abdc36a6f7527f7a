"""The package's own source: nothing in it unpickles, evaluates or starts what a file says."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import sartor

SOURCE = Path(sartor.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
MODULES |= {"yaml", "pty", "xmlrpc", "telnetlib", "ftplib"}
CALLS = {"eval", "exec", "compile", "__import__", "execfile"}
ALLOWED = {
    # Only for the class of an error that torch.load raises.
    ("models/weight_files.py", "import pickle"),
    # A network of the user's own: for who trained it, or with --trust.
    ("models/custom.py", "exec"),
    ("models/custom.py", "compile"),
    # The same in an exported program.
    ("bundle/program.py", "torch.export.load"),
}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call, with the dotted name of what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def literal(call: ast.Call, name: str) -> object:
    """The value of a keyword that is written out; None where it is not."""
    for one in call.keywords:
        if one.arg == name and isinstance(one.value, ast.Constant):
            return one.value.value
    return None


def faults(name: str, tree: ast.AST) -> Iterator[str]:
    """What a source file must not do."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        for one in names:
            if one.partition(".")[0] in MODULES and (name, f"import {one}") not in ALLOWED:
                yield f"imports {one}"
    for called, call in calls(tree):
        if (name, called) in ALLOWED:
            continue
        last = called.rpartition(".")[2]
        if called in CALLS:
            yield f"calls {called}"
        elif called == "torch.load" and literal(call, "weights_only") is not True:
            yield "torch.load without weights_only=True"
        elif called in ("np.load", "numpy.load") and literal(call, "allow_pickle") is not False:
            yield "np.load without allow_pickle=False"
        elif last == "read_array" and literal(call, "allow_pickle") is not False:
            yield "read_array without allow_pickle=False"
        elif called in ("torch.export.load", "torch.jit.load", "torch.package.PackageImporter"):
            yield f"calls {called}"
        elif called in ("os.system", "os.popen") or literal(call, "shell") is True:
            yield f"starts a shell: {called}"
        elif last in ("extractall", "extract", "unpack_archive"):
            yield f"unpacks whatever an archive says: {called}"
        elif called in ("tempfile.mktemp",):
            yield called


def test_no_file_of_the_package_loads_code() -> None:
    assert len(FILES) > 300
    for path in FILES:
        name = path.relative_to(SOURCE).as_posix()
        assert list(faults(name, ast.parse(path.read_text()))) == [], name


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load('x')",
        "torch.load('x', weights_only=False)",
        "np.load('x')",
        "np.load('x', allow_pickle=True)",
        "exec('x')",
        "eval('x')",
        "subprocess.run('x', shell=True)",
        "archive.extractall()",
        "torch.jit.load('x')",
    ],
)
def test_it_would_be_found(text: str) -> None:
    assert list(faults("x.py", ast.parse(text)))


def test_what_is_allowed_is_there() -> None:
    for name, what in ALLOWED:
        tree = ast.parse((SOURCE / name).read_text())
        found = {called for called, _ in calls(tree)}
        found |= {
            f"import {one.name}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for one in node.names
        }
        assert what in found


def test_pages_escape_what_they_are_given() -> None:
    """Every environment of templates escapes; what is marked safe is named here, by its room."""
    marking = set()
    for path in FILES:
        text = path.read_text()
        if "Environment(" in text:
            assert "autoescape=True" in text or "select_autoescape" in text, path
        if "Markup(" in text:
            marking.add(path.relative_to(SOURCE).parts[0])
    assert marking <= {"inspection", "reports", "web"}
