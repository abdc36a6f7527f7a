"""What a user may say about training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from ..settings import OneOf, Range

OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
SCHEDULES = ("constant", "cosine", "onecycle", "step")
LOSSES = ("cross-entropy", "mse", "bce")
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
MEMORY_FORMATS = ("auto", "contiguous", "channels-last")
ENGINES = ("auto", "plain", "direct", "onednn", "compiled", "graph")
MONITORS = ("val_accuracy", "val_balanced_accuracy", "val_macro_f1", "val_loss")
SAMPLERS = ("every", "balanced")
VIEWS = ("none", "flip", "shift", "flip-shift")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How the weights are found."""

    epochs: Annotated[int | Literal["auto"], Range(1, 1_000_000)] = 10
    """Passes over the training images; auto: enough to see 60,000 images, between 10 and 100."""
    batch_size: Annotated[int | Literal["all"], Range(1, 10_000_000)] = 64
    """Images per batch; 1 is stochastic gradient descent on single images, all is full-batch."""
    shuffle: bool = True
    """Shuffle the training images each epoch. Off: Train in the order of the files instead of a new
    order each epoch."""
    sampler: Annotated[str, OneOf("sampler", SAMPLERS)] = "every"
    """every: each training image once per epoch; balanced: as many images, but every class equally
    often, which repeats images of small classes and leaves out some of large ones."""
    drop_last: bool = False
    """Drop the incomplete last batch of each epoch."""
    augment: tuple[str, ...] = ()
    """Random augmentation of training images, in this order, such as flip crop=4 erase=0.25. Words:
    flip vflip crop shift rotate affine perspective resized-crop cutout erase blur sharpness
    grayscale mixup cutmix and, by kornia, color-jitter randaugment trivialaugment."""
    opt: Annotated[str, OneOf("optimizer", OPTIMIZERS)] = "adamw"
    """Optimizer: sgd, adam, adamw or rmsprop."""
    lr: Annotated[float, Range(0, 1_000, open_low=True)] = 0.002
    """Learning rate; with a schedule, its peak."""
    momentum: Annotated[float, Range(0, 0.9999)] = 0.0
    """Momentum of sgd and rmsprop."""
    nesterov: bool = False
    """Nesterov's momentum, for sgd."""
    betas: Annotated[tuple[float, ...], Range(0, 0.99999)] = (0.9, 0.999)
    """Decay of adam's and adamw's running averages."""
    weight_decay: Annotated[float, Range(0, 1_000)] = 0.0
    """L2 penalty; for adamw, decoupled."""
    sched: Annotated[str, OneOf("schedule", SCHEDULES)] = "cosine"
    """Schedule: constant, cosine, onecycle or step."""
    warmup_epochs: Annotated[float, Range(0, 1_000_000)] = 0.0
    """Epochs of linear warm-up of the learning rate; may be a fraction."""
    min_lr: Annotated[float, Range(0, 1_000)] = 0.0
    """Learning rate at the end of the cosine schedule."""
    decay_epochs: Annotated[float, Range(0, 1_000_000, open_low=True)] = 30.0
    """Step schedule: epochs between two decays."""
    decay_rate: Annotated[float, Range(0, 1, open_low=True)] = 0.1
    """Step schedule: factor of each decay."""
    loss: Annotated[str, OneOf("loss", LOSSES)] = "cross-entropy"
    """Loss: cross-entropy, mse or bce; mse on one-hot targets, bce with logits, one class against
    the rest."""
    smoothing: Annotated[float, Range(0, 0.99)] = 0.0
    """Label smoothing; requires cross-entropy."""
    class_weights: Annotated[
        Literal["none", "balanced", "effective"] | tuple[float, ...],
        Range(0, 1_000_000, open_low=True),
    ] = "none"
    """Class weights in the loss: none, balanced (inverse to the size of the class), effective
    (inverse to its effective number of samples, which is milder), or one number per class."""
    effective_beta: Annotated[float, Range(0, 0.999999)] = 0.999
    """For class weights effective: from 0, no weights, towards 1, balanced. A class counts as 1 /
    (1 - beta) images at most."""
    clip_grad: Annotated[float | None, Range(0, 1_000_000, open_low=True)] = None
    """Clip the norm of the gradient to this value."""
    grad_accum_steps: Annotated[int, Range(1, 100_000)] = 1
    """Batches per optimizer step; apart from batch statistics and dropout the same step as with one
    batch that many times larger."""
    tta: Annotated[str, OneOf("test-time augmentation", VIEWS)] = "none"
    """Test-time augmentation: none; flip, averaged with the mirrored image; shift, averaged with
    copies moved by a pixel along the diagonals; flip-shift, mirrored, and one of each moved. Every
    view costs another forward pass."""
    patience: Annotated[int | None, Range(1, 1_000_000)] = None
    """Early stopping after N epochs without improvement; needs a validation split."""
    monitor: Annotated[str, OneOf("figure to monitor", MONITORS)] = "val_accuracy"
    """Metric that decides the best epoch: val_accuracy, val_balanced_accuracy, val_macro_f1 or
    val_loss."""
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    """Random seed; decides the split, the initial weights, the order of images and everything
    random."""
    device: Annotated[str, OneOf("device", DEVICES)] = "auto"
    """Device: auto, cpu, cuda or mps; auto takes cuda, else mps, else cpu."""
    amp_dtype: Annotated[str, OneOf("precision", PRECISIONS)] = "float32"
    """Precision of the forward pass: float32, bfloat16, float16 (on cuda, gradients scaled), or
    auto (bfloat16 where it is faster: as measured, or if nothing is measured, where the device has
    instructions for it)."""
    memory_format: Annotated[str, OneOf("memory format", MEMORY_FORMATS)] = "auto"
    """Memory layout of images: contiguous, channels-last, or auto (channels-last for
    convolutions)."""
    threads: Annotated[int | None, Range(1, 1_024)] = None
    """CPU threads; by default all cores. Recorded in the run: the order of sums depends on it."""
    engine: Annotated[str, OneOf("engine", ENGINES)] = "auto"
    """How steps are computed: auto measures, where training is long enough to repay it, which
    memory format, number of threads, kernels and, with --amp-dtype auto, precision are fastest on
    this machine. plain: measure nothing. direct: a chain of linear and convolutional layers without
    autograd. onednn: large linear layers by oneDNN. compiled: by torch.compile, whose dropout draws
    other numbers. graph: the step as one CUDA graph. Direct and onednn are for the processor."""
    workers: Annotated[int | Literal["auto"], Range(0, 1_024)] = "auto"
    """Threads that prepare batches ahead; auto: one where a core would be idle or wait for the
    disk. The results do not depend on it."""


@dataclass(frozen=True, kw_only=True)
class ResolvedTraining(TrainingSettings):
    """How the weights are found, with every choice made: no "auto", no "all", no number missing.

    `workers` may stay "auto": it changes no bit, so each start of a training decides it again.
    """

    epochs: int = field()
    batch_size: int = field()
    device: str = field()
    amp_dtype: str = field()
    memory_format: str = field()
    threads: int = field()
    engine: str = field()
