"""What the measurements share: the model, prompts of one seed with their corrupt twins, the runs,
and the circuit that is looked at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from interp import metrics
from interp.circuit import Circuit
from interp.circuit.ablation import Ablation
from interp.ioi.part import Claim
from interp.metrics import Metric
from interp.tasks import Prompts, ioi
from minigpt import GPT2, Patch, Tokenizer, Trace, parse
from minigpt.errors import MiniGPTError
from minigpt.shown import Shown


@dataclass(frozen=True, eq=False, repr=False)
class Lab(Shown):
    """n prompts drawn with `seed`. published: the model is GPT-2 small, so that the paper's figures
    can be held against it."""

    model: GPT2
    circuit: Circuit
    n: int = 200
    seed: int = 0
    published: bool = False

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's own; the task is made of words."""
        if self.model.tokenizer is None:
            raise MiniGPTError(
                "indirect objects for a model without a vocabulary",
                "a model with one: ioi-mini, gpt2",
                "keep GPT-2's vocabulary at hand (TIKTOKEN_CACHE_DIR)",
            )
        return self.model.tokenizer

    @cached_property
    def pairs(self) -> Prompts:
        """The prompts, and as their corrupt twins three other names (p_ABC)."""
        return self.against("ABC")

    def against(self, corrupt: str) -> Prompts:
        """The same prompts, with other corrupt twins."""
        return ioi.prompts(self.tokenizer, self.n, self.seed, corrupt=corrupt)

    @cached_property
    def metric(self) -> Metric:
        """Logit of IO less logit of S, at END."""
        return metrics.logit_diff(self.pairs)

    @cached_property
    def clean(self) -> Trace:
        """The run on p_IOI."""
        return self.model.run(self.pairs)

    @cached_property
    def corrupt(self) -> Trace:
        """The run on p_ABC."""
        return self.model.run(self.pairs.corrupted)

    @cached_property
    def ablation(self) -> Ablation:
        """Mean ablation, by template and position, over p_ABC."""
        return Ablation(self.model, self.pairs, self.metric)

    def heads(self, role: str) -> list[str]:
        """The heads of a role, without their positions; none where the circuit has no such role."""
        return list(
            dict.fromkeys(str(parse(node).site) for node in self.circuit.roles.get(role, ()))
        )

    def ports(self, role: str, which: str) -> list[str]:
        """What the heads of a role read their queries, keys or values from."""
        return [f"{head}.{which}" for head in self.heads(role)]

    def claims(self, drawn_up: Iterable[Claim]) -> tuple[Claim, ...]:
        """These, where the paper speaks of this model; else none."""
        return tuple(drawn_up) if self.published else ()

    def difference(self, base: Trace, patches: Sequence[Patch]) -> Float[Tensor, "patches prompts"]:
        """The metric after each patch."""
        return self.metric.after(self.model, base, patches)[0]

    def pick(
        self, per_head: Float[Tensor, "layer head *rest"], heads: Sequence[str]
    ) -> Float[Tensor, "heads *rest"]:
        """Some heads' own of something known of every head."""
        sites = [parse(head).site for head in heads]
        return (
            torch.stack([per_head[site.layer, site.part] for site in sites])
            if sites
            else per_head[0, :0]
        )


def joint(addresses: Sequence[str], run: Trace) -> Patch:
    """All of these as they are in another run."""
    return Patch.all(Patch.write(address, run) for address in addresses)
