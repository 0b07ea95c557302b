"""How well a dictionary fits: exact where it is exact, bad where it is not, and what mends it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from interp.cli.commands import app
from interp.dictionaries import fit
from minigpt.dictionary import Dictionary
from tests.conftest import tiny

D = 8
TOKENS = torch.arange(60).view(4, 15) * 7 % 50


def mirror(reads, width=D, **others):
    """The dictionary whose latents are every coordinate's two halves: exact."""
    both = torch.cat([torch.eye(width), -torch.eye(width)])
    zero = torch.zeros(2 * width), torch.zeros(width)
    place = reads, reads.removesuffix(".act")
    made = Dictionary("mirror", *place, both.T.contiguous(), zero[0], both, zero[1])
    return replace(made, **others)


@pytest.mark.parametrize(
    ("reads", "width"), [("m1", D), ("a0", D), ("resid1", D), ("resid1.mid", D), ("m1.act", 16)]
)
def test_an_exact_dictionary_explains_all_and_keeps_the_loss(reads, width):
    found = fit(tiny(), mirror(reads, width), TOKENS)
    assert abs(found.explained - 1) < 1e-9
    assert abs(found.explained_first - 1) < 1e-9
    assert abs(found.loss - found.reconstructed) < 1e-5
    assert found.zeroed != found.loss
    assert abs(found.recovered - 1) < 1e-3
    trace = tiny().run(TOKENS)
    x = trace.act("m1") if reads == "m1.act" else trace[reads]
    never = sum(int((~(side > 0).any(0)).sum()) for x in [x.flatten(0, 1)] for side in (x, -x))
    assert (found.tokens, found.dead, found.better) == (60, never, None)
    assert abs(found.l0 - width) < 1e-9


def test_variance_latents_and_the_dead_are_counted_by_hand():
    model = tiny()
    half = mirror("m1")
    half.decoder[D // 2 : D] = 0
    half.decoder[D + D // 2 :] = 0
    half.encoder[:, :2] = 0
    x = model.run(TOKENS)["m1"][:, 1:].double().reshape(-1, D)
    kept = x.clone()
    kept[:, D // 2 :] = 0
    kept[:, :2] = kept[:, :2].clamp(max=0)
    wanted = 1 - float(((x - kept) ** 2).sum() / ((x - x.mean(0)) ** 2).sum())
    found = fit(model, half, TOKENS)
    assert abs(found.explained - wanted) < 1e-6
    assert found.dead >= 2


def test_a_wrong_preparation_is_seen_and_the_right_one_said():
    model = tiny()
    exact = mirror("resid2")
    # of a stream without mean the same; of any other the mean comes out tenfold
    tenfold = torch.eye(D) + 9 / D * torch.ones(D, D)
    trained = replace(exact, decoder=exact.decoder @ tenfold)
    found = fit(model, trained, TOKENS)
    assert found.explained < 0 < 0.99 < found.better[2]
    assert "was trained on centred streams; normalise='centre' gives 1.00" in found.advice
    assert fit(model, replace(trained, normalise="centre"), TOKENS).advice == ""


def test_the_command_prints_and_lists(tmp_path):
    both = torch.cat([torch.eye(128), -torch.eye(128)])
    tensors = {"W_enc": both.T.contiguous(), "b_enc": torch.zeros(256)}
    tensors |= {"W_dec": both, "b_dec": torch.zeros(128)}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        config = {"architecture": "standard", "metadata": {"hook_name": "blocks.1.hook_mlp_out"}}
        (tmp_path / name / "cfg.json").write_text(json.dumps(config))
        save_file(tensors, tmp_path / name / "sae_weights.safetensors")
    texts = tmp_path / "texts.txt"
    texts.write_text("When Mary and John went to the store, John gave a drink to\n" * 2)
    typed = ["--model", "ioi-mini", "--prompts", str(texts), "--json"]
    done = CliRunner().invoke(app, ["dictionaries", str(tmp_path / "one"), *typed])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["reads"], said["explained variance"], said["advice"]) == ("m1", 1.0, "")
    listed = CliRunner().invoke(app, ["dictionaries", str(tmp_path), "--json"])
    assert [path[-3:] for path in json.loads(listed.stdout)] == ["one", "two"]
