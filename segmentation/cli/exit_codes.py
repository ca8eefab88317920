"""Exit codes of the command line; documented in ``./metia --help`` and the README.

One place maps error codes to exit codes, so that scripts can tell a refused input from
a broken installation. Pure.
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What the process ends with."""

    OK = 0
    """Done, also where no lesion was found."""
    USAGE = 2
    """The command was not understood, or would overwrite something."""
    INPUT = 3
    """The images cannot be read or cannot be used; the message says why."""
    SERIES = 4
    """No series is suitable, or the choice is not clear."""
    MODEL = 5
    """The model is unknown, damaged, or gave an implausible answer."""
    INTERNAL = 6
    """The machine, its settings, or a fault of the program."""
    CANCELLED = 130
    """Stopped with Ctrl-C; what was kept, if anything, is said."""


_BY_CODE: dict[str, Exit] = {
    "bad-request": Exit.USAGE,
    "conflict": Exit.USAGE,
    "invalid-input": Exit.USAGE,
    "not-found": Exit.USAGE,
    "input-unreadable": Exit.INPUT,
    "output-exists": Exit.USAGE,
    "export-impossible": Exit.INPUT,
    "input-ambiguous": Exit.SERIES,
    "no-suitable-series": Exit.SERIES,
    "series-not-found": Exit.SERIES,
    "volume-not-head-t1": Exit.SERIES,
    "prediction-implausible": Exit.MODEL,
    "job-cancelled": Exit.CANCELLED,
}
_BY_PREFIX = {"volume-": Exit.INPUT, "model-": Exit.MODEL, "checkpoint-": Exit.MODEL}


def exit_code(error_code: str) -> Exit:
    """Give the exit code for the code of a ``MetiaError``."""
    if error_code in _BY_CODE:
        return _BY_CODE[error_code]
    for prefix, found in _BY_PREFIX.items():
        if error_code.startswith(prefix):
            return found
    return Exit.INTERNAL
