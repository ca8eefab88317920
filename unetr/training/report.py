"""The evaluation as one HTML file that needs nothing else: tables, plots, pictures.

Plots are inline SVG, pictures inline PNG; there is no script and no link. ``picture``
draws one slice with the truth in green and the prediction in red. Pure.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from unetr.training.evaluation import CaseRecord, Summary, pairs

WIDTH, HEIGHT, EDGE = 420, 300, 48
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;
color:#1c2430;background:#fff}table{border-collapse:collapse;margin:1rem 0}
td,th{padding:.25rem .8rem;border-bottom:1px solid #d5dbe3;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}figure{display:inline-block;
margin:.5rem 1rem .5rem 0}figcaption{font-size:13px;color:#4c5866}.note{color:#8a1f11}
svg text{font:12px system-ui,sans-serif;fill:#1c2430}
"""


def picture(
    image: NDArray[np.float32],
    truth: NDArray[np.bool_],
    predicted: NDArray[np.bool_],
    *,
    white: float,
) -> bytes:
    """Draw one slice (row, column) as PNG."""
    grey = (np.clip(image / max(white, 1e-6), 0, 1) * 255).astype(np.uint8)
    cell = np.repeat(grey[..., None], 3, axis=2)
    for mask, colour in ((truth, (60, 220, 90)), (predicted, (255, 60, 50))):
        cell[ndimage.binary_dilation(mask) & ~mask] = colour
    stream = io.BytesIO()
    Image.fromarray(cell).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def write_report(
    title: str,
    facts: dict[str, str],
    summary: Summary,
    cases: Sequence[CaseRecord],
    pictures: Sequence[tuple[str, bytes]],
) -> str:
    """Give the HTML.

    Parameters
    ----------
    facts : dict
        What was evaluated on what; shown as a table.
    pictures : sequence of (str, bytes)
        Captions and PNGs of the worst cases.
    """
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
        for name, value in facts.items()
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
        f"<h1>{html.escape(title)}</h1>"
        '<p class="note">Research use only. Not a medical device.</p>'
        f"<table>{rows}</table>{_figures(summary)}"
        f"<h2>Finding against false positives</h2>{_froc_plot(summary)}"
        f"<h2>Measures of what was found</h2>{_agreement(summary, cases)}"
        f"<h2>Worst cases</h2>{_pictures(pictures)}"
        f"<h2>Every case</h2>{_cases(cases)}</html>\n"
    )


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _figures(summary: Summary) -> str:
    rows = []
    for name, figure in summary.figures.items():
        interval = "–"
        if figure.interval is not None:
            interval = f"{figure.interval[0]:.3f} to {figure.interval[1]:.3f}"
        rows.append(
            f"<tr><td>{html.escape(name)}</td>"
            f'<td class="n">{_number(figure.value)}</td>'
            f'<td class="n">{interval}</td><td class="n">{figure.count}</td></tr>'
        )
    return (
        f"<p>{summary.cases} cases with {summary.lesions} lesions; intervals of 95 % "
        "from a bootstrap over cases. Where all its draws agree (one case, or all "
        "lesions found), a sensitivity has Wilson’s interval of its lesions, taken as "
        "independent, and any other figure none.</p>"
        "<table><tr><th>figure</th><th>value</th>"
        f"<th>interval</th><th>of</th></tr>{''.join(rows)}</table>"
    )


def _plot(
    points: Sequence[tuple[float, float]],
    *,
    x_name: str,
    y_name: str,
    lines: Sequence[float] = (),
    joined: bool = False,
    y_range: tuple[float, float] | None = None,
) -> str:
    """Draw points, horizontal lines and axes as SVG."""
    finite = [(x, y) for x, y in points if np.isfinite(x) and np.isfinite(y)]
    if not finite:
        return "<p>Nothing to show.</p>"
    right = max(1e-6, *(x for x, _ in finite)) * 1.05
    low, high = y_range or _range([*(y for _, y in finite), *lines])

    def place(x: float, y: float) -> tuple[float, float]:
        across = EDGE + x / right * (WIDTH - EDGE - 12)
        return across, HEIGHT - EDGE - (y - low) / (high - low) * (HEIGHT - EDGE - 12)

    parts = [
        f'<path d="M{EDGE} 12V{HEIGHT - EDGE}H{WIDTH - 12}" fill="none" stroke="#555"/>'
    ]
    for share in (0, 0.5, 1):
        x, y = share * right, low + share * (high - low)
        parts.append(
            f'<text x="{place(x, low)[0]:.0f}" y="{HEIGHT - EDGE + 16}" '
            f'text-anchor="middle">{x:.3g}</text>'
            f'<text x="{EDGE - 6}" y="{place(0, y)[1] + 4:.0f}" '
            f'text-anchor="end">{y:.3g}</text>'
        )
    for line in lines:
        y = place(0, line)[1]
        parts.append(
            f'<path d="M{EDGE} {y:.1f}H{WIDTH - 12}" stroke="#c33" '
            'stroke-dasharray="4 3"/>'
        )
    placed = [place(x, y) for x, y in finite]
    if joined:
        track = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline points="{track}" fill="none" stroke="#2463a8"/>')
    parts += [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="#2463a8" fill-opacity=".6"/>'
        for x, y in placed
    ]
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-label="{html.escape(y_name)} against {html.escape(x_name)}">'
        f"{''.join(parts)}"
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
        f"{html.escape(x_name)}</text></svg>"
        f"<br>{html.escape(y_name)} (up)"
    )


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or 0.5
    return low - room, high + room


def _froc_plot(summary: Summary) -> str:
    points = [
        (point["false_positives_a_scan"], point["sensitivity"])
        for point in summary.froc
        if point["sensitivity"] is not None
    ]
    plot = _plot(
        sorted(points),
        x_name="false positives a scan",
        y_name="sensitivity",
        joined=True,
        y_range=(0.0, 1.0),
    )
    rows = "".join(
        f'<tr><td class="n">{point["threshold"]:g}</td>'
        f'<td class="n">{_number(point["sensitivity"])}</td>'
        f'<td class="n">{point["false_positives_a_scan"]:.2f}</td></tr>'
        for point in summary.froc
    )
    return (
        f"<figure>{plot}</figure><table><tr><th>least peak</th><th>sensitivity</th>"
        f"<th>false positives a scan</th></tr>{rows}</table>"
    )


def _agreement(summary: Summary, cases: Sequence[CaseRecord]) -> str:
    parts = []
    for what, name in (
        ("diameter_mm", "longest diameter, mm"),
        ("volume_ml", "volume, ml"),
    ):
        limits = summary.agreement[what]
        if "bias" not in limits:
            parts.append(f"<p>Too few lesions were found to compare {name}.</p>")
            continue
        points = [
            ((true + found) / 2, found - true) for true, found in pairs(cases, what)
        ]
        lines = [limits["lower_limit"], limits["bias"], limits["upper_limit"]]
        plot = _plot(
            points, x_name=f"mean, {name}", y_name="found less true", lines=lines
        )
        parts.append(
            f"<figure>{plot}<figcaption>{name}: bias {limits['bias']:.2f}, limits of "
            f"agreement {limits['lower_limit']:.2f} to {limits['upper_limit']:.2f}, "
            f"{limits['count']:.0f} lesions (Bland and Altman)</figcaption></figure>"
        )
    return "".join(parts)


def _pictures(pictures: Sequence[tuple[str, bytes]]) -> str:
    if not pictures:
        return "<p>None.</p>"
    return "<p>Truth green, prediction red.</p>" + "".join(
        '<figure><img alt="" src="data:image/png;base64,'
        f'{base64.b64encode(content).decode()}"><figcaption>{html.escape(caption)}'
        "</figcaption></figure>"
        for caption, content in pictures
    )


def _cases(cases: Sequence[CaseRecord]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(case.name)}</td>"
        f'<td class="n">{len(case.lesions)}</td>'
        f'<td class="n">{sum(lesion.found for lesion in case.lesions)}</td>'
        f'<td class="n">{len(case.false_positives)}</td>'
        f"<td>{'yes' if case.refused else ''}</td>"
        f'<td class="n">{case.lesionwise_dice:.3f}</td>'
        f'<td class="n">{case.lesionwise_hd95_mm:.1f}</td></tr>'
        for case in cases
    )
    return (
        "<table><tr><th>case</th><th>lesions</th><th>found</th><th>false positives"
        "</th><th>refused</th><th>lesion-wise Dice</th><th>HD95, mm</th></tr>"
        f"{rows}</table>"
    )
