"""How well pictures and texts agree, as tiny random CLIPs and SigLIPs see it."""

import json

import pytest
import torch

from setar.text import ImageTextScorer

pytest.importorskip("transformers", reason="setar[text] is not installed")

import tiny_texts

PREPARED = {
    "clip": {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": 8}, "crop_size": {"height": 8, "width": 8}, "resample": 3,
        "do_resize": True, "do_center_crop": True, "do_rescale": True, "do_normalize": True,
        "image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28],
    },
    "siglip": {
        "image_processor_type": "SiglipImageProcessor", "size": {"height": 8, "width": 8},
        "resample": 3, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    },
}  # fmt: skip
TEXTS = ["a red apple", "the small cat next to the large green house", ""]


def noise(count=3, size=(20, 12), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, *size), generator=generator).byte()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scorers")
    for kind, settings in PREPARED.items():
        tiny_texts.save(folder / kind, kind)
        (folder / kind / "preprocessor_config.json").write_text(json.dumps(settings))
    tiny_texts.save(folder / "bert", "bert")
    tiny_texts.save(folder / "unsaid", "clip")
    return folder


@pytest.fixture(scope="module", params=PREPARED)
def scorer(request, folders):
    return ImageTextScorer(str(folders / request.param))


def test_the_score_is_a_cosine_of_each_picture_and_its_text(scorer):
    scores = scorer(noise(), TEXTS)
    assert scores.shape == (3,)
    assert scores.dtype == torch.float32
    assert scores.abs().max() <= 1
    assert len({round(score, 4) for score in scores.tolist()}) == 3
    for index, text in enumerate(TEXTS):
        alone = scorer(noise()[index : index + 1], [text])
        torch.testing.assert_close(alone[0], scores[index], atol=1e-5, rtol=0)
    assert (scorer(noise(), TEXTS[::-1]) - scores).abs().max() > 1e-3
    assert (scorer(noise(seed=1), TEXTS) - scores).abs().max() > 1e-3


@pytest.mark.parametrize("size", [(20, 12), (12, 20), (8, 8), (5, 7), (32, 32)])
def test_pictures_are_prepared_as_the_library_does(scorer, size):
    transformers = pytest.importorskip("transformers")
    settings = dict(PREPARED["clip" if "clip" in scorer.name.split("/")[-1][:4] else "siglip"])
    kind = settings.pop("image_processor_type") + "Pil"
    if not hasattr(transformers, kind):
        pytest.skip(f"this transformers has no {kind}")
    library = getattr(transformers, kind)(**settings)
    pictures = noise(size=size)
    expected = library(list(pictures), return_tensors="pt", input_data_format="channels_first")
    found = torch.stack([scorer._pixels(picture) for picture in pictures])
    torch.testing.assert_close(found, expected["pixel_values"], atol=1e-5, rtol=0)


def test_long_texts_are_cut(scorer):
    text = " ".join(["red apple"] * 100)
    assert torch.isfinite(scorer(noise(1), [text])).all()


@pytest.mark.parametrize(
    ("pictures", "texts", "message"),
    [
        (noise(2), ["a"], r"1 texts need as many uint8 pictures .* not torch.uint8 \[2, 3"),
        (noise(1).float(), ["a"], r"not torch.float32"),
        (noise(1)[0], ["a"], r"\[3, 20, 12\]"),
        (noise(1), "a", "must be a list of texts"),
        (noise(1), ["a\0"], "must not hold the character"),
    ],
)
def test_what_is_no_pair_is_refused(scorer, pictures, texts, message):
    with pytest.raises(ValueError, match=message):
        scorer(pictures, texts)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("bert", r"is no model of pictures and texts, as CLIP and SigLIP are"),
        ("unsaid", r"does not say how it takes pictures: "),
        ("none/at/all", r"is neither minilm, a folder, nor a name on the hub"),
    ],
)
def test_what_is_no_such_model_is_one_line(folders, kind, message):
    with pytest.raises(ValueError, match=rf"\A[^\n]*{message}[^\n]*\Z"):
        ImageTextScorer(str(folders / kind))
