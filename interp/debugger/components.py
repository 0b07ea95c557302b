"""What a component does on a store's text, as a document: its windows, each with a link to the
question there, its explanation, and the reader's own text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from interp import views
from interp.corpus.component import Component, Example
from interp.corpus.groups import Did, groups
from interp.corpus.says import neighbours, says
from interp.debugger.links import link
from interp.debugger.question import MAX_TOKENS, Question, QuestionError
from interp.debugger.session import Session
from interp.explain.explain import Explanation, explain
from interp.show.document import Document, Section, Span, Table, Text, Texts
from minigpt import GPT2, parse
from minigpt.shown import Shown

if TYPE_CHECKING:  # its libraries are an extra
    from interp.corpus.store import Store


@dataclass(frozen=True, repr=False)
class Found(Shown):
    """A component that a search found, by what, and what explains it, where that is known."""

    address: str
    by: float
    sentence: str


def store_of(session: Session, model: str) -> Store:
    """The store of a model; QuestionError where there is none."""
    known = session.model(model)
    if model not in session.stores:
        raise QuestionError(
            f"no store of {known.name}",
            "a corpus that was run",
            "interp collate CORPUS --out FOLDER, then interp debug --store FOLDER",
        )
    store: Store = session.stores[model]
    return store


def component(session: Session, model: str, address: str) -> Component:
    """A component's record."""
    return store_of(session, model).component(_name(session, model, address))


def explanation(session: Session, model: str, address: str) -> Explanation:
    """What explains it best, made once."""
    name = _name(session, model, address)
    found: Explanation = session.kept.get(
        ("explanation", model, name), lambda: explain(component(session, model, name))
    )
    return found


def search(
    session: Session, model: str, token: str = "", where: str = "", words: str = ""
) -> tuple[Found, ...]:
    """Components by the token at which they are largest, by statistics, by words of what explains
    them."""
    store = store_of(session, model)
    found = store.find(token, where, words, k=40)
    return tuple(Found(address, by, store.sentence(address)) for address, by in found)


def page(session: Session, model: str, address: str, text: str = "") -> Document:
    """A component's page; text: the reader's own, lit as the windows are."""
    store, name = store_of(session, model), _name(session, model, address)
    known, found = session.model(model), component(session, model, address)
    said = says(known.params, known.words, name)
    drawn = views.component(found, said, f"{known.name} on {store.name}", _Linked(model))
    own = [_own(known, found, text)] if text else []
    alike = Section("Large in the same windows", "", [_alike(store, model, name)])
    near = neighbours(known, name)
    beside = [Section("Writes in the same direction", "", [_near(model, near)])] if near else []
    explained = views.explanation(explanation(session, model, name))
    sections = [*own, explained, *drawn.sections, alike, *beside]
    return Document(drawn.title, sections, drawn.verdict)


def found(session: Session, model: str, token: str, where: str, words: str) -> Document:
    """What a search found, each a link."""
    rows = [
        (
            Span(each.address, "code", link=link(model, each.address)),
            f"{each.by:.3g}",
            each.sentence,
        )
        for each in search(session, model, token, where, words)
    ]
    asked = [f"largest at {token!r}"] * bool(token) + [words] * bool(words) + [where] * bool(where)
    title = f"Components of {model}: {'; '.join(asked) or 'the most peaked'}"
    table = Table("", ("component", ">by", "explanation"), rows)
    return Document(title, [Section("", "", [table])])


def beside(model: GPT2, address: str, step: int) -> str:
    """The component before or after in its layer; itself at an end."""
    site = parse(address, model.config).site
    group = next(g for g in groups(model) if address in g.addresses)
    return group.addresses[min(max((site.part or 0) + step, 0), group.n - 1)]


@dataclass(frozen=True)
class _Linked:
    """Asks about an example at that node on that very text."""

    model: str

    def __call__(self, component: Component, example: Example) -> str:
        """The question's link."""
        node = f"{component.address}@{example.at}"
        asked = Question(model=self.model, prompt=example.before, node=node, tab="nodes")
        return f"/?{asked.to_url()}"


def _name(session: Session, model: str, address: str) -> str:
    """The component that a row's address is of: "a2.6@13<3" -> "a2.6"."""
    return str(parse(address, session.model(model).config).site)


def _own(model: GPT2, found: Component, text: str) -> Section:
    """The reader's own text."""
    ids = model.words.encode(text)[: min(MAX_TOKENS, model.config.n_ctx)]
    values = _did(model, found.address, ids)
    most = max(abs(found.least), abs(found.most)) or 1.0
    shown = Text(
        f"{max(values):.3f}",
        model.words.pieces(ids),
        [value / most for value in values],
        values.index(max(values)),
    )
    return Section("Your text", "As strong as in the windows below.", [Texts([shown])])


def _did(model: GPT2, address: str, ids: Sequence[int]) -> list[float]:
    group = next(group for group in groups(model) if address in group.addresses)
    did: Did = group.read(model.run([ids])).row(0, len(ids))
    values: list[float] = did.values[:, group.addresses.index(address)].tolist()
    return values


def _near(model: str, near: Sequence[tuple[str, float]]) -> Table:
    rows = [
        (Span(other, "code", link=link(model, other)), f"{cosine:.2f}") for other, cosine in near
    ]
    return Table("", ("component", ">cosine"), rows)


def _alike(store: Store, model: str, name: str) -> Table:
    rows = [
        (Span(other, "code", link=link(model, other)), f"{share:.0%}")
        for other, share in store.alike(name, 8)
    ]
    return Table("", ("component", ">of its largest windows"), rows)
