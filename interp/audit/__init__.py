"""What a model's numbers are worth: `audit(model)` checks every promise of the engine, and measures
what is no promise.

Seven sections, each a function from a model and prompts to rows; see README, "What you may rely
on".
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from tqdm import tqdm

from interp import metrics
from interp.audit import closure, determinism, parity, patches, precision, sensitivity, sources
from interp.audit.questions import questions
from interp.audit.row import Audit, Row, Section
from interp.metrics import Metric
from interp.show.document import Table
from interp.tasks import Prompts
from minigpt import GPT2, Params
from minigpt.errors import MiniGPTError
from minigpt.progress import COUNTED

__all__ = ["SECTIONS", "Audit", "AuditError", "Row", "Section", "Table", "audit", "questions"]
SECTIONS = ("parity", "closure", "determinism", "patches", "precision", "sources", "sensitivity")


class AuditError(MiniGPTError):
    """An audit that cannot be made as it was asked for."""


def audit(
    model: GPT2,
    pairs: Prompts | None = None,
    *,
    only: Sequence[str] = SECTIONS,
    against: Params | None = None,
    outside: bool = True,
    progress: bool = False,
) -> Audit:
    """All sections, or some. pairs: clean and corrupt prompts with answers and distractors; four of
    its own, if none are given.

    against: the parameters that the model is supposed to have, for Hugging Face's model and the
    reference; outside=False leaves the former out. Raises AuditError for an unknown section and for
    prompts without a corrupt side or distractors.
    """
    asked = questions(model) if pairs is None else pairs
    _check(only, asked)
    makers = _makers(model, asked, metrics.logit_diff(asked), against, outside, progress)
    wanted = [name for name in SECTIONS if name in only]
    with tqdm(wanted, unit="section", bar_format=COUNTED, disable=not progress) as bar:
        return Audit(
            model.name,
            f"{len(asked)} pairs of {sorted(set(asked.batch.lengths.tolist()))} tokens",
            machine(model),
            tuple(_timed(makers[name], bar, name) for name in bar),
        )


def _check(only: Sequence[str], pairs: Prompts) -> None:
    if unknown := set(only) - set(SECTIONS):
        raise AuditError(f"no section is called {', '.join(sorted(unknown))}", ", ".join(SECTIONS))
    if pairs.corrupt is None or pairs.distractors is None:
        raise AuditError(
            "an audit of prompts without corrupt prompts or distractors",
            "pairs with answers and distractors, as `interp patch --pairs` reads",
        )


def machine(model: GPT2) -> str:
    """What the numbers were made on, as far as they depend on it."""
    return (
        f"{platform.machine()}, torch {torch.__version__}, {model.device}, "
        f"{str(model.dtype)[6:]}, {torch.get_num_threads()} of {os.cpu_count()} threads"
    )


def _makers(
    model: GPT2,
    pairs: Prompts,
    metric: Metric,
    against: Params | None,
    outside: bool,
    progress: bool,
) -> dict[str, Callable[[], Section]]:
    return {
        "parity": lambda: parity.section(model, pairs, against, outside=outside),
        "closure": lambda: closure.section(model.run(pairs), metric),
        "determinism": lambda: determinism.section(model, pairs),
        "patches": lambda: patches.section(model, pairs),
        "precision": lambda: precision.section(model, pairs, metric),
        "sources": lambda: sources.section(model, pairs, metric, progress=progress),
        "sensitivity": lambda: sensitivity.section(model, pairs, metric, progress=progress),
    }


def _timed(make: Callable[[], Section], bar: Any, name: str) -> Section:
    bar.set_description(name)
    start = time.perf_counter()
    return make().took(time.perf_counter() - start)
