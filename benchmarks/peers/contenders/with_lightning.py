"""Lightning: a LightningModule, a LightningDataModule and a Trainer."""

from __future__ import annotations

from typing import Any

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor, optim
from torch.utils.data import DataLoader, TensorDataset

from ..material import Array, Batch, Material, weights_of
from ..torchvision_sets import training_set


class Classifier(lightning.LightningModule):
    """A network of `tutorial.py`."""

    def __init__(self, material: Material) -> None:
        super().__init__()
        self.network = material.network()
        self.training_of_task = material.task.training

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002
        images, labels = batch
        loss = F.cross_entropy(self.network(images), labels)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        images, labels = batch
        logits = self.network(images)
        self.log("val_loss", F.cross_entropy(logits, labels), prog_bar=True)
        accuracy = (logits.argmax(1) == labels).float().mean()
        self.log("val_acc", accuracy, prog_bar=True)

    def predict_step(self, batch: tuple[Tensor], batch_idx: int) -> Tensor:  # noqa: ARG002
        logits: Tensor = self.network(batch[0])
        return logits

    def configure_optimizers(self) -> optim.Optimizer:
        training = self.training_of_task
        return training.optimizer(self.network.parameters(), lr=training.learning_rate)


class Pictures(lightning.LightningDataModule):
    """torchvision's set in loaders."""

    def __init__(self, material: Material, head: bool) -> None:
        super().__init__()
        self.size = material.task.training.batch_size
        self.shuffle = material.task.shuffle
        self.train_set, self.val_set = training_set(material, head)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train_set, batch_size=self.size, shuffle=self.shuffle)

    def val_dataloader(self) -> Any:
        return DataLoader(self.val_set, batch_size=self.size) if len(self.val_set) else []


class Trainee:
    """A module of its own for every training."""

    trainer: lightning.Trainer
    data: dict[str, Any]

    def __init__(self, material: Material) -> None:
        self.material = material

    def prepare(self, _epochs: int, _head: bool) -> None:
        self.module = Classifier(self.material)

    def fit(self) -> None:
        self.trainer.fit(self.module, **self.data)

    def weights(self) -> list[Array]:
        return weights_of(self.module.network)


class OnBatches(Trainee):
    """`barebones` switches off all that may cost speed, logging included."""

    def prepare(self, epochs: int, head: bool) -> None:
        super().prepare(epochs, head)
        self.trainer = lightning.Trainer(max_epochs=epochs, barebones=True)
        self.data = {"train_dataloaders": self.material.ready_loader(head)}


class ByDefaults(Trainee):
    """Progress bar, logger and checkpoints are on."""

    def prepare(self, epochs: int, head: bool) -> None:
        super().prepare(epochs, head)
        self.trainer = lightning.Trainer(max_epochs=epochs)
        self.data = {"datamodule": Pictures(self.material, head)}


class Predicting:
    """`Trainer.predict`; for a single image, its documentation has the module itself called."""

    def __init__(self, material: Material) -> None:
        self.module = Classifier(material)
        self.trainer = lightning.Trainer(logger=False, enable_progress_bar=False)

    def many(self, images: Array) -> Array:
        floats = torch.from_numpy(images)[:, None].float() / 255
        loader = DataLoader(TensorDataset(floats), batch_size=1000)
        answers: Any = self.trainer.predict(self.module, loader)
        return torch.cat(answers).argmax(1).numpy()

    def one(self, image: Array) -> int:
        raise NotImplementedError
