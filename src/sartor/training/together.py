"""An update that several processes make together.

Each makes the passes of its share of the batch; the gradients, divided by the weight of the whole
batch, are added up over all of them, and each makes the same step.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..data.feed.batches import Batch, Batches, SharedBatch
from ..data.feed.shares import Rows, Share
from ..distributed import Team
from ..errors import RecipeError
from ..inference.forward import precision
from ..interrupts import SIGNALS, StopRequest
from .engines.native import Native
from .job import Job, Outcome
from .state import Checkpoint, Progress, snapshot
from .whole_batch import WholeBatch, over_whole_batch


@contextmanager
def shared(job: Job, team: Team | None, request: StopRequest) -> Iterator[Job]:
    """The job as one of several processes does it; itself for a process that is alone.

    Args:
        request: what a signal asks of this process; asked of one, it is asked of all.
    """
    if team is None:
        yield job
        return
    assert isinstance(job.batches, Batches), "made by make_job"
    share = Share(team.rank, team.size, job.settings.grad_accum_steps)
    whole = WholeBatch(team, job.settings.device)
    agreed = Agreement(team, request)
    update = Together(job, whole, agreed)
    batches, steps = replace(job.batches, share=share), job.engine_steps
    if isinstance(steps, Native):
        steps = steps.shared(job, team.communicator(job.settings.gradient_sum))
    yield replace(job, batches=batches, agreement=agreed, engine_update=update, engine_steps=steps)


class Agreement:
    """What all processes do alike, though the reasons are one's own.

    What one wants, by its clock or since it was sent a signal, travels with the gradients, and
    takes no exchange of its own: all do it after the same step.
    """

    def __init__(self, team: Team, request: StopRequest) -> None:
        self.team = team
        self._request = request
        self.is_due: Callable[[], bool] = lambda: False
        self.due = False

    def begin(self, job: Job, progress: Progress) -> None:
        """Begin at all processes with the weights, the optimizer and the progress of the first."""
        if self.team.leads:
            self.team.post(do="train")
            kept = snapshot(job.model, job.optimizer, progress, job.classes)
            self.team.spread(kept.to_bytes())
        else:
            message = self.team.next_message()
            if message["do"] != "train":
                raise Dismissed(message)
            kept = Checkpoint.from_bytes(self.team.spread(), "the state of the first process")
            job.model.load_state_dict(kept.weights)
            job.optimizer.load(kept.optimizer)
            for field in fields(progress):
                setattr(progress, field.name, getattr(kept.progress, field.name))
        self._request.agreed_number = 0

    def stretch(self, steps: int) -> int:
        """How many of the next steps all make in one go: as many as the first process has to make
        until something is due, and one if something is wanted already."""
        own = torch.tensor([steps, *self.own()], dtype=torch.float64)
        rows = self.team.gather(own)
        self.agree(rows[:, 1:].sum(0).tolist())
        return 1 if self.due or self._request.agreed_number else int(rows[0, 0])

    @torch.no_grad()
    def keep_alike(self, model: nn.Module) -> None:
        """Where processors of several kinds differ in the last bits, or a network keeps something
        of the rows that it saw, take over what the first process has."""
        tensors = [one.detach() for one in model.state_dict().values()]
        marks = self.team.gather(torch.tensor([_mark(one) for one in tensors]))
        for tensor, mark in zip(tensors, marks.unbind(1), strict=True):
            if (mark != mark[0]).any():
                content = tensor.cpu().contiguous()
                rows = self.team.gather(content.view(-1).view(torch.uint8))
                tensor.copy_(rows[0].view(content.dtype).view(content.shape))

    @staticmethod
    def length() -> int:
        """Numbers that travel with the gradients."""
        return 1 + len(SIGNALS)

    def own(self) -> list[float]:
        """What this process wants."""
        number = self._request.signal_number
        due = self.team.leads and self.is_due()
        return [float(due), *(float(number == signal) for signal in SIGNALS)]

    def agree(self, sums: Sequence[float]) -> None:
        """Take over what at least one wants."""
        due, *asked = sums
        self.due = due > 0
        heard = [int(signal) for signal, count in zip(SIGNALS, asked, strict=True) if count > 0]
        self._request.agreed_number = heard[0] if heard else 0


class Dismissed(Exception):  # noqa: N818  (nothing is wrong)
    """The first process makes no steps after all."""

    def __init__(self, message: Mapping[str, Any]) -> None:
        super().__init__("dismissed")
        self.message = message


def _mark(tensor: Tensor) -> int:
    """A number that differs where a bit does, all but certainly."""
    return zlib.crc32(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)


class Together:
    """As `loop.update`, for one of several processes."""

    def __init__(self, job: Job, whole: WholeBatch, agreed: Agreement) -> None:
        _refuse_other_engines(job)
        self._team, self._whole, self._agreed = agreed.team, whole, agreed
        self._how = job.settings.gradient_sum
        self._flat = torch.empty(0)

    def __call__(self, job: Job, batch: Batch, lr: float) -> Outcome:
        """Its share of the update; the figures are those of its own images."""
        assert isinstance(batch, SharedBatch), "made for several processes"
        self._whole.begin_step()
        job.optimizer.zero_grad()
        own = batch.own
        weight = job.objective.weight(own.labels)
        loss_gradient = job.optimizer.scaled(self._inverse(weight, batch))
        losses, logits = [own.images.new_zeros(())], []
        with over_whole_batch(job.model, self._whole):
            for rows, images, labels in _parts(batch):
                with self._whole.part(rows):
                    scale = loss_gradient if rows.counts else torch.zeros_like(loss_gradient)
                    with precision(job.settings.device, job.settings.amp_dtype):
                        found = job.model(images)
                    loss = job.objective.sum(found, labels)
                    torch.autograd.backward(loss, scale)
                if rows.counts:
                    losses.append(loss.detach())
                    logits.append(found.detach())
        self._add_up_gradients(job.optimizer.parameters)
        job.optimizer.unscale()
        if job.settings.clip_grad is not None:
            nn.utils.clip_grad_norm_(job.optimizer.parameters, job.settings.clip_grad)
        job.optimizer.step(lr)
        outputs = torch.cat(logits) if logits else own.images.new_zeros(0, job.num_classes)
        return Outcome(torch.stack(losses).sum(), weight, outputs, own.labels)

    def _inverse(self, weight: Tensor | int, batch: SharedBatch) -> Tensor:
        """1 / the weight of the whole batch."""
        if isinstance(weight, int):
            return torch.tensor(1 / batch.whole, device=batch.images.device)
        return self._team.add_up(weight.reshape(1).clone())[0].reciprocal()

    @torch.no_grad()
    def _add_up_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Give each parameter the sum of its gradients; and agree on what to do after the step."""
        trained = [one for one in parameters if one.requires_grad]
        flat = self._room_for(trained)
        sizes = [one.numel() for one in trained]
        places = torch.split(flat[: sum(sizes)], sizes)
        given = [one.grad is not None for one in trained]
        for place, one in zip(places, trained, strict=True):
            if one.grad is None:
                place.zero_()
            else:
                place.view(one.shape).copy_(one.grad)
        # A parameter that no process used stays as it is, which is not a step with zeros.
        marks = [*map(float, given), *self._agreed.own()]
        flat[-len(marks) :] = torch.tensor(marks)
        self._team.add_up(flat, self._how)
        sums = flat[-len(marks) :].tolist()
        self._agreed.agree(sums[len(trained) :])
        for place, one, used in zip(places, trained, sums, strict=False):
            if used:
                if one.grad is None:
                    one.grad = torch.zeros_like(one)
                one.grad.copy_(place.view(one.shape))

    def _room_for(self, trained: Sequence[Tensor]) -> Tensor:
        count = sum(one.numel() for one in trained) + len(trained) + self._agreed.length()
        if self._flat.numel() != count:
            wide = any(one.dtype == torch.float64 for one in trained)
            device = trained[0].device if trained else "cpu"
            self._flat = torch.empty(
                count, dtype=torch.float64 if wide else torch.float32, device=device
            )
        return self._flat


def _parts(batch: SharedBatch) -> Iterator[tuple[Rows, Tensor, Tensor]]:
    counts = [rows.number for rows in batch.rows]
    return zip(
        batch.rows,
        torch.split(batch.images, counts),
        torch.split(batch.labels, counts),
        strict=True,
    )


def _refuse_other_engines(job: Job) -> None:
    """Raise where an engine adds up no gradients.

    Raises:
        RecipeError: it does.
    """
    if job.engine_update is not None or not isinstance(job.engine_steps, Native | None):
        raise RecipeError(
            [f"engine {job.settings.engine} trains in one process only"],
            "Use --engine plain or native, or leave it out.",
        )
