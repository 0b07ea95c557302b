"""Circuits and their criteria against the reference's knock-outs, against definitions written out,
and their texts."""

from __future__ import annotations

import warnings
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp import metrics
from interp.circuit import Circuit, CircuitError, criteria
from interp.circuit.ablation import Ablation
from interp.tasks import Prompts
from minigpt import Patch
from minigpt.address import edges as every_edge
from minigpt.errors import AddressError, PatchError
from minigpt.patch.edit import Source
from tests.conftest import tiny
from tests.patches import reference_of

pytestmark = pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")
NODES = ("a0.1@S", "a1.0@END", "a1.1@END", "a2.0@END", "a2.1@S")


def model():
    return tiny(3, 2, 16, 32, dtype=torch.float64)


def pairs(ragged: bool = True) -> Prompts:
    """Eight pairs in two groups, each of one length."""
    draw = torch.Generator().manual_seed(3)
    lengths = [9, 7] * 4 if ragged else [9] * 8
    clean = [torch.randint(0, 50, (n,), generator=draw).tolist() for n in lengths]
    corrupt = [torch.randint(0, 50, (n,), generator=draw).tolist() for n in lengths]
    return Prompts(
        clean,
        corrupt,
        answers=torch.arange(8),
        distractors=torch.arange(8) + 9,
        positions={"S": torch.tensor([3, 2] * 4)},
        groups=torch.tensor([5, 2] * 4),
    )


def ablation(source: str = "mean", **more) -> Ablation:
    given = pairs()
    return Ablation(model(), given, metrics.logit_diff(given), source, **more)


def expected(on: Ablation, patch: Patch) -> np.ndarray:
    """The metric after a patch by the reference's logits."""
    run, given = reference_of(on.model, on.clean, patch), on.pairs
    rows = [logits[int(n) - 1] for logits, n in zip(run.logits, given.batch.lengths, strict=True)]
    return np.array(
        [
            row[int(a)] - row[int(b)]
            for row, a, b in zip(rows, given.answers[:, 0], given.distractors[:, 0], strict=True)
        ]
    )


def by_hand(on: Ablation) -> Patch:
    """Every head written to its mean, one write for each."""
    heads = [f"a{layer}.{head}" for layer in range(3) for head in range(2)]
    return Patch(
        tuple(
            edit
            for name in heads
            for edit in Patch.write(name, group_mean(on, name).nan_to_num(0.0)).edits
        )
    )


def group_mean(on: Ablation, name: str) -> torch.Tensor:
    """A node's mean write over the corrupt prompts of each prompt's group, position by position,
    written out."""
    run, groups = on.model.run(on.pairs.corrupted), on.pairs.groups.tolist()
    writes = run[name]
    return torch.stack(
        [
            torch.stack([writes[j] for j, other in enumerate(groups) if other == group]).mean(0)
            for group in groups
        ]
    )


@pytest.mark.parametrize("source", ["mean", "zero", "resample", "pairs"])
def test_circuits_and_knockouts_are_the_references(source):
    on = ablation(source)
    only = Patch.hold("heads", on.source, but=" ".join(NODES))
    assert np.abs(on.only([NODES])[0].numpy() - expected(on, only)).max() < 1e-10
    gone = Patch(tuple(edit for node in NODES[:3] for edit in Patch.write(node, on.source).edits))
    assert np.abs(on.without([NODES[:3]])[0].numpy() - expected(on, gone)).max() < 1e-10
    assert float((on.only([NODES]) - on.only([NODES[1:]])).abs().max()) > 1e-6, (
        "a node more makes no difference: the test sees nothing"
    )


def test_the_empty_circuit_is_every_head_at_its_groups_mean_written_by_hand():
    on = ablation()
    assert np.abs(on.only([()])[0].numpy() - expected(on, by_hand(on))).max() < 1e-10
    across = Source(
        "all", run=on.model.run(on.pairs.corrupted), mean=True, by=torch.zeros(8, dtype=torch.long)
    )
    with pytest.raises(PatchError, match="of a group"):
        on.model.rerun(on.clean, Patch.hold("heads", across))


def test_means_go_by_group_and_not_across():
    given = pairs(ragged=False)
    metric = metrics.logit_diff(given)
    grouped = Ablation(model(), given, metric).only([NODES])
    alone = Prompts(
        given.clean, given.corrupt, given.answers, given.distractors, {"S": given.positions["S"]}
    )
    assert float((Ablation(model(), alone, metric).only([NODES]) - grouped).abs().max()) > 1e-6
    again = Prompts(
        given.clean,
        given.corrupt,
        given.answers,
        given.distractors,
        {"S": given.positions["S"]},
        torch.zeros(8, dtype=torch.long),
    )
    assert torch.equal(
        Ablation(model(), again, metric).only([NODES]),
        Ablation(model(), alone, metric).only([NODES]),
    )


def test_what_is_left_of_a_circuit_is_the_smaller_circuit():
    on = ablation()
    sets = [(), NODES[:1], NODES[1:3], NODES]
    smaller = on.only([[node for node in NODES if node not in some] for some in sets])
    assert float((on.within(NODES, sets) - smaller).abs().max()) < 1e-12
    assert float((smaller[0] - smaller[1]).abs().max()) > 1e-6


def test_everything_kept_is_the_model_and_every_edge_carrying_another_run_is_that_run():
    on, everything = ablation(), [f"a{layer}.{head}" for layer in range(3) for head in range(2)]
    whole = criteria.faithfulness(on, everything)
    assert torch.equal(whole.circuit, on.full)
    assert whole.gap == 0
    assert whole.share == whole.recovered == 1
    pair = ablation("pairs")
    every = list(every_edge(pair.model.config))
    assert float((pair.edges(every, every) - pair.full).abs().max()) == 0
    assert (
        float(
            (pair.edges((), every) - pair.metric(pair.model.run(pair.pairs.corrupted))).abs().max()
        )
        < 1e-10
    )


def test_edges_of_a_circuit_are_kept_one_by_one():
    on, every = ablation("pairs"), list(every_edge(model().config))
    kept = [edge for edge in every if "a1.0" not in edge]
    cut = Patch(
        tuple(edit for edge in set(every) - set(kept) for edit in Patch.read(edge, on.source).edits)
    )
    assert np.abs(on.edges(kept, every).numpy() - expected(on, cut)).max() < 1e-10
    circuit = Circuit({"some": NODES}, kept)
    found = circuit.faithfulness(on.model, on.pairs, on.metric, "pairs", by="edges")
    assert torch.equal(found.circuit, on.edges(kept, every))


def test_more_reference_prompts_of_the_same_groups_go_into_the_means():
    given, more = pairs(), pairs()
    assert (
        float((ablation(reference=more).only([NODES]) - ablation().only([NODES])).abs().max())
        < 1e-12
    ), "the same prompts twice: the same means"
    draw = torch.Generator().manual_seed(9)
    other = Prompts(
        [torch.randint(0, 50, (9,), generator=draw).tolist() for _ in range(3)],
        None,
        torch.arange(3),
        torch.arange(3) + 5,
        groups=torch.tensor([5, 7, 5]),
    )
    with_more, without = ablation(reference=other).only([()])[0], ablation().only([()])[0]
    changed = (with_more - without).abs() > 1e-9
    assert changed.tolist() == (given.groups == 5).tolist(), "only group 5 has more prompts"
    with pytest.raises(PatchError, match="groups"):
        ablation(reference=Prompts(other.clean, None, other.answers, other.distractors))


def test_resampling_takes_another_prompt_of_the_same_group():
    on = ablation("resample")
    drawn, own = on.source.run.tokens.tolist(), on.pairs.corrupt.tolist()
    places = [own.index(row) for row in drawn]
    groups = on.pairs.groups.tolist()
    assert all(groups[i] == groups[j] and i != j for i, j in enumerate(places))
    assert sorted(places) == list(range(8))
    assert any(
        ablation("resample", seed=seed).source.run.tokens.tolist() != drawn for seed in range(1, 5)
    )
    lonely = pairs()
    alone = Prompts(
        lonely.clean[:2],
        lonely.corrupt[:2],
        lonely.answers[:2],
        lonely.distractors[:2],
        groups=torch.tensor([0, 1]),
    )
    with pytest.raises(PatchError, match="one prompt only"):
        Ablation(model(), alone, metrics.logit_diff(alone), "resample")


# --- the criteria by their definitions ------------------------------------------------------------


def test_faithfulness_says_what_it_says():
    on = ablation()
    found = criteria.faithfulness(on, NODES)
    m, c, e = (fmean(x.tolist()) for x in (on.full, on.only([NODES])[0], on.only([()])[0]))
    assert abs(found.gap - abs(m - c)) < 1e-12
    assert abs(found.share - c / m) < 1e-12
    assert abs(found.recovered - (c - e) / (m - e)) < 1e-12
    ratios = [b / a for a, b in zip(on.full.tolist(), on.only([NODES])[0].tolist(), strict=True)]
    assert abs(found.mean_of_ratios - fmean(ratios)) < 1e-12
    data = found.to_dict()
    assert data["intervals"]["circuit"][0] <= data["circuit"] <= data["intervals"]["circuit"][1]
    assert data["ratio_quartiles"] == sorted(data["ratio_quartiles"])
    assert len(data["per_prompt"]["model"]) == 8


def test_removals_take_the_same_from_both():
    on = ablation()
    found = criteria.removals(on, NODES, {"first": NODES[:2], "nothing": ()})
    assert [each.name for each in found] == ["first", "nothing"]
    assert abs(found[0].circuit - float(on.only([NODES[2:]]).mean())) < 1e-12
    assert abs(found[0].model - float(on.without([NODES[:2]]).mean())) < 1e-12
    assert abs(found[1].gap - criteria.faithfulness(on, NODES).gap) < 1e-12


def test_random_subsets_take_each_node_half_of_the_time():
    some = criteria.random_subsets(NODES, 400, seed=1)
    assert len(some) == 400
    counts = [sum(node in each for each in some.values()) for node in NODES]
    assert all(150 < count < 250 for count in counts)
    assert (
        some
        == criteria.random_subsets(NODES, 400, seed=1)
        != criteria.random_subsets(NODES, 400, seed=2)
    )


def test_the_greedy_search_finds_the_worst_set_where_it_tries_everything():
    on, three = ablation(), NODES[:3]
    worst = criteria.greedy(on, three, runs=1, steps=3, sample=3)[0]
    step = max(
        criteria.removals(on, three, {node: (node,) for node in three}), key=lambda each: each.gap
    )
    assert worst.gap >= max(step.gap, criteria.removals(on, three, {"": ()})[0].gap)
    rest = criteria.removals(
        on, three, {node: (*worst.nodes, node) for node in three if node not in worst.nodes}
    )
    assert all(each.gap <= worst.gap for each in rest), "one more node would be worse still"
    found = criteria.greedy(on, NODES, runs=4, steps=2, sample=2, best=3)
    assert [each.gap for each in found] == sorted((each.gap for each in found), reverse=True)
    assert len(found) == 3


def test_needs_are_what_a_node_changes_with_the_others_gone():
    on = ablation()
    found = criteria.needs(on, NODES, {NODES[0]: NODES[:3]})
    left = [node for node in NODES if node not in NODES[1:3]]
    assert found[0].others == NODES[1:3]
    assert abs(found[0].before - float(on.only([left]).mean())) < 1e-12
    assert abs(found[0].after - float(on.only([[n for n in left if n != NODES[0]]]).mean())) < 1e-12
    assert found[1].others == ()
    searched = criteria.searched_needs(on, {"early": NODES[:1], "late": NODES[1:]}, draws=2)
    assert [need.node for need in searched] == list(NODES)
    assert all(
        abs(new.change) >= abs(old.change) - 1e-12
        for new, old in zip(searched, criteria.needs(on, NODES, {}), strict=True)
    )


def test_null_circuits_are_as_large_as_the_circuit_layer_by_layer():
    config = tiny(3, 4, 16, 32).config
    nodes = ("a0.1@S", "a0.2@S", "a2.0@END", "a1.3")

    def layers(circuit):
        return sorted((node.split(".")[0], node.partition("@")[2]) for node in circuit)

    matched = criteria.null_circuits(config, nodes, 50)
    assert all(layers(each) == layers(nodes) and len(set(each)) == 4 for each in matched)
    free = criteria.null_circuits(config, nodes, 50, layers=False)
    assert all(len(set(each)) == 4 for each in free)
    assert any(layers(each) != layers(nodes) for each in free)
    assert len(set(matched)) > 10
    on = ablation()
    gap = criteria.faithfulness(on, NODES).gap
    share, found = criteria.beaten(on, gap, [NODES, ()])
    assert share == float(criteria.faithfulness(on, ()).gap > gap) / 2
    assert abs(float(found[0] - on.only([NODES]).mean())) < 1e-12


# --- the value ------------------------------------------------------------------------------------

circuits = st.dictionaries(
    st.text("abc ", min_size=1, max_size=8)
    .map(str.strip)
    .filter(lambda role: role and role != "edges"),
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 1), st.sampled_from(["", "@END", "@S", "@-1"])),
        min_size=1,
        max_size=4,
        unique=True,
    ),
    min_size=1,
    max_size=3,
)


@given(
    circuits,
    st.lists(st.sampled_from(list(every_edge(tiny(3, 2, 16, 32).config))), max_size=4, unique=True),
)
def test_a_circuits_text_and_json_give_it_back(roles, edges):
    used: set[str] = set()
    given_roles = {}
    for role, some in roles.items():
        nodes = [
            f"a{layer}.{head}{at}" for layer, head, at in some if f"a{layer}.{head}{at}" not in used
        ]
        used |= set(nodes)
        given_roles[role] = nodes
    circuit = Circuit({role: nodes for role, nodes in given_roles.items() if nodes}, edges)
    assert Circuit.parse(str(circuit)) == circuit
    assert Circuit.load(str(circuit)) == circuit
    assert Circuit.from_dict(circuit.to_dict()) == circuit
    assert hash(Circuit.parse(str(circuit))) == hash(circuit)


def test_eap_graphs_go_both_ways():
    config = tiny(3, 2, 16, 32).config
    circuit = Circuit(
        {"circuit": "a0.1 a2.0 m1"},
        ["a0.1>a2.0.q", "input>a0.1.v", "a2.0>out", "m1>a2.0.k", "a0.1>m1.in"],
    )
    graph = circuit.to_eap(config)
    assert len(graph["edges"]) == len(list(every_edge(config)))
    assert graph["edges"]["a0.h1->a2.h0<q>"]["in_graph"] is True
    assert graph["edges"]["a0.h1->a2.h0<k>"]["in_graph"] is False
    assert graph["nodes"]["m1"] == {"in_graph": True}
    assert graph["nodes"]["logits"] == {"in_graph": True}
    assert set(graph["cfg"]) == {"n_layers", "n_heads", "parallel_attn_mlp", "d_model"}
    back = Circuit.from_dict(graph)
    assert sorted(back.nodes) == sorted(circuit.nodes)
    assert sorted(back.edges) == sorted(circuit.edges)


def test_scores_and_the_ends_of_edges_go_both_ways_too():
    config = tiny(3, 2, 16, 32).config
    scores = {edge: float(i) - 9 for i, edge in enumerate(every_edge(config))}
    graph = Circuit({}, ["a0.1>a2.0.q", "m1>out"], scores).to_eap(config)
    assert {name for name, node in graph["nodes"].items() if node["in_graph"]} == {
        *("input", "logits", "a0.h1", "a2.h0", "m1")
    }
    back = Circuit.from_dict(graph)
    assert back.scores == scores
    assert back.edges == ("a0.1>a2.0.q", "m1>out")
    assert back.shape == (3, 2)
    assert back.without("m1").scores == scores


def test_a_graph_with_mlps_is_judged_among_them():
    asked = model(), pairs(), metrics.logit_diff(pairs())
    circuit = Circuit.from_dict(Circuit({"circuit": "a0.1 a1.0 m1"}).to_eap(asked[0].config))
    assert circuit.over == "heads mlps"
    found, wanted = (circuit.faithfulness(*asked, over=over) for over in ("", "heads mlps"))
    assert torch.equal(found.circuit, wanted.circuit)
    assert len(circuit.completeness(*asked, draws=3)) == 4
    assert len(circuit.minimality(*asked)) == 3
    with pytest.raises(PatchError, match="holds no m1"):
        circuit.faithfulness(*asked, over="heads")


def test_a_graph_of_another_shape_says_so_first():
    graph = Circuit({"circuit": "a0.1"}).to_eap(tiny(5, 2, 16, 32).config)
    with pytest.raises(CircuitError, match="5 layers and 2 heads for a model of 3 and 2"):
        Circuit.from_dict(graph).faithfulness(model(), pairs(), metrics.logit_diff(pairs()))


def test_a_part_of_a_nodes_neurons_is_refused_all_of_them_are_the_node():
    graph = Circuit({"circuit": "m1"}).to_eap(tiny(3, 2, 16, 32).config)
    graph["nodes"]["m1"]["neurons"] = [True] * 32
    assert Circuit.from_dict(graph).nodes == ("m1",)
    graph["nodes"]["m1"]["neurons"][3] = False
    with pytest.raises(CircuitError, match="m1 with 31 of its 32 neurons"):
        Circuit.from_dict(graph)


@pytest.mark.parametrize("source", ["zero", "mean"])
def test_of_the_input_only_the_token_embedding_is_taken_away(source):
    """As in EAP-IG and MIB, whose input node is that; the positions stay."""
    on = ablation(source)
    every = list(every_edge(on.model.config))
    kept = [edge for edge in every if edge != "input>a0.1.q"]
    patch = Patch.read("emb>a0.1.q", on.source)
    wanted = on.metric(on.model.rerun(on.clean, patch))
    assert torch.equal(on.edges(kept, every), wanted)


@pytest.mark.slow
def test_a_real_graph_of_mib_loads_with_its_scores():
    path = Path(__file__).parents[3] / "shared" / "real" / "mib_ioi_eap_ig.json"
    if not path.is_file():
        pytest.skip("../shared/real lies beside the repository where it is tested with real files")
    circuit = Circuit.load(path.read_text())
    assert (len(circuit.edges), len(circuit.scores), circuit.shape) == (756, 32491, (12, 12))
    assert circuit.over == "heads mlps"


def test_a_circuit_less_some_nodes():
    circuit = Circuit(
        {"early": "a0.1@S", "late": "a1.0@END a2.0@END"}, ["a0.1>a1.0.q", "a1.0>a2.0.v", "a2.0>out"]
    )
    less = circuit.without("a0.1@S")
    assert less.roles == {"late": ("a1.0@END", "a2.0@END")}
    assert less.edges == ("a1.0>a2.0.v", "a2.0>out")
    assert circuit.role("a2.0@END") == "late"
    assert circuit.nodes == ("a0.1@S", "a1.0@END", "a2.0@END")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Circuit({"a": "a0.1@S", "b": "a0.1@S"}), "two roles"),
        (lambda: Circuit({"a": "a0.1.q"}), "nodes"),
        (lambda: Circuit({"a": "a0.1"}, ["a0.1"]), "edges"),
        (lambda: Circuit.parse("name mover a0.1"), "no line"),
        (lambda: Circuit.parse("a: a0.1\na: a0.0"), "each role once"),
        (lambda: Circuit.load('{"roles": 3}'), "JSON that holds no circuit"),
        (lambda: Circuit.load('{"nodes": {}}'), "EAP-IG"),
        (lambda: Circuit({"a": "a0.1"}).role("a3.1"), "a0.1"),
        (
            lambda: Circuit({"a": "a0.1"}).faithfulness(
                model(), pairs(), metrics.logit_diff(pairs()), by="edges"
            ),
            "with 0 edges",
        ),
        (lambda: ablation("average"), "'resample'"),
        (lambda: ablation(over="all"), "heads mlps"),
    ],
)
def test_errors_say_what_was_given(make, said):
    with pytest.raises((CircuitError, PatchError), match=said):
        make()


def test_a_typo_in_a_circuit_is_refused_with_what_was_probably_meant():
    with pytest.raises(AddressError, match=r"9\.9"):
        Circuit({"name mover": "9,9@END"})
    with warnings.catch_warnings(), pytest.raises(AddressError, match=r"layers 0 to 2|layer 9"):
        Circuit({"name mover": "a9.9@END"}).faithfulness(
            model(), pairs(), metrics.logit_diff(pairs())
        )


def test_prompts_of_two_lengths_in_a_group_are_not_resampled():
    """Their tokens would stand at the other's positions."""
    long, short = torch.arange(2, 9), torch.arange(2, 8)
    asked = [long, short, long, short], None, [1, 2, 3, 4], [5, 6, 7, 8]
    pairs, grouped = Prompts(*asked), Prompts(*asked, {}, torch.zeros(4, dtype=torch.long))
    with pytest.raises(PatchError, match=r"tokens in one group"):
        Ablation(model(), grouped, metrics.logit_diff(grouped), "resample")
    by_length = Ablation(model(), pairs, metrics.logit_diff(pairs), "resample")
    assert by_length.source.run.batch.lengths.tolist() == [7, 6, 7, 6]
