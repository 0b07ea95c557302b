"""Run in the peers' own environment: writes dictionaries with SAELens and dictionary_learning, and
what they answer. `python peers.py FOLDER`."""

from __future__ import annotations

import json
import sys
import types
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import save_file

D, N, K = 16, 48, 5
HOOKS = {"hook_name": "blocks.1.hook_resid_pre", "model_name": "gpt2"}
PORTS = {"hook_name": "blocks.1.ln2.hook_normalized", "hook_name_out": "blocks.1.hook_mlp_out"}


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    """Every parameter a number of its own, thresholds among them."""
    with torch.no_grad():
        for name, x in module.named_parameters():
            x.copy_(torch.randn_like(x) * (0.1 if "log" in name else D**-0.5))
    return module


def keep(folder: Path, name: str, z: torch.Tensor, out: torch.Tensor, x: torch.Tensor) -> None:
    """What a peer answers, beside its dictionary."""
    kept = {"x": x, "z": z.to_dense() if z.is_sparse else z, "out": out}
    save_file({k: v.detach().contiguous() for k, v in kept.items()}, folder / f"{name}.safetensors")


def saelens(folder: Path, x: torch.Tensor) -> None:
    """Every architecture of inference, and both that are trained in batches."""
    from sae_lens import SAE, TrainingSAE

    cases = {
        "standard": ("standard", {}),
        "topk": ("topk", {"k": K}),
        "topk_rescaled": ("topk", {"k": K, "rescale_acts_by_decoder_norm": True}),
        "jumprelu": ("jumprelu", {}),
        "gated": ("gated", {}),
        "layer_norm": ("standard", {"normalize_activations": "layer_norm"}),
        "rescaled": ("standard", {"normalize_activations": "constant_norm_rescale"}),
        "transcoder": ("transcoder", {"d_out": D}),
        "skip_transcoder": ("skip_transcoder", {"d_out": D}),
        "jumprelu_transcoder": ("jumprelu_transcoder", {"d_out": D}),
    }
    for name, (kind, extra) in cases.items():
        metadata = {**HOOKS, **(PORTS if "transcoder" in kind else {})}
        facts = {"architecture": kind, "d_in": D, "d_sae": N, "dtype": "float32", "device": "cpu"}
        facts |= {"apply_b_dec_to_input": False} if "transcoder" in kind else {}
        sae = randomised(SAE.from_dict({**facts, **extra, "metadata": metadata}))
        sae.save_model(folder / name)
        keep(folder, name, sae.encode(x), sae(x), x)
    for kind, extra in {
        "batchtopk": {"k": K},
        "matryoshka_batchtopk": {"k": K, "matryoshka_widths": [16, N]},
    }.items():
        facts = {"architecture": kind, "d_in": D, "d_sae": N, "dtype": "float32", "device": "cpu"}
        sae = randomised(TrainingSAE.from_dict({**facts, **extra, "metadata": HOOKS}))
        sae.topk_threshold.fill_(0.4)
        sae.save_inference_model(folder / kind)
        kept = SAE.load_from_disk(folder / kind)
        keep(folder, kind, kept.encode(x), kept(x), x)


def learning(folder: Path, x: torch.Tensor) -> None:
    """Every class that dictionary_learning keeps."""
    # its own __init__ loads what collects activations, which nothing here needs
    package = types.ModuleType("dictionary_learning")
    package.__path__ = find_spec("dictionary_learning").submodule_search_locations
    sys.modules["dictionary_learning"] = package
    from dictionary_learning import dictionary
    from dictionary_learning.trainers import batch_top_k, matryoshka_batch_top_k, top_k

    made = {
        "AutoEncoder": dictionary.AutoEncoder(D, N),
        "AutoEncoderTopK": top_k.AutoEncoderTopK(D, N, K),
        "BatchTopKSAE": batch_top_k.BatchTopKSAE(D, N, K),
        "JumpReluAutoEncoder": dictionary.JumpReluAutoEncoder(D, N),
        "GatedAutoEncoder": dictionary.GatedAutoEncoder(D, N),
        "MatryoshkaBatchTopKSAE": matryoshka_batch_top_k.MatryoshkaBatchTopKSAE(D, N, K, [16, 32]),
    }
    for name, ae in made.items():
        randomised(ae)
        if isinstance(getattr(ae, "threshold", None), torch.Tensor) and ae.threshold.ndim == 0:
            ae.threshold.fill_(0.4)
        (folder / name).mkdir()
        torch.save(ae.state_dict(), folder / name / "ae.pt")
        trainer = {"dict_class": name, "lm_name": "gpt2", "submodule_name": "resid_post_layer_0"}
        (folder / name / "config.json").write_text(json.dumps({"trainer": trainer}))
        z = ae.encode(x)
        keep(folder, name, z, ae.decode(z), x)


if __name__ == "__main__":
    torch.manual_seed(0)
    into, rows = Path(sys.argv[1]), torch.randn(40, D) + 0.3
    saelens(into, rows)
    learning(into, rows)
