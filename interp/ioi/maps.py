"""The paper's maps of paths: how much of the answer goes from each head to the logits, and into the
queries, keys and values of the circuit's heads (section 3, App. D)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from interp import patching
from interp.effects import Effects
from interp.ioi import published, words
from interp.ioi.lab import Lab
from interp.ioi.part import Claim, Part
from minigpt import Config, parse
from minigpt.address import heads as every_head
from minigpt.shown import Shown

READ = {"q": "queries", "k": "keys", "v": "values"}


@dataclass(frozen=True, repr=False)
class Map(Shown):
    """Where it is in the paper, whose ports receive and at which position, what is asked, and the
    heads that the paper saw stand out."""

    where: str
    role: str
    port: str
    at: str
    question: str
    heads: str = ""

    @property
    def part(self) -> Part:
        """Its heading and question, without results."""
        heading = f"Paths into the {self.role} heads' {READ[self.port]}"
        return Part(f"paths_{self.role}_{self.port}", heading, self.where, self.question)


MAPS = (
    Map(
        "figure 4b",
        published.MOVERS,
        "q",
        "END",
        "What tells the name movers where to look? Paths into their queries.",
        published.FOUND["movers' q"],
    ),
    Map(
        "figure 5b",
        published.INHIBITION,
        "v",
        "S2",
        "What do the S-inhibition heads read at S2? Paths into their values.",
        published.FOUND["S-inhibition v"],
    ),
    Map(
        "figure 12b",
        published.INHIBITION,
        "k",
        "S2",
        "What makes the S-inhibition heads look at S2? Paths into their keys.",
        published.FOUND["S-inhibition k"],
    ),
    Map(
        "section 3.3",
        published.INHIBITION,
        "q",
        "END",
        "Does anything come in by their queries?",
    ),
    Map(
        "figure 13b",
        published.INDUCTION,
        "k",
        "S1+1",
        "What do the induction heads look for at S1+1? Paths into their keys.",
        published.FOUND["induction k"],
    ),
    Map("App. D", published.INDUCTION, "q", "S2", "Does anything come in by their queries?"),
)


def to_logits(lab: Lab) -> Part:
    """Path patching from every head to the logits."""
    effects = _percent(patching.paths(lab.model, lab.pairs, lab.metric, at="END"))
    seen = ((published.FOUND["out"], -1), (published.FOUND["out, negative"], 1))
    return replace(
        words.TO_LOGITS,
        maps={"% change of the logit difference, head to logits": effects},
        claims=lab.claims(
            _overlap(words.TO_LOGITS.where, effects, heads, sign) for heads, sign in seen
        ),
    )


def to_heads(lab: Lab) -> list[Part]:
    """Path patching from every head into the queries, keys and values of the circuit's heads."""
    return [_into(lab, asked) for asked in MAPS]


def _into(lab: Lab, asked: Map) -> Part:
    """The map, or why there is none: no such heads, or none before them."""
    ports = lab.ports(asked.role, asked.port)
    if not ports:
        return replace(asked.part, skipped=words.no_head(asked.role))
    senders = _before(lab.model.config, ports)
    if not senders:
        return replace(asked.part, skipped=words.FIRST_LAYER)
    effects = _percent(patching.paths(lab.model, lab.pairs, lab.metric, senders, ports, asked.at))
    receivers = f"Receivers, all at once, at {asked.at}: {' '.join(ports)}."
    return replace(
        asked.part,
        text=f"{asked.question} {receivers}",
        maps={f"% change, head to {asked.role} {asked.port}": effects},
        claims=lab.claims([_overlap(asked.where, effects, asked.heads)] if asked.heads else ()),
    )


def _before(config: Config, ports: Sequence[str]) -> list[str]:
    """The heads of earlier layers than the last of the ports."""
    last = max(parse(port).site.depth for port in ports)
    return [str(head) for head in every_head(config) if head.depth < last]


def _percent(effects: Effects) -> Effects:
    """Of the mean metric, as the paper's maps are."""
    return replace(effects, per_prompt=100 * effects.per_prompt / effects.base.mean())


def _overlap(where: str, effects: Effects, heads: str, sign: int = 0) -> Claim:
    """How many of the heads that the paper saw on a map are among the strongest there; all but one
    must be."""
    names = [f"a{head}" for head in heads.split()]
    strongest = effects.top(len(names) + 1, sign).addresses
    return Claim(
        f"of {' '.join(names)}, among the {len(strongest)} strongest",
        where,
        sum(name in strongest for name in names),
        len(names),
        within=1,
    )
