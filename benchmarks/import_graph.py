"""Shows how the code hangs together: which room imports which, circles, lines, longest functions.

    python benchmarks/import_graph.py [CHECKOUT] [--rooms sartor sartor.data]

Reads the files only, so that any checkout can be shown, and counts every import: also those inside
functions and those for the type checker.
"""

from __future__ import annotations

import argparse
import ast
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

Graph = Mapping[str, set[str]]
"""By the name of each module, the modules that it imports."""


@dataclass(frozen=True, kw_only=True)
class Function:
    """How long a function is, with its docstring and the lines of functions inside it."""

    name: str
    lines: int


def module_paths(source: Path, package: str) -> dict[str, Path]:
    """The file of every module below `source`/`package`, by the module's full name."""
    found = {}
    for path in sorted((source / package).rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def import_graph(paths: Mapping[str, Path]) -> dict[str, set[str]]:
    """What every module imports of the others, wherever in the file it says so."""
    return {name: set(_imported(name, path, paths)) - {name} for name, path in paths.items()}


def _imported(module: str, path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                if inner in known:
                    yield inner
                elif base in known:
                    yield base


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    above = ".".join(parts[: len(parts) - node.level + 1])
    return f"{above}.{node.module}" if node.module else above


def circles(graph: Graph) -> list[list[str]]:
    """Groups of modules that each reach every other of the group; the largest first (Tarjan)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    waiting: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        order[module] = lowest[module] = len(order)
        waiting.append(module)
        for other in sorted(graph[module]):
            if other not in order:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in waiting:
                lowest[module] = min(lowest[module], order[other])
        if lowest[module] == order[module]:
            start = waiting.index(module)
            group = waiting[start:]
            del waiting[start:]
            if len(group) > 1:
                found.append(sorted(group))

    for module in graph:
        if module not in order:
            visit(module)
    return sorted(found, key=lambda group: (-len(group), group))


def rooms(graph: Graph, parent: str) -> dict[str, Counter[str]]:
    """For each child of `parent`, how many imports its modules have of each other child."""
    found: dict[str, Counter[str]] = {}
    for module, imported in graph.items():
        if (room := _room(module, parent)) is None:
            continue
        arrows = found.setdefault(room, Counter())
        arrows.update(
            other for name in imported if (other := _room(name, parent)) not in (None, room)
        )
    return found


def _room(module: str, parent: str) -> str | None:
    if not module.startswith(f"{parent}."):
        return None
    return module.removeprefix(f"{parent}.").partition(".")[0]


def functions(path: Path, module: str) -> Iterator[Function]:
    """Every function and method of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            yield Function(name=f"{module}.{node.name}", lines=length)


def _print_rooms(graph: Graph, parent: str) -> None:
    found = rooms(graph, parent)
    print(f"\nRooms of {parent}, with the number of imports:")
    for room in sorted(found, key=lambda room: (-len(found[room]), room)):
        arrows = ", ".join(f"{other} {count}" for other, count in sorted(found[room].items()))
        print(f"  {room:<14} -> {arrows or '(nothing)'}")
    _print_circles("of rooms", circles({room: set(arrows) for room, arrows in found.items()}))


def _print_circles(noun: str, found: Iterable[list[str]]) -> None:
    found = list(found)
    print(f"  circles {noun}: {len(found) or 'none'}")
    for group in found:
        print(f"    {len(group)}: {', '.join(group)}")


def _print_sizes(paths: Mapping[str, Path], longest: int) -> None:
    lines = {
        name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in paths.items()
    }
    print(f"\nLines: {sum(lines.values()):,} in {len(lines)} files; the longest:")
    for name, count in Counter(lines).most_common(longest):
        print(f"  {count:>5}  {name}")
    every = [one for name, path in paths.items() for one in functions(path, name)]
    median = statistics.median(one.lines for one in every)
    print(f"\nFunctions: {len(every):,}, median {median:.0f} lines; the longest:")
    for one in sorted(every, key=lambda one: (-one.lines, one.name))[:longest]:
        print(f"  {one.lines:>5}  {one.name}")


def main() -> None:
    """Print the graph of a checkout."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("checkout", nargs="?", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--package", default="sartor")
    parser.add_argument("--rooms", nargs="+", help="packages to show from inside")
    parser.add_argument("--longest", type=int, default=10, help="files and functions to list")
    options = parser.parse_args()
    paths = module_paths(options.checkout / "src", options.package)
    if not paths:
        parser.error(f"there is no src/{options.package} in {options.checkout}")
    graph = import_graph(paths)
    for parent in options.rooms or [options.package, f"{options.package}.data"]:
        _print_rooms(graph, parent)
    print(f"\nFiles: {len(graph)}, imports: {sum(map(len, graph.values())):,}")
    _print_circles("of files", circles(graph))
    _print_sizes(paths, options.longest)


if __name__ == "__main__":
    main()
