"""``setar evaluate``."""

import json
from unittest.mock import Mock

import pytest

import tiny_runs
from fake_features import FakeFeatures, random_pictures
from setar import registry
from setar.evaluation import run as evaluation
from setar.evaluation.metrics import METRICS
from setar.evaluation.sources import save_pictures


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Two .npz files of pictures, and a projection for features."""
    monkeypatch.setattr(evaluation, "make_extractor", lambda *_: FakeFeatures("EffLite0"))
    for name, seed in (("made", 1), ("real", 2)):
        save_pictures(random_pictures(20, seed=seed), tmp_path / f"{name}.npz")
    return tmp_path


def test_evaluate_prints_and_writes_every_figure(run, model, pictures):
    out = pictures / "new" / "figures.json"
    code, shown, err = run(
        "evaluate", model, "--reference", pictures / "real.npz", "--guidance", 3, "--top-k", 5,
        "--recipe", "random-2-cosine", "--count", 4, "--seed", 4, "--out", out,
        "--save-samples", pictures / "samples.npz",
        "--save-statistics", pictures / "statistics.npz",
    )  # fmt: skip
    assert (code, err) == (0, "")
    tables = json.loads(out.read_text())
    settings = tables["settings"]
    assert settings["guidance"]["scale"] == 3.0
    assert (settings["recipe"], settings["steps"]) == ("random-2-cosine", 2)
    assert (settings["top_k"], settings["seed"], settings["N"]) == (5, 4, 20)
    for table in tables.values():
        for name in table:
            assert name.replace("_", " ") in shown
    assert f"{tables['figures']['FD-EffLite0']:.4g}" in shown
    assert "FID" not in shown
    assert "random-2-cosine" in shown
    for file in (out, pictures / "samples.npz", pictures / "statistics.npz"):
        assert file.is_file()
        assert str(file) in shown.replace("\n", "")


def test_pictures_are_evaluated_without_a_model(run, pictures):
    words = ["evaluate", pictures / "made.npz", "--reference", pictures / "real.npz"]
    code, shown, err = run(*words, "--images", 10)
    assert (code, err) == (0, "")
    assert "FD-EffLite0" in shown


def test_further_metrics_of_a_plugin(run, refused, pictures, monkeypatch):
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    monkeypatch.setattr(registry, "_files", {})
    plugin = pictures / "brightness_metrics.py"
    plugin.write_text(
        "from setar.evaluation.metrics import register_metric\n"
        "@register_metric('how-many', heading='numbers')\n"
        "def how_many(evidence):\n"
        "    return {'pictures_seen': evidence.made.images, 'real_ones': evidence.real.images}\n"
    )
    words = ["evaluate", pictures / "made.npz", "--reference", pictures / "real.npz"]
    out = pictures / "figures.json"
    given = ["--metrics", "frechet, how-many,", "--plugin", plugin, "--out", out]
    code, shown, err = run(*words, *given)
    assert (code, err) == (0, "")
    tables = json.loads(out.read_text())
    assert tables["numbers"] == {"pictures_seen": 20, "real_ones": 20}
    assert "pictures seen" in shown
    assert "did you mean 'how-many'?" in refused(*words, "--metrics", "how-mny")


@pytest.mark.parametrize("option", ["--out", "--save-samples", "--save-statistics"])
def test_figures_that_cannot_be_written(refused, monkeypatch, model, tmp_path, option):
    monkeypatch.setattr(evaluation, "run", Mock(side_effect=AssertionError("too late")))
    (tmp_path / "folder.npz").mkdir()
    assert "is a folder" in refused("evaluate", model, option, tmp_path / "folder.npz")
    if option != "--out":
        assert "must end in .npz" in refused("evaluate", model, option, tmp_path / "a.npy")


def test_figures_are_written_before_they_are_shown(run, pictures, monkeypatch):
    monkeypatch.setattr("setar.cli.evaluate.show", Mock(side_effect=OSError(5, "no console")))
    words = ["evaluate", pictures / "made.npz", "--reference", pictures / "real.npz"]
    code, _, _ = run(*words, "--out", pictures / "figures.json")
    assert code == 2
    assert "FD-EffLite0" in json.loads((pictures / "figures.json").read_text())["figures"]


def test_figures_are_shown_where_they_cannot_be_written(run, pictures, monkeypatch):
    full = OSError(28, "No space left on device")
    monkeypatch.setattr("setar.cli.evaluate.write_new", Mock(side_effect=full))
    words = ["evaluate", pictures / "made.npz", "--reference", pictures / "real.npz"]
    code, shown, err = run(*words, "--out", pictures / "figures.json")
    assert (code, err) == (2, "setar: No space left on device\n")
    assert "FD-EffLite0" in shown


def test_no_file_takes_the_place_of_another(run, pictures):
    words = ["evaluate", pictures / "made.npz", "--reference", pictures / "real.npz"]
    files = {"--out": "a.json", "--save-samples": "s.npz", "--save-statistics": "t.npz"}
    given = [word for option, name in files.items() for word in (option, pictures / name)]
    run(*words, *given)
    before = {name: (pictures / name).read_bytes() for name in files.values()}
    code, shown, _ = run(*words, *given, "--images", 10)
    assert code == 0
    for name, content in before.items():
        assert (pictures / name).read_bytes() == content
    assert "-> " in shown
    assert {"a-2.json", "s-2.npz", "t-2.npz"} <= {file.name for file in pictures.iterdir()}


def test_a_failed_evaluation_leaves_no_file(run, pictures, monkeypatch):
    monkeypatch.setattr(evaluation, "summarise", Mock(side_effect=ValueError("broken")))
    words = ["evaluate", pictures / "made.npz", "--reference", pictures / "real.npz"]
    before = sorted(pictures.iterdir())
    given = ["--save-samples", pictures / "s.npz", "--save-statistics", pictures / "t.npz"]
    assert run(*words, *given)[0] == 2
    assert sorted(pictures.iterdir()) == before


def test_folders_of_mixed_sizes_are_cropped(run, refused, pictures):
    folder = tiny_runs.save_pictures(pictures / "mixed")
    words = ["evaluate", folder, "--reference", folder, "--out", pictures / "a.json"]
    assert "must be of one (width, height)" in refused(*words)
    code, _, err = run(*words, "--size", "8x16")
    assert (code, err) == (0, "")
    settings = json.loads((pictures / "a.json").read_text())["settings"]
    assert (settings["size"], settings["reference size"]) == ("16x8", "16x8")
    run(*words[:-1], pictures / "adm.json", "--size", "8x16", "--resize", "adm")
    settings = json.loads((pictures / "adm.json").read_text())["settings"]
    assert "ADM" in settings["resizing"]
    run(*words[:-1], pictures / "own.json", "--size", "8x16")
    settings = json.loads((pictures / "own.json").read_text())["settings"]
    assert "Lanczos" in settings["resizing"]  # pictures that no model was trained on
    assert "`resize` (=admm) must be lanczos or adm" in refused(*words, "--resize", "admm")
    said = refused("evaluate", pictures / "made.npz", "--reference", "digits", "--size", "8")
    assert "`size` is for folders of pictures" in said


def test_a_run_on_a_folder_is_measured_against_it(run, refused, pictures, monkeypatch):
    monkeypatch.chdir(pictures)
    tiny_runs.save_pictures(pictures / "mine")
    (pictures / "t.toml").write_text(tiny_runs.FOLDER_TOKENIZER)
    (pictures / "g.toml").write_text(tiny_runs.FOLDER_GENERATOR)
    run("train", "t.toml", "--out", "tok", "--set", "data.source=mine")
    run("train", "g.toml", "--out", "gen", "--set", "data.source=mine", "--set", "tokenizer=tok")
    for name, words in {"tok": (), "gen": ("--count", 2)}.items():
        code, _, err = run("evaluate", name, *words, "--out", f"{name}.json")
        assert (code, err) == (0, "")
        settings = json.loads((pictures / f"{name}.json").read_text())["settings"]
        assert (settings["reference"], settings["reference size"]) == ("mine", "16x16")
    (pictures / "mine").rename(pictures / "elsewhere")
    for name in ("tok", "gen"):
        said = refused("evaluate", name)
        assert f"{name} was trained on mine, which is not here" in said
        assert "with --reference" in said


def test_what_a_run_left_out_is_left_out_again(run, refused, pictures, monkeypatch):
    monkeypatch.chdir(pictures)
    broken = tiny_runs.save_pictures(pictures / "mine") / "cats" / "broken.png"
    broken.write_bytes(b"no picture")
    (pictures / "t.toml").write_text(tiny_runs.FOLDER_TOKENIZER)
    (pictures / "g.toml").write_text(tiny_runs.FOLDER_GENERATOR)
    mine = ("--set", "data.source=mine", "--set", "data.skip_broken=true")
    run("train", "t.toml", "--out", "tok", *mine)
    run("train", "g.toml", "--out", "gen", *mine, "--set", "tokenizer=tok")
    for name, words in {"tok": (), "gen": ("--count", 2)}.items():
        for more in ((), ("--reference", "mine")):
            code, _, err = run(
                "evaluate", name, *words, *more, "--out", f"{name}.json", "--size", 8
            )
            assert (code, err) == (0, "")
            settings = json.loads((pictures / f"{name}.json").read_text())["settings"]
            assert settings["reference N"] == 12
        code, said, _ = run("reconstruct", name, "--count", 20)
        assert (code, said.split(",")[0]) == (0, "12 pictures")
    (pictures / "tok" / "left-out.txt").unlink()
    assert "broken.png" in refused("evaluate", "tok")


def test_names_are_printed_as_they_are(run, monkeypatch):
    monkeypatch.setattr(evaluation, "run", lambda request: {"settings": {"pictures": "a[b]c[/]"}})
    assert "a[b]c[/]" in run("evaluate", "emoji")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name one with --reference"),
        (["--reference", "none.npz"], "none.npz does not exist"),
        (["--reference", "emoji", "--features", "inseption"], "did you mean 'inception'?"),
        (["--reference", "emoji", "--features", "inception:none.pt"], "none.pt"),
        (["--reference", "emoji", "--images", "3"], "multiple of the 5 classes"),
        (["--reference", "emoji", "--device", "toaster"], "no device 'toaster'"),
        (["--reference", "emoji", "--plugin", "none.py"], "none.py does not exist"),
    ],
)
def test_evaluation_mistakes(refused, model, words, message):
    assert message in refused("evaluate", model, *words)
