"""Sets of nodes and stream points by a name, "heads@S2": which addresses it stands for in a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from minigpt import Site, Trace, parse
from minigpt.address import heads, streams
from minigpt.errors import AddressError, PatchError

SETS = ("heads", "attns", "mlps", "resid", "neurons", "neurons:m3", "latents", "latents:m3")


def addresses(trace: Trace, over: str | Sequence[str], other: Trace | None = None) -> list[str]:
    """The addresses that a set's name stands for in this run's model; see `patching.nodes`. other:
    a second run, whose active latents count too."""
    if not isinstance(over, str):
        return parsed(trace, over)
    if _spells_one(over):
        return parsed(trace, [over])
    name, sign, place = over.partition("@")
    runs = [trace] if other is None else [trace, other]
    if name.partition(":")[0] == "latents":
        sites = [str(site) for site in _latents(runs, name)]
    else:
        sites = [str(site) for site in _set(trace, name)]
    if not sign:
        return sites
    if place:
        return [f"{site}@{place}" for site in sites]
    if trace.batch.ragged:
        raise PatchError(
            f"'{over}': each position, of prompts of lengths "
            f"{sorted(set(trace.batch.lengths.tolist()))}",
            "prompts of one length",
            f"'{name}@END' or another named position",
        )
    return [f"{site}@{t}" for site in sites for t in range(trace.tokens.shape[1])]


def _spells_one(text: str) -> bool:
    """Whether it is an address, of whatever model."""
    try:
        parse(text)
    except AddressError:
        return False
    return True


def parsed(trace: Trace, texts: Sequence[str]) -> list[str]:
    """Addresses as this run's model has them, in the project's own spelling."""
    return [str(parse(text, trace.config)) for text in texts]


def _set(trace: Trace, name: str) -> list[Site]:
    config = trace.config
    if name == "heads":
        return list(heads(config))
    if name == "resid":
        return list(streams(config))
    if name in ("attns", "mlps"):
        return [Site("attn" if name == "attns" else "mlp", i) for i in range(config.n_layer)]
    return [Site("mlp", i, n) for i in _neuron_layers(trace, name) for n in range(config.d_mlp)]


def _latents(runs: Sequence[Trace], name: str) -> Iterator[Site]:
    """The latents that are on somewhere in these runs, and the parts beside them, of every
    dictionary or ("latents:m3") of one."""
    known = runs[0].params.dictionaries
    _, sign, wanted = name.partition(":")
    if (wanted not in known) if sign else not known:
        raise AddressError(
            f"'{name}': this model has no dictionary" + f" of {wanted}" * bool(sign),
            ", ".join(f"latents:{whole}" for whole in known) or "a model with dictionaries",
            "model.with_dictionaries(weights.load_dictionary(...)), or --latents ioi-mini",
        )
    for whole in [wanted] if sign else known:
        site = parse(whole).site
        seen = (run.act(f"{whole}.l")[run.batch.mask.to(run.tokens.device)] for run in runs)
        on = torch.stack([(act > 0).any(0) for act in seen]).any(0)
        yield from (Site(f"{site.kind}.l", site.layer, n) for n in on.nonzero().flatten().tolist())
        yield from (Site(f"{site.kind}.{part}", site.layer) for part in ("l.b", "e"))


def _neuron_layers(trace: Trace, name: str) -> Sequence[int | None]:
    """The layers that "neurons" (all) or "neurons:m3" stands for."""
    kind, _, layer = name.partition(":")
    if name == "neurons":
        return range(trace.config.n_layer)
    site = parse(layer, trace.config).site if kind == "neurons" else None
    if site is None or site.kind != "mlp" or site.part is not None:
        raise AddressError(
            f"'{name}' is no set of nodes",
            ", ".join(SETS) + ", each with or without @",
            "a list of addresses: ['a9.9', 'm3']",
        )
    return [site.layer]
