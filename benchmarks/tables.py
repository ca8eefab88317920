"""Writes nested figures as Markdown tables, for people to read and to paste.

Pure. A dict of dicts with plain values becomes a table, a row a key; a list of such
dicts likewise; plain values between them become lines; everything else gets a heading
and the same inside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def as_markdown(figures: Mapping[str, Any], depth: int = 2) -> str:
    """Write figures; headings start at `depth` hashes."""
    blocks: list[str] = []
    plain = {name: value for name, value in figures.items() if not _has_parts(value)}
    if plain:
        blocks.append("\n".join(f"- {name}: {_text(v)}" for name, v in plain.items()))
    rows = {name: value for name, value in figures.items() if _is_row(value)}
    blocks += [
        _table([{"": name} | dict(rows[name]) for name in group])
        for group in _alike(rows)
    ]
    for name, value in figures.items():
        if name in plain or name in rows:
            continue
        inside = (
            as_markdown(value, depth + 1)
            if isinstance(value, Mapping)
            else _table(value)
        )
        blocks.append(f"{'#' * depth} {name}\n\n{inside}")
    return "\n\n".join(blocks)


def _has_parts(value: object) -> bool:
    return isinstance(value, Mapping) or _is_rows(value)


def _is_row(value: object) -> bool:
    return isinstance(value, Mapping) and not any(map(_has_parts, value.values()))


def _is_rows(value: object) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and bool(value)
        and all(map(_is_row, value))
    )


def _alike(rows: Mapping[str, Row]) -> list[list[str]]:
    """Group the rows that have a column in common, in their order."""
    groups: list[tuple[set[str], list[str]]] = []
    for name, row in rows.items():
        for columns, names in groups:
            if columns & set(row):
                columns.update(row)
                names.append(name)
                break
        else:
            groups.append((set(row), [name]))
    return [names for _, names in groups]


def _table(rows: Sequence[Row]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, ["---"] * len(columns)]
    lines += [[_text(row.get(name, "")) for name in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_text, value))
    return "" if value is None else str(value)
