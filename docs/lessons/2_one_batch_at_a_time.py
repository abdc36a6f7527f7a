# %% [markdown]
# # 2. One batch at a time
#
# Training consists of seven steps, repeated over and over:
#
# 1. take a batch,
# 2. send it forward through the network,
# 3. compute the loss,
# 4. compute the gradient of the loss for every weight,
# 5. update the weights,
# 6. repeat until every image was seen: that is an *epoch*,
# 7. repeat for as many epochs as it takes.
#
# We do each by hand, then let sartor do all of them and get the same numbers.

# %%
import numpy as np
import torch
import torch.nn.functional as F

import sartor

data = sartor.load("fashion-mnist")


def small_network(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 5),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(6, 12, 5),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(192, 120),
        torch.nn.ReLU(),
        torch.nn.Linear(120, 60),
        torch.nn.ReLU(),
        torch.nn.Linear(60, 10),
    )


def count_correct(logits: torch.Tensor, labels: torch.Tensor) -> int:
    return int((logits.argmax(dim=1) == labels).sum())


# %% [markdown]
# ## Steps 1 to 3: batch, forward, loss

# %%
network = small_network()
loader = torch.utils.data.DataLoader(data.torch(), batch_size=100)
images, labels = next(iter(loader))
logits = network(images)
loss = F.cross_entropy(logits, labels)
print(f"loss {loss.item():.3f}, right {count_correct(logits, labels)} of 100")

# %% [markdown]
# ## Steps 4 and 5: gradient, update
#
# `backward` fills in the gradients, the optimizer moves every weight a little against its gradient.

# %%
optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
assert network[0].weight.grad is None
loss.backward()
assert network[0].weight.grad.shape == (6, 1, 5, 5)
before = network[0].weight.detach().clone()
optimizer.step()
change = (network[0].weight.detach() - before).abs().max()
# Adam's first step moves every weight by the learning rate, whatever the gradient's size.
assert abs(change.item() - 0.01) < 1e-3

with torch.no_grad():
    logits_after = network(images)
    loss_after = F.cross_entropy(logits_after, labels)
assert loss_after < loss
print(f"loss {loss.item():.3f} -> {loss_after.item():.3f}")
print(f"right {count_correct(logits, labels)} -> {count_correct(logits_after, labels)} of 100")

# %% [markdown]
# A larger batch gives a steadier gradient, a smaller one more updates per epoch. With 10 images,
# the direction depends much more on which ten they were:


# %%
def gradients(batch_size: int, batches: int = 20) -> torch.Tensor:
    """The first layer's gradient on several batches, as rows."""
    network = small_network()
    rows = []
    for number in range(batches):
        part = slice(number * batch_size, (number + 1) * batch_size)
        network.zero_grad()
        batch = torch.from_numpy(data.images[part]).float() / 255
        F.cross_entropy(network(batch), torch.from_numpy(data.labels[part])).backward()
        rows.append(network[0].weight.grad.flatten().clone())
    return torch.stack(rows)


deviations = {size: gradients(size).std(dim=0).mean().item() for size in (10, 100)}
assert deviations[10] > 2 * deviations[100]
deviations

# %% [markdown]
# ## Steps 6 and 7: epoch, epochs
#
# The loop adds up what it sees. Losses are summed over images and divided once, at the end: a mean
# of the batches' means would give the images of a short last batch too much weight.


# %%
def train_by_hand(images: np.ndarray, labels: np.ndarray, epochs: int) -> list[float]:
    network = small_network()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    accuracies = []
    for _ in range(epochs):
        correct = 0
        for start in range(0, len(images), 100):
            batch = torch.from_numpy(images[start : start + 100]).float() / 255
            targets = torch.from_numpy(labels[start : start + 100])
            logits = network(batch)
            loss = F.cross_entropy(logits, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            correct += count_correct(logits, targets)
        accuracies.append(correct / len(images))
    return accuracies


part = np.arange(3_000)
by_hand = train_by_hand(data.images[part], data.labels[part], epochs=2)
assert by_hand[1] > by_hand[0]

# %% [markdown]
# ## The same in one line
#
# sartor's loop takes these seven steps and no others; it fits on one screen in
# `sartor/training/loop.py`. Given the same network, the same pixels in 0..1 (mean 0, std 1) and the
# same order, it reaches the same accuracies.

# %%
small = sartor.Dataset(data.images[part], data.labels[part], data.classes, name="3000-clothes")
run = sartor.fit(
    small,
    model=small_network(),
    epochs=2,
    batch_size=100,
    opt="adam",
    lr=0.01,
    sched="constant",
    shuffle=False,
    val_fraction=0,
    test_fraction=0,
    mean=0,
    std=1,
)
with_sartor = [row["train_accuracy"] for row in run.history]
assert np.allclose(by_hand, with_sartor, atol=0.02)
print("by hand", by_hand, "sartor", with_sartor)

# %% [markdown]
# The two agree, except for a few images that a different order of additions may tip over.
