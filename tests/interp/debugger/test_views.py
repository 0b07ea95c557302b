"""Attention, details, graph and path map: every number is the library's."""

from __future__ import annotations

import pytest
import torch

from interp import attribution, patching
from interp.debugger import columns as blocks
from interp.debugger.attention import attention
from interp.debugger.details import details
from interp.debugger.graph import graph, suggested
from interp.debugger.pathmap import pathmap, pathmaps
from interp.debugger.place import Place
from interp.debugger.question import QuestionError
from tests.interp.debugger.questions import (
    LONGER,
    METRIC,
    MODEL,
    OTHER,
    PAIRS,
    PROMPT,
    asked,
    exact,
)

pytestmark = pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")


def test_attention_is_the_traces_and_weighted_by_what_is_taken():
    trace, found = MODEL.run(PROMPT), attention(asked(other=OTHER), "a2.6@13")
    side = found.sides[0]
    assert torch.equal(torch.tensor(side.weights), trace["a2.6.pattern"][0])
    value = trace["a2.6.v"][0] @ MODEL.params.blocks[2].w_o[6 * 16 : 7 * 16]
    assert torch.allclose(
        torch.tensor(side.weighted), trace["a2.6.pattern"][0] * value.norm(dim=-1)
    )
    assert len(found.sides) == 2
    with pytest.raises(QuestionError, match="no pattern"):
        attention(asked(), "m2")


def test_details_promote_what_the_write_adds_to_the_logits():
    trace, found = MODEL.run(PROMPT), details(asked(), "a3.4@13").sides[0]
    write, mean = trace["a3.4@13"][0].double(), trace["resid4@13"][0].double().mean()
    assert mean.isfinite()
    logits = (
        (write - write.mean()) * MODEL.params.ln_w / trace.scale("out@13")[0]
    ) @ MODEL.params.unembed.double().T
    best = (logits - logits.mean()).topk(10)
    assert [p.token for p in found.promotes] == [
        MODEL.tokenizer.text(i) for i in best.indices.tolist()
    ]
    assert [p.effect for p in found.promotes] == pytest.approx(best.values.tolist(), rel=1e-4)
    assert found.looked[0].token == " Mary"
    assert sum(p.weight for p in found.looked) == pytest.approx(1)


def test_details_of_what_a_head_takes_from_each_key_add_up_to_its_write():
    whole = exact().left.trace.write(blocks.Site("attn", 2, 1))[0, 6]
    pieces = [parts_of("a2.1@6", key) for key in range(7)]
    assert torch.allclose(torch.stack(pieces).sum(0), whole, rtol=0, atol=1e-12)


def parts_of(address: str, key: int) -> torch.Tensor:
    trace = exact().left.trace
    return Place.parse(f"{address}<{key}", trace).wrote(trace)


def test_graph_edges_are_the_librarys():
    found = graph(
        asked(other=OTHER, instead="other", graph=("a3.4@13", "a2.6@13", "m0@9", "a0.6@9", "emb@9"))
    )
    library = dict(patching.edges(MODEL, PAIRS, METRIC, [edge.edge for edge in found.edges]))
    assert {edge.edge: edge.effect for edge in found.edges} == pytest.approx(library, abs=0)
    assert {"a2.6>a3.4.q@13", "a0.6>a2.6.k@9", "a3.4>out@13"} <= set(library)
    assert "a0.6>out@9" not in library
    direct = dict(attribution.direct(MODEL.run(PROMPT), METRIC))
    assert {v.address: v.direct for v in found.vertices}["a3.4@13"] == pytest.approx(
        direct["a3.4"], rel=1e-5
    )
    assert [v.address for v in found.vertices][-1] == "out@13"
    assert found.circuit["roles"] == {
        "embeddings": "emb@9",
        "heads": "a0.6@9 a2.6@13 a3.4@13",
        "mlps": "m0@9",
    }
    assert suggested(asked(), 2) == ("a3.4@13", "a2.6@13")


def test_the_path_map_is_the_librarys_and_comes_layer_by_layer():
    question = {"other": OTHER, "receivers": ("a3.4.q", "a2.6.q")}
    library = patching.paths(MODEL, PAIRS, METRIC, "heads", ["a3.4.q", "a2.6.q"], "END").grid()
    stages = list(pathmaps(asked(**question)))
    assert [stage.done for stage in stages] == [8, 16, 24, 32]
    assert stages[0].cells[1] == (None,) * 8
    assert torch.equal(torch.tensor(stages[-1].cells, dtype=torch.float64), library)
    assert pathmap(asked(**question)) == stages[-1]
    with pytest.raises(QuestionError, match="second prompt"):
        pathmap(asked())
    with pytest.raises(QuestionError, match="14 and 16 tokens"):
        pathmap(asked(other=LONGER))
