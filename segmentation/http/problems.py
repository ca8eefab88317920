"""Problem documents (RFC 9457): the one shape of every error answer.

Built from ``errors.CODES`` alone, so that HTTP answers, the viewer's messages and
``docs/errors.md`` cannot drift apart; ``error_reference`` writes that page. Details
never hold patient data: they come from ``MetiaError`` or from the table.
Pure functions, safe between threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from errors import CODES, MetiaError

PROBLEM_TYPE = "application/problem+json"

_STANDARD_MEMBERS = frozenset(
    {"type", "title", "status", "detail", "code", "remedy", "request_id", "errors"}
)

CODE_OF_STATUS: dict[int, str] = {
    400: "bad-request",
    401: "not-authenticated",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    409: "conflict",
    413: "too-large",
    415: "unsupported-media-type",
    422: "invalid-input",
    429: "too-many-requests",
    503: "not-ready",
}
"""The code that stands for an HTTP status the framework itself answers."""


def problem(
    error: MetiaError, request_id: str, errors: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Build the problem document of an error.

    Parameters
    ----------
    error : MetiaError
        The failure; its facts become members of the document, but never replace one
        of the standard members.
    request_id : str
        By which the log's lines about the request are found.
    errors : mapping, optional
        Messages by location and field (``invalid-input``).

    Returns
    -------
    dict
        Members as RFC 9457 names them, plus ``code``, ``remedy``, ``request_id``.
    """
    document: dict[str, Any] = {
        name: value
        for name, value in error.facts.items()
        if name not in _STANDARD_MEMBERS
    }
    document.update(
        type=f"/api/v1/docs#error-{error.code}",
        title=error.info.title,
        status=error.info.http_status,
        detail=error.detail,
        code=error.code,
        remedy=error.info.remedy,
        request_id=request_id,
    )
    if errors:
        document["errors"] = errors
    return document


def error_reference() -> str:
    """Write the reference of all codes, as kept in ``docs/errors.md``.

    Returns
    -------
    str
        Markdown text ending in a newline.
    """
    lines = [
        "# Error codes",
        "",
        "Every error answer of the HTTP API is a problem document (RFC 9457, content",
        "type `application/problem+json`) with `type`, `title`, `status`, `detail`,",
        "`code`, `remedy` and `request_id`. Codes are stable: programs may rely on",
        "them. A failed job carries the same codes. *Retry* says whether the same",
        "request may succeed later without anyone changing anything.",
        "",
        "This page is made from `errors.py` (`flask --app api errors-reference`).",
        "",
        "| Code | Status | Meaning | What to do | Retry |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| `{code}` | {info.http_status} | {info.title} | {info.remedy} "
        f"| {'yes' if info.retryable else 'no'} |"
        for code, info in CODES.items()
    ]
    return "\n".join(lines) + "\n"
