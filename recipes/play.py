"""The page that runs an embedded model in a browser: python -m recipes.play FOLDER. One page and
two scripts, opened from disk or served; nothing is fetched from elsewhere."""

from __future__ import annotations

import base64
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np

import weights
from minigpt import GPT2
from minigpt.params import tensors
from minigpt.vocabulary import Tiktoken

MODEL = "tasks-mini"
SOURCE = Path(__file__).parents[1] / "docs" / "play"


def write(folder: Path, model: GPT2) -> None:
    """The page with this model in it. A page from disk may load scripts, but no modules and no
    files of numbers: the scripts are one, and the numbers a script."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(SOURCE / "index.html", folder / "index.html")
    engine, page = ((SOURCE / name).read_text("utf-8") for name in ("engine.js", "page.js"))
    engine = re.sub(r"^export ", "", engine, flags=re.M)
    page = re.sub(r"^import .*\n", "", page, flags=re.M)
    (folder / "page.js").write_text(f"{{\n{engine}\n{page}}}\n", "utf-8")
    (folder / "model.js").write_text(f"globalThis.MODEL = {json.dumps(packed(model))};\n", "utf-8")


def packed(model: GPT2) -> dict[str, object]:
    """Shape, words and parameters of a model, as text."""
    vocabulary = model.words.vocabulary
    assert isinstance(vocabulary, Tiktoken)
    config = model.config
    names = ("n_layer", "n_head", "d_model", "d_mlp", "n_ctx", "n_vocab")
    words = [vocabulary.encoding.decode_single_token_bytes(i) for i in range(config.n_vocab)]
    return {
        "config": {name: getattr(config, name) for name in names},
        "words": [_text(word) for word in words],
        "tensors": {
            name: _text(np.ascontiguousarray(x.numpy(), "<f4").tobytes())
            for name, x in tensors(model.params).items()
        },
    }


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def main() -> None:
    """The command line."""
    write(Path(sys.argv[1]), weights.load(MODEL))


if __name__ == "__main__":
    main()
