"""A model made by hand whose neurons are known: run over a corpus, each is explained by the rule
that it was made for; with its numbers dealt out anew it is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiktoken
import torch

from interp.corpus.component import Component
from interp.corpus.documents import Document
from interp.corpus.make import make
from interp.corpus.measure import Settings
from interp.explain.explain import explain
from minigpt import GPT2, Config, Tokenizer, build
from minigpt.params import shapes
from tests.minigpt.oracle import F64

WORDS = [f" {a}{b}" for a in "bdgk" for b in "aeiouy"]
TOKENIZER = Tokenizer(
    tiktoken.Encoding(
        "words",
        pat_str=r" [bdgk][aeiouy]",
        mergeable_ranks={word.encode(): i for i, word in enumerate(WORDS)},
        special_tokens={},
    )
)
V, N, D = len(WORDS), 32, 256
# The stream: the token and the position, one of each; the token before; the place where the same
# token was; whether there was one.
TOKEN, PLACE, BEFORE = range(V), range(V, V + N), range(V + N, 2 * V + N)
WHERE, AGAIN = 2 * V + N, 2 * V + N + 1
# Always zero: what reads the stream reads as much less here, so that LayerNorm's mean says nothing.
EMPTY = D - 1
# LayerNorm's factor where the stream is one token and one position.
SCALE = float(torch.tensor([1.0] * 2 + [0.0] * (D - 2), dtype=F64).var(correction=0) ** -0.5)
# Thresholds are sharp; what varies is small beside the rest, so that LayerNorm's scale does not.
SHARP, SMALL = 40.0, 0.01


def known() -> GPT2:
    """m1.n0: one of three tokens. m1.n1: one token after another. m1.n2: a token that was there
    before. m1.n3: the second token."""
    config = Config(n_layer=2, n_head=2, d_model=D, d_mlp=4, n_ctx=N, n_vocab=V)
    w = {
        name: torch.ones(shape, dtype=F64)
        if ".ln_" in f".{name}" and name.endswith("weight")
        else torch.zeros(shape, dtype=F64)
        for name, shape in shapes(config).items()
    }
    w["wte.weight"][range(V), TOKEN] = 1.0
    w["wpe.weight"][range(N), PLACE] = 1.0
    _attend(w["h.0.attn.c_attn.weight"], w["h.0.attn.c_proj.weight"])
    # How far back it was, cut to nothing or one: there are two steps, a unit apart.
    into, out = w["h.0.mlp.c_fc.weight"], w["h.0.mlp.c_proj.weight"]
    for neuron, step, sign in ((0, 0.25, 1.0), (1, 0.75, -1.0)):
        into[PLACE, neuron] = SHARP * (torch.arange(N, dtype=F64) - step)
        into[WHERE, neuron] = -SHARP / SMALL
        out[neuron, AGAIN] = SMALL * sign / SHARP
    into = w["h.1.mlp.c_fc.weight"]
    into[list(PLACE), 0:4] = -SHARP * torch.tensor([0.5, 1.5, 0.5, 0.5], dtype=F64)
    into[[TOKEN[3], TOKEN[8], TOKEN[20]], 0] = SHARP
    into[[BEFORE[1], TOKEN[2]], 1] = SHARP
    into[AGAIN, 2] = 2.5 * SHARP / SMALL / SCALE
    into[PLACE[1], 3] += SHARP
    for name in ("h.0.attn.c_attn.weight", "h.0.mlp.c_fc.weight", "h.1.mlp.c_fc.weight"):
        w[name][EMPTY] -= w[name].sum(0)
    return GPT2(
        build(config, {name: x.float() for name, x in w.items()}), TOKENIZER, "known neurons"
    )


def _attend(qkv: torch.Tensor, out: torch.Tensor) -> None:
    """a0.0 looks at the token before and writes which it is; a0.1 at earlier times of the same
    token, at itself where there are none, and writes the place."""
    half = D // 2
    for place in range(1, N):
        qkv[PLACE[place], place - 1] = SHARP
    for place in range(N):
        qkv[PLACE[place], D + place] = 1.0
        qkv[PLACE[place], half + V + place] = -SHARP / 2
        qkv[PLACE[place], D + half + V + place] = 1.0
        qkv[PLACE[place], 2 * D + half] = SMALL * place / SCALE
    for token in range(V):
        qkv[TOKEN[token], half + token] = SHARP
        qkv[TOKEN[token], D + half + token] = 1.0
        qkv[TOKEN[token], 2 * D + token] = 1.0 / SCALE
        out[token, BEFORE[token]] = 1.0
    out[half, WHERE] = 1.0


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    rng = np.random.default_rng(0)
    texts = [
        Document(f"text {i}", "".join(rng.choice(WORDS, 24, p=_often()).tolist()))
        for i in range(400)
    ]
    settings = Settings(size=N, skip=0, top=30, sample=60)
    return make(known(), texts, tmp_path_factory.mktemp("known") / "s", settings, progress=False)


def _often() -> np.ndarray:
    """The pair's tokens often enough to be seen."""
    weights = np.ones(V)
    weights[[1, 2]] = 4.0
    return weights / weights.sum()


KNOWN = {
    "m1.n0": ("token", {WORDS[3], WORDS[8], WORDS[20]}),
    "m1.n1": ("pair", {WORDS[2], WORDS[1]}),
    "m1.n2": ("rule", {"a token that was there before"}),
    "m1.n3": ("rule", {"the second token"}),
}


@pytest.mark.parametrize("address", KNOWN)
def test_each_is_named_and_predicted(store, address):
    kind, words = KNOWN[address]
    found = explain(store.component(address))
    assert found.kind == kind
    assert all(word in found.sentence for word in words), found.sentence
    assert found.scores.simulation >= 0.95
    assert found.scores.simulation > found.baselines["nothing"].simulation + 0.5


@pytest.mark.parametrize("address", KNOWN)
def test_twin_with_its_numbers_dealt_out_anew_it_is_not(store, address):
    found = explain(_dealt(store.component(address)))
    assert abs(found.scores.simulation) < 0.25


def _dealt(component: Component) -> Component:
    rng = np.random.default_rng(1)
    examples = tuple(
        replace(each, acts=tuple(rng.permutation(each.acts).tolist()))
        for each in component.examples
    )
    return replace(component, examples=examples)
