"""What of a network is trained in an epoch: everything, unless the settings hold parts of it back.

Between two epochs nothing is held back, so that what is made there, such as an optimizer, sees the
network as it is.
"""

from __future__ import annotations

from ..models.parts import early_parameters
from ..torch_internals import BatchNormalization
from .job import Job


def begin_epoch(job: Job, epoch: int) -> None:
    """Put the network into training mode, but for what stays as it is in this epoch.

    Args:
        epoch: counted from 0.
    """
    job.model.train()
    if job.settings.freeze_norms:
        for module in job.model.modules():
            if isinstance(module, BatchNormalization):
                module.eval()
    if epoch < job.settings.freeze_epochs:
        _set_trained(job, trained=False)


def end_epoch(job: Job) -> None:
    """Hold nothing back any more."""
    if job.settings.freeze_epochs:
        _set_trained(job, trained=True)


def _set_trained(job: Job, *, trained: bool) -> None:
    """Whether the parts before the last ones are trained, as far as they are trained at all."""
    early = early_parameters(job.model) & job.optimizer.names
    for name, parameter in job.model.named_parameters():
        if name in early:
            parameter.requires_grad_(trained)
