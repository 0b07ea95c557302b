"""Answers as documents: to a question, of effects, of a circuit. `show` knows how they look."""

from interp.views.circuit import circuit
from interp.views.component import component
from interp.views.curve import curves
from interp.views.effects import effects
from interp.views.explanation import explanation
from interp.views.features import features
from interp.views.why import why

__all__ = ["circuit", "component", "curves", "effects", "explanation", "features", "why"]
