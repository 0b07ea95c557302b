"""What others measured on GPT-2 small, measured here, of any model: for test_gpt2_ioi.py on the
real weights, and for test_published.py on random ones, against plain hooks.

The 8-prompt set and its settings are those of TransformerLens' notebooks: <|endoftext|> in front,
the corrupt prompt names the other one. The classes of heads are those of Wang et al. 2022, figure
2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from interp import attribution, metrics, patching
from interp.circuit.ablation import Ablation
from interp.ioi.published import CIRCUIT
from interp.metrics import Metric
from interp.tasks import Prompts
from minigpt import GPT2, Trace, parse
from minigpt.address import heads
from minigpt.patch import Patch

TEMPLATES = (
    "When John and Mary went to the shops,{} gave the bag to",
    "When Tom and James went to the park,{} gave the ball to",
    "When Dan and Sid went to the shops,{} gave an apple to",
    "After Martin and Amy went to the park,{} gave a drink to",
)
NAMES = ((" Mary", " John"), (" Tom", " James"), (" Dan", " Sid"), (" Martin", " Amy"))
CLASSES = {
    role: " ".join(str(parse(node).site) for node in some) for role, some in CIRCUIT.roles.items()
}


def nodes(*classes: str) -> list[str]:
    """The heads of some classes where they act, "a9.9@END"."""
    return [node for each in classes for node in CIRCUIT.roles[each]]


def eight(model: GPT2) -> Prompts:
    """The 8 prompts in pairs, each other's corrupt twin; S2 is position 10."""
    assert model.tokenizer is not None
    cast = [
        (template, *pair)
        for template, names in zip(TEMPLATES, NAMES, strict=True)
        for pair in (names, names[::-1])
    ]
    clean, corrupt = (
        [f"<|endoftext|>{template.format(who[side])}" for template, *who in cast] for side in (1, 0)
    )
    return Prompts.from_texts(
        model.tokenizer,
        clean,
        corrupt,
        [right for _, right, _ in cast],
        [wrong for *_, wrong in cast],
        {"S2": torch.full((8,), 10)},
    )


class Patching:
    """Activation patching of clean values into the corrupt run, as a share of the mean difference
    of the two: 0 is corrupt, 1 clean."""

    def __init__(self, model: GPT2, pairs: Prompts) -> None:
        self.model, self.metric = model, metrics.logit_diff(pairs)
        self.clean, self.corrupt = model.run(pairs), model.run(pairs.corrupted)
        self.low, self.high = (float(self.metric(run).mean()) for run in (self.corrupt, self.clean))

    def grid(self, patches: Sequence[Patch], *shape: int) -> Float[Tensor, "*shape"]:
        """One number for each patch, in this shape."""
        swept = self.model.rerun(self.corrupt, patches, "out@-1").map(
            lambda out: self.metric.of_many(out, self.model.params)
        )
        return ((swept.mean(1) - self.low) / (self.high - self.low)).view(shape)

    def by_position(self, what: str) -> Float[Tensor, "layer pos"]:
        """ "resid{}", "a{}" or "m{}" of every layer at every position."""
        layers, length = self.model.config.n_layer, self.clean.tokens.shape[1]
        return self.grid(
            [
                Patch.write(f"{what.format(layer)}@{t}", self.clean)
                for layer in range(layers)
                for t in range(length)
            ],
            layers,
            length,
        )

    def by_head(self, what: str) -> Float[Tensor, "layer head"]:
        """ "", ".q", ".k", ".v" or ".pattern" of every head at all positions. A port sees the whole
        clean stream."""
        put = Patch.input if what in (".q", ".k", ".v") else Patch.write
        config = self.model.config
        return self.grid(
            [put(f"{head}{what}", self.clean) for head in heads(config)],
            config.n_layer,
            config.n_head,
        )

    def by_head_and_position(self, places: Sequence[str]) -> Float[Tensor, "places"]:
        """Heads' writes, each at one position."""
        return self.grid([Patch.write(place, self.clean) for place in places], len(places))


def value_biases(trace: Trace, metric: Metric) -> Float[Tensor, "layer head"]:
    """What each head's own value bias adds to the metric: the recordings fold it into the layer's
    bias."""
    toward, d, rows = attribution.gradient(trace, metric), trace.config.d_model, []
    for block in trace.params.blocks:
        into = (toward @ block.w_o.double().T).unflatten(-1, (trace.config.n_head, -1))
        rows.append(
            (into * block.b_qkv[2 * d :].double().unflatten(0, (trace.config.n_head, -1)))
            .sum(-1)
            .mean(0)
        )
    return torch.stack(rows)


def without(model: GPT2, trace: Trace, node: str) -> Trace:
    """A run without what a head reads from its values at a position: its value bias stays, as the
    recordings have it in the layer's bias."""
    site, d, width = parse(node).site, model.config.d_model, model.config.d_head
    assert site.layer is not None
    assert site.part is not None
    start = 2 * d + site.part * width
    return model.rerun(
        trace,
        Patch.write(
            f"{site}.z@{parse(node).at}",
            model.params.blocks[site.layer].b_qkv[start : start + width],
        ),
    )


def path_map(model: GPT2, pairs: Prompts, receivers: Sequence[str], at: str) -> dict[str, float]:
    """Path patching of every head to these receivers (IOI meaning), as a share of the mean logit
    difference, most negative first."""
    found = patching.paths(model, pairs, metrics.logit_diff(pairs), receivers=receivers, at=at)
    share = dict(zip(found.addresses, (found.values / found.base.mean()).tolist(), strict=True))
    return dict(sorted(share.items(), key=lambda row: row[1]))


def knocked(model: GPT2, pairs: Prompts, gone: Sequence[str]) -> Float[Tensor, "prompts"]:
    """The logit difference of the model without some nodes, F(M\\K): they are at their means over
    the corrupt prompts of the group."""
    on = Ablation(model, pairs, metrics.logit_diff(pairs))
    return on.without([gone])[0] if gone else on.full


def left(model: GPT2, pairs: Prompts, gone: Sequence[str]) -> Float[Tensor, "prompts"]:
    """The logit difference of the published circuit without some nodes, F(C\\K): every other head
    is at its mean, everywhere."""
    on, circuit = Ablation(model, pairs, metrics.logit_diff(pairs)), nodes(*CLASSES)
    return on.within(circuit, [gone])[0] if gone else on.only([circuit])[0]


def copied(score: Mapping[str, Float[Tensor, "layer head"]]) -> Float[Tensor, "layer head"]:
    """Copy scores pooled over positions."""
    return torch.stack(list(score.values())).mean(0)
