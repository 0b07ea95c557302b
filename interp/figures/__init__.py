"""Figures: of what a user asks for, in plotly; and how each is shown where scripts run, and where
none does."""

from interp.figures.diagrams import diagram
from interp.figures.figure import Figure
from interp.figures.pictures import (
    AGAINST,
    FOR,
    attention,
    bars,
    curves,
    grid,
    lens,
    patterns,
    styled,
)

__all__ = [
    "AGAINST",
    "FOR",
    "Figure",
    "attention",
    "bars",
    "curves",
    "diagram",
    "grid",
    "lens",
    "patterns",
    "styled",
]
