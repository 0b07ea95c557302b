"""The debugger's waits on full-size GPT-2, a prompt of 20 tokens: the first table, an intervention,
a step upstream, every head's total effect.

A wait ends when the JSON is there that a page would show. Each round asks a session that has seen
nothing, as a first visitor does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from benchmarks import runner, setting
from interp.debugger import export, totals
from interp.debugger.question import Question
from interp.debugger.session import Session
from minigpt import GPT2
from minigpt.address import heads

PROMPT = "Today, when Mary and John went to the store, John decided to give a bottle of milk to"
# Seconds that a person may have to wait.
WANTED = {
    "first table": 2.0,
    "intervention": 1.0,
    "step upstream": 1.0,
    "total effects of all heads": 20.0,
}


def waits(model: GPT2) -> dict[str, Callable[[], float]]:
    """What is timed, by name."""
    asked = Question(model=model.name, prompt=PROMPT, answers=(" Mary",), distractors=(" John",))
    changed, traced = replace(asked, patches=("a9.6 = 0",)), replace(asked, trail=("a9.6.q@19<3",))
    names = list(map(str, heads(model.config)))

    def fresh(first: Question | None, then: Callable[[Session], object]) -> float:
        session = Session({model.name: model})
        if first is not None:
            show(session, first, "summary", "nodes")
        return runner.seconds(lambda: then(session))

    return {
        "first table": lambda: fresh(
            None, lambda session: show(session, asked, "summary", "nodes")
        ),
        "intervention": lambda: fresh(
            asked, lambda session: show(session, changed, "summary", "nodes")
        ),
        "step upstream": lambda: fresh(asked, lambda session: show(session, traced, "upstream")),
        "total effects of all heads": lambda: fresh(
            asked, lambda session: list(totals.totals(session.runs(asked), names))
        ),
    }


def show(session: Session, question: Question, *results: str) -> list[str]:
    """The JSON of some results."""
    runs = session.runs(question)
    return [export.as_json(export.result(runs, name)) for name in results]


def main() -> None:
    rounds = setting.rounds(5)
    with setting.setting() as place:
        assert place.model.tokenizer is not None
        assert len(place.model.tokenizer.encode(PROMPT)) == 20, "the prompt is to have 20 tokens"
        timings = runner.race(waits(place.model), rounds, warm_up=1)
        runner.record(
            "the debugger's waits, 20 tokens",
            timings,
            wanted=WANTED,
            weights=place.weights,
            kept={name: timings[name].high <= limit for name, limit in WANTED.items()},
        )


if __name__ == "__main__":
    main()
