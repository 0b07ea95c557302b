"""A dictionary encodes and decodes as its formula says, written out once more in NumPy; ties, bits,
settings and shapes are what they are said to be."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from minigpt.dictionary import NORMALISE, Activation, Dictionary, Gated, JumpRelu, Relu, TopK
from minigpt.errors import ParamsError
from tests.conftest import unchecked

F64 = torch.float64
D, N = 16, 24


def drawn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=F64)


def random_dictionary(reads: str = "m0", width: int = D, out: int = D, **changes) -> Dictionary:
    """One whose numbers are none of them special."""
    whole = reads.partition(".")[0] if reads.endswith((".act", ".in")) else reads
    given = {
        "encoder": drawn(width, N) / 4,
        "encoder_bias": 0.3 * drawn(N, seed=1),
        "decoder": drawn(N, out, seed=2) / 4,
        "decoder_bias": 0.3 * drawn(out, seed=3),
    }
    return Dictionary(**{"name": "d", "reads": reads, "explains": whole, **given, **changes})


THRESHOLD = JumpRelu(0.5 * drawn(N, seed=4).abs())
GATED = Gated(0.3 * drawn(N, seed=5), drawn(N, seed=6).exp(), 0.3 * drawn(N, seed=7))
ACTIVATIONS = {"relu": Relu(), "top": TopK(5), "jump": THRESHOLD, "gated": GATED}


def activated(p: np.ndarray, how: Activation) -> np.ndarray:
    """The formulas, a row after another."""
    if isinstance(how, Relu):
        return np.maximum(p, 0)
    if isinstance(how, JumpRelu):
        return np.where(p > how.threshold.numpy(), np.maximum(p, 0), 0)
    if isinstance(how, Gated):
        gate, factor, bias = how.gate_bias, how.magnitude, how.magnitude_bias
        return (p + gate.numpy() > 0) * np.maximum(p * factor.numpy() + bias.numpy(), 0)
    z = np.zeros_like(p)
    for row, into in zip(p, z, strict=True):
        for i in sorted(range(len(row)), key=lambda i: (-row[i], i))[: how.k]:
            into[i] = max(row[i], 0)
    return z


def formula(d: Dictionary, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Activations and the reconstruction of rows x."""
    mean, s = np.zeros((len(x), 1)), np.ones((len(x), 1))
    if d.normalise in ("centre", "layer_norm"):
        mean = x.mean(-1, keepdims=True)
    if d.normalise == "layer_norm":
        s = x.std(-1, ddof=1, keepdims=True)
    if d.normalise == "rms":
        s = np.linalg.norm(x, axis=-1, keepdims=True) / D**0.5
    b = d.decoder_bias.numpy()
    by = s + 1e-5 if d.normalise == "layer_norm" else s
    seen = (x - mean) / by * d.scale - (b if d.centred else 0)
    z = activated(seen @ d.encoder.numpy() + d.encoder_bias.numpy(), d.activation)
    y = z @ d.decoder.numpy() + b
    y = y if d.skip is None else y + seen @ d.skip.numpy()
    return z, y / d.scale * s + mean


X = 2 * drawn(7, D, seed=8) + 0.5


@pytest.mark.parametrize("how", ACTIVATIONS)
@pytest.mark.parametrize("normalise", NORMALISE)
@pytest.mark.parametrize("scale", [1.0, 0.7])
@pytest.mark.parametrize("centred", [False, True])
def test_it_encodes_and_decodes_as_the_formula_says(how, normalise, scale, centred):
    d = random_dictionary(
        activation=ACTIVATIONS[how], normalise=normalise, scale=scale, centred=centred
    )
    z, y = formula(d, X.numpy())
    assert 0 < (z > 0).mean() < 1
    np.testing.assert_allclose(d.encode(X).numpy(), z, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(d.decode(d.encode(X), X).numpy(), y, rtol=1e-12, atol=1e-12)
    parts = d.bias(X) + sum(d.encode(X)[:, i, None] * d.direction(i, X) for i in range(N))
    np.testing.assert_allclose(parts.numpy(), y, rtol=1e-11, atol=1e-11)
    assert torch.equal(d.decode(torch.zeros(7, N, dtype=F64), X), d.bias(X))


def test_a_transcoder_has_other_widths_and_a_skip():
    d = random_dictionary("m0.in", D, 12, skip=drawn(D, 12, seed=9), activation=TopK(5))
    z, y = formula(d, X.numpy())
    np.testing.assert_allclose(d.encode(X).numpy(), z, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(d.decode(d.encode(X), X).numpy(), y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("p", "kept"),
    [
        ([1.0, 2, 2, 2, 0], [0, 2, 2, 0, 0]),
        ([2.0, 1, 2, 1, 1], [2, 0, 2, 0, 0]),
        ([1.0, 3, 1, 1, -1], [1, 3, 0, 0, 0]),
        ([-1.0, -2, -1, 5, -3], [0, 0, 0, 5, 0]),
        ([-0.0, 0.0, 0.0, 0.0, 0.0], [0, 0, 0, 0, 0]),
    ],
)
def test_of_equals_the_lower_numbers_are_kept(p, kept):
    assert TopK(2)(torch.tensor([p])).tolist() == [kept]


def test_a_threshold_is_not_passed_by_what_equals_it():
    assert JumpRelu(torch.tensor([1.0, 1.0]))(torch.tensor([1.0, 1.5])).tolist() == [0.0, 1.5]


@pytest.mark.parametrize("how", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
def test_a_row_has_the_same_bits_alone_and_in_company(how, dtype):
    d = random_dictionary(activation=ACTIVATIONS[how], normalise="layer_norm", centred=True)
    d, x = d.to(dtype=dtype), X.to(dtype)
    z, y = d.encode(x), d.decode(d.encode(x), x)
    for i in range(len(x)):
        row = x[i : i + 1]
        assert torch.equal(d.encode(row), z[i : i + 1])
        assert torch.equal(d.decode(z[i : i + 1], row), y[i : i + 1])


def test_every_number_and_setting_is_in_the_hash_and_the_name_is_not():
    d = random_dictionary(activation=GATED)
    others = [
        replace(d, reads="m1", explains="m1"),
        replace(d, encoder=d.encoder * 2),
        replace(d, activation=replace(GATED, gate_bias=2 * GATED.gate_bias)),
        replace(d, activation=Relu()),
        replace(d, activation=TopK(4)),
        replace(d, activation=TopK(5)),
        replace(d, normalise="centre"),
        replace(d, scale=2.0),
        replace(d, centred=True),
        replace(d, skip=drawn(D, D)),
        d.to(dtype=torch.float32),
    ]
    assert len({d.hash, *(other.hash for other in others)}) == 1 + len(others)
    assert replace(d, name="another", encoder=d.encoder.clone()).hash == d.hash


def test_another_type_is_that_of_every_number():
    d = random_dictionary(activation=THRESHOLD).to(dtype=torch.float32)
    assert d.encode(X.float()).dtype == d.activation.threshold.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"reads": "m0.n3"}, "reads 'm0.n3'"),
        ({"reads": "a0.act", "explains": "a0"}, "reads 'a0.act'"),
        ({"reads": "m0.act", "explains": "m1"}, "explains 'm1'"),
        ({"reads": "m0", "explains": "m1"}, "legal: 'm0'"),
        ({"normalise": "whiten"}, "'centre'"),
        ({"reads": "m0.in", "normalise": "centre"}, "of a transcoder"),
        ({"scale": 0.0}, "scale=0.0"),
        ({"activation": TopK(N + 1)}, f"from 1 to {N}"),
        ({"activation": JumpRelu(drawn(3))}, r"activation.threshold \[3\]"),
        ({"encoder_bias": drawn(N + 1)}, r"encoder_bias \[25\]"),
        ({"decoder": drawn(N + 1, D)}, r"decoder \[25, 16\]"),
        ({"decoder": drawn(N, 12), "decoder_bias": drawn(12)}, "reads 16 numbers, gives back 12"),
        ({"skip": drawn(D, 3)}, r"skip \[16, 3\]"),
    ],
)
def test_what_does_not_fit_together_is_refused(change, said):
    given = {f.name: getattr(random_dictionary(), f.name) for f in fields(Dictionary)}
    with pytest.raises(ParamsError, match=said):
        unchecked(Dictionary.__init__)(object.__new__(Dictionary), **{**given, **change})
