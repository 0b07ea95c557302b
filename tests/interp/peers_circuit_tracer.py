"""Run in the peers' own environment: circuit-tracer's attribution graph of one prompt.
`python peers_circuit_tracer.py FOLDER`: the model is read from FOLDER/model, the transcoders and
the answers are written into FOLDER. `--read FILE`: whether it can read a graph of ours."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import torch
from circuit_tracer.attribution.attribute import attribute
from circuit_tracer.attribution.targets import CustomTarget
from circuit_tracer.frontend.graph_models import Model
from circuit_tracer.graph import compute_graph_scores
from circuit_tracer.replacement_model.replacement_model_transformerlens import (
    TransformerLensReplacementModel,
)
from circuit_tracer.transcoder.activation_functions import JumpReLU
from circuit_tracer.transcoder.single_layer_transcoder import SingleLayerTranscoder, TranscoderSet
from safetensors.torch import load_file, save_file
from transformer_lens import HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights
from transformers import GPT2LMHeadModel

HOOKS = {"feature_input_hook": "mlp.hook_in", "feature_output_hook": "hook_mlp_out"}
LATENTS = 96


class Words:
    """Just enough of a tokenizer: token 0 begins a prompt."""

    vocab_size, bos_token_id, pad_token_id, all_special_ids = 50, 0, 0, (0,)
    padding_side = "right"

    def decode(self, ids: object) -> str:
        """A name for a token."""
        return str(ids)


def transcoders(layers: int, width: int) -> TranscoderSet:
    """Random ones, of which some latents are on."""
    made = {}
    for layer in range(layers):
        jump = JumpReLU(torch.full((LATENTS,), 0.3), 0.1)
        one = SingleLayerTranscoder(width, LATENTS, jump, layer, dtype=torch.float32)
        with torch.no_grad():
            for name in ("W_enc", "W_dec"):
                getattr(one, name).normal_(0, width**-0.5)
            one.b_enc.normal_(0, 0.1)
            one.b_dec.normal_(0, 0.1)
        made[layer] = one
    return TranscoderSet(made, **HOOKS)


def replaced(folder: Path) -> TransformerLensReplacementModel:
    """The model with its transcoders, which are written as circuit-tracer writes them."""
    read = GPT2LMHeadModel.from_pretrained(folder / "model")
    c = read.config
    cfg = HookedTransformerConfig(
        n_layers=c.n_layer,
        d_model=c.n_embd,
        n_heads=c.n_head,
        d_head=c.n_embd // c.n_head,
        d_mlp=c.n_inner or 4 * c.n_embd,
        n_ctx=c.n_positions,
        d_vocab=c.vocab_size,
        act_fn="gelu_new",
        eps=c.layer_norm_epsilon,
        normalization_type="LN",
        device="cpu",
        model_name="gpt2",
    )
    model = TransformerLensReplacementModel(cfg)
    model.load_state_dict(convert_gpt2_weights(read, cfg), strict=False)
    model.tokenizer = Words()
    made = transcoders(c.n_layer, c.n_embd)
    made.to_safetensors(str(folder))
    lines = [f'{name}: "{hook}"\n' for name, hook in HOOKS.items()]
    (folder / "config.yaml").write_text("".join(lines))
    model._configure_replacement_model(made)
    return model


class Vocabularies:
    """In the place of what would be fetched."""

    @staticmethod
    def from_pretrained(_name: str) -> Words:
        """The same for every model."""
        return Words()


def read(file: Path) -> None:
    """Its own model of the file takes it, and every link joins two nodes."""
    graph = Model.model_validate_json(file.read_text())
    names = {node.node_id for node in graph.nodes}
    assert all({link["source"], link["target"]} <= names for link in graph.links)


def write(into: Path) -> None:
    """A model's transcoders, answers and graph."""
    asked = load_file(into / "asked.safetensors")
    peer = replaced(into)
    a, b = asked["answers"].tolist()
    toward = peer.unembed.W_U[:, a] - peer.unembed.W_U[:, b]
    graph = attribute(
        asked["tokens"], peer, attribution_targets=[CustomTarget("a - b", 1.0, toward)]
    )
    answers = {
        "logits": peer(asked["tokens"][None])[0],
        "features": graph.active_features[graph.selected_features],
        "activations": graph.activation_values[graph.selected_features],
        "adjacency": graph.adjacency_matrix,
        "scores": torch.tensor(compute_graph_scores(graph)),
    }
    kept = {name: x.detach().contiguous() for name, x in answers.items()}
    save_file(kept, into / "answers.safetensors")
    drawn = import_module("circuit_tracer.utils.create_graph_files")
    drawn.AutoTokenizer = Vocabularies
    drawn.create_graph_files(graph, "theirs", into / "graph", "gpt2")


if __name__ == "__main__":
    torch.manual_seed(0)
    read(Path(sys.argv[2])) if sys.argv[1] == "--read" else write(Path(sys.argv[1]))
