"""Both databases, one after the other: a file of SQLite, and PostgreSQL where it is.

Each is empty and belongs to the measurement alone; both are gone afterwards.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.contract.database_fixtures import (
    PostgresqlCluster,
    find_postgresql,
    reason_without_postgresql,
)


def on_each_database(
    measure: Callable[[str, Path], dict[str, object]],
) -> dict[str, object]:
    """Measure on each; what says why there is no PostgreSQL stands in its place.

    Parameters
    ----------
    measure : callable
        Gets the database's URL and a folder for files.
    """
    answer: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        answer["sqlite"] = measure(f"sqlite:///{folder / 'metia.sqlite'}", folder)
        programs = find_postgresql()
        reason = reason_without_postgresql()
        if programs is None or reason:
            answer["postgresql"] = reason
            return answer
        cluster = PostgresqlCluster(programs)
        try:
            cluster.start()
            answer["postgresql"] = measure(cluster.new_database(empty=True), folder)
        finally:
            cluster.stop()
    return answer
