"""Where models are looked for, in which order, and what is said when there is none."""

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from setar import pretrained
from setar.pretrained import locate, shipped


def model_folder(path):
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
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
    assert "shipped: none" in refused("emoji")


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
    assert "shipped: digits, emoji" in refused("zebra")


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
