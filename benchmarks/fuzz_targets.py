"""All that sartor reads and a stranger may have written, each as a function of its bytes.

What is protected by a checksum, such as a checkpoint's state, is sealed again after it was changed:
otherwise nothing behind the checksum would ever be reached.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sartor.data.settings import DataSettings

CLASSES = ("cat", "dog")
_SIDE = 8
_MAX_PIXELS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Material:
    """A run and a bundle, of which the first inputs are parts; not to be changed."""

    run: Path
    bundle: Path

    @classmethod
    def made(cls, folder: Path, *, onnx: bool = True) -> Material:
        """Trained on a few pictures, in a second."""
        import sartor
        from sartor.api import export

        pictures = folder / "pictures"
        for label, name in enumerate(CLASSES):
            (pictures / name).mkdir(parents=True)
            for number in range(30):
                content = picture("PNG", label * 100 + number)
                (pictures / name / f"{number}.png").write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of so few pictures
            run = sartor.fit(
                pictures, model="linear", epochs=2, threads=1, out=folder / "run", report=False
            )
            run.evaluate("val")
            run.evaluate("test")
            bundle = export(run.path, folder / "bundle", onnx=onnx).path
        return cls(run=run.path, bundle=bundle)


@dataclass(frozen=True, kw_only=True)
class Target:
    """One kind of file."""

    name: str
    seeds: tuple[bytes, ...]
    """Whole ones, from which others are made."""
    read: Callable[[bytes, Path], object]
    """Does with a content what sartor does with such a file; it may write into the folder, which is
    empty."""
    text: bool = False
    words: tuple[bytes, ...] = ()
    """What means something in such a file."""
    lists_paths: bool = False
    """Whether it names files that may lie anywhere, as a list of pictures does; those are read."""

    @property
    def slug(self) -> str:
        """Its name as that of a file."""
        return re.sub(r"[^A-Za-z0-9.]+", "-", self.name)


def targets(material: Material) -> dict[str, Target]:
    """All of them, by name."""
    found = [
        *_of_data(),
        *_of_pictures(),
        *_of_lists(),
        *_of_recipes(material),
        *_of_runs(material),
        *_of_bundles(material),
        *_of_weights(material),
        *_of_requests(),
        *_of_work(material),
    ]
    return {one.name: one for one in found}


def picture(kind: str, seed: int = 0, mode: str = "RGB", **options: Any) -> bytes:
    """A small picture of noise."""
    values = np.random.default_rng(seed).integers(0, 255, (_SIDE, _SIDE, 4)).astype(np.uint8)
    stream = io.BytesIO()
    shown = Image.fromarray(values, "RGBA").convert(mode)
    shown.save(stream, kind, **options)
    return stream.getvalue()


def _of_data() -> list[Target]:
    """Sets in one file."""
    idx = b"\0\0\x08\3" + b"".join(n.to_bytes(4) for n in (2, 3, 4)) + bytes(24)
    images, labels = np.arange(128, dtype=np.uint8).reshape(2, 8, 8), np.array([0, 1])
    npy = io.BytesIO()
    np.save(npy, images)
    members = {f"{name}/{n}.png": picture("PNG", n) for name in CLASSES for n in range(3)}
    return [
        Target(name="idx", seeds=(idx, gzip.compress(idx)), read=_read_idx),
        Target(name="npz", seeds=_npz_files(images, labels), read=_file("set.npz")),
        Target(name="npy", seeds=(npy.getvalue(),), read=_npy, words=(b"descr", b"|O", b"<U9")),
        Target(name="zip", seeds=(_zip(members), _zip(members, 8)), read=_file("set.zip")),
        Target(
            name="tar",
            seeds=(_tar(members), _tar(members, "gz"), _tar(members, "xz"), _shard()),
            read=_file("set.tar"),
        ),
        Target(name="parquet", seeds=(_parquet(),), read=_file("set.parquet")),
        Target(name="pixel tables", seeds=_PIXEL_TABLES, read=_file("set.csv"), text=True),
    ]


def _read_idx(content: bytes, _folder: Path) -> None:
    from sartor.data.readers.idx import read_idx

    read_idx(content, source="x-idx3-ubyte")


def _npy(content: bytes, folder: Path) -> None:
    np.save(folder / "y_train.npy", np.array([0, 1]))
    (folder / "X_train.npy").write_bytes(content)
    _open(folder)


def _npz_files(images: Any, labels: Any) -> tuple[bytes, ...]:
    files = []
    for save in (np.savez, np.savez_compressed):
        stream = io.BytesIO()
        save(stream, x_train=images, y_train=labels, x_test=images, y_test=labels)
        files.append(stream.getvalue())
    return tuple(files)


def _zip(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return stream.getvalue()


def _tar(members: Mapping[str, bytes], packed: str = "") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=f"w:{packed}") as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def _shard() -> bytes:
    """As WebDataset has them."""
    return _tar(
        {
            f"{n}.{end}": picture("PNG", n) if end == "png" else str(n % 2).encode()
            for n in range(4)
            for end in ("png", "cls")
        }
    )


def _parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    cells = [{"bytes": picture("PNG", n), "path": f"{n}.png"} for n in range(4)]
    pq.write_table(pa.table({"image": cells, "label": [0, 1, 0, 1]}), stream)
    return stream.getvalue()


_PIXEL_TABLES = (
    b"label,"
    + b",".join(b"pixel%d" % n for n in range(16))
    + b"\n"
    + b"\n".join(b"%d," % (row % 2) + b",".join(b"%d" % n for n in range(16)) for row in range(4)),
    b"emotion,pixels,Usage\n"
    + b"".join(
        b'%d,"%s",Training\n' % (row % 2, b" ".join(b"%d" % n for n in range(16)))
        for row in range(4)
    ),
)


def _file(name: str) -> Callable[[bytes, Path], None]:
    """Reads a set in one file, and decodes its pictures."""

    def read(content: bytes, folder: Path) -> None:
        (folder / name).write_bytes(content)
        _open(folder / name)

    return read


def _open(path: Path) -> None:
    from sartor.data.listing import Listing
    from sartor.data.pictures.decode import decode_picture, quiet_decoding
    from sartor.data.sources import find_source
    from sartor.errors import PictureError

    found = find_source(DataSettings(source=str(path)), note=lambda _: None)
    if isinstance(found, Listing):
        with quiet_decoding():
            for index, name in list(enumerate(found.pictures.names))[:4]:
                try:
                    decode_picture(found.pictures.read(index), name)
                except PictureError:
                    continue
    else:
        found.fingerprint_now()


def _of_pictures() -> list[Target]:
    kinds = {
        "PNG": ({"mode": "RGBA"}, {"mode": "P"}, {"mode": "L"}),
        "JPEG": ({}, {"mode": "CMYK"}, {"mode": "L", "progressive": True}),
        "GIF": ({"mode": "P"},),
        "BMP": ({}, {"mode": "P"}),
        "TIFF": ({}, {"compression": "tiff_lzw"}, {"compression": "tiff_deflate"}),
        "WEBP": ({}, {"mode": "RGBA", "lossless": True}),
        "PPM": ({}, {"mode": "L"}),
        "TGA": ({},),
        "JPEG2000": ({},),
        "AVIF": ({},),
    }
    found = []
    for kind, variants in kinds.items():
        seeds = tuple(picture(kind, n, **options) for n, options in enumerate(variants))
        words = (b"Exif\0\0", b"IHDR", b"IDAT", b"tEXt", b"iCCP", b"eXIf", b"acTL", b"Orientation")
        found.append(Target(name=f"picture {kind}", seeds=seeds, read=_decoded, words=words))
    return found


def _decoded(content: bytes, _folder: Path) -> None:
    from sartor.data.pictures.decode import quiet_decoding
    from sartor.data.pictures.preprocess import Preprocess

    preprocess = Preprocess(
        channels=3, height=8, width=8, resize="letterbox", mean=(0.5,) * 3, std=(0.5,) * 3
    )
    with quiet_decoding():
        preprocess.from_stranger(content, "x", max_pixels=_MAX_PIXELS)


def _of_lists() -> list[Target]:
    """What names pictures that lie beside it, or in a run's data."""
    coco = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 8, "height": 8} for n in range(4)],
        "annotations": [{"id": n, "image_id": n, "category_id": n % 2} for n in range(4)],
        "categories": [{"id": n, "name": name} for n, name in enumerate(CLASSES)],
    }
    fiftyone = {"classes": list(CLASSES), "labels": {str(n): n % 2 for n in range(4)}}
    plain = {f"{n}.png": CLASSES[n % 2] for n in range(4)}
    records = [{"image": f"{n}.png", "label": CLASSES[n % 2]} for n in range(4)]
    lists = (
        b"path,label,group,split\n"
        + b"".join(b"%d.png,%s,g%d,train\n" % (n, CLASSES[n % 2].encode(), n) for n in range(4)),
        b"".join(b"%d.png\t%d\n" % (n, n % 2) for n in range(4)),
        b"".join(b"%d.png %d\n" % (n, n % 2) for n in range(4)),
        b"\n".join(json.dumps(one).encode() for one in records),
        b"image,cat,dog\n" + b"".join(b"%d.png,%d,%d\n" % (n, n % 2, 1 - n % 2) for n in range(4)),
    )
    documents = tuple(json.dumps(one).encode() for one in (coco, fiftyone, plain, records))
    ways_out = (b"../x.png", b"/etc/passwd", b"C:\\x.png", b"\\\\host\\x.png", b"~/x.png", b"\0")
    fixes = b"file,given,suggested,reason,confidence\n0.png,cat,dog,looks so,0.9\n1.png,dog,exclude"
    return [
        Target(
            name="lists",
            seeds=lists,
            read=_beside("list.csv"),
            text=True,
            words=ways_out,
            lists_paths=True,
        ),
        Target(
            name="JSON lists",
            seeds=documents,
            read=_beside("list.json"),
            text=True,
            lists_paths=True,
        ),
        Target(
            name="class names",
            seeds=(b"cat\ndog\n", b"0 cat\n1 dog\n", b'{"cat": 0, "dog": 1}', b'["cat", "dog"]'),
            read=_class_names,
            text=True,
        ),
        Target(name="exclusions", seeds=(b"0.png\tblurred\n1.png\n",), read=_exclusions, text=True),
        Target(name="fixes", seeds=(fixes,), read=_fixes, text=True),
        Target(name="names on stdin", seeds=(b"0.png\n1.png\r\n", b"0.png\x001.png"), read=_names),
    ]


def _beside(name: str) -> Callable[[bytes, Path], None]:
    """Reads a list with four pictures beside it."""

    def read(content: bytes, folder: Path) -> None:
        for number in range(4):
            (folder / f"{number}.png").write_bytes(picture("PNG", number))
        (folder / name).write_bytes(content)
        _open(folder / name)

    return read


def _class_names(content: bytes, folder: Path) -> None:
    values = np.zeros((2, 8, 8), np.uint8)
    np.savez(folder / "set.npz", x_train=values, y_train=np.array([0, 1]))
    ending = "json" if content[:1] in (b"{", b"[") else "txt"
    (folder / f"classes.{ending}").write_bytes(content)
    _open(folder / "set.npz")


def _exclusions(content: bytes, folder: Path) -> None:
    from sartor.data.pictures.exclude import exclusion_list, match, read_exclusions

    (folder / "list").write_bytes(content)
    entries = read_exclusions(folder / "list")
    match(entries, ["0.png", "1.png", *entries][:3], known={})
    exclusion_list(entries)


def _fixes(content: bytes, folder: Path) -> None:
    from sartor.data.fixes import changes, read_fixes

    (folder / "fixes.csv").write_bytes(content)
    found = read_fixes(folder / "fixes.csv")
    changes(found, ["0.png", "1.png"], np.array([0, 1]), CLASSES)


def _names(content: bytes, folder: Path) -> None:
    from sartor.data.unlabelled import NameList, Unlabelled

    for name in list(NameList(io.BytesIO(content)))[:3]:
        # Of a pattern or an absolute path nothing is read here: who names it on stdin may.
        if not any(one in name for one in "*?[/~") and ".." not in name:
            list(Unlabelled([str(folder / name)]))


def _of_recipes(material: Material) -> list[Target]:
    resolved = (material.run / "recipe.toml").read_bytes()
    wish = b"""[data]
source = "pictures"
[preprocess]
image_size = [8, 8]
[model]
model = "mlp"
model_kwargs = {hidden = [16, 16], dropout = 0.5}
[training]
epochs = 3
augment = ["flip"]
lr = 1e-3
"""
    words = (b"nan", b"inf", b"[[training]]", b"1e999", b"0x7fffffffffffffff", b'"""', b"'''")
    return [Target(name="recipes", seeds=(wish, resolved), read=_recipe, text=True, words=words)]


def _recipe(content: bytes, folder: Path) -> None:
    from sartor.recipe import Recipe, load_recipe

    (folder / "recipe.toml").write_bytes(content)
    recipe = load_recipe(folder / "recipe.toml")
    if Recipe.from_toml(recipe.to_toml()) != recipe:
        raise AssertionError("a recipe written is not the recipe read")


def _of_runs(material: Material) -> list[Target]:
    found = []
    for name in (
        *("recipe.toml", "status.json", "history.jsonl", "environment.json", "engine.json"),
        *("findings.json", "transfer.json", "input_ranges.json", "looks.jsonl", "split.npz"),
        *("excluded.txt", "source.txt"),
    ):
        path = material.run / name
        seed = path.read_bytes() if path.is_file() else _STAND_INS[name]
        found.append(
            Target(
                name=f"run {name}",
                seeds=(seed,),
                read=_in_run(material.run, name),
                text=not name.endswith(".npz"),
            )
        )
    checkpoint = (material.run / "checkpoints/last.safetensors").read_bytes()
    predictions = (material.run / "predictions/test.npz").read_bytes()
    seeds = next((material.run / "calibration").glob("*.safetensors"), None)
    return [
        *found,
        Target(name="predictions", seeds=(predictions,), read=_predictions),
        Target(name="checkpoint", seeds=(checkpoint,), read=_checkpoint),
        Target(
            name="checkpoint, sealed again",
            seeds=(_state_of(checkpoint),),
            read=_sealed_state(material.run, checkpoint),
            text=True,
        ),
        *(
            [Target(name="calibration", seeds=(seeds.read_bytes(),), read=_calibration)]
            if seeds
            else []
        ),
    ]


def _contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder, by their path in it."""
    return {
        one.relative_to(folder).as_posix(): one.read_bytes()
        for one in sorted(folder.rglob("*"))
        if one.is_file()
    }


def _written(folder: Path, contents: Mapping[str, bytes]) -> None:
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


_STAND_INS = {
    "transfer.json": b'{"epoch": 0, "sentence": "the head", "rungs": [{"name": "head"}]}',
    "engine.json": b'{"chosen": "plain", "seconds": {"plain": 0.1, "direct": 0.05}}',
    "looks.jsonl": b'{"id": "a", "test": "x", "verb": "evaluate", "weights_sha256": "b"}\n',
    "excluded.txt": b"0.png\tblurred\n",
    "source.txt": b"folders\n",
    "findings.json": b'[{"check": "duplicates", "severity": "note", "message": "none"}]',
    "input_ranges.json": b'{"brightness": [0.1, 0.9]}',
}


def _in_run(whole: Path, name: str) -> Callable[[bytes, Path], None]:
    """Does with a run, one of whose files was changed, what `runs` and `show` do."""
    kept = _contents(whole)

    def read(content: bytes, folder: Path) -> None:
        _written(folder / "run", kept | {name: content})
        _look_at(folder / "run")

    return read


def _look_at(run: Path) -> None:
    from sartor import api
    from sartor.data.pictures.exclude import read_exclusions
    from sartor.errors import RunError, SartorError
    from sartor.inference.familiarity import readable
    from sartor.runs.looks import looks_at
    from sartor.runs.store import run_folders, summarize_run

    for one in run_folders(run.parent):
        summarize_run(one)
    opened = api.Run.open(run)
    folder = opened.folder
    readable(folder.input_ranges())
    looks_at(folder, "x")
    for each in (folder.environment, folder.findings, folder.engine, folder.transfer):
        each()
    for ask in (
        lambda: opened.recipe.to_toml(),
        lambda: opened.differences.sentences(folder.recipe_path),
        lambda: opened.result(),
        lambda: opened.best_row,
        lambda: opened.split(),
        lambda: repr(opened),
        lambda: read_exclusions(folder.excluded_path) if folder.excluded_path.exists() else None,
    ):
        try:
            ask()
        except SartorError as error:
            _refuse_silence(error)
    try:
        _print(opened)
    except RunError as error:
        _refuse_silence(error)


def _print(opened: Any) -> None:
    """What `show` prints."""
    from contextlib import redirect_stdout

    from sartor.cli import tables
    from sartor.files import json_line
    from sartor.runs.store import summarize_run

    description = {
        "run": str(opened.path),
        "recipe": opened.recipe.to_tables(),
        "status": opened.status["state"],
        "history": opened.history,
        "weights_sha256": None,
        "split_sha256": None,
        "engine": opened.folder.engine(),
        "transfer": opened.folder.transfer(),
    }
    json_line(description)
    with redirect_stdout(io.StringIO()):
        tables.print_run(description, summarize_run(opened.folder), None)


def _refuse_silence(error: Any) -> None:
    if not error.message.strip():
        raise AssertionError(f"{type(error).__name__} says nothing") from error


def _predictions(content: bytes, folder: Path) -> None:
    from sartor.evaluation.predictions import Predictions

    (folder / "test.npz").write_bytes(content)
    found = Predictions.load(folder / "test.npz")
    found.probabilities()
    found.example_losses()


def _checkpoint(content: bytes, folder: Path) -> None:
    from sartor.runs.weights_file import stored_weights_sha256
    from sartor.training.state import Checkpoint

    (folder / "last.safetensors").write_bytes(content)
    stored_weights_sha256(folder / "last.safetensors")
    Checkpoint.from_bytes(content, "last.safetensors")


def _metadata(content: bytes) -> dict[str, Any]:
    length = int.from_bytes(content[:8], "little")
    return dict(json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["sartor"]))


def _state_of(checkpoint: bytes) -> bytes:
    return str(_metadata(checkpoint)["state"]).encode()


def _sealed_state(whole: Path, checkpoint: bytes) -> Callable[[bytes, Path], None]:
    """A checkpoint that says anything of the training, under a checksum that is right."""
    from safetensors.torch import load, save

    tensors, kept = load(checkpoint), _contents(whole)
    kept.pop("checkpoints/previous.safetensors", None)

    def read(content: bytes, folder: Path) -> None:
        from sartor.models.weights import weights_sha256

        state = content.decode("utf-8", "replace")
        sha256 = hashlib.sha256(f"{weights_sha256(tensors)}{state}".encode()).hexdigest()
        sealed = save(tensors, {"sartor": json.dumps({"state": state, "sha256": sha256})})
        _written(folder / "run", kept | {"checkpoints/last.safetensors": sealed})
        _look_at(folder / "run")

    return read


def _calibration(content: bytes, _folder: Path) -> None:
    from sartor.inference.calibration_file import from_bytes

    from_bytes(content, "calibration")


def _of_bundles(material: Material) -> list[Target]:
    folder = material.bundle
    parts = _contents(folder)
    record = parts.pop("bundle.json")
    found = [
        Target(
            name="bundle as .zip",
            seeds=(_zip({"bundle.json": record, **parts}),),
            read=_bundle_file,
        ),
        Target(
            name="bundle.json, sealed again",
            seeds=(record,),
            read=_sealed_record(folder),
            text=True,
            words=(b"../x", b"/etc/passwd", b"golden/../../x"),
        ),
    ]
    for name in (
        "golden/golden.json",
        "golden/pixels.safetensors",
        "model.safetensors",
        "calibration.safetensors",
        "model.onnx",
    ):
        if name in parts:
            found.append(
                Target(
                    name=f"bundle {name}",
                    seeds=(parts[name],),
                    read=_in_bundle(folder, name),
                    text=name.endswith(".json"),
                )
            )
    return found


def _bundle_file(content: bytes, folder: Path) -> None:
    from sartor.bundle.format import Bundle, is_bundle

    (folder / "bundle.zip").write_bytes(content)
    is_bundle(folder / "bundle.zip")
    bundle = Bundle.open(folder / "bundle.zip")
    bundle.faults()


def _sealed_record(whole: Path) -> Callable[[bytes, Path], None]:
    """bundle.json that says anything, under a hash that is right."""
    kept = _contents(whole)

    def read(content: bytes, folder: Path) -> None:
        from sartor.bundle.opening import session_of

        _written(folder / "bundle", kept | {"bundle.json": _sealed(content)})
        opened = _opened(folder / "bundle")
        session_of(opened, "torch")

    return read


def _sealed(content: bytes) -> bytes:
    """The bytes with their hash as the last value, as sartor seals them."""
    start = content.rfind(b'"sha256": "')
    if start < 0:
        return content
    zeros = content[:start] + b'"sha256": "' + b"0" * 64 + b'"\n}\n'
    digest = hashlib.sha256(zeros).hexdigest().encode()
    return content[:start] + b'"sha256": "' + digest + b'"\n}\n'


def _opened(bundle: Path) -> Any:
    from sartor.bundle import golden
    from sartor.bundle.format import Bundle

    opened = Bundle.open(bundle)
    _ = opened.input_ranges
    channels, height, width = opened.architecture.input_shape
    golden.read(
        opened.read(golden.DOCUMENT),
        opened.read(golden.PIXELS),
        classes=opened.classes,
        shape=(height, width, channels),
    )
    return opened


def _in_bundle(whole: Path, name: str) -> Callable[[bytes, Path], None]:
    """A bundle one of whose files is another, and listed as it is."""
    kept = _contents(whole)

    def read(content: bytes, folder: Path) -> None:
        from sartor.bundle.opening import session_of

        record = json.loads(kept["bundle.json"])
        sha256 = hashlib.sha256(content).hexdigest()
        record["files"][name] = {"sha256": sha256, "size": len(content)}
        text = json.dumps(record, indent=2, ensure_ascii=False).encode() + b"\n"
        _written(folder / "bundle", kept | {"bundle.json": _sealed(text), name: content})
        opened = _opened(folder / "bundle")
        session = session_of(opened, "onnx" if name.endswith(".onnx") else "torch")
        channels, height, width = opened.architecture.input_shape
        session(np.zeros((1, height, width, channels), np.uint8))

    return read


def _of_weights(material: Material) -> list[Target]:
    import torch
    from safetensors.torch import load, save

    checkpoint = load((material.run / "checkpoints/last.safetensors").read_bytes())
    weights = {
        name.removeprefix("model."): tensor
        for name, tensor in checkpoint.items()
        if name.startswith("model.")
    }
    pickled = io.BytesIO()
    torch.save({"state_dict": weights}, pickled)
    old = io.BytesIO()
    torch.save(weights, old, _use_new_zipfile_serialization=False)
    return [
        Target(name="weights .safetensors", seeds=(save(weights),), read=_weights(".safetensors")),
        Target(
            name="weights .pth",
            seeds=(pickled.getvalue(), old.getvalue()),
            read=_weights(".pth"),
            words=(b"cos\nsystem\n", b"c__builtin__\neval\n", b"R.", b"\x80\x02", b"ctorch\n"),
        ),
    ]


def _weights(suffix: str) -> Callable[[bytes, Path], None]:
    def read(content: bytes, folder: Path) -> None:
        from sartor.models.weight_files import read_weights

        (folder / f"weights{suffix}").write_bytes(content)
        read_weights(folder / f"weights{suffix}")

    return read


def _of_work(material: Material) -> list[Target]:
    """What lies in the folder of a plan, which all workers share."""
    from sartor import api
    from sartor.shards.folder import WorkFolder

    found = []
    for task in ("check", "decode", "predict"):
        folder = material.run.parent / f"work-{task}"
        if not folder.exists():
            model = {"model": str(material.bundle)} if task == "predict" else {"image_size": 8}
            api.plan_work(folder, task, material.run.parent / "pictures", **model)
        seed = (folder / "plan.json").read_bytes()
        read = _in_work(folder, "plan.json")
        words = (b"../x", b"/etc/passwd", b"exclude.txt")
        found.append(
            Target(name=f"work {task} plan.json", seeds=(seed,), read=read, text=True, words=words)
        )
    folder = material.run.parent / "work-check"
    lease = {
        **{"name": "a-1-ff", "host": "a", "pid": 1, "machine": "", "born": "5"},
        **{"taken": 9, "lease": "ff"},
    }
    told = {"worker": "a-1-ff", "host": "a", "pid": 1, "pictures": 5, "seconds": 1.5, "shard": "0"}
    plan = WorkFolder.open(folder).plan.sha256
    summary = {
        **{"plan": plan, "pictures": 60, "without": 1, "file": "report.json"},
        **{"file_sha256": "ff", "errors": 0, "warnings": 1},
    }
    for name, document in (
        ("leases/00000", lease),
        ("workers/a-1-ff.json", told),
        ("summary.json", summary),
    ):
        seed = json.dumps(document).encode()
        beside = {} if name == "leases/00000" else {"leases/00000": json.dumps(lease).encode()}
        found.append(
            Target(
                name=f"work {name.partition('/')[0].removesuffix('.json')}",
                seeds=(seed,),
                read=_in_work(folder, name, beside),
                text=True,
            )
        )
    manifest = (folder / "manifest.parquet").read_bytes()
    found.append(Target(name="work manifest", seeds=(manifest,), read=_manifest))
    return found


def _in_work(
    whole: Path, name: str, beside: Mapping[str, bytes] | None = None
) -> Callable[[bytes, Path], None]:
    """Asks how far the work is, and begins to follow the plan."""
    kept = {**_contents(whole), **(beside or {})}

    def read(content: bytes, folder: Path) -> None:
        from contextlib import redirect_stderr, redirect_stdout

        from sartor import api
        from sartor.cli.main import run

        _written(folder / "job", kept | {name: content})
        for empty in ("leases", "workers", "results"):
            (folder / "job" / empty).mkdir(exist_ok=True)
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            code = run(["work", str(folder / "job"), "--status"])
        if code not in (0, 1, 2):
            raise AssertionError(f"exit code {code}")
        api.work_status(folder / "job").to_json()
        if name == "plan.json":
            follow(folder / "job", threads=1, wait=False, other_versions=True, stopped=lambda: True)

    from sartor.api.working import follow

    return read


def _manifest(content: bytes, folder: Path) -> None:
    from sartor.shards.manifest import Manifest

    (folder / "manifest.parquet").write_bytes(content)
    for one in Manifest(folder / "manifest.parquet"):
        one.file.encode()


def _of_requests() -> list[Target]:
    """Bodies that a client sends; the first line is the type that it says they have."""
    png = picture("PNG")
    form = (
        b"multipart/form-data; boundary=xyz\n--xyz\r\n"
        b'Content-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
        + png
        + b"\r\n--xyz--\r\n"
    )
    document = b'application/json\n{"pictures": [{"file": "a.png", "data": "aGFsbG8="}, "aGFs"]}'
    return [
        Target(
            name="requests",
            seeds=(form, document, b"image/png\n" + png),
            read=_request,
            words=(b"--xyz", b"\r\n\r\n", b"boundary=", b'filename="', b"filename*=utf-8''"),
        )
    ]


def _request(content: bytes, _folder: Path) -> None:
    from sartor.web.problems import Problem
    from sartor.web.reading import _parsed

    kind, _, body = content.partition(b"\n")
    try:
        found = _parsed(body, {"content-type": kind.decode("latin-1")}, 64)
    except Problem as problem:
        if not problem.error or not 400 <= problem.status < 500:
            raise AssertionError(f"a client's fault is answered by {problem.status}") from problem
        json.dumps(problem.document).encode()
        return
    for one in found:
        one.file.encode()
