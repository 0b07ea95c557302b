"""What a run says at every position: the loss of each token, and what each point of the stream
would say next (nostalgebraist 2020, the logit lens)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from minigpt import Tokenizer, Trace, ops
from minigpt.address import Site, streams
from minigpt.shown import Shown


@dataclass(frozen=True, eq=False)
class Lens(Shown):
    """The k tokens that each stream point puts first, with their logits and probabilities:
    [point, batch, pos, k]."""

    points: tuple[str, ...]
    ids: Int[Tensor, "point batch pos k"]
    logits: Float[Tensor, "point batch pos k"]
    probabilities: Float[Tensor, "point batch pos k"]

    def words(self, tokenizer: Tokenizer, prompt: int = 0, at: int = -1) -> dict[str, list[str]]:
        """The tokens of one prompt at one position, by the point."""
        rows = self.ids[:, prompt, at].tolist()
        return {
            point: [tokenizer.text(i) for i in row]
            for point, row in zip(self.points, rows, strict=True)
        }

    def __repr__(self) -> str:
        points, batch, places, k = self.ids.shape
        prompts = f"{batch} prompt{'s' * (batch > 1)}"
        return f"Lens(the first {k} tokens at {points} points, {prompts}, {places} positions)"


@torch.inference_mode()
def lens(trace: Trace, k: int = 5, at: Sequence[int] | None = None) -> Lens:
    """What each point of the stream would say at every position (or at these), read as the last one
    is: through the final LayerNorm and the unembedding. At the last point this is what the model
    says.

    What lies behind the end of a short prompt is the token 0, its logit and probability NaN.
    """
    points, places = list(streams(trace.config)), slice(None) if at is None else list(at)
    tops = [_top(trace, point, k, places) for point in points]
    ids, logits, chances = (torch.stack(parts) for parts in zip(*tops, strict=True))
    outside = ~trace.batch.mask[None, :, places, None]
    return Lens(
        tuple(map(str, points)),
        ids.masked_fill(outside, 0),
        logits.masked_fill(outside, torch.nan),
        chances.masked_fill(outside, torch.nan),
    )


def _top(trace: Trace, point: Site, k: int, places: slice | list[int]) -> Sequence[Tensor]:
    params, stream = trace.params, trace.stream(point)[:, places]
    read = ops.layer_norm(stream, params.ln_w, params.ln_b, trace.config.eps)
    logits = ops.logits(read, params.unembed)
    best = logits.topk(min(k, logits.shape[-1]), -1)
    return best.indices, best.values, (best.values - logits.logsumexp(-1, keepdim=True)).exp()


@torch.inference_mode()
def losses(trace: Trace) -> Float[Tensor, "batch pos"]:
    """How little the model expected each prompt's next token, in nats: at position t the loss of
    token t + 1. NaN at a prompt's last position and behind it. float64.

    On repeated tokens, losses(model.run(heads.repeated(config, n)))[:, n:] is what induction is
    measured by (Olsson et al. 2022).
    """
    batch, width = trace.tokens.shape
    found = torch.full((batch, width), torch.nan, dtype=torch.float64, device=trace.tokens.device)
    chances = trace.logits[:, :-1].double().log_softmax(-1)
    found[:, :-1] = -chances.gather(-1, trace.tokens[:, 1:, None])[..., 0]
    followed = trace.batch.mask.roll(-1, 1)
    followed[:, -1] = False
    return found.masked_fill(~followed, torch.nan)
