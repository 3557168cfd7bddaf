"""Draw predicted against real scores as an SVG picture, with nothing but text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

SIZE: Final = 480
MARGIN: Final = 56
LOW, HIGH = 0.97, 1.05


def scatter_svg(pairs: Sequence[tuple[float, float]], title: str) -> str:
    """Return a picture of (real, predicted) scores between LOW and HIGH; the line is where they agree."""

    def place(value: float) -> float:
        return MARGIN + (min(max(value, LOW), HIGH) - LOW) / (HIGH - LOW) * (SIZE - 2 * MARGIN)

    ticks = [LOW + 0.02 * n for n in range(5)]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIZE} {SIZE}" font-family="sans-serif" font-size="12">',
        f'<rect width="{SIZE}" height="{SIZE}" fill="white"/>',
        f'<text x="{SIZE / 2}" y="24" text-anchor="middle" font-size="14">{title} ({len(pairs)} knob vectors)</text>',
        f'<path d="M{MARGIN} {SIZE - MARGIN}L{SIZE - MARGIN} {MARGIN}" stroke="#999"/>',
        f'<path d="M{MARGIN} {MARGIN}V{SIZE - MARGIN}H{SIZE - MARGIN}" stroke="black" fill="none"/>',
        f'<text x="{SIZE / 2}" y="{SIZE - 12}" text-anchor="middle">real val_bpb</text>',
        f'<text transform="translate(14 {SIZE / 2}) rotate(-90)" text-anchor="middle">predicted val_bpb</text>',
    ]
    for tick in ticks:
        parts.append(f'<text x="{place(tick):.1f}" y="{SIZE - MARGIN + 16}" text-anchor="middle">{tick:.2f}</text>')
        parts.append(f'<text x="{MARGIN - 6}" y="{SIZE - place(tick) + 4:.1f}" text-anchor="end">{tick:.2f}</text>')
    parts += [
        f'<circle cx="{place(real):.1f}" cy="{SIZE - place(said):.1f}" r="1.6" fill="#06c" fill-opacity="0.45"/>'
        for real, said in pairs
    ]
    return "\n".join([*parts, "</svg>", ""])
