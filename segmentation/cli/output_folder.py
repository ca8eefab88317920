"""The files a run leaves behind: all of them, or none.

Files are made in a hidden folder inside the output folder and moved into place at the
end, ``result.json`` last: where it exists, the output is complete. Other files of the
folder are never touched. One writer a folder.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from errors import MetiaError

RESULT = "result.json"
NAMES = ("SEG.dcm", "mask.nii.gz", "lesions.png", RESULT)


class OutputFolder:
    """Files on their way into a folder.

    Attributes
    ----------
    hashes : dict
        Name and SHA-256 of every file made so far.
    """

    def __init__(self, path: Path, made: Path) -> None:
        self._path = path
        self._made = made
        self.hashes: dict[str, str] = {}

    def add(self, name: str, write: Callable[[Path], object]) -> None:
        """Make a file by `write`, which gets the path to write to."""
        if name not in NAMES:
            raise ValueError(f"{name} is none of the files of an output folder")
        target = self._made / name
        write(target)
        self.hashes[name] = hashlib.sha256(target.read_bytes()).hexdigest()

    def commit(self) -> None:
        """Move everything into place; remove what an earlier run left over."""
        (self._path / RESULT).unlink(missing_ok=True)
        for name in NAMES:  # the result is the last of them
            if name in self.hashes:
                os.replace(self._made / name, self._path / name)
            else:
                (self._path / name).unlink(missing_ok=True)


def check_free(path: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds results already; done before any work.

    Raises
    ------
    MetiaError
        ``output-exists``.
    """
    if path.exists() and not path.is_dir():
        raise MetiaError("output-exists", "The output is a file, not a folder.")
    present = [name for name in NAMES if os.path.lexists(path / name)]
    if present and not overwrite:
        raise MetiaError("output-exists", f"There is {', '.join(present)} already.")


@contextmanager
def output_folder(path: Path) -> Iterator[OutputFolder]:
    """Open a folder for the files of one run; leaves no trace unless committed.

    Raises
    ------
    MetiaError
        ``disk-full``, ``output-unwritable``.
    """
    missing = [one for one in (path, *path.parents) if not one.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".metia-", dir=path) as made:
            yield OutputFolder(path, Path(made))
    except OSError as error:
        code = "disk-full" if error.errno == errno.ENOSPC else "output-unwritable"
        raise MetiaError(code, f"{error.strerror}.") from error
    finally:
        for one in missing:  # innermost first; only what we made and left empty
            if one.is_dir() and not any(one.iterdir()):
                one.rmdir()
