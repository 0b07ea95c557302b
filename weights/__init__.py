"""Files to parameters and back: checkpoints by name, folder or file, and the models embedded
here."""

from weights.catalog import models
from weights.dictionaries import load_dictionaries, load_dictionary
from weights.errors import WeightsError, WeightsWarning
from weights.fetch import fetch
from weights.load import load
from weights.save import save

__all__ = [
    "WeightsError",
    "WeightsWarning",
    "fetch",
    "load",
    "load_dictionaries",
    "load_dictionary",
    "models",
    "save",
]
