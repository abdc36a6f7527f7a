"""Whether contenders learnt the same: one judge for the weights of all."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .material import Array, Material


def judge(material: Material, weights: list[Array]) -> tuple[float, float]:
    """Mean loss and accuracy of these weights on the images that were trained on."""
    network = material.task.training.network().eval()
    with torch.no_grad():
        for own, found in zip(network.parameters(), weights, strict=True):
            own.copy_(torch.from_numpy(found))
        loss, correct = 0.0, 0
        images, labels = map(torch.from_numpy, material.part(head=False))
        for pixels, truth in zip(images.split(1000), labels.split(1000), strict=True):
            logits = network(pixels[:, None].float() / 255)
            loss += float(F.cross_entropy(logits, truth, reduction="sum"))
            correct += int((logits.argmax(1) == truth).sum())
    return loss / len(labels), correct / len(labels)
