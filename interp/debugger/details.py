"""One node at one position: where it looked, what that gave, and which tokens its write promotes and suppresses."""

from __future__ import annotations

from dataclasses import dataclass

from interp.debugger.session import Runs


@dataclass(frozen=True)
class Promoted:
    """A token, and what the write adds to its logit over what it adds to the mean token."""

    token: str
    effect: float


@dataclass(frozen=True)
class Looked:
    """A position that a head attends to: the weight, and the length of what it took from there."""

    position: int
    token: str
    weight: float
    norm: float


@dataclass(frozen=True)
class SideDetails:
    """The details on one side. looked: heads, by weight; inputs: neurons, the tokens whose embedding alone would switch it on most."""

    side: str
    promotes: tuple[Promoted, ...]
    suppresses: tuple[Promoted, ...]
    looked: tuple[Looked, ...]
    inputs: tuple[Promoted, ...]


@dataclass(frozen=True)
class Details:
    """Both sides' details. steps: the steps upstream that can be taken from here, by their words."""

    address: str
    kind: str
    position: int
    token: str
    sides: tuple[SideDetails, ...]
    steps: dict[str, str]


def details(runs: Runs, address: str, k: int = 10) -> Details:
    """The details of a row's address: "a2.6@13", "a2.6@13<3", "m1.n7@9", "m1@9", "emb@3"."""
    raise NotImplementedError
