# %% [markdown]
# # 5. From tensors to a trained network
#
# Everything in deep learning is a tensor: a block of numbers of one kind, with a shape. This lesson
# starts there and ends with networks that learn, by different rules, on one plot.

# %%
import itertools
import math
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from PIL import Image

import sartor

# %% [markdown]
# ## Tensors
#
# The *rank* is the number of dimensions: a number has none, a vector one, a table two, a colour
# image three.

# %%
assert [torch.zeros(shape).ndim for shape in ((), (3,), (2, 3), (3, 28, 28))] == [0, 1, 2, 3]

# %% [markdown]
# The *dtype* is the type of the numbers. Addition promotes to the wider type; a matrix product
# refuses instead. NumPy's default float64 is kept, and is how most people run into this.

# %%
assert torch.tensor([1, 2]).dtype == torch.int64
assert torch.tensor([1.0, 2]).dtype == torch.float32
assert (torch.tensor([1]) + torch.tensor([1.0])).dtype == torch.float32
from_numpy = torch.from_numpy(np.ones((2, 2)))
assert from_numpy.dtype == torch.float64
try:
    from_numpy @ torch.ones(2, 2)
except RuntimeError as error:
    print("refused:", error)
else:
    raise AssertionError("two kinds of numbers were multiplied")
assert (from_numpy.float() @ torch.ones(2, 2)).tolist() == [[2, 2], [2, 2]]

# %% [markdown]
# Many operations do not copy: they return another *view* of the same memory, so that writing to one
# changes both. That is convenient, fast, and a trap.

# %%
table = torch.arange(6)
view = table.view(2, 3)
view[0, 0] = 100
assert table[0] == 100
copy = table.clone()
copy[0] = 0
assert table[0] == 100

assert torch.zeros(1, 28, 28).squeeze().shape == (28, 28)
assert torch.zeros(28, 28).unsqueeze(0).shape == (1, 28, 28)
# From height, width, channels, as files have it, to channels, height, width, as PyTorch wants it.
assert torch.zeros(28, 32, 3).permute(2, 0, 1).shape == (3, 28, 32)
assert torch.arange(12).reshape(3, 4)[1:, ::2].tolist() == [[4, 6], [8, 10]]

# %% [markdown]
# A *seed* makes random numbers repeatable.

# %%
torch.manual_seed(7)
first = torch.rand(3)
torch.manual_seed(7)
assert torch.equal(first, torch.rand(3))

# %% [markdown]
# ## Gradients
#
# With more than one output, `backward` needs to know how much each counts. For y = (x + 1)^2 at the
# identity, with ones: dy/dx = 2 (x + 1), which is 4 on the diagonal and 2 elsewhere.

# %%
x = torch.eye(4, 5, requires_grad=True)
y = (x + 1).pow(2)
y.backward(torch.ones_like(y), retain_graph=True)
expected = 2 + 2 * torch.eye(4, 5)
assert torch.equal(x.grad, expected)

# Gradients add up until they are zeroed; forgetting that is a classic mistake.
y.backward(torch.ones_like(y), retain_graph=True)
assert torch.equal(x.grad, 2 * expected)
x.grad.zero_()
y.backward(torch.ones_like(y))
assert torch.equal(x.grad, expected)

# %% [markdown]
# ## Your own data
#
# Most people do not have MNIST; they have pictures of any size and a list that says what is what.
# We create such data: circles and squares, and a file with lines of `path label`.

# %%
folder = Path(tempfile.mkdtemp())
random = np.random.default_rng(0)
lines = []
for number in range(60):
    kind = ("circle", "square")[number % 2]
    width, height = random.integers(20, 60, size=2)
    rows, columns = np.mgrid[:height, :width]
    row, column, radius = height / 2, width / 2, min(height, width) / 3
    if kind == "circle":
        inside = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
    else:
        inside = (abs(rows - row) < radius) & (abs(columns - column) < radius)
    pixels = random.integers(0, 60, size=(height, width, 3), dtype=np.uint8)
    pixels[inside] += np.array([150, 120, 40], np.uint8)
    Image.fromarray(pixels).save(folder / f"{number}.png")
    lines.append(f"{number}.png {kind}")
(folder / "labels.txt").write_text("\n".join(lines))
print(lines[:4])

# %% [markdown]
# By hand: read, resize, stack; and for some losses, turn the labels into *one-hot* vectors.

# %%
listed = [line.split() for line in lines]
classes = sorted({kind for _, kind in listed})
pictures = [Image.open(folder / name).convert("RGB").resize((32, 32)) for name, _ in listed]
images = torch.stack([torch.from_numpy(np.array(one)).permute(2, 0, 1) for one in pictures])
labels = torch.tensor([classes.index(kind) for _, kind in listed])
assert images.shape == (60, 3, 32, 32)
one_hot = F.one_hot(labels)
assert one_hot[0].tolist() == [1, 0]
assert one_hot.sum(1).tolist() == [1] * 60

# %% [markdown]
# With sartor, the list is a dataset like any other.

# %%
shapes = sartor.load(folder / "labels.txt", image_size=32)
assert shapes.classes == ("circle", "square")
assert shapes.shape == (3, 32, 32)
assert shapes.labels.tolist() == labels.tolist()
run = sartor.fit(shapes, model="lenet", epochs=40, batch_size=8, seed=0, out=folder / "run")
assert run.history[-1]["train_accuracy"] > 0.9

# %% [markdown]
# ## A network is a chain
#
# Flatten, linear, ReLU, linear, ReLU, ... On a device: `cuda` if there is one, else `mps`, else
# `cpu`.

# %%
data = sartor.load("fashion-mnist")


def network_of(*widths: int) -> torch.nn.Module:
    torch.manual_seed(0)
    layers: list[torch.nn.Module] = [torch.nn.Flatten()]
    for before, after in itertools.pairwise(widths):
        layers += [torch.nn.Linear(before, after), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


device = (
    "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
)
network = network_of(784, 128, 64, 32, 10).to(device)
assert network(torch.zeros(5, 1, 28, 28, device=device)).shape == (5, 10)

# %% [markdown]
# ## Losses
#
# Four ways to measure how wrong a prediction is. The two binary cross-entropies are the same: with
# logits, the sigmoid is inside, which is safer for large numbers.

# %%
logits, target = torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([0])
hot = F.one_hot(target, 3).float()
cross_entropy = F.cross_entropy(logits, target)
assert torch.isclose(cross_entropy, -logits.softmax(1)[0, 0].log())
mean_squared = F.mse_loss(logits, hot)
assert torch.isclose(mean_squared, ((logits - hot) ** 2).mean())
binary = F.binary_cross_entropy(logits.sigmoid(), hot)
assert torch.isclose(binary, F.binary_cross_entropy_with_logits(logits, hot))

# %% [markdown]
# ## Losses and optimizers, side by side
#
# The same network, the same images, the same number of passes. What differs is what is minimised
# and how. Gradient descent on the whole set makes one careful step per epoch; on mini-batches, many
# rough ones; Adam and RMSProp give every weight its own step size.

# %%
part = np.arange(2_000)
small = sartor.Dataset(data.images[part], data.labels[part], data.classes, name="2000-clothes")
common = {
    "val_fraction": 0.3,
    "model": "mlp",
    "model_kwargs": {"hidden": (64, 32)},
    "epochs": 6,
    "sched": "constant",
    "seed": 0,
    "threads": 1,
}
ways = {
    "whole set, gradient descent": {"opt": "sgd", "lr": 0.1, "batch_size": "all"},
    "mini-batches, sgd": {"opt": "sgd", "lr": 0.1, "batch_size": 32},
    "mini-batches, Adam": {"opt": "adam", "lr": 0.002, "batch_size": 32},
    "mini-batches, RMSProp": {"opt": "rmsprop", "lr": 0.001, "batch_size": 32},
    "mini-batches, Adam, mse": {"opt": "adam", "lr": 0.002, "batch_size": 32, "loss": "mse"},
    "mini-batches, Adam, bce": {"opt": "adam", "lr": 0.002, "batch_size": 32, "loss": "bce"},
}
curves = {
    name: [row["val_accuracy"] for row in sartor.fit(small, **common, **way).history]
    for name, way in ways.items()
}
figure = Figure(figsize=(8, 4), layout="constrained")
axes = figure.add_subplot()
for name, accuracies in curves.items():
    axes.plot(range(1, 7), accuracies, marker="o", label=name)
axes.set_xlabel("epoch")
axes.set_ylabel("validation accuracy")
axes.legend(fontsize=8)
assert curves["whole set, gradient descent"][-1] < curves["mini-batches, sgd"][-1]
assert all(curve[-1] > 0.6 for name, curve in curves.items() if "mini" in name)
figure

# %% [markdown]
# A single sample per step is possible too (`batch_size=1`): it is the roughest way, and the slowest
# on any modern machine, which is at its best with large matrices.

# %% [markdown]
# ## Slow on purpose
#
# With plain SGD at 0.001, a deep MLP hardly moves: it is near 10 % after one epoch and near 31 %
# after ten. The loss stays close to the chance level, ln 10, and that is how to notice. `sartor fit
# --recipe fashion-mlp` shows all of it.

# %%
slow = sartor.fit(small, **common | {"epochs": 1}, opt="sgd", lr=0.001, batch_size=128)
assert abs(slow.history[0]["val_loss"] - math.log(10)) < 0.1

# %% [markdown]
# ## Save, load
#
# A *state dict* maps names to weights. Loaded into a network of the same shape, it gives the same
# logits.

# %%
file = folder / "weights.pt"
torch.save(network.state_dict(), file)
again = network_of(784, 128, 64, 32, 10).to(device)
with torch.no_grad():
    again[1].weight.zero_()
again.load_state_dict(torch.load(file, weights_only=True))
pixels = torch.rand(3, 1, 28, 28, device=device)
assert torch.equal(network(pixels), again(pixels))
