"""``setar evaluate`` and ``setar export`` of a model that reads texts."""

import json

import pytest
from PIL import Image

import tiny_text
import tiny_texts
from fake_features import FakeFeatures
from setar.evaluation import run as evaluation
from setar.pipeline import Pipeline

pytest.importorskip("transformers", reason="setar[text] is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model that was trained on drawings which are not here, a CLIP, and prompts."""
    folder = tmp_path_factory.mktemp("texts")
    tiny_text.save_pipeline(folder, "data/styles")
    tiny_texts.save(folder / "clip", "clip")
    prepared = {"size": {"shortest_edge": 8}, "crop_size": {"height": 8, "width": 8}}
    (folder / "clip" / "preprocessor_config.json").write_text(json.dumps(prepared))
    lines = [{"tag": "one", "prompt": prompt} for prompt in ("a cat", "a red apple")]
    (folder / "lines.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "prompts").mkdir()
    (folder / "prompts" / "7.txt").write_text("a cat\n")
    return folder


@pytest.fixture(autouse=True)
def fake_features(monkeypatch):
    monkeypatch.setattr(evaluation, "make_extractor", lambda *_: FakeFeatures("EffLite0"))


def test_evaluate_prints_all_figures_of_a_text_model(run, folder, tmp_path):
    out = tmp_path / "figures.json"
    code, shown, err = run(
        "evaluate", folder / "model", "--reference", tiny_text.DRAWINGS, "--prompts", 3,
        "--count", 2, "--seed", 5, "--clip", folder / "clip", "--out", out,
    )  # fmt: skip
    assert (code, err) == (0, "")
    tables = json.loads(out.read_text())
    assert list(tables) == [
        "settings", "figures", "held-out pairs", "training pairs", "prompts without a style",
        "scenes", "editing",
    ]  # fmt: skip
    settings = tables["settings"]
    assert (settings["prompts"], settings["of each prompt"], settings["N"]) == (6, 2, 12)
    assert settings["CLIP"] == str(folder / "clip")
    assert {"FD-EffLite0", "CLIP score", "CLIP score, real"} <= tables["figures"].keys()
    for heading in ("held-out pairs", "training pairs", "prompts without a style"):
        assert tables[heading]["prompts"] == 3
    assert tables["scenes"]["prompts"] == tables["editing"]["inpainted halves"] == 2
    assert tables["editing"]["inpainted, rest unchanged"] == 1
    assert tables["editing"]["outpainted, rest unchanged"] == 1
    for table in tables.values():
        assert all(value is not None for value in table.values())
    assert "held-out pairs" in shown
    assert "drawing within 5, any of 2" in shown


def test_saved_statistics_save_the_time_of_the_real_features(run, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "styles").symlink_to(tiny_text.DRAWINGS)
    words = ["evaluate", folder / "model", "--prompts", 2, "--count", 1]
    assert run(*words, "--save-statistics", "real.npz", "--out", "first.json")[0] == 0
    code, _, err = run(*words, "--reference", "real.npz", "--out", "again.json")
    assert (code, err) == (0, "")
    first, again = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("first", "again"))
    assert first["settings"].pop("reference") == "data/styles"
    assert again["settings"].pop("reference") == "real.npz"
    assert again["held-out pairs"] == first["held-out pairs"]
    assert again.keys() == first.keys()
    assert again["figures"] == pytest.approx(first["figures"])


def test_the_prompts_do_not_depend_on_the_seed(run, folder, tmp_path, monkeypatch):
    asked = []
    sample_codes = Pipeline.sample_codes

    def remember(self, texts, **options):
        asked.append(tuple(texts) if not isinstance(texts, str) else texts)
        return sample_codes(self, texts, **options)

    monkeypatch.setattr(Pipeline, "sample_codes", remember)
    seen = []
    for seed in (0, 1):
        asked.clear()
        words = ["--reference", tiny_text.DRAWINGS, "--prompts", 2, "--count", 1, "--seed", seed]
        out = tmp_path / f"{seed}.json"
        assert run("evaluate", folder / "model", *words, "--out", out)[0] == 0
        seen.append((list(asked), json.loads(out.read_text())["figures"]))
    assert seen[0][0] == seen[1][0]
    assert len(seen[0][0]) > 4
    assert seen[0][1] != seen[1][1]


def test_drawings_that_are_not_here_are_said_in_one_line(refused, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = refused("evaluate", folder / "model")
    assert "setar data styles --out data/styles" in line
    (tmp_path / "plain").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "plain" / "a.png")
    Image.new("RGB", (4, 4), "red").save(tmp_path / "plain" / "b.png")
    assert "has no captions" in refused("evaluate", folder / "model", "--reference", "plain")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--images", 10], "`images` is for models of classes"),
        (["--prompts", 30_000], "are too many to keep"),
        (["--clip", "no/such/folder"], "no/such/folder"),
        (["--prompts", 0], "`prompts` (=0) must be from 1"),
    ],
)
def test_requests_that_no_text_model_answers(refused, folder, words, message):
    words = ["evaluate", folder / "model", "--reference", tiny_text.DRAWINGS, *words]
    assert message in refused(*words)


@pytest.mark.parametrize("option", ["--prompts", "--clip"])
def test_what_is_for_text_models_is_refused_by_others(refused, model, option):
    name = option.removeprefix("--")
    line = refused("evaluate", model, "--reference", "digits", option, 3)
    assert f"`{name}` is for models of texts" in line
    line = refused("evaluate", "digits:heldout", "--reference", "digits", option, 3)
    assert f"`{name}` is for models of texts" in line


def test_geneval(run, refused, folder, tmp_path):
    words = ["export", "geneval", folder / "model", folder / "lines.jsonl", "--out"]
    code, shown, err = run(*words, tmp_path / "g", "--count", 2, "--size", "4x8", "--seed", 9)
    assert code == 0, err
    assert "2 prompts, 2 samples each" in shown
    assert "evaluate_images.py" in shown
    pipe = Pipeline.from_pretrained(folder / "model")
    expected = pipe("a red apple", size=(4, 8), seed=11, count=2)
    for index, picture in enumerate(expected):
        with Image.open(tmp_path / "g" / "00001" / "samples" / f"000{index}.png") as found:
            assert found.size == (8, 4)
            assert found.tobytes() == picture.tobytes()
    again = run(*words, tmp_path / "g", "--count", 2, "--size", "4x8", "--seed", 9)
    assert "0 prompts, 2 samples each, 2 were there already" in again[1]
    assert "another `seed`" in refused(*words, tmp_path / "g", "--count", 2, "--size", "4x8")


def test_dpg(run, refused, folder, tmp_path):
    words = ["export", "dpg", folder / "model", folder / "prompts", "--out", tmp_path / "d"]
    code, shown, err = run(*words, "--negative-prompt", "a dog", "--guidance", 3)
    assert code == 0, err
    assert f"PIC_NUM=4 bash dpg_bench/dist_eval.sh {tmp_path / 'd'} 4" in shown.replace("\n", "")
    with Image.open(tmp_path / "d" / "7.png") as picture:
        assert picture.size == (8, 8)
    assert "does not exist" in refused(*words[:3], tmp_path / "none", "--out", tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_a_model_of_classes_has_nothing_to_export(refused, model, folder, tmp_path):
    line = refused("export", "dpg", model, folder / "prompts", "--out", tmp_path / "d")
    assert "makes classes" in line
    assert not (tmp_path / "d").exists()
