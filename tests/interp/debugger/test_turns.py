"""Who waits for whom: a short request overtakes long ones, one client's take turns with others',
none waits for ever, and threads come back whatever happens."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace

import pytest

from interp.debugger import effort, export
from interp.debugger.question import Question
from interp.debugger.session import runs
from interp.debugger.workers import Busy, Own, Workers
from tests.interp.debugger.questions import ASKED, MODEL, OTHER


class Line:
    """Workers of one thread that is taken, a queue in front of it, and who is served in order."""

    def __init__(self) -> None:
        self.workers, self.served, self.gate = Workers(1), [], threading.Event()
        self.tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Line:
        self.tasks.append(asyncio.create_task(self.workers.run(self.gate.wait)))
        await asyncio.sleep(0.01)
        return self

    async def comes(self, name: str, seconds: float = 0.0, client: object = None) -> None:
        call = lambda: self.served.append(name)  # noqa: E731
        run = self.workers.run(call, seconds=seconds, client=client)
        self.tasks.append(asyncio.create_task(run))
        await asyncio.sleep(0)

    async def __aexit__(self, *_: object) -> None:
        self.gate.set()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def order(*arrivals: tuple[str, float, object]) -> list[str]:
    async def go() -> list[str]:
        async with Line() as line:
            for name, seconds, client in arrivals:
                await line.comes(name, seconds, client)
        return line.served

    return asyncio.run(go())


def test_a_short_request_overtakes_long_ones():
    heavy = [(f"heavy {i}", 5.0, "script") for i in range(12)]
    assert order(*heavy, ("light", 0.01, "page"))[0] == "light"
    assert order(*heavy, ("light", 0.01, "script"))[0] == "light"


def test_twin_without_estimates_it_waits_for_all_of_them():
    heavy = [(f"heavy {i}", 0.0, None) for i in range(12)]
    assert order(*heavy, ("light", 0.0, None))[-1] == "light"


def test_clients_take_turns():
    many = [(f"one {i}", 1.0, "one") for i in range(6)]
    few = [(f"other {i}", 1.0, "other") for i in range(2)]
    served = order(*many, *few)
    assert max(served.index(name) for name, *_ in few) <= 4
    assert [name for name in served if name.startswith("one")] == [name for name, *_ in many]


def test_a_long_request_is_not_overtaken_for_ever():
    async def go() -> list[str]:
        async with Line() as line:
            await line.comes("long", 0.2, "a")
            await asyncio.sleep(0.3)
            for i in range(5):
                await line.comes(f"short {i}", 0.01, "b")
        return line.served

    assert asyncio.run(go())[0] == "long"


def test_whoever_leaves_the_queue_is_not_served_and_keeps_no_thread():
    async def go() -> list[str]:
        async with Line() as line:
            for name in ("one", "two", "three"):
                await line.comes(name, 1.0, name)
            line.tasks[2].cancel()
            await asyncio.sleep(0)
        await line.workers.run(lambda: line.served.append("after"))
        assert line.workers.pending == 0
        return line.served

    assert asyncio.run(go()) == ["one", "three", "after"]


def test_a_thread_whose_client_has_left_is_free_when_its_call_ends():
    async def go() -> tuple[float, float]:
        workers, gate = Workers(1), threading.Event()
        gone = asyncio.create_task(workers.run(gate.wait))
        await asyncio.sleep(0.02)
        gone.cancel()
        waiting = asyncio.create_task(workers.run(time.monotonic))
        await asyncio.sleep(0.1)
        opened = time.monotonic()
        gate.set()
        return opened, await asyncio.wait_for(waiting, 5)

    opened, begun = asyncio.run(go())
    assert begun >= opened, "not beside the call that still ran"


def test_errors_give_the_thread_back_and_the_queue_is_bounded():
    async def go() -> None:
        workers = Workers(1, queue=2)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await workers.run(lambda: 1 / 0)
        gate = threading.Event()
        tasks = [asyncio.create_task(workers.run(gate.wait)) for _ in range(2)]
        await asyncio.sleep(0.01)
        with pytest.raises(Busy):
            await workers.run(lambda: None)
        gate.set()
        await asyncio.gather(*tasks)
        own = Own(workers, "page", lambda: 0.5, lambda: False)
        assert await own.run(lambda: 7) == 7
        assert [x async for x in own.stream(iter("ab"))] == ["a", "b"]

    asyncio.run(go())


@pytest.mark.parametrize("call", [lambda: 7, lambda: 1 / 0])
def test_who_waits_for_a_page_that_is_closed_is_cancelled(call):
    async def go() -> None:
        own = Own(Workers(1), "page", lambda: 0.5, lambda: True)
        with pytest.raises(asyncio.CancelledError):
            await own.run(call)

    asyncio.run(go())


def test_an_estimate_grows_with_what_is_asked():
    models = {"ioi-mini": MODEL}
    one = effort.seconds(models, ASKED, "nodes")
    assert 0 < one < 1
    longer = replace(ASKED, prompt=ASKED.prompt * 20)
    assert effort.seconds(models, longer, "nodes") > 10 * one
    assert effort.seconds(models, ASKED, "graph") > one
    assert effort.seconds(models, replace(ASKED, split=("neurons",)), "nodes") > one
    assert effort.seconds(models, Question(model="nobody"), "nodes") == 0


@pytest.mark.parametrize("name", ["totals", "graph", "pathmap"])
def test_step_by_step_the_last_is_the_whole(name):
    asked = replace(ASKED, other=OTHER, graph=("a2.6@13", "a3.4@13"))
    steps = list(export.stepwise(runs(MODEL, asked), name))
    assert steps[-1] == export.result(runs(MODEL, asked), name)
    assert export.stepwise(runs(MODEL, asked), "nodes") is None
