"""A known model from the hub into the hub's cache, verified against the hub's checksum. Nothing
else here uses the network."""

from __future__ import annotations

import re
import socket
import warnings
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from weights import catalog
from weights.errors import WeightsError, WeightsWarning
from weights.manifest import sha256

FILES = ("config.json", "model.safetensors")
# Seconds for the hub to answer at all.
PATIENCE = 10


def fetch(name: str) -> Path:
    """The folder of a known model, downloaded unless it is there already, its weights' checksum
    verified in either case."""
    known = catalog.named(name)
    if not known.repo:
        return catalog.EMBEDDED
    paths = [_download(known, file) for file in FILES]
    verify(paths[-1])
    return paths[-1].parent


def verify(path: Path) -> None:
    """WeightsError, and the file removed, unless its checksum is the hub's, after which the hub's
    cache names large files."""
    blob = path.resolve()
    if not re.fullmatch("[0-9a-f]{64}", blob.name):
        warnings.warn(
            f"{path} could not be verified: this cache does not name files by checksum",
            WeightsWarning,
            stacklevel=2,
        )
    elif (found := sha256(blob, progress=True)) != blob.name:
        path.unlink()
        blob.unlink(missing_ok=True)
        raise WeightsError(
            f"{path} came out damaged: its checksum is {found[:16]}..., the hub's is "
            f"{blob.name[:16]}...",
            "the file as the hub has it (the damaged one is removed)",
            "the same once more",
        )


def _download(known: catalog.Known, file: str) -> Path:
    """The file from the hub's cache, or else from the hub."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(known.repo, file, local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    try:
        _reach(constants.ENDPOINT)
        return Path(hf_hub_download(known.repo, file))
    # which errors a failed download raises differs between the hub's versions and their transports
    except Exception as error:
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else str(error.__cause__ or error)
        raise _missing(known, constants.HF_HUB_CACHE, why) from error


def _reach(endpoint: str) -> None:
    """OSError at once where the hub cannot be reached, which the library would try for a while; by
    way of a proxy it is left to the library."""
    where = urlsplit(endpoint)
    if not getproxies().get(where.scheme) and where.hostname:
        port = where.port or {"http": 80}.get(where.scheme, 443)
        socket.create_connection((where.hostname, port), timeout=PATIENCE).close()


def _missing(known: catalog.Known, cache: str, why: str) -> WeightsError:
    return WeightsError(
        f"{known.name} is not at hand: looked for {known.repo} in the hub's cache ({cache}), then "
        f"on the hub ({why})",
        "a network, once; or a cache or folder that holds the model",
        f'`interp fetch {known.name}` where there is a network; weights.load("FOLDER"), with '
        f"{' and '.join(FILES)} in it; HF_HUB_CACHE=FOLDER, where the cache lies elsewhere; "
        'weights.load("ioi-mini"), which is always here',
    )
