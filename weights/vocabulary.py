"""A model's own vocabulary from the files that lie beside it: Hugging Face's tokenizer.json, or
vocab.json and merges.txt; nanoGPT's meta.pkl; a list of names.

What is no byte-level byte pair encoding of GPT-2's kind is refused with the reason, never guessed.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from minigpt.tokenizer import Tokenizer
from minigpt.vocabulary import END, BytePairs, Names
from weights.errors import WeightsError
from weights.files import json_value, place, read_json, read_text

# GPT-2's words: what is cut apart before any pair is merged.
WORDS = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
# Files that a vocabulary may be in, and those that belong to it; the first that is there is read.
FILES = {
    "tokenizer.json": ("tokenizer.json", "tokenizer_config.json"),
    "merges.txt": (
        *("vocab.json", "merges.txt", "added_tokens.json"),
        *("special_tokens_map.json", "tokenizer_config.json"),
    ),
    "vocab.json": ("vocab.json",),
    "meta.pkl": ("meta.pkl",),
}
LEGAL = (
    "a folder with tokenizer.json, with vocab.json and merges.txt, or with a vocab.json of names; "
    "such a file, or nanoGPT's meta.pkl; a list of names"
)
Merges = Sequence[tuple[str, str]]


def beside(folder: Path) -> Tokenizer | None:
    """The tokenizer that lies in a folder, if one does."""
    name = next((name for name in FILES if (folder / name).is_file()), None)
    return None if name is None else of(folder / name)


def of(x: Any) -> Tokenizer:
    """The tokenizer in a folder or a file, or of a list of names; WeightsError where it is none
    that can be used here."""
    if isinstance(x, Tokenizer):
        return x
    if not isinstance(x, (str, Path)):
        return _with_files(_named("names", x), {})
    path = place(x)
    found = beside(path) if path.is_dir() else _read(path) if path.is_file() else None
    if found is None:
        raise WeightsError(f"{path} holds no vocabulary", LEGAL)
    return found


def files_of(path: Path) -> list[Path]:
    """The files that belong to a vocabulary in a file."""
    names = FILES.get(path.name, (path.name,))
    return [path.parent / name for name in names if (path.parent / name).is_file()]


def _read(path: Path) -> Tokenizer:
    return _with_files(_vocabulary(path), {file.name: file.read_bytes() for file in files_of(path)})


def _with_files(words: BytePairs | Names, read: Mapping[str, bytes]) -> Tokenizer:
    """With the files that are saved with a model: those it was read from, or a vocab.json of
    names."""
    if isinstance(words, BytePairs):
        return Tokenizer(words, read)
    return Tokenizer(words, {"vocab.json": json.dumps(words.names, ensure_ascii=False).encode()})


def _vocabulary(path: Path) -> BytePairs | Names:
    if path.suffix == ".pkl":
        return _named(path, _nanogpt(path))
    merges = path.name in ("merges.txt", "vocab.json") and path.with_name("merges.txt").is_file()
    if merges:
        return _two_files(path.parent)
    found = json_value(path)
    if isinstance(found, dict) and isinstance(found.get("model"), dict):
        return _whole(path, found)
    return _named(path, found)


# ---- Hugging Face's tokenizer.json


def _whole(path: Path, facts: Mapping[str, Any]) -> BytePairs:
    model = facts["model"]
    _refuse(path, _strange(facts))
    vocab, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocab, dict) or not isinstance(merges, list):
        raise WeightsError(f"{path}: no vocab and merges in its model", LEGAL)
    added = facts.get("added_tokens") or []
    _refuse(path, _strange_added(added))
    groups = [
        {token["content"]: token["id"] for token in added if bool(token["normalized"]) is last}
        for last in (False, True)
    ]
    return _byte_pairs(path, vocab, [_pair(path, merge) for merge in merges], groups)


def _strange(facts: Mapping[str, Any]) -> Iterable[str]:
    """What makes a tokenizer.json another encoding than GPT-2's."""
    model, before = facts["model"], facts.get("pre_tokenizer") or {}
    wanted = {
        "model.type": (model.get("type", "BPE"), ("BPE",)),
        "model.dropout": (model.get("dropout"), (None, 0, 0.0)),
        "model.continuing_subword_prefix": (model.get("continuing_subword_prefix"), (None, "")),
        "model.end_of_word_suffix": (model.get("end_of_word_suffix"), (None, "")),
        "model.byte_fallback": (model.get("byte_fallback"), (None, False)),
        "normalizer": (facts.get("normalizer"), (None,)),
        "pre_tokenizer.type": (before.get("type"), ("ByteLevel",)),
        "pre_tokenizer.add_prefix_space": (before.get("add_prefix_space"), (False,)),
        "pre_tokenizer.use_regex": (before.get("use_regex", True), (True,)),
    }
    for name, (found, legal) in wanted.items():
        if found not in legal:
            shown = found.get("type", found) if isinstance(found, dict) else found
            yield f"{name} is {shown!r}, here it is {' or '.join(map(repr, legal))}"


def _strange_added(added: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    for token in added:
        for way in ("lstrip", "rstrip", "single_word"):
            if token.get(way):
                yield f"the added token {token.get('content')!r} is matched with {way}"


class OtherEncodingError(WeightsError):
    """A vocabulary that is whole, but cuts texts by other rules than those that are known here."""


def _refuse(path: Path, reasons: Iterable[str]) -> None:
    if found := list(reasons):
        raise OtherEncodingError(
            f"{path} is another encoding than GPT-2's byte pairs:\n    " + "\n    ".join(found),
            "byte-level byte pairs, as GPT-2 has them",
            "token ids instead of texts (--tokens)",
        )


def _pair(path: Path, merge: object) -> tuple[str, str]:
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(parts, list) or [type(part) for part in parts] != [str, str]:
        raise WeightsError(f"{path}: the merge {merge!r}", "two tokens with a space between them")
    return parts[0], parts[1]


# ---- vocab.json and merges.txt


def _two_files(folder: Path) -> BytePairs:
    path = folder / "merges.txt"
    for name in ("vocab.json", "merges.txt"):
        if not (folder / name).is_file():
            raise WeightsError(f"{folder} holds no {name}", "vocab.json and merges.txt together")
    vocab = read_json(folder / "vocab.json")
    lines = read_text(path).split("\n")
    merges = [
        _pair(path, line) for line in lines if line.strip() and not line.startswith("#version")
    ]
    settings = _settings(folder, "tokenizer_config.json")
    if settings.get("add_prefix_space"):
        _refuse(folder / "tokenizer_config.json", ["add_prefix_space is true, here it is false"])
    special, plain = _added_beside(folder, vocab, settings)
    return _byte_pairs(path, vocab, merges, [special, plain])


def _added_beside(
    folder: Path, vocab: Mapping[str, int], settings: Mapping[str, Any]
) -> tuple[dict[str, int], dict[str, int]]:
    """Tokens that are added to the pairs: those of added_tokens.json, of tokenizer_config.json, and
    GPT-2's own end of text; special ones, and others."""
    listed = settings.get("added_tokens_decoder") or {}
    _refuse(folder / "tokenizer_config.json", _strange_added(list(listed.values())))
    by_text = {facts["content"]: (int(i), facts) for i, facts in listed.items()}
    ids = {**_settings(folder, "added_tokens.json"), **{t: i for t, (i, _) in by_text.items()}}
    names = _settings(folder, "special_tokens_map.json")
    said = {text for value in names.values() for text in _texts(value)}
    special = {END, *said, *(t for t, (_, facts) in by_text.items() if facts.get("special"))}
    ids |= {text: vocab[text] for text in special if text in vocab}
    return (
        {text: i for text, i in ids.items() if text in special},
        {text: i for text, i in ids.items() if text not in special},
    )


def _settings(folder: Path, name: str) -> dict[str, Any]:
    return read_json(folder / name) if (folder / name).is_file() else {}


def _texts(value: Any) -> Iterable[str]:
    """The texts of one entry of special_tokens_map.json."""
    many = value if isinstance(value, list) else [value]
    return [x["content"] if isinstance(x, dict) else str(x) for x in many]


# ---- byte pairs


@cache
def alphabet() -> dict[str, int]:
    """The characters that stand for bytes in these files: a printable one for itself, every other
    byte for the next character from U+0100 on (Radford et al. 2019, bytes_to_unicode)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [i for i in range(256) if i not in printable]
    return {
        **{chr(i): i for i in printable},
        **{chr(0x100 + n): i for n, i in enumerate(others)},
    }


def _byte_pairs(
    path: Path, vocab: Mapping[str, int], merges: Merges, added: Sequence[Mapping[str, int]]
) -> BytePairs:
    """The pairs of a vocabulary and its merges; what was added counts before what is in it."""
    texts = {text for group in added for text in group}
    spelt = {text: _bytes(text) for text in vocab}
    single = {spelt[text]: i for text, i in vocab.items() if len(text) == 1 and text in alphabet()}
    merged = dict(single)
    for a, b in merges:
        if a not in vocab or b not in vocab or a + b not in vocab:
            raise WeightsError(f"{path}: the merge {a!r} {b!r} is not of its vocabulary", LEGAL)
        merged.setdefault(spelt[a + b], vocab[a + b])
    _check_merges(path, [(spelt[a], spelt[b]) for a, b in merges])
    pieces = {i: spelt[text] for text, i in vocab.items() if text not in texts}
    pieces |= {i: text.encode() for group in added for text, i in group.items()}
    end = next((group[END] for group in added if END in group), None)
    return BytePairs(path.parent.name, pieces, merged, WORDS, added, end)


def _bytes(text: str) -> bytes:
    """What a token of these files stands for; one with another character is no merged pair, and is
    read as text."""
    table = alphabet()
    try:
        return bytes(table[character] for character in text)
    except KeyError:
        return text.encode()


def _check_merges(path: Path, merges: Sequence[tuple[bytes, bytes]]) -> None:
    """WeightsError unless merging whatever pair makes the token of lowest rank, as tiktoken does,
    comes to each token by its own pair: then both cut every text alike."""
    ranks: dict[bytes, int] = {}
    for rank, (a, b) in enumerate(merges):
        ranks.setdefault(a + b, rank)
    for a, b in merges:
        if _last_pair(a + b, ranks) != (a, b):
            raise OtherEncodingError(
                f"{path}: the merge {a!r} {b!r} is never come to in the order of the merges",
                "merges as training makes them, each once",
                "token ids instead of texts (--tokens)",
            )


def _last_pair(token: bytes, ranks: Mapping[bytes, int]) -> tuple[bytes, ...]:
    """The last two parts of a token, pairs being merged by rank."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        rank, i = min((ranks.get(a + b, len(ranks)), i) for i, (a, b) in enumerate(pairwise(parts)))
        if rank == len(ranks):
            break
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return tuple(parts)


# ---- names


def _named(source: object, found: Any) -> Names:
    """Names in a list, or by their ids: {"name": 0}, alone or under token2id or stoi."""
    for key in ("token2id", "stoi", "vocab"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if isinstance(found, dict):
        found = _in_order(source, found)
    if not isinstance(found, (list, tuple)) or not found:
        _no_names(source, f"a {type(found).__name__}")
    if wrong := [x for x in found if not (x is None or isinstance(x, str)) or x == ""]:
        _no_names(source, f"{wrong[0]!r} among the names")
    if twice := [x for i, x in enumerate(found) if x is not None and x in found[:i]]:
        _no_names(source, f"{twice[0]!r} twice")
    ends = [i for i, name in enumerate(found) if name in (END, "<EOS>", "</s>", "<eos>")]
    name = source.stem if isinstance(source, Path) else str(source)
    return Names(name, found, ends[0] if len(ends) == 1 else None)


def _in_order(source: object, ids: Mapping[Any, Any]) -> list[str | None]:
    if wrong := [
        x for x in ids.values() if type(x) is not int or not 0 <= x < 10 * len(ids) + 1000
    ]:
        _no_names(source, f"the id {wrong[0]!r}")
    names: list[str | None] = [None] * (max(ids.values(), default=-1) + 1)
    for name, i in ids.items():
        if names[i] is not None:
            _no_names(source, f"two names for the id {i}")
        names[i] = name
    return names


def _no_names(source: object, found: str) -> NoReturn:
    raise WeightsError(
        f"{source} is no vocabulary: {found}",
        '["a", "b", ...], or {"a": 0, "b": 1, ...}, each name once',
    )


class _Data(pickle.Unpickler):
    """Reads what is data and runs nothing."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it holds code ({module}.{name})")


def _nanogpt(path: Path) -> Any:
    """What meta.pkl says of its characters (nanoGPT, data/*/prepare.py: stoi and itos)."""
    try:
        return _Data(io.BytesIO(path.read_bytes())).load()
    # a damaged pickle can raise nearly anything
    except Exception as error:
        raise WeightsError(
            f"{path} could not be read: {error}",
            "nanoGPT's meta.pkl, which holds stoi and itos and no code",
            "a vocab.json with the characters in a list, beside the weights",
        ) from error
