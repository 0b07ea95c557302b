"""The study as a document, for a reader who has not read the paper."""

from __future__ import annotations

from collections.abc import Iterator

from interp.ioi.part import Claim, Part
from interp.ioi.study import Study
from interp.show.document import Document, HeatMap, Paragraph, Picture, Section, Span, Table, Words

INTRODUCTION = (
    "How does the model know who is given the drink? Each part asks one question and answers it "
    "by an experiment: something in the run is replaced, everything that depends on it is "
    "computed again, and the answer is compared. Nothing is estimated. Headings name the figure "
    "or section of the paper (Wang et al. 2022)."
)


def study(done: Study) -> Document:
    """Every part, the paper's figures beside those measured, and what it comes to."""
    return Document(
        f"Indirect object identification in {done.model}",
        [
            Section("", INTRODUCTION),
            *(section for part in done.parts for section in _part(part)),
            *_claims(done),
        ],
        [*done.short, *_agreement(done), *_interruption(done)],
        f"{done.n} prompts, seed {done.seed}, {done.seconds:.0f} s",
    )


def _part(part: Part) -> Iterator[Section]:
    skipped = [Paragraph(Span(f"skipped: {part.skipped}", "warn"))] if part.skipped else []
    maps = [HeatMap(title, effects.grid()) for title, effects in part.maps.items()]
    pictures = map(Picture, part.figures.values())
    yield Section(
        part.heading, part.text, [*skipped, *part.tables, *pictures, *maps], aside=part.where
    )


def _claims(done: Study) -> Iterator[Section]:
    columns = ("figure", "where", ">paper", ">authors' data", ">measured", ">within", "", "part")
    rows = [(*_claim(claim), part.heading) for part, claim in done.claims]
    if rows:
        text = (
            "A row agrees where it is within the tolerance of the paper or of its authors' stored "
            "data."
        )
        table = Table("", columns, rows, narrow=7)
        yield Section("The paper beside what was measured", text, [table])


def _claim(claim: Claim) -> tuple[Words, ...]:
    return (
        Span(claim.what, "" if claim.agrees else "bad"),
        Span(claim.where, "soft"),
        *("" if x is None else f"{x:.2f}" for x in (claim.paper, claim.authors)),
        f"{claim.measured:.2f}",
        f"{claim.within:g}",
        Span("agrees", "good") if claim.agrees else Span("DIFFERS", "bad"),
    )


def _agreement(done: Study) -> Iterator[Span]:
    if done.claims:
        agree, all_of_them = sum(claim.agrees for _, claim in done.claims), len(done.claims)
        text = f"{agree} of {all_of_them} figures agree with the paper"
        yield Span(text, "good" if agree == all_of_them else "warn")


def _interruption(done: Study) -> Iterator[Span]:
    if done.interrupted:
        yield Span("interrupted: what was finished is above", "warn")
