"""That latents, the decoder's bias and the error sum to what a dictionary splits: the gap, and what
rounding may do at most, known before anything is summed.

The sum is taken in float64 of what the run writes; the bound is that of the products and additions
by which it came about, in the run's own type.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from interp.numerics import bounds
from minigpt import Site, Trace, parse
from minigpt.shown import Shown
from minigpt.split import Split

# Roundings of a part beside its product: the prepared input's, the scales', the mean's.
STEPS = 16


@dataclass(frozen=True, eq=False, repr=False)
class SplitClosure(Shown):
    """How well the parts sum to the whole, number by number, in float64: the gap, and the bound on
    it."""

    gap: Float[Tensor, "batch pos d_model"]
    bound: Float[Tensor, "batch pos d_model"]

    @property
    def holds(self) -> bool:
        """Whether every gap is under its bound."""
        return bool((self.gap <= self.bound).all())

    @property
    def worst(self) -> float:
        """The largest gap as a share of its bound."""
        return float((self.gap / self.bound).nan_to_num().max())


def closure(trace: Trace, whole: str) -> SplitClosure:
    """Of "m3", "a5" or "resid6": its latents, the decoder's bias, the error (where activations are
    split, the layer's own bias too) against what is written there, edits and all.

    AddressError where the model has no dictionary of it.
    """
    site = parse(whole, trace.config).site
    split = trace.split(Site(f"{site.kind}.ls", site.layer))
    parts = list(_parts(trace, site, split))
    total = sum(trace.write(part).double() for part in parts)
    wrote = trace.stream(site) if site.role == "stream" else trace.write(site)
    edits = sum(_edit(trace, part, split) for part in parts if part in trace.overrides)
    inside = trace.batch.mask[..., None]
    return SplitClosure((total - wrote.double()).abs() * inside, bound(split) + edits)


def bound(split: Split) -> Float[Tensor, "*rows d_model"]:
    """An a-priori bound on |latents + bias + error - whole|, from the sizes of what is added up.
    float64."""
    known, dtype = split.dictionary, split.x.dtype
    seen, terms = known.prepared(split.x), known.n_latents + STEPS
    sizes = split.act.double() @ known.decoder.double().abs() + known.decoder_bias.double().abs()
    if known.skip is not None:
        sizes = sizes + seen.x.double().abs() @ known.skip.double().abs()
        terms += known.d_in
    sizes = sizes / known.scale * seen.s.double() + seen.mean.double().abs()
    if split.through is not None:
        sizes = sizes @ split.through.double().abs()
        terms += known.d_out
    return 2 * bounds.gamma(terms, dtype) * (sizes + split.whole.double().abs())


def _parts(trace: Trace, site: Site, split: Split) -> Iterator[Site]:
    """Those parts that write anything: active latents, those that edits wrote, and the rest."""
    active = set(split.act.flatten(0, -2).any(0).nonzero().flatten().tolist())
    kind = f"{site.kind}.l", site.layer
    edited = {part.part or 0 for part in trace.overrides if (part.kind, part.layer) == kind}
    for latent in sorted(active | edited):
        yield Site(f"{site.kind}.l", site.layer, latent)
    yield Site(f"{site.kind}.l.b", site.layer)
    yield Site(f"{site.kind}.e", site.layer)
    if split.through is not None:
        yield Site("mlp.b", site.layer)


def _edit(trace: Trace, part: Site, split: Split) -> Float[Tensor, "batch pos d_model"]:
    """What the difference may lose that an edit of a part makes, and its sum with the whole."""
    sizes = trace.write(part).double().abs() + split.write(part).double().abs()
    return bounds.gamma(4, split.x.dtype) * (sizes + split.whole.double().abs())
