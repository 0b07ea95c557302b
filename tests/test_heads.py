"""Head scores against models whose heads are built by hand to do just that."""

from __future__ import annotations

import torch
from conftest import random_params, tiny

from interp import heads
from minigpt import GPT2, Config, build
from minigpt.params import tensors


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
    """One-hot embeddings; head 1.0's OV circuit is the identity times sign, head 1.1's is nothing."""
    config = Config(2, 2, 16, 16, 12, 8)
    zero = {name: torch.zeros_like(x) for name, x in tensors(random_params(config, dtype=torch.float64)).items()}
    zero["wte.weight"][:, :8] = 4 * torch.eye(8, dtype=torch.float64)
    for name in zero:
        if ".ln_" in name and name.endswith("weight") or name == "ln_f.weight":
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
