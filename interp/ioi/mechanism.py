"""How the model does it: direct effects, path patching maps, where heads look and what they write
(section 3, App. C to J)."""

from __future__ import annotations

from dataclasses import replace

import plotly.graph_objects as go
import torch
from jaxtyping import Float
from torch import Tensor

from interp import attribution, figures, heads, patching
from interp.effects import Effects
from interp.ioi import published
from interp.ioi.lab import Lab, joint
from interp.ioi.part import Claim, Part, Table
from minigpt import Patch, parse
from minigpt.address import heads as every_head

# The paper's maps: figure, receivers (role and port), position, and in words what is asked.
MAPS = (
    (
        "4b",
        published.MOVERS,
        "q",
        "END",
        "What tells the name movers where to look? Paths into their queries.",
    ),
    (
        "5b",
        published.INHIBITION,
        "v",
        "S2",
        "What do the S-inhibition heads read at S2? Paths into their values.",
    ),
    (
        "12b",
        published.INHIBITION,
        "k",
        "S2",
        "What makes the S-inhibition heads look at S2? Paths into their keys.",
    ),
    ("section 3.3", published.INHIBITION, "q", "END", "Does anything come in by their queries?"),
    (
        "13b",
        published.INDUCTION,
        "k",
        "S1+1",
        "What do the induction heads look for at S1+1? Paths into their keys.",
    ),
    ("App. D", published.INDUCTION, "q", "S2", "Does anything come in by their queries?"),
)
SAID = {"4b": "movers' q", "5b": "S-inhibition v", "12b": "S-inhibition k", "13b": "induction k"}


def direct(lab: Lab) -> Part:
    """Direct effect of every head on the logit difference."""
    found = attribution.direct(lab.clean, lab.metric).heads()
    return Part(
        "direct",
        "Who writes the answer",
        "section 3.1 (direct logit attribution)",
        "What each head's write at END adds to the logit difference by itself, the final "
        "LayerNorm as it was in the run. Blue pushes toward IO, red "
        "toward S.",
        maps={"direct effect of each head": found},
        data={"top": dict(found.top(10))},
    )


def to_logits(lab: Lab) -> Part:
    """Path patching from every head to the logits."""
    found = _relative(patching.paths(lab.model, lab.pairs, lab.metric, at="END"))
    claims = (
        [
            *_overlap("3b", found, published.FOUND["out"], -1),
            *_overlap("3b", found, published.FOUND["out, negative"], 1),
        ]
        if lab.published
        else ()
    )
    return Part(
        "to_logits",
        "Paths from every head to the logits",
        "figure 3b",
        "Each head's write at END is taken from the ABC prompt, every other head is held; the "
        "change of the logit difference, in per cent. A large "
        "drop means that the answer "
        "goes through this head.",
        maps={"% change of the logit difference, head to logits": found},
        claims=claims,
    )


def to_heads(lab: Lab) -> list[Part]:
    """Path patching from every head into the queries, keys and values of the circuit's heads."""
    return [_map(lab, *each) for each in MAPS]


def _map(lab: Lab, figure: str, role: str, which: str, at: str, question: str) -> Part:
    name, heading = (
        f"paths_{role}_{which}",
        f"Paths into the {role} heads' {dict(q='queries', k='keys', v='values')[which]}",
    )
    where = figure if " " in figure else f"figure {figure}"
    ports = lab.ports(role, which)
    if not ports:
        return Part(
            name,
            heading,
            where,
            question,
            skipped=f"no head of the circuit is in the role {role!r}",
        )
    senders = [
        str(site)
        for site in every_head(lab.model.config)
        if (site.layer or 0) < max(parse(port).site.layer or 0 for port in ports)
    ]
    if not senders:
        return Part(
            name,
            heading,
            where,
            question,
            skipped="these heads stand in the first layer: no head comes before them",
        )
    found = _relative(patching.paths(lab.model, lab.pairs, lab.metric, senders, ports, at))
    claims = (
        _overlap(figure, found, published.FOUND[SAID[figure]], 0)
        if lab.published and figure in SAID
        else ()
    )
    return Part(
        name,
        heading,
        where,
        f"{question} Receivers, all at once, at {at}: {' '.join(ports)}.",
        maps={f"% change, head to {role} {which}": found},
        claims=claims,
    )


def redirected(lab: Lab) -> Part:
    """What becomes of the movers' attention when S-inhibition reaches them from the ABC prompt."""
    heading, where = "Without S-inhibition the movers look at S", "figure 4c"
    text = (
        "The S-inhibition heads' outputs are taken from the ABC prompts, but only the name "
        "movers' queries see that. Attention of the movers "
        "from END, before and after."
    )
    movers, senders = (
        lab.heads(published.MOVERS),
        [f"{head}@END" for head in lab.heads(published.INHIBITION)],
    )
    if not movers or not senders:
        return Part(
            "redirected",
            heading,
            where,
            text,
            skipped="the circuit has no S-inhibition heads, or no name movers",
        )
    sent = lab.model.rerun(lab.clean, joint(senders, lab.corrupt) | Patch.hold("heads", lab.clean))
    seen = Patch.all(Patch.input(f"{port}@END", sent) for port in lab.ports(published.MOVERS, "q"))
    after = lab.model.rerun(lab.clean, seen)
    found = {
        place: [
            float(lab.pick(heads.attention(run, "END", place), movers).mean())
            for run in (lab.clean, after)
        ]
        for place in ("IO", "S1", "S2")
    }
    return Part(
        "redirected",
        heading,
        where,
        text,
        [
            Table(
                "",
                ("looking at", ">before", ">after"),
                [(p, f"{a:.3f}", f"{b:.3f}") for p, (a, b) in found.items()],
            )
        ],
        data={"attention": found},
    )


def looking(lab: Lab) -> Part:
    """Where each class of heads looks."""
    places = {
        published.MOVERS: ("END", "IO"),
        published.NEGATIVE: ("END", "IO"),
        published.BACKUP: ("END", "IO"),
        published.INHIBITION: ("END", "S2"),
        published.INDUCTION: ("S2", "S1+1"),
        published.DUPLICATE: ("S2", "S1"),
        published.PREVIOUS: ("S1+1", "S1"),
    }
    found = {
        (role, head): float(weight)
        for role, (at, to) in places.items()
        for head, weight in zip(
            lab.heads(role),
            lab.pick(heads.attention(lab.clean, at, to).mean(-1), lab.heads(role)).tolist(),
            strict=True,
        )
    }
    rows = [
        (role, head, f"{places[role][0]} to {places[role][1]}", f"{weight:.3f}")
        for (role, head), weight in found.items()
    ]
    claims = [
        Claim(
            f"mean attention of the {role} heads",
            "section 3",
            sum(own) / len(own),
            paper,
            within=0.05,
        )
        for role, paper in (
            (published.MOVERS, published.ATTENTION_TO_IO),
            (published.INHIBITION, published.ATTENTION_TO_S2),
        )
        if (own := [weight for (r, _), weight in found.items() if r == role])
    ]
    return Part(
        "looking",
        "Where the heads look",
        "section 3, table of figure 2",
        "Mean attention between the two positions that each class is known by.",
        [Table("", ("role", "head", "from, to", ">attention"), rows)],
        claims=claims if lab.published else (),
        data={"attention": {head: weight for (_, head), weight in found.items()}},
    )


def writing(lab: Lab) -> Part:
    """Attention of the movers against what they write (figure 3c)."""
    heading, where = "The more a mover looks at a name, the more it writes it", "figure 3c"
    text = (
        "Each point is one head on one prompt: its attention from END to a name, and the product "
        "of what it wrote with that name's unembedding. A head "
        "that copies gives a rising cloud."
    )
    names = [*lab.heads(published.MOVERS), *lab.heads(published.NEGATIVE)]
    if not names:
        return Part("writing", heading, where, text, skipped="the circuit has no name movers")
    points = {head: _points(lab, head) for head in names}
    found = {
        head: float(torch.corrcoef(torch.cat([x.flatten()[None], y.flatten()[None]]))[0, 1])
        for head, (x, y) in points.items()
    }
    claims = [
        Claim(
            f"correlation, {head} (at least)",
            "figure 3c",
            min(found[head], published.CORRELATION),
            published.CORRELATION,
            within=0.02,
        )
        for head in lab.heads(published.MOVERS)
    ]
    return Part(
        "writing",
        heading,
        where,
        text,
        [Table("", ("head", ">correlation"), [(head, f"{r:+.3f}") for head, r in found.items()])],
        figures={head: _cloud(head, *points[head]) for head in names[:4]},
        claims=claims if lab.published else (),
        data={"correlation": found},
    )


def copying(lab: Lab) -> Part:
    """How often each head would put the name that it looks at among its five most promoted
    tokens."""
    negative = lab.heads(published.NEGATIVE)
    grids = {
        sign: torch.stack(
            [heads.copying(lab.clean, place, sign=sign) for place in ("IO", "S1", "S2")]
        ).mean(0)
        for sign in (1, -1)
    }
    wanted = [(published.MOVERS, 1), (published.BACKUP, 1), (published.NEGATIVE, -1)]
    rows = [
        (head, role, "turned round" if sign < 0 else "as it is", f"{float(score):.1%}")
        for role, sign in wanted
        for head, score in zip(lab.heads(role), lab.pick(grids[sign], lab.heads(role)), strict=True)
    ]
    rows += [
        (
            "all heads, mean",
            "",
            "turned round" if sign < 0 else "as it is",
            f"{float(grids[sign].mean()):.1%}",
        )
        for sign in (1, -1)
    ]
    claims = [
        Claim(
            f"copy score of {head} (at least)",
            "section 3.1",
            min(float(lab.pick(grids[sign], [head])[0]), said),
            said,
            within=0.02,
        )
        for some, sign, said in (
            (lab.heads(published.MOVERS), 1, published.COPYING),
            (negative, -1, published.NEGATIVE_COPYING),
        )
        for head in some
    ]
    return Part(
        "copying",
        "Which heads copy names",
        "section 3.1",
        "A head's values and outputs by themselves: were it to look at a name (as that stands in "
        "the stream after the first layer) and at nothing "
        "else, would the name be among its five "
        "most promoted tokens? For negative heads the write is turned round.",
        [Table("", ("head", "role", "write", ">copied"), rows)],
        claims=claims if lab.published else (),
        data={"score": grids[1].tolist(), "negative": grids[-1].tolist()},
    )


def backup(lab: Lab) -> Part:
    """Paths to the logits before and after the name movers are knocked out (figure 15)."""
    heading, where = "Heads that step in when the movers are gone", "section 3.4, figure 15"
    text = (
        "Paths from every head to the logits once more, after the name movers' outputs at END "
        "were replaced by their means. Backup heads are those "
        "that gain."
    )
    movers = [f"{head}@END" for head in lab.heads(published.MOVERS)]
    if not movers:
        return Part("backup", heading, where, text, skipped="the circuit has no name movers")
    gone = lab.ablation.knocked(movers)
    senders = [str(site) for site in every_head(lab.model.config) if f"{site}@END" not in movers]
    before, after = (
        patching.paths(lab.model, lab.pairs, lab.metric, senders, standing=standing)
        for standing in (None, gone)
    )
    change = Effects(
        "path patching to out, after less before",
        before.metric,
        before.addresses,
        after.per_prompt - before.per_prompt,
        after.base,
        before.config,
    )
    left, whole = float(after.base.mean()), float(before.base.mean())
    claims = [
        Claim(
            "share of the logit difference that is left",
            "section 3.4: a drop of 5%; authors' data: a rise of 1%",
            left / whole,
            0.95,
            3.3288 / 3.3024,
            within=0.06,
        )
    ]
    return Part(
        "backup",
        heading,
        where,
        text,
        [
            Table(
                "",
                ("", ">logit difference"),
                [("as it is", f"{whole:+.3f}"), (f"without {' '.join(movers)}", f"{left:+.3f}")],
            ),
            Table(
                "heads whose path to the logits changes most",
                ("head", ">before", ">after"),
                [
                    (head, f"{before[head]:+.3f}", f"{after[head]:+.3f}")
                    for head, _ in change.top(10)
                ],
            ),
        ],
        maps={"effect on the logits, movers knocked out": after},
        claims=claims if lab.published else (),
        data={"before": whole, "after": left},
    )


def mlps(lab: Lab) -> Part:
    """Each MLP knocked out, and all but the first."""
    layers = range(lab.model.config.n_layer)
    sets = [[f"m{layer}"] for layer in layers] + [[f"m{layer}" for layer in layers[1:]]]
    found = lab.ablation.without(sets).mean(1).tolist()
    paths = patching.paths(lab.model, lab.pairs, lab.metric, "mlps", at="END")
    rows = [
        (f"m{layer}", f"{value:+.3f}", f"{paths[f'm{layer}']:+.3f}")
        for layer, value in zip(layers, found, strict=False)
    ]
    claims = [
        Claim("all MLPs but m0 knocked out", "App. J", found[-1], published.MLPS_GONE, within=0.5)
    ]
    return Part(
        "mlps",
        "What the MLPs do",
        "App. J, figure 19",
        "Each MLP's output replaced by its mean, everywhere: what is left of the logit "
        f"difference ({float(lab.metric(lab.clean).mean()):+.3f}); and "
        f"the effect of its path to the logits at END.",
        [
            Table(
                "",
                ("MLP", ">knocked out", ">path to the logits"),
                [*rows, ("all but m0", f"{found[-1]:+.3f}", "")],
            )
        ],
        claims=claims if lab.published else (),
        data={
            "knocked_out": dict(zip([s[0] for s in sets[:-1]], found, strict=False)),
            "all_but_m0": found[-1],
        },
    )


def random_tokens(lab: Lab) -> Part:
    """The heads' classes on sequences that have nothing to do with the task (App. H)."""
    among, n = heads.words(lab.tokenizer), min(100, (lab.model.config.n_ctx - 1) // 2)
    scores = {
        published.PREVIOUS: heads.previous,
        published.DUPLICATE: heads.duplicate,
        published.INDUCTION: heads.induction,
    }
    grids = {role: score(lab.model, n=n, among=among) for role, score in scores.items()}
    rows = [
        (
            role,
            head,
            f"{float(grid[site.layer, site.part]):.3f}",
            f"{int((grid > grid[site.layer, site.part]).sum()) + 1} of {grid.numel()}",
        )
        for role, grid in grids.items()
        for head, site in ((head, parse(head).site) for head in lab.heads(role))
    ]
    best = [
        (
            role,
            ", ".join(
                f"a{int(i) // grid.shape[1]}.{int(i) % grid.shape[1]} "
                f"{float(grid.flatten()[i]):.2f}"
                for i in grid.flatten().topk(4).indices
            ),
        )
        for role, grid in grids.items()
    ]
    return Part(
        "random_tokens",
        "The same heads on random tokens",
        "App. H and I",
        f"{n} random tokens, then the same again: how much each head looks at the token before, "
        "at its own first time, or at what came after that. A "
        f"head that has its class from the "
        "task should have it here as well; heads that only match names loosely do not.",
        [
            Table("", ("role", "head", ">score", ">rank"), rows),
            Table("the highest of all heads", ("score", "heads"), best),
        ],
        data={role: grid.tolist() for role, grid in grids.items()},
    )


# ---- tools


def _relative(found: Effects) -> Effects:
    """In per cent of the mean metric, as the paper's maps are."""
    return replace(found, per_prompt=100 * found.per_prompt / found.base.mean())


def _overlap(figure: str, found: Effects, said: str, sign: int) -> list[Claim]:
    """How many of the heads that the paper found on a map are among the strongest there; all but
    one must be."""
    names = [f"a{head}" for head in said.split()]
    strongest = found.top(len(names) + 1, sign).addresses
    return [
        Claim(
            f"of {' '.join(names)}, among the {len(strongest)} strongest",
            f"figure {figure}",
            sum(name in strongest for name in names),
            len(names),
            within=1,
        )
    ]


def _points(
    lab: Lab, head: str
) -> tuple[Float[Tensor, "names prompts"], Float[Tensor, "names prompts"]]:
    """Attention to IO and to S (both times together), and the write's product with each name's
    unembedding."""
    own = [head]
    looked = [
        lab.pick(heads.attention(lab.clean, "END", place), own)[0] for place in ("IO", "S1", "S2")
    ]
    answers, distractors = (
        torch.as_tensor(lab.pairs.answers)[:, 0],
        torch.as_tensor(lab.pairs.distractors)[:, 0],
    )
    wrote = [
        lab.pick(heads.written(lab.clean, "END", ids), own)[0] for ids in (answers, distractors)
    ]
    return torch.stack([looked[0], looked[1] + looked[2]]).double(), torch.stack(wrote).double()


def _cloud(head: str, x: Tensor, y: Tensor) -> go.Figure:
    figure = go.Figure(
        [
            go.Scatter(
                x=x[i].tolist(),
                y=y[i].tolist(),
                mode="markers",
                name=name,
                marker={"color": colour, "size": 5, "opacity": 0.6},
            )
            for i, (name, colour) in enumerate((("IO", figures.FOR), ("S", figures.AGAINST)))
        ]
    )
    figure.update_xaxes(title="attention from END", range=[-0.03, 1.03])
    figure.update_yaxes(title="write times unembedding")
    return figures.styled(figure, head, height=320)
