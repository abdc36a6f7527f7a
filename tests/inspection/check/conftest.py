"""Subjects for the checks: the digits, and folders of digits with and without planted faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sartor.data.dataset import Dataset
from sartor.data.listing import Listing
from sartor.data.pictures.prepare import prepared
from sartor.data.settings import DataSettings, PreprocessSettings
from sartor.data.sources import find_source
from sartor.data.splits.split import make_split
from sartor.inspection.check.finding import Finding
from sartor.inspection.check.running import run_checks
from sartor.inspection.check.subject import Subject

Found = Callable[..., dict[str, Finding]]


def subject_of(dataset: Dataset) -> Subject:
    """The dataset with the split that training would use."""
    split = make_split(dataset, val_fraction=0.1, test_fraction=0.2, seed=0)
    return Subject(dataset=dataset, split=split)


def subject_of_folder(root: Path, **settings: object) -> Subject:
    """A folder's pictures, those that can be read, with what was seen of all."""
    listing = find_source(DataSettings(source=str(root)))
    assert isinstance(listing, Listing)
    pictures = prepared(listing, replace(PreprocessSettings(), **settings))
    return replace(subject_of(pictures.dataset(excluded=pictures.facts.faults)), prepared=pictures)


@pytest.fixture(scope="session")
def found() -> Found:
    """The findings of named checks by their kind."""

    def find(subject: Subject, *names: str) -> dict[str, Finding]:
        findings = run_checks(subject, names).findings
        assert len({finding.kind for finding in findings}) == len(findings)
        assert all(finding.check in names for finding in findings)
        return {finding.kind: finding for finding in findings}

    return find


@pytest.fixture(scope="session")
def digits_folder(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each of four digits, 40 pictures of 24 x 24 each; not to be changed."""
    root = tmp_path_factory.mktemp("pictures") / "digits"
    for label, name in enumerate(("zero", "one", "two", "three")):
        folder = root / name
        folder.mkdir(parents=True)
        for number, index in enumerate(np.flatnonzero(digits.labels == label)[:40]):
            picture = Image.fromarray(digits.images[index, 0] // 2)
            picture.resize((24, 24), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return root
