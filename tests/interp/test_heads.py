"""Head scores against models whose heads are built by hand to do just that."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from interp import heads
from minigpt import GPT2, Batch, Config, build
from minigpt.errors import MiniGPTError
from minigpt.params import tensors
from tests.conftest import random_params, tiny


def test_repeated_tokens_repeat_and_are_seeded():
    tokens = heads.repeated(Config(1, 1, 8, 8, 40, 600), n=20, batch=3)
    assert tokens.shape == (3, 40)
    assert torch.equal(tokens[:, :20], tokens[:, 20:])
    assert int(tokens.min()) >= 256
    assert int(tokens.max()) < 599
    assert torch.equal(tokens, heads.repeated(Config(1, 1, 8, 8, 40, 600), n=20, batch=3))


def test_induction_score_is_the_mean_attention_to_the_next_of_the_same():
    model = tiny(n_vocab=600, dtype=torch.float64)
    tokens = heads.repeated(model.config, n=8, batch=2, seed=5)
    pattern = model.run(tokens)["a1.1.pattern"]
    by_hand = sum(float(pattern[b, t, t - 8 + 1]) for b in range(2) for t in range(8, 16)) / 16
    assert abs(float(heads.induction(model, n=8, batch=2, seed=5)[1, 1]) - by_hand) < 1e-12


def copier(sign: float) -> GPT2:
    """One-hot embeddings; head 1.0's OV circuit is the identity times sign, head 1.1's is
    nothing."""
    config = Config(2, 2, 16, 16, 12, 8)
    zero = {
        name: torch.zeros_like(x)
        for name, x in tensors(random_params(config, dtype=torch.float64)).items()
    }
    zero["wte.weight"][:, :8] = 4 * torch.eye(8, dtype=torch.float64)
    for name in zero:
        if (".ln_" in name and name.endswith("weight")) or name == "ln_f.weight":
            zero[name] += 1
    zero["h.1.attn.c_attn.weight"][:8, 32:40] = torch.eye(8, dtype=torch.float64)
    zero["h.1.attn.c_proj.weight"][:8, :8] = sign * torch.eye(8, dtype=torch.float64)
    return GPT2(build(config, zero))


def test_a_head_built_to_copy_copies_and_no_other_does():
    tokens = torch.tensor([[1, 2, 3], [4, 5, 6], [0, 7, 2]])
    scores = heads.copying(copier(1).run(tokens), at=1, top=1)
    assert scores[1, 0] == 1
    assert heads.copying(copier(-1).run(tokens), at=1, top=1)[1, 0] == 0
    assert heads.copying(copier(-1).run(tokens), at=1, top=1, sign=-1)[1, 0] == 1


def test_at_chance_a_random_model_copies_as_often_as_chance():
    model = tiny(n_vocab=400, n_head=8, d_model=32)
    tokens = torch.randint(0, 400, (200, 3), generator=torch.Generator().manual_seed(0))
    assert float(heads.copying(model.run(tokens), at=0, top=40).mean()) < 0.25


# --- patterns built by hand -----------------------------------------------------------------------


def pointer(back: int, n_ctx: int = 16) -> GPT2:
    """One layer; the head 0.0 looks `back` places back (its position's key is a one-hot, its query
    the one-hot before), 0.1 at all alike."""
    config = Config(1, 2, 2 * n_ctx, 4, n_ctx, 9)
    zero = {
        name: torch.zeros_like(x)
        for name, x in tensors(random_params(config, dtype=torch.float64)).items()
    }
    zero["h.0.ln_1.weight"] += 1
    zero["ln_f.weight"] += 1
    zero["wpe.weight"][:, :n_ctx] = torch.eye(n_ctx, dtype=torch.float64)
    zero["h.0.attn.c_attn.weight"][:n_ctx, :n_ctx] = 10 * torch.roll(
        torch.eye(n_ctx, dtype=torch.float64), -back, 1
    )
    zero["h.0.attn.c_attn.weight"][:n_ctx, 2 * n_ctx : 3 * n_ctx] = 10 * torch.eye(
        n_ctx, dtype=torch.float64
    )
    return GPT2(build(config, zero))


@pytest.mark.parametrize(
    ("back", "score"), [(1, heads.previous), (8, heads.duplicate), (7, heads.induction)]
)
def test_a_head_that_looks_back_by_so_much_has_that_score_and_no_other(back, score):
    model = pointer(back)
    for other in (heads.previous, heads.duplicate, heads.induction):
        found = float(other(model, n=8, batch=2)[0, 0])
        # Where it would look at what lies before the prompt it sees all alike; only `previous`
        # reads such places.
        blind = sum(1 / (t + 1) for t in range(1, back)) / 15 if other is heads.previous else 0
        assert abs(found - (1 if other is score else blind)) < 0.001, other.__name__


def test_a_head_that_looks_everywhere_alike_has_the_scores_of_chance():
    model = pointer(1)
    second = sum(1 / (t + 1) for t in range(8, 16)) / 8
    assert (
        abs(float(heads.previous(model, n=8)[0, 1]) - sum(1 / (t + 1) for t in range(1, 16)) / 15)
        < 1e-12
    )
    assert abs(float(heads.duplicate(model, n=8)[0, 1]) - second) < 1e-12
    assert abs(float(heads.induction(model, n=8)[0, 1]) - second) < 1e-12


def test_attention_and_scores_between_named_positions_of_prompts_of_different_lengths():
    tokens = torch.randint(0, 50, (3, 9), generator=torch.Generator().manual_seed(1))
    model = tiny(dtype=torch.float64)
    trace = model.run(
        Batch(
            tokens,
            torch.tensor([9, 6, 8]),
            {"END": torch.tensor([8, 5, 7]), "IO": torch.tensor([2, 3, 0])},
        )
    )
    weights, scores = heads.attention(trace, "END", "IO"), heads.scores(trace, "END", "IO")
    for i, (end, io) in enumerate([(8, 2), (5, 3), (7, 0)]):
        alone = model.run(tokens[i : i + 1, : end + 1])
        for layer in range(2):
            for head in range(2):
                assert (
                    abs(
                        float(
                            weights[layer, head, i] - alone[f"a{layer}.{head}.pattern"][0, end, io]
                        )
                    )
                    < 1e-12
                )
                q, k = alone[f"a{layer}.{head}.q"][0, end], alone[f"a{layer}.{head}.k"][0, io]
                assert abs(float(scores[layer, head, i]) - float(q @ k) / 2) < 1e-12
    whole = torch.stack([heads.scores(trace, "END", key) for key in range(6)], -1)[:, :, 1]
    assert torch.allclose(whole.softmax(-1)[..., 3], weights[:, :, 1], atol=1e-12)
    assert not torch.allclose(heads.attention(trace, "IO", "IO"), weights)


def test_what_heads_write_towards_tokens_sums_to_the_layers_write():
    trace = tiny(dtype=torch.float64).run(torch.tensor([[1, 2, 3], [4, 5, 6]]))
    ids = torch.tensor([7, 9])
    found = heads.written(trace, -1, ids)
    assert abs(float(found[1, 0, 1] - trace["a1.0@-1"][1] @ trace.params.unembed[9])) < 1e-12
    whole = ((trace["a1@-1"] - trace["a1.b@-1"]) * trace.params.unembed[ids]).sum(-1)
    assert torch.allclose(found[1].sum(0), whole, atol=1e-12)


# --- the OV circuit and composition, by the definition, in NumPy ----------------------------------


def ov_ranks(
    model: GPT2, tokens: torch.Tensor, at: int, layer: int, head: int, sign: int
) -> list[int]:
    """How many tokens a head's OV circuit puts before the token at `at`, in each prompt."""
    p = {name: x.numpy() for name, x in tensors(model.params).items()}
    eps, d, h = model.config.eps, model.config.d_model, model.config.d_head

    def norm(x, name):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * p[
            f"{name}.weight"
        ] + p[f"{name}.bias"]

    own = slice(2 * d + head * h, 2 * d + (head + 1) * h)
    x = norm(model.run(tokens)["resid1"][:, at].numpy(), f"h.{layer}.ln_1")
    z = x @ p[f"h.{layer}.attn.c_attn.weight"][:, own] + p[f"h.{layer}.attn.c_attn.bias"][own]
    logits = (
        norm(sign * z @ p[f"h.{layer}.attn.c_proj.weight"][head * h : (head + 1) * h], "ln_f")
        @ p["wte.weight"].T
    )
    return [
        int((row > row[token]).sum())
        for row, token in zip(logits, tokens[:, at].tolist(), strict=True)
    ]


@pytest.mark.parametrize("sign", [1, -1])
def test_copy_scores_are_those_of_the_definition(sign):
    model = tiny(dtype=torch.float64)
    tokens = torch.randint(0, 50, (30, 4), generator=torch.Generator().manual_seed(3))
    found = heads.copying(model.run(tokens), 2, top=15, sign=sign)
    by_hand = torch.tensor(
        [
            [
                np.mean([rank < 15 for rank in ov_ranks(model, tokens, 2, layer, head, sign)])
                for head in range(2)
            ]
            for layer in range(2)
        ]
    )
    assert torch.equal(found, by_hand)
    assert bool(((found > 0) & (found < 1)).any())
    assert not torch.equal(found, heads.copying(model.run(tokens), 2, top=15, sign=-sign))
    assert not torch.equal(found, heads.copying(model.run(tokens), 1, top=15, sign=sign))


def matrices(model: GPT2, layer: int, head: int) -> tuple[np.ndarray, np.ndarray]:
    """W_QK and W_OV, whole, rows as inputs, read through LayerNorm's centring and weights."""
    p = {name: x.numpy() for name, x in tensors(model.params).items()}
    d, h = model.config.d_model, model.config.d_head
    seen = (np.eye(d) - 1 / d) @ np.diag(p[f"h.{layer}.ln_1.weight"])
    q, k, v = (
        seen @ p[f"h.{layer}.attn.c_attn.weight"][:, i * d + head * h : i * d + (head + 1) * h]
        for i in range(3)
    )
    return q @ k.T, v @ p[f"h.{layer}.attn.c_proj.weight"][head * h : (head + 1) * h]


@pytest.mark.parametrize("kind", ["q", "k", "v"])
def test_composition_is_the_ratio_of_norms(kind):
    model = tiny(n_layer=3, n_head=2, d_model=12, dtype=torch.float64)
    found = heads.composition(model.params, kind)
    for writer in range(3):
        for reader in range(3):
            for w in range(2):
                for r in range(2):
                    _, out = matrices(model, writer, w)
                    qk, ov = matrices(model, reader, r)
                    read = {"q": qk, "k": qk.T, "v": ov}[kind]
                    by_hand = np.linalg.norm(out @ read) / (
                        np.linalg.norm(out) * np.linalg.norm(read)
                    )
                    if writer < reader:
                        assert abs(float(found[writer, w, reader, r]) - by_hand) < 1e-12
                    else:
                        assert bool(found[writer, w, reader, r].isnan())


def test_twin_the_three_compositions_differ_and_another_kind_is_refused():
    model = tiny(n_layer=2, dtype=torch.float64)
    q, k, v = (heads.composition(model.params, kind)[0, :, 1] for kind in "qkv")
    assert min(float((a - b).abs().max()) for a, b in ((q, k), (k, v), (q, v))) > 1e-3
    with pytest.raises(MiniGPTError, match="composition 'o'"):
        heads.composition(model.params, "o")


def test_composition_sees_through_which_weights_a_head_reads():
    model = tiny(n_layer=2, dtype=torch.float64)
    given = {name: x.clone() for name, x in tensors(model.params).items()}
    given["h.1.ln_1.weight"] *= 3  # a scale of all is no difference
    assert torch.allclose(
        heads.composition(build(model.config, given), "k")[0, :, 1],
        heads.composition(model.params, "k")[0, :, 1],
        atol=1e-12,
    )
    given["h.1.ln_1.weight"][0] *= 3
    assert not torch.allclose(
        heads.composition(build(model.config, given), "k")[0, :, 1],
        heads.composition(model.params, "k")[0, :, 1],
        atol=1e-3,
    )
