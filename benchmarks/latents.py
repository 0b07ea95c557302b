"""Latents: a dictionary of 32,768 latents of one MLP of GPT-2 small: loading it, tracing with it,
direct effects of all its active latents, exact total effects of the 200 strongest."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

import weights
from benchmarks import runner, setting
from interp import attribution
from minigpt import GPT2, Patch, Trace
from minigpt.recompute.rerun import full_flops

LATENTS, K, STRONGEST = 32_768, 32, 200
# Loads a folder in a process of its own: seconds, and bytes that it holds then and did not before.
LOAD = """
import resource, sys, time
import weights, torch
def held(): return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
weights.load_dictionary
before, start = held(), time.perf_counter()
known = weights.load_dictionary(sys.argv[1])
known.encoder.sum(), known.decoder.sum()
print(time.perf_counter() - start, held() - before)
"""


def main() -> None:
    with setting.setting() as place, tempfile.TemporaryDirectory() as folder:
        size = write(Path(folder), place.model)
        read = runner.race({"load": lambda: load(folder)[0]}, 3, 1)
        known = weights.load_dictionary(folder)
        model = place.model.with_dictionaries(known)
        tokens = setting.pairs(32, 16, [8]).clean
        traced = runner.alternate(
            {
                "trace": lambda: model.run(tokens),
                "latents": lambda: lit(model, tokens),
                "logits": lambda: model.run(tokens).logits,
                "logits and latents": lambda: spoken(model, tokens),
            },
            setting.rounds(5),
            1,
        )
        one = setting.pairs(1, 20, [8])
        run, metric = model.run(one), setting.metric(one)
        names = strongest(run)
        asked = runner.alternate(
            {
                "direct": lambda: attribution.direct(model.run(one), metric, latents=["m5"]),
                "totals": lambda: totals(model, run, names, metric.want),
            },
            setting.rounds(3),
            1,
        )
        runner.record(
            f"a dictionary of {LATENTS:,} latents of m5",
            {**read, **traced, **asked},
            weights=place.weights,
            file=size,
            held=load(folder)[1],
            active=int((run.act("m5.l") > 0).sum()),
            ratio=traced["latents"].median / traced["trace"].median,
            ratio_with_logits=traced["logits and latents"].median / traced["logits"].median,
            least_ratio=1
            + 2 * known.encoder.numel() * tokens.numel() / full_flops(model.run(tokens)),
        )


def write(folder: Path, model: GPT2) -> int:
    """A random dictionary as SAELens has it, and its size in bytes."""
    d, draws = model.config.d_model, torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(LATENTS, d, generator=draws), dim=1)
    made = {"W_enc": rows.T.contiguous(), "W_dec": rows, "b_dec": torch.zeros(d)}
    save_file({**made, "b_enc": torch.zeros(LATENTS)}, folder / "sae_weights.safetensors")
    hook = {"hook_name": "blocks.5.hook_mlp_out", "model_name": "gpt2"}
    asked = {"architecture": "topk", "k": K, "d_in": d, "d_sae": LATENTS, "dtype": "float32"}
    more = {"normalize_activations": "layer_norm", "apply_b_dec_to_input": True}
    (folder / "cfg.json").write_text(json.dumps({**asked, **more, "metadata": hook}))
    return (folder / "sae_weights.safetensors").stat().st_size


def load(folder: str) -> tuple[float, int]:
    """Seconds and bytes that loading takes in a fresh process."""
    told = subprocess.run(
        [sys.executable, "-c", LOAD, folder], capture_output=True, text=True, check=True
    )
    seconds, held = told.stdout.split()
    return float(seconds), int(held)


def lit(model: GPT2, tokens: torch.Tensor) -> torch.Tensor:
    """A trace, and every latent of it."""
    return model.run(tokens).act("m5.l")


def spoken(model: GPT2, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A trace, all its logits and every latent of it."""
    trace = model.run(tokens)
    return trace.logits, trace.act("m5.l")


def strongest(run: Trace) -> list[str]:
    """The latents, at their positions, whose activations are largest."""
    act = run.act("m5.l")[0]
    order = act.flatten().topk(STRONGEST).indices.tolist()
    return [f"m5.l{i % act.shape[1]}@{i // act.shape[1]}" for i in order]


def totals(model: GPT2, run: Trace, names: list[str], want: str) -> torch.Tensor:
    """What becomes of the output without each of them."""
    return model.rerun(run, [Patch.zero(name) for name in names], want).values


if __name__ == "__main__":
    main()
