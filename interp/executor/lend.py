"""A model as it is lent to workers: its parameters lie in a file that they map into memory, however
many there are, and no piece of work carries them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors.torch import load_file, save_file

from interp.executor.where import Where
from minigpt import GPT2, Config, build
from minigpt.dictionary import Dictionary
from minigpt.params import tensors
from minigpt.shown import Shown

BEGIN = ".lent-"


@dataclass(frozen=True, repr=False)
class Lent(Shown):
    """Where a model's parameters are, and the rest of it."""

    path: Path
    config: Config
    name: str
    dictionaries: Mapping[str, Dictionary]

    def model(self) -> GPT2:
        """The model, its parameters mapped, not read."""
        params = build(self.config, load_file(self.path))
        return GPT2(params, name=self.name).with_dictionaries(*self.dictionaries.values())


def borrowed(of: GPT2 | Lent) -> GPT2:
    """The model that a worker's job works on."""
    return of if isinstance(of, GPT2) else of.model()


@contextmanager
def sent(model: GPT2, where: Where) -> Iterator[GPT2 | Lent]:
    """A model as workers get it: here itself, on this machine lent, on others with the job."""
    if where == Where():
        yield model
    elif where.ray:
        yield replace(model, tokenizer=None)
    else:
        with TemporaryDirectory() as folder, lent(model, Path(folder)) as of:
            yield of


@contextmanager
def lent(model: GPT2, folder: Path) -> Iterator[Lent]:
    """A model, lent as long as this lasts, in a folder that all workers see. Its tokenizer stays
    here."""
    for left in folder.glob(f"{BEGIN}*"):  # by one who was killed
        shutil.rmtree(left)
    with TemporaryDirectory(prefix=BEGIN, dir=folder) as own:
        path = Path(own).resolve() / "parameters.safetensors"
        save_file({name: x.contiguous() for name, x in tensors(model.params).items()}, path)
        yield Lent(path, model.config, model.name, dict(model.params.dictionaries))
