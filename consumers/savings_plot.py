"""The savings of each month as a picture: SVG that stands alone, without script or outside font."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

SHOWN = {  # what is drawn: colour, words
    "proofs": ("#1b6ca8", "proofs not demanded 免提交证明"),
    "copies": ("#d98c21", "copies not made 免复印份数"),
    "windows": ("#4d8f4d", "windows not visited 少跑窗口"),
}
MAX_MONTHS = 36  # the last ones
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 760, 320, 64, 44, 56


def plot(months: Mapping[str, Mapping[str, int]]) -> str:
    """A group of bars for each month, ascending, with the number in each bar's title."""
    shown = dict(sorted(months.items())[-MAX_MONTHS:])
    most = max((row[name] for row in shown.values() for name in SHOWN), default=0)
    top = _round_up(most)
    height = _HEIGHT - _TOP - _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        'font-family="sans-serif" font-size="12">',
        "<title>What reuse saved, by month 按月统计的减免</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
    ]
    for n, (colour, words) in enumerate(SHOWN.values()):
        x = _LEFT + n * 220
        parts.append(f'<rect x="{x}" y="16" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 18}" y="26" fill="#222222">{escape(words)}</text>')
    for step in range(5):
        y = _TOP + height - height * step / 4
        label = f"{top * step // 4:,}"
        parts.append(
            f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - 16}" y2="{y:.1f}" stroke="#dddddd"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#444444">{label}</text>'
        )
    room = (_WIDTH - 16 - _LEFT) / max(len(shown), 1)
    bar = min(room * 0.8 / len(SHOWN), 40)
    for n, (month, row) in enumerate(shown.items()):
        begin = _LEFT + room * n + (room - bar * len(SHOWN)) / 2
        for k, (name, (colour, words)) in enumerate(SHOWN.items()):
            tall = height * row[name] / top if top else 0
            parts.append(
                f'<rect x="{begin + bar * k:.1f}" y="{_TOP + height - tall:.1f}" '
                f'width="{bar:.1f}" height="{tall:.1f}" fill="{colour}">'
                f"<title>{escape(month)}: {row[name]:,} {escape(words)}</title></rect>"
            )
        if len(shown) <= 12 or n % (len(shown) // 12 + 1) == 0:
            parts.append(
                f'<text x="{_LEFT + room * (n + 0.5):.1f}" y="{_HEIGHT - _BOTTOM + 20}" '
                f'text-anchor="middle" fill="#222222">{escape(month)}</text>'
            )
    parts.append("</svg>\n")
    return "".join(parts)


def _round_up(number: int) -> int:
    """The least of 4, 8, 20, 40, 80, 200, … that is at least `number`: quarters are whole."""
    step = 4
    while True:
        for factor in (1, 2, 5):
            if step * factor >= number:
                return step * factor
        step *= 10
