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
    neuron, mlp, bias; edit, where only an intervention writes."""
    if site.role != "node":
        return "edit"
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
        address, sign, key = text.partition("<")
        node = parse(address, trace.config)
        if node.at is None:
            raise QuestionError(
                f"'{text}' is at no position", "a node and a position", f"'{node}@-1'"
            )
        place = cls(
            node.site,
            int(trace.batch.index(node.at)[0]),
            _position(key, text, trace) if sign else None,
        )
        place._check_key(text)
        return place

    def _check_key(self, text: str) -> None:
        """QuestionError for a key of what is no head, or one later than its query."""
        is_head = self.site.part is not None and self.site.kind in ("attn", "q", "k", "v")
        if self.key is not None and (not is_head or self.key > self.at):
            raise QuestionError(
                f"'{text}'", "a head, and a key no later than its query", "'a2.6@13<3'"
            )

    def under(self, twins: Twins) -> Place | None:
        """The same on the other side; None where a position has no twin."""
        at, key = twins[self.at], None if self.key is None else twins[self.key]
        if at is None or (key is None) != (self.key is None):
            return None
        return replace(self, at=at, key=key)

    def wrote(self, trace: Trace) -> Float[Tensor, "d_model"]:
        """What the node wrote there; of a head with a key: the weight times that position's value,
        through W_O."""
        if self.key is None:
            read = trace.write if self.site.role == "node" else trace.stream
            return read(self.site)[0, self.at]
        own = trace.config.head_columns(self.site.part or 0)
        w_o = trace.params.blocks[self.site.depth].w_o[own]
        value = trace[f"{self.site}.v@{self.key}"][0] @ w_o
        return trace[f"{self.site}.pattern@{self.at}"][0, self.key] * value


def _position(text: str, whole: str, trace: Trace) -> int:
    at = parse(f"emb@{text}").at
    if at is None:
        raise QuestionError(f"'{whole}': no key after '<'", "a position", f"'{whole}0'")
    return int(trace.batch.index(at)[0])
