"""The command mcp: a server for agents and editors, on standard input and output."""

from __future__ import annotations

from interp.cli.debug import Models, Stores, loaded
from interp.cli.options import Ids, Latents, Vocabulary
from minigpt import MiniGPTError


def mcp(
    model: Models = None,
    tokenizer: Vocabulary = None,
    ids: Ids = False,
    latents: Latents = None,
    store: Stores = None,
) -> None:
    """Serve the debugger's results to an agent or editor, as tools of the Model Context Protocol
    on standard input and output."""
    try:
        from interp.debugger import agents  # its libraries are an extra
    except ModuleNotFoundError as error:
        raise MiniGPTError(
            f"a server without {error.name}", "the extra that has it", "pip install '.[mcp]'"
        ) from error
    agents.build(loaded(model, tokenizer, ids, latents, store)).run()
