"""Where an answer comes from: a command that computes it again, the models by their checksums, the
versions, the machine. Written into every exported answer, for `interp verify`."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

import minigpt
from minigpt import GPT2
from minigpt.params import tensors

KEY = "provenance"


def record(command: Sequence[str], models: Mapping[str, GPT2], **asked: Any) -> dict[str, Any]:
    """What is written beside an answer: the words after `interp` that compute it, the models, what
    else was `asked`, and with what it was computed."""
    return {
        "command": [*command],
        **asked,
        "models": {name: fingerprint(model) for name, model in models.items()},
        "versions": {
            "minigpt-interp": minigpt.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "system": platform.system(),
            "threads": torch.get_num_threads(),
        },
    }


def fingerprint(model: GPT2) -> str:
    """A checksum of a model's parameters, wherever they came from, and of its shape."""
    digest = hashlib.sha256(repr(model.config).encode())
    for name, x in sorted(tensors(model.params).items()):
        digest.update(f"{name} {x.dtype}".encode())
        digest.update(x.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
