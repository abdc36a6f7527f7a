"""Work in shards: what comes of it is what the verbs themselves would say."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sartor
from sartor.api.spreading import work as work_with
from sartor.data.dataset import Dataset
from sartor.data.pictures.preprocess import Preprocess, as_picture
from sartor.errors import (
    CorruptDataError,
    DataError,
    FileError,
    MissingExtraError,
    UsageError,
)
from sartor.events import Note, Working
from sartor.models.backbones import BACKBONES, is_available

pyarrow = pytest.importorskip("pyarrow", reason="needs the extra parquet")

COUNT = 600
"""Three shards of 256, the last one in part."""


@pytest.fixture(scope="module")
def bundle(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run as a bundle; not to be changed."""
    out = tmp_path_factory.mktemp("bundle") / "shipped.zip"
    sartor.Run.open(trained).export(out)
    return out


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> Path:
    """Pictures of digits, some damaged; not to be changed."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(COUNT):
        as_picture(digits.images[number]).save(folder / f"{number}.png")
    for number in (0, 255, 400):
        (folder / f"{number}.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> Path:
    """Digits in class folders: one damaged, one twice; not to be changed."""
    folder = tmp_path_factory.mktemp("labelled")
    for number in range(120):
        path = folder / digits.classes[digits.labels[number]] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        as_picture(digits.images[number]).resize((20, 14 + number % 3)).save(path)
    shutil.copy(next((folder / "3").iterdir()), folder / "8" / "copy.png")
    (folder / "5" / "broken.jpg").write_bytes(b"no picture")
    return folder


def table(path: Path) -> Any:
    """A parquet file without what it says of itself."""
    return pyarrow.parquet.read_table(path).replace_schema_metadata(None)


class TestPredict:
    def test_the_same_rows_as_predict_writes(
        self, bundle: Path, pictures: Path, tmp_path: Path
    ) -> None:
        plan = sartor.plan_work(tmp_path / "work", "predict", pictures, model=bundle, shard_size=1)
        assert (plan.pictures, plan.shards, plan.shard_size) == (COUNT, 3, 256)
        worked = sartor.work(tmp_path / "work", threads=2)
        sartor.predict_to_file(bundle, pictures, tmp_path / "all.parquet")
        assert table(tmp_path / "work" / "predictions.parquet").equals(
            table(tmp_path / "all.parquet")
        )
        assert worked.summary["without"] == 3

    def test_of_a_run_with_few_probabilities(
        self, trained: Path, pictures: Path, tmp_path: Path
    ) -> None:
        options: dict[str, Any] = {"topk": 2, "calibrated": False}
        sartor.plan_work(tmp_path / "work", "predict", pictures, model=trained, **options)
        sartor.work(tmp_path / "work")
        sartor.predict_to_file(trained, pictures, tmp_path / "all.parquet", **options)
        assert table(tmp_path / "work" / "predictions.parquet").equals(
            table(tmp_path / "all.parquet")
        )

    def test_from_archives_tables_and_names(
        self, bundle: Path, pictures: Path, tmp_path: Path
    ) -> None:
        files = sorted(pictures.iterdir())[:20]
        with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
            for file in files:
                archive.write(file, f"deep/{file.name}")
        cells = [file.read_bytes() for file in files]
        pyarrow.parquet.write_table(
            pyarrow.table({"n": range(20), "image": cells}),
            tmp_path / "some.parquet",
            row_group_size=7,
        )
        os.mkfifo(tmp_path / "pipe")
        named: list[Any] = [
            tmp_path / "some.zip",
            tmp_path / "some.parquet",
            *files,
            tmp_path / "nothing.png",
            tmp_path / "none*.png",
            tmp_path / "pipe",
        ]
        sartor.plan_work(tmp_path / "work", "predict", iter(named), model=bundle)
        assert sartor.work(tmp_path / "work").complete
        sartor.predict_to_file(bundle, named, tmp_path / "all.parquet")
        found = table(tmp_path / "work" / "predictions.parquet")
        assert found.equals(table(tmp_path / "all.parquet"))
        assert len(found) == 63

    def test_the_bundle_is_kept_with_the_plan(
        self, bundle: Path, pictures: Path, tmp_path: Path
    ) -> None:
        own = Path(shutil.copy(bundle, tmp_path / "own.zip"))
        sartor.plan_work(tmp_path / "work", "predict", pictures, model=own)
        own.unlink()
        assert sartor.work(tmp_path / "work").complete

    def test_another_model_in_its_place_is_refused(
        self, bundle: Path, pictures: Path, tmp_path: Path
    ) -> None:
        plan = sartor.plan_work(tmp_path / "work", "predict", pictures, model=bundle)
        path = tmp_path / "work" / "plan.json"
        other = path.read_text().replace(plan.identity["weights_sha256"], "0" * 64)
        path.write_text(other)
        with pytest.raises(UsageError, match=r"another weights sha256"):
            sartor.work(tmp_path / "work")


class TestCheck:
    def test_the_same_findings_as_check_has(self, labelled: Path, tmp_path: Path) -> None:
        settings: dict[str, Any] = {"image_size": 16, "channels": 1, "background": "white"}
        sartor.plan_work(tmp_path / "work", "check", labelled, shard_size=25, seed=3, **settings)
        worked = sartor.work(tmp_path / "work", threads=2)
        names = [
            "files",
            "formats",
            "geometry",
            "classes",
            "groups",
            "duplicates",
            "near-duplicates",
        ]
        report = sartor.check(labelled, only=names, seed=3, **settings).to_json()
        found = json.loads((tmp_path / "work" / "report.json").read_text())
        assert found.pop("checked") == list(report.pop("checked"))
        del report["seconds"]
        assert found == json.loads(json.dumps(report))
        assert {one["kind"] for one in found["findings"]} >= {"unreadable"}
        assert worked.summary["without"] == 1
        assert "broken.jpg" in (tmp_path / "work" / "quarantine.txt").read_text()
        assert "<html" in (tmp_path / "work" / "report.html").read_text()

    def test_parts_and_groups_of_a_list(self, labelled: Path, tmp_path: Path) -> None:
        files = sorted(labelled.glob("[0-4]/*.png"))
        lines = [
            f"{file},{file.parent.name},{('train', 'val', 'test')[n % 3]},p{n % 4}"
            for n, file in enumerate(files)
        ]
        listed = tmp_path / "list.csv"
        listed.write_text("\n".join(["path,label,split,group", *lines]) + "\n")
        settings: dict[str, Any] = {"image_size": 8, "channels": 1, "background": "white"}
        sartor.plan_work(tmp_path / "work", "check", listed, fast=True, shard_size=20, **settings)
        sartor.work(tmp_path / "work")
        report = sartor.check(listed, fast=True, **settings).to_json()
        found = json.loads((tmp_path / "work" / "report.json").read_text())
        assert found["parts"] == report["parts"]
        assert found["findings"] == json.loads(json.dumps(report["findings"]))
        assert "groups" in {one["check"] for one in found["findings"]}

    def test_what_is_to_be_left_out_is(
        self, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("leave.txt").write_text("5/broken.jpg\n8/copy.png\n")
        sartor.plan_work("work", "check", labelled, fast=True, exclude="leave.txt")
        Path("leave.txt").unlink()
        sartor.work("work")
        found = json.loads(Path("work/report.json").read_text())
        assert found["images"] == 120
        assert not {"unreadable"} & {one["kind"] for one in found["findings"]}

    def test_what_is_no_picture_files_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"digits is not made of picture files"):
            sartor.plan_work(tmp_path / "work", "check", "digits")


class TestDecode:
    def test_pixels_are_those_of_training(self, labelled: Path, tmp_path: Path) -> None:
        sartor.plan_work(
            tmp_path / "work", "decode", labelled, image_size=12, channels=1, shard_size=50
        )
        sartor.work(tmp_path / "work")
        path = tmp_path / "work" / "decoded.parquet"
        found = table(path).to_pylist()
        assert [one["file"] for one in found if one["error"]] == ["5/broken.jpg"]
        geometry = Preprocess(
            channels=1, height=12, width=12, resize="letterbox", mean=(0.0,), std=(1.0,)
        )
        for one in found[:10]:
            expected = geometry.read(labelled / one["file"])
            assert np.array_equal(_pixels(one["image"]["bytes"]), expected[0])
            assert one["label"] == one["file"].partition("/")[0]
        settings: dict[str, Any] = {"image_size": 12, "channels": 1, "background": "white"}
        with pytest.warns(sartor.SartorWarning, match=r"cannot be read and are left out"):
            data = sartor.load(path, max_unreadable=0.1)
        with pytest.warns(sartor.SartorWarning, match=r"cannot be read and are left out"):
            same = sartor.load(labelled, max_unreadable=0.1, **settings)
        assert (len(data), data.images.shape[1:], data.groups) == (121, (1, 12, 12), None)
        assert np.array_equal(data.images, same.images)

    def test_torch_is_not_imported(self, labelled: Path, tmp_path: Path) -> None:
        sartor.plan_work(tmp_path / "job", "decode", labelled, image_size=8)
        lines = (
            "import sys",
            "from sartor.api.working import follow",
            f"follow({str(tmp_path / 'job')!r})",
        )
        program = "; ".join((*lines, "print('torch' in sys.modules)"))
        ran = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        assert ran.stdout.strip() == "False"


def _pixels(content: bytes) -> Any:
    import io

    return np.asarray(Image.open(io.BytesIO(content)))


def test_features_of_the_real_backbone_by_either_runtime(labelled: Path, tmp_path: Path) -> None:
    if not is_available(BACKBONES["efficientnet-lite0"]):
        pytest.skip("needs the extra pretrained")
    files = sorted(labelled.glob("*/*.png"))[:3]
    found = {}
    for runtime in ("onnx", "torch"):
        folder = tmp_path / runtime
        sartor.plan_work(folder, "features", files, runtime=runtime, image_size=64)
        sartor.work(folder)
        pairs = dict(_pairs(table(folder / "features.parquet")))
        found[runtime] = np.array([pairs[str(file)] for file in files])
    assert found["onnx"].shape == (3, 1280)
    assert np.allclose(found["onnx"], found["torch"], atol=1e-3)


def _pairs(found: Any) -> Iterator[tuple[str, Any]]:
    return zip(found.column("file").to_pylist(), found.column("features").to_pylist(), strict=True)


class TestPlaces:
    def test_a_machine_without_the_pictures_makes_no_errors_of_them(
        self, labelled: Path, tmp_path: Path
    ) -> None:
        source = Path(shutil.copytree(labelled, tmp_path / "here"))
        sartor.plan_work(tmp_path / "work", "decode", source, shard_size=60)
        shutil.copytree(tmp_path / "work", tmp_path / "other")
        sartor.work(tmp_path / "work")
        source.rename(tmp_path / "there")
        with pytest.raises(FileError, match=r"here, is not on this machine.*--root"):
            sartor.work(tmp_path / "other")
        sartor.work(tmp_path / "other", root=tmp_path / "there")
        one, other = ((tmp_path / n / "decoded.parquet").read_bytes() for n in ("work", "other"))
        assert one == other

    def test_a_picture_that_is_gone_is_a_row(self, labelled: Path, tmp_path: Path) -> None:
        source = Path(shutil.copytree(labelled, tmp_path / "here"))
        sartor.plan_work(tmp_path / "work", "decode", source)
        (source / "8" / "copy.png").unlink()
        assert sartor.work(tmp_path / "work").summary["without"] == 2

    def test_an_archive_that_lost_a_member(self, labelled: Path, tmp_path: Path) -> None:
        for members in ("labelled", "fewer"):
            with zipfile.ZipFile(tmp_path / f"{members}.zip", "w") as archive:
                for file in sorted(labelled.glob("*/*"))[members == "fewer" :]:
                    archive.write(file, file.relative_to(labelled))
        sartor.plan_work(tmp_path / "work", "decode", tmp_path / "labelled.zip")
        shutil.copy(tmp_path / "fewer.zip", tmp_path / "labelled.zip")
        assert sartor.work(tmp_path / "work").summary["without"] == 2


class TestRefused:
    @pytest.mark.parametrize(
        ("task", "options", "message"),
        [
            ("predikt", {}, r'Unknown task "predikt"; did you mean "predict"'),
            ("predict", {}, r"No model is named.*--model"),
            ("decode", {"model": "x.zip"}, r"--model means nothing for the task decode"),
            ("check", {"topk": 3}, r"--topk means nothing for the task check"),
            ("predict", {"model": "x", "only": ("files",)}, r"--only means nothing"),
            ("predict", {"model": "x", "image_size": 3}, r"--image-size means nothing"),
            ("check", {"reading": "pictures"}, r"labelled data"),
            ("check", {"reading": "pixels"}, r"[Uu]nknown reading"),
            ("decode", {"shard_size": 0}, r"shard of 0 pictures"),
            ("decode", {"lease_seconds": 0.1}, r"lease of 0.1 seconds"),
            ("decode", {"lease_seconds": float("nan")}, r"lease of nan seconds"),
            ("features", {"model": "lenet"}, r'Unknown backbone "lenet"'),
            ("check", {"only": ("fils",)}, r'did you mean "files"'),
            ("decode", {"val_fraction": 0.3}, r"--val-fraction means nothing for the task decode"),
            ("features", {"label_column": "x"}, r"--label-column means nothing.*pictures"),
            ("decode", {"epochs": 3}, r"--epochs means nothing"),
        ],
    )
    def test_what_makes_no_sense(
        self, tmp_path: Path, labelled: Path, task: str, options: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(UsageError, match=message):
            sartor.plan_work(tmp_path / "work", task, labelled, **options)
        assert not (tmp_path / "work" / "plan.json").exists()

    def test_two_plans_in_one_folder(self, labelled: Path, tmp_path: Path) -> None:
        sartor.plan_work(tmp_path / "work", "decode", labelled)
        with pytest.raises(UsageError, match=r"holds a plan already.*sartor work"):
            sartor.plan_work(tmp_path / "work", "check", labelled)

    def test_pictures_in_memory(self, bundle: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"lies in memory"):
            sartor.plan_work(tmp_path / "work", "predict", Image.new("L", (8, 8)), model=bundle)

    def test_no_pictures(self, bundle: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"no pictures"):
            sartor.plan_work(tmp_path / "work", "predict", [], model=bundle)

    def test_other_libraries(
        self, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sartor.plan_work(tmp_path / "work", "decode", labelled)
        monkeypatch.setattr("sartor.shards.plan.np.__version__", "1.0")
        with pytest.raises(UsageError, match=r"with numpy \d.*here is 1.0.*--other-versions"):
            sartor.work(tmp_path / "work")
        assert sartor.work(tmp_path / "work", other_versions=True).complete

    def test_another_manifest(self, labelled: Path, tmp_path: Path) -> None:
        for name in ("work", "other"):
            sartor.plan_work(tmp_path / name, "decode", labelled, shard_size=30 + len(name))
        shutil.copy(tmp_path / "other" / "manifest.parquet", tmp_path / "work")
        with pytest.raises(CorruptDataError, match=r"not the list of pictures"):
            sartor.work(tmp_path / "work")


class TestStatus:
    def test_from_the_plan_to_the_end(self, labelled: Path, tmp_path: Path) -> None:
        sartor.plan_work(tmp_path / "work", "decode", labelled, shard_size=50)
        before = sartor.work_status(tmp_path / "work")
        assert (before.shards_done, before.shards, before.complete) == (0, 3, False)
        seen: list[sartor.WorkStatus] = []
        sartor.work(
            tmp_path / "work",
            threads=1,
            stopped=lambda: bool(seen.append(sartor.work_status(tmp_path / "work"))),
        )
        (worker,) = next(one for one in seen if one.workers).workers
        assert worker["alive"]
        assert worker["pid"] == os.getpid()
        after = sartor.work_status(tmp_path / "work")
        assert (after.pictures_done, after.complete, after.workers) == (122, True, ())
        assert after.summary is not None
        assert json.loads(json.dumps(after.to_json())) == after.to_json()
        for name in ("leases", "workers", "results"):  # which may be deleted now
            shutil.rmtree(tmp_path / "work" / name)
        assert sartor.work_status(tmp_path / "work") == after
        worked = sartor.work(tmp_path / "work")
        assert (worked.complete, worked.shards) == (True, 0)
        assert sartor.work_status(tmp_path / "work") == after


class TestSeveral:
    def test_processes_of_this_machine(self, labelled: Path, tmp_path: Path) -> None:
        for name in ("one", "two"):
            sartor.plan_work(tmp_path / name, "decode", labelled, shard_size=10, image_size=8)
        sartor.work(tmp_path / "one")
        events: list[Any] = []
        worked = sartor.work(tmp_path / "two", processes=2, on_event=events.append)
        assert (worked.complete, worked.shards, worked.pictures) == (True, 13, 122)
        assert isinstance(events[-1], Working)
        assert events[-1].ended
        one, two = ((tmp_path / name / "decoded.parquet").read_bytes() for name in ("one", "two"))
        assert one == two

    def test_when_all_end_with_an_error(
        self, labelled: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        source = Path(shutil.copytree(labelled, tmp_path / "here"))
        sartor.plan_work(tmp_path / "work", "decode", source)
        source.rename(tmp_path / "there")
        with pytest.raises(sartor.SartorError, match=r"2 of 2 workers ended with an error"):
            sartor.work(tmp_path / "work", processes=2)
        assert capfd.readouterr().err.count("is not on this machine") == 2

    def test_without_ray(
        self, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sartor.plan_work(tmp_path / "work", "decode", labelled)
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(MissingExtraError, match=r"sartor\[ray\]"):
            sartor.work(tmp_path / "work", engine="ray")
        with pytest.raises(UsageError, match=r"[Uu]nknown engine"):
            sartor.work(tmp_path / "work", engine="rai")

    def test_in_ray(self, labelled: Path, tmp_path: Path) -> None:
        pytest.importorskip("ray", reason="needs the extra ray")
        for name in ("one", "two"):
            sartor.plan_work(tmp_path / name, "decode", labelled, shard_size=10, image_size=8)
        sartor.work(tmp_path / "one")
        notes: list[str] = []
        worked = work_with(
            tmp_path / "two",
            engine="ray",
            processes=2,
            on_event=lambda event: notes.append(event.text) if isinstance(event, Note) else None,
        )
        assert worked.complete
        assert not notes
        one, two = ((tmp_path / name / "decoded.parquet").read_bytes() for name in ("one", "two"))
        assert one == two


@pytest.mark.skipif(os.name != "posix", reason="needs signals of POSIX")
def test_a_worker_that_slept_beyond_its_lease_does_no_harm(labelled: Path, tmp_path: Path) -> None:
    sartor.plan_work(
        tmp_path / "work", "decode", labelled, shard_size=10, image_size=8, lease_seconds=1
    )
    folder = tmp_path / "work"
    words = [sys.executable, "-m", "sartor", "work", str(folder), "--quiet", "--threads", "1"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as one:
        try:
            until = time.monotonic() + 120
            while not list((folder / "leases").glob("[0-9]*")) and time.monotonic() < until:
                time.sleep(0.005)
            one.send_signal(signal.SIGSTOP)
            worked = sartor.work(folder)
            assert worked.complete
            before = {path: path.read_bytes() for path in folder.rglob("*.parquet")}
        finally:
            one.send_signal(signal.SIGCONT)
        _, err = one.communicate(timeout=120)
    assert one.returncode == 0, err
    assert {path: path.read_bytes() for path in folder.rglob("*.parquet")} == before
