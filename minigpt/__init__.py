"""GPT-2 in which every write to the residual stream has an address."""

from minigpt.address import Address, Site
from minigpt.batch import Batch
from minigpt.config import SIZES, Config
from minigpt.errors import MiniGPTError
from minigpt.model import GPT2
from minigpt.names import parse
from minigpt.params import Params, build
from minigpt.patch import Patch, Source
from minigpt.receipt import Receipt
from minigpt.recompute.sweep import Sweep
from minigpt.tokenizer import Tokenizer
from minigpt.trace import Trace

__version__ = "0.2.0"
__all__ = [
    "GPT2",
    "SIZES",
    "Address",
    "Batch",
    "Config",
    "MiniGPTError",
    "Params",
    "Patch",
    "Receipt",
    "Site",
    "Source",
    "Sweep",
    "Tokenizer",
    "Trace",
    "build",
    "parse",
]
