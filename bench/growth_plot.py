"""Ingest and a question's time over the number of certificates, as SVG that stands alone.

No script and no outside font; it follows the reader's light or dark setting.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

_WIDTH, _HEIGHT = 760, 300
_TOP, _BOTTOM, _LEFT, _PANEL, _GAP = 52, 44, 56, 296, 72
_STYLE = (
    "text{fill:#24292f;font:12px sans-serif}.note{fill:#57606a}.grid{stroke:#d0d7de}"
    ".a{stroke:#0969da;fill:#0969da}.b{stroke:#bc4c00;fill:#bc4c00}.c{stroke:#8250df;fill:#8250df}"
    "polyline.line{fill:none;stroke-width:2}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.note{fill:#9198a1}.grid{stroke:#3d444d}"
    ".a{stroke:#4493f8;fill:#4493f8}.b{stroke:#f0883e;fill:#f0883e}"
    ".c{stroke:#ab7df8;fill:#ab7df8}}"
)


def plot(points: Sequence[dict[str, Any]]) -> str:
    """Two panels over the same milestones (see `growth`): events a second, milliseconds."""
    at = [point["certificates"] for point in points]
    rate = [point["rate"] for point in points]
    allowed = [point["cores"] * 1e6 / sum(point["us_per_event"].values()) for point in points]
    question, evidence = (
        [point[name]["p99"] * 1000 for point in points] for name in ("question", "evidence")
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        "<title>Ingest and the time of a question over the certificates in the ledger</title>",
        f"<style>{_STYLE}</style>",
        *_panel(
            _LEFT,
            "events per second, published to proven",
            at,
            [("a", "measured", rate), ("c", "if no core ever waited", allowed)],
        ),
        *_panel(
            _LEFT + _PANEL + _GAP,
            "99th percentile of an answer over HTTP, ms",
            at,
            [("b", "question", question), ("c", "with evidence", evidence)],
        ),
        "</svg>\n",
    ]
    return "\n".join(parts)


def _panel(
    left: int, title: str, at: Sequence[int], lines: Sequence[tuple[str, str, Sequence[float]]]
) -> list[str]:
    """One panel: certificates on a logarithmic scale, values from zero."""
    first, last = math.log10(min(at)), math.log10(max(at))
    top = _round_up(max(value for _, _, values in lines for value in values))
    height = _HEIGHT - _TOP - _BOTTOM

    def x(count: int) -> float:
        return left + 12 + (_PANEL - 24) * (math.log10(count) - first) / ((last - first) or 1)

    def y(value: float) -> float:
        return _TOP + height * (1 - value / top)

    parts = [f'<text x="{left}" y="18">{title}</text>']
    for step in range(5):
        value = top * step / 4
        parts.append(
            f'<line class="grid" x1="{left}" x2="{left + _PANEL}" y1="{y(value):.1f}" '
            f'y2="{y(value):.1f}"/><text class="note" x="{left - 8}" y="{y(value) + 4:.1f}" '
            f'text-anchor="end">{value:,g}</text>'
        )
    for count in at:
        parts.append(
            f'<text class="note" x="{x(count):.1f}" y="{_HEIGHT - _BOTTOM + 20}" '
            f'text-anchor="middle">{_short(count)}</text>'
        )
    for n, (look, name, values) in enumerate(lines):
        path = " ".join(f"{x(c):.1f},{y(v):.1f}" for c, v in zip(at, values, strict=True))
        parts.append(f'<polyline class="{look} line" points="{path}"/>')
        for count, value in zip(at, values, strict=True):
            parts.append(
                f'<circle class="{look}" cx="{x(count):.1f}" cy="{y(value):.1f}" r="3.5">'
                f"<title>{count:,} certificates: {value:,.1f}</title></circle>"
            )
        if name:
            place = left + n * 100
            parts.append(
                f'<circle class="{look}" cx="{place + 4}" cy="32" r="4"/>'
                f'<text class="note" x="{place + 14}" y="36">{name}</text>'
            )
    parts.append(
        f'<text class="note" x="{left + _PANEL / 2}" y="{_HEIGHT - 6}" '
        'text-anchor="middle">certificates in the ledger</text>'
    )
    return parts


def _round_up(value: float) -> float:
    """The least of 1, 2, 4, 6, 8 times a power of ten that is at least `value`."""
    power = float(10 ** math.floor(math.log10(value)))
    return next(n * power for n in (1, 2, 4, 6, 8, 10) if n * power >= value)


def _short(count: int) -> str:
    rounded = float(f"{count:.2g}")
    return f"{rounded / 1e6:g} M" if rounded >= 1e6 else f"{rounded / 1e3:g} k"
