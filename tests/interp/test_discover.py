"""Discovery against a model whose circuit is known because it was written by hand, and on the
embedded model; its null by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from statistics import NormalDist

import pytest
import torch

import weights
from interp import metrics, patching
from interp.circuit.ablation import Ablation
from interp.circuit.criteria import beaten, null_circuits
from interp.discover import discover
from interp.discover.null import cutoff
from interp.discover.record import Discovery
from interp.discover.roles import judge, targets
from interp.discover.search import _places
from interp.effects import Effects
from interp.tasks import Prompts, ioi
from minigpt import GPT2, build
from minigpt.errors import MiniGPTError
from minigpt.params import tensors
from tests import inducer
from tests.conftest import tiny, unchecked
from tests.inducer import EDGES, KNOWN

PAIRS = inducer.pairs()
METRIC = metrics.logit_diff(PAIRS)


@cache
def found(**how) -> Discovery:
    return discover(inducer.inducer(**how), PAIRS, METRIC)


# --- the model whose circuit is known -------------------------------------------------------------


def test_the_model_solves_its_task_everywhere_in_the_second_half():
    model, whole = inducer.inducer(), torch.cat([PAIRS.clean, PAIRS.answers], 1)
    assert inducer.solved(model, PAIRS) == 1
    assert torch.equal(model.run(PAIRS).logits[:, 11:].argmax(-1), whole[:, 12:])
    assert float(METRIC(model.run(PAIRS.corrupted)).mean()) < 0.1 * float(
        METRIC(model.run(PAIRS)).mean()
    )


def test_twin_without_its_previous_token_head_it_does_not():
    assert inducer.solved(inducer.inducer(cut=True), PAIRS) < 0.2


def test_discovery_returns_exactly_the_known_circuit():
    assert found().roles == KNOWN
    assert found().edges == EDGES
    assert found().kept == ("a0.2", "a1.3")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_other_prompts_tell_the_same(seed):
    pairs = inducer.pairs(20, seed)
    assert discover(inducer.inducer(), pairs, metrics.logit_diff(pairs)).roles == KNOWN


@pytest.mark.parametrize(
    ("previous", "unread", "mover", "faint"), [(0, 3, 1, 2), (4, 2, 0, 3), (3, 0, 4, 1)]
)
def test_the_circuit_is_found_wherever_its_heads_stand(previous, unread, mover, faint):
    discovery = found(previous=previous, unread=unread, mover=mover, faint=faint)
    assert discovery.roles == {
        "induction": (f"a1.{mover}@END",),
        "previous token": (f"a0.{previous}@B1",),
    }
    assert discovery.edges == (f"a1.{mover}>out@END", f"a0.{previous}>a1.{mover}.k@B1")


@pytest.mark.parametrize("node", [node for nodes in KNOWN.values() for node in nodes])
def test_each_head_that_is_taken_away_is_noticed(node):
    loss = float(patching.knockout(inducer.inducer(), PAIRS, METRIC, [node], "pairs").values[0])
    assert loss < -0.8 * found().total


def test_no_other_head_at_any_position_is():
    """By another prompt's write, which is as long: a mean would be shorter, and LayerNorm would
    enlarge all others'."""
    known = {node for nodes in KNOWN.values() for node in nodes}
    places = {str(int(PAIRS.positions[name][0])): name for name in PAIRS.positions}
    effects = patching.knockout(inducer.inducer(), PAIRS, METRIC, "heads@", "pairs")
    named = [
        f"{node.partition('@')[0]}@{places.get(node.partition('@')[2], '')}"
        for node in effects.addresses
    ]
    others = [
        abs(value)
        for name, value in zip(named, effects.values.tolist(), strict=True)
        if name not in known
    ]
    assert len(others) == len(named) - 2
    assert max(others) < 0.02 * found().total


def test_twin_a_threshold_of_nothing_returns_too_many():
    """The faint induction head, whose effect is real, and a hundredth of the whole."""
    many = discover(inducer.inducer(), PAIRS, METRIC, threshold=0)
    nodes = {node for nodes in many.roles.values() for node in nodes}
    assert nodes > {node for nodes in KNOWN.values() for node in nodes}
    assert "a1.0@END" in nodes


def test_twin_a_model_whose_previous_token_head_is_cut_returns_another_circuit():
    cut = found(cut=True)
    assert cut.roles != KNOWN
    assert "a0.2" not in cut.kept
    assert "induction" not in cut.roles


def test_a_head_that_looks_alike_but_is_not_read_is_left_out():
    trace = inducer.inducer().run(PAIRS)
    looks = [
        float(trace[f"a0.{head}.pattern@B1"][range(len(PAIRS)), PAIRS.positions["A1"]].mean())
        for head in (2, 4)
    ]
    assert min(looks) > 0.99
    assert "a0.4" not in found().kept


# --- the record -----------------------------------------------------------------------------------


def test_the_record_tells_what_was_found_and_by_what():
    discovery = found()
    assert [str(each) for each in discovery.maps] == [
        "out@END",
        "a1.3.q@END",
        "a1.3.k@B1",
        "a1.3.v@B1",
        "out@END without a1.3@END",
    ]
    text = repr(discovery)
    assert text.startswith("2 of 10 heads make the logit difference; 5 maps")
    assert "previous token        a0.2@B1    looks at before 1.00" in text
    assert "before 1.00" in discovery._repr_html_()
    assert "of 8.109 up (clean less corrupt)" in text
    plain = json.loads(discovery.to_json())
    assert plain["roles"] == {role: list(nodes) for role, nodes in KNOWN.items()}
    assert plain["maps"][2]["effects"]["a0.2"] == pytest.approx(
        plain["found"][1]["effects"]["a1.3.k@B1"]
    )
    assert [trace.name for trace in discovery.figure().data] == ["induction", "previous token"]
    assert len(discovery.figure().layout.annotations) == 1


def test_every_map_is_path_patching_from_all_heads_before_its_receivers():
    third = found().maps[2]
    again = patching.paths(
        inducer.inducer(), PAIRS, METRIC, [f"a0.{head}" for head in range(5)], ["a1.3.k"], "B1"
    )
    assert third.effects.addresses == again.addresses
    assert torch.equal(third.effects.per_prompt, again.per_prompt)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: discover(
                inducer.inducer(), inducer.pairs(1), metrics.logit_diff(inducer.pairs(1))
            ),
            "two pairs or more",
        ),
        (
            lambda: discover(inducer.inducer(), PAIRS, METRIC, threshold=2.0),
            "a share of the whole effect",
        ),
        (
            lambda: discover(
                inducer.inducer(),
                Prompts(PAIRS.clean, None, PAIRS.answers, PAIRS.distractors),
                METRIC,
            ),
            "no corrupt side",
        ),
        (
            lambda: discover(mini(), ragged(), metrics.logit_diff(ragged())),
            "groups=... for each prompt",
        ),
    ],
)
def test_mistakes_say_what_is_legal(call, message):
    with pytest.raises(MiniGPTError, match=message):
        unchecked(call)()


# --- what stands out ------------------------------------------------------------------------------


def effects(per_prompt: torch.Tensor) -> Effects:
    config = tiny(12, 12, 24, 4).config
    return Effects(
        "map",
        "logit difference",
        tuple(f"a{i // 12}.{i % 12}" for i in range(len(per_prompt))),
        per_prompt,
        per_prompt[0],
        config,
    )


def crowd(seed: int, heads: int = 144, prompts: int = 50) -> torch.Tensor:
    """Heads of which each has an effect of its own drawn from one normal, on prompts that add to
    it."""
    generator = torch.Generator().manual_seed(seed)
    own, noise = (
        torch.randn(heads, n, generator=generator, dtype=torch.float64) for n in (1, prompts)
    )
    return 0.1 * own + 0.01 * noise


def kept(
    given: Effects, total: float = 0.0, threshold: float = 0.0, level: float = 0.05
) -> list[int]:
    return cutoff(given, total, threshold, level).kept(given)


def test_the_cutoff_is_the_formula():
    given = effects(crowd(0))
    made, values = cutoff(given, -4.0, 0.03, 0.05), given.values.sort().values
    centre = values[71]
    deviations = (given.values - centre).abs().sort().values
    assert made.least == pytest.approx(0.12)
    assert made.centre == pytest.approx(float(centre))
    assert made.reach == pytest.approx(
        float(deviations[71]) * 1.482602 * NormalDist().inv_cdf(1 - 0.05 / 288), rel=1e-6
    )


def test_of_crowds_that_do_nothing_in_particular_few_have_anybody_who_stands_out():
    """The level is the chance of a false find in a map; the crowd's spread is an estimate, so allow
    twice that."""
    finds = sum(bool(kept(effects(crowd(seed)))) for seed in range(60))
    assert finds <= 6


def test_twin_at_a_level_near_one_most_have():
    assert sum(bool(kept(effects(crowd(seed)), level=0.99)) for seed in range(20)) >= 10


def test_heads_that_differ_from_the_crowd_are_found_though_a_third_of_all_do():
    given = crowd(0)
    given[::3] -= 2
    assert sorted(kept(effects(given))) == list(range(0, 144, 3))


def test_what_is_large_for_its_crowd_must_be_large_for_the_task_too():
    given = crowd(0)
    given[7] += 1
    assert kept(effects(given), total=10, threshold=0.05) == [7]
    assert kept(effects(given), total=10, threshold=0.2) == []


def test_the_work_of_one_prompt_is_none():
    given = crowd(0)
    given[7], given[8] = 0, 0
    given[7, 3], given[8] = 100, 2
    assert kept(effects(given)) == [8]


def test_where_nothing_has_an_effect_nothing_stands_out():
    assert kept(effects(torch.zeros(8, 5, dtype=torch.float64))) == []


# --- classes --------------------------------------------------------------------------------------


def test_targets_are_told_from_tokens():
    pairs = Prompts([[7, 3, 5, 4, 3, 9]], None, [[5]], [[3]], {"S2": [4]})
    assert {
        name: mask[0].nonzero().flatten().tolist() for name, mask in targets(pairs, "S2").items()
    } == {
        "after the same": [2],
        "the same": [1],
        "before": [3],
        "answer": [2],
        "distractor": [1, 4],
    }
    assert targets(pairs, "END")["distractor"][0].nonzero().flatten().tolist() == [1, 4]
    assert not bool(targets(pairs, "END")["the same"].any())


@cache
def mini() -> GPT2:
    return weights.load("ioi-mini")


def ragged() -> Prompts:
    return Prompts([[5, 6, 7], [5, 6, 7, 8]], [[4, 6, 7], [4, 6, 7, 8]], [5, 5], [4, 4])


@cache
def names(n: int = 40, seed: int = 0) -> Prompts:
    return ioi.prompts(mini().tokenizer, n, seed)


def turned(head: str) -> GPT2:
    """The embedded model with one head's writes turned round."""
    layer, part = map(int, head.removeprefix("a").split("."))
    given = {name: x.clone() for name, x in tensors(mini().params).items()}
    width = mini().config.d_head
    given[f"h.{layer}.attn.c_proj.weight"][part * width : (part + 1) * width] *= -1
    return replace(mini(), params=build(mini().config, given))


def test_a_mover_whose_writes_are_turned_round_is_a_negative_one():
    assert judge(mini(), names(), "END").role("a3.4@END") == "name mover"
    assert judge(turned("a3.4"), names(), "END").role("a3.4@END") == "negative name mover"


def test_who_looks_at_the_distractor_inhibits_only_through_movers():
    judged = judge(mini(), names(), "END")
    assert judged.role("a0.6@END") == "unclassed"
    assert judged.role("a0.6@END", through_movers=True) == "S-inhibition"


@pytest.mark.slow
def test_knocked_out_movers_uncover_backups():
    """Fig. 15: a head that does nothing for the logits until the movers are gone. It is path
    patching in the run without them."""
    discovery = embedded()
    last = discovery.maps[-1]
    assert last.knocked == ("a2.6@END", "a3.4@END")
    assert discovery.roles["backup name mover"]
    silenced = Ablation(mini(), names(), metrics.logit_diff(names())).knocked(last.knocked)
    backup = discovery.roles["backup name mover"][0].removesuffix("@END")
    after = patching.paths(
        mini(), names(), metrics.logit_diff(names()), [backup], standing=silenced
    )
    before = patching.paths(mini(), names(), metrics.logit_diff(names()), [backup])
    assert float(after.values[0]) == pytest.approx(last.effects[backup])
    assert (
        abs(float(before.values[0])) < discovery.maps[0].cutoff.reach < abs(float(after.values[0]))
    )


# --- the embedded model ---------------------------------------------------------------------------


@cache
def embedded() -> Discovery:
    return discover(mini(), names(), metrics.logit_diff(names()))


@pytest.mark.slow
def test_the_embedded_models_circuit_does_the_task_on_prompts_that_it_was_not_found_on():
    assert len(embedded().kept) <= 16
    held_out = names(200, 1)
    circuit, on = embedded().circuit, Ablation(mini(), held_out, metrics.logit_diff(held_out))
    made = circuit.faithfulness(mini(), held_out, metrics.logit_diff(held_out))
    share, _ = beaten(on, made.gap, null_circuits(mini().config, circuit.nodes, 40))
    print(
        f"{len(circuit.nodes)} nodes, {made}; more faithful than {share:.0%} of 40 layer-matched "
        "ones"
    )
    assert made.gap < 0.15 * float(made.model.mean())
    assert share > 0.95


@pytest.mark.slow
def test_the_classes_are_where_the_paper_has_them():
    roles = embedded().roles
    judged = judge(mini(), names(), "END")
    assert set(roles["name mover"]) == {"a2.6@END", "a3.4@END"}
    assert {node.partition("@")[2] for node in roles["S-inhibition"]} == {"END"}
    assert min(judged.scores(node).places["IO"] for node in roles["name mover"]) > 0.5
    assert min(judged.scores(node).attention["distractor"] for node in roles["S-inhibition"]) > 0.5


# --- positions ------------------------------------------------------------------------------------


def test_positions_are_named_then_stepped_then_numbered_each_once():
    aligned = Prompts(torch.zeros(2, 6), None, [0, 0], positions={"S2": [3, 3], "S1": [1, 1]})
    assert [place for place, *_ in _places(aligned)] == ["END", "S2", "S1", "END-1", "S2-1", "S1-1"]
    ragged = Prompts([[0] * 6, [0] * 7], None, [0, 0], positions={"S2": [3, 4]})
    assert [place for place, *_ in _places(ragged)] == ["END", "S2", "END-1", "S2-1"]
    bare = Prompts(torch.zeros(2, 5), None, [0, 0])
    assert [place for place, *_ in _places(bare)] == ["END", "END-1", 0, 1, 2]


def test_positions_without_names_are_followed_by_number():
    bare = Prompts(PAIRS.clean, PAIRS.corrupt, PAIRS.answers, PAIRS.distractors)
    discovery = discover(inducer.inducer(), bare, METRIC)
    assert discovery.roles == {"induction": ("a1.3@END",), "previous token": ("a0.2@10",)}
