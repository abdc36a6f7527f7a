# %% [markdown]
# # 1. A tensor flows through a network
#
# A classifier for pictures of clothes is a chain of simple operations. In this lesson one picture
# goes through such a chain, and we look at its shape after every operation. At the end, one step of
# training changes the network, and we check that it was a step in the right direction.

# %%
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import sartor
from sartor.reports.figures import sample_grid

# %% [markdown]
# ## Look at the data first
#
# Fashion-MNIST holds 70,000 gray pictures of 28 by 28 pixels: 60,000 to learn from and 10,000 that
# the source sets aside for testing. There are ten kinds of clothes, equally frequent.

# %%
data = sartor.load("fashion-mnist")
train = data.not_for_testing()
assert len(train) == 60_000
assert np.bincount(data.labels[train]).tolist() == [6_000] * 10
print(data)

# %% [markdown]
# One sample is an image and a label. The image has three dimensions, (channels, height, width);
# its pixels are whole numbers from 0 (black) to 255 (white).

# %%
sample = data[0]
assert sample.image.shape == (1, 28, 28)
assert sample.image.dtype == np.uint8
print(sample.label, sample.class_name)

# %% [markdown]
# A grid of a batch, eight per row. Spend a minute on it: whoever has looked at the pictures knows
# which mistakes to expect. (Is that a shirt, or a pullover?)

# %%
figure = sample_grid(data, range(16))
figure

# %% [markdown]
# PyTorch wants numbers between 0 and 1, and several images at once: a *batch*, whose first
# dimension counts the images. `data.torch()` is the same data for a `DataLoader`.

# %%
loader = torch.utils.data.DataLoader(data.torch(), batch_size=16)
images, labels = next(iter(loader))
assert images.shape == (16, 1, 28, 28)
assert images.dtype == torch.float32
assert labels.tolist() == data.labels[:16].tolist()

# %% [markdown]
# ## A network by hand
#
# Two convolutions look for small patterns, three linear layers weigh what was found. A layer is
# just its weights and a rule for using them, so we print the shapes of the weights.


# %%
class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, kernel_size=5)
        self.conv2 = nn.Conv2d(6, 12, kernel_size=5)
        self.fc1 = nn.Linear(12 * 4 * 4, 120)
        self.fc2 = nn.Linear(120, 60)
        self.out = nn.Linear(60, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = F.max_pool2d(F.relu(self.conv1(images)), 2)
        features = F.max_pool2d(F.relu(self.conv2(features)), 2)
        features = features.flatten(1)
        features = F.relu(self.fc1(features))
        features = F.relu(self.fc2(features))
        return self.out(features)


torch.manual_seed(0)
network = Network()
shapes = {name: tuple(weight.shape) for name, weight in network.named_parameters()}
assert shapes["conv1.weight"] == (6, 1, 5, 5)
assert shapes["conv2.weight"] == (12, 6, 5, 5)
assert shapes["fc1.weight"] == (120, 192)
assert shapes["fc2.weight"] == (60, 120)
assert shapes["out.weight"] == (10, 60)
shapes

# %% [markdown]
# ## What a linear layer does
#
# It multiplies a matrix by a vector: each row of the weights is one output's opinion of every
# input. Here with numbers that can be followed by eye, and without a bias:

# %%
layer = nn.Linear(4, 3, bias=False)
layer.weight = nn.Parameter(torch.tensor([[1.0, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5, 6]]))
product = layer(torch.tensor([1.0, 2, 3, 4]))
assert product.tolist() == [30, 40, 50]
assert torch.equal(product, layer.weight @ torch.tensor([1.0, 2, 3, 4]))

# %% [markdown]
# ## One image, operation by operation
#
# A 5x5 window fits into 28 pixels in 24 positions; pooling keeps the largest of every 2x2 pixels.
# Then 12 maps of 4x4 become one vector of 192 numbers, and the last layer gives ten.

# %%
image = images[:1]
steps = {}
with torch.no_grad():
    steps["conv1, relu"] = F.relu(network.conv1(image))
    steps["pool 1"] = F.max_pool2d(steps["conv1, relu"], 2)
    steps["conv2, relu"] = F.relu(network.conv2(steps["pool 1"]))
    steps["pool 2"] = F.max_pool2d(steps["conv2, relu"], 2)
    steps["flatten"] = steps["pool 2"].flatten(1)
    steps["fc1"] = F.relu(network.fc1(steps["flatten"]))
    steps["fc2"] = F.relu(network.fc2(steps["fc1"]))
    steps["out"] = network.out(steps["fc2"])
assert [tuple(step.shape) for step in steps.values()] == [
    (1, 6, 24, 24),
    (1, 6, 12, 12),
    (1, 12, 8, 8),
    (1, 12, 4, 4),
    (1, 192),
    (1, 120),
    (1, 60),
    (1, 10),
]
for name, step in steps.items():
    print(f"{name:12} {tuple(step.shape)}")

# %% [markdown]
# sartor prints the same table for any network, with parameters and multiply-adds:

# %%
print(sartor.summary(network, data))

# %% [markdown]
# ## What an untrained network returns
#
# The ten numbers are *logits*. Softmax turns them into probabilities: positive, with a sum of 1. An
# untrained network gives every class about a tenth, so its best guess means nothing.

# %%
with torch.no_grad():
    logits = network(image)
    probabilities = logits.softmax(dim=1)
assert math.isclose(probabilities.sum().item(), 1, abs_tol=1e-6)
assert (probabilities - 0.1).abs().max() < 0.05
with torch.no_grad():
    guesses = network(images[:10]).argmax(dim=1)
print("guesses", guesses.tolist(), "true", labels[:10].tolist())

# %% [markdown]
# The *cross-entropy* is the negative logarithm of the true class's probability. For a tenth that is
# ln 10, about 2.303: the *chance level* for 10 classes, and the loss to expect before training. If
# the first loss is far from it, something is wrong.

# %%
batch_images, batch_labels = next(iter(torch.utils.data.DataLoader(data.torch(), batch_size=100)))
loss = F.cross_entropy(network(batch_images), batch_labels)
by_hand = -network(batch_images).log_softmax(1)[range(100), batch_labels].mean()
assert torch.isclose(loss, by_hand)
assert abs(loss.item() - math.log(10)) < 0.1

# %% [markdown]
# ## One step back
#
# Before `backward` there are no gradients; afterwards every weight has one, of its own shape. It
# points in the direction in which the loss grows; the optimizer goes the other way.

# %%
assert network.conv1.weight.grad is None
loss.backward()
assert network.conv1.weight.grad.shape == network.conv1.weight.shape == (6, 1, 5, 5)

optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
optimizer.step()
with torch.no_grad():
    after = F.cross_entropy(network(batch_images), batch_labels)
assert after < loss
print(f"loss {loss.item():.4f} -> {after.item():.4f}")

# %% [markdown]
# ## All of it under a microscope
#
# `sartor.trace` sends an image or a batch through any network, forward and backward, and makes one
# step on a copy: the shapes, the loss and the gradients of this lesson, with pictures. On the
# command line, `sartor trace RUN --image 389 --out trace.html` turns it into a page.

# %%
fresh = Network()
trace = sartor.trace(fresh, batch_images, batch_labels)
flow = [layer.output_shape[1:] for layer in trace.layers]
assert [shape for shape in flow if shape in {(6, 24, 24), (12, 4, 4), (192,), (10,)}]
assert trace["conv1.weight"].gradient.shape == (6, 1, 5, 5)
assert trace.step.loss_after < trace.step.loss_before
assert all(weight.grad is None for weight in fresh.parameters())
trace

# %% [markdown]
# ## The same with sartor, and further
#
# `lenet` is this network. Five epochs in file order, batches of 100 and Adam at 0.01 are the recipe
# `fashion-cnn`; here we train one epoch on a tenth of the images, to keep the wait short.

# %%
tenth = np.arange(6_000)
small = sartor.Dataset(data.images[tenth], data.labels[tenth], data.classes, name="a-tenth")
run = sartor.fit(
    small, model="lenet", epochs=1, batch_size=100, opt="adam", lr=0.01, shuffle=False, seed=0
)
assert run.history[0]["val_accuracy"] > 0.5
run.history

# %% [markdown]
# Run `sartor fit --recipe fashion-cnn` for the full training: about 52,500 of 60,000 images are
# correct in the fifth epoch. docs/reproduction.md has every figure with its standard deviation.
