"""How well a dictionary stands for what it explains, on a few prompts: variance explained, latents
that are on, and how much of the model's loss its reconstruction keeps; and, where it fits badly,
whether another preparation of its input fits better."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.lens import losses
from minigpt import GPT2, Patch, Trace, ops
from minigpt.address import parse
from minigpt.dictionary import NORMALISE, Dictionary
from minigpt.errors import NoEffectWarning
from minigpt.shown import Shown

# Below this share of the variance, other preparations are tried; and said if they are better by
# this much.
BAD, BETTER = 0.5, 0.1
PREPARED = {
    "none": "scaled",
    "centre": "centred",
    "layer_norm": "layer-normed",
    "rms": "norm-scaled",
}
PROMPTS = (
    "The old bridge over the river was closed for repairs, so the bus took another road.",
    "In 1969 two astronauts walked on the Moon while a third stayed in orbit above them.",
    "Water boils at a lower temperature in the mountains because the air is thinner there.",
    "She opened the letter slowly, read it twice, and then put it back into the drawer.",
    "def mean(values):\n    return sum(values) / len(values)\n\nprint(mean([1, 2, 3]))",
    "The committee will meet again on Tuesday to vote on the budget for the next year.",
    "When Mary and John went to the store, John gave a drink to Mary.",
    "Paris is the capital of France, and Ottawa is the capital of Canada.",
    "The patient was given antibiotics for ten days, after which the fever disappeared.",
    'He asked, "Do you know where the station is?" and the stranger pointed to the left.',
    "Prices rose by three percent in March, the largest increase since the previous autumn.",
    "Add the flour and the butter, stir until smooth, and bake for about forty minutes.",
)


@dataclass(frozen=True, eq=False)
class Fit(Shown):
    """What a dictionary does on some prompts. explained: the share of the variance, from each
    prompt's second token on; explained_first: of first tokens, NaN where all are the same.

    loss: nats a token, as the model is; reconstructed, zeroed: with the write or stream point
    replaced. recovered: (zeroed - reconstructed) / (zeroed - loss).
    """

    tokens: int
    explained: float
    explained_first: float
    l0: float
    dead: int
    loss: float
    reconstructed: float
    zeroed: float
    normalise: str
    scale: float
    better: tuple[str, float, float] | None = None

    @property
    def recovered(self) -> float:
        """The share of the cross-entropy that the reconstruction keeps; NaN where zero costs
        nothing."""
        cost = self.zeroed - self.loss
        return (self.zeroed - self.reconstructed) / cost if cost else math.nan

    @property
    def advice(self) -> str:
        """What to type where another preparation of the input fits better; "" where none does."""
        if self.better is None:
            return ""
        normalise, scale, explained = self.better
        what = PREPARED[normalise]
        typed = f"scale={scale:.4g}" if scale != self.scale else f"normalise='{normalise}'"
        return (
            f"explained variance {self.explained:.2f}: this dictionary was trained on {what} "
            f"streams; {typed} gives {explained:.2f}"
        )


@torch.inference_mode()
def fit(model: GPT2, known: Dictionary, prompts: Sequence[str] | Tensor = PROMPTS) -> Fit:
    """How well a dictionary fits a model, on these prompts. All sums in float64."""
    trace = model.run(list(prompts) if not isinstance(prompts, Tensor) else prompts)
    known = known.to(model.device, model.dtype)
    seen, meant = _values(trace, known)
    z = known.encode(seen)
    built = known.decode(z, seen)
    inside, later = _places(trace)
    first = inside & ~later
    explained = _explained(meant[later], built[later])
    return Fit(
        tokens=int(inside.sum()),
        explained=explained,
        explained_first=_explained(meant[first], built[first]),
        l0=float((z[inside] > 0).double().sum(-1).mean()),
        dead=int((~(z[inside] > 0).any(0)).sum()),
        **_losses(model, trace, known, built),
        normalise=known.normalise,
        scale=known.scale,
        better=_better(known, seen, meant, later, explained) if explained < BAD else None,
    )


def _values(trace: Trace, known: Dictionary) -> tuple[Tensor, Tensor]:
    """What the dictionary reads and what it is to give back, at every position."""
    if known.reads.endswith(".act"):
        acts = trace.act(known.explains)
        return acts, acts
    return trace[known.reads], trace[known.explains]


def _places(trace: Trace) -> tuple[Bool[Tensor, "batch pos"], Bool[Tensor, "batch pos"]]:
    """Where there are tokens; and where, but for each prompt's first."""
    inside = trace.batch.mask.to(trace.tokens.device)
    later = inside.clone()
    later[:, 0] = False
    return inside, later


def _explained(x: Float[Tensor, "n d"], built: Float[Tensor, "n d"]) -> float:
    """1 - the squared error over the variance of x, all coordinates and tokens together."""
    x = x.double()
    whole = float((x - x.mean(0)).square().sum())
    return 1 - float((x - built.double()).square().sum()) / whole if whole else math.nan


def _better(
    known: Dictionary, seen: Tensor, meant: Tensor, later: Tensor, explained: float
) -> tuple[str, float, float] | None:
    """The preparation that fits best, its scale and what it explains, if that is much more."""
    if known.reads.endswith(".in"):
        return None
    average = math.sqrt(known.d_in) / float(seen[later].double().norm(dim=-1).mean())
    tries = [(way, known.scale) for way in NORMALISE if way != known.normalise]
    tries += [("none", average)]
    found = []
    for way, scale in tries:
        other = replace(known, normalise=way, scale=scale)
        built = other.decode(other.encode(seen), seen)
        found.append((way, scale, _explained(meant[later], built[later])))
    best = max(found, key=lambda one: one[2])
    return best if best[2] > explained + BETTER else None


def _losses(model: GPT2, trace: Trace, known: Dictionary, built: Tensor) -> dict[str, float]:
    """The model's loss, and with what the dictionary explains replaced by it, and by nothing."""
    if known.reads.endswith(".act"):
        block = trace.params.blocks[parse(known.explains).site.depth]
        built = ops.linear(built, block.w_out, block.b_out)
    built = built.nan_to_num()  # behind the end of a short prompt
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoEffectWarning)  # a reconstruction may be exact
        runs = {
            "loss": trace,
            "reconstructed": model.rerun(trace, Patch.write(known.explains, built, name="built")),
            "zeroed": model.rerun(trace, Patch.zero(known.explains)),
        }
    return {name: float(losses(run).nanmean()) for name, run in runs.items()}
