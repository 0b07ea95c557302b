"""Feature graphs: exact weights are the reference's, linear ones the gradient's of a frozen model,
and a file gives back what was saved."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from interp import features, metrics
from interp.features import exact, file, graph, influence, linear
from minigpt import Patch, Trace, parse
from minigpt.dictionary import TopK
from minigpt.errors import AddressError, PromptError
from tests.conftest import tiny
from tests.minigpt.test_dictionary import random_dictionary
from tests.patches import reference_of

PLAIN = tiny(3, 2, 16, 8, dtype=torch.float64)
TRANSCODERS = PLAIN.with_dictionaries(
    random_dictionary("m0.in", activation=TopK(5)),
    random_dictionary("m1.in"),
    random_dictionary("m2.in", skip=random_dictionary().encoder[:, :16]),
)
MIXED = PLAIN.with_dictionaries(
    random_dictionary("m0", activation=TopK(5), normalise="layer_norm", centred=True),
    random_dictionary("m2.act", 8, 8),
)
MODELS = {"transcoders": TRANSCODERS, "mixed": MIXED}
TOKENS = torch.randint(1, 50, (1, 6), generator=torch.Generator().manual_seed(1))
METRIC = metrics.logit_diff(answers=3, distractors=4)


@pytest.fixture(scope="module", params=[(name, heads) for name in MODELS for heads in (0, 5)])
def asked(request):
    name, heads = request.param
    model = MODELS[name]
    trace = model.run(TOKENS)
    return model, trace, graph.graph(model, TOKENS, METRIC, latents=8, heads=heads)


def names(found: graph.FeatureGraph, *kinds: str) -> list[str]:
    return [node.address for node in found.nodes if node.kind in kinds]


def score_by_hand(model, name: str, run) -> float:
    """A latent's score from what the reference's MLP reads."""
    address = parse(name)
    site, at = address.site, address.at
    d = model.params.dictionaries[str(site.whole)]
    x, block = torch.from_numpy(run[f"m{site.layer}.in"][0][at]), model.params.blocks[site.layer]
    if not d.reads.endswith(".in"):
        x = F.gelu(x @ block.w_in + block.b_in, approximate="tanh")
    if d.reads == d.explains:
        x = x @ block.w_out + block.b_out
    x = x.numpy()
    if d.normalise == "layer_norm":
        x = (x - x.mean()) / (x.std(ddof=1) + 1e-5)
    x = x - (d.decoder_bias.numpy() if d.centred else 0)
    return float(x @ d.encoder[:, site.part].numpy() + d.encoder_bias[site.part].numpy())


def test_an_exact_weight_is_what_the_reference_says(asked):
    model, trace, found = asked
    heads = names(found, "head")
    edges = [e for e in found.edges if e.receiver not in ("out", *heads)]
    later = [e for e in edges if parse(e.sender).site.kind != "emb"]
    for edge in (*edges[::17], *later[::5], *[e for e in found.edges if e.receiver == "out"][::3]):
        without = exact.without(trace, edge.sender, heads)
        runs = [reference_of(model, trace, p) for p in (Patch(), without)]
        if edge.receiver == "out":
            before, after = map(difference, runs)
        else:
            before, after = (score_by_hand(model, edge.receiver, run) for run in runs)
        assert edge.exact == pytest.approx(before - after, rel=1e-9, abs=1e-11), edge


def difference(run) -> float:
    return run.logits[0][-1][3] - run.logits[0][-1][4]


def test_an_edge_into_a_head_is_what_the_metric_loses_by_way_of_it(asked):
    model, trace, found = asked
    heads = names(found, "head")
    for edge in [e for e in found.edges if e.receiver in heads][::7]:
        address = parse(edge.receiver)
        earlier = [name for name in heads if parse(name).site.depth < address.site.depth]
        run = reference_of(model, trace, exact.without(trace, edge.sender, earlier))
        new = torch.from_numpy(run[str(address.site)][0][address.at])
        after = reference_of(model, trace, Patch.write(edge.receiver, new, name="new"))
        lost = difference(reference_of(model, trace, Patch())) - difference(after)
        assert edge.exact == pytest.approx(lost, rel=1e-8, abs=1e-10), edge


def test_heads_are_chosen_by_total_effect(asked):
    model, trace, found = asked
    total = {n.address: n.total for n in found.nodes if n.kind == "head"}
    every = {
        name: float((METRIC(trace) - METRIC(model.rerun(trace, Patch.zero(name))))[0])
        for name in (
            f"a{layer}.{head}@{t}" for layer in range(3) for head in (0, 1) for t in range(6)
        )
    }
    strongest = sorted(every, key=lambda name: -abs(every[name]))[: len(total)]
    assert total == pytest.approx({name: every[name] for name in strongest}, abs=1e-12)


def test_twin_with_heads_as_nodes_other_edges_do_not_pass_through_them():
    bare, with_heads = (
        graph.graph(TRANSCODERS, TOKENS, METRIC, latents=8, heads=heads) for heads in (0, 5)
    )
    ours, theirs = (
        {(e.sender, e.receiver): e for e in found.edges if e.receiver == "out"}
        for found in (bare, with_heads)
    )
    both = [ends for ends in ours.keys() & theirs.keys() if ends[0].startswith("emb")]
    assert any(abs(ours[ends].exact - theirs[ends].exact) > 1e-3 for ends in both)
    assert any(abs(ours[ends].linear - theirs[ends].linear) > 1e-3 for ends in both)


def test_every_edge_runs_forward_and_none_is_missing(asked):
    _, _, found = asked
    senders = names(found, "latent", "head", "error", "token")
    receivers = names(found, "latent", "head", "out")
    known = {(e.sender, e.receiver) for e in found.edges}
    for receiver in receivers:
        layer, to = (999, 999) if receiver == "out" else (reached(receiver), parse(receiver).at)
        for sender in senders:
            site, at = parse(sender).site, parse(sender).at
            before = at <= to and site.stage < layer
            assert ((sender, receiver) in known) <= before
    assert {e.receiver for e in found.edges} == set(receivers)


def reached(receiver: str) -> int:
    """Where a latent's MLP reads, or a head."""
    site = parse(receiver).site
    return site.stage if site.kind == "attn" else parse(f"m{site.layer}.in").site.stage


def frozen(model, trace: Trace, receivers: list[str]) -> tuple[dict[str, torch.Tensor], list]:
    """The model with patterns and LayerNorms' scales as they were, each write a leaf of its own, of
    the heads only those that are receivers; the receivers' scores and the metric. A head's is what
    it writes along what a unit of that adds to the metric."""
    params = model.params
    leaves = {"emb": params.wte[TOKENS[0]].clone().requires_grad_()}
    scores = dict.fromkeys([*receivers, "out"])
    heads = [name for name in receivers if parse(name).site.kind == "attn"]

    def norm(x, name, w, b):
        sigma = trace.scale(name)[0][:, None]
        return (x - x.mean(-1, keepdim=True)) / sigma * w + b

    x = leaves["emb"] + params.wpe[:6]
    for layer, block in enumerate(params.blocks):
        h = norm(x, f"a{layer}.v", block.ln1_w, block.ln1_b)
        v = (h @ block.w_qkv + block.b_qkv)[:, 32:].unflatten(1, (2, 8)).transpose(0, 1)
        z = trace[f"a{layer}.pattern"][0] @ v
        writes = torch.einsum("hte,hed->htd", z, block.w_o.unflatten(0, (2, 8)))
        for name in [name for name in heads if parse(name).site.layer == layer]:
            head, at = parse(name).site.part, parse(name).at
            scores[name] = writes[head, at]
            leaves[name] = trace[name][0].clone().requires_grad_()
            writes = writes.index_put((torch.tensor(head), torch.tensor(at)), leaves[name])
        x = x + writes.sum(0) + block.b_o
        read = norm(x, f"m{layer}.in", block.ln2_w, block.ln2_b)
        act = F.gelu(read @ block.w_in + block.b_in, approximate="tanh")
        for name in receivers:
            if name not in heads and parse(name).site.layer == layer:
                d = params.dictionaries[f"m{layer}"]
                seen = {".in": read, ".act": act}.get(d.reads[2:], act @ block.w_out + block.b_out)
                seen = seen[parse(name).at]
                if d.normalise == "layer_norm":
                    s = trace[f"m{layer}"][0, parse(name).at].std() + 1e-5
                    seen = (seen - seen.mean()) / s
                scores[name] = seen @ d.encoder[:, parse(name).site.part]
        leaves[f"m{layer}"] = trace[f"m{layer}"][0].clone().requires_grad_()
        x = x + leaves[f"m{layer}"]
    out = norm(x, "out", params.ln_w, params.ln_b)
    scores["out"] = (out @ params.unembed.T)[-1, 3] - (out @ params.unembed.T)[-1, 4]
    for name in heads:
        along = torch.autograd.grad(scores["out"], leaves[name], retain_graph=True)[0]
        scores[name] = scores[name] @ along
    return leaves, list(scores.values())


def test_a_linear_weight_is_the_write_times_the_gradient_of_the_frozen_model(asked):
    model, trace, found = asked
    receivers = [n.address for n in found.nodes if n.kind in ("latent", "head")]
    senders = names(found, "latent", "head", "error", "token")
    weights = linear.weights(trace, METRIC, senders, receivers)
    leaves, scores = frozen(model, trace, receivers)
    for row, number in enumerate(scores):
        grads = torch.autograd.grad(
            number, list(leaves.values()), retain_graph=True, allow_unused=True
        )
        slopes = dict(zip(leaves, grads, strict=True))
        for column, sender in enumerate(senders):
            address = parse(sender)
            g = slopes[sender if address.site.kind == "attn" else str(address.site).split(".")[0]]
            g = g if g is None or g.ndim == 1 else g[address.at]
            expected = 0.0 if g is None else float(trace[sender][0] @ g)
            assert float(weights[row, column]) == pytest.approx(expected, rel=1e-9, abs=1e-11)
    assert float(weights[-1].abs().min()) >= 0


def test_exact_and_linear_differ_and_the_largest_difference_comes_first(asked):
    _, _, found = asked
    apart = [abs(e.exact - e.linear) for e in found.disagreement]
    assert apart == sorted(apart, reverse=True)
    assert apart[0] > 1e-3
    # Straight into the output, with nothing but the final LayerNorm between, they almost agree.
    model = replace(TRANSCODERS, name="x")
    last = [
        e
        for e in graph.graph(model, TOKENS, METRIC, latents=30, heads=0).edges
        if e.receiver == "out" and e.sender.startswith("m2.l") and e.sender.endswith("@5")
    ]
    assert last
    assert all(np.sign(e.exact) == np.sign(e.linear) for e in last if abs(e.linear) > 0.05)


@pytest.mark.slow
def test_totals_choose_the_latents(asked):
    model, trace, found = asked
    assert found.measured == found.active
    total = {n.address: n.total for n in found.nodes if n.kind == "latent"}
    assert len(total) == 8
    every = {}
    for whole, d in model.params.dictionaries.items():
        for at, n in trace.act(f"{whole}.l")[0].nonzero().tolist():
            name = f"{whole}.l{n}@{at}"
            every[name] = float((METRIC(trace) - METRIC(model.rerun(trace, Patch.zero(name))))[0])
        assert d.n_latents
    strongest = sorted(every, key=lambda name: -abs(every[name]))[:8]
    assert set(total) == set(strongest)
    for name, value in total.items():
        assert value == pytest.approx(every[name], abs=1e-12)
    few = graph.graph(model, TOKENS, METRIC, latents=8, heads=0, among=10)
    assert (few.measured, few.active) == (10, len(every))


def test_replacement_and_completeness_by_the_published_formula():
    """circuit-tracer's graph.py, transcribed, on one square matrix."""
    senders = ["m0.l1@0", "m0.l2@1", "m1.l3@1", "m0.e@0", "m1.e@1", "emb@0", "emb@1"]
    receivers = [*senders[:3], "out"]
    weights = torch.randn(4, 7, generator=torch.Generator().manual_seed(0)).double()
    weights[0:2, :5] = 0
    weights[2, [2, 4]] = 0
    a = torch.zeros(8, 8, dtype=torch.float64)
    a[:3, :7], a[7, :7] = weights[:3], weights[3]
    share = a.abs() / a.abs().sum(1, keepdim=True).clamp(min=1e-10)
    logit = torch.zeros(8, dtype=torch.float64)
    logit[7] = 1
    found = logit @ torch.linalg.inv(torch.eye(8).double() - share) - logit
    said = influence.scores(senders, receivers, weights)
    assert said.replacement == pytest.approx(float(found[5:7].sum() / found[3:7].sum()))
    own, left = found + logit, 1 - share[:, 3:5].sum(1)
    assert said.completeness == pytest.approx(float((left * own).sum() / own.sum()))


def test_a_file_gives_back_the_graph_and_has_the_fields_that_others_read(asked, tmp_path):
    _, _, found = asked
    file.save(found, tmp_path / "mine.json", layers=3, answer=3)
    plain = json.loads((tmp_path / "mine.json").read_text())
    assert set(plain) == {"metadata", "qParams", "nodes", "links"}
    assert plain["metadata"]["slug"] == "mine"
    ids = [node["node_id"] for node in plain["nodes"]]
    assert len(set(ids)) == len(ids), "no id twice"
    assert {link[end] for link in plain["links"] for end in ("source", "target")} <= set(ids)
    assert f"E_{int(TOKENS[0, 2])}_2" in ids
    assert "4_3_5" in ids
    assert max(n["influence"] for n in plain["nodes"] if n["influence"]) == pytest.approx(1)
    again = file.load(tmp_path / "mine.json")
    whole = {n.address: n.address for n in found.nodes}
    whole |= {name: name.replace("@", ".e@") for name in whole if name.startswith("m1@")}
    assert {n.address for n in again.nodes} == set(whole.values())
    expected = {(whole[e.sender], e.receiver, e.exact, e.linear) for e in found.edges}
    assert {(e.sender, e.receiver, e.exact, e.linear) for e in again.edges} == expected
    assert again.tokens == found.tokens
    assert again.token_ids == found.token_ids


def test_what_is_no_graph_is_refused(tmp_path):
    for text in (
        "{",
        "[]",
        '{"metadata": {}, "nodes": [], "links": 3}',
        "[" * 100_000,
        '{"metadata": {"prompt": "", "prompt_tokens": []}, "nodes": [{}], "links": []}',
    ):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(file.GraphFileError):
            file.load(tmp_path / "x.json")
    with pytest.raises(AddressError, match=r"with_dictionaries\("):
        graph.graph(PLAIN, TOKENS, METRIC)
    with pytest.raises(PromptError, match="2 prompts"):
        graph.graph(TRANSCODERS, TOKENS.expand(2, -1), METRIC)
    assert features.__doc__


def test_an_error_and_a_latent_of_one_name_are_told_apart_as_their_writer_orders_them():
    kinds = ("cross layer transcoder", "mlp reconstruction error", "logit")
    ids = ("0_1_2", "0_1_2", "4_7_2")
    nodes = [
        {"node_id": name, "feature_type": kind, "ctx_idx": 2, "layer": layer}
        for name, kind, layer in zip(ids, kinds, ("0", "1", "4"), strict=True)
    ]
    links = [{"source": "0_1_2", "target": "4_7_2", "weight": w} for w in (0.5, -0.25)]
    metadata = {"prompt": "x", "prompt_tokens": ["a", "b", "c"]}
    found = file.from_json({"metadata": metadata, "nodes": nodes, "links": links})
    assert [node.address for node in found.nodes] == ["m0.l1@2", "m1.e@2", "out"]
    assert [(e.sender, e.linear) for e in found.edges] == [("m0.l1@2", 0.5), ("m1.e@2", -0.25)]
