"""What the paper says of GPT-2 small: the circuit, the sets K of its minimality, and its figures,
with where they stand.

Wang et al. 2022, arXiv 2211.00593 v1: figures 2, 9, 20, 21; authors' stored data:
redwoodresearch/Easy-Transformer, pts/ (N = 100).
"""

from __future__ import annotations

from interp.circuit import Circuit
from interp.discover.roles import BACKUP, BY_TARGET, INHIBITION, NAME_MOVER, NEGATIVE

__all__ = ["BACKUP", "DUPLICATE", "INDUCTION", "INHIBITION", "MOVERS", "NEGATIVE", "PREVIOUS"]

MOVERS = NAME_MOVER
INDUCTION, DUPLICATE, PREVIOUS = (
    BY_TARGET["after the same"],
    BY_TARGET["the same"],
    BY_TARGET["before"],
)


def _at(position: str, heads: str) -> str:
    return " ".join(f"a{head}@{position}" for head in heads.split())


CIRCUIT = Circuit(
    {
        MOVERS: _at("END", "9.9 9.6 10.0"),
        NEGATIVE: _at("END", "10.7 11.10"),
        BACKUP: _at("END", "9.0 9.7 10.1 10.2 10.6 10.10 11.2 11.9"),
        INHIBITION: _at("END", "7.3 7.9 8.6 8.10"),
        INDUCTION: _at("S2", "5.5 5.8 5.9 6.9"),
        DUPLICATE: _at("S2", "0.1 0.10 3.0"),
        PREVIOUS: _at("S1+1", "2.2 4.11"),
    }
)
NAIVE = Circuit(
    {
        MOVERS: _at("END", "9.6 9.9 10.0"),
        INHIBITION: _at("END", "7.3 7.9 8.6 8.10"),
        INDUCTION: _at("S2", "5.5 5.9"),
        DUPLICATE: _at("S2", "0.10 3.0"),
        PREVIOUS: _at("S1+1", "2.2 4.11"),
    }
)

# Figure 20: what is gone beside each head where it is judged, its F(C \ (K and the head)) and F(C \
# K), on a sample with F(C) = 2.62.
_CHAIN = "9.9 10.0 9.6 10.10 10.6 10.2 10.1 11.2 9.7".split()
_ALL_MOVERS = "9.9 9.6 10.0 9.0 9.7 10.1 10.2 10.6 10.10 11.2 11.9 10.7 11.10"
_OTHERS = {
    **{head: " ".join(_CHAIN[:i]) for i, head in enumerate(_CHAIN)},
    **dict.fromkeys(("9.0", "11.9"), _ALL_MOVERS),
    **dict.fromkeys(("10.7", "11.10"), "11.10 10.7"),
    **dict.fromkeys(("8.10", "7.9", "8.6", "7.3"), "7.3 7.9 8.6 8.10"),
    **dict.fromkeys(("5.5", "6.9"), "5.5 5.8 5.9 6.9"),
    "5.9": "11.10 10.7",
    "5.8": "11.10 10.7",
    **dict.fromkeys(("0.1", "0.10", "3.0"), "0.1 0.10 3.0"),
    **dict.fromkeys(("4.11", "2.2"), "4.11 2.2"),
}
_NODE = {node.removeprefix("a").partition("@")[0]: node for node in CIRCUIT.nodes}
OTHERS = {
    _NODE[head]: tuple(_NODE[other] for other in some.split() if other != head)
    for head, some in _OTHERS.items()
}
MINIMALITY = {
    _NODE[head]: (after, before)
    for head, after, before in (
        ("9.9", 2.26, 2.62),
        ("10.0", 1.91, 2.26),
        ("9.6", 2.11, 1.91),
        ("10.7", 4.07, 3.13),
        ("11.10", 4.07, 3.27),
        ("8.10", 0.24, 1.01),
        ("7.9", 0.24, 0.92),
        ("8.6", 0.24, 0.86),
        ("7.3", 0.24, 0.43),
        ("5.5", 0.97, 2.12),
        ("6.9", 0.97, 1.46),
        ("5.9", 3.33, 4.07),
        ("5.8", 3.83, 4.07),
        ("0.1", 0.60, 1.90),
        ("0.10", 0.60, 1.66),
        ("3.0", 0.60, 1.05),
        ("4.11", 1.31, 2.28),
        ("2.2", 1.31, 1.75),
        ("10.10", 1.88, 2.11),
        ("10.6", 1.65, 1.88),
        ("10.2", 1.49, 1.65),
        ("10.1", 1.37, 1.49),
        ("11.2", 0.95, 1.37),
        ("9.7", 0.81, 0.95),
        ("9.0", 0.41, 0.45),
        ("11.9", 0.41, 0.45),
    )
}

# Authors' data: F(C \ K), F(M \ K) for each class as K; their "name mover" has the backups in it.
REMOVED = {
    "nothing": (2.8381, 3.3024),
    "name movers and backups": (0.9296, 1.5287),
    NEGATIVE: (4.2666, 5.6203),
    INHIBITION: (0.2272, 0.2967),
    INDUCTION: (1.0352, 1.5709),
    DUPLICATE: (0.7240, 1.5152),
    PREVIOUS: (1.5166, 2.8998),
}

LOGIT_DIFFERENCE, IO_PROBABILITY, ACCURACY = 3.56, 0.49, 0.993  # section 2, over 100,000 prompts
# Figure 9, by (token signal, position signal), 1 as in the prompt, 0 random, -1 inverted; and the
# fit of App. A.
SIGNALS = {
    (1, 1): 3.55,
    (0, 1): 2.45,
    (-1, 1): 1.77,
    (1, -1): -0.99,
    (0, -1): -1.96,
    (-1, -1): -3.16,
}
FIT = {"position": 2.31, "token": 0.99}
# Figure 21, section 4.4: mean logit difference, probability of IO, and how often S is before it.
ADVERSARIAL = {
    "as they are": (3.55, 0.49, 0.007),
    "S once more": (3.64, 0.59, 0.004),
    "IO once more": (1.23, 0.36, 0.234),
}
# Section 3.1: name movers, and negative ones with their sign turned.
COPYING, NEGATIVE_COPYING = 0.95, 0.98
# Mean over the name movers; over the S-inhibition heads.
ATTENTION_TO_IO, ATTENTION_TO_S2 = 0.59, 0.51
CORRELATION = 0.81  # figure 3c
FAITHFULNESS, STORED_FAITHFULNESS = 0.46, 0.4644  # section 4.1; authors' data
# Of the logit difference, what is left without the name movers: section 3.4; authors' data.
MOVERS_GONE, STORED_MOVERS_GONE = 0.95, 3.3288 / 3.3024
MLPS_GONE = -1.1  # App. J: all MLPs but the first knocked out
# Section 3: the heads that stand out on each map.
FOUND = {
    "out": "9.9 9.6 10.0",
    "out, negative": "10.7 11.10",
    "movers' q": "7.3 7.9 8.6 8.10",
    "S-inhibition v": "3.0 0.1 5.5 6.9",
    "S-inhibition k": "5.9 5.8 0.10",
    "induction k": "4.11 2.2",
}
