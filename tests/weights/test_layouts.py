"""Names and layouts: whoever wrote a checkpoint, its parameters come back bit for bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minigpt import Config
from minigpt.params import UNEMBED, tensors
from tests.conftest import random_params, tiny
from tests.weights.tools import LAYOUTS, nanogpt_state, read_back, same
from weights import convert
from weights.errors import WeightsError

configs = st.builds(
    lambda layers, heads, wide, mlp, ctx, vocab: Config(
        layers, heads, heads * wide, mlp, ctx, vocab
    ),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 9),
)


@given(
    configs,
    st.booleans(),
    st.sampled_from(LAYOUTS),
    st.sampled_from(["", "_orig_mod.", "module.", "module._orig_mod."]),
)
def test_every_layout_comes_back_bit_for_bit(config, tied, layout, wrapper):
    params = random_params(config, tied=tied)
    given_state = {wrapper + name: x for name, x in convert.from_engine(params, layout).items()}
    assert same(read_back(given_state, config.n_head), params)


def test_the_round_trip_would_notice_a_square_map_left_as_it_was(monkeypatch):
    monkeypatch.setattr(
        convert,
        "LINEAR",
        convert.re.compile(r"h\.\d+\.(attn\.c_attn|mlp\.c_fc|mlp\.c_proj)\.weight"),
    )
    params = tiny().params
    wrong = read_back({name: x for name, x in nanogpt_state(params).items()}, 2)
    assert not same(wrong, params)
    assert wrong.config == params.config


def test_hugging_faces_buffers_and_prefix_make_no_difference():
    params = tiny().params
    state = {f"transformer.{name}": x for name, x in tensors(params).items()}
    state |= {
        "transformer.h.0.attn.bias": torch.ones(1, 1, 32, 32),
        "transformer.h.0.attn.masked_bias": torch.tensor(-1e4),
    }
    assert same(read_back(state, 2), params)
    assert same(read_back(dict(tensors(params)), 2), params)


def test_a_head_equal_to_the_embedding_is_tied_and_any_other_is_not():
    params = tiny().params
    for head in (params.wte, params.wte.clone()):
        assert read_back({**tensors(params), UNEMBED: head}, 2).tied
    other = params.wte.clone()
    other[-1, -1] += 1e-6
    assert not read_back({**tensors(params), UNEMBED: other}, 2).tied


def test_two_tensors_for_one_name_are_refused():
    state = {**tensors(tiny().params), "transformer.wte.weight": tiny().params.wte}
    with pytest.raises(WeightsError, match="two tensors for one name"):
        read_back(state, 2)
