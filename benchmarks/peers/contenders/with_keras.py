"""Keras: `Sequential`, `compile`, `fit`; on torch or on JAX, as KERAS_BACKEND says.

Arrays of floats with the channel last, as its introduction has them.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from ..layouts import from_keras, to_keras
from ..material import Array, Material


class Trainee:
    """One model, compiled once; every training sets its weights and its optimizer back."""

    metrics: list[str]
    choices: dict[str, Any]
    """For `fit`."""

    def __init__(self, material: Material) -> None:
        self.material = material
        training = material.task.training
        self.model = _model(material.task.name)
        self.model.compile(
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            optimizer=_optimizer(training.optimizer.__name__, training.learning_rate),
            metrics=self.metrics,
        )
        self.model.optimizer.build(self.model.trainable_variables)
        self.first = [np.array(one) for one in self.model.optimizer.variables]

    def prepare(self, epochs: int, head: bool) -> None:
        self.epochs = epochs
        self.data = _floats(*self.material.part(head))
        self.model.set_weights(to_keras(self.material.weights))
        for own, first in zip(self.model.optimizer.variables, self.first, strict=True):
            own.assign(first)

    def fit(self) -> None:
        self.model.fit(
            *self.data,
            batch_size=self.material.task.training.batch_size,
            epochs=self.epochs,
            shuffle=self.material.task.shuffle,
            **self.choices,
        )

    def weights(self) -> list[Array]:
        return from_keras(self.model.get_weights())


class OnBatches(Trainee):
    """The arrays in slices; nothing is shown, no metric but the loss."""

    metrics: list[str] = []  # noqa: RUF012
    choices: dict[str, Any] = {"verbose": 0}  # noqa: RUF012


class ByDefaults(Trainee):
    """With accuracy, a progress bar, and the images to judge after every epoch."""

    metrics = ["accuracy"]  # noqa: RUF012

    def prepare(self, epochs: int, head: bool) -> None:
        super().prepare(epochs, head)
        val = _floats(*self.material.val_part())
        self.choices = {"validation_data": val} if len(val[0]) else {}


class Predicting:
    """`predict` for many; for one image the model is called, as its documentation advises."""

    def __init__(self, material: Material) -> None:
        self.model = _model(material.task.name)
        self.model.set_weights(to_keras(material.weights))

    def many(self, images: Array) -> Array:
        floats = images[..., None].astype(np.float32) / 255
        answers = self.model.predict(floats, batch_size=1000, verbose=0)
        return np.asarray(answers).argmax(1)

    def one(self, image: Array) -> int:
        answer = self.model(image[None, ..., None].astype(np.float32) / 255, training=False)
        return int(keras.ops.convert_to_numpy(answer).argmax())


def _model(name: str) -> keras.Model:
    """The networks of `tutorial.py`, in Keras's words."""
    if name == "fashion-cnn":
        hidden = [
            layers.Conv2D(6, kernel_size=5, activation="relu"),
            layers.MaxPooling2D(pool_size=2),
            layers.Conv2D(12, kernel_size=5, activation="relu"),
            layers.MaxPooling2D(pool_size=2),
            layers.Flatten(),
            layers.Dense(120, activation="relu"),
            layers.Dense(60, activation="relu"),
        ]
    else:
        hidden = [layers.Flatten(), *_hidden_layers(name)]
    return keras.Sequential([keras.Input((28, 28, 1)), *hidden, layers.Dense(10)])


def _hidden_layers(name: str) -> list[keras.Layer]:
    if name == "mnist-mlp":
        pair = [(layers.Dense(512, activation="relu"), layers.Dropout(0.2)) for _ in range(2)]
        return [layer for both in pair for layer in both]
    sizes = {"mnist-logistic": (), "fashion-mlp": (128, 64, 32)}[name]
    return [layers.Dense(size, activation="relu") for size in sizes]


def _optimizer(name: str, learning_rate: float) -> keras.optimizers.Optimizer:
    """With PyTorch's epsilon, ten times smaller than Keras's."""
    if name == "Adam":
        return keras.optimizers.Adam(learning_rate, epsilon=1e-8)
    return keras.optimizers.SGD(learning_rate)


def _floats(images: Array, labels: Array) -> tuple[Array, Array]:
    """float32 (N, 28, 28, 1) in 0..1."""
    return images[..., None].astype(np.float32) / 255, labels
