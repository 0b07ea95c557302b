"""The parameters, frozen, and the one table of their names and shapes.

Names are those of Hugging Face's checkpoint, linear maps are stored [in, out] as there; no number
is folded or centred. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor

from minigpt.address import Site, parse
from minigpt.config import Config
from minigpt.dictionary import Dictionary
from minigpt.errors import AddressError, ParamsError
from minigpt.shown import Shown

# field: (name in the checkpoint, shape); D d_model, N d_mlp, V n_vocab, C n_ctx
STEM = {
    "wte": ("wte.weight", "V D"),
    "wpe": ("wpe.weight", "C D"),
    "ln_w": ("ln_f.weight", "D"),
    "ln_b": ("ln_f.bias", "D"),
}
BLOCK = {
    "ln1_w": ("ln_1.weight", "D"),
    "ln1_b": ("ln_1.bias", "D"),
    "w_qkv": ("attn.c_attn.weight", "D 3D"),
    "b_qkv": ("attn.c_attn.bias", "3D"),
    "w_o": ("attn.c_proj.weight", "D D"),
    "b_o": ("attn.c_proj.bias", "D"),
    "ln2_w": ("ln_2.weight", "D"),
    "ln2_b": ("ln_2.bias", "D"),
    "w_in": ("mlp.c_fc.weight", "D N"),
    "b_in": ("mlp.c_fc.bias", "N"),
    "w_out": ("mlp.c_proj.weight", "N D"),
    "b_out": ("mlp.c_proj.bias", "D"),
}
UNEMBED = "lm_head.weight"


@dataclass(frozen=True, eq=False, repr=False)
class Block(Shown):
    """One layer's parameters; w_qkv holds the queries', keys' and values' maps side by side."""

    ln1_w: Float[Tensor, "d_model"]
    ln1_b: Float[Tensor, "d_model"]
    w_qkv: Float[Tensor, "d_model 3*d_model"]
    b_qkv: Float[Tensor, "3*d_model"]
    w_o: Float[Tensor, "d_model d_model"]
    b_o: Float[Tensor, "d_model"]
    ln2_w: Float[Tensor, "d_model"]
    ln2_b: Float[Tensor, "d_model"]
    w_in: Float[Tensor, "d_model d_mlp"]
    b_in: Float[Tensor, "d_mlp"]
    w_out: Float[Tensor, "d_mlp d_model"]
    b_out: Float[Tensor, "d_model"]


@dataclass(frozen=True, eq=False, repr=False)
class Params(Shown):
    """All parameters of a model. unembed is the very tensor wte where the two are tied.

    dictionaries: what stands beside them, by what each explains; no logit depends on one.
    """

    config: Config
    wte: Float[Tensor, "vocab d_model"]
    wpe: Float[Tensor, "n_ctx d_model"]
    blocks: tuple[Block, ...]
    ln_w: Float[Tensor, "d_model"]
    ln_b: Float[Tensor, "d_model"]
    unembed: Float[Tensor, "vocab d_model"]
    dictionaries: Mapping[str, Dictionary] = field(default_factory=dict)

    @property
    def tied(self) -> bool:
        """Whether the unembedding is the token embedding."""
        return self.unembed is self.wte

    def to(
        self, device: str | torch.device | None = None, dtype: torch.dtype | None = None
    ) -> Params:
        """The same parameters on another device or in another type; shares what need not change.

        ParamsError where there is no such device, or the type is none of floating point.
        """
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise ParamsError(
                f"dtype={dtype!r}",
                "torch.float32, torch.float64, torch.bfloat16, torch.float16",
                f"torch.{dtype}"
                if isinstance(getattr(torch, str(dtype), None), torch.dtype)
                else "",
            )
        try:
            moved = {name: x.to(device=device, dtype=dtype) for name, x in tensors(self).items()}
            beside = {at: known.to(device, dtype) for at, known in self.dictionaries.items()}
        # torch raises AssertionError for a device that it was built without
        except (RuntimeError, AssertionError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise ParamsError(f"device={device!r}: {reason}", "cpu, cuda, cuda:0, mps") from error
        return replace(build(self.config, moved), dictionaries=beside)

    def dictionary(self, part: Site) -> Dictionary:
        """The dictionary that a latent, a bias or an error is of.

        AddressError where there is none, or it has no such latent.
        """
        if (found := self.dictionaries.get(str(part.whole))) is None:
            raise AddressError(
                f"'{part}': this model has no dictionary of {part.whole}",
                ", ".join(self.dictionaries) or "no dictionary is there yet",
                f"model.with_dictionaries(dictionary), one that explains {str(part.whole)!r}; "
                "--latents DICTIONARY in a command",
            )
        if part.part is not None and part.part >= found.n_latents:
            raise AddressError(
                f"'{part}': latent {part.part} of {found.n_latents}",
                f"latents 0 to {found.n_latents - 1}",
                f"'{replace(part, part=found.n_latents - 1)}'",
            )
        return found

    def with_dictionaries(self, dictionaries: Iterable[Dictionary]) -> Params:
        """The same parameters, and these beside them, in their type and on their device.

        ParamsError where two explain one thing, or one is of another shape of model.
        """
        beside = dict(self.dictionaries)
        for known in dictionaries:
            _check_dictionary(known, self.config, beside)
            beside[known.explains] = known.to(self.wte.device, self.wte.dtype)
        return replace(self, dictionaries=beside)


def _check_dictionary(known: Dictionary, config: Config, beside: Mapping[str, Dictionary]) -> None:
    """ParamsError unless a model of this shape has what a dictionary reads and explains, which no
    other explains."""
    said, whole = f"dictionary {known.name!r} of {known.explains}", parse(known.explains).site
    last = config.n_layer - (whole.kind != "resid")
    if whole.depth > last:
        raise ParamsError(f"{said}: layer {whole.depth}", f"layers 0 to {last}")
    width = config.d_mlp if known.reads.endswith(".act") else config.d_model
    if (known.d_in, known.d_out) != (width, width):
        raise ParamsError(
            f"{said}: reads {known.d_in} and gives back {known.d_out} numbers",
            f"{width} and {width}, the width of {known.reads}",
        )
    if other := beside.get(known.explains):
        raise ParamsError(
            f"{said}: dictionary {other.name!r} explains that already",
            "one dictionary for each write or stream point",
            "the other in a model of its own",
        )


def shapes(config: Config, *, tied: bool = True) -> dict[str, tuple[int, ...]]:
    """The name and shape of every tensor of a checkpoint."""
    d, n = config.d_model, config.d_mlp
    sizes = {"D": d, "3D": 3 * d, "N": n, "V": config.n_vocab, "C": config.n_ctx}
    rows = dict(STEM.values())
    for layer in range(config.n_layer):
        rows |= {f"h.{layer}.{name}": shape for name, shape in BLOCK.values()}
    rows |= {} if tied else {UNEMBED: "V D"}
    return {name: tuple(sizes[size] for size in shape.split()) for name, shape in rows.items()}


def build(config: Config, given: Mapping[str, Tensor]) -> Params:
    """Parameters from tensors by name; without lm_head.weight the unembedding is tied to wte.

    Raises ParamsError that lists every missing, extra, mis-shaped and not finite tensor at once.
    """
    check(config, given)
    stem = {own: given[name] for own, (name, _) in STEM.items()}
    blocks = tuple(
        Block(**{own: given[f"h.{layer}.{name}"] for own, (name, _) in BLOCK.items()})
        for layer in range(config.n_layer)
    )
    unembed = given.get(UNEMBED, given["wte.weight"])
    wte, wpe, ln_w, ln_b = (stem[own] for own in ("wte", "wpe", "ln_w", "ln_b"))
    return Params(config, wte, wpe, blocks, ln_w, ln_b, unembed)


def tensors(params: Params) -> dict[str, Tensor]:
    """The inverse of build: every tensor by its name in the checkpoint."""
    named = {name: getattr(params, own) for own, (name, _) in STEM.items()}
    for layer, block in enumerate(params.blocks):
        named |= {f"h.{layer}.{BLOCK[f.name][0]}": getattr(block, f.name) for f in fields(block)}
    return named if params.tied else {**named, UNEMBED: params.unembed}


def check(config: Config, given: Mapping[str, Tensor]) -> None:
    """Raise ParamsError unless these tensors are all there, of the right shapes, of one type and
    finite."""
    if faults := list(_faults(config, given)):
        raise ParamsError(
            f"these tensors make no model of {config}:\n    " + "\n    ".join(faults),
            "the names and shapes of minigpt.params.shapes(config)",
        )


def _faults(config: Config, given: Mapping[str, Tensor]) -> Iterator[str]:
    """A line for each thing that is wrong: what is missing, what is too much, then tensor by
    tensor, then the types."""
    if strange := [f"{name} is {what}" for name, x in given.items() if (what := no_numbers(x))]:
        yield "no plain numbers: " + ", ".join(strange)
        return
    wanted = shapes(config, tied=UNEMBED not in given)
    known = {name: given[name] for name in wanted if name in given}
    yield from (f"missing: {name} {list(wanted[name])}" for name in wanted if name not in given)
    yield from (f"extra: {name} {list(given[name].shape)}" for name in given if name not in wanted)
    for name, x in known.items():
        if tuple(x.shape) != wanted[name]:
            yield f"shape: {name} is {list(x.shape)}, should be {list(wanted[name])}"
    yield from (
        f"not finite: {name} holds NaN or infinity" for name in known if not _finite(known[name])
    )
    yield from _mixed(known.values())


def _mixed(known: Iterable[Tensor]) -> Iterator[str]:
    types = {(x.dtype, x.device) for x in known}
    if len(types) > 1:
        yield "mixed: " + ", ".join(sorted(f"{dtype} on {device}" for dtype, device in types))


def no_numbers(x: Tensor) -> str:
    """What a tensor is, if it is no plain array of floating-point numbers in memory; else ''."""
    if x.is_meta:
        return "on the meta device: a shape without numbers"
    if x.is_nested or x.layout != torch.strided:
        return "nested" if x.is_nested else f"stored as {str(x.layout).removeprefix('torch.')}"
    if not x.is_floating_point():
        return f"{'quantized, ' * x.is_quantized}{x.dtype}"
    return ""


def _finite(x: Tensor) -> bool:
    """Whether no element is NaN or infinite, without a temporary of x's size."""
    return not x.numel() or all(bool(torch.isfinite(end)) for end in torch.aminmax(x))
