"""Why a latent is on: its score, the number before its activation, taken apart into earlier writes;
and a metric that reads it, for every kind of patching.

A dictionary reads x. With the mean and scale that it takes off being the run's own, the score is
x . g + constant: of a stream point the parts are all writes before it; of what an MLP writes, or of
its activations, its neurons; of what an attention layer writes, its heads; of a transcoder, which
reads m3.in, all writes before that, through LayerNorm at the run's scale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from interp.attribution import Row
from interp.effects import Effects
from interp.metrics import Metric, MetricError
from interp.parts import Part, Parts, before_norm, granted, named
from minigpt import GPT2, Address, Params, Patch, Receipt, Site, Trace, ops, parse
from minigpt.dictionary import Dictionary
from minigpt.errors import AddressError

FIRST = Site("mlp.l", 0, 0)


@dataclass(frozen=True, eq=False, repr=False)
class Score(Metric):
    """A latent's score at its position, as a metric. In sweeps it is computed from what its layer
    reads, so that a patch of the layer's own parts is refused there."""

    latent: Site = FIRST

    @property
    def want(self) -> str:
        """What it is computed from: a stream point, or what an MLP reads."""
        return self.of_site(_read_by(self.latent))

    def __call__(self, trace: Trace) -> Float[Tensor, "batch"]:
        """The score of each prompt of the run, in float64."""
        x = trace.split(self.latent, _pick(trace, self.at)).x
        return of(trace.params.dictionary(self.latent), x, [self.latent.part or 0])[:, 0]

    def of_output(
        self, out: Float[Tensor, "batch d_model"], params: Params
    ) -> Float[Tensor, "batch"]:
        """The same from what it is computed from."""
        known, x = params.dictionary(self.latent), seen(params, self.latent.whole, out)
        return of(known, x, [self.latent.part or 0])[:, 0]

    def of_many(
        self, out: Float[Tensor, "variants batch d_model"], params: Params
    ) -> Float[Tensor, "variants batch"]:
        """The same for many runs of the same prompts."""
        return self.of_output(out.flatten(0, 1), params).view(out.shape[:2])

    def check(self, _prompts: int, params: Params) -> None:
        """AddressError where the model has no such latent."""
        params.dictionary(self.latent)

    def after(
        self, model: GPT2, base: Trace, patches: Sequence[Patch], *, progress: bool = False
    ) -> tuple[Float[Tensor, "patches batch"], Receipt]:
        """The score of a run after each patch, and the bill of all these runs."""
        for edit in (edit for patch in patches for edit in patch.edits):
            if _inside(edit.target.sites[-1], self.latent):
                raise MetricError(
                    f"'{edit}' and the score of {self.latent} in a sweep",
                    f"patches of what happens before {self.latent.whole}",
                    "metric(model.rerun(trace, patch)), one patch at a time",
                )
        return super().after(model, base, patches, progress=progress)


def metric(model: GPT2, latent: str) -> Score:
    """The score of a latent, "m3.l127@-1", before its activation, as a metric that every kind of
    patching takes. Without a position: at each prompt's end.

    AddressError where it is no latent, or the model has no dictionary of it; MetricError for one of
    an attention layer, which no single row tells.
    """
    address = _latent(model.params, latent)
    if address.site.whole.kind == "attn":
        raise MetricError(
            f"the score of '{address}' in sweeps",
            "a latent of an MLP or of a stream point",
            "score.direct(trace, latent) of a run after a patch",
        )
    return _metric(address)


def direct(trace: Trace, latent: str) -> Effects:
    """The score of a latent at its position (each prompt's end, unless one is given), taken apart;
    the rows sum to it. The row of its own name is its bias, and what is read as a constant.

    In a patched run, what an edit wrote into a stream or a port is a row of its own. AddressError
    where it is no latent.
    """
    address = _latent(trace.params, latent)
    asked = _metric(address)
    return Effects(
        "direct effect",
        asked.name,
        *_table(trace, _rows(trace, address.site, _pick(trace, asked.at))),
        asked(trace),
        trace.config,
    )


def _table(trace: Trace, rows: Iterator[Row]) -> tuple[tuple[str, ...], Float[Tensor, "rows b"]]:
    names, values = zip(*rows, strict=True)
    return names, torch.stack([x.expand(len(trace.tokens)) for x in values])


def _rows(trace: Trace, latent: Site, pick: Callable[[Tensor], Tensor]) -> Iterator[Row]:
    """The parts of a score, and its constant."""
    known, whole = trace.params.dictionary(latent), latent.whole
    toward, constant = gradient(known, latent, trace.split(latent, pick).x)
    if known.reads.endswith(".in"):
        parts, added = _through_layer_norm(trace, Site("in", whole.layer), pick, toward)
        constant = constant + added
        yield from named(_before(parts))
        if parts.port in trace.ports:
            yield str(parts.port), parts.dot(granted(trace, parts.port))
    elif known.reads.endswith(".act"):
        act = pick(trace.act(str(whole))).double() * toward
        yield from ((f"{whole}.n{n}", x) for n, x in enumerate(act.unbind(-1)))
    else:
        behind = Site("q" if whole.kind == "resid" else "in", whole.depth + (whole.role == "node"))
        before = _before(Parts(trace, behind, pick, toward), [whole.depth])
        yield from named((site, x) for site, x in before if _read(site, whole))
    yield str(latent), constant


def _through_layer_norm(
    trace: Trace,
    port: Site,
    pick: Callable[[Tensor], Tensor],
    toward: Float[Tensor, "batch d_model"],
) -> tuple[Parts, Float[Tensor, "batch"]]:
    """The writes before an MLP's LayerNorm along a direction behind it, at the run's own scale; and
    what its bias adds."""
    block = trace.params.blocks[port.depth]
    sigma = ops.scale(pick(trace.stream(port)).double(), trace.config.eps)
    g = before_norm(toward, block.ln2_w, sigma)
    return Parts(trace, port, pick, g), (toward * block.ln2_b.double()).sum(-1)


def _before(parts: Parts, neurons: Sequence[int] = ()) -> Iterator[Part]:
    """All writes before a port, and what edits put into the stream."""
    nodes = list(parts.nodes(neurons))
    yield from nodes
    yield from parts.edits([site for site, _ in nodes])


def _read(site: Site, whole: Site) -> bool:
    """Whether a dictionary reads what a node wrote, or an edit put there: a part of the write that
    it splits, or what lies before its stream point; edits of its own latents are behind it."""
    if site.is_latent and site.whole == whole:
        return False
    if whole.role == "stream":
        return site.stage <= whole.stage
    return site == whole or whole.contains(site)


def gradient(
    known: Dictionary, latent: Site, x: Float[Tensor, "batch d_in"]
) -> tuple[Float[Tensor, "batch d_in"], Float[Tensor, ""]]:
    """g and the constant of score = x . g + constant, the mean and scale of x being its own.
    float64."""
    encoder = known.encoder[:, latent.part or 0].double()
    constant = known.encoder_bias[latent.part or 0].double()
    if known.centred:
        constant = constant - known.decoder_bias.double() @ encoder
    g = (encoder * known.scale).expand(len(x), -1)
    if known.normalise in ("centre", "layer_norm"):
        g = g - g.mean(-1, keepdim=True)
    return g / known.prepared(x.double()).divisor, constant


def of(
    known: Dictionary, x: Float[Tensor, "rows d_in"], latents: Sequence[int]
) -> Float[Tensor, "rows latents"]:
    """The scores of some latents, of what their dictionary reads. float64."""
    encoder = known.encoder[:, latents].double()
    return known.prepared(x.double()).x @ encoder + known.encoder_bias[latents].double()


def seen(
    params: Params, whole: Site, out: Float[Tensor, "rows d_model"]
) -> Float[Tensor, "rows d_in"]:
    """What a dictionary reads, made of what its MLP reads; of a stream point, that itself."""
    known = params.dictionaries[str(whole)]
    if known.reads.endswith(".in") or whole.role == "stream":
        return out
    block = params.blocks[whole.depth]
    act = ops.gelu(ops.settled(out, block.w_in, block.b_in))
    return act if known.reads.endswith(".act") else ops.settled(act, block.w_out, block.b_out)


def _latent(params: Params, text: str) -> Address:
    address = parse(text, params.config)
    if not address.site.is_latent or address.site.part is None:
        raise AddressError(
            f"the score of '{address}'", "a latent, with or without a position", "'m3.l127@-1'"
        )
    params.dictionary(address.site)
    return address if address.at is not None else replace(address, at=-1)


def _metric(address: Address) -> Score:
    name = f"score of {address.site}"
    return Score(name, address.at, read=_unread, latent=address.site)


def _unread(_: Tensor) -> Tensor:
    raise MetricError("a latent's score of logits", "what its dictionary reads")


def _read_by(latent: Site) -> Site:
    """What a latent's score is computed from: its stream point, or what its MLP reads."""
    whole = latent.whole
    return whole if whole.role == "stream" else Site("in", whole.layer)


def _inside(site: Site, latent: Site) -> bool:
    """Whether an edit is of a part of the same write, or of the same stream point."""
    return latent.whole.contains(site) or (site == latent.whole and site.role != "stream")


def _pick(trace: Trace, at: int | str | None) -> Callable[[Tensor], Tensor]:
    """Takes a position of each prompt out of [batch, pos, ...]."""
    assert at is not None
    rows, each = trace.batch.index(at), torch.arange(len(trace.tokens), device=trace.tokens.device)
    return lambda x: x[each, rows]
