"""A trace: its parts sum to the whole, agree with the arithmetic done by hand, and can be read
wherever a prompt has a token."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from minigpt import GPT2, Address, Batch, Config, Patch, Site, Trace
from minigpt.address import GRAMMAR, LATENT, heads, nodes, streams
from minigpt.errors import AddressError, PositionError
from tests.conftest import examples, tiny

LENGTHS = (7, 3, 12, 1)
TYPES = [torch.float32, torch.float64]


def prompts(
    n_vocab: int = 50, lengths: Iterable[int] = LENGTHS, seed: int = 0, **positions: list[int]
) -> Batch:
    lengths = torch.tensor(list(lengths))
    tokens = torch.randint(
        0,
        n_vocab,
        (len(lengths), int(lengths.max())),
        generator=torch.Generator().manual_seed(seed),
    )
    tokens[torch.arange(tokens.shape[1]) >= lengths[:, None]] = 0
    return Batch(tokens, lengths, {name: torch.tensor(where) for name, where in positions.items()})


@pytest.fixture(scope="module", params=TYPES, ids=str)
def trace(request: pytest.FixtureRequest) -> Trace:
    """A ragged batch through two layers."""
    return tiny(dtype=request.param).run(prompts())


# --- the parts sum to the whole -------------------------------------------------------------------


def rounding(whole: Tensor, parts: list[Tensor], sizes: list[Tensor], terms: int) -> float:
    """|whole - sum(parts)| over its bound: twice n u / (1 - n u) times the sum of the sizes of the
    n terms, whatever their order.

    So 1 is the most that rounding can do when both sides are sums of the same n products (Higham,
    section 3.1).
    """
    n = terms * torch.finfo(whole.dtype).eps / 2
    bound = 2 * n / (1 - n) * torch.stack(sizes).sum(0)
    return float(((whole - torch.stack(parts).sum(0)).abs() / bound).nan_to_num().max())


def size(trace: Trace, site: Site) -> Tensor:
    """The sum of the sizes of the products that make up a write."""
    if site.kind != "attn":
        return trace[str(site)].abs()
    d = trace.config.d_head
    return (
        trace[f"{site}.z"].abs()
        @ trace.params.blocks[site.layer].w_o[site.part * d : (site.part + 1) * d].abs()
    )


def closure(trace: Trace, whole: str, parts: Iterable[Site]) -> float:
    """How far the parts are from the whole, as a part of what rounding allows."""
    parts, c = list(parts), trace.config
    terms = sum(c.d_head if part.kind == "attn" else 1 for part in parts) + len(parts)
    return rounding(
        trace[whole],
        [trace[str(part)] for part in parts],
        [size(trace, part) for part in parts],
        terms,
    )


def before(config: Config, point: Site) -> list[Site]:
    return [node for node in nodes(config, neurons=True) if node.stage < point.stage]


def of_layer(config: Config, whole: str) -> list[Site]:
    return [
        node for node in nodes(config, neurons=True) if (str(node) + ".").startswith(whole + ".")
    ]


def test_the_writes_before_a_stream_point_sum_to_it(trace: Trace) -> None:
    for point in streams(trace.config):
        assert closure(trace, str(point), before(trace.config, point)) <= 1


def test_in_float64_the_sums_agree_to_ten_digits(model: GPT2) -> None:
    trace = model.run(prompts())
    for point in streams(trace.config):
        total = torch.stack([trace[str(node)] for node in before(trace.config, point)]).sum(0)
        torch.testing.assert_close(total, trace[str(point)], rtol=1e-10, atol=1e-10, equal_nan=True)


@pytest.mark.parametrize("whole", ["a0", "a1", "m0", "m1"])
def test_a_layers_parts_and_its_bias_sum_to_its_write(trace: Trace, whole: str) -> None:
    parts = of_layer(trace.config, whole)
    assert len(parts) == (2 if whole[0] == "a" else 16) + 1
    assert closure(trace, whole, parts) <= 1


def test_token_and_position_embedding_are_the_first_stream_bit_for_bit(trace: Trace) -> None:
    for whole in ("input", "resid0"):
        assert torch.equal(written(trace["emb"] + trace["pos"]), written(trace[whole]))


@pytest.mark.parametrize("left_out", ["emb", "a0.1", "a1.b", "m0.n7", "m1.b"])
def test_twin_a_sum_without_one_write_is_not_the_stream(trace: Trace, left_out: str) -> None:
    assert (
        closure(
            trace,
            "resid2",
            [node for node in before(trace.config, Site("resid", 2)) if str(node) != left_out],
        )
        > 100
    )


@pytest.mark.parametrize("field", ["w_o", "b_o", "w_out", "b_out"])
def test_twin_the_sum_sees_a_changed_weight(trace: Trace, field: str) -> None:
    broken = getattr(trace.params.blocks[1], field).clone()
    broken.view(-1)[0] += 0.01
    blocks = (
        trace.params.blocks[0],
        dataclasses.replace(trace.params.blocks[1], **{field: broken}),
    )
    other = dataclasses.replace(trace, params=dataclasses.replace(trace.params, blocks=blocks))
    assert closure(other, "resid2", before(trace.config, Site("resid", 2))) > 100


def written(x: Tensor) -> Tensor:
    """Where prompts have tokens; NaN is no number to compare."""
    return x[~x.isnan()]


def test_what_the_output_reads_times_the_unembedding_is_the_logits(trace: Trace) -> None:
    out, unembed = trace["out"], trace.params.unembed
    n = (trace.config.d_model + 1) * torch.finfo(out.dtype).eps / 2
    bound = 2 * n / (1 - n) * (out.abs() @ unembed.abs().T)
    assert bool(((out @ unembed.T - trace.logits).abs() <= bound)[trace.batch.mask].all())
    assert bool(trace.logits[~trace.batch.mask].isnan().all())


def test_the_final_layer_norm_takes_each_write_by_itself_given_its_scale(model: GPT2) -> None:
    """So the logits are a sum over nodes: each write, centred, over the scale, times the weight,
    unembedded; and out.b."""
    trace = model.run(prompts())
    p, scale = trace.params, trace.scale("out")[..., None]
    total = trace["out.b"] @ p.unembed.T
    for node in before(trace.config, Site("resid", 2)):
        write = trace[str(node)]
        total = total + (write - write.mean(-1, keepdim=True)) / scale * p.ln_w @ p.unembed.T
    torch.testing.assert_close(total, trace.logits, rtol=1e-10, atol=1e-10, equal_nan=True)


# --- the same arithmetic by hand ------------------------------------------------------------------


def by_hand(model: GPT2, tokens: list[int]) -> dict[str, np.ndarray]:
    """One prompt through GPT-2 in NumPy, token by token and head by head, as the paper says it."""
    p, c, found = model.params, model.config, {}

    def norm(x: np.ndarray, w: Tensor, b: Tensor, port: str) -> np.ndarray:
        put("scale " + port, np.sqrt(((x - x.mean()) ** 2).mean() + c.eps))
        return (x - x.mean()) / found["scale " + port][-1] * w.numpy() + b.numpy()

    def put(name: str, row: np.ndarray) -> None:
        found.setdefault(name, []).append(row)

    x = [p.wte[token].numpy() + p.wpe[t].numpy() for t, token in enumerate(tokens)]
    for layer, block in enumerate(p.blocks):
        w, b = block.w_qkv.numpy(), block.b_qkv.numpy()
        qkv = [norm(row, block.ln1_w, block.ln1_b, f"a{layer}.q") @ w + b for row in x]
        added = [block.b_o.numpy().copy() for _ in tokens]
        for head in range(c.n_head):
            own = slice(head * c.d_head, (head + 1) * c.d_head)
            q, k, v = ([row[part * c.d_model :][own] for row in qkv] for part in range(3))
            for t in range(len(tokens)):
                e = np.exp([q[t] @ k[s] / math.sqrt(c.d_head) for s in range(t + 1)])
                pattern = e / e.sum()
                z = sum(pattern[s] * v[s] for s in range(t + 1))
                added[t] += z @ block.w_o.numpy()[own]
                values = {
                    "q": q[t],
                    "k": k[t],
                    "v": v[t],
                    "z": z,
                    "pattern": np.pad(pattern, (0, len(tokens) - t - 1)),
                }
                for name, value in values.items():
                    put(f"a{layer}.{head}.{name}", value)
                put(f"a{layer}.{head}", z @ block.w_o.numpy()[own])
        x = [row + more for row, more in zip(x, added, strict=True)]
        for t, row in enumerate(x):
            put(f"resid{layer}.mid", row)
            read = norm(row, block.ln2_w, block.ln2_b, f"m{layer}.in")
            h = read @ block.w_in.numpy() + block.b_in.numpy()
            act = h * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
            put(f"m{layer}.in", read)
            put(f"act m{layer}", act)
            put(f"m{layer}", act @ block.w_out.numpy() + block.b_out.numpy())
            x[t] = row + found[f"m{layer}"][-1]
            put(f"resid{layer + 1}", x[t])
    for row in x:
        put("out", norm(row, p.ln_w, p.ln_b, "out"))
        put("logits", found["out"][-1] @ p.unembed.numpy().T)
    return {name: np.array(value) for name, value in found.items()}


def read(trace: Trace, name: str) -> Tensor:
    what, _, address = name.rpartition(" ")
    return (
        trace.logits
        if name == "logits"
        else {"": trace.__getitem__, "act": trace.act, "scale": trace.scale}[what](address)
    )


@pytest.mark.parametrize("tied", [True, False])
def test_everything_agrees_with_the_arithmetic_done_by_hand(tied: bool) -> None:
    model, batch = tiny(n_head=4, dtype=torch.float64, tied=tied), prompts()
    trace = model.run(batch)
    for row, length in enumerate(LENGTHS):
        expected = by_hand(model, batch.tokens[row, :length].tolist())
        assert len(expected) == 2 * (4 * 6 + 5 + 2) + 3
        for name, value in expected.items():
            found = read(trace, name)[row, :length].numpy()
            found = found[:, :length] if name.endswith("pattern") else found
            np.testing.assert_allclose(
                found, value, rtol=1e-10, atol=1e-12, err_msg=f"{name} of prompt {row}"
            )


def test_twin_the_arithmetic_by_hand_sees_one_changed_weight(model: GPT2) -> None:
    tokens = prompts().tokens[:1]
    wte = model.params.wte.clone()
    wte[tokens[0, 0], 0] += 1e-6
    other = dataclasses.replace(model, params=dataclasses.replace(model.params, wte=wte))
    apart = np.abs(
        by_hand(other, tokens[0].tolist())["logits"] - model.run(tokens).logits[0].numpy()
    ).max()
    assert apart > 1e-9


def test_the_scale_is_the_standard_deviation_that_the_layer_norm_divides_by(trace: Trace) -> None:
    tolerance = 1e-5 if trace.logits.dtype == torch.float32 else 1e-12
    for port, stream in {
        "a0.q": "resid0",
        "a1.1.v": "resid1",
        "m0.in": "resid0.mid",
        "out": "resid2",
    }.items():
        expected = (trace[stream].var(-1, correction=0) + trace.config.eps).sqrt()
        torch.testing.assert_close(
            trace.scale(port), expected, rtol=tolerance, atol=0, equal_nan=True
        )


def test_attention_weights_sum_to_one_and_see_nothing_later(trace: Trace) -> None:
    for layer in range(2):
        pattern = trace[f"a{layer}.pattern"]
        for row, length in enumerate(LENGTHS):
            own = pattern[row, :, :length]
            assert bool((own >= 0).all())
            assert torch.equal(own, own.tril())
            torch.testing.assert_close(
                own.sum(-1),
                torch.ones_like(own.sum(-1)),
                rtol=0,
                atol=8 * torch.finfo(own.dtype).eps,
            )
            assert bool((own[:, 0, 0] == 1).all())


# --- reading by address ---------------------------------------------------------------------------


def sites(config: Config) -> list[Site]:
    """Every site of a model without dictionaries."""
    found = []
    for kind, (_, with_part, without) in GRAMMAR.items():
        if kind in LATENT:
            continue
        for form, parts in (
            (with_part, range(config.d_mlp if kind == "mlp" else config.n_head)),
            (without, [None]),
        ):
            layers = (
                range(config.n_layer + (kind == "resid")) if form and "{layer}" in form else [None]
            )
            key = 0 if kind == "pair" else None
            found += [Site(kind, layer, part, key) for layer in layers for part in parts if form]
    return found


def shape(site: Site, config: Config, pos: int) -> tuple[int, ...]:
    """What comes behind [batch, pos]; a layer's pattern has its heads before pos, as everywhere."""
    if site.kind in ("q", "k", "v", "z"):
        return (config.d_head,) if site.part is not None else (config.n_head, config.d_head)
    return (pos,) if site.kind == "pattern" else (config.d_model,)


def test_every_address_of_a_model_can_be_read_with_and_without_a_position(trace: Trace) -> None:
    c = trace.config
    every = sites(c)
    assert len(every) == 5 + 3 + 2 * (11 + 7 * 2 + 16)
    for site in every:
        inner, layer_pattern = shape(site, c, 12), site.kind == "pattern" and site.part is None
        assert trace[str(site)].shape == ((4, 2, 12, 12) if layer_pattern else (4, 12, *inner)), (
            site
        )
        assert (
            trace[Address((site,), -1)].shape
            == trace[Address((site,), 0)].shape
            == ((4, 2, 12) if layer_pattern else (4, *inner))
        ), site
    assert trace.act("m1").shape == (4, 12, 16)
    assert trace.act("m1@-1").shape == (4, 16)
    assert trace.act("m1.n3").shape == (4, 12)
    assert trace.act("m1.n3@-1").shape == (4,)
    assert trace.scale("a1.0.q").shape == (4, 12)
    assert trace.scale("out@-1").shape == (4,)
    assert trace.logits_at(-1).shape == (4, 50)


def by_position(trace: Trace, site: Site) -> Tensor:
    """[batch, pos, ...] of any address."""
    value = trace[str(site)]
    return value.transpose(1, 2) if site.kind == "pattern" and site.part is None else value


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@examples(10)
@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=5), data=st.data())
def test_reading_at_a_position_is_reading_everywhere_and_picking_bit_for_bit(
    dtype: torch.dtype, lengths: list[int], data: st.DataObject
) -> None:
    trace = tiny(dtype=dtype).run(prompts(lengths=lengths))
    site = data.draw(st.sampled_from(sites(trace.config)))
    at = data.draw(st.integers(-min(lengths), min(lengths) - 1))
    rows = torch.arange(len(lengths))
    where = torch.tensor([at if at >= 0 else n + at for n in lengths])
    assert torch.equal(trace[Address((site,), at)], by_position(trace, site)[rows, where])
    assert torch.equal(trace.logits_at(at), trace.logits[rows, where])
    assert torch.equal(trace.act(f"m1@{at}"), trace.act("m1")[rows, where])
    assert torch.equal(trace.act(f"m1.n3@{at}"), trace.act("m1")[rows, where, 3])
    assert torch.equal(trace.scale(f"m1.in@{at}"), trace.scale("m1.in")[rows, where])


def test_minus_one_is_each_prompts_own_last_token(trace: Trace) -> None:
    for row, length in enumerate(LENGTHS):
        assert torch.equal(trace["resid2@-1"][row], trace["resid2"][row, length - 1])
    assert not torch.equal(trace["resid2@-1"], trace["resid2"][:, -1])


def test_a_named_position_is_the_one_that_the_prompts_say() -> None:
    trace = tiny().run(prompts(S2=[4, 2, 0, 0]))
    assert torch.equal(trace["a1.0@S2"], trace["a1.0"][torch.arange(4), [4, 2, 0, 0]])
    assert torch.equal(trace.logits_at("S2"), trace.logits[torch.arange(4), [4, 2, 0, 0]])


def test_what_lies_behind_a_prompts_end_reads_as_nan_and_nothing_else_does(trace: Trace) -> None:
    for site in sites(trace.config):
        value = by_position(trace, site)
        assert bool(value[~trace.batch.mask].isnan().all()), site
        assert not bool(value[trace.batch.mask].isnan().any()), site
    assert torch.equal(trace.logits.isnan().any(-1), ~trace.batch.mask)
    assert torch.equal(trace.act("m0.n3").isnan(), ~trace.batch.mask)
    assert torch.equal(trace.scale("out").isnan(), ~trace.batch.mask)


@pytest.mark.parametrize(
    ("at", "message"),
    {
        "3": r"position @3: prompt 1 has 3 tokens\n  legal: @0 to @2, or @-1 to @-3",
        "12": r"position @12: prompt 0 has 7 tokens",
        "-2": r"position @-2: prompt 3 has 1 tokens",
        "-13": r"position @-13: prompt 0 has 7 tokens",
        "S2": (
            r"position @S2\n  legal: these names: none here: .*no named positions\n  try:   a "
            r"number such as @-1"
        ),
    }.items(),
)
def test_a_position_that_a_prompt_does_not_have_is_refused(
    trace: Trace, at: str, message: str
) -> None:
    for question in (trace.__getitem__, trace.scale):
        with pytest.raises(PositionError, match=message):
            question(f"out@{at}")
    with pytest.raises(PositionError, match=message):
        trace.act(f"m0@{at}")
    with pytest.raises(PositionError, match=message):
        trace.logits_at(at if at[0] == "S" else int(at))


def test_an_unknown_name_is_told_the_known_ones() -> None:
    trace = tiny().run(prompts(S2=[4, 2, 0, 0], END=[6, 2, 11, 0]))
    with pytest.raises(PositionError, match="position @S1\n  legal: these names: S2, END"):
        _ = trace["out@S1"]


@pytest.mark.parametrize("address", ["a0", "a0.1", "m0.b", "m0.in", "out", "resid1", "a0.z"])
def test_only_neurons_have_an_activation(trace: Trace, address: str) -> None:
    with pytest.raises(
        AddressError, match=f"'{address}' has no activation\n  legal: an MLP or a neuron"
    ):
        trace.act(address)


@pytest.mark.parametrize("address", ["a0", "a0.1", "m0", "m0.n3", "emb", "resid1", "a0.z", "out.b"])
def test_only_ports_have_a_scale(trace: Trace, address: str) -> None:
    with pytest.raises(AddressError, match=f"'{address}' has no LayerNorm\n  legal: a port"):
        trace.scale(address)


@pytest.mark.parametrize(
    ("address", "message"),
    {
        "a2.0": "layer 2 of 2",
        "a1.2": "head 2 of 2",
        "m1.n16": "neuron 16 of 16",
        "resid3": "layer 3 of 2",
        "a0.0>out": "'a0.0>out' is a path",
        "nonsense": "is no address",
    }.items(),
)
def test_what_the_model_does_not_have_is_refused(trace: Trace, address: str, message: str) -> None:
    for question in (trace.__getitem__, trace.act, trace.scale):
        with pytest.raises(AddressError, match=message):
            question(address)


def test_the_heads_of_a_layer_are_its_parts_stacked(trace: Trace) -> None:
    for site in heads(trace.config, 1):
        for inside in ("q", "k", "v", "z"):
            assert torch.equal(
                written(trace[f"{site}.{inside}"]), written(trace[f"a1.{inside}"][:, :, site.part])
            )
        assert torch.equal(
            written(trace[f"{site}.pattern"]), written(trace["a1.pattern"][:, site.part])
        )


def test_a_trace_cannot_be_changed_and_says_what_it_is(trace: Trace) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        trace.batch = prompts()
    assert repr(trace) == "Trace(4 prompts, 12 positions, 2 layers)"
    assert repr(tiny().run(torch.tensor([1, 2, 3]))) == "Trace(1 prompt, 3 positions, 2 layers)"


# ---- a trace cannot be changed


@pytest.mark.parametrize(
    "address",
    "resid0 resid1 resid1.mid resid2 a0.q a0.1.k a1.v a1.z a1.1.z emb pos a0.b m1.b out.b".split(),
)
def test_what_is_read_is_the_readers_own(address):
    model, tokens = tiny(2, 2, 16, 32), torch.arange(6)[None]
    trace = model.run(tokens)
    patched = model.rerun(trace, Patch.zero("a0.1"))
    for run in (trace, patched):
        before = run[address].clone()
        run[address].mul_(0)
        assert torch.equal(run[address], before)
    assert torch.equal(model.run(tokens)[address], trace[address])


def test_activations_and_scales_too():
    trace = tiny(2, 2, 16, 32).run(torch.arange(6)[None])
    for read in (lambda: trace.act("m1"), lambda: trace.act("m1.n3"), lambda: trace.scale("m1.in")):
        before = read().clone()
        read().mul_(0)
        assert torch.equal(read(), before)


def test_what_stands_in_the_trace_itself_refuses_to_be_changed():
    trace = tiny(2, 2, 16, 32).run(torch.arange(6)[None])
    for x in (trace.logits, trace.cells[1].resid, trace.stream(Site("resid", 1))):
        with pytest.raises(RuntimeError, match="make a clone"):
            x.mul_(0)
