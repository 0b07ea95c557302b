"""The models that have a name here, and whether each is at hand. Knows where they lie, not how they
are read."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from minigpt.config import SIZES, Config
from minigpt.params import shapes
from minigpt.shown import Shown
from weights.errors import WeightsError
from weights.files import WEIGHTS


def embedded(name: str) -> Path:
    """Where in this package a model of that name lies."""
    return Path(__file__).parent / name.replace("-", "_")


EMBEDDED = embedded("ioi-mini")
# Prompts that the embedded model's training never saw: lines of [text, answer, other name].
HELD_OUT = EMBEDDED / "held_out.jsonl"
# Text whose truth is known token by token: lines of {"text", "concepts": positions by concept}.
CONCEPTS = EMBEDDED / "concepts.jsonl"
# What explains each of its components on that text.
EXPLAINED = EMBEDDED / "explanations.parquet"


@dataclass(frozen=True, repr=False)
class Repository(Shown):
    """A repository of the hub, at a revision (a branch, a tag, a commit)."""

    name: str
    repo: str
    revision: str | None = None


@dataclass(frozen=True, repr=False)
class Known(Repository):
    """A model with a name: its repository on the hub, or (repo is empty) a folder inside this
    package."""

    config: Config = SIZES["gpt2"]

    @property
    def parameters(self) -> int:
        """How many numbers the model has, a tied unembedding counted once."""
        return sum(math.prod(shape) for shape in shapes(self.config).values())


@dataclass(frozen=True, repr=False)
class Entry(Shown):
    """One line of the list of models: at_hand is the folder it can be loaded from, None where it
    must be fetched first."""

    name: str
    source: str
    at_hand: Path | None
    bytes: int
    parameters: int


KNOWN = (
    Known(
        "ioi-mini",
        "",
        config=Config(n_layer=4, n_head=8, d_model=128, d_mlp=512, n_ctx=128, n_vocab=1060),
    ),
    Known(
        "tasks-mini",
        "",
        config=Config(n_layer=4, n_head=8, d_model=128, d_mlp=256, n_ctx=128, n_vocab=1702),
    ),
    *(
        Known(name, f"{owner}/{name}", config=SIZES[name])
        for owner, name in (
            ("openai-community", "gpt2"),
            ("openai-community", "gpt2-medium"),
            ("openai-community", "gpt2-large"),
            ("openai-community", "gpt2-xl"),
            ("distilbert", "distilgpt2"),
        )
    ),
)
LEGAL = (
    ", ".join(known.name for known in KNOWN) + "; a folder; a .safetensors, .bin, .pt or .pth "
    "file; a repository of the hub, as org/name or org/name@revision"
)


def find(name: str) -> Known | None:
    """The model of this name, or of this repository on the hub; None where there is none."""
    return next((known for known in KNOWN if name and name in (known.name, known.repo)), None)


def repository(name: str, revision: str | None = None) -> Repository | None:
    """The repository that a name stands for, a known model's too: org/name, org/name@revision;
    None where it can be none."""
    repo, _, tag = name.partition("@")
    known = find(repo)
    if known is None and not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", repo):
        return None
    given = known or Repository(repo.partition("/")[2], repo)
    wanted = revision or tag or None
    return given if wanted is None else Repository(given.name, given.repo, wanted)


def unknown(name: object) -> WeightsError:
    """The error for what is neither a name nor a file, with the names that are nearest to it."""
    near = get_close_matches(str(name).lower(), [known.name for known in KNOWN], n=3, cutoff=0.6)
    return WeightsError(
        f"{str(name)!r} is no model known here, and no file or folder of that name exists",
        LEGAL,
        " or ".join(f'weights.load("{name}")' for name in near),
    )


def at_hand(known: Repository) -> Path | None:
    """The folder that the model can be loaded from without a network, if there is one."""
    folder = cached(known.repo, known.revision) if known.repo else embedded(known.name)
    return folder if folder and any((folder / name).exists() for name in WEIGHTS) else None


def cached(repo: str, revision: str | None = None) -> Path | None:
    """The repository's folder in the hub's cache (HF_HUB_CACHE, HF_HOME)."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(repo, "config.json", revision=revision)
    return Path(config).parent if isinstance(config, str) else None


def models() -> list[Entry]:
    """Every model with a name: where it is from, whether it is here, how many bytes it takes (or
    would) and its parameters."""
    return [_entry(known, at_hand(known)) for known in KNOWN]


def _entry(known: Known, folder: Path | None) -> Entry:
    size = (
        sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
        if folder
        else _download(known)
    )
    source = known.repo or str(embedded(known.name))
    return Entry(known.name, source, folder, size, known.parameters)


def _download(known: Known) -> int:
    """What the hub would send: float32 parameters, and with them each layer's causal mask, which
    the published files hold too."""
    return 4 * (known.parameters + known.config.n_layer * known.config.n_ctx**2)
