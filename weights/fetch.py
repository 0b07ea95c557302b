"""A model from the hub into the hub's cache, verified against the hub's checksum. Nothing else here
uses the network."""

from __future__ import annotations

import re
import socket
import warnings
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from weights import catalog, files, shape, vocabulary
from weights.catalog import Repository
from weights.errors import WeightsError, WeightsWarning
from weights.manifest import sha256

# Seconds for the hub to answer at all.
PATIENCE = 10


def fetch(name: str, revision: str | None = None) -> Path:
    """The folder of a model on the hub (its name here, org/name or org/name@revision), downloaded
    with its tokenizer unless it is there already, its weights' checksum verified in either case.

    WeightsError where it is no GPT-2, before its weights are asked for.
    """
    if (wanted := catalog.repository(name, revision)) is None:
        raise catalog.unknown(name)
    if not wanted.repo:
        return catalog.embedded(wanted.name)
    config = _needed(wanted, "config.json")
    shape.refuse_other_models(files.read_json(config))
    for path in _weights(wanted):
        verify(path)
    _tokenizer(wanted)
    return config.parent


def file(wanted: Repository, name: str) -> Path | None:
    """A file of a repository, downloaded unless it is there already, its checksum verified where
    the hub gives one; None where the repository lacks it."""
    path = _download(wanted, name)
    if path is not None and path.suffix in (".safetensors", ".pt"):
        verify(path)
    return path


def _tokenizer(wanted: Repository) -> None:
    """The files of the first kind of vocabulary that the repository has, unless one is here."""
    folder = catalog.cached(wanted.repo, wanted.revision)
    if folder is not None and any((folder / name).is_file() for name in vocabulary.FILES):
        return
    try:
        for first, *others in vocabulary.FILES.values():
            if _download(wanted, first):
                for other in others:
                    _download(wanted, other)
                return
    except WeightsError as error:
        warnings.warn(
            f"the tokenizer of {wanted.repo} was not fetched with it. {error}",
            WeightsWarning,
            stacklevel=3,
        )


def _weights(wanted: Repository) -> list[Path]:
    """The files of the weights: the first of those that can be read that the repository has."""
    for name in files.WEIGHTS:
        if (path := _download(wanted, name)) is None:
            continue
        if not name.endswith(".index.json"):
            return [path]
        return [_needed(wanted, shard) for shard in files.shards(path)]
    raise WeightsError(
        f"{wanted.repo} on the hub holds no weights", "one of " + ", ".join(files.WEIGHTS)
    )


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


def _needed(wanted: Repository, file: str) -> Path:
    if (path := _download(wanted, file)) is None:
        raise WeightsError(f"{wanted.repo} on the hub holds no {file}", "a repository with a model")
    return path


def _download(wanted: Repository, file: str) -> Path | None:
    """The file from the hub's cache, or else from the hub; None where the repository lacks it."""
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    there = try_to_load_from_cache(wanted.repo, file, revision=wanted.revision)
    if isinstance(there, str):
        return Path(there)
    if there is not None:  # the cache knows that the repository lacks it
        return None
    try:
        _reach(constants.ENDPOINT)
        return Path(hf_hub_download(wanted.repo, file, revision=wanted.revision))
    except LocalEntryNotFoundError as error:
        raise _missing(wanted, constants.HF_HUB_CACHE, error, constants.HF_HUB_OFFLINE) from error
    except EntryNotFoundError:
        return None
    # which errors a failed download raises differs between the hub's versions and their transports
    except Exception as error:
        raise _missing(wanted, constants.HF_HUB_CACHE, error, constants.HF_HUB_OFFLINE) from error


def _reach(endpoint: str) -> None:
    """OSError at once where the hub cannot be reached, which the library would try for a while; by
    way of a proxy it is left to the library."""
    where = urlsplit(endpoint)
    if not getproxies().get(where.scheme) and where.hostname:
        port = where.port or {"http": 80}.get(where.scheme, 443)
        socket.create_connection((where.hostname, port), timeout=PATIENCE).close()


def _missing(wanted: Repository, cache: str, error: Exception, offline: bool) -> WeightsError:
    why = "HF_HUB_OFFLINE is set" if offline else str(error.__cause__ or error).split("\n")[0]
    at = f" at {wanted.revision}" if wanted.revision else ""
    name = wanted.name if catalog.find(wanted.name) else wanted.repo
    return WeightsError(
        f"{name}{at} is not at hand: looked for {wanted.repo} in the hub's cache ({cache}), then "
        f"on the hub ({why})",
        "a network, once; or a cache or folder that holds the model",
        f'`interp fetch {name}` where there is a network; weights.load("FOLDER"), with '
        "config.json and model.safetensors in it; HF_HUB_CACHE=FOLDER, where the cache lies "
        'elsewhere; weights.load("ioi-mini"), which is always here',
    )
