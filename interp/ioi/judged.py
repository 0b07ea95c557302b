"""The three criteria on a circuit (section 4): faithfulness, completeness, minimality, and circuits
drawn at random."""

from __future__ import annotations

from interp.circuit import Circuit, criteria
from interp.circuit.criteria import Removal
from interp.ioi import published
from interp.ioi.lab import Lab
from interp.ioi.part import Claim, Part, Table
from interp.numerics.bootstrap import interval

MATCHED = "as many heads from each layer"
NULLS = 200
# GREEDY: runs, steps, sample of criteria.greedy.
RANDOM, GREEDY = 40, (3, 6, 6)
PAPER_RANDOM, PAPER_GREEDY = 100, (10, 10, 10)


def faithful(lab: Lab) -> Part:
    """F(C) beside F(M)."""
    found = criteria.faithfulness(lab.ablation, lab.circuit.nodes)
    ends = interval((found.model - found.circuit)[None])[0].tolist()
    rows = [
        ("the model, F(M)", f"{float(found.model.mean()):+.3f}", ""),
        ("the circuit, F(C)", f"{float(found.circuit.mean()):+.3f}", f"{found.share:.1%}"),
        (
            "no head at all",
            f"{float(found.empty.mean()):+.3f}",
            f"{float(found.empty.mean() / found.model.mean()):.1%}",
        ),
    ]
    claims = [
        Claim(
            "|F(M) - F(C)|", "section 4.1; authors' data", found.gap, published.FAITHFULNESS, 0.4644
        ),
        Claim("F(C)", "authors' data", float(found.circuit.mean()), None, 2.8381),
    ]
    return Part(
        "faithfulness",
        "Faithfulness: does the circuit alone do the task?",
        "section 4.1",
        "Every head that is not in the circuit, and every head of it at other positions than its "
        "own, is replaced by its mean over ABC prompts of "
        "the same template. MLPs always work.",
        [
            Table("", ("", ">logit difference", ">of F(M)"), rows),
            Table(
                "",
                (
                    ">|F(M) - F(C)|",
                    ">95% of F(M) - F(C)",
                    ">mean of the prompts' ratios",
                    ">recovered between no head and all",
                ),
                [
                    (
                        f"{found.gap:.3f}",
                        f"{ends[0]:+.3f} to {ends[1]:+.3f}",
                        f"{found.mean_of_ratios:.1%}",
                        f"{found.recovered:.1%}",
                    )
                ],
            ),
        ],
        claims=claims if lab.published else (),
        data=found.to_dict(),
    )


def nulls(lab: Lab) -> Part:
    """Circuits of the same size, drawn at random."""
    gap = criteria.faithfulness(lab.ablation, lab.circuit.nodes).gap
    found = {
        kind: criteria.beaten(
            lab.ablation,
            gap,
            criteria.null_circuits(
                lab.model.config, lab.circuit.nodes, NULLS, layers=layers, seed=lab.seed
            ),
        )
        for kind, layers in ((MATCHED, True), ("as many heads from anywhere", False))
    }
    rows = [
        (kind, f"{share:.1%}", f"{float(f.median()):+.3f}", f"{float(f.quantile(0.95)):+.3f}")
        for kind, (share, f) in found.items()
    ]
    return Part(
        "nulls",
        "Would any circuit of this size do?",
        "Shi et al. 2024; App. of several successors",
        f"{NULLS} circuits of as many heads at the same positions, drawn at random: how many of "
        "them are less faithful.",
        [
            Table(
                "",
                ("random circuits", ">less faithful", ">median F", ">95% of them have F below"),
                rows,
            )
        ],
        data={kind: {"beaten": share, "f": f.tolist()} for kind, (share, f) in found.items()},
    )


def complete(lab: Lab, thorough: bool = False) -> Part:
    """F(C \\ K) beside F(M \\ K)."""
    nodes = lab.circuit.nodes
    runs, steps, sample = PAPER_GREEDY if thorough else GREEDY
    classes = criteria.removals(lab.ablation, nodes, _classes(lab.circuit))
    chance = criteria.removals(
        lab.ablation,
        nodes,
        criteria.random_subsets(nodes, PAPER_RANDOM if thorough else RANDOM, lab.seed),
    )
    worst = criteria.greedy(
        lab.ablation, nodes, runs=runs, steps=steps, sample=sample, seed=lab.seed
    )
    gaps = sorted(each.gap for each in chance)
    claims = [
        claim
        for each in classes
        if each.name in published.REMOVED
        for claim in _removed(each, published.REMOVED[each.name])
    ]
    return Part(
        "completeness",
        "Completeness: is the circuit all there is?",
        "section 4.2, figures 7 and 22",
        "The same heads K are taken from the circuit and from the whole model. Where something "
        "outside of the circuit takes over, the model loses "
        "less than the circuit.",
        [
            _removals("K: a class of heads", classes),
            Table(
                "",
                ("K at random", ">mean gap", ">median", ">largest"),
                [
                    (
                        f"{len(chance)} sets",
                        f"{sum(gaps) / len(gaps):.3f}",
                        f"{gaps[len(gaps) // 2]:.3f}",
                        f"{gaps[-1]:.3f}",
                    )
                ],
            ),
            _removals(
                f"K found greedily ({runs} runs of {steps} steps, {sample} heads tried in each)",
                worst,
                heads=True,
            ),
        ],
        claims=claims if lab.published else (),
        data={
            name: [{**vars(each), "gap": each.gap} for each in some]
            for name, some in (("classes", classes), ("random", chance), ("greedy", worst))
        },
    )


def minimal(lab: Lab, thorough: bool = False) -> Part:
    """What each head does where others are gone."""
    theirs = lab.circuit == published.CIRCUIT
    found = (
        criteria.needs(lab.ablation, lab.circuit.nodes, published.OTHERS)
        if theirs
        else criteria.searched_needs(
            lab.ablation, lab.circuit.roles, draws=16 if thorough else 6, seed=lab.seed
        )
    )
    whole = float(lab.ablation.full.mean())
    rows = [
        (
            each.node,
            lab.circuit.role(each.node),
            f"{each.before:+.3f}",
            f"{each.after:+.3f}",
            f"{abs(each.change) / abs(whole):.1%}",
            " ".join(each.others) or "nothing",
        )
        for each in sorted(found, key=lambda each: -abs(each.change))
    ]
    least = min(found, key=lambda each: abs(each.change))
    claims = (
        [
            Claim(
                f"{each.node}: change",
                "figure 20",
                each.change,
                published.MINIMALITY[each.node][0] - published.MINIMALITY[each.node][1],
            )
            for each in found
        ]
        if theirs
        else []
    )
    return Part(
        "minimality",
        "Minimality: is every head of it needed?",
        "section 4.3, figure 20",
        f"For each head, the metric of the circuit without K, and without K and the head; "
        f"{'K as in the paper' if theirs else 'K the worst of several sets that were tried'}. "
        f"The least needed is {least.node}: {abs(least.change) / abs(whole):.1%} of F(M).",
        [Table("", ("head", "role", ">F(C\\K)", ">and without it", ">change, of F(M)", "K"), rows)],
        claims=claims if lab.published else (),
        data={"needs": [{**vars(each), "change": each.change} for each in found]},
    )


def _classes(circuit: Circuit) -> dict[str, tuple[str, ...]]:
    """Nothing, each role, and movers and backups together, as the authors count them."""
    roles = {role: tuple(some) for role, some in circuit.roles.items()}
    both = roles.get(published.MOVERS, ()) + roles.get(published.BACKUP, ())
    return {"nothing": (), **({"name movers and backups": both} if both else {}), **roles}


def _removals(title: str, some: list[Removal], heads: bool = False) -> Table:
    return Table(
        title,
        ("K", ">F(C\\K)", ">F(M\\K)", ">gap"),
        [
            (
                " ".join(each.nodes) if heads else each.name,
                f"{each.circuit:+.3f}",
                f"{each.model:+.3f}",
                f"{each.gap:.3f}",
            )
            for each in some
        ],
    )


def _removed(found: Removal, said: tuple[float, float]) -> list[Claim]:
    return [
        Claim(f"F(C\\K), K = {found.name}", "authors' data, N = 100", found.circuit, None, said[0]),
        Claim(f"F(M\\K), K = {found.name}", "authors' data, N = 100", found.model, None, said[1]),
    ]
