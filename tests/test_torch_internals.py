"""Private names of PyTorch: used in one module only, and as this version of torch defines them."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import sartor
from sartor import torch_internals

PACKAGE = Path(sartor.__file__).parent
OPERATIONS = {
    "aten::_fused_sgd_": "Tensor[] self, Tensor[] grads, Tensor[] momentum_buffer_list, *, "
    "float weight_decay, float momentum, float lr, float dampening, bool nesterov, bool maximize, "
    "bool is_first_step, Tensor? grad_scale, Tensor? found_inf",
    "aten::_fused_adam_": "Tensor[] self, Tensor[] grads, Tensor[] exp_avgs, Tensor[] exp_avg_sqs, "
    "Tensor[] max_exp_avg_sqs, Tensor[] state_steps, *, float lr, float beta1, float beta2, "
    "float weight_decay, float eps, bool amsgrad, bool maximize, Tensor? grad_scale, "
    "Tensor? found_inf",
    "aten::_amp_foreach_non_finite_check_and_unscale_": "Tensor[] self, Tensor found_inf, "
    "Tensor inv_scale",
    "aten::_amp_update_scale_": "Tensor self, Tensor growth_tracker, Tensor found_inf, "
    "float scale_growth_factor, float scale_backoff_factor, int growth_interval",
}
OPERATIONS["aten::_fused_adamw_"] = OPERATIONS["aten::_fused_adam_"]
VERSION = f"torch {torch.__version__}"


@pytest.mark.parametrize("name", OPERATIONS)
def test_this_version_defines_the_operation_as_it_is_called(name: str) -> None:
    namespace, operation = name.split("::")
    found = getattr(getattr(torch.ops, namespace), operation, None)
    assert found is not None, f"{VERSION} has removed {name}"
    assert arguments(str(found.default._schema)) == OPERATIONS[name], f"{VERSION} changed {name}"


def arguments(schema: str) -> str:
    """Types and names of a schema, without its defaults and marks of aliases."""
    inside = schema[schema.index("(") + 1 : schema.rindex(") ->")]
    return re.sub(r"=(\[\]|[^,]+)", "", re.sub(r"\([a-z]!?\)", "", inside))


@pytest.mark.parametrize("name", torch_internals.BFLOAT16_INSTRUCTIONS)
def test_this_version_tells_the_instructions_of_the_cpu(name: str) -> None:
    assert isinstance(getattr(torch.cpu, name)(), bool), f"{VERSION} changed torch.cpu.{name}"


def test_hooks_are_found() -> None:
    for register in (
        nn.Module.register_forward_hook,
        nn.Module.register_forward_pre_hook,
        nn.Module.register_full_backward_hook,
        nn.Module.register_full_backward_pre_hook,
    ):
        layer = nn.Linear(2, 2)
        assert not torch_internals.has_hooks(layer)
        register(layer, lambda *_: None)  # type: ignore[operator]
        assert torch_internals.has_hooks(layer), f"{VERSION} changed nn.Module.{register.__name__}"
    assert not torch_internals.has_hooks(layer.weight)
    layer.weight.register_hook(lambda gradient: gradient)  # type: ignore[no-untyped-call]
    assert torch_internals.has_hooks(layer.weight), f"{VERSION} changed Tensor.register_hook"


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm2d])
def test_normalization_has_a_common_base(kind: type[nn.Module]) -> None:
    assert issubclass(kind, torch_internals.Normalization)
    assert not issubclass(nn.LayerNorm, torch_internals.Normalization)


def test_what_is_written_to_a_tensor_is_counted() -> None:
    tensor = torch.zeros(3)
    before = torch_internals.version_of(tensor)
    tensor.detach().add_(1)
    assert torch_internals.version_of(tensor) > before, f"{VERSION} changed Tensor._version"


def test_no_other_module_uses_a_private_name() -> None:
    allowed = Path(torch_internals.__file__)
    sources = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
    own = {name for source in sources.values() for name in defined_names(source)}
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {name}"
        for path, source in sources.items()
        if path != allowed and imports_torch(source)
        for line, name in private_names(source)
        if name not in own
    ]
    assert found == []


def test_the_scan_finds_private_names() -> None:
    source = """
import torch._dynamo
from torch import _C
from torch.optim import _functional
import torch.nn as nn
torch._foreach_add_([], 1)
nn.modules.batchnorm._NormBase
torch.ops.mkldnn._linear_pointwise
layer._conv_forward(images, None, None)
layer.__class__ = nn.Linear
self._own, type(self)._own, layer.__doc__
"""
    assert [line for line, _ in private_names(source)] == [2, 3, 4, 6, 7, 8, 9, 10]


def private_names(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of what a module imports or reads of others though it begins with `_`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                used = [one.name for one in names if is_torch(one.name)]
            case ast.ImportFrom(module=str(module), names=names) if is_torch(module):
                used = [f"{module}.{one.name}" for one in names]
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                continue
            case ast.Attribute(value=ast.Call(func=ast.Name(id="type" | "super"))):
                continue
            case ast.Attribute(attr=attr, ctx=context):
                stored = attr == "__class__" and isinstance(context, ast.Store)
                used = [f"_{attr}"] if stored else [attr]
            case _:
                continue
        found += [(node.lineno, name) for name in used if is_private(name)]
    yield from sorted(found)


def defined_names(source: str) -> Iterator[str]:
    """Names of functions, classes, fields and attributes that a module defines."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                yield name


def imports_torch(source: str) -> bool:
    return bool(re.search(r"^\s*(import|from) torch\b", source, re.MULTILINE))


def is_torch(module: str) -> bool:
    return module.split(".")[0] == "torch"


def is_private(name: str) -> bool:
    return any(re.match(r"_(?!_)|___", part) for part in name.split("."))


def test_the_version_of_torch_is_bounded() -> None:
    """A later version has to pass these tests before the bound is raised."""
    project = PACKAGE.parents[1] / "pyproject.toml"
    if not project.is_file():
        pytest.skip("the package is installed without its project")
    needed = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
    (bounds,) = [one for one in needed if re.match(r"torch\b", one)]
    highest = re.search(r"<(\d+)\.(\d+)", bounds)
    assert highest, "torch has no upper bound"
    here = tuple(int(part) for part in torch.__version__.split(".")[:2])
    assert here < (int(highest[1]), int(highest[2]))
