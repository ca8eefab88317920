"""Reads a foreign checkpoint in a throw-away process that can do nothing else.

``read_foreign`` starts ``unetr.foreign`` with a bare environment. Before that opens the
file, ``confine`` takes away, for good: sockets, starting programs or processes,
removing and renaming files, tracing (a seccomp filter), memory beyond a limit, more
processor time than allowed, and files larger than the input could need. Linux on
x86-64 and aarch64; elsewhere nothing is read. What comes back is a safetensors file,
which holds numbers only.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import resource
import stat
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from errors import MetiaError

FILE_LIMIT_BYTES = 8 * 2**30
_SPARE_BYTES = 2 * 2**30
_CPU_S = 300
_LONGEST_S = 2 * _CPU_S

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_ALLOW, _DENY, _KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_X32 = 0x40000000
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_DENIED = {
    # socket connect socketpair clone fork vfork execve ptrace rename unlink unlinkat
    # renameat process_vm_writev renameat2 execveat io_uring_setup clone3
    "x86_64": (
        *(41, 42, 53, 56, 57, 58, 59, 101, 82, 87),
        *(263, 264, 311, 316, 322, 425, 435),
    ),
    "aarch64": (198, 203, 199, 220, 221, 117, 35, 38, 271, 276, 281, 425, 435),
}
"""Numbers of system calls (linux/arch/*/entry/syscalls); each fails with EPERM."""


def confine(*, memory_bytes: int, cpu_s: int) -> None:
    """Give up everything that reading a file does not need, for good.

    Raises
    ------
    OSError
        If this system can't; the caller must not go on.
    """
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_FSIZE, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, "no filter for this kind of processor")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "privileges can't be given up")
    program = _filter(machine)
    buffer = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    pointer = Program(len(program) // 8, ctypes.addressof(buffer))
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(pointer), 0, 0):
        raise OSError(ctypes.get_errno(), "system calls can't be given up")


def _filter(machine: str) -> bytes:
    """Assemble the filter: BPF over struct seccomp_data (number at 0, arch at 4)."""

    def step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("HBBI", code, yes, no, value)

    denied = _DENIED[machine]
    body = [
        step(_EQUAL, number, len(denied) - place, 0)
        for place, number in enumerate(denied)
    ]
    return b"".join(
        [
            step(_LOAD, 4),
            step(_EQUAL, _ARCHITECTURES[machine], 1, 0),
            step(_RETURN, _KILL),
            step(_LOAD, 0),
            # The second set of numbers of x86-64 would slip past the list.
            step(_AT_LEAST, _X32, len(denied) + 1, 0),
            *body,
            step(_RETURN, _ALLOW),
            step(_RETURN, _DENY),
        ]
    )


@dataclass(frozen=True)
class ForeignNetwork:
    """What a foreign file held.

    Attributes
    ----------
    weights : bytes
        A safetensors file: float32, MONAI's names.
    facts : dict
        Hyper-parameters that were plain values, epoch, step.
    """

    weights: bytes
    facts: dict[str, object]


def read_foreign(path: Path) -> ForeignNetwork:
    """Read the network of a pickled checkpoint without running anything of it.

    Raises
    ------
    MetiaError
        ``checkpoint-refused``, saying why.
    """
    size = require_checkpoint(path)
    with tempfile.TemporaryDirectory(prefix="metia-import-") as name:
        folder = Path(name)
        try:
            done = subprocess.run(  # noqa: S603 - our own module
                [
                    *(sys.executable, "-B", "-m", "unetr.foreign"),
                    *(str(path.resolve()), name),
                    *(str(6 * size + _SPARE_BYTES), str(_CPU_S)),
                ],
                cwd=Path(__file__).parent.parent,
                env={"PATH": os.defpath, "OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_LONGEST_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise _refused(
                f"The file was not read: it took longer than {_LONGEST_S} s."
            ) from error
        if done.returncode == 3:
            why = done.stdout.decode("utf-8", "replace").strip()
            raise _refused(f"The file was not read: {why}.")
        if done.returncode != 0:
            raise _refused(
                "The file was not read: the confined process that reads it ended with "
                f"{done.returncode}."
            )
        facts = json.loads((folder / "facts.json").read_text("utf-8"))
        return ForeignNetwork((folder / "tensors.safetensors").read_bytes(), facts)


def require_checkpoint(path: Path) -> int:
    """Refuse at a glance what torch can't have written; give the size in bytes.

    Raises
    ------
    MetiaError
        ``checkpoint-refused``.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            # Opening a pipe would wait for someone to write into it.
            raise _refused("The file was not read: it is no regular file.")
        with path.open("rb") as stream:
            start = stream.read(2)
    except OSError as error:
        raise _refused(f"The file cannot be read: {error.strerror}.") from error
    if not 0 < status.st_size <= FILE_LIMIT_BYTES:
        raise _refused("The file is empty or too large.")
    if start != b"PK" and start[:1] != b"\x80":
        raise _refused("The file was not read: it is no file of torch.")
    return status.st_size


def _refused(detail: str) -> MetiaError:
    return MetiaError("checkpoint-refused", detail)
