"""Nobody is told what happens here, by no library either."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

MODEL = """
import sartor, onnx, onnxruntime
from onnx import TensorProto, helper
value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])
graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "g", [value("x")], [value("y")])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
session = onnxruntime.InferenceSession(model.SerializeToString())
assert session.run(None, {"x": [-1.0]})[0][0] == 1
"""


def test_onnx_runtime_keeps_no_name_for_this_machine(tmp_path: Path) -> None:
    """It keeps one in the user's cache when it is about to report; nothing may be written."""
    home = {"HOME": str(tmp_path), "ORT_DISABLE_TELEMETRY": "0"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    subprocess.run([sys.executable, "-c", MODEL], env=kept | home, check=True, timeout=300)
    assert list(tmp_path.rglob("*")) == []
