"""Reads a JSON request body strictly, so that hostile text ends in an answer.

Anything a careful peer would not send is refused with ``bad-request``: bad UTF-8, a
name given twice, NaN and infinities, numbers beyond what a number holds, nesting
without end, lone surrogates. Pure functions, safe between threads.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from errors import MetiaError


def parse_json(body: bytes) -> Any:
    """Turn a request body into a Python value.

    Parameters
    ----------
    body : bytes
        The body as received.

    Returns
    -------
    Any
        The JSON value; its texts can be encoded as UTF-8, its numbers are finite.

    Raises
    ------
    MetiaError
        ``bad-request``, saying what is wrong but not repeating the text.
    """
    if not body.strip():
        raise MetiaError("bad-request", "The request has no body; send JSON.")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MetiaError("bad-request", "The body is not UTF-8 text.") from error
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object_without_repeats,
            parse_constant=_refuse_constant,
            parse_float=_finite_float,
        )
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        raise MetiaError("bad-request", "The JSON is nested too deeply.") from error
    except UnicodeEncodeError as error:
        raise MetiaError(
            "bad-request", "A text of the JSON is no valid Unicode."
        ) from error
    except json.JSONDecodeError as error:
        raise MetiaError(
            "bad-request",
            f"The body is not JSON (line {error.lineno}, column {error.colno}).",
        ) from error
    except ValueError as error:  # int() of more digits than Python converts
        raise MetiaError("bad-request", "A number of the JSON is too long.") from error
    return value


def _object_without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MetiaError("bad-request", "The JSON gives one name twice.")
    return members


def _refuse_constant(_: str) -> NoReturn:
    raise MetiaError("bad-request", "NaN and Infinity are not JSON.")


def _finite_float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise MetiaError("bad-request", "A number of the JSON is too large.")
    return number
