"""Reads the tensors of a file that torch or Lightning pickled, without running it.

``python -m unetr.foreign FILE FOLDER`` is the throw-away process of
``unetr.sandbox``: it gives up the network, other programs and most memory before the
file is opened, and writes ``tensors.safetensors`` and ``facts.json`` into FOLDER. A
class that the file names is never imported: torch's own tensors are rebuilt by numpy,
unknown third-party classes become empty stubs, anything of Python's standard library
that could act is refused. Formats: torch's ZIP archive (members stored, not
compressed) and its older stream of pickles. No torch is loaded.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, Protocol

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

MEMBER_LIMIT = 50_000
PICKLE_LIMIT_BYTES = 256 * 2**20
TENSOR_LIMIT = 20_000
_OLD_MAGIC = 0x1950A86A20F9469CFC6C
_OLD_PROTOCOL = 1001
_OUTPUT = "out.conv.conv.weight"
"""The tensor that every UNETR of MONAI ends with: its name tells the prefix."""
_WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net", "weights")
_TEXT_LIMIT, _LIST_LIMIT = 200, 16
"""Of hyper-parameters that are kept: characters, and numbers in a list."""

_STORAGES = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "BFloat16Storage": "bf16",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "b1",
}


class ForeignFileError(ValueError):
    """The file is none that we read; the text says why, without its content."""


class Stub:
    """Stands for an object whose class is not ours; holds and does nothing."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...

    def __call__(self, *_: object, **__: object) -> Stub:
        """Be called, and do nothing."""
        return self

    def append(self, _: object) -> None:
        """Take an item of a list's subclass."""

    def extend(self, _: object) -> None:
        """Take items of a list's subclass."""

    def __setitem__(self, _: object, __: object) -> None: ...


_HARMLESS = {
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): lambda *_: {},
    ("collections", "Counter"): Stub,  # in the state of MultiStepLR
    ("collections", "deque"): Stub,
    ("_codecs", "encode"): Stub,  # how bytes are pickled, and with them numpy's numbers
    **{
        (module, name): kind
        for module in ("builtins", "__builtin__")
        for name, kind in {
            "dict": dict,
            "list": list,
            "tuple": tuple,
            "set": set,
            "frozenset": frozenset,
            "int": int,
            "long": int,  # as torch's old protocol names int and str
            "float": float,
            "str": str,
            "unicode": str,
            "bool": bool,
            "complex": complex,
            "slice": slice,
            "bytes": Stub,  # real ones could be asked for in any size
            "bytearray": Stub,
            "range": Stub,
            "xrange": Stub,
        }.items()
    },
}
_BROKEN_ARCHIVE = (
    *(zipfile.BadZipFile, struct.error, ValueError, KeyError, EOFError, OSError),
    RuntimeError,  # encrypted, or a feature that zipfile has not
)
"""What zipfile raises about files that were cut, damaged or made to confuse."""
_INERT_MODULES = {"argparse", "pathlib", "datetime", "functools", "enum", "types"}
"""Of the standard library, what Lightning's hyper-parameters may name: stubbed."""


@dataclass(frozen=True)
class Storage:
    """Where numbers lie: a member of the archive, or a place in the stream."""

    key: str
    kind: str
    count: int


@dataclass(frozen=True)
class TensorPlan:
    """A tensor not read yet."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class StorageReader(Protocol):
    """Gives the bytes of a storage."""

    def __call__(self, storage: Storage) -> bytes:
        """Read all of it."""


def _rebuild(
    storage: object, offset: object, shape: object, stride: object, *_: object
) -> TensorPlan:
    if not isinstance(storage, Storage) or not isinstance(offset, int):
        raise ForeignFileError("a tensor refers to no storage")
    dimensions, steps = tuple(shape), tuple(stride)  # type: ignore[arg-type,var-annotated]
    if len(dimensions) != len(steps) or not all(
        isinstance(value, int) and value >= 0 for value in (offset, *dimensions, *steps)
    ):
        raise ForeignFileError("a tensor has an impossible shape")
    last = offset + sum(
        (length - 1) * step for length, step in zip(dimensions, steps, strict=True)
    )
    if math.prod(dimensions) and last >= storage.count:
        raise ForeignFileError("a tensor reaches beyond its storage")
    # Steps of 0 repeat one number: a small file would become any amount of memory.
    if math.prod(dimensions) > storage.count:
        raise ForeignFileError("a tensor is larger than its storage")
    return TensorPlan(storage, offset, dimensions, steps)


def _parameter(data: object, *_: object) -> object:
    return data


def _attribute(owner: object, _: object) -> Stub:
    if owner is not Stub:
        raise ForeignFileError("it asks for an attribute")
    return Stub()


class _Unpickler(pickle.Unpickler):
    """Knows tensors, plain containers and stubs."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _HARMLESS:
            return _HARMLESS[module, name]
        root = module.partition(".")[0]
        if root == "torch":
            return self._torch(module, name)
        if (module, name) == ("builtins", "getattr"):
            return _attribute  # how some Pythons pickle members of an Enum
        if root in _INERT_MODULES:
            return Stub
        if root in sys.stdlib_module_names or root == "__builtin__":
            raise ForeignFileError(f"it names {module[:60]}.{name[:60]}")
        return Stub

    def _torch(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return _STORAGES[name]
        if module == "torch._utils" and name in (
            "_rebuild_tensor_v2",
            "_rebuild_tensor",
        ):
            return _rebuild
        if module == "torch._utils" and name.startswith("_rebuild_parameter"):
            return _parameter
        if (module, name) == ("torch", "Size"):
            return tuple
        return Stub

    def persistent_load(self, pid: Any) -> Storage:
        try:
            marker, kind, key, _, count = pid[:5]
        except (TypeError, ValueError) as error:
            raise ForeignFileError("a storage is not described as torch does") from (
                error
            )
        if marker != "storage" or kind not in _STORAGES.values():
            raise ForeignFileError("it holds a storage of an unknown kind")
        if not isinstance(key, str) or not isinstance(count, int) or count < 0:
            raise ForeignFileError("a storage has an impossible size")
        return Storage(key, str(kind), count)


def _load(stream: BinaryIO) -> Any:
    try:
        return _Unpickler(stream, encoding="utf-8").load()
    except ForeignFileError:
        raise
    except MemoryError:
        _refuse("it wants more memory than such a file may")
    except Exception as error:
        # Whatever a broken or hostile pickle provokes inside the unpickler ends here.
        raise ForeignFileError(
            f"its pickle is broken ({type(error).__name__})"
        ) from error


def _refuse(why: str) -> NoReturn:
    raise ForeignFileError(why)


def open_checkpoint(path: Path) -> tuple[Any, StorageReader]:
    """Unpickle a file safely; tensors come as plans, their numbers on request."""
    with path.open("rb") as stream:
        if stream.read(2) == b"PK":
            return _open_archive(path)
        stream.seek(0)
        return _open_stream(stream)


def _open_archive(path: Path) -> tuple[Any, StorageReader]:
    try:
        archive = zipfile.ZipFile(path)
        members = archive.infolist()
    except _BROKEN_ARCHIVE as error:
        raise ForeignFileError("its archive is broken") from error
    if len(members) > MEMBER_LIMIT:
        _refuse("its archive has too many members")
    size = path.stat().st_size
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        _refuse("its archive is compressed, which torch never does")
    if sum(member.file_size for member in members) > size:
        _refuse("its archive claims more than the file holds")
    pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        _refuse("it is an archive, but not one of torch's")
    root = pickles[0].removesuffix("data.pkl")
    if archive.getinfo(pickles[0]).file_size > PICKLE_LIMIT_BYTES:
        _refuse("its description is too long")
    order = f"{root}byteorder"
    if order in archive.namelist() and _member(archive, order) != b"little":
        _refuse("its numbers are big-endian")

    def read(storage: Storage) -> bytes:
        return _member(archive, f"{root}data/{storage.key}")

    return _load(io.BytesIO(_member(archive, pickles[0]))), read


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except _BROKEN_ARCHIVE as error:
        raise ForeignFileError("a part of its archive is missing or broken") from error


def _open_stream(stream: BinaryIO) -> tuple[Any, StorageReader]:
    if stream.read(1) != b"\x80":
        _refuse("it is no file of torch")
    stream.seek(0)
    if _load(stream) != _OLD_MAGIC or _load(stream) != _OLD_PROTOCOL:
        _refuse("it is a pickle, but not one of torch's")
    facts = _load(stream)
    if not isinstance(facts, dict) or facts.get("little_endian") is not True:
        _refuse("its numbers are big-endian")
    content, keys = _load(stream), _load(stream)
    if not isinstance(keys, list):
        _refuse("it is a pickle, but not one of torch's")
    start = stream.tell()
    whole = memoryview(stream.read())
    places: dict[str, memoryview] = {}
    position = 0
    sizes = _storage_sizes(content)
    for key in keys:
        count = int.from_bytes(whole[position : position + 8], "little", signed=True)
        length = count * _width(sizes.get(str(key), "f4"))
        position += 8
        # Also where the count itself is cut: it ends beyond the file.
        if count < 0 or position + length > len(whole):
            _refuse(f"it ends early (after {start + len(whole)} bytes)")
        places[str(key)] = whole[position : position + length]
        position += length

    def read(storage: Storage) -> bytes:
        if storage.key not in places:
            _refuse("a storage is missing or broken")
        return bytes(places[storage.key])

    return content, read


def _storage_sizes(content: object) -> dict[str, str]:
    found: dict[str, str] = {}
    _walk(content, lambda plan: found.setdefault(plan.storage.key, plan.storage.kind))
    return found


def _walk(
    content: object, visit: Callable[[TensorPlan], object], depth: int = 0
) -> None:
    if isinstance(content, TensorPlan):
        visit(content)
    elif depth < 12 and isinstance(content, Mapping):
        for value in content.values():
            _walk(value, visit, depth + 1)
    elif depth < 12 and isinstance(content, (list, tuple, set, frozenset)):
        for value in content:
            _walk(value, visit, depth + 1)


def _width(kind: str) -> int:
    return 2 if kind == "bf16" else np.dtype(kind).itemsize


def find_network(content: object) -> dict[str, TensorPlan]:
    """Find the one UNETR in what was unpickled, under MONAI's own names.

    Prefixes (``model.``, ``module.`` ...) are taken off; what lies beside the network
    (Lightning's second listing of the same tensors, optimiser states) is left out.
    """
    for state in _state_dicts(content):
        prefixes = [
            name.removesuffix(_OUTPUT) for name in state if name.endswith(_OUTPUT)
        ]
        if not prefixes:
            continue
        chosen = "model." if "model." in prefixes else prefixes[0]
        if len(prefixes) > 1 and chosen != "model.":
            _refuse("it holds several networks")
        inner = {
            name.removeprefix(chosen): plan
            for name, plan in state.items()
            if name.startswith(chosen)
        }
        if chosen:
            return inner
        return {
            name: plan
            for name, plan in inner.items()
            if not name.startswith("backbone.")
        }
    _refuse("it holds no UNETR (no tensor out.conv.conv.weight)")


def _state_dicts(content: object) -> list[dict[str, TensorPlan]]:
    places = [content]
    if isinstance(content, Mapping):
        places = [content.get(name) for name in _WRAPPERS] + places
    found = []
    for place in places:
        if isinstance(place, Mapping):
            plans = {
                str(name): plan
                for name, plan in place.items()
                if isinstance(plan, TensorPlan)
            }
            if len(plans) > TENSOR_LIMIT:
                _refuse("it holds too many tensors")
            found.append(plans)
    return found


def materialise(plan: TensorPlan, read: StorageReader) -> NDArray[np.float32]:
    """Read the numbers of a tensor as float32."""
    storage = plan.storage
    raw = read(storage)
    if len(raw) != storage.count * _width(storage.kind):
        _refuse("a storage has another size than described")
    if storage.kind == "bf16":
        wide = np.frombuffer(raw, "<u2").astype(np.uint32) << 16
        numbers: NDArray[Any] = wide.view(np.float32)
    else:
        dtype = np.dtype(storage.kind).newbyteorder("<")
        numbers = np.frombuffer(raw, dtype)
    steps = [step * numbers.itemsize for step in plan.stride]
    # The bounds were checked when the plan was made.
    view = np.lib.stride_tricks.as_strided(
        numbers[plan.offset :], plan.shape, steps, writeable=False
    )
    return np.ascontiguousarray(view, dtype=np.float32)


def plain_facts(content: object) -> dict[str, object]:
    """Take the hyper-parameters that are plain values, and how far training went.

    Plain are finite numbers, short texts and short lists of numbers; ``unread`` names
    the hyper-parameters that are something else.
    """
    if not isinstance(content, Mapping):
        return {}
    kept: dict[str, object] = {}
    unread: list[str] = []
    for section in ("hyper_parameters", "datamodule_hyper_parameters"):
        values = content.get(section)
        if isinstance(values, Mapping):
            given = {str(n)[:80]: v for n, v in values.items() if v is not None}
            kept[section] = {n: v for n, v in given.items() if _is_plain(v)}
            unread += [name for name, value in given.items() if not _is_plain(value)]
    kept |= {
        name: content[name]
        for name in ("epoch", "global_step", "pytorch-lightning_version")
        if _is_plain(content.get(name))
    }
    return kept | {"unread": unread}


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return len(value) <= _LIST_LIMIT and all(map(_is_number, value))
    if isinstance(value, str):
        return len(value) < _TEXT_LIMIT and value.isprintable()
    return _is_number(value)


def _is_number(value: object) -> bool:
    """Tell a finite number that a float could hold."""
    return isinstance(value, (int, float)) and abs(value) <= sys.float_info.max


def convert(path: Path, folder: Path) -> None:
    """Write the network of `path` and its plain facts into `folder`."""
    content, read = open_checkpoint(path)
    tensors = {
        name: materialise(plan, read) for name, plan in find_network(content).items()
    }
    # Written here, not by the library: that renames a file, which is denied by now.
    weights = safetensors.numpy.save(tensors)
    (folder / "tensors.safetensors").write_bytes(weights)
    facts = json.dumps(plain_facts(content), allow_nan=False)
    (folder / "facts.json").write_text(facts, "utf-8")


def main() -> int:
    """Run as the throw-away process: 0 done, 3 refused (why on standard output)."""
    from unetr.sandbox import confine

    path, folder = Path(sys.argv[1]), Path(sys.argv[2])
    confine(memory_bytes=int(sys.argv[3]), cpu_s=int(sys.argv[4]))
    try:
        convert(path, folder)
    except (ForeignFileError, ValueError) as error:
        print(str(error)[:300])
        return 3
    except MemoryError:
        print("it wants more memory than such a file may")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
