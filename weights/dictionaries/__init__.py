"""Sparse autoencoders and transcoders as people have them: `load_dictionary`, or several at once:
`load_dictionaries`. Each layout is another module's."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minigpt.dictionary import NORMALISE, Dictionary
from minigpt.errors import ParamsError
from minigpt.model import GPT2
from minigpt.shown import Shown
from weights import catalog, files
from weights.dictionaries import (
    circuit_tracer,
    dictionary_learning,
    hooks,
    openai,
    saelens,
    sparsify,
)
from weights.dictionaries.found import FLOATS, Found
from weights.dictionaries.place import place
from weights.errors import WeightsError

LEGAL = (
    "a folder of SAELens (cfg.json, sae_weights.safetensors), of sparsify (cfg.json, "
    "sae.safetensors) or of dictionary_learning (config.json, ae.pt); a .pt file of OpenAI's; a "
    "layer_3.safetensors of circuit-tracer; one of these on the hub, 'org/name:folder'; "
    "'ioi-mini:m3'"
)


def _nowhere(_: Found) -> str:
    return ""


@dataclass(frozen=True, repr=False)
class Layout(Shown):
    """How one tool keeps its dictionaries: what one is made of, where it reads and writes, of which
    model, all by its file."""

    read: Callable[[Found], dict[str, Any]]
    hook: Callable[[Found], str]
    writes: Callable[[Found], str] = _nowhere
    lm: Callable[[Found], str] = _nowhere


FOLDERS = {
    saelens.FILES: Layout(saelens.read, saelens.hook, saelens.writes, saelens.lm),
    sparsify.FILES: Layout(sparsify.read, sparsify.hook),
    dictionary_learning.FILES: Layout(
        dictionary_learning.read, dictionary_learning.hook, lm=dictionary_learning.lm
    ),
}
OPENAI = Layout(openai.read, lambda found: hooks.in_path(str(found.path.absolute())))
CIRCUIT_TRACER = Layout(circuit_tracer.read, circuit_tracer.hook, circuit_tracer.writes)


def load_dictionary(
    source: str | os.PathLike[str],
    *,
    site: str | None = None,
    name: str | None = None,
    model: GPT2 | None = None,
    normalise: str | None = None,
    scale: float | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> Dictionary:
    """The sparse autoencoder or transcoder in that folder or file (or of that name: "ioi-mini:m3",
    on the hub "org/name:folder"), of SAELens, OpenAI, dictionary_learning, sparsify or
    circuit-tracer.

    What the file does not say, or says wrongly: site, "m3", "m3.act", "resid6" or another tool's
    name of it; normalise, one of "none", "centre", "layer_norm", "rms"; scale, a number that the
    input is multiplied by. With model, one that fits it. Half precision becomes float32 unless
    dtype says otherwise. Nothing in a file is ever run. Raises WeightsError.
    """
    _check_request(normalise, scale, dtype)
    layout, found = find(source, dtype)
    _refuse_other_model(found, layout.lm(found), model)
    made = layout.read(found)
    reads = _place(found, layout) if site is None else hooks.reads(site)
    made |= {"normalise": normalise} if normalise is not None else {}
    made["scale"] = _scale(found, made, scale)
    return _made(found, name, reads, made, model).to(device=device)


def load_dictionaries(
    source: str | os.PathLike[str],
    *,
    model: GPT2 | None = None,
    device: str | torch.device = "cpu",
) -> tuple[Dictionary, ...]:
    """The dictionary that load_dictionary finds there; of a folder of several ("ioi-mini": of the
    embedded model's), all of them. WeightsError where there is none."""
    path = at_hand(source)
    several = inside(path) if path.is_dir() and not _is_one(path) else []
    return tuple(load_dictionary(each, model=model, device=device) for each in several or [path])


def _is_one(folder: Path) -> bool:
    return any(all((folder / name).is_file() for name in pair) for pair in FOLDERS)


def _made(
    found: Found, name: str | None, reads: str, made: Mapping[str, Any], model: GPT2 | None
) -> Dictionary:
    """The dictionary; what is wrong with it is said of its file."""
    try:
        known = Dictionary(name or _name(found.path), reads, hooks.explains(reads), **made)
        if model is not None:
            replace(model.params, dictionaries={}).with_dictionaries([known])
    except ParamsError as error:
        raise found.wrong(str(error), "one that fits together, and fits the model") from error
    return known


def find(source: str | os.PathLike[str], dtype: torch.dtype | None = None) -> tuple[Layout, Found]:
    """A dictionary's layout, and what is in its file."""
    path = at_hand(source)
    if path.is_file() and path.name not in {name for pair in FOLDERS for name in pair}:
        return _file(path, dtype)
    folder = path if path.is_dir() else path.parent
    for (config, weights), layout in FOLDERS.items():
        if (folder / config).is_file() and (folder / weights).is_file():
            facts, state = files.read_json(folder / config), files.read(folder / weights)
            return layout, Found(folder, facts, state, dtype)
    if several := inside(folder):
        raise WeightsError(
            f"the folder {folder} holds {len(several)} dictionaries",
            ", ".join(str(path.relative_to(folder)) for path in several[:12]),
            f"load_dictionary({str(several[0])!r})",
        )
    raise WeightsError(f"{folder} holds no dictionary", LEGAL)


def inside(folder: Path) -> list[Path]:
    """The dictionaries in a folder's folders, and those that are files of it."""
    folders = {
        path.parent
        for config, weights in FOLDERS
        for path in folder.rglob(weights)
        if (path.parent / config).is_file() and path.parent != folder
    }
    return sorted([*folders, *folder.glob("layer_*.safetensors"), *folder.glob("[0-9]*.pt")])


def log_sparsity(source: str | os.PathLike[str]) -> Tensor | None:
    """How often each latent was on while it was trained, as a logarithm to base 10, [n], where that
    was kept beside it."""
    path = at_hand(source)
    folder = path if path.is_dir() else path.parent
    if (folder / "sparsity.safetensors").is_file():
        kept = files.read(folder / "sparsity.safetensors").get("sparsity")
    else:
        kept = find(path)[1].state.get("latents_activation_frequency")
        kept = kept.log10() if isinstance(kept, Tensor) else None
    return kept if isinstance(kept, Tensor) else None


def _file(path: Path, dtype: torch.dtype | None) -> tuple[Layout, Found]:
    state = files.read(path)
    if "pre_bias" in state:
        return OPENAI, Found(path, {}, state, dtype)
    if path.suffix == ".safetensors" and "W_enc" in state:
        return CIRCUIT_TRACER, Found(path, _yaml(path.with_name("config.yaml")), state, dtype)
    seen = ", ".join(map(str, list(state)[:4])) or "nothing"
    raise WeightsError(f"{path} holds {seen}, no dictionary", LEGAL)


def _yaml(path: Path) -> Mapping[str, Any]:
    import yaml

    if not path.is_file():
        return {}
    try:
        facts = yaml.safe_load(files.read_text(path))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} could not be read: {error}", "YAML") from error
    if not isinstance(facts, Mapping):
        raise WeightsError(f"{path} holds a {type(facts).__name__}", "names and values")
    return facts


def at_hand(source: str | os.PathLike[str]) -> Path:
    """The folder or file that a name stands for; WeightsError where there is none."""
    return place(source, FOLDERS, LEGAL)


def _place(found: Found, layout: Layout) -> str:
    """What it reads, by its file."""
    if not (hook := layout.hook(found)):
        raise found.wrong("nothing in it says where it reads", hooks.LEGAL, "site='m3' (--site m3)")
    reads, writes = hooks.reads(hook), layout.writes(found)
    if writes and hooks.explains(hooks.reads(writes)) != hooks.explains(reads):
        raise found.wrong(
            f"it reads {hook} and writes {writes}",
            "a transcoder that reads what its MLP reads, after the LayerNorm "
            "(blocks.3.ln2.hook_normalized, mlp.hook_in)",
        )
    return reads


def _scale(found: Found, made: Mapping[str, Any], asked: float | None) -> float:
    """The number that its input is multiplied by: the one asked for, or that of the file."""
    scale = made.get("scale", 1.0) if asked is None else asked
    if isinstance(scale, (int, float)) and math.isfinite(scale) and scale > 0:
        return float(scale)
    raise found.wrong(
        "its input was multiplied by one number while it was trained "
        f"(expected_average_only_in), which is {scale!r} in it",
        "a number above zero",
        "scale=1.0 (--scale 1) where that is folded into its weights; else sqrt(width) / the mean "
        "norm of what it reads",
    )


def _refuse_other_model(found: Found, lm: str, model: GPT2 | None) -> None:
    """WeightsError for a dictionary of another model, as far as names tell."""
    theirs = lm.rpartition("/")[2].lower().replace("gpt2-small", "gpt2")
    ours = "" if model is None else model.name.lower()
    gpt2s = "gpt2" in theirs.replace("gpt-2", "gpt2") or catalog.find(theirs)
    if theirs and theirs != ours and (catalog.find(ours) or not gpt2s):
        raise found.wrong(
            f"it was trained on {lm[:60]!r}",
            f"a dictionary of {model.name!r}" if model is not None else "a GPT-2's dictionary",
            f"dataclasses.replace(model, name={lm[:60]!r}), where that is this model",
        )


def _name(path: Path) -> str:
    return path.absolute().stem if path.is_file() else path.absolute().name


def _check_request(normalise: object, scale: object, dtype: object) -> None:
    if normalise is not None and normalise not in NORMALISE:
        raise WeightsError(f"normalise={normalise!r}", ", ".join(map(repr, NORMALISE)))
    if scale is not None and not (isinstance(scale, (int, float)) and 0 < scale < math.inf):
        raise WeightsError(f"scale={scale!r}", "a number above zero")
    if dtype is not None and dtype not in FLOATS:
        raise WeightsError(f"dtype={dtype!r}", "None, " + ", ".join(map(str, FLOATS)))
