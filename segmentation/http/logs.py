"""Structured logs: one JSON object a line, no patient data, no secrets.

Both the API's own lines and those of libraries pass the same formatter. An exception
is logged by its type and the places it passed, never by its message or its local
values, which could hold what a patient's image says. Configure once a process.
"""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from types import TracebackType
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def configure_logs(level: str) -> None:
    """Send every log line of this process to stderr as JSON.

    Parameters
    ----------
    level : str
        ``DEBUG``, ``INFO``, ``WARNING`` or ``ERROR``.
    """
    structlog.configure(
        processors=[
            *_processors(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(make_formatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    warnings.showwarning = _log_warning
    # Lines of these repeat whole addresses, query strings included.
    for noisy in ("werkzeug", "httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # And lines of these repeat values of image headers.
    for telling in ("pydicom", "highdicom"):
        logging.getLogger(telling).setLevel(logging.CRITICAL)


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Log kind and place of a warning only: pydicom's texts quote header values."""
    place = f"{'/'.join(filename.split('/')[-2:])}:{lineno}"
    logging.getLogger("py.warnings").warning("%s at %s", category.__name__, place)


def make_formatter() -> logging.Formatter:
    """Make the formatter for log lines of any origin."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_processors(),
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(),
        ],
    )


def _processors() -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _exception_without_message,
    ]


def describe_exception(error: BaseException) -> dict[str, Any]:
    """Say what was raised and where, without its message.

    Parameters
    ----------
    error : BaseException
        What was caught.

    Returns
    -------
    dict
        ``exception`` (type) and ``places`` (``file:line function``, outermost first).
    """
    places = [
        f"{'/'.join(frame.filename.split('/')[-2:])}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
    ]
    kind = type(error)
    description: dict[str, Any] = {
        "exception": f"{kind.__module__}.{kind.__qualname__}",
        "places": places[-25:],
    }
    if error.__cause__ is not None:
        cause = type(error.__cause__)
        description["cause"] = f"{cause.__module__}.{cause.__qualname__}"
    return description


def _exception_without_message(
    _logger: WrappedLogger, _method: str, event: EventDict
) -> EventDict:
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    if isinstance(info, BaseException):
        event.update(describe_exception(info))
    elif isinstance(info, tuple) and info[1] is not None:
        event.update(describe_exception(info[1]))
    return event
