"""A model whose circuit is known, because its weights are written down here: induction in two
layers, LayerNorm kept, MLPs silent.

The stream is five spaces side by side, each as wide as the vocabulary, in each of which one number
stands for one token or place:

    token    what stands here: from the embedding
    place    where it stands: from the position embedding
    before   what stands one place earlier: written by head 0.2, which looks one place back; read by
             the keys of head 1.3
    answer   what comes next: written by head 1.3, which looks where `before` is its own token; read
             by the output
    unread   as `before`: written by head 0.4, which looks one place back as well; nobody reads it

Head 1.0 does what 1.3 does, a hundredth as strongly. All others are noise: every number of theirs
is drawn, their writes are small.
"""

from __future__ import annotations

import torch
from torch import Tensor

from interp import metrics
from interp.tasks import Prompts, induction
from minigpt import GPT2, Config, build
from minigpt.params import shapes

SIZE, HEADS = 24, 5
TOKEN, PLACE, BEFORE, ANSWER, UNREAD = (slice(i * SIZE, (i + 1) * SIZE) for i in range(5))
CONFIG = Config(n_layer=2, n_head=HEADS, d_model=5 * SIZE, d_mlp=4, n_ctx=SIZE, n_vocab=SIZE)
BOS = 0
KNOWN = {"induction": ("a1.3@END",), "previous token": ("a0.2@B1",)}
EDGES = ("a1.3>out@END", "a0.2>a1.3.k@B1")
ONE = torch.eye(SIZE, dtype=torch.float64)
BACK = torch.roll(
    ONE, -1, 1
).tril()  # a place's number at the place before it; the first has none before it


def inducer(
    *,
    previous: int = 2,
    unread: int = 4,
    mover: int = 3,
    faint: int = 0,
    noise: float = 0.02,
    cut: bool = False,
) -> GPT2:
    """The model. previous, unread, mover, faint: which head of its layer does what; cut: the
    previous-token head writes nothing."""
    generator = torch.Generator().manual_seed(0)
    given = {
        name: torch.zeros(shape, dtype=torch.float64)
        for name, shape in shapes(CONFIG, tied=False).items()
    }
    for name, x in given.items():
        if ".ln_" in name or name.startswith("ln_f"):
            x += 0.05 * torch.randn(x.shape, generator=generator, dtype=x.dtype) + (
                1 if name.endswith("weight") else 0
            )
        if ".c_attn" in name or ".attn.c_proj" in name:
            x += noise * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    given["wte.weight"][:, TOKEN] = given["wpe.weight"][:, PLACE] = ONE
    given["lm_head.weight"][:, ANSWER] = 2 * ONE
    for head, to in ((previous, BEFORE), (unread, UNREAD)):
        _wire(
            given,
            0,
            head,
            query=(PLACE, BACK),
            key=(PLACE, ONE),
            value=(TOKEN, ONE),
            to=to,
            write=1.0,
        )
    for head, write in ((mover, 1.0), (faint, 0.01)):
        _wire(
            given,
            1,
            head,
            query=(TOKEN, 2 * ONE),
            key=(BEFORE, ONE),
            value=(TOKEN, ONE),
            to=ANSWER,
            write=write,
        )
    if cut:
        given["h.0.attn.c_proj.weight"][_own(previous)] = 0
    return GPT2(build(CONFIG, {name: x.float() for name, x in given.items()}), name="inducer")


def pairs(n: int = 40, seed: int = 0) -> Prompts:
    """Ten random tokens, then nine of them once more; in the corrupt twin the first ten are
    others."""
    return induction.prompts(torch.arange(SIZE), n, seed, length=10, bos=BOS)


def solved(model: GPT2, prompts: Prompts) -> float:
    """How often the answer is the model's top token."""
    return float(metrics.accuracy(answers=prompts.answers, at="END")(model.run(prompts)).mean())


def _wire(
    given: dict[str, Tensor],
    layer: int,
    head: int,
    *,
    query: tuple[slice, Tensor],
    key: tuple[slice, Tensor],
    value: tuple[slice, Tensor],
    to: slice,
    write: float,
) -> None:
    """Make a head of what it reads for its queries, keys and values, and where it writes; LayerNorm
    makes a 1 into about 7."""
    attn, out = given[f"h.{layer}.attn.c_attn.weight"], given[f"h.{layer}.attn.c_proj.weight"]
    for third, (space, map_) in enumerate((query, key, value)):
        own = slice(
            third * CONFIG.d_model + head * SIZE, third * CONFIG.d_model + (head + 1) * SIZE
        )
        attn[:, own] = 0
        attn[space, own] = map_ if third < 2 else map_ / 7
        given[f"h.{layer}.attn.c_attn.bias"][own] = 0
    out[_own(head)] = 0
    out[_own(head), to] = write * ONE


def _own(head: int) -> slice:
    return slice(head * SIZE, (head + 1) * SIZE)
