"""Where models are looked for, in which order, and what is said when there is none; tokenizers."""

import base64
import json
import shutil
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

import tiny_runs
from foreign_files import assert_same_weights, save_vqgan
from random_weights import randomise
from setar import checkpoint, pretrained, registry
from setar.pipeline import Pipeline
from setar.pretrained import (
    describe_tokenizer,
    load_tokenizer,
    locate,
    read_config,
    read_newest,
    save_tokenizer,
    shipped,
)
from setar.run_folder import checkpoint_folder
from setar.tokenizers.base import TOKENIZERS
from setar.tokenizers.multiscale import PRESETS, MultiScaleVQ


def model_folder(path):
    path.mkdir(parents=True)
    for name in ("config.json", "manifest.json"):
        (path / name).write_text("{}")
    return path


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Two shipped models, and an empty current folder."""
    folder = tmp_path / "package" / "weights"
    for name in ("emoji", "digits"):
        model_folder(folder / name)
    (folder / "notes").mkdir()
    monkeypatch.setattr(pretrained, "SHIPPED", folder)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def hub(monkeypatch):
    """The downloads that were asked for; nothing goes over a network."""
    asked = []

    def download(name, allow_patterns):
        asked.append((name, allow_patterns))
        return f"/cache/{name}"

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    return asked


def refused(source):
    with pytest.raises(ValueError, match=r"\A[^\n]{1,500}\Z") as caught:
        locate(source)
    return str(caught.value)


def test_what_is_shipped(weights):
    assert shipped() == ["digits", "emoji"]
    assert locate("emoji") == weights / "emoji"


def test_nothing_is_shipped_without_the_folder(weights, monkeypatch):
    monkeypatch.setattr(pretrained, "SHIPPED", weights / "missing")
    assert shipped() == []
    assert "known: none" in refused("emoji")


def test_a_model_folder(weights, tmp_path, hub):
    folder = model_folder(tmp_path / "mine" / "best")
    assert locate(folder) == locate(str(folder)) == folder
    assert locate("mine/best").resolve() == folder  # and not the hub's
    assert hub == []


def test_a_model_folder_goes_before_a_shipped_name_and_any_other_folder_behind(weights, tmp_path):
    (tmp_path / "digits").mkdir()
    assert locate("digits") == weights / "digits"
    model_folder(tmp_path / "emoji")
    assert locate("emoji").resolve() == tmp_path / "emoji"


def test_a_run_stands_for_its_newest_checkpoint(weights, tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    assert "the run" in refused(run)
    for step in (900, 1000, 20):
        model_folder(run / "checkpoints" / f"step-{step:08d}")
    (run / "checkpoints" / "step-00002000").mkdir()  # has no config: not a checkpoint
    model_folder(run / "checkpoints" / ".step-00003000.partial")
    assert locate(run) == run / "checkpoints" / "step-00001000"


def test_other_folders_are_refused(weights, tmp_path):
    (tmp_path / "pictures").mkdir()
    assert "is no model folder: it has no config.json" in refused("pictures")
    assert "is no model folder" in refused("")


def test_near_names_are_suggested(weights):
    assert "did you mean 'emoji'?" in refused("emojis")
    assert "known: digits, emoji" in refused("zebra")


def test_hub_ids_are_downloaded(weights, hub):
    assert locate("someone/model").as_posix() == "/cache/someone/model"
    [(name, patterns)] = hub
    assert name == "someone/model"
    assert not any(pattern.endswith(("bin", "pt", "pkl", "*")) for pattern in patterns)


@pytest.mark.parametrize(
    "source", ["./a/b", "../a", "/no/folder", "/nowhere", "a/b/c", "owner/", "x" * 5000, "a\0b"]
)
def test_what_cannot_be_a_hub_id_is_not_looked_for_there(weights, hub, source):
    refused(source)
    assert hub == []


@pytest.mark.parametrize(
    "failure",
    [LocalEntryNotFoundError("offline\nand so on"), OSError(), ConnectionError("no route")],
    ids=repr,
)
def test_a_failing_hub_is_one_line(weights, monkeypatch, failure):
    def download(name, allow_patterns):
        raise failure

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert "nor a model on the hub" in refused("owner/name")


@pytest.mark.parametrize("source", ["a b/c", "-/-", "owner/" + "x" * 100])
def test_the_hub_refuses_malformed_ids_in_one_line(weights, source):
    assert "nor a model on the hub" in refused(source)


@pytest.fixture
def silent(monkeypatch, tmp_path):
    """A hub that accepts connections and never answers."""
    monkeypatch.setattr("setar.pretrained.PATIENCE", 1)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{port}")
        yield server


def test_a_silent_hub_is_given_up(weights, silent):
    assert "has sent nothing for 1 seconds" in refused("owner/name")
    silent.settimeout(5)
    silent.accept()  # it was asked


def test_what_was_downloaded_before_is_taken_then(weights, silent, tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    kept = tmp_path / "cache" / "models--owner--name"
    (kept / "snapshots" / commit).mkdir(parents=True)
    (kept / "snapshots" / commit / "config.json").write_text("{}")
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(commit)
    assert locate("owner/name") == kept / "snapshots" / commit


def test_a_slow_hub_is_waited_for(weights, monkeypatch, tmp_path):
    """As long as something arrives."""
    monkeypatch.setattr("setar.pretrained.PATIENCE", 2)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    def download(name, allow_patterns):
        blobs = tmp_path / "models--owner--name" / "blobs"
        blobs.mkdir(parents=True)
        for count in range(15):
            (blobs / "part").write_bytes(b"x" * count)
            time.sleep(0.2)
        return tmp_path

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert locate("owner/name") == tmp_path


# A model that is replaced while it is read


def test_a_checkpoint_that_vanishes_is_read_again(tmp_path):
    """Another one is there by then."""
    run = tmp_path / "run"
    first, second = (run / "checkpoints" / f"step-{step:08d}" for step in (1, 2))
    save_vqgan(first)
    looked = []

    def read(folder):
        looked.append(folder)
        if folder == first:
            save_vqgan(second)
            shutil.rmtree(first)
        return checkpoint.verify(folder)

    assert "tokenizer" in read_newest(run, read)
    assert looked == [first, second]


def test_what_stays_wrong_is_read_once(tmp_path):
    folder, looked = save_vqgan(tmp_path / "vq"), []

    def read(found):
        looked.append(found)
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        read_newest(folder, read)
    assert looked == [folder]


def test_a_model_that_is_always_replaced_ends(tmp_path, monkeypatch):
    folder = save_vqgan(tmp_path / "vq")
    monkeypatch.setattr(pretrained, "REREADING", 0.2)

    def read(found):
        save_vqgan(folder)
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="is replaced faster than it can be read"):
        read_newest(folder, read)


def test_a_run_in_training_can_always_be_read(tmp_path):
    """Its one checkpoint is replaced ten times while it is read again and again."""
    run = tmp_path / "run"
    folders = [save_vqgan(checkpoint_folder(run, 1))]

    def train():
        for step in range(2, 12):
            folders.append(save_vqgan(checkpoint_folder(run, step)))
            shutil.rmtree(folders[-2])

    writer = threading.Thread(target=train)
    writer.start()
    try:
        while writer.is_alive():
            assert load_tokenizer(run).vocabulary == 24
    finally:
        writer.join()
    assert len(folders) == 11


# Tokenizers on disk; folders of generators are tested with the pipeline


@pytest.mark.parametrize("scales", [1, 4])
def test_a_tokenizer_is_written_and_read(tmp_path, scales):
    if scales == 1:
        tokenizer = load_tokenizer(save_vqgan(tmp_path / "vq"))
    else:
        tokenizer = randomise(MultiScaleVQ(PRESETS["tiny"]))
    save_tokenizer(tokenizer, tmp_path / "copy")
    config = checkpoint.verify(tmp_path / "copy")
    assert list(config) == ["tokenizer", "plugins"]
    assert config["plugins"] == []
    again = load_tokenizer(tmp_path / "copy")
    assert type(again) is type(tokenizer)
    assert again.config == tokenizer.config
    assert not again.training
    assert_same_weights(again, tokenizer.state_dict(), str)


def test_folders_without_a_tokenizer(tmp_path):
    checkpoint.save(tmp_path / "empty", {}, {})
    with pytest.raises(ValueError, match=r"empty has no tokenizer"):
        load_tokenizer(tmp_path / "empty")
    with pytest.raises(ValueError, match="is no model folder"):
        load_tokenizer(tmp_path)


def test_a_damaged_tokenizer(tmp_path):
    file = save_vqgan(tmp_path / "vq") / "tokenizer.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"tokenizer.safetensors is damaged"):
        load_tokenizer(tmp_path / "vq")


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A file with a tokenizer, loaded; tables and plugins are as before afterwards."""
    monkeypatch.setattr(TOKENIZERS, "_entries", dict(TOKENIZERS._entries))
    monkeypatch.setattr(TOKENIZERS, "_plugins", dict(TOKENIZERS._plugins))
    monkeypatch.setattr(registry, "_files", {})
    (tmp_path / "own_tokenizers.py").write_text(
        "from setar.tokenizers.base import TOKENIZERS\n"
        "from setar.tokenizers.pixels import PixelLevels\n"
        "@TOKENIZERS.register('own-pixels')\n"
        "class OwnPixels(PixelLevels): ...\n"
    )
    return registry.load_plugin(tmp_path / "own_tokenizers.py")


def test_a_folder_says_which_plugin_it_needs(tmp_path, plugin, monkeypatch):
    kind = TOKENIZERS.find("own-pixels")
    tokenizer = kind(kind.presets["tiny"])
    assert describe_tokenizer(tokenizer) == {
        "tokenizer": {"family": "own-pixels", "levels": 17}, "plugins": ["own_tokenizers.py"],
    }  # fmt: skip
    save_tokenizer(tokenizer, tmp_path / "own")
    assert type(load_tokenizer(tmp_path / "own")) is kind
    assert read_config(tmp_path / "own") == describe_tokenizer(tokenizer)
    monkeypatch.setattr(registry, "_files", {})
    (tmp_path / "own" / "own_tokenizers.py").write_text("raise AssertionError('was run')")
    known = {name: kind for name, kind in TOKENIZERS._entries.items() if name != "own-pixels"}
    monkeypatch.setattr(TOKENIZERS, "_entries", known)
    needs = r"\A[^\n]*own needs the plugin 'own_tokenizers.py': [^\n]*--plugin FILE[^\n]*\Z"
    with pytest.raises(ValueError, match=needs):
        load_tokenizer(tmp_path / "own")
    assert read_config(tmp_path / "own")["plugins"] == ["own_tokenizers.py"]


@pytest.mark.parametrize("plugins", ["own.py", 3, {}])
def test_plugins_are_a_list(tmp_path, plugins):
    checkpoint.save(tmp_path / "model", {"plugins": plugins}, {})
    with pytest.raises(ValueError, match="`plugins` must be a list of names"):
        read_config(tmp_path / "model")


# Uploading


class Hub(BaseHTTPRequestHandler):
    """As much of a hub as an upload asks for; it keeps what it was sent."""

    files: ClassVar[dict[str, bytes]] = {}
    repositories: ClassVar[list[dict[str, Any]]] = []
    refusal = ""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            self.repositories.append(json.loads(body))
            if self.refusal:
                self.answer({"error": self.refusal}, 403)
                return
            self.answer({"url": f"http://{self.headers['Host']}/owner/name", "id": "owner/name"})
        elif self.path.startswith("/api/models/owner/name/preupload/"):
            paths = [file["path"] for file in json.loads(body)["files"]]
            kinds = [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]
            self.answer({"files": kinds})
        elif self.path.startswith("/api/models/owner/name/commit/"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    self.files[value["path"]] = base64.b64decode(value["content"])
            where = f"http://{self.headers['Host']}/owner/name/commit/1"
            done = {"commitUrl": where, "commitOid": "1"}
            self.answer({"success": True, **done})
        else:
            self.answer({}, 200)

    def do_GET(self):
        self.answer({"siblings": [], "sha": "0", "id": "owner/name"}, 404 if self.refusal else 200)

    def answer(self, content, status=200):
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Nothing on standard error."""


@pytest.fixture
def uploads(monkeypatch):
    """A hub on this machine."""
    Hub.files.clear()
    Hub.repositories.clear()
    monkeypatch.setattr(Hub, "refusal", "")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.hf_api.ENDPOINT", address, raising=False)
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", address)
    yield Hub
    server.shutdown()
    server.server_close()


def test_a_model_is_uploaded_and_is_the_same_from_there(uploads, tmp_path):
    pipe = Pipeline.from_pretrained(tiny_runs.save_pipeline(tmp_path / "model"))
    where = pipe.push_to_hub("owner/name", private=True, token="hf_none")
    assert where.endswith("/owner/name/commit/1")
    assert uploads.repositories[0]["name"] == "name"
    names = ["README.md", "config.json", "manifest.json", "model.safetensors"]
    assert sorted({*uploads.files}) == [*names, "tokenizer.safetensors"]
    assert b"setar sample owner/name" in uploads.files["README.md"]
    (tmp_path / "copy").mkdir()
    for name, content in uploads.files.items():
        (tmp_path / "copy" / name).write_bytes(content)
    assert Pipeline.from_pretrained(tmp_path / "copy")("cat", seed=3) == pipe("cat", seed=3)


def test_what_the_hub_refuses_is_one_line(uploads, tmp_path, monkeypatch):
    pipe = Pipeline.from_pretrained(tiny_runs.save_pipeline(tmp_path / "model"))
    monkeypatch.setattr(uploads, "refusal", "you may not")
    with pytest.raises(ValueError, match=r"\Acannot upload owner/name to the hub: [^\n]+\Z"):
        pipe.push_to_hub("owner/name", token="hf_none")
    for name in ("name", "a/b/c", "a b/c", 5):
        with pytest.raises(ValueError, match="is called owner/name"):
            pipe.push_to_hub(name)
    assert not uploads.files
