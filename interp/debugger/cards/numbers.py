"""Numbers as the page writes them: always as many digits, a real minus, nothing where there is
none."""

from __future__ import annotations

from interp.debugger.both import Both


def signed(value: float | None) -> str:
    """+1.234 or −1.234."""
    return "" if value is None else f"{value:+.3f}".replace("-", "−")


def plain(value: float | None) -> str:
    """1.234."""
    return "" if value is None else f"{value:.3f}".replace("-", "−")


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
