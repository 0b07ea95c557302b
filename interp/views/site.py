"""A store as pages that open from disk: one for each component, and an index that is searched as
one types."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from interp.corpus.component import Component, top_tokens
from interp.corpus.says import says
from interp.show import page
from interp.show.document import Document, Paragraph, Section, Span
from interp.views.component import Link, component, nowhere
from minigpt import GPT2
from minigpt.shown import Shown

if TYPE_CHECKING:  # its libraries are an extra
    from interp.corpus.store import Store

# Rows of the index that are drawn at once; components that are read at once.
DRAWN, READ = 200, 256
STYLE = """<style>
.bar { display: flex; gap: .6rem 1rem; align-items: center; flex-wrap: wrap; margin: 0 0 1rem }
.bar input {
  font: inherit; padding: .3rem .5rem; border: 1px solid var(--line); border-radius: 4px;
  background: var(--paper); color: var(--ink); width: min(28rem, 100%); box-sizing: border-box;
}
</style>"""
SCRIPT = """
const rows = JSON.parse(document.getElementById("rows").textContent);
const find = document.getElementById("find"), body = document.querySelector("tbody");
const count = document.getElementById("count");
const cell = (tr, text, kind) => {
  const td = tr.appendChild(document.createElement("td"));
  td.textContent = text; td.className = kind || ""; return td;
};
const draw = () => {
  const words = find.value.toLowerCase().split(/\\s+/).filter(Boolean);
  const found = rows.filter(r => words.every(w => r.join(" ").toLowerCase().includes(w)));
  count.textContent = `${found.length} of ${rows.length}`;
  body.replaceChildren(...found.slice(0, DRAWN).map(([address, sentence, simulation, tokens]) => {
    const tr = document.createElement("tr"), link = document.createElement("a");
    link.href = `component/${encodeURIComponent(address)}.html`; link.textContent = address;
    cell(tr, "").appendChild(link); cell(tr, sentence); cell(tr, simulation, "n");
    cell(tr, tokens, "code"); return tr;
  }));
};
find.addEventListener("input", draw); draw();
"""


@dataclass(frozen=True, eq=False, repr=False)
class Site(Shown):
    """What the pages are of. link: where an example can be asked about; addresses: the components,
    in the store's order."""

    store: Store
    model: GPT2
    folder: Path
    addresses: Sequence[str]
    link: Link = nowhere

    def write(self, *, progress: bool = True) -> None:
        """Write all pages; those that an interrupted call left are kept."""
        pages = self.folder / "component"
        pages.mkdir(parents=True, exist_ok=True)
        rows = []
        bar = tqdm(total=len(self.addresses), unit=" pages", disable=not progress)
        with bar:
            for i, found in enumerate(self._components()):
                path = pages / f"{found.address}.html"
                if not path.is_file():
                    _save(page.document(self._page(found), self._bar(i)), path)
                rows.append(self._row(found))
                bar.update()
        _save(self._index(rows), self.folder / "index.html")

    def _components(self) -> Iterator[Component]:
        """The chosen ones, read many at a time."""
        chosen, numbers = set(self.addresses), range(0, len(self.store), READ)
        for start in numbers:
            if chosen.intersection(self.store.addresses[start : start + READ]):
                found = self.store.between(start, start + READ)
                yield from (each for each in found if each.address in chosen)

    def _page(self, found: Component) -> Document:
        said = says(self.model.params, self.model.words, found.address)
        of = f"{self.model.name} on {self.store.name}"
        drawn = component(found, said, of, self.link)
        sentence, simulation = self._explained.get(found.address, ("", ""))
        words = Span(sentence, "strong") if sentence else "It was not explained."
        text = f"simulation {simulation}" if simulation else ""
        explained = Section("What explains it", text, [Paragraph(words)])
        return Document(drawn.title, [explained, *drawn.sections], drawn.verdict)

    def _row(self, found: Component) -> tuple[str, str, str, str]:
        tokens = " ".join(token for token, _ in top_tokens(found))
        return found.address, *self._explained.get(found.address, ("", "")), tokens

    @cached_property
    def _explained(self) -> dict[str, tuple[str, str]]:
        if not self.store.is_explained:
            return {}
        rows = self.store.ask("select address, sentence, simulation from explanations")
        return {address: (sentence, f"{simulation:.2f}") for address, sentence, simulation in rows}

    def _bar(self, i: int) -> str:
        ends = (("prev", "←", i - 1), ("next", "→", i + 1))
        links = (
            f"<a rel={rel} href='{self.addresses[j]}.html'>{arrow} {self.addresses[j]}</a>"
            for rel, arrow, j in ends
            if 0 <= j < len(self.addresses)
        )
        every = "<a href=../index.html>all components</a>"
        return f"{STYLE}<nav class=bar aria-label=Components>{every} {' '.join(links)}</nav>"

    def _index(self, rows: Sequence[tuple[str, ...]]) -> str:
        title = f"Components of {self.model.name} on {self.store.name}"
        data = json.dumps(rows, ensure_ascii=False).replace("<", "\\u003c")
        names = ("component", "explanation", "simulation", "largest at")
        head = "".join(f"<th{' class=n' * (name == 'simulation')}>{name}" for name in names)
        body = (
            f"<h1>{escape(title)}</h1><div class=bar><input id=find type=search "
            "aria-label='words of an address, an explanation, tokens' "
            "placeholder='words: number, m3, Mary'><span id=count class=soft role=status></span>"
            f"</div><div class=wide tabindex=0><table><thead><tr>{head}</thead><tbody></tbody>"
            f"</table></div><script id=rows type=application/json>{data}</script>"
            f"<script>{SCRIPT.replace('DRAWN', str(DRAWN))}</script>"
        )
        return page.plain(title, body, STYLE)


def _save(made: str, path: Path) -> None:
    """A page that is whole, or not there."""
    new = path.with_name(path.name + ".new")
    page.save(made, new)
    new.replace(path)
