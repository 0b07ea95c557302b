"""A model's Config from what is written about it (config.json, nanoGPT's model_args) and from its
tensors; and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from minigpt.config import Config
from minigpt.params import Params
from weights.errors import WeightsError

# Config's field: what it is called elsewhere; the first that is given counts
NAMES = {
    "n_layer": ("n_layer",),
    "n_head": ("n_head",),
    "d_model": ("n_embd",),
    "d_mlp": ("n_inner",),
    "n_ctx": ("n_positions", "n_ctx", "block_size"),
    "n_vocab": ("vocab_size",),
    "eps": ("layer_norm_epsilon",),
}
# more than any model has of anything
LARGEST = 10**7
# what the engine's one forward pass is
ONLY = {
    "model_type": "gpt2",
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "reorder_and_upcast_attn": False,
    "add_cross_attention": False,
}


def config_of(
    facts: Mapping[str, Any], state: Mapping[str, Tensor], n_head: int | None = None
) -> Config:
    """What the facts say, completed by the shapes of the tensors. The number of heads is in no
    shape: it must be said."""
    refuse_other_models(facts)
    sizes, values = measured(state), said(facts)
    if wrong := [
        f"{NAMES[field][0]} is {values[field]}, the tensors say {n}"
        for field, n in sizes.items()
        if values.get(field, n) != n and not _implied(field, facts)
    ]:
        raise WeightsError(
            "its config is of another model than its tensors:\n    " + "\n    ".join(wrong),
            "a config.json and weights that belong together",
        )
    values = {**sizes, **values}
    if n_head is not None and values.setdefault("n_head", n_head) != n_head:
        raise WeightsError(
            f"n_head={n_head}, but the checkpoint says n_head={values['n_head']}", "n_head left out"
        )
    if unknown := [name for name in NAMES if name not in values and name != "eps"]:
        only_heads = unknown == ["n_head"]
        seen = ", ".join(list(state)[:4]) or "none"
        raise WeightsError(
            f"nothing tells {', '.join(unknown)}: not the tensors ({seen} ...), no config "
            "beside them",
            "a config.json with " + ", ".join(NAMES[name][0] for name in unknown),
            "weights.load(..., n_head=12), with this model's number" if only_heads else "",
        )
    return Config(**values)


def said(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Config's fields as far as the facts give them; an MLP of no given width is four times as wide
    as the stream."""
    found = {
        field: next((_number(key, facts[key]) for key in keys if facts.get(key) is not None), None)
        for field, keys in NAMES.items()
    }
    if found["d_mlp"] is None and found["d_model"] is not None:
        found["d_mlp"] = 4 * found["d_model"]
    return {field: value for field, value in found.items() if value is not None}


def _number(key: str, value: Any) -> Any:
    """A number of a config, of the type and range that it has there."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if key != "layer_norm_epsilon":
        if not whole or not 1 <= value <= LARGEST:
            raise WeightsError(f"{key} is {value!r}", f"a whole number from 1 to {LARGEST:,}")
    elif not (whole or isinstance(value, float)) or not 0 <= value < 1:
        raise WeightsError(f"{key} is {value!r}", "a number from 0 up to 1")
    return value


def measured(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Config's fields as far as the tensors' shapes show them."""
    axes = {
        "n_vocab": ("wte.weight", 0),
        "d_model": ("wte.weight", 1),
        "n_ctx": ("wpe.weight", 0),
        "d_mlp": ("h.0.mlp.c_fc.weight", 1),
    }
    found = {
        field: state[name].shape[axis]
        for field, (name, axis) in axes.items()
        if name in state and state[name].ndim == 2
    }
    layers = {match[1] for name in state if (match := re.match(r"h\.(\d+)\.", name))}
    return {**found, "n_layer": len(layers)} if layers else found


def refuse_other_models(facts: Mapping[str, Any]) -> None:
    """WeightsError where the facts describe a model that the engine's forward pass is not."""
    other = [
        f"{key} is {facts[key]!r}, here it is always {_all(only)[0]!r}"
        for key, only in ONLY.items()
        if not any(facts.get(key) is x or facts.get(key) == x for x in (*_all(only), None))
    ]
    if other:
        kind = ", ".join(map(str, facts.get("architectures") or ())) or "a model"
        raise WeightsError(
            f"its config describes another model than GPT-2 ({kind}), whose logits would come out "
            "wrong:\n    " + "\n    ".join(other),
            "GPT-2's own architecture",
        )


def _implied(field: str, facts: Mapping[str, Any]) -> bool:
    """Whether no fact gives a field."""
    return all(facts.get(key) is None for key in NAMES[field])


def _all(only: object) -> tuple[object, ...]:
    """What GPT-2's own is called; its first name is written."""
    return only if isinstance(only, tuple) else (only,)


def to_facts(params: Params, end: int | None) -> dict[str, Any]:
    """A config.json that Hugging Face's GPT2LMHeadModel reads; end is the number of the end-of-text
    token, where there is one."""
    given = {names[0]: getattr(params.config, field) for field, names in NAMES.items()}
    fixed = {key: _all(only)[0] for key, only in ONLY.items() if key != "model_type"}
    # the engine has no dropout: with none there, the model is the same in Hugging Face's training
    # mode too
    drops = dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0)
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        **given,
        **fixed,
        **drops,
        "tie_word_embeddings": params.tied,
        "bos_token_id": end,
        "eos_token_id": end,
        "dtype": str(params.wte.dtype).removeprefix("torch."),
    }
