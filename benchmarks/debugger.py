"""The debugger's waits on full-size GPT-2, prompts of 20 and of 200 tokens: the first table, an
intervention and its undoing, a step upstream, every head's total effect, the first page by total
effect.

A wait ends when the JSON is there that a page would show. Each round asks a session that has seen
nothing, as a first visitor does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from benchmarks import runner, setting
from interp.debugger import export, nodes, order, totals
from interp.debugger.both import Both
from interp.debugger.question import Question
from interp.debugger.session import Session
from minigpt import GPT2
from minigpt.address import heads

SENTENCE = "Today, when Mary and John went to the store, John decided to give a bottle of milk to"
# By the tokens of the prompt: seconds that a person may have to wait.
WANTED = {
    20: {
        "first table": 2.0,
        "intervention": 1.0,
        "undo": 1.0,
        "step upstream": 1.0,
        "total effects of all heads": 20.0,
        "first page by total effect": 5.0,
    },
    200: {
        "first table": 3.0,
        "one head at one position ablated": 2.0,
        "undo": 1.0,
        "step upstream": 3.0,
        "first page by total effect": 10.0,
    },
}


def prompt(n: int) -> str:
    """So many tokens, a multiple of 20: the sentence again and again."""
    return " ".join([SENTENCE] * (n // 20))


def waits(model: GPT2, n: int) -> dict[str, Callable[[], float]]:
    """What is timed, by name."""
    asked = Question(model=model.name, prompt=prompt(n), answers=(" Mary",), distractors=(" John",))
    changed = replace(asked, patches=("a9.6 = 0",))
    ablated = replace(asked, patches=(f"a5.1@{n // 2} = 0",))
    traced, sorted_ = replace(asked, trail=(f"a9.6.q@{n - 1}<3",)), replace(asked, sort="total")
    names = list(map(str, heads(model.config)))

    def fresh(then: Callable[[Session], object], *seen: Question) -> float:
        session = Session({model.name: model})
        for question in seen:
            show(session, question, "summary", "nodes")
        return runner.seconds(lambda: then(session))

    def table(question: Question) -> Callable[[Session], object]:
        return lambda session: show(session, question, "summary", "nodes")

    found = {
        "first table": lambda: fresh(table(asked)),
        "intervention": lambda: fresh(table(changed), asked),
        "one head at one position ablated": lambda: fresh(table(ablated), asked),
        "undo": lambda: fresh(table(asked), asked, changed),
        "step upstream": lambda: fresh(lambda session: show(session, traced, "upstream"), asked),
        "total effects of all heads": lambda: fresh(
            lambda session: list(totals.totals(session.runs(asked), names)), asked
        ),
        "first page by total effect": lambda: fresh(lambda session: page(session, sorted_), asked),
    }
    return {name: found[name] for name in WANTED[n]}


def page(session: Session, question: Question) -> str:
    """The table as soon as its first rows, k for each end, have exact total effects."""
    runs, known = session.runs(question), dict[str, Both]()
    stream = totals.totals(runs, order.first(runs).addresses)
    for some in stream:
        known |= some.effects
        if some.done >= 2 * question.k:
            break
    return export.as_json(nodes.table(runs, known))


def show(session: Session, question: Question, *results: str) -> list[str]:
    """The JSON of some results."""
    runs = session.runs(question)
    return [export.as_json(export.result(runs, name)) for name in results]


def main() -> None:
    rounds = setting.rounds(5)
    with setting.setting() as place:
        for n, wanted in WANTED.items():
            encoded = place.model.words.encode(prompt(n))
            assert len(encoded) == n, f"the prompt has {len(encoded)} tokens, not {n}"
            timings = runner.race(waits(place.model, n), rounds, warm_up=1)
            runner.record(
                f"the debugger's waits, {n} tokens",
                timings,
                wanted=wanted,
                weights=place.weights,
                kept={name: timings[name].high <= limit for name, limit in wanted.items()},
            )


if __name__ == "__main__":
    main()
