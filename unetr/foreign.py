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
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

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
_DEEPEST = 2
"""Mappings a state dict may lie in, as in ``{"model": {"state_dict": ...}}``."""
_SCALAR_BYTES = 16
"""Of the bytes that are rebuilt: what a single number of numpy may have."""

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
    # Never read, as no network has such numbers, but how wide they are is needed.
    "ComplexFloatStorage": "c8",
    "ComplexDoubleStorage": "c16",
    "QInt8Storage": "V1",
    "QUInt8Storage": "V1",
    "QUInt4x2Storage": "V1",
    "QUInt2x4Storage": "V1",
    "QInt32Storage": "V4",
    "UntypedStorage": "V1",
}
_UNKNOWN = "unknown"
_NUMBERS = {kind for kind in _STORAGES.values() if kind[0] in "bfiu"}
"""Kinds of storages that are read as numbers."""


class ForeignFileError(ValueError):
    """The file is none that we read; the text says why, without its content."""


class Stub:
    """Stands for an object whose class is not ours; does nothing.

    Attributes
    ----------
    held : list
        What the file gave the object, not looked at but for whether a name occurs.
    """

    held: list[object]

    def __new__(cls, *given: object, **named: object) -> Stub:
        """Take whatever the real class would."""
        self = super().__new__(cls)
        self.held = [given, named]
        return self

    def __setstate__(self, state: object) -> None:
        self.held.append(state)

    def __call__(self, *_: object, **__: object) -> Stub:
        """Be called, and do nothing."""
        return self

    def append(self, item: object) -> None:
        """Take an item of a list's subclass."""
        self.held.append(item)

    def extend(self, items: list[object]) -> None:
        """Take items of a list's subclass."""
        self.held.extend(items)

    def __setitem__(self, name: object, value: object) -> None:
        if isinstance(name, str):
            self.held.append({name: value})


def _encoded(text: object, *_: object) -> object:
    """Give the bytes of a number of numpy's, as old protocols write bytes."""
    if isinstance(text, str) and len(text) <= _SCALAR_BYTES:
        return text.encode("latin-1")
    return Stub()


def _numpy_number(kind: object, raw: object = None) -> object:
    """Give a single number of numpy's, pickled as its dtype and bytes."""
    if isinstance(kind, Stub) and isinstance(raw, bytes):
        match kind.held:
            case [(str(code), *_), _, (_, "<" | "|", *_)] if code in _NUMBERS:
                if code != "bf16" and len(raw) == _width(code):
                    return np.frombuffer(raw, code)[0].item()
    return Stub()


_HARMLESS = {
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): lambda *_: {},
    ("collections", "Counter"): Stub,  # in the state of MultiStepLR
    ("collections", "deque"): Stub,
    ("_codecs", "encode"): _encoded,
    ("numpy.core.multiarray", "scalar"): _numpy_number,
    ("numpy._core.multiarray", "scalar"): _numpy_number,
    # What people leave among hyper-parameters and callbacks; none of it is called.
    ("decimal", "Decimal"): Stub,
    ("fractions", "Fraction"): Stub,
    ("itertools", "count"): Stub,
    ("itertools", "cycle"): Stub,
    ("itertools", "repeat"): Stub,
    ("random", "Random"): Stub,
    ("re", "_compile"): Stub,
    ("uuid", "UUID"): Stub,
    ("uuid", "SafeUUID"): Stub,
    ("copyreg", "_reconstructor"): Stub,
    ("copy_reg", "_reconstructor"): Stub,
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
            "object": Stub,
            "Ellipsis": Stub,
            "NotImplemented": Stub,
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


class Storage(NamedTuple):
    """Where numbers lie: a member of the archive, or a place in the stream."""

    key: str
    kind: str
    length: int


class TensorPlan(NamedTuple):
    """A tensor not read yet, as the file describes it: nothing of it is checked.

    A tuple, as a pickle can change no part of one that it has made.
    """

    storage: Storage
    offset: object
    shape: tuple[object, ...]
    stride: tuple[object, ...]


StorageReader = Callable[[str], bytes]
"""Gives all bytes of the storage of a key."""


def _rebuild(
    storage: object, offset: object, shape: object, stride: object, *_: object
) -> TensorPlan:
    if not isinstance(storage, Storage):
        raise ForeignFileError("a tensor refers to no storage")
    return TensorPlan(storage, offset, tuple(shape), tuple(stride))  # type: ignore[arg-type]


def _parameter(data: object, *_: object) -> object:
    return data


def _attribute(owner: object, _: object) -> Stub:
    if owner is not Stub:
        raise ForeignFileError("it asks for an attribute")
    return Stub()


class _Unpickler(pickle.Unpickler):
    """Knows tensors, plain containers and stubs.

    Attributes
    ----------
    kinds : dict
        Of every storage that was named, whoever refers to it, what it holds.
    """

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream, encoding="utf-8")
        self.kinds: dict[str, str] = {}

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
        if module in ("torch", "torch.storage") and name.endswith("Storage"):
            return _STORAGES.get(name, _UNKNOWN)
        if module == "torch._utils" and name in (
            "_rebuild_tensor",
            "_rebuild_tensor_v2",
            "_rebuild_tensor_v3",
        ):
            return _rebuild
        if module == "torch._utils" and name.startswith("_rebuild_parameter"):
            return _parameter
        if (module, name) == ("torch", "Size"):
            return tuple
        return Stub

    def persistent_load(self, pid: Any) -> Storage:
        match pid:
            case ("storage", kind, str(key), _, int(count), *_) if (
                type(count) is int and count >= 0
            ):
                pass
            case _:
                _refuse("a storage is not described as torch does")
        self.kinds[key] = kind if kind in _STORAGES.values() else _UNKNOWN
        return Storage(key, self.kinds[key], count)


def _load(unpickler: _Unpickler) -> Any:
    try:
        return unpickler.load()
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

    def read(key: str) -> bytes:
        return _member(archive, f"{root}data/{key}")

    return _load(_Unpickler(io.BytesIO(_member(archive, pickles[0])))), read


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except _BROKEN_ARCHIVE as error:
        raise ForeignFileError("a part of its archive is missing or broken") from error


def _open_stream(stream: BinaryIO) -> tuple[Any, StorageReader]:
    if stream.read(1) != b"\x80":
        _refuse("it is no file of torch")
    stream.seek(0)
    head = (_load(_Unpickler(stream)), _load(_Unpickler(stream)))
    if head != (_OLD_MAGIC, _OLD_PROTOCOL):
        _refuse("it is a pickle, but not one of torch's")
    facts = _load(_Unpickler(stream))
    if not isinstance(facts, dict) or facts.get("little_endian") is not True:
        _refuse("its numbers are big-endian")
    unpickler = _Unpickler(stream)
    content, keys = _load(unpickler), _load(_Unpickler(stream))
    if not isinstance(keys, list):
        _refuse("it is a pickle, but not one of torch's")
    start = stream.tell()
    whole = memoryview(stream.read())
    places: dict[str, memoryview] = {}
    position = 0
    for key in keys:
        count = int.from_bytes(whole[position : position + 8], "little", signed=True)
        length = count * _width(unpickler.kinds.get(str(key), _UNKNOWN))
        position += 8
        # Also where the count itself is cut: it ends beyond the file.
        if count < 0 or position + length > len(whole):
            _refuse(f"it ends early (after {start + len(whole)} bytes)")
        places[str(key)] = whole[position : position + length]
        position += length

    def read(key: str) -> bytes:
        if key not in places:
            _refuse("a storage is missing or broken")
        return bytes(places[key])

    return content, read


def _width(kind: str) -> int:
    if kind == _UNKNOWN:
        _refuse("it holds numbers of an unknown kind")
    return 2 if kind == "bf16" else np.dtype(kind).itemsize


def find_network(content: object) -> dict[str, TensorPlan]:
    """Find the one UNETR in what was unpickled, under MONAI's own names.

    Prefixes (``model.``, ``module.`` ...) are taken off; what lies beside the network
    (Lightning's second listing of the same tensors, optimiser states) is left out.
    """
    networks = _state_dicts(content)
    if not networks:
        _refuse("it holds no UNETR (no tensor out.conv.conv.weight)")
    usual = [state for path, state in networks if set(path) <= set(_WRAPPERS)]
    state = usual[0] if usual else networks[0][1]
    if not usual and any(other != state for _, other in networks):
        names = ", ".join(".".join(path)[:40] for path, _ in networks[:4])
        _refuse(f"it holds several networks ({names})")
    prefixes = [name.removesuffix(_OUTPUT) for name in state if name.endswith(_OUTPUT)]
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
        name: plan for name, plan in inner.items() if not name.startswith("backbone.")
    }


def _state_dicts(
    content: object,
) -> list[tuple[tuple[str, ...], dict[str, TensorPlan]]]:
    """Find what holds a UNETR, and by which names one gets there: usual names first."""
    found = []
    seen: set[int] = set()
    level: list[tuple[tuple[str, ...], object]] = [((), content)]
    for _ in range(_DEEPEST + 1):
        below: list[tuple[tuple[str, ...], object]] = []
        for path, place in level:
            # The same object may be referred to any number of times.
            if not isinstance(place, Mapping) or id(place) in seen:
                continue
            seen.add(id(place))
            named = {n: value for n, value in place.items() if isinstance(n, str)}
            plans = {n: v for n, v in named.items() if isinstance(v, TensorPlan)}
            if any(name.endswith(_OUTPUT) for name in plans):
                if len(plans) > TENSOR_LIMIT:
                    _refuse("it holds too many tensors")
                found.append((path, plans))
            names = dict.fromkeys((*(n for n in _WRAPPERS if n in named), *named))
            below += [((*path, name), named[name]) for name in names]
        level = below
    return found


def materialise(plan: TensorPlan, raw: bytes) -> NDArray[np.float32]:
    """Give the numbers of a tensor as float32, copied out of its storage `raw`.

    Raises
    ------
    ForeignFileError
        Where what the file says of the tensor cannot be, or reaches beyond `raw`.
    """
    storage = plan.storage
    if storage.kind not in _NUMBERS:
        _refuse("a tensor of the network has numbers of an unknown kind")
    if len(raw) != storage.length * _width(storage.kind):
        _refuse("a storage has another size than described")
    offset, shape, stride = _checked(plan)
    if storage.kind == "bf16":
        wide = np.frombuffer(raw, "<u2").astype(np.uint32) << 16
        numbers: NDArray[Any] = wide.view(np.float32)
    else:
        dtype = np.dtype(storage.kind).newbyteorder("<")
        numbers = np.frombuffer(raw, dtype)
    # An axis of one has no step; what is written there may be any number.
    steps = [
        step * numbers.itemsize if length > 1 else 0
        for length, step in zip(shape, stride, strict=True)
    ]
    view = np.lib.stride_tricks.as_strided(
        numbers[offset:], shape, steps, writeable=False
    )
    return np.array(view, dtype=np.float32, order="C")


def _checked(plan: TensorPlan) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Give offset, shape and stride, which stay within the storage."""
    values = (plan.offset, *plan.shape, *plan.stride)
    whole = [value for value in values if type(value) is int and value >= 0]
    count = len(plan.shape)
    if len(whole) != 1 + 2 * count or len(plan.stride) != count:
        _refuse("a tensor has an impossible shape")
    offset, shape, stride = whole[0], tuple(whole[1 : count + 1]), whole[count + 1 :]
    if 0 in shape:
        _refuse("a tensor of the network is empty")
    # Steps of 0 repeat one number: a small file would become any amount of memory.
    if math.prod(shape) > plan.storage.length:
        _refuse("a tensor is larger than its storage")
    steps = zip(shape, stride, strict=True)
    last = offset + sum((length - 1) * step for length, step in steps)
    if last >= plan.storage.length:
        _refuse("a tensor reaches beyond its storage")
    return offset, shape, tuple(stride)


def plain_facts(content: object) -> dict[str, object]:
    """Take the hyper-parameters that are plain values, and how far training went.

    Plain are finite numbers, short texts and short lists of numbers; ``unread`` names
    the hyper-parameters that are something else, and ``num_heads`` where any other
    place of the file states it.
    """
    if not isinstance(content, Mapping):
        return {}
    kept: dict[str, Any] = {}
    unread: list[str] = []
    for section in ("hyper_parameters", "datamodule_hyper_parameters"):
        values = content.get(section)
        if isinstance(values, Mapping):
            given = {
                name[:80]: value
                for name, value in values.items()
                if isinstance(name, str) and value is not None
            }
            kept[section] = {n: v for n, v in given.items() if _is_plain(v)}
            unread += [name for name, value in given.items() if not _is_plain(value)]
    if "num_heads" not in {*kept.get("hyper_parameters", ()), *unread} and (
        _mentions(content, "num_heads")
    ):
        unread.append("num_heads")
    kept |= {
        name: content[name]
        for name in ("epoch", "global_step", "pytorch-lightning_version")
        if _is_plain(content.get(name))
    }
    return kept | {"unread": unread}


def _mentions(content: object, name: str) -> bool:
    """Tell whether any mapping or object of a file has a value of this name."""
    left, seen = [content], set()
    while left:
        value = left.pop()
        if isinstance(value, Stub):
            value = value.held
        # Whatever is referred to more than once is looked at once.
        if not isinstance(value, (Mapping, list, tuple)) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Mapping):
            if value.get(name) is not None:
                return True
            left.extend(value.values())
        else:
            left.extend(value)
    return False


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return len(value) <= _LIST_LIMIT and all(map(_is_number, value))
    if isinstance(value, str):
        return len(value) < _TEXT_LIMIT and value.isprintable()
    return _is_number(value)


def _is_number(value: object) -> bool:
    """Tell a finite number that a float could hold."""
    return isinstance(value, (int, float)) and abs(value) <= sys.float_info.max


def _storage_key(named: tuple[str, TensorPlan]) -> str:
    return named[1].storage.key


def convert(path: Path, folder: Path) -> None:
    """Write the network of `path` and its plain facts into `folder`."""
    content, read = open_checkpoint(path)
    # One storage at a time, however many tensors share it.
    plans = sorted(find_network(content).items(), key=_storage_key)
    tensors: dict[str, NDArray[np.float32]] = {}
    for key, sharing in groupby(plans, _storage_key):
        raw = read(key)
        tensors |= {name: materialise(plan, raw) for name, plan in sharing}
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
