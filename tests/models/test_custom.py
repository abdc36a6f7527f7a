"""Networks from a file of one's own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from sartor.errors import ModelError, SartorError, UsageError
from sartor.models import custom
from sartor.models.registry import build_model, resolve_kwargs

NET = '''
from torch import nn

class Net(nn.Module):
    def __init__(self, in_channels, num_classes, hidden=32, scales: tuple[float, ...] = (1.0,)):
        super().__init__()
        self.given = (in_channels, num_classes, hidden, scales)
        self.layer = nn.Linear(1, num_classes)

    def forward(self, images):
        return self.layer(images.mean(dim=(1, 2, 3))[:, None])

class Bare(nn.Module):
    """Has no constructor of its own."""

class Fixed(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 10))

def flatten(*, input_shape, num_classes, **kwargs):
    module = nn.Flatten()
    module.given = (input_shape, num_classes, kwargs)
    return module

def strict(num_classes, width):
    raise ValueError(f"width {width} is odd.\\nAnd more.")

def nothing(num_classes):
    return None

def lazy(activation=nn.ReLU, bias=None, depth=2):
    return activation()

ready = nn.Linear(3, 3)
number = 3
'''

RAISED = NET[: NET.index("raise ValueError")].count("\n") + 1

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(source: str) -> Path:
        path = tmp_path / "net.py"
        path.write_text(source)
        return path

    return write_file


def built(spec: str, **kwargs: object) -> nn.Module:
    return build_model(spec, input_shape=(3, 8, 8), num_classes=10, kwargs=kwargs)


def test_a_class_is_given_what_its_constructor_names(write: Write) -> None:
    path = write(NET)
    assert built(f"{path}:Net").given == (3, 10, 32, (1.0,))
    assert built(f"{path}:Net", hidden=7, scales=2).given == (3, 10, 7, (2.0,))
    assert built(f"{path}:Net")(torch.rand(5, 3, 8, 8)).shape == (5, 10)
    assert isinstance(built(f"{path}:Fixed"), nn.Sequential)
    assert isinstance(built(f"{path}:Bare"), nn.Module)


def test_a_function_may_take_any_setting(write: Write) -> None:
    path = write(NET)
    assert built(f"{path}:flatten", depth=3, wide=[1, 2]).given == (
        (3, 8, 8),
        10,
        {"depth": 3, "wide": (1, 2)},
    )


def test_settings_are_resolved_from_its_signature(write: Write) -> None:
    path = write(NET)
    assert resolve_kwargs(f"{path}:Net", {}) == ({"hidden": 32, "scales": (1.0,)}, [])
    assert resolve_kwargs(f"{path}:lazy", {}) == ({"depth": 2}, [])
    _, problems = resolve_kwargs(f"{path}:Net", {"hiden": 1, "scales": "a", "in_channels": 1})
    assert [problem.split(" ")[0] for problem in problems] == ["unknown", "scales", "in_channels"]
    assert resolve_kwargs(f"{path}:strict", {})[1] == [
        f"width of {path}:strict has no default and must be given"
    ]
    assert "has no settings" in resolve_kwargs(f"{path}:Bare", {"a": 1})[1][0]
    assert 'did you mean "Net"' in resolve_kwargs(f"{path}:Nett", {})[1][0]


def test_annotations_for_type_checkers_only_are_no_obstacle(write: Write) -> None:
    path = write(
        "from __future__ import annotations\n"
        "from torch import nn\n"
        "def net(width: Missing = 3): return nn.ReLU()\n"
    )
    assert resolve_kwargs(f"{path}:net", {"width": 4}) == ({"width": 4}, [])


def test_our_own_future_imports_do_not_reach_the_file(write: Write) -> None:
    path = write("def net(width: int = 3): ...\nassert net.__annotations__['width'] is int\n")
    custom.load(f"{path}:net")


def test_a_copy_of_the_source_builds_the_same(write: Write, tmp_path: Path) -> None:
    spec = f"{write(NET)}:Net"
    copy = tmp_path / "run" / "model.py"
    copy.parent.mkdir()
    copy.write_bytes(custom.source_of(spec))
    assert copy.read_text() == NET
    torch.manual_seed(0)
    original = built(spec)
    torch.manual_seed(0)
    again = built(f"{copy}:{custom.split(spec)[1]}")
    assert type(again) is not type(original)
    assert again.state_dict()["layer.weight"].equal(original.state_dict()["layer.weight"])


def test_the_file_is_read_anew_every_time(write: Write) -> None:
    spec = f"{write(NET)}:Net"
    assert built(spec).given[2] == 32
    write(NET.replace("hidden=32", "hidden=64"))
    assert built(spec).given[2] == 64


def test_two_folders_may_have_neighbours_of_the_same_name(tmp_path: Path) -> None:
    for name, width in (("one", 1), ("two", 2)):
        (tmp_path / name / "parts").mkdir(parents=True)
        (tmp_path / name / "parts" / "__init__.py").write_text("from .inner import WIDTH")
        (tmp_path / name / "parts" / "inner.py").write_text(f"WIDTH = {width}")
        (tmp_path / name / "net.py").write_text(
            "from torch import nn\nfrom parts import WIDTH\ndef net(): return nn.Linear(1, WIDTH)"
        )
    path_before, modules_before = list(sys.path), set(sys.modules)
    assert built(f"{tmp_path}/one/net.py:net").out_features == 1
    assert built(f"{tmp_path}/two/net.py:net").out_features == 2
    assert sys.path == path_before
    left = {name for name in set(sys.modules) - modules_before if "parts" in name}
    assert left == set()
    assert list(tmp_path.rglob("__pycache__")) == []


def test_a_dataclass_in_the_file_finds_its_module(write: Write) -> None:
    path = write(
        "from __future__ import annotations\n"
        "import dataclasses\nfrom torch import nn\n"
        "@dataclasses.dataclass\nclass Options:\n    width: int = 3\n"
        "def net(): return nn.Linear(1, Options().width)\n"
    )
    assert built(f"{path}:net").out_features == 3


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("Nett", UsageError, ['"Nett"', 'did you mean "Net"?']),
        ("ready", UsageError, ["neither a class nor a function", "Wrap it"]),
        ("number", UsageError, ["neither a class nor a function"]),
        ("nothing", ModelError, ["gave a NoneType, not an nn.Module"]),
        (
            "strict",
            ModelError,
            [f"ValueError in line {RAISED} of net.py: width 3 is odd.", "width=3"],
        ),
    ],
)
def test_what_is_wrong_is_said(
    write: Write, name: str, error: type[SartorError], words: list[str]
) -> None:
    path = write(NET)
    with pytest.raises(error) as caught:
        built(f"{path}:{name}", **({"width": 3} if name == "strict" else {}))
    assert type(caught.value) is error
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "import torch\nimport no_such_module\n",
            ["ModuleNotFoundError in line 2", "no_such_module"],
        ),
        ("x = 1\n\ndef f(:\n", ["SyntaxError in line 3 of net.py"]),
        ("def f():\n    return 1 / 0\nf()\n", ["ZeroDivisionError in line 2", "division"]),
        ("import sys\nsys.exit(3)\n", ["SystemExit in line 2 of net.py: 3"]),
        ("raise RuntimeError\n", ["RuntimeError in line 1 of net.py: RuntimeError"]),
    ],
)
def test_a_file_that_cannot_run_is_said_with_its_line(
    write: Write, source: str, words: list[str]
) -> None:
    path = write(source)
    with pytest.raises(ModelError) as caught:
        custom.load(f"{path}:Net")
    for word in words:
        assert word in caught.value.message
    assert len(resolve_kwargs(f"{path}:Net", {})[1]) == 1
    left = [name for name in sys.modules if name.startswith("sartor_model_")]
    assert not [name for name in left if sys.modules[name].__file__ == str(path)]


def test_a_file_without_any_network(write: Write) -> None:
    with pytest.raises(UsageError, match=r"net\.py defines no class or function"):
        custom.load(f"{write('x = 1')}:Net")


@pytest.mark.parametrize("spec", ["net.py", "net.py:"])
def test_a_file_without_a_name_is_told_how_to_add_one(spec: str) -> None:
    assert custom.is_custom(spec)
    with pytest.raises(UsageError, match=r"net\.py:Net"):
        build_model(spec, input_shape=(1, 8, 8), num_classes=2, kwargs={})


def test_a_missing_file() -> None:
    with pytest.raises(UsageError, match=r"There is no file /.*/nowhere/net\.py"):
        build_model("nowhere/net.py:Net", input_shape=(1, 8, 8), num_classes=2, kwargs={})
    with pytest.raises(UsageError, match="There is no file"):
        custom.source_of("nowhere/net.py:Net")


def test_an_unreadable_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(NET)

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ModelError, match=r"Cannot read .*net\.py: permission denied"):
        custom.load(f"{path}:Net")


@pytest.mark.parametrize(
    ("spec", "answer"),
    [("lenet", False), ("net.py:Net", True), ("a.b/net.py:Net", True), ("net:Net", False)],
)
def test_which_models_are_files(spec: str, answer: bool) -> None:
    assert custom.is_custom(spec) is answer
