"""Other programs' names and layouts to the engine's and back, by one table. Knows nothing of files.

huggingface  the engine's own names behind 'transformer.' (or bare); linear maps are stored [in,
             out]; lm_head only if untied
nanogpt      nanoGPT's and minGPT's: the same names behind 'transformer.', linear maps [out, in],
             always with lm_head; a nanoGPT model with bias=False has no biases, LayerNorm's
             included: they are filled in as zeros
mingpt-2020  minGPT before 2022: the names of RENAMED, queries', keys' and values' maps apart,
             linear maps [out, in]
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from minigpt.params import UNEMBED, Params, no_numbers, tensors
from weights.errors import WeightsError, WeightsWarning

Layout = Literal["huggingface", "nanogpt", "mingpt-2020"]
State = dict[str, Tensor]

# the engine's name, or a piece of it: minGPT's before 2022
RENAMED = {
    "wte.weight": "tok_emb.weight",
    "wpe.weight": "pos_emb",
    UNEMBED: "head.weight",
    "h.": "blocks.",
    ".ln_1.": ".ln1.",
    ".ln_2.": ".ln2.",
    ".attn.c_proj.": ".attn.proj.",
    ".mlp.c_fc.": ".mlp.0.",
    ".mlp.c_proj.": ".mlp.2.",
}
WRAPPERS = re.compile(r"^((_orig_mod|module|model|transformer)\.)+")
STATES = ("model", "state_dict", "model_state_dict")
BUFFER = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)|blocks\.\d+\.attn\.mask")
LINEAR = re.compile(r"h\.\d+\.(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight")
QKV = ("query", "key", "value")
EXACT_GELU = (
    "this checkpoint's program uses the exact GELU, the engine has GPT-2's tanh form: each "
    "activation differs by up to "
    "4.8e-4, so logits are near those of the training, not the same"
)


def to_engine(content: Mapping[str, Any]) -> tuple[State, dict[str, Any]]:
    """A checkpoint's tensors under the engine's names, and what it says of its own shape (nanoGPT's
    model_args, else nothing).

    Warns where the model was surely trained with the exact GELU: nanoGPT's checkpoints and minGPT's
    before 2022. A nanoGPT state dict saved alone, with biases, looks like minGPT's (tanh form) and
    passes without the warning.
    """
    given, facts = unpacked(content)
    state = {name: x.detach() for name, x in unwrapped(given).items() if not BUFFER.fullmatch(name)}
    exact = bool(facts) or "tok_emb.weight" in state
    if "tok_emb.weight" in state:
        state = joined(renamed(state, {theirs: ours for ours, theirs in RENAMED.items()}))
    if is_linear(state):
        bare = not any(name.endswith(".bias") for name in state)
        exact, state = exact or bare, transposed(with_zero_biases(state) if bare else state)
    if exact:
        warnings.warn(EXACT_GELU, WeightsWarning, stacklevel=4)
    return state, facts


def from_engine(params: Params, layout: Layout = "huggingface") -> State:
    """The parameters as that program's state dict; to_engine takes it back."""
    if layout not in get_args(Layout):
        raise WeightsError(f"layout={layout!r}", ", ".join(get_args(Layout)))
    state = tensors(params)
    if layout != "huggingface":
        state = transposed({**state, UNEMBED: params.unembed})
    if layout == "mingpt-2020":
        return renamed(split(state), RENAMED)
    return {name if name == UNEMBED else f"transformer.{name}": x for name, x in state.items()}


def unpacked(content: Mapping[str, Any]) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
    """The state dict inside a training checkpoint, and its model_args."""
    state = next((content[key] for key in STATES if isinstance(content.get(key), Mapping)), content)
    if strange := [
        str(name)
        for name, x in state.items()
        if not isinstance(name, str) or not isinstance(x, Tensor)
    ]:
        raise WeightsError(
            f"it holds things that are no tensors: {', '.join(strange[:8])}",
            "names and tensors, alone or under one of " + ", ".join(STATES),
        )
    _refuse_unreadable(state)
    facts = content.get("model_args") if state is not content else None
    return state, dict(facts) if isinstance(facts, Mapping) else {}


def _refuse_unreadable(state: Mapping[str, Tensor]) -> None:
    """WeightsError where a tensor is no plain array: sparse, quantized, a shape alone ..."""
    if strange := [
        f"{name} is {what}"
        for name, x in state.items()
        if not BUFFER.search(name) and (what := no_numbers(x))
    ]:
        raise WeightsError(
            f"it holds no plain numbers: {'; '.join(strange[:4])}",
            "dense tensors of floating-point numbers",
            "x.to_dense(), x.dequantize() or x.float() of each, then torch.save, where it was made",
        )


def unwrapped(state: Mapping[str, Tensor]) -> State:
    """Without what torch.compile, DataParallel and the surrounding module put in front of names."""
    bare = {WRAPPERS.sub("", name): x for name, x in state.items()}
    if len(bare) < len(state):
        raise WeightsError(
            "two tensors for one name, such as wte.weight and transformer.wte.weight", "one of each"
        )
    return bare


def renamed(state: Mapping[str, Tensor], table: Mapping[str, str]) -> State:
    """With every piece of a name that is in the table exchanged; positions gain or lose minGPT's
    leading axis of 1."""
    ours = {}
    for name, x in state.items():
        for old, new in table.items():
            name = name.replace(old, new, 1)
        ours[name] = (
            x[None] if name == "pos_emb" else x[0] if name == "wpe.weight" and x.ndim == 3 else x
        )
    return ours


def joined(state: Mapping[str, Tensor]) -> State:
    """Queries', keys' and values' maps [out, in] as one, in that order; an incomplete three is
    left, to be reported."""
    fused = dict(state)
    for first in [name for name in state if ".attn.query." in name]:
        three = [first.replace("query", part) for part in QKV]
        if len({state[name].shape if name in state else None for name in three}) == 1:
            fused[first.replace("query", "c_attn")] = torch.cat([fused.pop(name) for name in three])
    return fused


def split(state: Mapping[str, Tensor]) -> State:
    """The inverse of joined."""
    found = {name: x for name, x in state.items() if ".c_attn." not in name}
    for name in state.keys() - found.keys():
        found |= {
            name.replace("c_attn", part): x
            for part, x in zip(QKV, state[name].chunk(3), strict=True)
        }
    return found


def is_linear(state: Mapping[str, Tensor]) -> bool:
    """Whether linear maps are [out, in]: told by c_attn, since c_proj is square."""
    return any(
        x.ndim == 2 and x.shape[0] == 3 * x.shape[1]
        for name, x in state.items()
        if name.endswith(".attn.c_attn.weight")
    )


def transposed(state: Mapping[str, Tensor]) -> State:
    """Linear maps the other way round; copied, so that products run over the same layout, hence to
    the same bits, as ever."""
    return {
        name: x.T.contiguous() if LINEAR.fullmatch(name) and x.ndim == 2 else x
        for name, x in state.items()
    }


def with_zero_biases(state: Mapping[str, Tensor]) -> State:
    """A zero bias for every LayerNorm and linear map [out, in]."""
    inner = {
        name: x
        for name, x in state.items()
        if name.endswith(".weight") and name not in ("wte.weight", "wpe.weight", UNEMBED) and x.ndim
    }
    return {
        **state,
        **{
            name.removesuffix("weight") + "bias": x.new_zeros(x.shape[0])
            for name, x in inner.items()
        },
    }


def without_tied_head(state: State) -> State:
    """Without an unembedding that is the embedding once more (the same memory or the same numbers),
    or the only one of the two that a file has."""
    if UNEMBED in state and "wte.weight" not in state:
        rest = {name: x for name, x in state.items() if name != UNEMBED}
        return {"wte.weight": state[UNEMBED], **rest}
    head, wte = state.get(UNEMBED), state.get("wte.weight")
    if head is None or wte is None or head.dtype != wte.dtype or head.shape != wte.shape:
        return state
    tied = head.data_ptr() == wte.data_ptr() or torch.equal(head, wte)
    return {name: x for name, x in state.items() if name != UNEMBED} if tied else state
