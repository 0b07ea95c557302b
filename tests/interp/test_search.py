"""Circuits as they run, and searches of them: beside patches of every edge that is cut, one by one;
the same bytes wherever they are found."""

from __future__ import annotations

import os
import signal
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from interp import metrics, patching
from interp.circuit import state as states
from interp.circuit import turns as pieces
from interp.circuit.ablation import Ablation
from interp.circuit.curve import chance, pruned, ranked
from interp.circuit.matrix import places
from interp.circuit.search import (
    acdc,
    added,
    auroc,
    blocks,
    every_edges,
    exact,
    lost,
    removed,
    steps,
)
from interp.circuit.turns import Turns
from interp.circuit.wired import Wired
from interp.executor import Where
from interp.tasks import Prompts
from minigpt import Patch
from minigpt.errors import MiniGPTError
from tests import inducer
from tests.conftest import some
from tests.interp.test_curve import EVERY, MODEL, on


def drawn(share: float, seed: int = 0) -> list[str]:
    """Some of the edges, by chance."""
    inside = torch.rand(len(EVERY), generator=torch.Generator().manual_seed(seed)) < share
    return [edge for edge, kept in zip(EVERY, inside.tolist(), strict=True) if kept]


def by_patches(given: Ablation, kept: list[str]) -> torch.Tensor:
    """The metric of a circuit where every edge that is cut is a patch of its own."""
    cut = sorted(set(EVERY) - set(kept))
    return given._metric(given.clean, [given.cut(cut) if cut else None])[0]


@pytest.mark.parametrize("source", ["pairs", "mean", "zero", "resample"])
@pytest.mark.parametrize("share", some([0.7, 0.0, 0.2, 1.0], 2))
def test_a_circuits_run_is_that_of_patches_of_all_edges_that_are_cut(source, share):
    given, kept = on(source), drawn(share)
    found = given.state(kept).metric
    assert torch.allclose(found, by_patches(given, kept), rtol=0, atol=1e-12)


@pytest.mark.parametrize("source", ["pairs", "mean"])
@pytest.mark.parametrize("share", [0.7, 0.2])
@pytest.mark.parametrize("memory", [1 << 30, 1])
def test_an_edge_that_is_turned_over_is_a_circuit_with_it_more_or_less(
    source, share, memory, monkeypatch
):
    monkeypatch.setattr(states, "MEMORY", memory)
    given, kept = on(source), drawn(share, 1)
    state, names = given.state(kept), EVERY[::7]
    assert len(state.parts) == (1 if memory > 1 else 3)
    others = [by_patches(given, [x for x in EVERY if (x in kept) != (x == e)]) for e in names]
    assert torch.allclose(state.turned(names), torch.stack(others), rtol=0, atol=1e-12)


def test_the_last_edges_are_turned_over_too():
    """Into the output, from all that write, at prompts whose first tokens are the same."""
    given, kept = on(), drawn(0.5, 2)
    names = [edge for edge in EVERY if edge.endswith(">out")]
    others = [by_patches(given, [x for x in EVERY if (x in kept) != (x == e)]) for e in names]
    assert torch.allclose(given.state(kept).turned(names), torch.stack(others), atol=1e-12)


def test_a_cut_edge_may_carry_what_its_sender_writes_in_the_whole_model():
    given = on()
    circuit = ["a1.0>out", "m1>out"]
    names = ["a0.1>a1.0.v", "m0>m1.in", "m0>out", "a1.1>out"]
    found = given.state(circuit).with_writes_of(given.whole, names)
    for edge, values in zip(names, found, strict=True):
        cut = [given.cut([x]) for x in EVERY if x not in (*circuit, edge)]
        own = Patch.read(edge, given.clean)
        after = given.metric(given.model.rerun(given.clean, Patch.all([*cut, own])))
        assert torch.allclose(values, after, atol=1e-12)
        assert not torch.equal(values, given.state(circuit).metric)


def test_metrics_of_every_position_are_read_at_every_position():
    given = on()
    far = metrics.kl(given.clean, at=None)
    again = Ablation(MODEL, given.pairs, far, "pairs", over="heads mlps")
    kept = drawn(0.6, 3)
    assert torch.allclose(again.state(kept).metric, by_patches(again, kept), atol=1e-12)
    name = kept[5]
    turned = again.state(kept).turned([name])[0]
    assert torch.allclose(turned, by_patches(again, [x for x in kept if x != name]), atol=1e-12)


def test_prompts_of_different_lengths():
    clean = [[1, 2, 3, 4, 6], [5, 6, 7], [9, 1, 5, 2]]
    corrupt = [[1, 9, 3, 4, 6], [5, 2, 7], [9, 8, 5, 2]]
    pairs = Prompts(clean, corrupt, answers=[10, 11, 12], distractors=[13, 14, 15])
    given = Ablation(MODEL, pairs, metrics.logit_diff(pairs), "pairs", over="heads mlps")
    kept = drawn(0.6, 4)
    state = given.state(kept)
    assert torch.allclose(state.metric, by_patches(given, kept), atol=1e-12)
    others = [by_patches(given, [x for x in EVERY if (x in kept) != (x == e)]) for e in EVERY[::9]]
    assert torch.allclose(state.turned(EVERY[::9]), torch.stack(others), atol=1e-12)


def test_a_single_edges_score_is_what_patching_says_with_the_other_sign():
    given = on()
    effects = patching.edges(MODEL, given.pairs, given.metric)
    with Turns(given) as turns:
        found = exact(turns).mean(1)
    expected = torch.tensor([-effects[name] for name in EVERY], dtype=torch.float64)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


def test_twin_a_change_that_a_head_does_not_hear_is_noticed(monkeypatch):
    """The comparison above fails where what is downstream of a port is forgotten."""
    monkeypatch.setattr(Wired, "_mlp", lambda self, number, change: 0 * change)
    given, kept = on(), EVERY
    found = given.state(kept).turned([kept[0]])[0]
    expected = by_patches(given, kept[1:])
    assert not torch.allclose(found, expected, atol=1e-6)


# ---- searches


def test_edges_that_are_removed_are_scored_where_they_stood():
    given = on()
    with Turns(given) as turns:
        sizes = blocks(turns, (0.05, 0.2, 0.5, 1.0))
        first = ranked(dict(zip(EVERY, exact(turns).mean(1).tolist(), strict=True)))
        found = ranked(removed(turns, sizes))
        assert set(found[: sizes[0]]) == set(first[: sizes[0]])
        left = [edge for edge in EVERY if edge in set(first[: sizes[0]])]
        base = by_patches(given, left)
        again = {
            e: float((base - by_patches(given, [x for x in left if x != e])).mean()) for e in left
        }
        assert lost(turns, left) == pytest.approx(again, abs=1e-12)
        assert set(found[: sizes[1]]) == set(ranked(lost(turns, left))[: sizes[1]])


def test_with_absolute_those_go_first_that_move_the_metric_least():
    with Turns(on()) as turns:
        size = len(EVERY) // 2
        order = ranked(removed(turns, [size], absolute=True))
        scores = dict(zip(EVERY, exact(turns).mean(1).tolist(), strict=True))
    assert set(order[:size]) == set(ranked(scores, absolute=True)[:size])


def test_steps_fall_by_a_share_and_by_one_at_least():
    with Turns(on()) as turns:
        found = steps(turns, 0.5)
        assert found[0] == len(EVERY) // 2
        assert found[-1] == 1
        assert all(a > b for a, b in pairwise(found))
        with pytest.raises(MiniGPTError, match="between 0 and 1"):
            steps(turns, 1.0)


def test_circuits_grow_from_the_output_back():
    with Turns(on()) as turns:
        order = ranked(added(turns, most=12))[:12]
        state = turns.on.state(())
        won = state.with_writes_of(turns.on.whole, [e for e in EVERY if e.endswith(">out")])
        best = [e for e in EVERY if e.endswith(">out")][int(won.mean(1).argmax())]
    assert order[0] == best
    reached = {"out"}
    for edge in order:
        sender, port = edge.split(">")
        assert port == "out" or port.rpartition(".")[0] in reached
        reached.add(sender)


def one_by_one(given: Ablation, threshold: float, *, absolute: bool) -> set[str]:
    """ACDC's loop as it is written: one run an edge."""
    kept, at = set(EVERY), places(MODEL.config)
    before = float(given.full.mean())
    for edge in sorted(EVERY, key=lambda e: (at[e][1], at[e][0]), reverse=True):
        after = float(by_patches(given, [x for x in EVERY if x in kept and x != edge]).mean())
        fall = before - after
        if (abs(fall) if absolute else fall) < threshold:
            kept.remove(edge)
            before = after
    return kept


@pytest.mark.parametrize("absolute", [False, True])
def test_acdc_is_its_loop_one_edge_at_a_time(absolute):
    given = on()
    with Turns(given) as turns:
        found = acdc(turns, 3e-3, absolute=absolute)
    kept = one_by_one(given, 3e-3, absolute=absolute)
    assert found == pruned([edge for edge in EVERY if edge in kept])
    assert len(found) < len(EVERY)


def test_with_thresholds_that_keep_all_or_nothing():
    with Turns(on()) as turns:
        assert acdc(turns, -1e9) == EVERY
        assert acdc(turns, 1e9) == []


def test_the_area_under_the_curve_of_known_edges():
    scores = {"a": 3.0, "b": -2.0, "c": 1.0, "d": 0.0}
    assert auroc(scores, ["a", "b"]) == 1.0
    assert auroc(scores, ["c", "d"]) == 0.0
    assert auroc(scores, ["a", "d"]) == 0.5
    assert auroc(dict.fromkeys("abcd", 1.0), ["a"]) == 0.5
    with pytest.raises(MiniGPTError, match="no scores of z"):
        auroc(scores, ["z"])
    with pytest.raises(MiniGPTError, match="on one side"):
        auroc(scores, "abcd")


# Of the model that is written by hand: what its two heads read and write.
TRUE = ["input>a0.2.v", "a0.2>a1.3.k", "input>a1.3.q", "input>a1.3.v", "a1.3>out"]


@pytest.mark.parametrize("source", some(["mean", "zero"], 2))
def test_on_a_model_whose_edges_are_known_every_search_finds_just_these(source):
    pairs, model = inducer.pairs(), inducer.inducer()
    given = Ablation(model, pairs, metrics.logit_diff(pairs), source, over="heads mlps")
    with Turns(given) as turns:
        names = every_edges(turns)
        scores = dict(zip(names, exact(turns).mean(1).tolist(), strict=True))
        kept = removed(turns, steps(turns, 0.3), absolute=True)
        order = ranked(added(turns, most=12))
    assert auroc(scores, TRUE) == 1.0
    assert auroc(kept, TRUE) == 1.0
    assert set(ranked(kept)[:5]) == set(TRUE)
    if source == "mean":  # from nothing at all, growing finds other ways first
        assert set(TRUE) <= set(order[:12])
    assert auroc(chance(names, 0), TRUE) < 0.9


def test_chance_is_an_order_of_all_from_a_seed():
    assert sorted(chance(EVERY, 0)) == sorted(EVERY)
    assert chance(EVERY, 0) == chance(EVERY, 0) != chance(EVERY, 1)


# ---- wherever it is done


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", 16)


@pytest.mark.slow
def test_two_processes_find_the_same_bytes(small_pieces):
    with Turns(on()) as here, Turns(on(), Where(2)) as there:
        sizes = blocks(here, (0.2, 0.5))
        assert torch.equal(exact(here), exact(there))
        assert removed(here, sizes) == removed(there, sizes)
    assert set(there.kept.apart.values()) == {0.0}


def test_what_was_interrupted_is_gone_on_with_and_nothing_done_twice(small_pieces, tmp_path):
    class Stop(Exception):
        pass

    given, done = on(), []

    def stopped(piece):
        done.append(piece)
        if len(done) == 3:
            raise Stop
        return real(piece)

    with Turns(given, folder=tmp_path) as turns:
        real, turns._done = pieces.Turn(MODEL, {}, [given]), None
        turns._done = lambda some: (("here", stopped(piece)) for piece in some)
        with pytest.raises(Stop):
            exact(turns)
    assert len(list(tmp_path.glob("*.parquet"))) == 2
    with Turns(given, folder=tmp_path) as turns:
        again = turns._done
        turns._done = lambda some: again(done.append(piece) or piece for piece in some)
        found = exact(turns)
        assert len(done) == 3 + -(-len(EVERY) // 16) - 2
    with Turns(given) as turns:
        assert torch.equal(found, exact(turns))


def test_what_is_kept_of_other_prompts_is_not_taken(small_pieces, tmp_path):
    with Turns(on(), folder=tmp_path) as turns:
        exact(turns)
    files = set(tmp_path.iterdir())
    with Turns(on("mean"), folder=tmp_path) as turns:
        exact(turns)
    assert len(set(tmp_path.iterdir())) == 2 * len(files)
    assert not list(tmp_path.glob("*.new"))


class Killed(pieces.Turn):
    """A worker that is killed once, in the middle."""

    def __call__(self, piece):
        mark = Path(self.asked_mark)
        if not mark.exists() and any("a1.0" in edge for edge in piece[1]):
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(piece)


@pytest.mark.slow
def test_a_worker_that_is_killed_changes_nothing(small_pieces, tmp_path, monkeypatch):
    monkeypatch.setattr(Killed, "asked_mark", str(tmp_path / "killed"), raising=False)
    monkeypatch.setattr(pieces, "Turn", lambda *given: killed(tmp_path, *given))
    with Turns(on(), Where(2)) as turns:
        found = exact(turns)
    monkeypatch.undo()
    with Turns(on()) as turns:
        assert torch.equal(found, exact(turns))
    assert (tmp_path / "killed").exists()


def killed(folder, *given):
    job = Killed(*given)
    job.asked_mark = str(folder / "killed")
    return job


@pytest.mark.slow
def test_a_cluster_of_two_nodes_finds_the_same_bytes(small_pieces):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with Turns(on()) as turns:
        expected = exact(turns)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        with Turns(on(), Where(2, cluster.address)) as turns:
            assert torch.equal(exact(turns), expected)
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_every_edge_is_asked_for_by_name():
    with Turns(on()) as turns:
        assert every_edges(turns) == EVERY
