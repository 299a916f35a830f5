"""Charts as plain HTML and SVG: they need no script, print, and take their colours from the style sheet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

_WIDTH, _HEIGHT, _BOTTOM, _TOP = 360, 180, 34, 28


def number(value: float) -> str:
    """A count with thousands separated, or a length with three digits."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3g}"


def signed(value: float, digits: int) -> str:
    """A number with its sign, as typeset; nothing of a sign where it rounds to 0."""
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text if text.strip("+−0.") else text[1:]


def bars(rows: Sequence[tuple[str, float]], notes: Sequence[str] = ()) -> Markup:
    """Horizontal bars: a label, a bar as long as its share of the largest, the number and perhaps a note."""
    most = max((value for _, value in rows), default=0) or 1
    items = []
    for index, (label, value) in enumerate(rows):
        note = Markup('<span class="note">{}</span>').format(notes[index]) if index < len(notes) else ""
        items.append(
            Markup(
                '<li><span class="label" title="{0}">{0}</span>'
                '<span class="track"><span class="bar" style="width:{1}%"></span></span>'
                '<span class="value">{2}</span>{3}</li>'
            ).format(label, f"{100 * value / most:.2f}", number(value), note)
        )
    return Markup('<ol class="bars">{}</ol>').format(Markup("").join(items))


def shares(rows: Sequence[tuple[str, float]]) -> Markup:
    """Horizontal bars of shares in per cent."""
    most = max((value for _, value in rows), default=0) or 1
    items = [
        Markup(
            '<li><span class="label">{}</span><span class="track"><span class="bar" style="width:{}%"></span></span>'
            '<span class="value">{} %</span></li>'
        ).format(label, f"{100 * value / most:.2f}", f"{100 * value:.1f}")
        for label, value in rows
    ]
    return Markup('<ol class="bars">{}</ol>').format(Markup("").join(items))


def compared(
    rows: Sequence[tuple[str, float, float]], names: tuple[str, str] = ("asked", "intended"), change: bool = False
) -> Markup:
    """Horizontal bars of shares, each with a mark for a second share that it is compared with.

    Args:
        rows: (label, share of the bar, share of the mark).
        names: what the two are, for the description.
        change: write the mark's share less the bar's, in percentage points, in place of the bar's.
    """
    most = max((max(bar, mark) for _, bar, mark in rows), default=0) or 1
    items = [
        Markup(
            '<li title="{0}: {1} % {2}, {3} % {4}"><span class="label">{0}</span><span class="track">'
            '<span class="bar" style="width:{5}%"></span><span class="mark" style="left:{6}%"></span></span>'
            '<span class="value">{7}</span></li>'
        ).format(
            label,
            f"{100 * bar:.1f}",
            names[0],
            f"{100 * mark:.1f}",
            names[1],
            f"{100 * bar / most:.2f}",
            f"{100 * mark / most:.2f}",
            signed(100 * (mark - bar), 1) if change else f"{100 * bar:.1f} %",
        )
        for label, bar, mark in rows
    ]
    return Markup('<ol class="bars mix">{}</ol>').format(Markup("").join(items))


def histogram(values: NDArray[np.float64], unit: str, what: str, whole: bool = False) -> Markup:
    """Counts over even steps, as an SVG with the median marked; the largest percent is gathered in the last bar.

    Args:
        values: (n,) finite numbers.
        unit: of the horizontal axis, e.g. `m`; may be empty.
        what: what is counted, for the description that screen readers read.
        whole: one bar for each whole number.
    """
    if not len(values):
        return Markup('<p class="empty">None in this run.</p>')
    edges = _edges(values, whole)
    counts, _ = np.histogram(np.clip(values, edges[0], np.nextafter(edges[-1], edges[0])), edges)
    plot, most = _HEIGHT - _BOTTOM - _TOP, counts.max()
    step = _WIDTH / len(counts)
    parts = []
    for index, count in enumerate(counts):
        height = plot * count / most
        low, high = edges[index], edges[index + 1]
        span = f"{low + 0.5:.0f}" if whole else f"{low:.4g}–{high:.4g}"
        parts.append(
            Markup('<rect x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}"><title>{} {}: {}</title></rect>').format(
                index * step + 0.5, _TOP + plot - height, max(step - 1, 0.5), height, span, unit, number(int(count))
            )
        )
    median = float(np.median(values))
    parts.append(_median(median, edges, unit, whole))
    tallest = (int(counts.argmax()) + 0.5) * step
    parts.append(
        Markup('<text class="most" x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
            min(max(tallest, 12.0), _WIDTH - 12.0), _TOP - 4, number(int(most))
        )
    )
    parts.append(_axis(edges, unit, whole))
    text = f"{what}: {len(values):,} values, median {median:.3g} {unit}, from {values.min():.3g} to {values.max():.3g}"
    return Markup('<svg class="histogram" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        _WIDTH, _HEIGHT, text, Markup("").join(parts)
    )


def _edges(values: NDArray[np.float64], whole: bool) -> NDArray[np.float64]:
    if whole:
        return np.arange(values.min(), values.max() + 2) - 0.5
    low, high = np.quantile(values, [0.0, 0.99])
    if low >= 0 and low < 0.3 * high:
        low = 0.0
    step = nice_step(max(high - low, 1e-6) / min(max(2 * len(values) ** 0.5, 6), 24))
    return np.arange(np.floor(low / step + 1e-9), np.ceil(high / step - 1e-9) + 1.5) * step


def nice_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below `least`."""
    power = 10.0 ** np.floor(np.log10(least))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= least * (1 - 1e-9)))


def tick_label(value: float) -> str:
    """A round number as it stands at an axis."""
    return f"{round(float(value), 9) + 0.0:g}".replace("-", "−")


def _axis(edges: NDArray[np.float64], unit: str, whole: bool) -> Markup:
    low, high = float(edges[0]), float(edges[-1])
    step = max(nice_step((high - low) / 6), 1.0 if whole else 0.0)
    ticks = np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1) * step
    y = _HEIGHT - _BOTTOM
    parts = [Markup('<line x1="0" x2="{}" y1="{}" y2="{}"/>').format(_WIDTH, y, y)]
    for tick in ticks:
        x = _WIDTH * (tick - low) / (high - low)
        anchor = "start" if x < 8 else "end" if x > _WIDTH - 8 else "middle"
        parts.append(
            Markup(
                '<line x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/><text x="{0:.1f}" y="{3}" {4}>{5}</text>'
            ).format(x, y, y + 4, y + 16, Markup('text-anchor="{}"').format(anchor), tick_label(tick))
        )
    parts.append(
        Markup('<text class="unit" x="{}" y="{}" text-anchor="end">{}</text>').format(_WIDTH, _HEIGHT - 4, unit)
    )
    return Markup('<g class="axis">{}</g>').format(Markup("").join(parts))


def _median(median: float, edges: NDArray[np.float64], unit: str, whole: bool) -> Markup:
    x = _WIDTH * (median - edges[0]) / (edges[-1] - edges[0])
    anchor, shift = ("end", -4) if x > _WIDTH * 0.6 else ("start", 4)
    label = f"median {median:.3g} {unit}".strip().replace("-", "−")
    return Markup(
        '<g class="median"><line x1="{0:.1f}" x2="{0:.1f}" y1="0" y2="{1}"/>'
        '<text x="{2:.1f}" y="10" text-anchor="{3}">{4}</text></g>'
    ).format(x, _HEIGHT - _BOTTOM, x + shift, anchor, escape(label))
