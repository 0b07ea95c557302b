"""What explains every component of the embedded model, on text of its own generator, as it is kept
beside the model: python -m recipes.explanations. Then how often an explanation names what the
generator meant."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from interp.cli.inputs import EMBEDDED, load
from interp.concepts import of_texts
from interp.corpus.make import make
from interp.corpus.store import EXPLANATIONS
from interp.executor import Where
from interp.explain.catalogue import catalogue, summary
from interp.explain.truth import named
from weights import catalog


def main() -> None:
    """Write the table, and say what is in it."""
    model = load("ioi-mini", "cpu", latents=EMBEDDED["ioi-mini"])
    with tempfile.TemporaryDirectory() as folder:
        store = make(model, [catalog.CONCEPTS], Path(folder) / "store")
        catalogue(store, where=Where(2))
        shutil.copyfile(store.folder / EXPLANATIONS, catalog.EXPLAINED)
        for row in summary(store):
            print(*row)
        lines = [json.loads(line) for line in catalog.CONCEPTS.read_text("utf-8").splitlines()]
        for each in named(store, of_texts(model, lines), lines):
            print(each.concept, each.latent, each.latent_f1, each.f1, each.sentence)


if __name__ == "__main__":
    main()
