"""Line charts as SVG, for the documentation. A library would be larger than this module.

::

    chart("limit.svg", "title", "seconds", "requests", [Line("capacity", points, step=True)])
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

WIDTH, HEIGHT = 720, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 16, 40, 78
_COLOURS = ("#1f6feb", "#d1242f", "#6e7781", "#1a7f37", "#8250df")


@dataclass(frozen=True)
class Line:
    """A named series of points; ``step``: a step function; ``marks``: show the points, without a line unless
    they are ``joined``.
    """

    name: str
    points: Sequence[tuple[float, float]]
    step: bool = False
    marks: bool = False
    joined: bool = True
    dashed: bool = False


def chart(path: str | Path, title: str, across: str, up: str, lines: Sequence[Line]) -> None:
    """Write a chart; both axes begin at 0."""
    most_x = max(x for line in lines for x, _ in line.points)
    most_y = max(y for line in lines for _, y in line.points) * 1.05
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + x / (most_x or 1.0) * (right - _LEFT),
            bottom - y / (most_y or 1.0) * (bottom - _TOP),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="22" font-size="15" fill="#1f2328">{escape(title)}</text>',
    ]
    for value in ticks(most_y):
        x, y = at(0, value)
        parts.append(f'<line x1="{x}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#d8dee4"/>')
        parts.append(_text(x - 6, y + 4, _number(value), "end"))
    for value in ticks(most_x):
        x, y = at(value, 0)
        parts.append(f'<line x1="{x:.1f}" y1="{y}" x2="{x:.1f}" y2="{y + 4}" stroke="#6e7781"/>')
        parts.append(_text(x, y + 17, _number(value), "middle"))
    parts.append(f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" stroke="#6e7781"/>')
    parts.append(_text((_LEFT + right) / 2, bottom + 34, across, "middle"))
    middle = (_TOP + bottom) / 2
    parts.append(
        f'<text transform="translate(16 {middle:.0f}) rotate(-90)" text-anchor="middle" '
        f'fill="#1f2328">{escape(up)}</text>'
    )
    legend = float(_LEFT)
    for line, colour in zip(lines, _COLOURS, strict=False):
        places = [at(x, y) for x, y in line.points]
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        if line.joined:
            parts.append(
                f'<path d="{_path(places, line.step)}" fill="none" stroke="{colour}" '
                f'stroke-width="1.6" stroke-linejoin="round"{dash}/>'
            )
        if line.marks:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        foot = HEIGHT - 14
        parts.append(
            f'<path d="M{legend:.0f} {foot - 4}h22" stroke="{colour}" stroke-width="3" fill="none"{dash}/>'
        )
        parts.append(_text(legend + 28, foot, line.name, "start"))
        legend += 46 + 6.6 * len(line.name)
    parts.append("</svg>\n")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("\n".join(parts), encoding="utf-8")


def ticks(most: float) -> list[float]:
    """Four to ten round numbers from 0 up to ``most``."""
    if most <= 0:
        return [0.0]
    power = 10.0 ** math.floor(math.log10(most))
    step = next(power * part for part in (0.1, 0.2, 0.25, 0.5, 1.0, 2.0) if most / (power * part) <= 8)
    return [step * number for number in range(int(most / step + 1e-9) + 1)]


def _path(places: Sequence[tuple[float, float]], step: bool) -> str:
    parts = [f"M{places[0][0]:.1f} {places[0][1]:.1f}"]
    for x, y in places[1:]:
        parts.append(f"H{x:.1f}V{y:.1f}" if step else f"L{x:.1f} {y:.1f}")
    return "".join(parts)


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#1f2328">{escape(words)}</text>'


def _number(value: float) -> str:
    return f"{value:g}"
