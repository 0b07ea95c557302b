"""What a dictionary reads, from what other tools call it: "blocks.3.hook_mlp_out" is m3,
"resid_delta_mlp" of layer 3 too."""

from __future__ import annotations

import re

from weights.errors import WeightsError

# {L} is a layer, {N} the point behind it.
HOOKS = {
    r"blocks\.{}\.hook_resid_pre": "resid{L}",
    r"blocks\.{}\.hook_resid_mid": "resid{L}.mid",
    r"blocks\.{}\.hook_resid_post": "resid{N}",
    r"blocks\.{}\.hook_attn_out": "a{L}",
    r"blocks\.{}\.hook_mlp_out": "m{L}",
    r"blocks\.{}\.mlp\.hook_post": "m{L}.act",
    r"blocks\.{}\.(?:ln2\.hook_normalized|mlp\.hook_in)": "m{L}.in",
    r"(?:(?:transformer\.)?h|layers)\.{}": "resid{N}",
    r"(?:(?:transformer\.)?h|layers)\.{}\.attn": "a{L}",
    r"(?:(?:transformer\.)?h|layers)\.{}\.mlp": "m{L}",
    r"(?:(?:transformer\.)?h|layers)\.{}\.mlp\.act": "m{L}.act",
    r"(?:(?:transformer\.)?h|layers)\.{}\.mlp\.hook_in": "m{L}.in",
    r"resid_post_layer_{}": "resid{N}",
    r"attention_out_layer_{}": "a{L}",
    r"mlp_out_layer_{}": "m{L}",
    # OpenAI's, as in their paths: location, version, folder, layer
    r"mlp_post_act(?:_v\w+)?/autoencoders/{}": "m{L}.act",
    r"resid_delta_attn(?:_v\w+)?/autoencoders/{}": "a{L}",
    r"resid_delta_mlp(?:_v\w+)?/autoencoders/{}": "m{L}",
    r"resid_post_attn(?:_v\w+)?/autoencoders/{}": "resid{L}.mid",
    r"resid_post_mlp(?:_v\w+)?/autoencoders/{}": "resid{N}",
}
# What has no place here, and why.
NOWHERE = {
    "hook_z": "the heads' z side by side, which the attention's output matrix still mixes: what "
    "a latent of it writes is no row of its decoder",
    "hook_mlp_in": "the stream before its LayerNorm, which a transcoder here reads after it",
    "hook_q": "a head's query, which writes nothing",
    "hook_k": "a head's key, which writes nothing",
    "hook_v": "a head's value, which the attention's output matrix still mixes",
}
OURS = r"(?:[am]{0}|m{0}\.(?:act|in)|resid{0}(?:\.mid)?)".format("(?:0|[1-9][0-9]*)")
LEGAL = (
    "m3, a5 (a whole write), m3.act (its neurons), m3.in (a transcoder), resid6, resid6.mid; or "
    "blocks.3.hook_mlp_out and its like"
)


def reads(hook: str) -> str:
    """What is read at a hook of another tool; of ours, itself. WeightsError where it is no whole
    write, activations, port or point of the stream.

    >>> reads('blocks.3.hook_resid_post'), reads('m3')
    ('resid4', 'm3')
    """
    if re.fullmatch(OURS, hook):
        return hook
    for form, becomes in HOOKS.items():
        if match := re.fullmatch(form.replace("{}", "(0|[1-9][0-9]{0,5})"), hook):
            layer = int(match[1])
            return becomes.format(L=layer, N=layer + 1)
    why = next((text for word, text in NOWHERE.items() if hook.endswith(word)), "")
    raise WeightsError(
        f"a dictionary of {hook[:100]!r}{f': {why}' if why else ''}",
        LEGAL,
        "site='m3', where it is m3's",
    )


def explains(reads: str) -> str:
    """The write or point of the stream that its reconstruction stands for.

    >>> explains('m3.act'), explains('resid6.mid')
    ('m3', 'resid6.mid')
    """
    return re.sub(r"\.(act|in)$", "", reads)


def in_path(path: str) -> str:
    """The end of a path that is a hook of OpenAI's; "" where none is.

    >>> in_path('/x/gpt2-small/mlp_post_act/autoencoders/3.pt')
    'mlp_post_act/autoencoders/3'
    """
    end = "/".join(path.replace("\\", "/").split("/")[-3:]).removesuffix(".pt")
    return end if re.fullmatch(r"\w+/autoencoders/\d+", end) else ""
