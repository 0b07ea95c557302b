"""A sparse autoencoder (a "dictionary"): a few of many latents stand for what a node wrote, or for
the stream at a point.

    x' = (x - mean) / s * scale, less the decoder's bias where it is centred
    z = activation(x' encoder + encoder_bias)
    reconstruction = (z decoder + decoder_bias + x' skip) / scale * s + mean

What was taken off on the way in, mean and s, is put back on the way out. Knows nothing of files,
nor of what a latent does to a run.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from minigpt import ops
from minigpt.errors import ParamsError
from minigpt.shown import Shown

# How what is read is prepared: as it is; its mean over the width taken off; that, and divided by
# its standard deviation (of d - 1, and a constant); divided by the root of its mean square.
NORMALISE = ("none", "centre", "layer_norm", "rms")
EPS = 1e-5
# Rows that are encoded at a time.
ROWS = 512
_NUMBER = r"(?:0|[1-9][0-9]*)"
_WHOLE = rf"[am]{_NUMBER}|resid{_NUMBER}(?:\.mid)?"
_READS = rf"{_WHOLE}|m{_NUMBER}\.(?:act|in)"


@dataclass(frozen=True, eq=False)
class Relu(Shown):
    """What is above zero."""

    def __call__(self, p: Float[Tensor, "... n"]) -> Float[Tensor, "... n"]:
        """The activations."""
        return torch.relu(p)


@dataclass(frozen=True, eq=False)
class TopK(Shown):
    """Of the k largest, what is above zero; of equals, those of the lower numbers."""

    k: int

    def __call__(self, p: Float[Tensor, "... n"]) -> Float[Tensor, "... n"]:
        """The activations."""
        values, which = p.topk(min(self.k + 1, p.shape[-1]), dim=-1)
        kept, least = values[..., : self.k], values[..., self.k - 1]
        z = torch.zeros_like(p).scatter_(-1, which[..., : self.k], torch.relu(kept))
        tied = (values[..., self.k :] == least[..., None]).any(-1) & (least > 0)
        if bool(tied.any()):
            z[tied] = self._of_equals(p[tied])
        return z

    def _of_equals(self, p: Float[Tensor, "rows n"]) -> Float[Tensor, "rows n"]:
        """The activations where others are as large as the last that is kept."""
        least = p.topk(self.k, dim=-1).values[..., -1:]
        above, equal = p > least, p == least
        room = self.k - above.sum(-1, keepdim=True)
        return torch.relu(p) * (above | (equal & (equal.cumsum(-1) <= room)))


@dataclass(frozen=True, eq=False)
class JumpRelu(Shown):
    """What is above zero and above each latent's own threshold."""

    threshold: Float[Tensor, "n"]

    def __call__(self, p: Float[Tensor, "... n"]) -> Float[Tensor, "... n"]:
        """The activations."""
        return torch.relu(p) * (p > self.threshold)


@dataclass(frozen=True, eq=False)
class Gated(Shown):
    """One map says which latents are on, the same one rescaled how much: magnitude is the factor
    itself, exp(r_mag) of the files."""

    gate_bias: Float[Tensor, "n"]
    magnitude: Float[Tensor, "n"]
    magnitude_bias: Float[Tensor, "n"]

    def __call__(self, p: Float[Tensor, "... n"]) -> Float[Tensor, "... n"]:
        """The activations."""
        return torch.relu(p * self.magnitude + self.magnitude_bias) * (p + self.gate_bias > 0)


Activation: TypeAlias = Relu | TopK | JumpRelu | Gated


class Prepared(NamedTuple):
    """What an encoder sees of x; what was taken off and is put back: mean and s, one number a row;
    and what x was divided by."""

    x: Float[Tensor, "... d_in"]
    mean: Float[Tensor, "... 1"]
    s: Float[Tensor, "... 1"]
    divisor: Float[Tensor, "... 1"]


@dataclass(frozen=True, eq=False, repr=False)
class Dictionary(Shown):
    """A dictionary as a value: d.encode(x), d.decode(z, x).

    reads: "m3" or "a5", a whole write; "m3.act", the activations of its neurons; "resid6",
    "resid6.mid", a stream point; "m3.in", a port: then it is a transcoder. explains: the write or
    stream point that the reconstruction stands for; of "m3.act" and "m3.in" it is "m3".

    Raises ParamsError where shapes or settings do not fit together.
    """

    name: str
    reads: str
    explains: str
    encoder: Float[Tensor, "d_in n"]
    encoder_bias: Float[Tensor, "n"]
    decoder: Float[Tensor, "n d_out"]
    decoder_bias: Float[Tensor, "d_out"]
    activation: Activation = Relu()
    normalise: str = "none"
    scale: float = 1.0
    centred: bool = False
    skip: Float[Tensor, "d_in d_out"] | None = None

    def __post_init__(self) -> None:
        self._check_places()
        self._check_settings()
        self._check_shapes()

    @property
    def n_latents(self) -> int:
        """How many latents it has."""
        return self.encoder.shape[1]

    @property
    def d_in(self) -> int:
        """The width of what it reads."""
        return self.encoder.shape[0]

    @property
    def d_out(self) -> int:
        """The width of what it gives back."""
        return self.decoder.shape[1]

    def prepared(self, x: Float[Tensor, "... d_in"]) -> Prepared:
        """What the encoder sees of x, and what is put back on the way out."""
        mean, s, divisor = self._taken(x)
        seen = x if self.normalise == "none" else (x - mean) / divisor
        seen = seen if self.scale == 1.0 else seen * self.scale
        return Prepared(seen - self.decoder_bias if self.centred else seen, mean, s, divisor)

    def score(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... n"]:
        """What the latents' activations are made of. A row's bits do not depend on what else is
        scored with it."""
        return ops.settled(self.prepared(x).x, self.encoder, self.encoder_bias)

    def encode(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... n"]:
        """The latents' activations. A row's bits do not depend on what else is encoded with it."""
        flat = x.reshape(-1, self.d_in)
        z = flat.new_empty(len(flat), self.n_latents)
        for start in range(0, len(flat), ROWS):  # so that scores need no memory of their own
            some = slice(start, start + ROWS)
            z[some] = self.activation(self.score(flat[some]))
        return z.view(*x.shape[:-1], -1)

    def decode(
        self, z: Float[Tensor, "... n"], x: Float[Tensor, "... d_in"]
    ) -> Float[Tensor, "... d_out"]:
        """The reconstruction that activations z stand for, with the mean and scale of x."""
        return self._out(ops.settled(z, self.decoder, self.decoder_bias), x)

    def bias(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        """What is written where no latent is on: decode(0, x)."""
        return self._out(self.decoder_bias.expand(*x.shape[:-1], -1), x)

    def direction(self, latent: int, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        """What a latent writes for each unit of its activation: its row of the decoder, undone as
        the reconstruction is."""
        return self.decoder[latent] / self.scale * self.prepared(x).s

    def to(
        self, device: str | torch.device | None = None, dtype: torch.dtype | None = None
    ) -> Dictionary:
        """The same on another device or in another type."""
        moved: Dictionary = _moved(self, device, dtype)
        return moved

    @cached_property
    def hash(self) -> str:
        """The SHA-256 of all that is computed with: settings and numbers, not the name."""
        digest = hashlib.sha256()
        for name, value in _contents(self):
            if isinstance(value, Tensor):
                digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
                digest.update(value.detach().cpu().contiguous().numpy().tobytes())
            elif name != "name":
                digest.update(f"{name} {value!r}\n".encode())
        return digest.hexdigest()

    def _taken(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, s and divisor of x. A row of zeros is divided by one."""
        zero, one = x.new_zeros(*x.shape[:-1], 1), x.new_ones(*x.shape[:-1], 1)
        if self.normalise == "none":
            return zero, one, one
        mean, std = _moments(x)
        if self.normalise == "centre":
            return mean, one, one
        d = self.d_in
        if self.normalise == "layer_norm":
            s = std * (d / max(1, d - 1)) ** 0.5
            return mean, s, s + EPS
        s = torch.hypot(std, mean)
        s = torch.where(s > 0, s, 1)
        return zero, s, s

    def _out(self, y: Tensor, x: Tensor) -> Tensor:
        prepared = self.prepared(x)
        if self.skip is not None:
            y = y + ops.settled(prepared.x, self.skip)
        y = y if self.scale == 1.0 else y / self.scale
        return y if self.normalise == "none" else y * prepared.s + prepared.mean

    # ---- whether it fits together

    def _check_places(self) -> None:
        if not re.fullmatch(_READS, self.reads):
            raise self._wrong(
                f"reads {self.reads!r}", "'m3', 'a5', 'm3.act', 'm3.in', 'resid6' or 'resid6.mid'"
            )
        within = self.reads.endswith((".act", ".in"))
        legal = self.reads.partition(".")[0] if within else self.reads
        if self.explains != legal:
            raise self._wrong(f"reads {self.reads!r}, explains {self.explains!r}", repr(legal))

    def _check_settings(self) -> None:
        if self.normalise not in NORMALISE:
            raise self._wrong(f"normalise={self.normalise!r}", ", ".join(map(repr, NORMALISE)))
        if self.normalise != "none" and self.reads.endswith(".in"):
            raise self._wrong(
                f"normalise={self.normalise!r} of a transcoder",
                "'none': what it gives back has another mean than what it reads",
            )
        if not self.scale > 0:
            raise self._wrong(f"scale={self.scale!r}", "a number above zero")
        if isinstance(self.activation, TopK) and not 0 < self.activation.k <= self.n_latents:
            raise self._wrong(f"TopK({self.activation.k})", f"a number from 1 to {self.n_latents}")

    def _check_shapes(self) -> None:
        if self.encoder.ndim != 2 or self.decoder.ndim != 2:
            raise self._wrong("an encoder or a decoder that is no matrix", "[d_in, n], [n, d_out]")
        n, d_in, d_out = self.n_latents, self.d_in, self.d_out
        legal = {
            "decoder": (n, d_out),
            "decoder_bias": (d_out,),
            "skip": (d_in, d_out),
            "encoder": (d_in, n),
        }
        for name, value in _contents(self):
            shape = legal.get(name, (n,))
            if isinstance(value, Tensor) and tuple(value.shape) != shape:
                raise self._wrong(f"{name} {list(value.shape)}", str(list(shape)))
        if d_in != d_out and not self.reads.endswith(".in"):
            raise self._wrong(f"reads {d_in} numbers, gives back {d_out}", "as many")
        if self.centred and d_in != d_out:
            raise self._wrong("centred, though it reads and writes other widths", "centred=False")

    def _wrong(self, given: str, legal: str) -> ParamsError:
        return ParamsError(f"dictionary {self.name!r}: {given}", legal)


def _moments(x: Float[Tensor, "... d"]) -> tuple[Float[Tensor, "... 1"], Float[Tensor, "... 1"]]:
    """Mean and standard deviation (over d), by LayerNorm's own sums: a row's bits depend on it
    alone."""
    _, mean, inverse = torch.native_layer_norm(x, x.shape[-1:], None, None, 0.0)
    return mean, inverse.reciprocal()


def _contents(record: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a dictionary, its activation's among them, by name."""
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, Activation):
            yield prefix + field.name, type(value).__name__
            yield from _contents(value, "activation.")
        else:
            yield prefix + field.name, value


def _moved(record: Any, device: str | torch.device | None, dtype: torch.dtype | None) -> Any:
    """A record with every tensor in it on another device or in another type."""
    moved = {}
    for name, value in vars(record).items():
        if isinstance(value, Tensor):
            moved[name] = value.to(device=device, dtype=dtype)
        elif isinstance(value, Activation):
            moved[name] = _moved(value, device, dtype)
    return replace(record, **moved)
