"""The study as a page that needs nothing but itself, for a reader who has not read the paper."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from interp import figures
from interp.ioi.part import Part
from interp.ioi.study import Study
from interp.show import page as report

INTRODUCTION = (
    "How does the model know who is given the drink? Each part asks one question and answers it "
    "by an experiment: something in the run is "
    "replaced, everything that "
    "depends on it is computed again, and the answer is compared. Nothing is estimated. Headings "
    "name the figure or section of the paper (Wang "
    "et al. 2022)."
)


def study(found: Study) -> str:
    """One HTML document."""
    sections = [report.Section("", INTRODUCTION, _short(found) + _contents(found))]
    for part in found.parts:
        sections += _part(part)
    if found.claims:
        sections.append(
            report.Section(
                "The paper beside what was measured",
                "A row agrees where it is within the tolerance of the paper or of its authors' "
                "stored data.",
                _claims(found),
            )
        )
    stopped = "; interrupted before its end" if found.interrupted else ""
    return report.page(
        f"Indirect object identification in {found.model}",
        f"{found.n} prompts, seed {found.seed}, {found.seconds:.0f} s{stopped}",
        sections,
    )


def _short(found: Study) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}" for line in found.short) + "</ul>"


def _contents(found: Study) -> str:
    return (
        "<p>"
        + " · ".join(
            f"<a href='#{part.name.replace(' ', '-')}'>{escape(part.heading)}</a>"
            for part in found.parts
        )
        + "</p>"
    )


def _part(part: Part) -> Iterator[report.Section]:
    note = f"<p class=soft>Skipped: {escape(part.skipped)}</p>" if part.skipped else ""
    body = (
        f"<a id='{part.name.replace(' ', '-')}'></a><p class=soft>{escape(part.where)}</p>" + note
    )
    yield report.Section(
        part.heading,
        part.text,
        body + "".join(report.table(t.title, t.columns, t.rows) for t in part.tables),
    )
    for figure in part.figures.values():
        yield report.Section("", "", figure)
    for title, effects in part.maps.items():
        yield report.Section("", "", figures.grid(effects.grid(), title))


def _claims(found: Study) -> str:
    rows = [
        (
            part.heading,
            claim.what,
            claim.where,
            *("" if x is None else f"{x:.2f}" for x in (claim.paper, claim.authors)),
            f"{claim.measured:.2f}",
            f"{claim.within:g}",
            "agrees" if claim.agrees else "DIFFERS",
        )
        for part, claim in found.claims
    ]
    return report.table(
        "",
        ("part", "figure", "where", ">paper", ">authors' data", ">measured", ">within", ""),
        rows,
    )
