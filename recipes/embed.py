"""Put a trained model into this package: python -m recipes.embed TRAINING_FOLDER

Knows what recipes.train leaves behind: the vocabulary, and the model or (until it is done) the last
checkpoint.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from minigpt.config import Config
from minigpt.model import GPT2
from minigpt.params import build
from minigpt.tokenizer import from_file
from recipes import corpus, train
from weights import catalog, files, manifest, save

NAME = "ioi-mini"
CHECKPOINT = "checkpoint.safetensors"


def embed(training: Path, folder: Path = catalog.EMBEDDED, *, seed: int = 0) -> GPT2:
    """Write the folder of the embedded model, with a checksum for each file, from the folder that
    training wrote."""
    model = trained(training)
    save(model, folder, overwrite=True)
    (folder / catalog.HELD_OUT.name).write_text(held_out(), encoding="utf-8")
    sums = manifest.describe(folder, ["model.safetensors", "config.json", manifest.VOCABULARY])
    origin = {"program": "recipes.train", "steps": steps(training), "seed": seed}
    manifest.write(
        folder,
        {
            "name": NAME,
            **files.read_json(folder / manifest.NAME),
            "training": origin,
            "files": sums,
        },
    )
    return model


def held_out(n: int = 500) -> str:
    """Prompts of name pairs and templates that training never saw, as lines of JSON: text, answer,
    other name."""
    rng, lines = random.Random("card"), []
    for _ in range(n):
        text, a, b = corpus.indirect_object(rng, corpus.HELD_OUT_TEMPLATES, unseen=True)
        lines.append(json.dumps([text.removesuffix(" " + a), a, b]) + "\n")
    return "".join(lines)


def trained(training: Path) -> GPT2:
    """The model that training ended with, or has come to."""
    done = training / "model.safetensors"
    held = files.read(done if done.exists() else training / CHECKPOINT)
    tokenizer = from_file(training / manifest.VOCABULARY, NAME, train.PATTERN)
    config = Config(
        train.LAYERS, train.HEADS, train.WIDTH, 4 * train.WIDTH, train.CONTEXT, tokenizer.n_vocab
    )
    return GPT2(
        build(
            config,
            {name: x for name, x in held.items() if not name.startswith(("exp_avg", "step"))},
        ),
        tokenizer,
        NAME,
    )


def steps(training: Path) -> int | None:
    """How many steps the last checkpoint was trained for; None where there is no checkpoint."""
    path = training / CHECKPOINT
    return int(files.read(path)["step"]) if path.exists() else None


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Put a trained model into this package.")
    parser.add_argument("training", type=Path, help="the folder that recipes.train wrote")
    parser.add_argument("--seed", type=int, default=0, help="the seed that it was trained with")
    given = parser.parse_args()
    print(f"{embed(given.training, seed=given.seed)} -> {catalog.EMBEDDED}")


if __name__ == "__main__":
    main()
