"""The record of pairs: alignment, positions, and its files."""

from __future__ import annotations

import json

import pytest
import torch

import weights
from interp.tasks import Prompts
from minigpt.errors import MiniGPTError

TOKENIZER = weights.load("ioi-mini").tokenizer
A, B = (
    "When Mary and John went to the store, John gave a drink to",
    "When Mary and John went to the store, Mary gave a drink to",
)


def one() -> Prompts:
    return Prompts.from_texts(
        TOKENIZER,
        [A, B],
        [B, A],
        [" Mary", " John"],
        [" John", " Mary"],
        {"S2": [9, 9]},
        torch.tensor([0, 1]),
    )


def test_the_end_is_always_named_and_batches_carry_the_names():
    pairs = one()
    assert pairs.positions["END"].tolist() == [13, 13]
    assert pairs.batch.index("S2").tolist() == [9, 9]
    assert pairs.corrupted.tokens.tolist() == pairs.batch.tokens.flip(0).tolist()


def test_what_is_not_aligned_shows_both_rows_of_tokens():
    with pytest.raises(
        MiniGPTError,
        match=(
            r"(?s)pair 0 is not aligned: 14 and 15 tokens.*clean    When\| Mary.*corrupt  "
            r"When\| Mary"
        ),
    ):
        Prompts.from_texts(TOKENIZER, [A], [A + " John"], [" Mary"], [" John"])


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv"])
def test_every_file_gives_the_same_prompts(tmp_path, suffix):
    path, pairs = tmp_path / f"pairs{suffix}", one()
    if suffix == ".jsonl":
        pairs.save(path)
    elif suffix == ".json":
        path.write_text(
            json.dumps(
                {
                    "seq_labels": [],
                    "word_idxs": {"S2": 9, "end": 13},
                    "prompts": [
                        {
                            "clean": A,
                            "corrupt": B,
                            "answers": [" Mary"],
                            "wrong_answers": [" John"],
                        },
                        {
                            "clean": B,
                            "corrupt": A,
                            "answers": [" John"],
                            "wrong_answers": [" Mary"],
                        },
                    ],
                }
            )
        )
    else:
        path.write_text(
            f'clean,corrupted,answer,wrong_answer\n"{A}","{B}"," Mary"," John"\n"{B}","{A}"," '
            'John"," Mary"\n'
        )
    found = Prompts.load(path, TOKENIZER)
    for name in ("clean", "corrupt", "answers", "distractors"):
        assert torch.equal(getattr(found, name), getattr(pairs, name)), name
    if suffix != ".csv":
        assert found.positions["S2"].tolist() == [9, 9]
    if suffix == ".jsonl":
        assert found.groups.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "without prompts"),
        ('{"clean": "When"}', "no answers"),
        ("no json", "holds no prompts"),
        ('{"clean": "When", "answers": [" Marry"]}', "one token"),
        ('{"clean": [1, 2], "answers": [3], "positions": {"S2": 7}}', "position 'S2'"),
    ],
)
def test_a_bad_file_says_what_is_wrong(tmp_path, text, message):
    path = tmp_path / "pairs.jsonl"
    path.write_text(text)
    with pytest.raises(MiniGPTError, match=message):
        Prompts.load(path, TOKENIZER)


def test_a_missing_file_and_uneven_answers():
    from pathlib import Path

    with pytest.raises(MiniGPTError, match="No such file"):
        Prompts.load(Path("nowhere.jsonl"))
    assert Prompts([[1, 2], [3, 4]], None, [[1], [2, 3]]).answers.tolist() == [[1, -1], [2, 3]]
    with pytest.raises(MiniGPTError, match="one token id or more"):
        Prompts([[1, 2], [3, 4]], None, [[], [2, 3]])
