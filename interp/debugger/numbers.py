"""Numbers as the debugger writes them: always as many digits, a real minus, nothing where there is
none, and no sign before what rounds to nothing."""

from __future__ import annotations

from interp.debugger.both import Both

DIGITS = 3
# What has this size or more is not written as zero.
SMALL = 0.5 * 10**-DIGITS


def signed(value: float | None) -> str:
    """+1.234 or −1.234; 0.000."""
    if value is None or abs(value) < SMALL:
        return "" if value is None else plain(0.0)
    return f"{value:+.{DIGITS}f}".replace("-", "−")


def plain(value: float | None) -> str:
    """1.234."""
    if value is None:
        return ""
    return f"{value if abs(value) >= SMALL else 0.0:.{DIGITS}f}".replace("-", "−")


def percent(value: float | None) -> str:
    """12.3%."""
    return "" if value is None else f"{value:.1%}"


def whole(value: float | None) -> str:
    """7, or 1,024."""
    return "" if value is None else f"{value:,.0f}"


def sign(value: float | None) -> str:
    """Which way it pushes: "for", "against" or "" for nothing."""
    return "" if not value else "for" if value > 0 else "against"


def cells(name: str, value: Both) -> dict[str, float | None]:
    """A number and its sides as a table's cells, by the columns' names."""
    return {name: value.left, f"{name}.right": value.right, f"{name}.difference": value.difference}
