"""W6: the direct effect of every head and every neuron on the logit difference, 4 prompts of 16
tokens, and how well they sum to it."""

from __future__ import annotations

from benchmarks import runner, setting
from interp import attribution
from interp.effects import Effects


def heads_then_neurons(effects: Effects) -> list[int]:
    """The rows that the peer has, in its order."""
    names = effects.addresses
    heads = [i for i, name in enumerate(names) if name[0] == "a" and not name.endswith(".b")]
    return heads + [i for i, name in enumerate(names) if ".n" in name]


def main() -> None:
    rounds = setting.rounds(5)
    with setting.setting() as place, setting.peer_of("tl2", place) as peer:
        given = setting.pairs(4, 16, [8])
        metric, inputs = setting.metric(given), setting.arrays(given)
        trace = place.model.run(given)
        effects = attribution.direct(trace, metric, neurons=True)
        closure = attribution.closure(trace, metric, effects)
        assert closure.holds, (
            f"direct effects miss the metric by {closure.gap:.2e}, more than rounding may "
            f"({closure.bound:.2e})"
        )
        gap = setting.agreement(
            effects.per_prompt[heads_then_neurons(effects)].numpy(),
            peer.run("w6_attribution", inputs)[1],
        )
        timings = runner.race(
            {
                "ours": lambda: runner.seconds(
                    lambda: attribution.direct(place.model.run(given), metric, neurons=True)
                ),
                "peer": lambda: peer.run("w6_attribution", inputs)[0],
            },
            rounds,
            warm_up=1,
        )
        runner.record(
            "W6 direct effects of every head and neuron, 4 prompts of 16",
            timings,
            peer="tl2",
            method="w6_attribution",
            rows=len(effects),
            prompts=4,
            weights=place.weights,
            gap=gap,
            ratio=timings["peer"].median / timings["ours"].median,
            closure=closure.gap,
            closure_bound=closure.bound,
        )


if __name__ == "__main__":
    main()
