"""Images that remember how they were made, and are made again; what lies between two; `to`."""

from dataclasses import replace
from functools import lru_cache

import pytest
import torch

import tiny_runs
import tiny_text
from random_weights import random_fmt
from setar.pictures.memory import Memory, recall
from setar.pipeline import Pipeline
from setar.sampling.guidance import Guidance
from setar.sampling.settings import SamplingDefaults
from setar.tokenizers.pixels import PixelLevels, PixelLevelsConfig


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_runs.save_pipeline(tmp_path_factory.mktemp("models") / "grey")


@pytest.fixture(scope="module")
def text_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    tiny_text.text_pipeline(folder / "encoder").save_pretrained(folder / "drawn")
    return folder / "drawn"


@lru_cache(maxsize=8)
def load(folder):
    return Pipeline.from_pretrained(folder)


def refused(call, *arguments, **options):
    with pytest.raises(ValueError, match=r"\A[^\n]{1,300}\Z") as caught:
        call(*arguments, **options)
    return str(caught.value)


def bytes_of(picture, tmp_path):
    picture.save(tmp_path / "a.png")
    return (tmp_path / "a.png").read_bytes()


CALLS = [
    {},
    {"count": 5, "seed": 9, "batch_size": 3},
    {"count": 3, "recipe": "random-5-random", "batch_size": 2},
    {"recipe": "raster-N-uniform", "guidance": Guidance(3.0, "linear", (0.2, 0.8))},
    {"seed": [5, 5, 2**62, 1], "count": 2, "attention": "full", "temperature": 0.7},
    {"guidance": 0.0, "top_k": 5, "top_p": 0.9, "min_p": 0.01, "recipe": "halton-4-arccos"},
]


@pytest.mark.parametrize("options", CALLS)
def test_each_image_of_a_call_is_made_again(model, tmp_path, options):
    pipe = load(model)
    made = pipe(["dog", 3], **options)
    assert len({image.tobytes() for image in made}) > 1
    for image in made:
        expected = bytes_of(image, tmp_path)
        memory = recall(tmp_path / "a.png")
        again = Pipeline.from_pretrained(memory.model).again(memory)
        assert bytes_of(again, tmp_path) == expected


@pytest.mark.parametrize("options", [{}, {"size": (16, 24), "negative_prompt": "small tree"}])
def test_texts_are_read_again_as_they_were(text_model, tmp_path, options):
    pipe = load(text_model)
    texts = ["dog", "a red apple next to the small green house", "猫"]
    for image in pipe(texts, count=2, seed=3, batch_size=4, **options):
        expected = bytes_of(image, tmp_path)
        memory = recall(tmp_path / "a.png")
        assert memory.tokens == 8, "as many as the longest text has"
        assert bytes_of(pipe.again(memory), tmp_path) == expected


def test_an_image_says_what_made_it(model):
    memory = load(model)("dog", seed=7, count=3, recipe="random-2-cosine", temperature=0.5)[
        1
    ].memory
    assert (memory.made, memory.model, memory.asked) == ("image", str(model), (1,))
    assert (memory.names, memory.seed, memory.size) == (("dog",), 8, (4, 4))
    assert (memory.row, memory.rows, memory.schedule_seed) == (1, 3, 7)
    said = {name: memory.sampling[name] for name in ("recipe", "scale", "temperature", "interval")}
    assert said == {
        "recipe": "random-2-cosine", "scale": 1.5, "temperature": 0.5, "interval": [0.0, 1.0],
    }  # fmt: skip
    assert memory.repeatable


def test_an_edit_says_that_its_picture_is_not_in_it(model):
    pipe = load(model)
    image = pipe("dog", seed=1)[0]
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[2:] = True
    results = [
        *pipe.edit(image, mask.numpy(), "cat", seed=3, count=2, temperature=0.5),
        *pipe.vary(image, 0.5, "cat", seed=3, count=2, temperature=0.5),
    ]
    assert [picture.memory.made for picture in results] == ["edit"] * 4
    assert [picture.memory.seed for picture in results] == [3, 4, 3, 4]
    assert {picture.memory.sampling["temperature"] for picture in results} == {0.5}
    assert not results[0].memory.repeatable
    assert "only one image as the model made it" in refused(pipe.again, results[0].memory)


def test_images_that_continue_codes_say_so(model):
    pipe = load(model)
    given = pipe.sample_codes("dog")
    given[:, 8:] = -1
    memory = pipe("dog", given=given)[0].memory
    assert (memory.made, memory.note) == ("edit", "from given codes")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"manifest": "0" * 64}, "is not the one that made the picture"),
        ({"precision": "int8"}, "was made in int8, and the model computes in ordinary float32"),
        ({"rows": 0}, "`rows` (=0)"),
        ({"rows": 10**9}, "`rows` (=1000000000)"),
        ({"row": 5}, "`row` (=5)"),
        ({"seed": -1}, "a seed (=-1)"),
        ({"seed": None}, "a seed (=None)"),
        ({"asked": (99,)}, "class id 99"),
        ({"asked": ("lion",)}, "unknown class"),
        ({"tokens": 5}, "`tokens` (=5)"),
        ({"sampling": {"recipe": "soup"}}, "unknown recipe"),
        ({"sampling": {"sed": 1}}, "unknown key"),
        ({"sampling": {"given": [1]}}, "given"),
        ({"size": (5, 5)}, "`size` (=5x5)"),
        ({"schedule_seed": -4}, "a seed (=-4)"),
        ({"asked": ((0, 1, 2.0),)}, "share from 0 to 1"),
    ],
)
def test_hostile_memories_are_refused_in_one_line(model, changes, message):
    memory = load(model)("dog", count=2)[1].memory
    assert message in refused(load(model).again, replace(memory, **changes))


def test_a_model_of_no_folder_names_none():
    model = random_fmt(grid=(4, 4), vocabulary=17, classes=2)
    defaults = SamplingDefaults().changed({"recipe": "random-4-cosine"})
    pipe = Pipeline(model, PixelLevels(PixelLevelsConfig(17)), ("a", "b"), defaults)
    memory = pipe("a")[0].memory
    assert (memory.model, memory.manifest, memory.repeatable) == ("", "", False)
    assert pipe.again(memory) == pipe("a")[0]


# Nothing, and what lies between


def test_images_of_nothing_are_those_that_guidance_leads_away_from(model, tmp_path):
    pipe = load(model)
    made = pipe.unconditional(3, seed=5)
    guided = pipe(["dog"] * 3, guidance=0.0, seed=5)  # 0 ignores the class
    assert made == guided
    assert made[0].memory.prompt == "(nothing)"
    expected = bytes_of(made[1], tmp_path)
    assert bytes_of(pipe.again(recall(tmp_path / "a.png")), tmp_path) == expected


def test_nothing_is_asked_for_on_purpose_only(model, text_model):
    for folder, rule in ((model, "a class is a name"), (text_model, "a prompt is text")):
        for wrong in (None, [None]):
            assert rule in refused(load(folder), wrong)


def test_a_model_that_knows_no_nothing_refuses():
    model = random_fmt(grid=(4, 4), vocabulary=17, classes=2, class_dropout=0.0)
    defaults = SamplingDefaults().changed({"recipe": "random-4-cosine", "guidance": 1.0})
    pipe = Pipeline(model, PixelLevels(PixelLevelsConfig(17)), ("a", "b"), defaults)
    assert "must be asked for a class" in refused(pipe.unconditional)
    assert "must be asked for a class" in refused(pipe.interpolate, "a", None)


def test_the_ends_of_an_interpolation_are_the_classes(model, tmp_path):
    pipe = load(model)
    made = pipe.interpolate("dog", "cat", count=5, seed=5)
    assert made[0] == pipe("dog", seed=5)[0]
    assert made[-1] == pipe("cat", seed=5)[0]
    assert [image.memory.prompt for image in made[1:3]] == ["dog to cat, 25 %", "dog to cat, 50 %"]
    assert {image.memory.seed for image in made} == {5}
    expected = bytes_of(made[2], tmp_path)
    assert bytes_of(pipe.again(recall(tmp_path / "a.png")), tmp_path) == expected


def test_what_is_read_between_two_lies_between_them(model, text_model):
    """In the tokens that the model reads; a text's last token is aligned with another's."""
    for folder, ends in ((model, (1, 3)), (text_model, ("dog", "a red apple"))):
        pipe = load(folder)
        parts = [(*ends, share) for share in (0.0, 0.25, 1.0)]
        first, middle, last = pipe.model.condition.embed(pipe.condition_of(parts))
        alone = [pipe.model.condition.embed(pipe.condition_of([end]))[0] for end in ends]
        assert torch.allclose(first[-1], alone[0][-1], atol=1e-6)
        assert torch.allclose(last[-1], alone[1][-1], atol=1e-6)
        assert not torch.allclose(first[-1], last[-1], atol=1e-2)
        assert not torch.allclose(middle[-1], first[-1], atol=1e-3)


def test_what_lies_between_nothing_is_refused(model):
    pipe = load(model)
    assert "`count` (=1)" in refused(pipe.interpolate, "dog", "cat", count=1)
    for wrong in (("dog", "cat"), ("dog", "cat", 1.5), (("dog", "cat", 0.5), "cat", 0.5)):
        assert "(first, second, share from 0 to 1)" in refused(pipe, [wrong])


# The object itself


def test_it_says_what_it_is(model, text_model):
    pipe = load(model)
    assert repr(pipe) == (
        f"<Pipeline {model}: fmt of {sum(p.numel() for p in pipe.model.parameters()) / 1e6:.2f} M "
        "parameters, 5 classes, 4x4 pixels, 4x4 tokens of 17 codes, random-4-cosine, guidance "
        "constant 1.5, float32 on cpu>"
    )
    assert ", texts, 16x16 pixels, " in repr(load(text_model))


def test_it_is_brought_to_a_device_and_a_dtype(model):
    pipe = Pipeline.from_pretrained(model)
    assert pipe.to("cpu") is pipe
    assert pipe.to("cpu", torch.bfloat16).precision == "bfloat16"
    image = pipe("dog")[0]
    assert image.memory.precision == "bfloat16"
    assert image == Pipeline.from_pretrained(model, precision="bfloat16")("dog")[0]
    assert pipe.to(torch.float32).precision == ""
    assert next(pipe.tokenizer.buffers(), torch.zeros(1)).dtype == torch.float32
    assert "nowhere" in refused(pipe.to, "nowhere")
    assert "`dtype` (=torch.int8)" in refused(pipe.to, torch.int8)
    packed = Pipeline.from_pretrained(model, precision="int8")
    assert "is laid out for int8" in refused(packed.to, torch.bfloat16)


def test_steps_of_a_run_are_remembered(tmp_path, model):
    step = tmp_path / "run" / "checkpoints" / "step-00000030"
    load(model).save_pretrained(step)
    pipe = Pipeline.from_pretrained(tmp_path / "run")
    assert (pipe.steps, load(model).steps) == (30, None)
    pipe.save_pretrained(tmp_path / "copy")
    assert Pipeline.from_pretrained(tmp_path / "copy").steps == 30


def test_a_bar_counts_the_sets(model, capsys):
    load(model)("dog", count=3, batch_size=2, progress=True)
    assert "sets: " in capsys.readouterr().err
    load(model)("dog")
    assert capsys.readouterr().err == ""


def test_a_vector_quantised_var_is_made_again(tmp_path):
    """The shipped one, with mixtures of codes too, in a batch of others."""
    pipe = Pipeline.from_pretrained("emoji-var", precision="int8")
    for options in ({}, {"smoothing": True}):
        image = pipe(["heart", "flag"], count=2, seed=3, **options)[2]
        expected = bytes_of(image, tmp_path)
        assert bytes_of(pipe.again(recall(tmp_path / "a.png")), tmp_path) == expected


def test_memories_hold_the_current_version(model):
    old = replace(load(model)("dog")[0].memory, version="0.0.1")
    assert load(model).again(old).memory.version == Memory("image").version
