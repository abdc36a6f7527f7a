"""What a user may say about training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from ..distributed import SUMS
from ..settings import OneOf, Range

OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
SCHEDULES = ("constant", "cosine", "onecycle", "step")
LOSSES = ("cross-entropy", "mse", "bce")
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
MEMORY_FORMATS = ("auto", "contiguous", "channels-last")
ENGINES = ("auto", "plain", "native", "compiled", "graph")
RETIRED_ENGINES = ("direct", "onednn")
"""Of runs from before there was native; they compute as plain does, but for rounding."""
BFLOAT16_INSTRUCTIONS = ("avx512-bf16", "amx-bf16")
INSTRUCTIONS = ("auto", "generic", "x86-64-v3", "x86-64-v4", *BFLOAT16_INSTRUCTIONS)
MONITORS = ("val_accuracy", "val_balanced_accuracy", "val_macro_f1", "val_loss")
DECAYED = ("auto", "weights", "all")
SAMPLERS = ("every", "balanced")
VIEWS = ("none", "flip", "shift", "flip-shift")
TRANSFERS = ("auto", "features", "finetune", "ladder", "scratch")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How the weights are found."""

    transfer: Annotated[str, OneOf("way to transfer", TRANSFERS)] = "auto"
    """How to use a backbone, a network with pretrained weights. features: freeze it and fit a
    regularised logistic regression on its features, which are computed once and cached; finetune:
    train its weights step by step, from that head; ladder: first one, then the other, which is
    taken if it is clearly better on validation images; scratch: train from random weights. auto:
    for a backbone, and for folders of pictures where one is installed (pip install
    'sartor[pretrained]'), the ladder from 2,000 training images on, else features; finetune where
    settings such as --epochs are given; else scratch."""
    epochs: Annotated[int | Literal["auto"], Range(1, 1_000_000)] = 10
    """Passes over the training images, or auto. auto: enough to see 60,000 images, from 10 to 100
    epochs."""
    batch_size: Annotated[int | Literal["all"], Range(1, 10_000_000)] = 64
    """Images per step, or all."""
    shuffle: bool = True
    """Draw a new order of images each epoch, from the seed."""
    sampler: Annotated[str, OneOf("sampler", SAMPLERS)] = "every"
    """Which images an epoch contains. every: each training image once; balanced: as many images,
    but each class equally often, which repeats images of small classes, each time augmented in
    another way, and leaves out some of large ones."""
    drop_last: bool = False
    """Skip the last step of an epoch if its batch is incomplete."""
    augment: tuple[str, ...] = ()
    """Random changes in training, such as flip crop=4, or none. Applied in this order. Words: flip
    vflip crop shift rotate affine perspective resized-crop cutout erase blur sharpness grayscale
    mixup cutmix; with kornia installed also color-jitter randaugment trivialaugment."""
    opt: Annotated[str, OneOf("optimizer", OPTIMIZERS)] = "adamw"
    """Optimizer."""
    lr: Annotated[float, Range(0, 1_000, open_low=True)] = 0.002
    """Learning rate; with a schedule, its peak."""
    momentum: Annotated[float, Range(0, 0.9999)] = 0.0
    """Momentum of sgd and rmsprop."""
    nesterov: bool = False
    """Use Nesterov momentum with sgd."""
    betas: Annotated[tuple[float, ...], Range(0, 0.99999)] = (0.9, 0.999)
    """Decay rates of the running averages of adam and adamw."""
    weight_decay: Annotated[float, Range(0, 1_000)] = 0.0
    """L2 penalty; decoupled for adamw."""
    weight_decay_on: Annotated[str, OneOf("choice of parameters", DECAYED)] = "auto"
    """Parameters that weight decay acts on. weights: those of linear layers and convolutions, not
    biases and norms; all; auto: weights."""
    sched: Annotated[str, OneOf("schedule", SCHEDULES)] = "cosine"
    """Schedule. constant; cosine; onecycle: up from a 25th of --lr and far down, while momentum and
    betas stay as they are; step."""
    warmup_epochs: Annotated[float, Range(0, 1_000_000)] = 0.0
    """Epochs over which the learning rate rises to --lr; fractions are allowed."""
    min_lr: Annotated[float, Range(0, 1_000)] = 0.0
    """Learning rate that the cosine schedule ends at."""
    decay_epochs: Annotated[float, Range(0, 1_000_000, open_low=True)] = 30.0
    """Epochs between two decays of the step schedule."""
    decay_rate: Annotated[float, Range(0, 1, open_low=True)] = 0.1
    """Factor of each decay of the step schedule."""
    loss: Annotated[str, OneOf("loss", LOSSES)] = "cross-entropy"
    """Loss function. cross-entropy; mse on one-hot targets; bce with logits, each class against the
    rest."""
    smoothing: Annotated[float, Range(0, 0.99)] = 0.0
    """Label smoothing, with cross-entropy loss."""
    class_weights: Annotated[
        Literal["none", "balanced", "effective"] | tuple[float, ...],
        Range(0, 1_000_000, open_low=True),
    ] = "none"
    """Weights of the classes in the loss. none; balanced: inverse to the size of the class;
    effective: inverse to its effective number of samples, which is milder; or one number per
    class."""
    effective_beta: Annotated[float, Range(0, 0.999999)] = 0.999
    """Strength of --class-weights effective. From 0 (no weights) towards 1 (balanced); a class
    counts as at most 1 / (1 - beta) images."""
    clip_grad: Annotated[float | None, Range(0, 1_000_000, open_low=True)] = None
    """Scale down gradients with a larger norm than this."""
    grad_accum_steps: Annotated[int, Range(1, 100_000)] = 1
    """Batches whose gradients are added up for one step. Except for batch statistics and dropout,
    the same as one batch that many times larger."""
    tta: Annotated[str, OneOf("test-time augmentation", VIEWS)] = "none"
    """Test-time augmentation: average predictions over several views. none: only the picture
    itself; flip: also mirrored; shift: also moved by one pixel along the diagonals; flip-shift:
    also mirrored, and one of each moved. Each view costs its time again."""
    layer_decay: Annotated[float, Range(0, 1, open_low=True)] = 1.0
    """Factor from the learning rate of one part of the network to that of the part before it. The
    head, the last part, has --lr; below 1, early parts change less."""
    freeze_epochs: Annotated[int, Range(0, 1_000_000)] = 0
    """Epochs at the beginning in which only the head and the last parts of the network are trained,
    which hold half of its parameters."""
    freeze_norms: bool = False
    """Batch normalisation keeps its averages as they are, also in training."""
    coverage: Annotated[float, Range(0.5, 0.9999)] = 0.95
    """Share of pictures whose set of classes is to hold the true one. The threshold for it is
    fitted on the validation images at the end."""
    false_alarms: Annotated[float, Range(0.0001, 0.5)] = 0.01
    """Share of ordinary pictures that may be called unknown. The more, the more of those that
    belong to no class are found."""
    patience: Annotated[int | None, Range(1, 1_000_000)] = None
    """Stop after this many epochs without improvement. Off by default."""
    monitor: Annotated[str, OneOf("figure to monitor", MONITORS)] = "val_accuracy"
    """Validation figure that decides which epoch is best."""
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    """Decides the split, first weights and all randomness."""
    device: Annotated[str, OneOf("device", DEVICES)] = "auto"
    """Device to train on: auto, cpu, cuda or mps. auto is cuda if there is one, else mps, else
    cpu."""
    amp_dtype: Annotated[str, OneOf("precision", PRECISIONS)] = "float32"
    """Precision of the forward pass. float32; bfloat16; float16 (on cuda, with scaled gradients);
    auto: bfloat16 where it is faster, as measured; if nothing was measured, float32 with the engine
    native, else bfloat16 where the device has instructions for it."""
    memory_format: Annotated[str, OneOf("memory format", MEMORY_FORMATS)] = "auto"
    """Layout of images in memory. contiguous; channels-last; auto: channels-last for
    convolutions."""
    threads: Annotated[int | None, Range(1, 1_024)] = None
    """Processor threads. By default all cores. Kept in the run, because the order of sums depends
    on it."""
    gradient_sum: Annotated[str, OneOf("way to add gradients", SUMS)] = "ordered"
    """How several processes (torchrun) add up their gradients. ordered: one process after the
    other, so that as many processes give the same bits again; fast: between machines as the library
    does it, which may save time and promises no order."""
    engine: Annotated[str, OneOf("engine", ENGINES, RETIRED_ENGINES)] = "auto"
    """How a training step is computed. plain: by PyTorch. native: by sartor's own compiled code, on
    the processor, for small networks whose layers form a chain. compiled: torch.compile, whose
    dropout draws other numbers. graph: the step as one CUDA graph. auto: native for the networks
    that it computes, else plain; and if training takes long enough to repay it, measure which
    number of threads, memory format and (with --amp-dtype auto) precision are fastest here;
    settings you give are kept."""
    instructions: Annotated[str, OneOf("instruction set", INSTRUCTIONS)] = "auto"
    """Instructions of the processor that the engine native uses. auto: the widest that it has; in
    bfloat16, amx-bf16 before avx512-bf16. Kept in the run, because rounding can depend on it."""
    workers: Annotated[int | Literal["auto"], Range(0, 1_024)] = "auto"
    """Threads that prepare batches ahead. auto: one where a core would be idle or the disk is slow.
    The result is the same with any number."""
    checkpoint_seconds: Annotated[float | Literal["auto"], Range(0, 1_000_000)] = "auto"
    """Seconds between two checkpoints, or auto; 0 saves after every step. auto: as often as saving
    takes less than 1 % of the time, which is every few seconds for most networks, and at least once
    a minute unless a minute is too short for that."""
    extensions: tuple[str, ...] = ()
    """How many epochs were planned before the run was extended, such as "3 epochs until step 90".
    Filled in by resume --epochs, so that the same learning rates can be used again."""
    engine_changes: tuple[str, ...] = ()
    """Engines that the run had before the present one, such as "native, float32, contiguous, 2
    threads until step 90". Filled in where a busy machine made another one far faster."""


@dataclass(frozen=True, kw_only=True)
class ResolvedTraining(TrainingSettings):
    """How the weights are found, with every choice made: no "auto", no "all", no number missing.

    `workers` and `checkpoint_seconds` may stay "auto": they change no bit, so each start of a
    training decides them again.
    Runs from before `weight_decay_on` have "auto", and decay all parameters. Those from before
    `transfer` have "auto", and began with random weights.
    """

    epochs: int = field()
    batch_size: int = field()
    device: str = field()
    amp_dtype: str = field()
    memory_format: str = field()
    threads: int = field()
    engine: str = field()
