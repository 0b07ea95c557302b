"""Other tools' names for our addresses, both ways: ours("A9.9.Q") is a9.9.q, theirs("a9.9.q",
"eap") is a9.h9<q>.

One table says it all: {L} is a layer, {B} the layer before it, {P} a head or a neuron. Knows
nothing of tensors.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from functools import cache

from minigpt import address
from minigpt.address import Address
from minigpt.config import Config
from minigpt.errors import AddressError

TOOLS = ("transformerlens", "eap", "autocircuit", "paper", "lh")
# A row: our text, then each tool's in the order of TOOLS. Of two rows with the same text the first
# is said, both are understood. "->" marks a name that a tool has for the end of an edge only;
# TransformerLens shows one head as ACDC does, by an index: {H}.
TABLE = """
input             -                                     input         Resid Start  -        -
emb               hook_embed                            -             -            -        -
pos               hook_pos_embed                        -             -            -        -
resid{L}          blocks.{L}.hook_resid_pre             -             -            -        -
resid{L}          blocks.{B}.hook_resid_post            -             -            -        -
resid{L}.mid      blocks.{L}.hook_resid_mid             -             -            -        -
a{L}              blocks.{L}.hook_attn_out              -             -            -        -
a{L}.{P}          blocks.{L}.attn.hook_result{H}        a{L}.h{P}     A{L}.{P}     {L}.{P}  L{L}H{P}
a{L}.{P}.q        blocks.{L}.attn.hook_q{H}             a{L}.h{P}<q>  A{L}.{P}.Q   -        -
a{L}.{P}.k        blocks.{L}.attn.hook_k{H}             a{L}.h{P}<k>  A{L}.{P}.K   -        -
a{L}.{P}.v        blocks.{L}.attn.hook_v{H}             a{L}.h{P}<v>  A{L}.{P}.V   -        -
a{L}.{P}.q        blocks.{L}.hook_q_input{H}            -             -            -        -
a{L}.{P}.k        blocks.{L}.hook_k_input{H}            -             -            -        -
a{L}.{P}.v        blocks.{L}.hook_v_input{H}            -             -            -        -
a{L}.{P}.z        blocks.{L}.attn.hook_z{H}             -             -            -        -
a{L}.{P}.pattern  blocks.{L}.attn.hook_pattern[:, {P}]  -             -            -        -
a{L}.q            blocks.{L}.attn.hook_q                -             -            -        -
a{L}.k            blocks.{L}.attn.hook_k                -             -            -        -
a{L}.v            blocks.{L}.attn.hook_v                -             -            -        -
a{L}.z            blocks.{L}.attn.hook_z                -             -            -        -
a{L}.pattern      blocks.{L}.attn.hook_pattern          -             -            -        -
m{L}              blocks.{L}.hook_mlp_out               m{L}          MLP {L}      -        -
m{L}.n{P}         blocks.{L}.mlp.hook_post{H}           -             -            -        -
m{L}.in           blocks.{L}.hook_mlp_in                ->m{L}        ->MLP {L}    -        -
out               ln_final.hook_normalized              logits        Resid End    -        -
""".replace("{H}", "[:, :, {P}]")
_ROWS = [re.split(r"\s{2,}", line.strip()) for line in TABLE.strip().splitlines()]
_SAID = {
    tool: [(row[0], row[column]) for row in _ROWS if row[column] != "-"]
    for column, tool in enumerate(TOOLS, 1)
}
_HEARD = {
    tool: [(name, us) for us, name in said if not name.startswith("->")]
    for tool, said in _SAID.items()
}
_ENDS = {tool: {name.removeprefix("->"): us for us, name in said} for tool, said in _SAID.items()}
_WITH_EDGES = [tool for tool, said in _SAID.items() if len(_HEARD[tool]) < len(said)]
# What to ask for instead of what has no address.
INSTEAD = {
    "hook_scale": "trace.scale('a9.9.q'), trace.scale('m3.in') or trace.scale('out')",
    "hook_post": "trace.act('m3')",
    "hook_attn_scores": "'a9.9.pattern', after the softmax",
    "hook_result": "one head: 'blocks.9.attn.hook_result[:, :, 9]'",
}


def parse(text: str | Address, config: Config | None = None) -> Address:
    """The address that a text spells, ours or another tool's, a position behind it in either case.
    With a config, also that this model has it.

    Raises AddressError with what was given, what is legal and what was probably meant.

    >>> str(parse('blocks.5.attn.hook_z@-1'))
    'a5.z@-1'
    """
    try:
        return address.parse(text, config)
    except AddressError:
        name, at, place = str(text).rpartition("@")
        n_layer = None if config is None else config.n_layer
        if translated := _heard(name if at else place, n_layer):
            return address.parse(translated + at + place * bool(at), config)
        raise


def ours(text: str | Address, n_layer: int | None = None) -> Address:
    """The address that another tool's name stands for; an address of ours stands for itself.

    With n_layer, also that a model of so many layers has it. Raises AddressError where it is
    nobody's name.

    >>> str(ours('A9.9.Q')), str(ours('blocks.5.hook_resid_mid'))
    ('a9.9.q', 'resid5.mid')
    """
    if not isinstance(text, str):
        return _in_model(address.parse(text), n_layer)
    if translated := _heard(text, n_layer):
        return address.parse(translated)
    try:
        return _in_model(address.parse(text), n_layer)
    except AddressError as error:
        raise _nobodys(text, n_layer) from error


def theirs(address: str | Address, tool: str, n_layer: int | None = None) -> str:
    """What a tool of TOOLS calls an address. With n_layer=12, resid12 is blocks.11.hook_resid_post.

    Raises AddressError where the tool has no name for it.

    >>> theirs('a9.9.q', 'eap'), theirs('m3', 'transformerlens')
    ('a9.h9<q>', 'blocks.3.hook_mlp_out')
    """
    if tool not in TOOLS:
        raise AddressError(f"no names of {tool!r} are known here", ", ".join(TOOLS))
    asked, edges = _in_model(parse(address), n_layer), tool in _WITH_EDGES
    names = [_translate(str(site), _SAID[tool], n_layer) for site in asked.sites]
    alone = len(names) == 1 and not names[0].startswith("->")
    if asked.at is None and all(names) and (alone or (edges and len(names) == 2)):
        return "->".join(name.removeprefix("->") for name in names)
    raise _nameless(asked, tool)


def _heard(text: str, n_layer: int | None) -> str:
    """A name of the first tool that has it, or of an edge of such names, as an address; "" where
    none has."""
    writer, arrow, reader = text.partition("->")
    for tool in _WITH_EDGES if arrow else TOOLS:
        sites = [_translate(writer, _HEARD[tool], n_layer)]
        sites += [_translate(reader, _ENDS[tool].items(), n_layer)] if arrow else []
        if all(sites):
            return ">".join(sites)
    return ""


def _nobodys(text: str, n_layer: int | None) -> AddressError:
    model = "" if n_layer is None else f" in a model of {n_layer} layers"
    instead = next((hint for word, hint in INSTEAD.items() if word in text), "") or _near(text)
    return AddressError(
        f"'{text}' names nothing known here{model}",
        f"an address such as 'a9.9.q', or a name of {', '.join(TOOLS)}",
        instead,
    )


def _nameless(address: Address, tool: str) -> AddressError:
    legal = [*dict.fromkeys(us.format(L=9, P=9) for _, us in _HEARD[tool])]
    legal += ["and an edge of two"] * (tool in _WITH_EDGES)
    bare = Address(address.sites)
    instead = "" if address.at is None else f"'{bare}', and the position as an index"
    return AddressError(f"{tool} has no name for '{address}'", ", ".join(legal), instead)


def _translate(text: str, forms: Iterable[tuple[str, str]], n_layer: int | None) -> str:
    """What the first form that spells text (and whose layer the model has) becomes; "" if none
    does."""
    for spelled, becomes in forms:
        if match := _pattern(spelled).fullmatch(text):
            number = {field: int(digits) for field, digits in match.groupdict().items()}
            layer = number.get("L", number.get("B", -1) + 1)
            shown = layer - 1 if "{B}" in spelled + becomes else layer
            if 0 <= shown < (math.inf if n_layer is None else n_layer):
                return becomes.format(L=layer, B=layer - 1, P=number.get("P"))
    return ""


@cache
def _pattern(form: str) -> re.Pattern[str]:
    return re.compile(
        re.sub(r"\\{(\w)\\}", r"(?P<\1>0|[1-9][0-9]*)", re.escape(form).replace(r",\ ", r",\ ?"))
    )


def _in_model(address: Address, n_layer: int | None) -> Address:
    for site in address.sites:
        if (
            n_layer is not None
            and site.layer is not None
            and site.layer >= n_layer + (site.kind == "resid")
        ):
            raise AddressError(
                f"'{address}': layer {site.layer} of {n_layer}", f"layers 0 to {n_layer - 1}"
            )
    return address


def _near(text: str) -> str:
    """The known names that look most like text, with its numbers."""
    layer, part = [*re.findall(r"\d+", text), "0", "0"][:2]
    known = {
        name.format(L=layer, B=layer, P=part) for names in _HEARD.values() for name, _ in names
    } - {text}
    return " or ".join(
        repr(name) for name in difflib.get_close_matches(text, sorted(known), n=2, cutoff=0.5)
    )
