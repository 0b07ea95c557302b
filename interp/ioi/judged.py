"""The three criteria on a circuit (section 4): faithfulness, completeness, minimality, and circuits
drawn at random."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from interp.circuit import Circuit, criteria
from interp.circuit.criteria import Faithfulness, Need, Removal
from interp.ioi import published, words
from interp.ioi.lab import Lab
from interp.ioi.part import Claim, Part
from interp.numerics.bootstrap import interval
from interp.show.document import Table

MATCHED = "as many heads from each layer"
NULLS = 200
# GREEDY: runs, steps, sample of criteria.greedy.
RANDOM, GREEDY = 40, (3, 6, 6)
PAPER_RANDOM, PAPER_GREEDY = 100, (10, 10, 10)


# ---- faithfulness


def faithful(lab: Lab) -> Part:
    """F(C) beside F(M)."""
    judged = criteria.faithfulness(lab.ablation, lab.circuit.nodes)
    return replace(
        words.FAITHFULNESS,
        tables=[_means(judged), _ratios(judged)],
        claims=lab.claims(_faithful_claims(judged)),
        data=judged.to_dict(),
    )


def _means(judged: Faithfulness) -> Table:
    model, circuit, empty = (float(f.mean()) for f in (judged.model, judged.circuit, judged.empty))
    rows = [
        ("the model, F(M)", f"{model:+.3f}", ""),
        ("the circuit, F(C)", f"{circuit:+.3f}", f"{judged.share:.1%}"),
        ("no head at all", f"{empty:+.3f}", f"{empty / model:.1%}"),
    ]
    return Table("", ("", ">logit difference", ">of F(M)"), rows)


def _ratios(judged: Faithfulness) -> Table:
    low, high = interval((judged.model - judged.circuit)[None])[0].tolist()
    shown = {
        ">|F(M) - F(C)|": f"{judged.gap:.3f}",
        ">95% of F(M) - F(C)": f"{low:+.3f} to {high:+.3f}",
        ">mean of the prompts' ratios": f"{judged.mean_of_ratios:.1%}",
        ">recovered between no head and all": f"{judged.recovered:.1%}",
    }
    return Table("", tuple(shown), [tuple(shown.values())])


def _faithful_claims(judged: Faithfulness) -> Iterator[Claim]:
    yield Claim(
        "|F(M) - F(C)|",
        "section 4.1; authors' data",
        judged.gap,
        published.FAITHFULNESS,
        published.STORED_FAITHFULNESS,
    )
    stored, _ = published.REMOVED["nothing"]
    yield Claim("F(C)", "authors' data", float(judged.circuit.mean()), None, stored)


def nulls(lab: Lab) -> Part:
    """Circuits of the same size, drawn at random."""
    judged = criteria.faithfulness(lab.ablation, lab.circuit.nodes)
    kinds = {MATCHED: True, "as many heads from anywhere": False}
    beaten = {
        kind: criteria.beaten(lab.ablation, judged.gap, _drawn(lab, layers))
        for kind, layers in kinds.items()
    }
    columns = ("random circuits", ">less faithful", ">median F", ">95% of them have F below")
    rows = [
        (kind, f"{share:.1%}", f"{float(f.median()):+.3f}", f"{float(f.quantile(0.95)):+.3f}")
        for kind, (share, f) in beaten.items()
    ]
    return replace(
        words.NULLS,
        text=words.NULLS.text.format(n=NULLS),
        tables=[Table("", columns, rows)],
        data={kind: {"beaten": share, "f": f.tolist()} for kind, (share, f) in beaten.items()},
    )


def _drawn(lab: Lab, layers: bool) -> list[tuple[str, ...]]:
    return criteria.null_circuits(
        lab.model.config, lab.circuit.nodes, NULLS, layers=layers, seed=lab.seed
    )


# ---- completeness


def complete(lab: Lab, thorough: bool = False) -> Part:
    """F(C \\ K) beside F(M \\ K)."""
    classes = criteria.removals(lab.ablation, lab.circuit.nodes, _classes(lab.circuit))
    chance = _chance(lab, PAPER_RANDOM if thorough else RANDOM)
    runs, steps, sample = PAPER_GREEDY if thorough else GREEDY
    worst = _worst(lab, runs, steps, sample)
    search = f"{runs} runs of {steps} steps, {sample} heads tried in each"
    kinds = {"classes": classes, "random": chance, "greedy": worst}
    return replace(
        words.COMPLETENESS,
        tables=[
            _removals("K: a class of heads", classes),
            _spread(chance),
            _removals(f"K found greedily ({search})", worst, heads=True),
        ],
        claims=lab.claims(_class_claims(classes)),
        data={
            kind: [{**vars(removal), "gap": removal.gap} for removal in removals]
            for kind, removals in kinds.items()
        },
    )


def _classes(circuit: Circuit) -> dict[str, tuple[str, ...]]:
    """Nothing, each role, and movers and backups together, as the authors count them."""
    roles = {role: tuple(some) for role, some in circuit.roles.items()}
    both = roles.get(published.MOVERS, ()) + roles.get(published.BACKUP, ())
    return {"nothing": (), **({"name movers and backups": both} if both else {}), **roles}


def _chance(lab: Lab, n: int) -> list[Removal]:
    nodes = lab.circuit.nodes
    return criteria.removals(lab.ablation, nodes, criteria.random_subsets(nodes, n, lab.seed))


def _worst(lab: Lab, runs: int, steps: int, sample: int) -> list[Removal]:
    return criteria.greedy(
        lab.ablation, lab.circuit.nodes, runs=runs, steps=steps, sample=sample, seed=lab.seed
    )


def _removals(title: str, removals: Sequence[Removal], heads: bool = False) -> Table:
    """A row a set K; heads: K by its nodes, not by its name."""
    rows = [
        (
            " ".join(removal.nodes) if heads else removal.name,
            f"{removal.circuit:+.3f}",
            f"{removal.model:+.3f}",
            f"{removal.gap:.3f}",
        )
        for removal in removals
    ]
    return Table(title, ("K", ">F(C\\K)", ">F(M\\K)", ">gap"), rows)


def _spread(removals: Sequence[Removal]) -> Table:
    gaps = sorted(removal.gap for removal in removals)
    mean, median, largest = sum(gaps) / len(gaps), gaps[len(gaps) // 2], gaps[-1]
    row = (f"{len(gaps)} sets", f"{mean:.3f}", f"{median:.3f}", f"{largest:.3f}")
    return Table("", ("K at random", ">mean gap", ">median", ">largest"), [row])


def _class_claims(classes: Sequence[Removal]) -> Iterator[Claim]:
    for removal in classes:
        if stored := published.REMOVED.get(removal.name):
            what, where = f"K = {removal.name}", "authors' data, N = 100"
            yield Claim(f"F(C\\K), {what}", where, removal.circuit, None, stored[0])
            yield Claim(f"F(M\\K), {what}", where, removal.model, None, stored[1])


# ---- minimality


def minimal(lab: Lab, thorough: bool = False) -> Part:
    """What each head does where others are gone."""
    theirs = lab.circuit == published.CIRCUIT
    needs = _needs(lab, theirs, thorough)
    choice = "K as in the paper" if theirs else "K the worst of several sets that were tried"
    least, whole = min(needs, key=_size), abs(float(lab.ablation.full.mean()))
    return replace(
        words.MINIMALITY,
        text=words.MINIMALITY.text.format(
            choice=choice, least=least.node, share=_size(least) / whole
        ),
        tables=[_need_table(lab.circuit, needs, whole)],
        claims=lab.claims(_need_claims(needs) if theirs else ()),
        data={"needs": [{**vars(need), "change": need.change} for need in needs]},
    )


def _needs(lab: Lab, theirs: bool, thorough: bool) -> list[Need]:
    """With the paper's own K for its circuit; of another circuit they are searched for."""
    if theirs:
        return criteria.needs(lab.ablation, lab.circuit.nodes, published.OTHERS)
    draws = 16 if thorough else 6
    return criteria.searched_needs(lab.ablation, lab.circuit.roles, draws=draws, seed=lab.seed)


def _size(need: Need) -> float:
    return abs(need.change)


def _need_table(circuit: Circuit, needs: Sequence[Need], whole: float) -> Table:
    """The most needed first; `whole`: |F(M)|."""
    rows = [
        (
            need.node,
            circuit.role(need.node),
            f"{need.before:+.3f}",
            f"{need.after:+.3f}",
            f"{_size(need) / whole:.1%}",
            " ".join(need.others) or "nothing",
        )
        for need in sorted(needs, key=_size, reverse=True)
    ]
    columns = ("head", "role", ">F(C\\K)", ">and without it", ">change, of F(M)", "K")
    return Table("", columns, rows)


def _need_claims(needs: Sequence[Need]) -> Iterator[Claim]:
    for need in needs:
        after, before = published.MINIMALITY[need.node]
        yield Claim(f"{need.node}: change", "figure 20", need.change, after - before)
