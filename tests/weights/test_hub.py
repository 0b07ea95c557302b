"""The hub and its cache: no network where a model is at hand, damaged downloads refused, every door
in a fresh interpreter."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch

import weights
from tests.conftest import tiny
from tests.weights.tools import run_python, same
from weights import catalog
from weights.errors import WeightsError, WeightsWarning

Hub = tuple[Path, Path]
NAMES = json.dumps([f"word{i}" for i in range(50)])


def cache_of(root: Path, repo: str, source: Path) -> Hub:
    """The hub's cache as huggingface_hub lays it out, with one model in it: its snapshot, and its
    weights' blob."""
    top = root / ("models--" + repo.replace("/", "--"))
    snapshot, blobs = top / "snapshots" / "c0ffee", top / "blobs"
    for made in (snapshot, blobs, top / "refs"):
        made.mkdir(parents=True)
    (top / "refs" / "main").write_text("c0ffee")
    (source / "vocab.json").write_text(NAMES)
    for name in ("vocab.json", "config.json", "model.safetensors"):
        data = (source / name).read_bytes()
        blob = blobs / hashlib.sha256(data).hexdigest()
        blob.write_bytes(data)
        (snapshot / name).symlink_to(blob)
    return snapshot, blob


@pytest.fixture
def hub(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A cache that holds a tiny model under gpt2's name, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return cache_of(tmp_path / "hub", "openai-community/gpt2", folder)


def test_a_model_in_the_hubs_cache_needs_no_network(hub):
    model = weights.load("gpt2")
    assert same(model.params, tiny().params)
    assert model.name == weights.load("openai-community/gpt2").name == "gpt2"
    assert weights.fetch("gpt2") == hub[0]
    listed = {entry.name: entry for entry in weights.models()}
    assert listed["gpt2"].at_hand == hub[0]
    assert listed["gpt2"].bytes == sum(path.stat().st_size for path in hub[0].iterdir())
    assert listed["gpt2-xl"].at_hand is None
    assert listed["ioi-mini"].at_hand == catalog.EMBEDDED


def test_half_a_model_in_the_cache_is_not_at_hand(hub):
    (hub[0] / "model.safetensors").unlink()
    assert catalog.at_hand(catalog.find("gpt2")) is None
    with pytest.raises(WeightsError, match="not at hand"):
        weights.load("gpt2")


def test_offline_says_so_and_what_to_type(hub):
    with pytest.raises(WeightsError) as caught:
        weights.load("gpt2-medium")
    for part in (
        "HF_HUB_OFFLINE is set",
        "openai-community/gpt2-medium",
        huggingface_hub.constants.HF_HUB_CACHE,
        "interp fetch gpt2-medium",
        "HF_HUB_CACHE=FOLDER",
        "ioi-mini",
    ):
        assert part in str(caught.value)


def test_a_damaged_download_is_refused_and_removed(hub, capsys):
    snapshot, blob = hub
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    with pytest.raises(WeightsError, match="came out damaged"):
        weights.fetch("gpt2")
    assert not blob.exists()
    assert not (snapshot / "model.safetensors").is_symlink()
    assert "verifying" in capsys.readouterr().err


def test_a_cache_without_checksums_is_called_unverified(hub):
    blob = hub[1].rename(hub[1].with_name("plain"))
    (hub[0] / "model.safetensors").unlink()
    (hub[0] / "model.safetensors").symlink_to(blob)
    with pytest.warns(WeightsWarning, match="could not be verified"):
        weights.fetch("gpt2")


PATHS = "/(openai-community/gpt2|org/other)/resolve/(main|v2|c0ffee)/"


class Server(http.server.BaseHTTPRequestHandler):
    """As much of the hub as a download needs; `files` is set below."""

    files: dict[str, bytes]
    sums: dict[str, str]

    def do_HEAD(self) -> None:
        name = self.path.rsplit("/", 1)[-1]
        if not re.fullmatch(PATHS, self.path.removesuffix(name)) or name not in self.files:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.files[name])))
        self.send_header("ETag", f'"{self.sums[name]}"')
        self.send_header("X-Repo-Commit", "c0ffee")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(self.files.get(self.path.rsplit("/", 1)[-1], b""))

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def server(folder: Path) -> Iterator[http.server.ThreadingHTTPServer]:
    Server.files = {
        name: (folder / name).read_bytes() for name in ("config.json", "model.safetensors")
    }
    Server.files["vocab.json"] = NAMES.encode()
    Server.sums = {name: hashlib.sha256(data).hexdigest() for name, data in Server.files.items()}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def hub_at(server: http.server.ThreadingHTTPServer, folder: Path) -> dict[str, str]:
    """The environment in which that server is the hub, and its cache empty."""
    return {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HUB_CACHE": str(folder / "fetched"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


FETCH = """
import weights
try:
    print(weights.fetch("gpt2"))
    print(weights.load("gpt2"))
except weights.WeightsError as error:
    print(error)
"""


def test_a_download_from_a_hub_and_a_damaged_one(server, tmp_path):
    env = hub_at(server, tmp_path)
    out = run_python(FETCH, **env)
    assert (
        str(tmp_path / "fetched" / "models--openai-community--gpt2" / "snapshots" / "c0ffee") in out
    )
    assert "GPT2(gpt2: 2 layers" in out
    Server.files["model.safetensors"] = Server.files["model.safetensors"][:-1] + b"\x55"
    assert "came out damaged" in run_python(
        FETCH, **{**env, "HF_HUB_CACHE": str(tmp_path / "other")}
    )


ANY = """
import sys, weights
for name, revision in (("org/other", None), ("org/other@v2", None), ("org/other", "v2")):
    try:
        path = weights.fetch(name, revision)
        model = weights.load(name, revision=revision)
        print(path.name, model, model.tokenizer.text(3), model.run("word3 word4").tokens.tolist())
    except weights.WeightsError as error:
        print(error)
for name in ("org/none", "org/other@v3"):
    try:
        weights.load(name)
    except weights.WeightsError as error:
        print(error)
"""


def test_any_repository_of_a_gpt2_is_fetched_at_any_revision(server, tmp_path):
    env = hub_at(server, tmp_path)
    out = run_python(ANY, **env)
    found = "c0ffee GPT2(other: 2 layers x 2 heads, 0.0M parameters, float32 on cpu) word3 [[3, 4]]"
    assert out.count(found) == 3, out
    for name in ("org/none", "org/other"):
        assert f"{name} on the hub holds no config.json" in out
    # without the hub, what was fetched is at hand
    off = {**env, "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    assert run_python(ANY, **off).count(found) == 3


def test_another_architecture_is_refused_before_its_weights_are_asked_for(server, tmp_path):
    config = json.loads(Server.files["config.json"])
    config |= {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    Server.files["config.json"] = json.dumps(config).encode()
    Server.sums["config.json"] = hashlib.sha256(Server.files["config.json"]).hexdigest()
    del Server.files["model.safetensors"]
    env = hub_at(server, tmp_path)
    out = run_python(
        "import weights\ntry: weights.load('org/other')\n"
        "except weights.WeightsError as error: print(error)",
        **env,
    )
    assert "model_type is 'llama'" in out
    assert "LlamaForCausalLM" in out


def test_without_a_network_the_answer_comes_at_once(tmp_path):
    """Nobody listens there; the library alone would try for half a minute."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        env = {
            "HF_ENDPOINT": f"http://127.0.0.1:{taken.getsockname()[1]}",
            "HF_HUB_CACHE": str(tmp_path / "empty"),
            "HF_HUB_OFFLINE": "0",
        }
        code = f"import time\nbegun = time.monotonic()\n{FETCH}\nprint(time.monotonic() - begun)"
        *said, seconds = run_python(code, **env).strip().splitlines()
    assert "gpt2 is not at hand" in said[0]
    assert "refused" in said[0]
    assert float(seconds) < 8


DOORS = """
import sys, torch, weights
assert "huggingface_hub" not in sys.modules and "transformers" not in sys.modules
def refused(*args, **kwargs):
    try:
        weights.load(*args, **kwargs)
    except weights.WeightsError as error:
        return str(error)
    raise SystemExit(f"{args} {kwargs} was not refused")
assert "eager, sdpa" in refused("ioi-mini", attention="flash")
for dtype in (torch.int8, "float32"):
    assert "torch.float32" in refused("ioi-mini", dtype=dtype)
for device in ("nowhere", "meta", "xla", 3.5):
    assert "cannot be used" in refused("ioi-mini", device=device), device
for x in (None, 3, [], b"gpt2"):
    assert "ioi-mini" in refused(x), x
assert "HF_HUB_OFFLINE is set" in refused("gpt2-xl")
print(weights.load("gpt2"), weights.load("ioi-mini", device="cpu", dtype=torch.float16).dtype)
"""


def test_doors_and_environment_in_a_fresh_interpreter(tmp_path, folder):
    cache_of(tmp_path / "home" / "hub", "openai-community/gpt2", folder)
    environment = {name: "" for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")}
    code = (
        "import os\nfor name in ('HF_HUB_CACHE', 'HUGGINGFACE_HUB_CACHE'): os.environ.pop(name)\n"
        + DOORS
    )
    assert "GPT2(gpt2: 2 layers" in run_python(
        code, **environment, HF_HOME=str(tmp_path / "home"), HF_HUB_OFFLINE="1"
    )


def test_a_dictionary_in_the_hubs_cache_has_a_name(hub, tmp_path):
    """org/name:folder, a folder of SAELens within a repository."""
    from recipes import dictionaries

    random = torch.Generator().manual_seed(0)
    made = {"W_enc": torch.randn(128, 16, generator=random), "b_enc": torch.zeros(16)}
    made |= {"W_dec": made["W_enc"].T.contiguous(), "b_dec": torch.zeros(128)}
    dictionaries.write(made, "m1", tmp_path / "made")
    snapshot = cache_of(tmp_path / "hub", "org/dictionaries", hub[0])[0]
    (snapshot / "sub" / "m1").mkdir(parents=True)
    blobs = snapshot.parents[1] / "blobs"
    for name in ("cfg.json", "sae_weights.safetensors"):
        data = (tmp_path / "made" / name).read_bytes()
        blob = blobs / hashlib.sha256(data).hexdigest()
        blob.write_bytes(data)
        (snapshot / "sub" / "m1" / name).symlink_to(blob)
    known = weights.load_dictionary("org/dictionaries:sub/m1")
    assert (known.explains, known.n_latents) == ("m1", 16)
    assert weights.load_dictionaries("org/dictionaries:sub/m1")[0].hash == known.hash
    with pytest.raises(WeightsError, match="not at hand"):
        weights.load_dictionary("org/dictionaries:sub/m2")
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match="came out damaged"):
        weights.load_dictionary("org/dictionaries:sub/m1")
