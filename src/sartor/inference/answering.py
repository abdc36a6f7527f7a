"""All of an answer in one module: from the bytes of images to probabilities and novelty.

PyTorch, ONNX Runtime and torch.export run this and nothing else, so that no path has steps of its
own in which it could differ from the others.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.pictures.preprocess import Preprocess
from .calibration import Calibration
from .novelty import Novelty, Watched
from .views import views_of


class Answering(nn.Module):
    """uint8 images (N, H, W, C), of the network's size -> probabilities float32 (N, K), and where
    they were fitted novelty scores float32 (N,)."""

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        preprocess: Preprocess,
        loss: str,
        tta: str = "none",
        calibration: Calibration,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        """A network in evaluation mode, in float32, with what it was trained with.

        Args:
            loss: decides how logits become probabilities, as `predictions.probabilities_of` says.
            tta: views that the logits are averaged over; see `views.views_of`.
            calibration: its temperature divides the logits before they do, but under mse; and its
                novelty score is a second output, where it has one.
            memory_format: the layout of images that the network was trained with.
        """
        super().__init__()
        score = calibration.novelty
        self.network = Watched(network, score.layer) if score else network
        self.novelty = Novelty(score, loss) if score else None
        self.loss = loss
        self.tta = tta
        self.temperature = calibration.temperature
        self.memory_format = memory_format
        self.channels = preprocess.channels
        scale, shift = preprocess.scale_and_shift()
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Probabilities, each row summing to 1, NaN where the network's outputs are not finite;
        and novelty scores float32 (N,), where the calibration has them.

        Scores are about the features of the images as they are, and the logits of all views.
        """
        # All views at once: a graph then holds the network once.
        views = list(views_of(self.normalized(images), self.tta))
        together = views[0] if len(views) == 1 else torch.cat(views)
        if self.novelty is None:
            logits = self._mean(self.network(together), len(views))
            return probabilities_of(logits, self.loss, self.temperature)
        features, of_views = self.network(together)
        logits = self._mean(of_views, len(views))
        scores: Tensor = self.novelty(features[: images.shape[0]], logits)
        return probabilities_of(logits, self.loss, self.temperature), scores

    @property
    def trained(self) -> nn.Module:
        """The network itself."""
        return self.network.network if isinstance(self.network, Watched) else self.network

    def normalized(self, images: Tensor) -> Tensor:
        """The network's input, float (N, C, H, W)."""
        if self.channels == 1:
            # No number moves; and what runs exported graphs need not find that out.
            first = images.reshape(-1, 1, images.shape[1], images.shape[2])
        else:
            first = images.permute(0, 3, 1, 2)
        floats = first.to(torch.float32) * self.scale + self.shift
        return floats.contiguous(memory_format=self.memory_format)

    def _mean(self, logits: Tensor, views: int) -> Tensor:
        """float32 (N, K): the mean over the views, which lie behind each other."""
        if views == 1:
            return logits.float()
        return logits.float().reshape(views, -1, logits.shape[1]).mean(0)


def probabilities_of(logits: Tensor, loss: str, temperature: float) -> Tensor:
    """float32 (N, K), as `predictions.probabilities_of` of the logits divided by a temperature."""
    if loss == "mse":
        clipped = logits.clamp(0, 1)
        totals = clipped.sum(1, keepdim=True)
        equal = torch.full_like(clipped, 1 / logits.shape[1])
        return torch.where(totals == 0, equal, clipped / torch.where(totals == 0, 1.0, totals))
    if loss == "bce":
        # F.logsigmoid becomes log(sigmoid) in ONNX, which is infinite for low logits.
        logits = -F.softplus(-logits)
    return torch.softmax(logits / temperature, 1)
