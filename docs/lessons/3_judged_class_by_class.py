# %% [markdown]
# # 3. Judged class by class
#
# One number, the accuracy, hides most of what a classifier does. In this lesson a multi-layer
# perceptron learns handwritten digits, and we ask which digits it confuses, look at its mistakes,
# save it, and continue training as if nothing had happened.

# %%
import io

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

import sartor
from sartor.data.pictures.preprocess import as_picture
from sartor.reports.figures import confusion_figure, learning_curves, pixel_image, sample_grid

data = sartor.load("mnist")
sample_grid(data, range(16))

# %% [markdown]
# An image is just a grid of numbers. With every pixel's value written on it:

# %%
pixel_image(data, 0)

# %% [markdown]
# ## From the data to the network
#
# Four decisions, each with a name in every framework:
#
# - *batch size*: how many images share one step;
# - *shuffle*: a new order each epoch, so that no step sees sorted data;
# - *drop last*: leave out the short batch at the end of an epoch, or not;
# - *device*: `cuda` where there is a GPU, else `mps` on a Mac, else `cpu`. Model and data must be
#   on the same one: PyTorch refuses to mix them.

# %%
images = torch.from_numpy(data.images[:100])
loader = torch.utils.data.DataLoader(
    torch.utils.data.TensorDataset(images, torch.from_numpy(data.labels[:100])),
    batch_size=32,
    shuffle=True,
)
assert [len(labels) for _, labels in loader] == [32, 32, 32, 4]
short = torch.utils.data.DataLoader(loader.dataset, batch_size=32, drop_last=True)
assert [len(labels) for _, labels in short] == [32, 32, 32]

# On a device called "meta" tensors have shapes but no numbers; it stands here for any other one.
try:
    torch.nn.Linear(784, 10)(torch.zeros(1, 784, device="meta"))
except RuntimeError as error:
    print("mixing devices:", str(error).splitlines()[0])
else:
    raise AssertionError("devices were mixed")

# %% [markdown]
# Pixels are scaled to 0..1 and *normalised*: minus the mean, divided by the standard deviation,
# both measured on the training images. The inverse restores the picture.

# %%
pixels = images.float() / 255
mean, std = pixels.mean(), pixels.std()
normalised = (pixels - mean) / std
assert abs(normalised.mean()) < 1e-4
assert abs(normalised.std() - 1) < 1e-4
assert torch.allclose(normalised * std + mean, pixels, atol=1e-6)

# %% [markdown]
# ## Train
#
# 784 pixels, two hidden layers of 512, ten outputs; dropout switches off a fifth of the units in
# each step, so that none can rely on another. We train on a sixth of the images, to keep the wait
# short.

# %%
part = np.concatenate([np.arange(10_000), data.test[:2_000]])
small = sartor.Dataset(
    data.images[part],
    data.labels[part],
    data.classes,
    test=np.arange(10_000, 12_000),
    name="mnist-sixth",
)
run = sartor.fit(
    small,
    model="mlp",
    model_kwargs={"hidden": (512, 512), "dropout": 0.2},
    epochs=3,
    batch_size=32,
    opt="sgd",
    lr=0.05,
    sched="constant",
    seed=0,
)
learning_curves(run.history)

# %% [markdown]
# ## Evaluate
#
# 2,000 test images are a sample of all that could have been written. The interval contains the
# accuracy on all of them 19 times out of 20.

# %%
judgement = run.evaluate("test")
low, high = judgement.accuracy_interval
assert low < judgement.accuracy < high
assert judgement.accuracy > 0.85
print(f"{judgement.accuracy:.1%}, between {low:.1%} and {high:.1%}")
for row in judgement.per_class:
    low, high = row.interval
    print(f"{row.class_name}: {row.accuracy:6.1%} of {row.count}, {low:.1%} to {high:.1%}")

# %% [markdown]
# The counts of the classes add up to the whole, and so do the correct predictions: the accuracy is
# a sum over images divided once, never a mean of means.

# %%
assert sum(row.count for row in judgement.per_class) == 2_000
right = sum(row.correct for row in judgement.per_class)
assert judgement.accuracy == right / 2_000
confusion_figure(judgement)

# %% [markdown]
# ## The mistakes, worst first
#
# "Worst" is where the true class got the lowest probability. Look at them: some are sloppy digits
# that you would not have read any better.

# %%
predictions = sartor.api.predictions_of(run, "test")
wrong = np.flatnonzero(predictions.predicted() != predictions.labels)
worst = wrong[np.argsort(-predictions.example_losses()[wrong])][:16]
captions = [f"{predictions.labels[row]}, seen as {predictions.predicted()[row]}" for row in worst]
sample_grid(small, predictions.indices[worst], captions=captions)

# %% [markdown]
# ## Save and continue
#
# A checkpoint needs the weights, the optimizer's state and the position in the training. By hand,
# that is a dictionary; read it back with `weights_only=True`, which refuses to run code from the
# file.

# %%
network = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
batch, targets = torch.randn(8, 4), torch.randint(2, (8,))


def step(network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    F.cross_entropy(network(batch), targets).backward()
    optimizer.step()


step(network, optimizer)
file = io.BytesIO()
torch.save({"epoch": 1, "weights": network.state_dict(), "optimizer": optimizer.state_dict()}, file)
step(network, optimizer)

file.seek(0)
saved = torch.load(file, weights_only=True)
again = torch.nn.Linear(4, 2)
again.load_state_dict(saved["weights"])
optimizer_again = torch.optim.SGD(again.parameters(), lr=0.1, momentum=0.9)
optimizer_again.load_state_dict(saved["optimizer"])
step(again, optimizer_again)
assert torch.equal(network.weight, again.weight)

# %% [markdown]
# sartor saves one after every epoch and in between, in a format that cannot hold code, and a
# resumed run ends with the same bits as one that was never stopped. Here, three epochs plus one
# more, compared with four at once:

# %%
settings = {
    "model": "mlp",
    "model_kwargs": {"hidden": (32,), "dropout": 0.2},
    "opt": "sgd",
    "lr": 0.05,
    "sched": "constant",
    "seed": 1,
    "threads": 1,
}
digits = sartor.load("digits")
resumed = sartor.fit(digits, epochs=3, **settings).resume(epochs=4)
at_once = sartor.fit(digits, epochs=4, **settings)
assert resumed.weights_sha256 == at_once.weights_sha256

# %% [markdown]
# ## New pictures from old ones
#
# Slightly cropped, rotated or mirrored, a picture is new to the network and the same to us. Each
# transform is a function from picture to picture; random ones draw again every time.

# %%
boot = as_picture(sartor.load("fashion-mnist").images[0])
random = np.random.default_rng(0)


def crop(picture: Image.Image, left: int, top: int, size: int) -> Image.Image:
    return picture.crop((left, top, left + size, top + size))


def random_crop(picture: Image.Image, size: int) -> Image.Image:
    left, top = random.integers(0, picture.width - size + 1, size=2)
    return crop(picture, left, top, size)


variants = {
    "resize": boot.resize((14, 14)),
    "centre crop": crop(boot, 4, 4, 20),
    "random crop": random_crop(boot, 20),
    "horizontal flip": boot.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "vertical flip": boot.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    "rotation": boot.rotate(random.uniform(-30, 30)),
    "grayscale": boot.convert("RGB").convert("L"),
}
corners = [crop(boot, left, top, 20) for left in (0, 8) for top in (0, 8)]
five_crop = [*corners, crop(boot, 4, 4, 20)]
assert {picture.size for picture in five_crop} == {(20, 20)}
assert variants["horizontal flip"].transpose(Image.Transpose.FLIP_LEFT_RIGHT) == boot
assert variants["grayscale"] == boot
assert random_crop(boot, 20) != random_crop(boot, 20)

# %% [markdown]
# ## Where gradients come from
#
# PyTorch records every operation on tensors that require gradients, and walks that graph backwards.
# For d = 4 (3a + 2b), summed, the gradients are 12 for every a and 8 for every b.

# %%
a = torch.ones(3, requires_grad=True)
b = torch.ones(3, requires_grad=True)
c = 3 * a + 2 * b
d = (4 * c).sum()
d.backward()
assert a.grad.tolist() == [12, 12, 12]
assert b.grad.tolist() == [8, 8, 8]
# Only the leaves keep theirs; c was a stop on the way.
assert a.is_leaf
assert not c.is_leaf
assert not c.retains_grad

# %% [markdown]
# Where nothing is to be learnt, recording can be switched off:

# %%
with torch.no_grad():
    e = 3 * a + 2 * b
assert not e.requires_grad
assert e.grad_fn is None
