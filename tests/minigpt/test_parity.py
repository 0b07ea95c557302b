"""The forward pass gives the very bits of Hugging Face's GPT2LMHeadModel, with the same random
weights, in every shape.

Called plainly, that is with its default use_cache=True. With use_cache=False Hugging Face's eager
attention differs from itself in the last bits for several prompts of fewer than 16 tokens in all
(or in float64), since it lays its keys out otherwise.
"""

from __future__ import annotations

import dataclasses
from functools import cache

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from interp.audit.determinism import threads
from minigpt import GPT2, ops
from minigpt.params import tensors
from minigpt.settle import Cut, is_plain
from tests.conftest import examples, some, tiny

SMALL = (12, 12, 768, 3072, 1024, 50257)
MEDIUM = (24, 16, 1024, 4096, 1024, 50257)
ATTENTION = {"eager": ops.eager, "sdpa": ops.sdpa}


@cache
def hugging_face(model: GPT2, attention: str) -> transformers.GPT2LMHeadModel:
    """Hugging Face's model around the very same tensors."""
    c = model.config
    config = transformers.GPT2Config(
        vocab_size=c.n_vocab,
        n_positions=c.n_ctx,
        n_embd=c.d_model,
        n_layer=c.n_layer,
        n_head=c.n_head,
        n_inner=c.d_mlp,
        attn_implementation=attention,
        tie_word_embeddings=model.params.tied,
        bos_token_id=0,
        eos_token_id=0,
    )
    with torch.device("meta"):
        found = transformers.GPT2LMHeadModel(config)
    state = {f"transformer.{name}": x for name, x in tensors(model.params).items()} | {
        "lm_head.weight": model.params.unembed
    }
    found.load_state_dict({name: state[name] for name in found.state_dict()}, assign=True)
    assert not any(x.is_meta for x in (*found.parameters(), *found.buffers()))
    return found.eval()


def tokens(model: GPT2, batch: int, pos: int, seed: int = 0) -> Tensor:
    return torch.randint(
        0, model.config.n_vocab, (batch, pos), generator=torch.Generator().manual_seed(seed)
    )


@torch.no_grad()
def theirs(model: GPT2, attention: str, given: Tensor) -> Tensor:
    return hugging_face(model, attention)(given).logits


def ours(model: GPT2, attention: str, given: Tensor) -> Tensor:
    return dataclasses.replace(model, attend=ATTENTION[attention]).forward(given)


def settled(model: GPT2, given: Tensor) -> bool:
    """Whether Hugging Face's own products in this shape, on one thread, have bits that do not
    depend on the number of rows: those that run() has in every shape."""
    rows, block = given.numel(), model.params.blocks[0]
    if rows < Cut().least or (model.dtype != torch.float32 and rows % Cut().grain):
        return False
    products = (block.w_qkv, block.w_o, block.w_in, block.w_out, model.params.unembed.T)
    with threads(1):
        return all(is_plain(w, rows) for w in products)


def check(model: GPT2, attention: str, batch: int, pos: int, *, run: bool = True) -> None:
    given = tokens(model, batch, pos)
    expected = theirs(model, attention, given)
    assert torch.equal(ours(model, attention, given), expected)
    if run and settled(model, given):
        trace = dataclasses.replace(model, attend=ATTENTION[attention]).run(given)
        with threads(1):
            assert torch.equal(trace.logits, theirs(model, attention, given))


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@examples(6)
@given(
    shape=st.sampled_from(
        [(2, 2, 8, 16, 64, 50), (2, 4, 64, 256, 64, 211), (1, 2, 128, 512, 64, 300)]
    ),
    tied=st.booleans(),
    batch=st.integers(1, 6),
    pos=st.integers(1, 40),
)
def test_small_models_agree_in_every_shape(
    attention: str, dtype: torch.dtype, shape: tuple[int, ...], tied: bool, batch: int, pos: int
) -> None:
    check(tiny(*shape, dtype=dtype, tied=tied), attention, batch, pos)


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize(
    ("batch", "pos"), some([(4, 7), (1, 1), (4, 16), (1, 7), (32, 16), (1, 64)], 3)
)
def test_gpt2_small_agrees(attention: str, batch: int, pos: int) -> None:
    check(tiny(*SMALL), attention, batch, pos, run=batch * pos <= 64)


@pytest.mark.slow
@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize(
    ("batch", "pos"), [(4, 1), (32, 1), (32, 7), (1, 16), (4, 64), (32, 64), (1, 1024), (4, 1024)]
)
def test_gpt2_small_agrees_in_the_other_shapes_too(attention: str, batch: int, pos: int) -> None:
    check(tiny(*SMALL), attention, batch, pos, run=batch * pos <= 256)


@pytest.mark.slow
@pytest.mark.parametrize("attention", ATTENTION)
def test_gpt2_small_agrees_on_32_prompts_of_1024_tokens(attention: str) -> None:
    """With a vocabulary of 512: 32,768 rows of 50,257 logits would be 6.6 GB, and the unembedding
    is a row's own affair."""
    check(tiny(*SMALL[:-1], 512), attention, 32, 1024, run=False)


@pytest.mark.parametrize("attention", ATTENTION)
def test_gpt2_small_agrees_in_float64(attention: str) -> None:
    check(tiny(2, *SMALL[1:], dtype=torch.float64), attention, 4, 10)


@pytest.mark.parametrize("attention", ATTENTION)
def test_two_layers_of_gpt2_mediums_width_agree(attention: str) -> None:
    for shape in ((1, 1), (3, 5), (4, 16)):
        check(tiny(2, *MEDIUM[1:-1], 5000), attention, *shape)


@pytest.mark.slow
@pytest.mark.parametrize("attention", ATTENTION)
def test_gpt2_medium_agrees(attention: str) -> None:
    check(tiny(*MEDIUM), attention, 4, 16)


# --- twins: the comparison sees one bit of one weight, and every other order of the same arithmetic

TWIN = (2, 4, 64, 256, 64, 211)


@pytest.mark.parametrize("field", ["ln1_w", "b_qkv", "w_o", "ln2_b", "w_in", "b_out"])
def test_twin_one_bit_of_one_weight_is_seen(field: str) -> None:
    model = tiny(*TWIN)
    changed = getattr(model.params.blocks[0], field).clone()
    largest = changed.view(-1).abs().argmax()
    changed.view(-1)[largest] = torch.nextafter(changed.view(-1)[largest], torch.tensor(torch.inf))
    blocks = (
        dataclasses.replace(model.params.blocks[0], **{field: changed}),
        *model.params.blocks[1:],
    )
    other = dataclasses.replace(model, params=dataclasses.replace(model.params, blocks=blocks))
    given, expected = tokens(model, 8, 40), theirs(model, "eager", tokens(model, 8, 40))
    assert torch.equal(ours(model, "eager", given), expected)
    assert not torch.equal(ours(other, "eager", given), expected)


def in_halves(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    half = len(w) // 2
    return x[..., :half] @ w[:half] + (x[..., half:] @ w[half:] + b)


def fused_gelu(x: Tensor) -> Tensor:
    return torch.nn.functional.gelu(x, approximate="tanh")


def scaled_queries(q: Tensor, k: Tensor) -> Tensor:
    hidden = torch.full((q.shape[2], k.shape[2]), -torch.inf, dtype=q.dtype).triu(1)
    return torch.softmax(q * 0.3 @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 / 0.3) + hidden, -1)


@pytest.mark.parametrize(
    ("step", "otherwise"),
    [("linear", in_halves), ("gelu", fused_gelu), ("pattern", scaled_queries)],
    ids=lambda x: getattr(x, "__name__", x),
)
def test_twin_the_same_arithmetic_in_another_order_is_seen(
    monkeypatch: pytest.MonkeyPatch, step: str, otherwise: object
) -> None:
    model = tiny(*TWIN)
    given = tokens(model, 4, 16)
    expected = theirs(model, "eager", given)
    monkeypatch.setattr(ops, step, otherwise)
    found = ours(model, "eager", given)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert not torch.equal(found, expected)


def test_twin_eager_and_fused_attention_are_not_the_same_bits() -> None:
    model = tiny(*TWIN)
    given = tokens(model, 4, 16)
    assert not torch.equal(theirs(model, "eager", given), theirs(model, "sdpa", given))
