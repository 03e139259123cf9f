"""Draws how the length of the lease trades renewals against revocations under a fault."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_WIDTH: Final = 640
_HEIGHT: Final = 400
_LEFT: Final = 70
_BOTTOM: Final = 60
_TOP: Final = 30
_RIGHT: Final = 40


@dataclass(frozen=True, slots=True)
class Point:
    """What was measured with leases of one length.

    Attributes:
        share: of a core, for the renewals.
        revoked: in seconds, under a fault.
    """

    lease_seconds: float
    share: float
    revoked: float


def draw(points: Sequence[Point], holders: int, path: Path) -> None:
    """Writes an SVG. Both scales begin at nothing."""
    x = _scale(max(one.share for one in points) * 1.15, _LEFT, _WIDTH - _RIGHT)
    y = _scale(max(one.revoked for one in points) * 1.15, _HEIGHT - _BOTTOM, _TOP)
    line = " ".join(f"{x(one.share):.1f},{y(one.revoked):.1f}" for one in points)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}">',
        '<g font-family="sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        *_axes(points, x, y),
        f'<polyline points="{line}" fill="none" stroke="#3465a4" stroke-width="2"/>',
    ]
    for one in points:
        at_x, at_y = x(one.share), y(one.revoked)
        parts.append(f'<circle cx="{at_x:.1f}" cy="{at_y:.1f}" r="4" fill="#3465a4"/>')
        parts.append(
            f'<text x="{at_x + 8:.1f}" y="{at_y - 6:.1f}">L = {one.lease_seconds:g} s</text>'
        )
    renewals = f"renewals of {holders} holders, % of a core"
    revoked = "a revocation while a holder is stopped, s"
    parts += [
        f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 12}" text-anchor="middle">{renewals}</text>',
        f'<g transform="translate(18 {_HEIGHT / 2}) rotate(-90)" text-anchor="middle">',
        f"<text>{revoked}</text>",
        "</g></g></svg>",
    ]
    path.write_text("\n".join(parts) + "\n")


def _axes(
    points: Sequence[Point], x: Callable[[float], float], y: Callable[[float], float]
) -> list[str]:
    floor, left = _HEIGHT - _BOTTOM, _LEFT
    parts = [
        f'<path d="M{left} {_TOP}V{floor}H{_WIDTH - _RIGHT}" fill="none" stroke="black"/>',
    ]
    for value in _ticks(max(one.share for one in points) * 100):
        at = x(value / 100)
        parts.append(f'<path d="M{at:.1f} {floor}v5" stroke="black"/>')
        parts.append(f'<text x="{at:.1f}" y="{floor + 20}" text-anchor="middle">{value:g}</text>')
    for value in _ticks(max(one.revoked for one in points)):
        at = y(value)
        parts.append(f'<path d="M{left - 5} {at:.1f}h5" stroke="black"/>')
        parts.append(f'<text x="{left - 9}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>')
    return parts


def _ticks(most: float) -> list[float]:
    step = next(one for one in (1, 2, 5, 10, 20, 50, 100, 1000) if most / one <= 10)
    return [float(value) for value in range(0, int(most) + 1, step)]


def _scale(most: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (end - start) * value / most
