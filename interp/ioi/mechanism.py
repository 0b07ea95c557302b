"""How the model does it: which heads write the answer, where they look, what they copy, and what
happens without them (section 3, App. C to J)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import plotly.graph_objects as go
import torch
from jaxtyping import Float
from torch import Tensor

from interp import attribution, figures, heads, patching
from interp.effects import Effects
from interp.ioi import published, words
from interp.ioi.lab import Lab, joint
from interp.ioi.part import Claim, Part
from interp.show.document import Table
from minigpt import Patch, Trace, parse
from minigpt.address import heads as every_head

NAMES = ("IO", "S1", "S2")
# From where to where each class of heads is known to look.
PLACES = {
    published.MOVERS: ("END", "IO"),
    published.NEGATIVE: ("END", "IO"),
    published.BACKUP: ("END", "IO"),
    published.INHIBITION: ("END", "S2"),
    published.INDUCTION: ("S2", "S1+1"),
    published.DUPLICATE: ("S2", "S1"),
    published.PREVIOUS: ("S1+1", "S1"),
}
# What each class does on tokens that have nothing to do with the task.
SCORES = {
    published.PREVIOUS: heads.previous,
    published.DUPLICATE: heads.duplicate,
    published.INDUCTION: heads.induction,
}
TURNED = {1: "as it is", -1: "turned round"}


def direct(lab: Lab) -> Part:
    """Direct effect of every head on the logit difference."""
    effects = attribution.direct(lab.clean, lab.metric).heads()
    return replace(
        words.DIRECT,
        maps={"direct effect of each head": effects},
        data={"top": dict(effects.top(10))},
    )


# ---- where heads look


def redirected(lab: Lab) -> Part:
    """What becomes of the movers' attention when S-inhibition reaches them from the ABC prompt."""
    movers, senders = lab.heads(published.MOVERS), lab.heads(published.INHIBITION)
    if not movers or not senders:
        return replace(words.REDIRECTED, skipped=words.NEITHER)
    runs = (lab.clean, _misled(lab, senders))
    attention = {
        name: [float(lab.pick(heads.attention(run, "END", name), movers).mean()) for run in runs]
        for name in NAMES
    }
    rows = [(name, *(f"{weight:.3f}" for weight in both)) for name, both in attention.items()]
    return replace(
        words.REDIRECTED,
        tables=[Table("", ("looking at", ">before", ">after"), rows)],
        data={"attention": attention},
    )


def _misled(lab: Lab, senders: Sequence[str]) -> Trace:
    """The run in which only the movers' queries see what the senders write on the ABC prompts."""
    written = joint([f"{head}@END" for head in senders], lab.corrupt)
    sent = lab.model.rerun(lab.clean, written | Patch.hold("heads", lab.clean))
    ports = lab.ports(published.MOVERS, "q")
    return lab.model.rerun(lab.clean, Patch.all(Patch.input(f"{p}@END", sent) for p in ports))


def looking(lab: Lab) -> Part:
    """Where each class of heads looks."""
    attention = {role: _attention(lab, role) for role in PLACES}
    rows = [
        (role, head, " to ".join(PLACES[role]), f"{weight:.3f}")
        for role, weights in attention.items()
        for head, weight in weights.items()
    ]
    return replace(
        words.LOOKING,
        tables=[Table("", ("role", "head", "from, to", ">attention"), rows)],
        claims=lab.claims(_looking_claims(attention)),
        data={"attention": {head: w for some in attention.values() for head, w in some.items()}},
    )


def _attention(lab: Lab, role: str) -> dict[str, float]:
    """Of each head of the class, between the class's two positions."""
    weights = heads.attention(lab.clean, *PLACES[role]).mean(-1)
    names = lab.heads(role)
    return dict(zip(names, lab.pick(weights, names).tolist(), strict=True))


def _looking_claims(attention: Mapping[str, Mapping[str, float]]) -> Iterator[Claim]:
    for role, paper in (
        (published.MOVERS, published.ATTENTION_TO_IO),
        (published.INHIBITION, published.ATTENTION_TO_S2),
    ):
        if weights := attention[role].values():
            what, mean = f"mean attention of the {role} heads", sum(weights) / len(weights)
            yield Claim(what, "section 3", mean, paper, within=0.05)


# ---- what heads write


def writing(lab: Lab) -> Part:
    """Attention of the movers against what they write (figure 3c)."""
    names = [*lab.heads(published.MOVERS), *lab.heads(published.NEGATIVE)]
    if not names:
        return replace(words.WRITING, skipped=words.NO_MOVERS)
    points = {head: _points(lab, head) for head in names}
    correlation = {head: _correlation(*both) for head, both in points.items()}
    rows = [(head, f"{r:+.3f}") for head, r in correlation.items()]
    return replace(
        words.WRITING,
        tables=[Table("", ("head", ">correlation"), rows)],
        figures={head: _cloud(head, *points[head]) for head in names[:4]},
        claims=lab.claims(_writing_claims(lab, correlation)),
        data={"correlation": correlation},
    )


def _points(
    lab: Lab, head: str
) -> tuple[Float[Tensor, "names prompts"], Float[Tensor, "names prompts"]]:
    """Attention to IO and to S (both times together), and the write's product with each name's
    unembedding."""
    io, s1, s2 = (lab.pick(heads.attention(lab.clean, "END", name), [head])[0] for name in NAMES)
    choices = (lab.pairs.answers, lab.pairs.distractors)
    ids = [torch.as_tensor(one)[:, 0] for one in choices]
    products = [lab.pick(heads.written(lab.clean, "END", one), [head])[0] for one in ids]
    return torch.stack([io, s1 + s2]).double(), torch.stack(products).double()


def _correlation(x: Tensor, y: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([x.flatten(), y.flatten()]))[0, 1])


def _writing_claims(lab: Lab, correlation: Mapping[str, float]) -> Iterator[Claim]:
    paper = published.CORRELATION
    for head in lab.heads(published.MOVERS):
        what = f"correlation, {head} (at least)"
        yield Claim(what, "figure 3c", min(correlation[head], paper), paper, within=0.02)


def _cloud(head: str, x: Tensor, y: Tensor) -> figures.Figure:
    names = (("IO", figures.FOR), ("S", figures.AGAINST))
    figure = figures.Figure(
        [
            go.Scatter(
                x=x[i].tolist(),
                y=y[i].tolist(),
                mode="markers",
                name=name,
                marker={"color": colour, "size": 5, "opacity": 0.6},
            )
            for i, (name, colour) in enumerate(names)
        ]
    )
    figure.update_xaxes(title="attention from END", range=[-0.03, 1.03])
    figure.update_yaxes(title="write times unembedding")
    return figures.styled(figure, head, height=320)


def copying(lab: Lab) -> Part:
    """How often each head would put the name that it looks at among its five most promoted
    tokens."""
    scores = {sign: _copied(lab, sign) for sign in TURNED}
    return replace(
        words.COPYING,
        tables=[Table("", ("head", "role", "write", ">copied"), _copying_rows(lab, scores))],
        claims=lab.claims(_copying_claims(lab, scores)),
        data={"score": scores[1].tolist(), "negative": scores[-1].tolist()},
    )


def _copied(lab: Lab, sign: int) -> Float[Tensor, "layer head"]:
    """The mean of the three names' copy scores."""
    return torch.stack([heads.copying(lab.clean, name, sign=sign) for name in NAMES]).mean(0)


def _copying_rows(
    lab: Lab, scores: Mapping[int, Float[Tensor, "layer head"]]
) -> list[tuple[str, str, str, str]]:
    classes = ((published.MOVERS, 1), (published.BACKUP, 1), (published.NEGATIVE, -1))
    rows = [
        (head, role, TURNED[sign], f"{float(score):.1%}")
        for role, sign in classes
        for head, score in zip(
            lab.heads(role), lab.pick(scores[sign], lab.heads(role)), strict=True
        )
    ]
    means = [
        ("all heads, mean", "", TURNED[sign], f"{float(grid.mean()):.1%}")
        for sign, grid in scores.items()
    ]
    return [*rows, *means]


def _copying_claims(lab: Lab, scores: Mapping[int, Float[Tensor, "layer head"]]) -> Iterator[Claim]:
    for role, sign, paper in (
        (published.MOVERS, 1, published.COPYING),
        (published.NEGATIVE, -1, published.NEGATIVE_COPYING),
    ):
        for head in lab.heads(role):
            score = float(lab.pick(scores[sign], [head])[0])
            what = f"copy score of {head} (at least)"
            yield Claim(what, "section 3.1", min(score, paper), paper, within=0.02)


# ---- what happens without them


def backup(lab: Lab) -> Part:
    """Paths to the logits before and after the name movers are knocked out (figure 15)."""
    movers = [f"{head}@END" for head in lab.heads(published.MOVERS)]
    if not movers:
        return replace(words.BACKUP, skipped=words.NO_MOVERS)
    before, after = _paths_without(lab, movers)
    whole, left = float(before.base.mean()), float(after.base.mean())
    rows = [("as it is", f"{whole:+.3f}"), (f"without {' '.join(movers)}", f"{left:+.3f}")]
    return replace(
        words.BACKUP,
        tables=[Table("", ("", ">logit difference"), rows), _most_changed(before, after)],
        maps={"effect on the logits, movers knocked out": after},
        claims=lab.claims(_backup_claims(left / whole)),
        data={"before": whole, "after": left},
    )


def _paths_without(lab: Lab, movers: Sequence[str]) -> tuple[Effects, Effects]:
    """Paths of all other heads to the logits, with the movers and without them."""
    senders = [str(site) for site in every_head(lab.model.config) if f"{site}@END" not in movers]
    before, after = (
        patching.paths(lab.model, lab.pairs, lab.metric, senders, standing=standing)
        for standing in (None, lab.ablation.knocked(movers))
    )
    return before, after


def _most_changed(before: Effects, after: Effects) -> Table:
    change = replace(before, per_prompt=after.per_prompt - before.per_prompt)
    return Table(
        "heads whose path to the logits changes most",
        ("head", ">before", ">after"),
        [(head, f"{before[head]:+.3f}", f"{after[head]:+.3f}") for head, _ in change.top(10)],
    )


def _backup_claims(share: float) -> Iterator[Claim]:
    yield Claim(
        "share of the logit difference that is left",
        "section 3.4: a drop of 5%; authors' data: a rise of 1%",
        share,
        published.MOVERS_GONE,
        published.STORED_MOVERS_GONE,
        within=0.06,
    )


def mlps(lab: Lab) -> Part:
    """Each MLP knocked out, and all but the first."""
    names = [f"m{layer}" for layer in range(lab.model.config.n_layer)]
    *alone, others = lab.ablation.without([*([m] for m in names), names[1:]]).mean(1).tolist()
    paths = patching.paths(lab.model, lab.pairs, lab.metric, "mlps", at="END")
    left = dict(zip(names, alone, strict=True))
    rows = [(name, f"{value:+.3f}", f"{paths[name]:+.3f}") for name, value in left.items()]
    rows.append(("all but m0", f"{others:+.3f}", ""))
    what = "all MLPs but m0 knocked out"
    return replace(
        words.MLPS,
        text=words.MLPS.text.format(whole=float(lab.metric(lab.clean).mean())),
        tables=[Table("", ("MLP", ">knocked out", ">path to the logits"), rows)],
        claims=lab.claims([Claim(what, "App. J", others, published.MLPS_GONE, within=0.5)]),
        data={"knocked_out": left, "all_but_m0": others},
    )


# ---- on random tokens


def random_tokens(lab: Lab) -> Part:
    """The heads' classes on sequences that have nothing to do with the task (App. H)."""
    among, n = heads.words(lab.tokenizer), min(100, (lab.model.config.n_ctx - 1) // 2)
    scores = {role: score(lab.model, n=n, among=among) for role, score in SCORES.items()}
    rows = [row for role, grid in scores.items() for row in _ranks(lab.heads(role), role, grid)]
    best = [(role, _best(grid)) for role, grid in scores.items()]
    return replace(
        words.RANDOM_TOKENS,
        text=words.RANDOM_TOKENS.text.format(n=n),
        tables=[
            Table("", ("role", "head", ">score", ">rank"), rows),
            Table("the highest of all heads", ("score", "heads"), best),
        ],
        data={role: grid.tolist() for role, grid in scores.items()},
    )


def _ranks(
    names: Sequence[str], role: str, grid: Float[Tensor, "layer head"]
) -> Iterator[tuple[str, str, str, str]]:
    """Each head's score, and its place among all heads."""
    for name in names:
        site = parse(name).site
        score = grid[site.layer, site.part]
        rank = int((grid > score).sum()) + 1
        yield role, name, f"{float(score):.3f}", f"{rank} of {grid.numel()}"


def _best(grid: Float[Tensor, "layer head"], n: int = 4) -> str:
    """The n heads of the highest scores."""
    scores, places = grid.flatten().topk(n)
    heads_in_layer = grid.shape[1]
    return ", ".join(
        f"a{place // heads_in_layer}.{place % heads_in_layer} {score:.2f}"
        for place, score in zip(places.tolist(), scores.tolist(), strict=True)
    )
