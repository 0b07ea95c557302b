"""Put a trained model into this package: python -m recipes.embed TRAINING_FOLDER --name NAME; or
dictionaries of ioi-mini: python -m recipes.embed FOLDER --dictionaries

Knows what recipes.train leaves behind: the vocabulary, and the model or (until it is done) the last
checkpoint.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
from pathlib import Path

from minigpt.model import GPT2
from minigpt.params import build
from minigpt.tokenizer import from_file
from recipes import concepts, corpus, english, train
from recipes.train import IOI_MINI, RECIPES, Recipe
from weights import catalog, files, load, manifest, save
from weights.dictionaries import saelens
from weights.dictionaries.place import EMBEDDED

FOLDERS = {name: catalog.embedded(name) for name in RECIPES}
CHECKPOINT = "checkpoint.safetensors"


def embed(
    training: Path, folder: Path | None = None, *, seed: int = 0, recipe: Recipe = IOI_MINI
) -> GPT2:
    """Write the folder of an embedded model, with a checksum for each file, from the folder that
    training wrote."""
    model, folder = trained(training, recipe), folder or FOLDERS[recipe.name]
    save(model, folder, overwrite=True)
    lines = held_out() if recipe is IOI_MINI else tasks_held_out(model)
    (folder / catalog.HELD_OUT.name).write_text(lines, encoding="utf-8")
    sums = manifest.describe(folder, ["model.safetensors", "config.json", manifest.VOCABULARY])
    origin = {"program": "recipes.train", "steps": steps(training), "seed": seed}
    manifest.write(
        folder,
        {
            "name": recipe.name,
            **files.read_json(folder / manifest.NAME),
            "training": origin,
            "files": sums,
        },
    )
    return model


def embed_dictionaries(
    trained: Path, folder: Path = catalog.EMBEDDED, *, seed: int = 0, n: int = 1000
) -> None:
    """Write the dictionaries that recipes.dictionaries left, with a checksum for each file, and the
    text whose truth is known."""
    model = load(folder)
    assert model.tokenizer is not None
    for source in sorted(path for path in trained.iterdir() if path.is_dir()):
        target = folder / EMBEDDED / source.name
        target.mkdir(parents=True, exist_ok=True)
        for name in saelens.FILES:
            shutil.copyfile(source / name, target / name)
        sums = manifest.describe(target, list(saelens.FILES))
        origin = {"program": "recipes.dictionaries", "seed": seed}
        manifest.write(target, {"name": source.name, "training": origin, "files": sums})
    text = "".join(concepts.lines(model.tokenizer, n))
    (folder / catalog.CONCEPTS.name).write_text(text, encoding="utf-8")


def held_out(n: int = 500) -> str:
    """Prompts of name pairs and templates that training never saw, as lines of JSON: text, answer,
    other name."""
    rng, lines = random.Random("card"), []
    for _ in range(n):
        text, a, b = corpus.indirect_object(rng, corpus.HELD_OUT_TEMPLATES, unseen=True)
        lines.append(json.dumps([text.removesuffix(" " + a), a, b]) + "\n")
    return "".join(lines)


def tasks_held_out(model: GPT2, n: int = 200) -> str:
    """Of every task prompts of sentences and meetings of words that training never saw, as lines
    of JSON."""
    return "".join(
        json.dumps({"task": task, **record}) + "\n"
        for task, pairs in english.held_out_pairs(model.words, n).items()
        for record in pairs.records()
    )


def trained(training: Path, recipe: Recipe = IOI_MINI) -> GPT2:
    """The model that training ended with, or has come to."""
    done = training / "model.safetensors"
    held = files.read(done if done.exists() else training / CHECKPOINT)
    tokenizer = from_file(training / manifest.VOCABULARY, recipe.name, train.PATTERN)
    config = recipe.config(tokenizer.n_vocab)
    return GPT2(
        build(
            config,
            {name: x for name, x in held.items() if not name.startswith(("exp_avg", "step"))},
        ),
        tokenizer,
        recipe.name,
    )


def steps(training: Path) -> int | None:
    """How many steps the last checkpoint was trained for; None where there is no checkpoint."""
    path = training / CHECKPOINT
    return int(files.read(path)["step"]) if path.exists() else None


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Put a trained model into this package.")
    parser.add_argument("training", type=Path, help="the folder that recipes.train wrote")
    parser.add_argument("--name", choices=FOLDERS, default=IOI_MINI.name)
    parser.add_argument("--seed", type=int, default=0, help="the seed that it was trained with")
    parser.add_argument("--dictionaries", action="store_true", help="the folder holds these")
    given = parser.parse_args()
    if given.dictionaries:
        embed_dictionaries(given.training, seed=given.seed)
        return
    model = embed(given.training, seed=given.seed, recipe=RECIPES[given.name])
    print(f"{model} -> {FOLDERS[given.name]}")


if __name__ == "__main__":
    main()
