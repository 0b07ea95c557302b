"""Files of prompts as people have them: what they say is what is read, or it is said why not."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import weights
from interp.tasks import Prompts
from interp.tasks.files import PromptsWarning, records
from minigpt import Tokenizer
from minigpt.errors import PromptError

REAL = Path(__file__).parents[3] / "shared" / "real"
CLEAN = "When Mary and John went to the store, John gave a drink to"
CORRUPT = "When Mary and John went to the store, Mary gave a drink to"
PAIR = {"clean": CLEAN, "corrupt": CORRUPT, "answers": " Mary", "distractors": " John"}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    found = weights.load("ioi-mini").tokenizer
    assert found is not None
    return found


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def table(rows: list[dict[str, str]], path: Path) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), min_size=1, max_size=30
)


@given(text=TEXTS)
def test_any_text_comes_out_of_a_file_as_it_went_in(text, tmp_path_factory):
    """A new line, a form feed and U+2028 within a prompt among them."""
    folder = tmp_path_factory.mktemp("any")
    pair = {"clean": text, "corrupt": text, "answers": " Mary"}
    lines = json.dumps(pair, ensure_ascii=False) + "\n"
    for path in (
        written(folder, "a.jsonl", lines * 2),
        written(folder, "a.json", f"[{lines},{lines}]"),
        table([pair, pair], folder / "a.csv"),
    ):
        assert [record["clean"] for record in records(path)] == [text, text], path.name


@pytest.mark.parametrize("text", ["Who left?\nA: Mary", "Mary\u2028and John", 'a "b", c'])
def test_and_so_do_those_that_used_to_be_cut(text, tmp_path):
    assert records(table([{**PAIR, "clean": text}], tmp_path / "a.csv"))[0]["clean"] == text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_with_their_marks(encoding, tmp_path):
    path = written(tmp_path, "a.jsonl", json.dumps(PAIR).encode(encoding))
    assert records(path)[0]["clean"] == CLEAN


def test_another_encoding_is_refused_with_the_byte_and_the_remedy(tmp_path):
    path = written(tmp_path, "a.csv", "clean,answers\nZo\u00eb, Mary\n".encode("latin-1"))
    with pytest.raises(PromptError, match=r"byte 0xeb at 16[\s\S]*iconv"):
        records(path)


@pytest.mark.parametrize(("row", "what"), [("a, Mary,x", "more"), ("a", "fewer")])
def test_a_row_of_another_length_is_refused_with_its_line(row, what, tmp_path):
    path = written(tmp_path, "a.csv", f"clean,answers\nb, John\n{row}\n")
    with pytest.raises(PromptError, match=rf"line 3: {what} cells than the header's 2"):
        records(path)


def test_a_column_of_whole_numbers_is_ids_and_that_is_said(tmp_path, tokenizer):
    path = written(tmp_path, "a.csv", f'clean,answers\n"{CLEAN}",673\n"{CLEAN}",339\n')
    with pytest.warns(PromptsWarning, match="answers holds whole numbers only"):
        assert Prompts.load(path, tokenizer).answers.tolist() == [[673], [339]]


def test_a_column_that_is_not_read_is_named(tmp_path):
    path = table([{**PAIR, "notes": "mine"}], tmp_path / "a.csv")
    with pytest.warns(PromptsWarning, match="notes not read"):
        records(path)


@pytest.mark.parametrize("field", ["corrupt", "distractors"])
def test_a_field_that_only_some_records_have_is_refused_with_the_record(field, tokenizer):
    short = {name: value for name, value in PAIR.items() if name != field}
    for some, i in (([PAIR, short], 1), ([short, PAIR], 0)):
        with pytest.raises(PromptError, match=f"prompt {i} has no {field}"):
            Prompts.from_records(some, tokenizer)


# ---- AutoCircuit's word indices


def dataset(folder: Path, end: int, **more: object) -> Path:
    data = {
        "word_idxs": {"S2": 9 + end - 13, "end": end},
        "prompts": [{"clean": CLEAN, "corrupt": CORRUPT, "answers": [" Mary"]}],
        **more,
    }
    return written(folder, "a.json", json.dumps(data))


def test_positions_that_count_a_beginning_token_are_one_less(tmp_path, tokenizer):
    with pytest.warns(PromptsWarning, match="beginning token"):
        shifted = Prompts.load(dataset(tmp_path, 14), tokenizer)
    assert shifted.positions["S2"].tolist() == [9]
    plain = Prompts.load(dataset(tmp_path, 13), tokenizer)
    assert plain.positions["S2"].tolist() == [9]


@pytest.mark.parametrize("end", [12, 15, 20])
def test_what_that_does_not_explain_is_refused(end, tmp_path, tokenizer):
    with pytest.raises(PromptError, match="'end' in a file whose prompts have"):
        Prompts.load(dataset(tmp_path, end), tokenizer)


def test_labels_of_another_length_are_refused(tmp_path, tokenizer):
    with pytest.raises(PromptError, match="14 tokens and 3 seq_labels"):
        Prompts.load(dataset(tmp_path, 13, seq_labels=["a", "b", "c"]), tokenizer)


# ---- every row that is wrong is told


def test_all_answers_that_are_not_one_token_are_told_at_once_with_what_is(tokenizer):
    answers = [" Mary", "Maryy", " John", "zzz"]
    with pytest.raises(PromptError) as told:
        Prompts.from_texts(tokenizer, [CLEAN] * 4, [CORRUPT] * 4, answers, [" John"] * 4)
    said = str(told.value)
    assert "answers of prompt 1: 'Maryy' is" in said
    assert "answers of prompt 3: 'zzz' is" in said
    assert "prompt 0" not in said
    assert "prompt 2" not in said
    assert "'Mary'" in said


def test_all_pairs_that_are_not_aligned_are_told_up_to_ten(tokenizer):
    texts = [CLEAN, CLEAN + " the", *[CLEAN] * 12]
    with pytest.raises(PromptError) as told:
        Prompts.from_texts(tokenizer, texts, [CLEAN, CLEAN, *[CLEAN + " a"] * 12], [" Mary"] * 14)
    said = str(told.value)
    assert "pair 0" not in said
    assert all(f"pair {i} is not aligned" in said for i in range(1, 11))
    assert "and 3 more" in said


# ---- real ones


@pytest.fixture(scope="module")
def english() -> Tokenizer:
    from minigpt.tokenizer import gpt2

    if not REAL.is_dir():
        pytest.skip("../shared/real lies beside the repository where it is tested with real files")
    return gpt2()


def test_autocircuits_template_has_its_names_where_the_words_are(english):
    with pytest.warns(PromptsWarning, match="beginning token"):
        pairs = Prompts.load(REAL / "autocircuit_ioi_template_0.json", english)
    for i, place in enumerate(pairs.positions["IO"].tolist()):
        assert pairs.clean[i][place] == pairs.answers[i, 0]
    for i, place in enumerate(pairs.positions["S2"].tolist()):
        assert pairs.clean[i][place] == pairs.distractors[i, 0]


def test_eapigs_ids_are_ids(english):
    with pytest.warns(PromptsWarning, match="label not read"):
        pairs = Prompts.load(REAL / "eapig_gender_bias.csv", english)
    assert {english.text(int(i)) for i in pairs.answers.flatten()} <= {" she", " he"}


def test_eapigs_years_are_answers_and_distractors(english):
    with pytest.warns(PromptsWarning, match="read as a year"):
        pairs = Prompts.load(REAL / "eapig_greater_than.csv", english)
    first = [english.text(int(i)) for i in pairs.answers[0] if i >= 0]
    assert first == [str(year) for year in range(53, 100)]
    assert english.text(int(pairs.distractors[0, 0])) == "00"
    assert [int((pairs.answers[0] >= 0).sum() + (pairs.distractors[0] >= 0).sum())] == [100]


@pytest.mark.slow
def test_autocircuits_years_differ_in_number_from_prompt_to_prompt(english, tmp_path):
    pairs = Prompts.load(REAL / "autocircuit_greaterthan.json", english)
    numbers = (pairs.answers >= 0).sum(1)
    assert len(set(numbers.tolist())) > 10
    assert bool((numbers + (pairs.distractors >= 0).sum(1) == 100).all())
    pairs.save(tmp_path / "again.jsonl")
    again = Prompts.load(tmp_path / "again.jsonl", english)
    assert torch.equal(again.answers, pairs.answers)


def test_a_file_without_answers_says_what_it_has(tmp_path):
    rows = [{"clean": "a", "corrupted": "b", "label": "yes"}]
    with pytest.warns(PromptsWarning), pytest.raises(PromptError, match="has no answers"):
        Prompts.load(table(rows, tmp_path / "a.csv"))


@pytest.mark.parametrize(
    "record",
    [
        {"clean": [[3.0, 3.0], [2.0, 2.0]], "corrupt": [[1.0, 1.0], [0.0, 0.0]]},
        {
            "clean": [3, 0, 1],
            "corrupt": [3, 1, 0],
            "answers": [[0], [1]],
            "wrong_answers": [[1], [0]],
        },
    ],
)
def test_vectors_and_nested_answers_are_no_prompts(tmp_path, record):
    """What AutoCircuit keeps for its hand-built models."""
    file = tmp_path / "pairs.json"
    answers = {"answers": [" Mary"], "wrong_answers": [" John"]}
    file.write_text(json.dumps({"prompts": [{**answers, **record}]}))
    with pytest.raises(PromptError, match="of prompt 0: ") as error:
        Prompts.load(file, weights.load("ioi-mini").tokenizer)
    assert "a text or token ids" in str(error.value)
