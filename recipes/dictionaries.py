"""Train the embedded model's dictionaries on text that this project makes up itself: python -m
recipes.dictionaries --out FOLDER

One for what each MLP writes and one for a middle point of the stream, all on the same runs. TopK
autoencoders with unit rows in the decoder and, against latents that stay silent, an auxiliary loss
by which the silent ones learn what is left over (Gao et al. 2024, Scaling and evaluating sparse
autoencoders). Written as SAELens has them. Seeded step by step.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import tiktoken
import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

import weights
from minigpt import GPT2
from minigpt.vocabulary import Tiktoken
from recipes import train

# What is read, and how SAELens calls that.
SITES = {
    "m0": "blocks.0.hook_mlp_out",
    "m1": "blocks.1.hook_mlp_out",
    "m2": "blocks.2.hook_mlp_out",
    "m3": "blocks.3.hook_mlp_out",
    "resid2": "blocks.2.hook_resid_pre",
}
# What m0 writes is simpler: of 512 latents a third would never be on, and more with every step.
LATENTS = {**dict.fromkeys(SITES, 512), "m0": 256}
STEPS = {**dict.fromkeys(SITES, 1200), "m0": 800}
# Where silent latents learn only while they are many, and above zero: else more fall silent
# (benchmarks/LOG.md).
CUT = ("m0",)
K, SILENT_K, SILENT_SHARE = 16, 32, 1 / 32
# The text that measures them is not of these seeds.
SEED = 1000


def start(first: Tensor, n: int, seed: int) -> dict[str, Tensor]:
    """Random directions, read and written alike, around the mean of what is read."""
    draws = torch.Generator().manual_seed(seed)
    rows = torch.nn.functional.normalize(torch.randn(n, first.shape[1], generator=draws), dim=1)
    return {"W_enc": rows.T.clone(), "b_enc": torch.zeros(n), "W_dec": rows, "b_dec": first.mean(0)}


def loss(p: Mapping[str, Tensor], x: Tensor, scale: Tensor, *, cut: bool = False) -> Tensor:
    """The share of the variance that is not explained, and how badly the latents that this batch
    never uses would make up for it; cut: only where there are many, and what they add only above
    zero."""
    score = (x - p["b_dec"]) @ p["W_enc"] + p["b_enc"]
    z = torch.relu(kept(score, K))
    left = x - z @ p["W_dec"] - p["b_dec"]
    silent = ~(z > 0).any(0)
    found = left.square().mean() / scale
    k = min(SILENT_K, int(silent.sum()))
    if not k or (cut and k < SILENT_K):
        return found
    more = kept(score.masked_fill(~silent, -torch.inf), k)
    more = torch.relu(more) if cut else more
    return found + SILENT_SHARE * (left.detach() - more @ p["W_dec"]).square().mean() / scale


def kept(score: Tensor, k: int) -> Tensor:
    """Each row's k largest, the rest zero."""
    values, which = score.topk(k, dim=-1)
    return torch.zeros_like(score).scatter(-1, which, values)


def descend(
    p: dict[str, Tensor], optimizer: torch.optim.Optimizer, x: Tensor, *, cut: bool = False
) -> float:
    """One step; the loss before it. Rows of the decoder are kept at length one, and learn nothing
    along themselves."""
    value = loss(p, x, (x - x.mean(0)).square().mean(), cut=cut)
    optimizer.zero_grad()
    value.backward()
    rows, slope = p["W_dec"], p["W_dec"].grad
    assert slope is not None
    with torch.no_grad():
        slope -= (slope * rows).sum(1, keepdim=True) * rows
    optimizer.step()
    with torch.no_grad():
        rows /= rows.norm(dim=1, keepdim=True)
    return float(value.detach())


def train_all(
    model: GPT2,
    seed: int,
    latents: Mapping[str, int],
    steps: Mapping[str, int] = STEPS,
    rate: float = 1e-3,
) -> dict[str, dict[str, Tensor]]:
    """The dictionaries of these sites, with so many latents, after so many steps; each as if it
    were trained alone."""
    encoding = _encoding(model)
    first = reads(model, encoding, seed, 0)
    learners = {site: start(first[site], n, seed) for site, n in latents.items()}
    every = {
        site: torch.optim.Adam([x.requires_grad_() for x in p.values()], lr=rate, betas=(0.9, 0.99))
        for site, p in learners.items()
    }
    for step in (bar := tqdm(range(max(steps[site] for site in latents)), unit="step")):
        seen = reads(model, encoding, seed, step)
        for site in (site for site in learners if step < steps[site]):
            every[site].param_groups[0]["lr"] = train.learning_rate(step, steps[site], rate)
            value = descend(learners[site], every[site], seen[site], cut=site in CUT)
            if step % 20 == 0:
                bar.set_postfix({site: f"{1 - value:.3f}"})
    return {site: {name: x.detach() for name, x in p.items()} for site, p in learners.items()}


def _encoding(model: GPT2) -> tiktoken.Encoding:
    assert model.tokenizer is not None
    assert isinstance(model.tokenizer.vocabulary, Tiktoken)
    return model.tokenizer.vocabulary.encoding


@torch.inference_mode()
def reads(model: GPT2, encoding: tiktoken.Encoding, seed: int, step: int) -> dict[str, Tensor]:
    """What is read at every site, [tokens, width], on a step's own text."""
    trace = model.run(train.batch(encoding, SEED + seed, step)[:, :-1])
    return {site: trace[site].flatten(0, 1).clone() for site in SITES}


def write(p: Mapping[str, Tensor], site: str, folder: Path) -> None:
    """A folder of SAELens, in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    width, n = p["W_enc"].shape
    facts = {
        "architecture": "topk",
        "k": K,
        "d_in": width,
        "d_sae": n,
        "dtype": "float16",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "metadata": {"hook_name": SITES[site], "model_name": "ioi-mini"},
    }
    (folder / "cfg.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    half = {name: x.half().contiguous() for name, x in p.items()}
    save_file(half, folder / "sae_weights.safetensors")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("ioi-mini-dictionaries"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sites", nargs="+", choices=SITES, default=list(SITES))
    given = parser.parse_args()
    latents = {site: LATENTS[site] for site in given.sites}
    found = train_all(weights.load("ioi-mini"), given.seed, latents)
    for site, p in found.items():
        write(p, site, given.out / site)


if __name__ == "__main__":
    main()
