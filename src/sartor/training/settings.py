"""What a user may say about training."""

from __future__ import annotations

from dataclasses import dataclass
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
    """Passes over the training images; auto: as many as see 60,000 images, from 10 to 100."""
    batch_size: Annotated[int | Literal["all"], Range(1, 10_000_000)] = 64
    """Images a batch; 1 is descent on single samples, all on the whole set."""
    shuffle: bool = True
    """A new order each epoch, from the seed; without it, the order of the files."""
    sampler: Annotated[str, OneOf("sampler", SAMPLERS)] = "every"
    """What an epoch has: every training image once, or balanced: as many images, but each class
    equally often, which repeats those of small classes and leaves out some of large ones."""
    drop_last: bool = False
    """Leave out an incomplete last step of an epoch."""
    augment: tuple[str, ...] = ()
    """Random changes of the training images, in this order, such as flip crop=4 erase=0.25. Words:
    flip vflip crop shift rotate affine perspective resized-crop cutout erase blur sharpness
    grayscale mixup cutmix and, by kornia, color-jitter randaugment trivialaugment."""
    opt: Annotated[str, OneOf("optimizer", OPTIMIZERS)] = "adamw"
    """sgd, adam, adamw or rmsprop."""
    lr: Annotated[float, Range(0, 1_000, open_low=True)] = 0.002
    """Learning rate; with a schedule, its highest value."""
    momentum: Annotated[float, Range(0, 0.9999)] = 0.0
    """Momentum of sgd and rmsprop."""
    nesterov: bool = False
    """Nesterov's momentum, for sgd."""
    betas: Annotated[tuple[float, ...], Range(0, 0.99999)] = (0.9, 0.999)
    """Decay of adam's and adamw's running averages."""
    weight_decay: Annotated[float, Range(0, 1_000)] = 0.0
    """L2 penalty; for adamw, decoupled."""
    sched: Annotated[str, OneOf("schedule", SCHEDULES)] = "cosine"
    """Learning rate over time: constant, cosine, onecycle or step."""
    warmup_epochs: Annotated[float, Range(0, 1_000_000)] = 0.0
    """Epochs in which the learning rate rises to its value; fractions are fine."""
    min_lr: Annotated[float, Range(0, 1_000)] = 0.0
    """Where cosine ends."""
    decay_epochs: Annotated[float, Range(0, 1_000_000, open_low=True)] = 30.0
    """For step: epochs between two decays."""
    decay_rate: Annotated[float, Range(0, 1, open_low=True)] = 0.1
    """For step: factor of each decay."""
    loss: Annotated[str, OneOf("loss", LOSSES)] = "cross-entropy"
    """cross-entropy, mse (on one-hot targets) or bce (with logits, one class against the rest)."""
    smoothing: Annotated[float, Range(0, 0.99)] = 0.0
    """Label smoothing, for cross-entropy."""
    class_weights: Annotated[
        Literal["none", "balanced", "effective"] | tuple[float, ...],
        Range(0, 1_000_000, open_low=True),
    ] = "none"
    """none, balanced (inverse to a class's size), effective (inverse to its effective number of
    samples, which is milder) or one number a class."""
    effective_beta: Annotated[float, Range(0, 0.999999)] = 0.999
    """For class weights effective: from 0, no weights, towards 1, balanced. A class counts as
    1 / (1 - beta) images at most."""
    clip_grad: Annotated[float | None, Range(0, 1_000_000, open_low=True)] = None
    """Largest norm of the gradient; longer ones are scaled down."""
    grad_accum_steps: Annotated[int, Range(1, 100_000)] = 1
    """Batches whose gradients make one step; but for batch statistics and dropout the same step as
    one batch that many times larger."""
    tta: Annotated[str, OneOf("test-time augmentation", VIEWS)] = "none"
    """What is averaged over in every judgement and prediction: none, the picture alone; flip, also
    mirrored; shift, also moved by a pixel along the diagonals; flip-shift, also mirrored, and one
    of each moved. Each view takes its time again."""
    patience: Annotated[int | None, Range(1, 1_000_000)] = None
    """Stop after so many epochs without a better validation figure."""
    monitor: Annotated[str, OneOf("figure to monitor", MONITORS)] = "val_accuracy"
    """Decides which epoch is the best: val_accuracy, val_balanced_accuracy, val_macro_f1 or
    val_loss."""
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    """Decides the split, the first weights, the order of images and everything random."""
    device: Annotated[str, OneOf("device", DEVICES)] = "auto"
    """auto (cuda, else mps, else cpu), cpu, cuda or mps."""
    amp_dtype: Annotated[str, OneOf("precision", PRECISIONS)] = "float32"
    """Arithmetic of the forward pass: float32, bfloat16, float16 (on cuda, gradients scaled), or
    auto (bfloat16 where it is faster: as measured, or if nothing is measured, where the device has
    instructions for it)."""
    memory_format: Annotated[str, OneOf("memory format", MEMORY_FORMATS)] = "auto"
    """Layout of images: contiguous, channels-last, or auto (channels-last for convolutions)."""
    threads: Annotated[int | None, Range(1, 1_024)] = None
    """Processor threads; default: all cores. Kept in the run: the order of sums depends on it."""
    engine: Annotated[str, OneOf("engine", ENGINES)] = "auto"
    """auto: where training takes long enough to repay it, measure which memory format, number of
    threads, kernels and, with --amp-dtype auto, precision are fastest here; what is set is kept.
    plain: measure nothing. direct: a chain of linear and convolutional layers without autograd.
    onednn: large linear layers by oneDNN. compiled: by torch.compile, whose dropout draws other
    numbers. graph: the step as one CUDA graph. Direct and onednn are for the processor."""
    workers: Annotated[int | Literal["auto"], Range(0, 1_024)] = "auto"
    """Threads that prepare batches ahead of the step that needs them; auto: one where a core would
    be idle or a disk is waited for. They change no bit."""

    @property
    def last_epoch(self) -> int:
        """`epochs` as the number that it is once the recipe is resolved."""
        assert self.epochs != "auto", "resolved to a number"
        return self.epochs
