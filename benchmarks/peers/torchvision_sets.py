"""The images of a task as torchvision serves them: a Pillow picture, a tensor, one by one."""

from __future__ import annotations

from torch.utils.data import ConcatDataset, Dataset, Subset
from tutorial import Sample

from .material import TORCHVISION, Material


def training_set(material: Material, head: bool) -> tuple[Dataset[Sample], Dataset[Sample]]:
    """To train on and to judge; the second may be empty. With `head`, few to train on."""
    from torchvision import datasets
    from torchvision.transforms import ToTensor

    task = material.task
    kind = getattr(datasets, TORCHVISION[task.source])
    train = kind(material.folder, train=True, transform=ToTensor())
    count = task.head_images if head else task.train_images
    if task.train_images + task.val_images <= len(train):
        everything = train
    else:
        everything = ConcatDataset(
            [train, kind(material.folder, train=False, transform=ToTensor())]
        )
    # A set that is used whole needs no subset around it.
    first = train if count == len(train) else Subset(everything, range(count))
    last = Subset(everything, range(task.train_images, task.train_images + task.val_images))
    return first, last
