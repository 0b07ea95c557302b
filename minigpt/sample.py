"""Text from a model, token by token, with the keys and values of what was read kept; also while a
patch intervenes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from minigpt import ops
from minigpt.config import Config
from minigpt.errors import PromptError
from minigpt.grown import ONE, Kept, grown, joining
from minigpt.model import GPT2, layer
from minigpt.patch import Patch
from minigpt.patch.edit import Edit, Given
from minigpt.shown import Shown

# For each layer the keys and values so far.
Cache = list[Kept]


@dataclass(frozen=True, repr=False)
class Choice(Shown):
    """How the next token is drawn: temperature 0 takes the most probable; top_k first drops all but
    k (0: none). unnamed: also ids for which the model's vocabulary has no text."""

    temperature: float = 0.0
    top_k: int = 0
    seed: int = 0
    unnamed: bool = False

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0:
            raise PromptError(
                f"temperature={self.temperature}, top_k={self.top_k}", "numbers from 0 up"
            )

    def draw(self, logits: Float[Tensor, "vocab"], generator: torch.Generator) -> int:
        """One token id."""
        if self.temperature == 0:
            return int(logits.argmax())
        if self.top_k:
            least = logits.topk(min(self.top_k, len(logits))).values[-1]
            logits = logits.masked_fill(logits < least, -torch.inf)
        weights = torch.softmax(logits.float() / self.temperature, -1)
        return int(torch.multinomial(weights, 1, generator=generator))


def generate(
    model: GPT2,
    prompt: object,
    n: int = 20,
    choice: Choice = Choice(),
    stop: int | None = None,
    *,
    patch: Patch | str | None = None,
    add: Mapping[str, Given] | None = None,
) -> str:
    """The prompt's continuation by up to n tokens, as text; ends before the token `stop`.

    patch, and what to `add` at addresses (steering vectors): in force while each token is chosen,
    at every position, or at those that the addresses name: @3 is the fourth token, @-1 the last one
    so far. What follows is what rerunning the whole text with the patch at each step would choose.

    >>> import weights
    >>> prompt = 'When Mary and John went to the store, John gave a drink to'
    >>> generate(weights.load('ioi-mini'), prompt, 1, patch='hold heads = 0')
    ' Vincent'
    """
    batch = model.batch(prompt)
    if len(batch.tokens) != 1:
        raise PromptError(f"{len(batch.tokens)} prompts", "one", "a call for each")
    tokens = continuation(model, batch.tokens[0], n, choice, _joined(patch, add or {}))
    return model.words.decode(list(takewhile(lambda token: token != stop, tokens)))


def _joined(patch: Patch | str | None, add: Mapping[str, Given]) -> Patch:
    given = Patch.parse(patch, {}) if isinstance(patch, str) else patch or Patch()
    return Patch.all([given, *(Patch.add(address, vector) for address, vector in add.items())])


@torch.no_grad()
def continuation(
    model: GPT2, tokens: Tensor, n: int, choice: Choice = Choice(), patch: Patch | None = None
) -> Iterator[int]:
    """Up to n token ids that follow tokens [pos], under a patch; PromptError if the context has no
    room for them."""
    _check_room(model.config, len(tokens), n)
    _check_places(patch or Patch(), len(tokens) + n)
    generator = torch.Generator(model.device).manual_seed(choice.seed)
    nameless = [] if choice.unnamed else model.words.lacking(model.config.n_vocab)
    steps = _Patched(model, tokens, patch) if patch else _Plain(model, tokens)
    for _ in range(n):
        token = choice.draw(_without(steps.logits, nameless), generator)
        yield token
        steps.read(token)


def _without(logits: Float[Tensor, "vocab"], ids: Sequence[int]) -> Float[Tensor, "vocab"]:
    """The logits, with these ids out of the question."""
    return (
        logits.index_fill(0, logits.new_tensor(ids, dtype=torch.long), -torch.inf)
        if ids
        else logits
    )


def _check_room(config: Config, tokens: int, n: int) -> None:
    if tokens + n > config.n_ctx:
        raise PromptError(
            f"{tokens} tokens and {n} more",
            f"{config.n_ctx} together",
            f"n={config.n_ctx - tokens}",
        )


def _check_places(patch: Patch, n: int) -> None:
    for edit in patch.edits:
        if isinstance(edit.target.at, int) and edit.target.at >= n - 1:
            raise PromptError(
                f"'{edit}': a text of up to {n} tokens, the last of which is not read",
                f"positions up to @{n - 2}, or @-1 for the last so far",
            )


class _Plain:
    """The model as it is, its keys and values kept. logits: of the token that comes next."""

    def __init__(self, model: GPT2, tokens: Tensor) -> None:
        trace = model.run(tokens)
        self.model, self.place, self.logits = model, len(tokens), trace.logits_at(-1)[0]
        layers = range(model.config.n_layer)
        self.cache = [(trace.heads(layer, "k"), trace.heads(layer, "v")) for layer in layers]

    def read(self, token: int) -> None:
        """One token more."""
        self.logits, self.cache = _next(self.model, token, self.place, self.cache)
        self.place += 1


class _Patched:
    """The model under a patch. What is edited at every position, or at one counted from the start,
    stays: the run grows by a position, which is edited. What is counted from the end moves on: it
    is put into the run anew at each step, as is all where nodes are held."""

    def __init__(self, model: GPT2, tokens: Tensor, patch: Patch) -> None:
        self.model, self.run = model, model.run(tokens)
        moves = [e for e in patch.edits if _moves(e) or patch.holds]
        self.moving = Patch(tuple(moves), patch.holds)
        self.staying = [edit for edit in patch.edits if edit not in moves]
        self._edit(0)

    @property
    def logits(self) -> Float[Tensor, "vocab"]:
        """Of the token that comes next."""
        run = self.model.rerun(self.run, self.moving) if self.moving else self.run
        return run.logits_at(-1)[0]

    def read(self, token: int) -> None:
        """One token more."""
        self.run = grown(self.run, token)
        self._edit(self.run.tokens.shape[1] - 1)

    def _edit(self, first: int) -> None:
        """Put in what stays, at the positions from the first on."""
        n = self.run.tokens.shape[1]
        here = [edit for edit in self.staying if _within(edit.target.at, first, n)]
        if first and n - first == 1:
            here = [replace(edit, target=replace(edit.target, at=first)) for edit in here]
        if here:
            self.run = self.model.rerun(self.run, Patch(tuple(here)))


def _moves(edit: Edit) -> bool:
    """Whether its position is another one after each step."""
    return isinstance(edit.target.at, int) and edit.target.at < 0


def _within(at: int | str | None, first: int, n: int) -> bool:
    """Whether a position lies there; one with a name does in the prompt, if anywhere."""
    return at is None or (first == 0 if isinstance(at, str) else first <= at < n)


def _next(model: GPT2, token: int, place: int, cache: Cache) -> tuple[Tensor, Cache]:
    """The logits after one more token, and the keys and values with its own."""
    params, config, after = model.params, model.config, Cache()
    x = (params.wte[token] + params.wpe[place])[None, None]
    for block, kept in zip(params.blocks, cache, strict=True):
        x = layer(block, config, x, ONE, joining(kept, after), ops.linear).out
    x = ops.layer_norm(x, params.ln_w, params.ln_b, config.eps)
    return F.linear(x, params.unembed)[0, 0], after
