"""How much memory collating takes, and how many windows may be run together within a budget.

What is kept does not grow with the text; what a run takes grows with the windows that it runs.
"""

from __future__ import annotations

from interp.corpus.best import SPAN
from interp.corpus.documents import CorpusError
from interp.corpus.groups import groups
from interp.corpus.measure import BLOCK, Settings
from minigpt import GPT2
from minigpt.params import tensors

BUDGET = 2 * 2**30
# Python with torch, Numba's compiler and parquet; measured.
LIBRARIES = 700 * 2**20
# Bytes of a kept window's place: rank, value, three places, what stands around it in float16.
PLACE = 8 + 4 + 3 * 2 + 2 * SPAN
# Copies of what is kept while it is written down; numbers of float64 in a component's moments.
COPIES, MOMENTS = 2, 48
# Rows of the stream's width that each layer of a run holds; and that one has beside while it runs,
# of the MLP's width and, for each head, of the window's.
STREAM, STREAM_BESIDE, MLP_BESIDE, HEAD_BESIDE = 6, 6, 2, 3


def at_once(model: GPT2, settings: Settings, budget: float | None = None, workers: int = 1) -> int:
    """How many windows are run together, so that all processes stay within a budget in bytes;
    CorpusError where not even one can be. None: 2 GiB a process, or what a larger model needs."""
    if budget is None:
        budget = workers * max(BUDGET, needed(model, settings, 1))
    each = budget / workers
    fits = [n for n in range(BLOCK, 0, -1) if needed(model, settings, n) <= each]
    if not fits:
        least = workers * needed(model, settings, 1)
        raise CorpusError(
            f"{gib(budget)} of memory for {model.name}, windows of {settings.size} tokens, "
            f"{settings.top + settings.bottom + settings.sample} kept of each component and "
            f"{workers} processes",
            f"about {gib(least)}, or less to keep (--top, --bottom, --sample), or fewer --workers",
            f"--memory {least / 2**30 + 0.05:.1f}",
        )
    return fits[0]


def needed(model: GPT2, settings: Settings, windows: int) -> int:
    """Bytes of a process that runs so many windows together, from above."""
    config, size = model.config, model.params.wte.element_size()
    components = sum(group.n for group in groups(model))
    places = settings.top + settings.bottom + settings.sample
    kept = components * (COPIES * places * PLACE + 8 * MOMENTS)
    beside = model.params.dictionaries.values()
    # Of a block that is one run, neurons are read off that run, which keeps latents once computed.
    copied = components if windows < BLOCK else sum(each.n_latents for each in beside)
    block = BLOCK * settings.size * copied * size
    row = config.n_layer * (STREAM * config.d_model + config.d_mlp)
    row += STREAM_BESIDE * config.d_model + MLP_BESIDE * config.d_mlp
    row += HEAD_BESIDE * config.n_head * settings.size
    run = windows * settings.size * row * size
    held = sum(each.encoder.nbytes + each.decoder.nbytes for each in beside)
    held += sum(x.nbytes for x in tensors(model.params).values())
    return LIBRARIES + held + kept + block + run


def gib(size: float) -> str:
    """As people say it."""
    return f"{size / 2**30:.1f} GiB"
