"""A trace as a figure."""

from __future__ import annotations

import io

import numpy as np
import torch
from torch import nn

import sartor


def test_a_row_a_layer_and_a_column_each_way() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 4))
    images, labels = torch.randn(2, 1, 8, 8), torch.tensor([0, 3])
    both = sartor.trace(model, images, labels).plot()
    assert len(both.axes) == 8
    pixels = [np.asarray(axes.images[0].get_array()) for axes in both.axes]
    assert pixels[0].shape[2] == 3
    written = {text.get_text() for text in both.texts}
    assert {"0", "Conv2d  3 x 6 x 6", "output", "gradient of the loss"} <= written
    forward = sartor.trace(model, images).plot()
    assert len(forward.axes) == 4
    stream = io.BytesIO()
    forward.savefig(stream, format="png")
    assert stream.getvalue().startswith(b"\x89PNG")


def test_outputs_without_a_gradient_leave_a_hole() -> None:
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.spare(images)
            logits: torch.Tensor = self.used(images)
            return logits

    trace = sartor.trace(Fork(), torch.randn(2, 4), torch.tensor([0, 1]))
    assert trace["spare"].gradient is None
    assert len(trace.plot().axes) == 3
