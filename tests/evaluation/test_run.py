"""Whole evaluations, with a projection instead of a network's features."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

import tiny_runs
from fake_features import FakeFeatures, random_pictures
from grey_patches import GreyPatches
from random_weights import random_fmt
from setar.data import digits, emoji
from setar.data.images import FolderImages
from setar.evaluation import run as evaluation
from setar.evaluation import targets
from setar.evaluation.metrics import METRICS, evaluate, register_metric
from setar.evaluation.run import run
from setar.evaluation.sources import NpzImages, save_pictures
from setar.evaluation.targets import Request
from setar.features.digits import DigitFeatures
from setar.origin import Origin
from setar.pipeline import Pipeline
from setar.pretrained import save_tokenizer
from setar.sampling.guidance import Guidance
from setar.sampling.settings import SamplingDefaults
from setar.tokenizers.pixels import PixelLevels, PixelLevelsConfig

CLASSES = len(tiny_runs.CLASSES)
NAMES = {"efflite0": "EffLite0", "digits": "digits", "inception:weights": "Inception"}


@pytest.fixture(autouse=True)
def fake_features(monkeypatch):
    def fake(text, device):
        return FakeFeatures(NAMES[text], spatial=text.startswith("inception"))

    monkeypatch.setattr(evaluation, "make_extractor", fake)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, pictures as .npz and as a folder, and a tokenizer alone."""
    folder = tmp_path_factory.mktemp("evaluation")
    tiny_runs.save_pipeline(folder / "model")
    save_pictures(random_pictures(90, seed=1), folder / "real.npz")
    save_pictures(random_pictures(70, seed=2, high=200), folder / "made.npz")
    tiny_runs.save_pictures(folder / "photos", 30)
    (folder / "empty").mkdir()
    save_tokenizer(PixelLevels(PixelLevelsConfig(17)), folder / "tokenizer")
    return folder


@pytest.fixture
def ask(folder):
    """A request whose files lie in the folder."""

    def request(source, reference="", **options):
        here = [str(folder / text) if (folder / text).exists() else text for text in
                (source, reference or "none")]  # fmt: skip
        return Request(here[0], here[1] if reference else "", **options)

    return request


# Pictures that lie somewhere


def test_an_npz_against_another_is_evaluate_of_their_pictures(ask, folder):
    tables = run(ask("made.npz", "real.npz", seed=3))
    made, real = (NpzImages(folder / name) for name in ("made.npz", "real.npz"))
    figures = evaluate(made, real, FakeFeatures("EffLite0", spatial=False), seed=3)
    assert list(tables) == ["settings", "figures"]
    assert tables["figures"] == figures
    assert "FD-EffLite0" in tables["figures"]
    assert tables["settings"] == {
        "pictures": str(folder / "made.npz"), "N": 70, "rounding": "as stored",
        "reference": str(folder / "real.npz"), "reference N": 90,
        "size": "4x4", "reference size": "4x4", "features": "EffLite0",
        "neighbours": 3, "subsets": 100, "subset size": 70, "subset seed": 3,
    }  # fmt: skip


def test_inception_gives_fid(ask):
    tables = run(ask("made.npz", "real.npz", features="inception:weights"))
    assert {"FID", "sFID", "IS", "KID", "precision", "recall"} <= set(tables["figures"])


def test_fewer_pictures_come_from_all_over(ask, folder):
    tables = run(ask("made.npz", "real.npz", images=35))
    assert tables["settings"]["N"] == 35
    made = NpzImages(folder / "made.npz")[torch.arange(0, 70, 2)]
    real = NpzImages(folder / "real.npz")
    assert tables["figures"] == evaluate(made, real, FakeFeatures("EffLite0", spatial=False))


def test_a_data_set_with_its_split_can_be_measured(ask):
    tables = run(ask("digits:heldout", "digits"))
    assert tables["settings"]["N"] == 180
    assert tables["settings"]["reference"] == "digits:train"
    assert tables["settings"]["features"] == "digits", "chosen by the reference"


def test_other_sizes_are_told(ask):
    settings = run(ask("made.npz", "digits:heldout", features="efflite0"))["settings"]
    assert (settings["size"], settings["reference size"]) == ("4x4", "8x8")
    assert "network resizes" in settings["resizing"]


def test_a_reference_folder_is_cropped_to_the_size_of_the_pictures(ask):
    settings = run(ask("made.npz", "photos"))["settings"]
    assert (settings["size"], settings["reference size"]) == ("4x4", "4x4")
    assert settings["resizing"] == "reference: centre crops, Lanczos to 4x4"


def test_a_reference_folder_is_cropped_as_the_request_says(ask, folder, tmp_path):
    for number, image in enumerate(random_pictures(9, side=11)):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / f"{number}.png")
    crops = {name: FolderImages(tmp_path, 4, name)[torch.arange(9)] for name in ("lanczos", "adm")}
    for resize, images in crops.items():
        tables = run(dataclasses.replace(ask("made.npz"), reference=str(tmp_path), resize=resize))
        save_pictures(images, tmp_path / f"{resize}.npz")
        same = run(dataclasses.replace(ask("made.npz"), reference=str(tmp_path / f"{resize}.npz")))
        assert tables["figures"] == same["figures"]
    assert tables["settings"]["resizing"] == "reference: centre crops, ADM to 4x4"


def test_a_reference_folder_is_cropped_to_any_shape(ask, folder):
    save_pictures(random_pictures(9, side=4)[:, :, :2], folder / "wide.npz")
    settings = run(ask("wide.npz", "photos"))["settings"]
    assert (settings["size"], settings["reference size"]) == ("4x2", "4x2")


def test_a_folder_of_pictures_is_measured_as_it_is(ask, tmp_path):
    for index, picture in enumerate(random_pictures(9, side=6)):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(tmp_path / f"{index}.png")
    settings = run(ask(str(tmp_path), "real.npz"))["settings"]
    assert (settings["N"], settings["size"], settings["reference size"]) == (9, "6x6", "4x4")


# References that are statistics


def test_saved_statistics_give_the_same_figures(ask, folder, tmp_path):
    file = tmp_path / "statistics.npz"
    whole = run(ask("made.npz", "real.npz", save_statistics=file))
    again = run(ask("made.npz", str(file)))
    assert again["figures"] == whole["figures"]
    assert again["settings"]["reference N"] == 90
    assert again["settings"]["reference size"] == "unknown"


def test_statistics_of_other_features_are_no_use(ask, tmp_path):
    file = tmp_path / "statistics.npz"
    run(ask("made.npz", "real.npz", save_statistics=file))
    with pytest.raises(ValueError, match="neither pictures nor statistics of Inception features"):
        run(ask("made.npz", str(file), features="inception:weights"))


def test_an_adm_reference_gives_distances_by_its_statistics_and_the_rest_by_its_pictures(
    ask, folder, tmp_path
):
    real = NpzImages(folder / "real.npz")
    pixels = real[torch.arange(90)].permute(0, 2, 3, 1).numpy()
    given = {"mu": np.zeros(12), "sigma": np.eye(12), "mu_s": np.zeros(5), "sigma_s": np.eye(5)}
    np.savez(tmp_path / "adm.npz", pixels, **given)
    plain = run(ask("made.npz", "real.npz", features="inception:weights"))["figures"]
    tables = run(ask("made.npz", str(tmp_path / "adm.npz"), features="inception:weights"))
    changed = {name for name, value in tables["figures"].items() if value != plain[name]}
    assert changed == {"FID", "sFID"}
    assert tables["settings"]["reference N"] is None
    other = run(ask("made.npz", str(tmp_path / "adm.npz")))
    assert other["figures"] == run(ask("made.npz", "real.npz"))["figures"]


# Generators


def test_a_model_is_sampled_with_balanced_labels_and_every_setting_told(ask, folder, tmp_path):
    file = tmp_path / "samples.npz"
    sampling = {"recipe": "random-3-uniform", "scale": 2.5, "schedule": "linear", "top_k": 9}
    tables = run(
        ask("model", "real.npz", count=4, seed=6, sampling=sampling, save_samples=file)
    )  # fmt: skip
    settings = tables["settings"]
    expected = {
        "N": 4 * CLASSES, "classes": CLASSES, "of each class": 4, "recipe": "random-3-uniform",
        "steps": 3, "temperature": 1.0, "top_k": 9, "attention": "causal", "seed": 6,
        "rounding": targets.ROUNDING, "reference N": 90,
    }  # fmt: skip
    assert expected.items() <= settings.items()
    assert settings["guidance"] == dataclasses.asdict(Guidance(2.5, "linear"))
    pipeline = Pipeline.from_pretrained(folder / "model")
    codes = pipeline.sample_codes(
        list(range(CLASSES)), count=4, seed=6, recipe="random-3-uniform",
        guidance=Guidance(2.5, "linear"), top_k=9,
    )  # fmt: skip
    pictures = pipeline.decode(codes).unflatten(0, (CLASSES, 4)).transpose(0, 1).flatten(0, 1)
    with np.load(file) as archive:
        assert np.array_equal(archive["arr_0"], pictures.permute(0, 2, 3, 1).numpy())
        assert archive["arr_1"].tolist() == list(range(CLASSES)) * 4
    real = NpzImages(folder / "real.npz")
    figures = evaluate(pictures, real, FakeFeatures("EffLite0", spatial=False), seed=6)
    assert tables["figures"] == pytest.approx(figures)


def test_the_number_of_images_is_a_multiple_of_the_classes(ask, folder):
    assert run(ask("model", "real.npz", images=15))["settings"]["of each class"] == 3
    for images, near in ((14, "10 or 15"), (3, "5$")):
        with pytest.raises(ValueError, match=f"multiple of the {CLASSES} classes.*: {near}"):
            run(ask("model", "real.npz", images=images))


def digits_pipeline(classes=tuple("0123456789"), data="digits"):
    model = random_fmt(grid=digits.GRID, vocabulary=digits.VOCABULARY, classes=len(classes))
    tokenizer = PixelLevels(PixelLevelsConfig(digits.VOCABULARY))
    defaults = SamplingDefaults().changed({"recipe": "random-4-cosine"})
    return Pipeline(model, tokenizer, classes, defaults, data)


def test_a_model_of_digits_knows_its_reference_and_its_classifier(monkeypatch, tmp_path):
    monkeypatch.setattr(evaluation, "make_extractor", lambda text, device: DigitFeatures())
    folder = tmp_path / "digits model"
    digits_pipeline().save_pretrained(folder)
    tables = run(Request(str(folder), count=2))
    assert tables["settings"]["reference"] == "digits:train"
    assert tables["settings"]["features"] == "digits"
    assert "FD-digits" in tables["figures"]
    samples = Pipeline.from_pretrained(folder)
    codes = samples.sample_codes(list(range(10)), count=2)
    read = DigitFeatures()(samples.decode(codes)).probabilities.argmax(1)
    right = (read == torch.arange(10).repeat_interleave(2)).float().mean()
    assert tables["generator"]["class_accuracy"] == pytest.approx(float(right))
    heldout = digits.load("heldout")
    read = DigitFeatures()(heldout.images).probabilities.argmax(1)
    right = (read == heldout.labels).float().mean()
    assert tables["generator"]["class_accuracy_real"] == pytest.approx(float(right))
    assert right > 0.9


def test_other_models_of_ten_classes_do_not(monkeypatch, tmp_path):
    monkeypatch.setattr(evaluation, "make_extractor", lambda text, device: DigitFeatures())
    digits_pipeline(tuple("abcdefghij"), data="").save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="no data set of its own: name one with --reference"):
        run(Request(str(tmp_path / "model")))
    tables = run(Request(str(tmp_path / "model"), "digits", count=2))
    assert list(tables) == ["settings", "figures"], "its classes are no digits"


@pytest.fixture
def emoji_model(monkeypatch):
    model = random_fmt(grid=(8, 8), vocabulary=GreyPatches.vocabulary, classes=99)
    defaults = SamplingDefaults().changed({"recipe": "random-2-cosine"})
    pipeline = Pipeline(model, GreyPatches(), emoji.subgroups(), defaults, "emoji")
    monkeypatch.setattr(Pipeline, "from_pretrained", lambda *_: pipeline)
    return pipeline


def test_a_model_of_emoji_is_judged_further(emoji_model):
    tables = run(Request("emoji", count=1))
    assert list(tables) == ["settings", "figures", "tokenizer", "generator"]
    assert tables["settings"]["reference"] == "emoji:train"
    assert tables["generator"]["images"] == tables["settings"]["N"] == 99
    assert tables["generator"]["distance"] == tables["figures"]["FD-EffLite0"]
    assert {"class_share", "class_share_real", "near_copies"} <= tables["generator"].keys()
    assert {"psnr_heldout", "usage_heldout"} <= tables["tokenizer"].keys()
    assert list(run(Request("emoji", "emoji:all", count=1))) == ["settings", "figures"]


# Tokenizers


def test_a_tokenizer_alone_is_measured_by_its_reconstructions(ask, folder):
    tables = run(ask("tokenizer", "real.npz"))
    real = NpzImages(folder / "real.npz")[torch.arange(90)]
    grey = PixelLevels(PixelLevelsConfig(17)).encode(real.float() / 127.5 - 1)
    assert tables["settings"]["N"] == 90
    assert tables["tokenizer"]["usage"] == len(grey.unique()) / 17
    assert tables["tokenizer"]["tokens"] == 16
    assert 5 < tables["tokenizer"]["psnr"] < 20
    assert tables["figures"]["FD-EffLite0"] > 0
    assert run(ask("tokenizer", "real.npz", images=30))["settings"]["N"] == 30


# Metrics that are asked for


def test_further_metrics_have_tables_of_their_own(ask, folder, monkeypatch):
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))

    @register_metric("seen", heading="what there is")
    def seen(evidence):
        every = torch.arange(len(evidence.images))
        return {
            "brightness": evidence.images[every].double().mean().item(),
            "pictures": evidence.made.images,
            "real": evidence.real.images,
            "seed": evidence.seed,
            "data": evidence.data and len(evidence.data),
            "classes": evidence.pipeline and evidence.pipeline.classes,
            "samples": evidence.samples and len(evidence.samples.codes),
            "reconstructed": evidence.reconstruction and len(evidence.reconstruction.codes),
        }

    tables = run(ask("made.npz", "real.npz", seed=3, metrics=("seen", "frechet")))
    assert list(tables) == ["settings", "figures", "what there is"]
    mean = NpzImages(folder / "made.npz")[torch.arange(70)].double().mean().item()
    assert tables["what there is"] == {
        "brightness": mean, "pictures": 70, "real": 90, "seed": 3,
        "data": None, "classes": None, "samples": None, "reconstructed": None,
    }  # fmt: skip
    made = run(ask("model", "real.npz", count=4, metrics=("seen",)))["what there is"]
    assert (made["classes"], made["samples"]) == (tiny_runs.CLASSES, 4 * CLASSES)
    made = run(ask("tokenizer", "real.npz", metrics=("seen",)))["what there is"]
    assert made["reconstructed"] == 90
    made = run(ask("made.npz", "digits", features="efflite0", metrics=("seen",)))["what there is"]
    assert made["data"] == 1617


# What is refused


@pytest.mark.parametrize(
    ("source", "reference", "options", "message"),
    [
        ("made.npz", "", {}, "made.npz has no data set of its own: name one with --reference"),
        ("model", "", {}, "name one with --reference"),
        ("tokenizer", "", {}, "tokenizer has no data set of its own"),
        ("made.npz", "model", {}, "is a model, not pictures"),
        ("made.npz", "none.npz", {}, "none.npz does not exist"),
        ("none.npz", "real.npz", {}, "none.npz does not exist"),
        ("made.npz", "nowhere", {}, "nowhere does not exist"),
        ("nowhere", "real.npz", {}, "'nowhere' does not exist"),
        ("empty", "real.npz", {}, "holds no image"),
        ("made.npz", "empty", {}, "holds no image"),
        ("photos", "real.npz", {}, "must be of one"),
        ("emoji:test", "emoji", {}, "must be one of train, heldout, all"),
        ("made.npz", "emoji:", {"images": 1}, "`images` (=1) must be at least 2"),
        ("made.npz", "real.npz", {"images": 71}, "`images` (=71) must not exceed the 70"),
        ("made.npz", "real.npz", {"count": 3}, "`count` is for generators"),
        ("photos", "emoji", {"sampling": {"scale": 2.0}}, "`guidance` is for generators"),
        ("tokenizer", "emoji", {"sampling": {"recipe": "ar"}}, "`recipe` is for generators"),
        ("model", "real.npz", {"images": 5, "count": 1}, "`images` or `count`, not both"),
        ("model", "real.npz", {"count": 0}, "too few"),
        ("model", "real.npz", {"sampling": {"recipe": "random-99-cosine"}}, "99"),
        ("model", "real.npz", {"sampling": {"scale": -1.0}}, "`scale`"),
        ("model", "real.npz", {"sampling": {"top_p": 2.0}}, "`top_p`"),
        ("model", "real.npz", {"seed": -1}, "seed"),
        ("emoji-var", "", {"sampling": {"smoothing": True}}, "--no-smoothing"),
        ("made.npz", "real.npz", {"processes": 0}, "`processes` (=0) must be at least 1"),
        ("made.npz", "real.npz", {"metrics": ("recal",)}, "unknown metric 'recal'"),
    ],
)
def test_mistakes_are_one_line(ask, source, reference, options, message):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as refusal:
        run(ask(source, reference, **options))
    assert message in str(refusal.value)


def test_a_reference_is_read_before_a_model_is_sampled(ask, monkeypatch):
    monkeypatch.setattr(targets, "sample", lambda *_: pytest.fail("too late"))
    with pytest.raises(ValueError, match="does not exist"):
        run(ask("model", "none.npz"))


def test_single_pictures_are_refused(ask, tmp_path):
    save_pictures(random_pictures(1), tmp_path / "one.npz")
    with pytest.raises(ValueError, match="at least 2 pictures, got 1"):
        run(ask(str(tmp_path / "one.npz"), "real.npz"))


# Several processes


def fake_for_processes(text, device):
    return FakeFeatures(NAMES[text])


@pytest.mark.slow
@pytest.mark.usefixtures("ready_processes")
@pytest.mark.parametrize("source", ["model", "tokenizer"])
def test_several_processes_give_the_same_figures(ask, monkeypatch, tmp_path, source):
    monkeypatch.setattr(evaluation, "make_extractor", fake_for_processes)
    here = run(ask(source, "real.npz", save_samples=tmp_path / "here.npz"))
    there = run(ask(source, "real.npz", processes=2, save_samples=tmp_path / "there.npz"))
    assert there["figures"] == pytest.approx(here["figures"], rel=1e-5)
    assert there["settings"] == here["settings"]
    pictures = [NpzImages(tmp_path / name)[torch.arange(80)] for name in ("here.npz", "there.npz")]
    assert (pictures[0] == pictures[1]).double().mean() > 0.99


def test_a_reference_is_cropped_as_the_model_was_trained(tmp_path, monkeypatch):
    origin = Origin("photos", (8, 8), resize="adm")
    monkeypatch.setattr(targets.Target, "origin", origin)
    target, request = targets.Target(), Request("runs/gen")
    assert target.resize(request) == "adm"
    assert target.resize(dataclasses.replace(request, resize="lanczos")) == "lanczos"
    monkeypatch.setattr(targets.Target, "origin", Origin())
    assert target.resize(request) == "lanczos"
