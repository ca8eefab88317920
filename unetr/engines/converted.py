"""Converted networks on disk: kept whole, checked when read, made anew where spoilt.

One file an entry: a line of JSON with the sizes and the SHA-256 of what follows, then
the graph, then its constants. Entries are written beside and renamed, so any number of
processes may use one folder; two that make the same entry write the same. It guards
against damage, not against somebody who may write into the data folder.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from unetr.files import written_whole

SUFFIX = ".converted"
KEPT = 6
"""Entries a folder holds at most; the longest unused go first."""
_HEADER_LIMIT_BYTES = 4096


@dataclass(frozen=True)
class Converted:
    """A network in the format of its engine."""

    graph: bytes
    constants: bytes


def converted(
    folder: Path | None, key: str, make: Callable[[], Converted]
) -> Converted:
    """Give the entry `key`, made by `make` where it is not there or is spoilt.

    A folder that cannot be written to costs time, never the network.
    """
    if folder is None:
        return make()
    path = folder / f"{key}{SUFFIX}"
    found = read(path)
    if found is None:
        found = make()
        with suppress(OSError):
            write(path, found)
    return found


def read(path: Path) -> Converted | None:
    """Read an entry; None where it is absent or not what was written."""
    try:
        with path.open("rb") as stream:
            header = stream.readline(_HEADER_LIMIT_BYTES)
            content = stream.read()
        os.utime(path)
    except OSError:
        return None
    try:
        facts = json.loads(header)
        graph_bytes, expected = int(facts["graph_bytes"]), str(facts["sha256"])
    except (ValueError, TypeError, KeyError):
        return None
    if hashlib.sha256(content).hexdigest() != expected:
        return None
    return Converted(content[:graph_bytes], content[graph_bytes:])


def write(path: Path, entry: Converted) -> None:
    """Write an entry whole, and let go of those that were not used for longest."""
    digest = hashlib.sha256(entry.graph)
    digest.update(entry.constants)
    facts = {"graph_bytes": len(entry.graph), "sha256": digest.hexdigest()}
    with written_whole(path) as stream:
        stream.write(json.dumps(facts).encode() + b"\n")
        stream.write(entry.graph)
        stream.write(entry.constants)
    _let_go(path)


def _let_go(newest: Path) -> None:
    entries = [entry for entry in newest.parent.glob(f"*{SUFFIX}") if entry != newest]
    # Another process may be doing the same.
    with suppress(OSError):
        entries.sort(key=lambda entry: -entry.stat().st_mtime)
    for entry in entries[KEPT - 1 :]:
        with suppress(OSError):
            entry.unlink()
