"""Imports point one way: every import counts, also inside functions and under TYPE_CHECKING."""

from __future__ import annotations

import importlib.util
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


def _import_graph() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "import_graph", ROOT / "benchmarks" / "import_graph.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


import_graph = _import_graph()
GRAPH: dict[str, set[str]] = import_graph.import_graph(
    import_graph.module_paths(ROOT / "src", "sartor")
)
LAYERS: list[dict[str, Any]] = [
    contract
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "importlinter"
    ]["contracts"]
    if contract["type"] == "layers"
]


def package_with(folder: Path, files: dict[str, str]) -> dict[str, set[str]]:
    for name, text in files.items():
        path = folder / "pack" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    found: dict[str, set[str]] = import_graph.import_graph(
        import_graph.module_paths(folder, "pack")
    )
    return found


class TestTheGraph:
    def test_every_kind_of_import_counts(self, tmp_path: Path) -> None:
        files = {
            "__init__.py": "",
            "a.py": "from . import b\nimport pack.c\nfrom pack.room import inner\n",
            "b.py": "def f():\n    from .c import thing\n",
            "c.py": "if TYPE_CHECKING:\n    from .room.inner import Thing\n",
            "room/__init__.py": "from .inner import Thing\n",
            "room/inner.py": "from ..d import Thing\nimport json\n",
            "d.py": "",
        }
        assert package_with(tmp_path, files) == {
            "pack": set(),
            "pack.a": {"pack.b", "pack.c", "pack.room.inner"},
            "pack.b": {"pack.c"},
            "pack.c": {"pack.room.inner"},
            "pack.room": {"pack.room.inner"},
            "pack.room.inner": {"pack.d"},
            "pack.d": set(),
        }

    def test_circles_are_found_whole_and_chains_are_not_circles(self) -> None:
        graph = {
            "a": {"b"},
            "b": {"c"},
            "c": {"a", "d"},
            "d": {"e"},
            "e": {"d", "f"},
            "f": set(),
            "g": {"a", "f"},
        }
        assert import_graph.circles(graph) == [["a", "b", "c"], ["d", "e"]]

    def test_the_whole_package_is_read(self) -> None:
        assert len(GRAPH) > 150
        assert "sartor.errors" in GRAPH["sartor.files"]


def test_no_circle_of_files() -> None:
    assert not import_graph.circles(GRAPH)


@pytest.mark.parametrize("parent", ["sartor", "sartor.api", "sartor.data", "sartor.training"])
def test_no_circle_of_rooms(parent: str) -> None:
    rooms = import_graph.rooms(GRAPH, parent)
    assert not import_graph.circles({room: set(arrows) for room, arrows in rooms.items()})


@pytest.mark.parametrize(
    ("parent", "layers"),
    [(parent, one["layers"]) for one in LAYERS for parent in one["containers"]],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_layers_import_only_what_lies_below(parent: str, layers: list[str]) -> None:
    floor = {
        name.strip(" ()"): -height
        for height, layer in enumerate(layers)
        for name in layer.replace(":", "|").split("|")
    }
    rooms = import_graph.rooms(GRAPH, parent)
    assert not set(rooms) - set(floor), "every room has its layer in pyproject.toml"
    upward = [
        f"{parent}.{room} imports {parent}.{other}"
        for room, arrows in rooms.items()
        for other in arrows
        if floor[other] >= floor[room]
    ]
    assert not upward


def test_layers_are_held_for_the_package_and_for_data() -> None:
    assert {"sartor", "sartor.data"} <= {parent for one in LAYERS for parent in one["containers"]}
