"""Pieces of work come out in order, the same from this process, from several and from Ray, also
where a worker is killed in the middle."""

from __future__ import annotations

import os
import sys
import time

import pytest

from interp.executor import ExecutorError, Where, each
from interp.executor.lend import BEGIN, lent
from tests.conftest import some
from tests.interp.corpus.test_collate import MODEL
from tests.interp.executor.jobs import Fails, Killed, Logits, Squares

TWO = Where(2)


def test_results_come_in_order_wherever_they_were_made():
    here = list(each(Squares(), range(20)))
    there = list(each(Squares(), range(20), TWO))
    assert [x for x, _ in here] == [x for x, _ in there] == [n**2 for n in range(20)]
    assert {who for _, who in here} == {os.getpid()}
    assert os.getpid() not in {who for _, who in there}


@pytest.mark.parametrize("where", some([Where(), TWO], 2))
def test_a_piece_may_depend_on_what_came_out_before(where):
    seen: list[int] = []

    def pieces():
        for n in range(8):
            yield n + 100 * len(seen)

    for found, _ in each(Squares(), pieces(), where):
        seen.append(found)
    begun = [round(x**0.5) // 100 for x in seen]
    assert begun == ([*range(8)] if where == Where() else [0, 0, 0, 1, 2, 3, 4, 5])


def test_a_worker_that_is_killed_changes_nothing(tmp_path):
    assert list(each(Killed(tmp_path, 4), range(9), TWO)) == [*range(1, 10)]
    assert (tmp_path / "done").exists()


@pytest.mark.slow
def test_a_piece_that_kills_every_worker_is_an_error(tmp_path):
    with pytest.raises(ExecutorError, match="workers 1"):
        list(each(Killed(tmp_path, 2, always=True), range(4), TWO))


@pytest.mark.parametrize("where", some([Where(), TWO], 2))
def test_an_error_of_the_work_is_its_own(where):
    found = each(Fails(), range(5), where)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ZeroDivisionError, match="three"):
        next(found)


def test_a_model_is_lent_with_every_bit(tmp_path):
    ids = [3, 1, 4, 1, 5]
    own = MODEL.run([ids]).logits[0, -1].tolist()
    (tmp_path / f"{BEGIN}of-one-who-was-killed").mkdir()
    with lent(MODEL, tmp_path) as of:
        assert len([*tmp_path.iterdir()]) == 1
        assert list(each(Logits(of), [ids, ids], TWO)) == [own, own]
        assert [*of.model().params.dictionaries] == ["m1"]
    assert not [*tmp_path.iterdir()]


def test_without_ray_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ExecutorError, match=r"minigpt-interp\[ray\]"):
        list(each(Squares(), range(3), Where(ray="local")))


# ---- on Ray


@pytest.fixture(scope="module")
def cluster():
    """Two machines of one processor each, as far as Ray can tell."""
    utils = pytest.importorskip("ray.cluster_utils", reason="needs ray: pip install '.[ray]'")
    import ray

    made = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.add_node(num_cpus=1)
    yield made.address
    ray.shutdown()
    made.shutdown()


@pytest.mark.slow
def test_ray_gives_the_same(cluster, tmp_path):
    there = Where(2, cluster)
    assert [x for x, _ in each(Squares(), range(12), there)] == [n**2 for n in range(12)]
    assert list(each(Killed(tmp_path, 4), range(9), there)) == [*range(1, 10)]
    with pytest.raises(ZeroDivisionError, match="three"):
        list(each(Fails(), range(5), there))
    ids = [3, 1, 4, 1, 5]
    with lent(MODEL, tmp_path) as of:
        assert list(each(Logits(of), [ids], there)) == [MODEL.run([ids]).logits[0, -1].tolist()]


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_said(monkeypatch):
    pytest.importorskip("ray", reason="needs ray: pip install '.[ray]'")
    with pytest.raises(ExecutorError, match="--ray local"):
        list(each(Squares(), range(3), Where(2, "nowhere")))


def test_where_nobody_answers_it_is_said_at_once():
    pytest.importorskip("ray")
    begun = time.monotonic()
    with pytest.raises(ExecutorError, match=r"nobody answers(.|\n)*ray start --head"):
        list(each(len, ["a"], Where(1, "127.0.0.1:1")))
    assert time.monotonic() - begun < 30
