"""One node at one position of one run, as a row is called: "a2.6@13", "a2.6@13<3" (what the head
took from position 3), "m1.n7@9"."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from interp.debugger.align import Twins
from interp.debugger.question import QuestionError
from minigpt import Site, Trace, parse
from minigpt.shown import Shown

KINDS = {"attn": "head", "mlp": "mlp", "emb": "embedding", "pos": "embedding", "input": "embedding"}


def kind(site: Site) -> str:
    """What the node table calls a node of this kind: embedding, head, attention (a whole layer's),
    neuron, mlp, latent, error, bias; edit, where only an intervention writes."""
    if site.role != "node":
        return "edit"
    if site.is_latent:
        return "latent" if site.part is not None else "error" if site.kind[-1] == "e" else "bias"
    if site.kind == "mlp" and site.part is not None:
        return "neuron"
    if site.kind == "attn" and site.part is None:
        return "attention"
    return KINDS.get(site.kind, "bias")


@dataclass(frozen=True, repr=False)
class Place(Shown):
    """A site, the position where it writes (or reads), and the key that is meant, where one is."""

    site: Site
    at: int
    key: int | None = None

    def __str__(self) -> str:
        return f"{self.site}@{self.at}" + ("" if self.key is None else f"<{self.key}")

    @classmethod
    def parse(cls, text: str, trace: Trace) -> Place:
        """The place that a text names in this run; positions may be -1 or END. QuestionError where
        it names none."""
        name, sign, where = text.partition("@")
        site = parse(name, trace.config).site
        # What a head reads through one port for a key is called as what it takes from there.
        head = Site("attn", site.layer, site.part) if site.kind in ("q", "k", "v") else site
        node = parse(f"{head}{sign}{where}", trace.config)
        if node.at is None:
            raise QuestionError(
                f"'{text}' is at no position", "a node and a position", f"'{site}@-1'"
            )
        trace.batch.check(node)
        at, key = int(trace.batch.places(node.at)[0]), node.site.key
        return cls(site, at, None if key is None else int(trace.batch.places(key)[0]))

    def under(self, twins: Twins) -> Place | None:
        """The same on the other side; None where a position has no twin."""
        at, key = twins[self.at], None if self.key is None else twins[self.key]
        if at is None or (key is None) != (self.key is None):
            return None
        return replace(self, at=at, key=key)

    def wrote(self, trace: Trace) -> Float[Tensor, "d_model"]:
        """What the node wrote there; of a head with a key: what it takes from that position."""
        if self.key is not None:
            return trace[str(self)][0]
        read = trace.write if self.site.role == "node" else trace.stream
        return read(self.site)[0, self.at]
