# %% [markdown]
# # 4. The simplest classifier
#
# Logistic regression gives every pixel one weight for each class, and that is all. It learns in
# seconds, and every network must beat it to be worth its trouble.

# %%
import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw

import sartor
from sartor.reports.figures import learning_curves, sample_grid

data = sartor.load("mnist")
network = torch.nn.Linear(28 * 28, 10)
assert sum(weight.numel() for weight in network.parameters()) == 7_850

# %% [markdown]
# It takes vectors, and an image is not one: the last dimension of (1, 28, 28) is 28, not 784, so
# PyTorch refuses. Flattening helps.

# %%
image = torch.from_numpy(data.images[0]).float() / 255
try:
    network(image)
except RuntimeError as error:
    print("refused:", error)
else:
    raise AssertionError("a shape that does not fit was taken")
assert network(image.flatten()).shape == (10,)

# %% [markdown]
# ## Hold out some images
#
# Whether training goes well shows on images it never trains on: the *validation* split. It must be
# drawn at random. Files are often sorted, and the last part of a sorted set has classes that the
# rest does not have:

# %%
in_order = np.sort(data.labels[data.not_for_testing()])
assert set(in_order[:50_000]) != set(in_order[50_000:])
assert 9 not in in_order[:50_000]

# %% [markdown]
# sartor draws from every class in proportion, depending on the seed, and stores the indices in the
# run.

# %%
run = sartor.fit(
    data,
    model="linear",
    epochs=4,
    batch_size=128,
    opt="sgd",
    lr=0.001,
    sched="constant",
    val_fraction=10_000 / 60_000,
    mean=0,
    std=1,
    seed=0,
)
split = run.split()
assert (len(split.train), len(split.val), len(split.test)) == (50_000, 10_000, 10_000)
assert not set(split.train) & set(split.val)
assert set(data.labels[split.val]) == set(range(10))

# %% [markdown]
# ## Two numbers, two purposes
#
# *Accuracy* is what people ask for, and cannot be trained on: a tiny change of a weight changes no
# prediction, so its gradient is 0 almost everywhere. And it ignores confidence: a prediction that
# is barely right counts as much as one that is certain.
#
# *Cross-entropy* sees both. Softmax turns the logits into probabilities; the loss is the negative
# logarithm of the true class's probability.

# %%
label = torch.tensor([2])
sure = torch.tensor([[0.0, 0.0, 5.0]])
by_a_hair = torch.tensor([[0.0, 0.0, 0.1]])
for logits in (sure, by_a_hair):
    assert math.isclose(logits.softmax(1).sum().item(), 1, rel_tol=1e-6)
    assert logits.argmax(1) == label
assert F.cross_entropy(sure, label) < F.cross_entropy(by_a_hair, label)

nudged = by_a_hair + torch.tensor([[0.0, 0.01, 0.0]])
assert (nudged.argmax(1) == label) == (by_a_hair.argmax(1) == label)
assert F.cross_entropy(nudged, label) > F.cross_entropy(by_a_hair, label)

# %% [markdown]
# ## How it went
#
# Before the first step the network guesses: about a tenth is right, and the loss is near ln 10.
# Then accuracy climbs, quickly at first.

# %%
accuracies = [row["val_accuracy"] for row in run.history]
assert accuracies == sorted(accuracies)
assert 0.55 < accuracies[0] < 0.75
assert 0.75 < accuracies[-1] < 0.85
print([f"{accuracy:.2%}" for accuracy in accuracies])
learning_curves(run.history)

# %% [markdown]
# A run can be trained longer, as if all epochs had been requested at once; after 20 epochs it is
# near 86 %. `sartor fit --recipe mnist-logistic` trains it.

# %%
run = run.resume(epochs=6)
assert run.history[-1]["val_accuracy"] > accuracies[-1]

# %% [markdown]
# ## One image at a time, right and wrong

# %%
test = data.test[:500]
wanted = [data.images[index] for index in test]
network = run.network()
with torch.no_grad():
    pixels = torch.from_numpy(np.stack(wanted)).float() / 255
    guesses = network(pixels).argmax(1).numpy()
truth = data.labels[test]
right = test[guesses == truth][:3]
wrong = test[guesses != truth][:5]
assert len(right) == 3
assert len(wrong) == 5
shown = np.concatenate([right, wrong])
sample_grid(
    data, shown, captions=[f"{data.labels[i]}, seen as {guesses[i - test[0]]}" for i in shown]
)

# %% [markdown]
# ## The test, once
#
# The test split is for the end: every choice made by looking at it makes its accuracy a little too
# optimistic. Only verbs that judge, such as `evaluate`, touch it.

# %%
judgement = run.evaluate("test")
low, high = judgement.accuracy_interval
assert judgement.count == 10_000
assert 0.75 < low < judgement.accuracy < high
print(f"loss {judgement.loss:.4f}, accuracy {judgement.accuracy:.2%} ({low:.2%} to {high:.2%})")

# %% [markdown]
# ## What it has learnt can be looked at
#
# Each class has 784 weights, one per pixel: a picture of what it is looking for.

# %%
weights = network[-1].weight.detach()
assert weights.shape == (10, 784)
span = weights.abs().max()
pictures = ((weights / span + 1) * 127.5).round().to(torch.uint8).reshape(10, 28, 28).numpy()
templates = sartor.Dataset(pictures, np.arange(10), name="templates")
sample_grid(templates, range(10), columns=5)

# %% [markdown]
# ## Your own digit
#
# Write a digit, photograph it, and ask: `run.predict("mine.png")`. Here one is drawn: a thin 7 near
# the corner of a white page. It is nothing like MNIST, whose digits are white on black, 20 pixels
# tall, their centre of mass in the middle. The run knows how its set was made, so it looks for ink
# on the page and prepares it in the same way.

# %%
page = Image.new("L", (200, 200), "white")
ImageDraw.Draw(page).line([(110, 30), (160, 32), (130, 105)], fill=0, width=3)
page.save("mine.png")

(answer,) = run.predict("mine.png")
assert answer.label == "7"
print(f"{answer.label} at {answer.probability:.0%}")
seen = sartor.api.inputs(run, "mine.png")
sartor.api.inputs_figure(seen)

# %% [markdown]
# Taken as it is, the page is a bright square with a few gray pixels. The network answers all the
# same, and the answer means nothing; but how bright training images are is known, so it is said.

# %%
(careless,) = run.predict("mine.png", ink="off")
assert any("brightness" in difference for difference in careless.unlike_training)
print(f"{careless.label} at {careless.probability:.0%}, but", *careless.unlike_training, sep="\n  ")
