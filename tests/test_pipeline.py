"""The pipeline: saved and loaded, the same image for a seed whatever surrounds it, clear errors."""

import copy
import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch

from random_weights import random_fmt
from setar import checkpoint, registry
from setar.device import find_device
from setar.models.fmt import PRESETS
from setar.pictures.sheets import to_pil
from setar.pipeline import Pipeline
from setar.pretrained import load_tokenizer, save_tokenizer
from setar.recipes.orders import ORDERS
from setar.recipes.recipe import Recipe
from setar.sampling.guidance import Guidance
from setar.sampling.settings import SamplingDefaults, SamplingSettings
from setar.tokenizers.pixels import PixelLevels, PixelLevelsConfig
from setar.tokenizers.vqgan import PRESETS as VQGAN_PRESETS
from setar.tokenizers.vqgan import VQGAN

CLASSES = ("cat", "dog", "dragon", "7", "face-smiling")
DEFAULTS = SamplingDefaults(
    Recipe.parse("roll-5-uniform"),
    Guidance(1.5, "linear", interval=(0.1, 0.9)),
    SamplingSettings(temperature=0.9, top_k=20),
)


@pytest.fixture(scope="module")
def pipe():
    """4x4 tokens of a convolutional tokenizer: pictures of 16x16 pixels."""
    torch.manual_seed(0)
    tokenizer = VQGAN(VQGAN_PRESETS["tiny"]).eval().requires_grad_(False)
    return Pipeline(random_fmt(vocabulary=32), tokenizer, CLASSES, DEFAULTS)


@pytest.fixture(scope="module")
def grey():
    """2x3 tokens, each one grey pixel."""
    model = random_fmt(grid=(2, 3), vocabulary=4)
    defaults = SamplingDefaults(Recipe.parse("random-3-cosine"))
    return Pipeline(model, PixelLevels(PixelLevelsConfig(4)), CLASSES, defaults)


def pixels(images):
    return [image.tobytes() for image in images]


def refused(call, *arguments, **options):
    with pytest.raises(ValueError, match=r"\A[^\n]{1,300}\Z") as caught:
        call(*arguments, **options)
    return str(caught.value)


def test_pictures(pipe):
    images = pipe(["cat", "dog"], count=2)
    assert [image.size for image in images] == [(16, 16)] * 4
    assert {image.mode for image in images} == {"RGB"}
    assert len(set(pixels(images))) == 4


def test_wide_grids_give_wide_pictures(grey):
    [image] = grey("cat")
    assert image.size == (3, 2)


@pytest.mark.parametrize("name", ["pipe", "grey"])
def test_saved_and_loaded_it_makes_the_same_images(request, tmp_path, name):
    original = request.getfixturevalue(name)
    original.save_pretrained(tmp_path / "model", card="# A card")
    loaded = Pipeline.from_pretrained(tmp_path / "model")
    assert pixels(loaded([0, 4], count=2, seed=3)) == pixels(original([0, 4], count=2, seed=3))
    assert loaded.classes == CLASSES
    assert loaded.defaults == original.defaults
    assert loaded.model.config == original.model.config
    assert not loaded.model.training
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert (tmp_path / "model" / "README.md").read_text() == "# A card"
    assert loaded.describe() == original.describe()


def test_a_config_is_plain_json(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["classes"] == list(CLASSES)
    assert config["model"]["family"] == "fmt"
    assert config["sampling"]["guidance"]["interval"] == [0.1, 0.9]
    assert config["sampling"]["recipe"] == "roll-5-uniform"
    assert (config["data"], config["plugins"]) == ("", [])
    assert not (tmp_path / "model" / "README.md").exists()


def test_a_model_remembers_its_data(pipe, tmp_path):
    Pipeline(pipe.model, pipe.tokenizer, CLASSES, data="emoji").save_pretrained(tmp_path / "m")
    assert Pipeline.from_pretrained(tmp_path / "m").data == "emoji"


def test_models_without_data_and_plugins_load(pipe, tmp_path):
    """As version 0.1 wrote them."""
    config = {k: v for k, v in pipe.describe().items() if k not in ("data", "plugins")}
    states = {"model": pipe.model.state_dict(), "tokenizer": pipe.tokenizer.state_dict()}
    checkpoint.save(tmp_path / "old", config, states)
    loaded = Pipeline.from_pretrained(tmp_path / "old")
    assert loaded.data == ""
    assert pixels(loaded("cat")) == pixels(pipe("cat"))


PLUGIN = """
import setar, torch

@setar.register_order("backwards")
def backwards(height, width):
    return torch.arange(height * width).flip(0)
"""


def test_a_model_needs_the_plugin_that_its_recipe_is_of(pipe, tmp_path, monkeypatch):
    owners = ((ORDERS, "_entries"), (ORDERS, "_plugins"), (registry, "_files"))
    clean = [dict(getattr(owner, name)) for owner, name in owners]
    for (owner, name), values in zip(owners, clean, strict=True):
        monkeypatch.setattr(owner, name, dict(values))
    (tmp_path / "own_orders.py").write_text(PLUGIN)
    registry.load_plugin(tmp_path / "own_orders.py")
    defaults = SamplingDefaults(Recipe.parse("backwards-4-uniform"))
    original = Pipeline(pipe.model, pipe.tokenizer, CLASSES, defaults)
    original.save_pretrained(tmp_path / "m")
    made = pixels(original("cat"))
    (tmp_path / "own_orders.py").rename(tmp_path / "m" / "own_orders.py")
    monkeypatch.chdir(tmp_path / "m")
    for (owner, name), values in zip(owners, clean, strict=True):
        monkeypatch.setattr(owner, name, dict(values))
    message = refused(Pipeline.from_pretrained, tmp_path / "m")
    assert "needs the plugin 'own_orders.py'" in message, "its own folder is never looked into"
    registry.load_plugin("own_orders.py")
    assert pixels(Pipeline.from_pretrained(tmp_path / "m")("cat")) == made


def test_half_precision_on_disk(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "half", half=True)
    pipe.save_pretrained(tmp_path / "whole")
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.55 * sizes[1]
    loaded = Pipeline.from_pretrained(tmp_path / "half").model.state_dict()
    for name, value in pipe.model.state_dict().items():
        assert torch.equal(loaded[name], value.half().float())


def test_saving_leaves_other_folders_alone(pipe, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    refused(pipe.save_pretrained, tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_damaged_and_foreign_folders_are_refused(pipe, tmp_path):
    folder = tmp_path / "model"
    pipe.save_pretrained(folder)
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert "model.safetensors is damaged" in refused(Pipeline.from_pretrained, folder)

    save_tokenizer(pipe.tokenizer, tmp_path / "tokenizer")
    message = refused(Pipeline.from_pretrained, tmp_path / "tokenizer")
    assert "is no generator: config.json lacks ['classes', 'model']" in message


def test_parts_must_fit(pipe, grey):
    message = refused(Pipeline, pipe.model, pipe.tokenizer, ["cat"])
    assert message == "1 class names for 5 classes"
    message = refused(Pipeline, pipe.model, grey.tokenizer, CLASSES)
    assert message == "the tokenizer has 4 codes, the model 32"


@pytest.mark.parametrize("recipe", ["random-6-cosine", "ar", "next-scale", "random-9-random"])
def test_a_seed_gives_the_same_image_in_any_batch(pipe, recipe):
    together = pipe.sample_codes("dog", recipe=recipe, count=16, seed=100)
    assert len(together.unique(dim=0)) == 16
    assert torch.equal(pipe.sample_codes("dog", recipe=recipe, count=16, seed=100), together)
    in_parts = pipe.sample_codes("dog", recipe=recipe, count=16, seed=100, batch_size=5)
    assert torch.equal(in_parts, together)
    if recipe == "random-9-random":  # the whole call shares the set sizes of its first seed
        return
    for image in (0, 9, 15):
        alone = pipe.sample_codes("dog", recipe=recipe, seed=100 + image)
        assert torch.equal(alone[0], together[image])
    mixed = pipe.sample_codes(["cat", "dog", 4], recipe=recipe, seed=[7, 109, 3])
    assert torch.equal(mixed[1], together[9])


def test_a_model_without_the_null_class_is_not_guided(pipe):
    model = copy.copy(random_fmt(vocabulary=32))  # the model itself is shared by the tests
    model.config = dataclasses.replace(model.config, class_dropout=0.0)
    other = Pipeline(model, pipe.tokenizer, CLASSES)
    with pytest.raises(ValueError, match=r"guidance .=2. must be 1"):
        other("cat", recipe="ar")
    assert len(other("cat", recipe="ar", guidance=1.0)) == 1


def test_seeds_go_with_images_class_by_class(pipe):
    codes = pipe.sample_codes(["cat", "dog"], count=2, seed=5)
    listed = pipe.sample_codes([0, 0, 1, 1], seed=[5, 6, 7, 8])
    assert torch.equal(codes, listed)
    again = pipe.sample_codes("dog", seed=7)
    assert torch.equal(again[0], codes[2])
    assert torch.equal(pipe.sample_codes("cat"), pipe.sample_codes("cat", seed=0))


def test_pictures_are_the_decoded_codes(pipe):
    codes = pipe.sample_codes("cat", count=3)
    assert pixels(to_pil(pipe.decode(codes))) == pixels(pipe("cat", count=3))
    assert pipe.decode(codes).dtype == torch.uint8


def test_codes_can_be_trained_on(pipe):
    codes = pipe.sample_codes("cat")
    assert not codes.is_inference()
    table = torch.nn.Embedding(32, 2)
    table(codes).sum().backward()
    assert table.weight.grad is not None


def test_defaults_apply_where_nothing_else_is_said(pipe):
    plain = pipe.sample_codes("cat", count=4)
    explicit = pipe.sample_codes(
        "cat",
        count=4,
        recipe="roll-5-uniform",
        guidance=Guidance(1.5, "linear", interval=(0.1, 0.9)),
        temperature=0.9,
        top_k=20,
    )
    assert torch.equal(plain, explicit)
    for change in (
        {"recipe": "random-5-uniform"},
        {"guidance": 3.0},
        {"temperature": 0.5},
        {"top_k": 2},
        {"top_p": 0.3},
        {"min_p": 0.5},
        {"attention": "full"},
    ):
        assert not torch.equal(pipe.sample_codes("cat", count=4, **change), plain), change
    assert torch.equal(pipe.sample_codes("cat", count=4, cache=False), plain)


def test_recipes_and_scales_come_as_text_or_objects(pipe):
    text = pipe.sample_codes("cat", recipe="next-scale", guidance=3)
    scaled = dataclasses.replace(DEFAULTS.guidance, scale=3.0)
    objects = pipe.sample_codes("cat", recipe=Recipe.parse("next-scale"), guidance=scaled)
    assert torch.equal(text, objects), "a number keeps the model's own schedule"
    constant = pipe.sample_codes("cat", recipe="next-scale", guidance=Guidance(3.0))
    assert not torch.equal(text, constant), "a Guidance takes its place"


def test_temperature_zero_leaves_nothing_to_chance(pipe):
    codes = pipe.sample_codes("cat", count=4, temperature=0, recipe="ar")
    assert len(codes.unique(dim=0)) == 1


def test_classes_matter(pipe):
    codes = pipe.sample_codes(list(CLASSES), seed=[0] * 5)
    assert len(codes.unique(dim=0)) == 5


def test_class_names_and_ids(pipe):
    for index, name in enumerate(CLASSES):
        assert pipe.class_id(name) == index
        assert pipe.class_id(index) == index
    assert pipe.class_id("2") == 2
    assert pipe.class_id("7") == 3  # a name goes before an id


def test_class_names_mean_the_same_as_on_the_command_line(pipe):
    named = Pipeline(pipe.model, pipe.tokenizer, ["caf\u00e9", *CLASSES[1:]])
    assert named.class_id("cafe\u0301") == 0
    assert pipe.class_id(f" {CLASSES[1]} ") == 1
    assert pipe.class_id(" 2 ") == 2


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("dragoon", "unknown class 'dragoon'; did you mean 'dragon'"),
        ("zzz", "unknown class 'zzz'"),
        ("two\nlines", r"unknown class 'two\nlines'"),
        ("x" * 10**6, "unknown class 'xxx"),
        ("", "unknown class ''"),
        (5, "class id 5 is not in 0..4"),
        ("5", "class id 5 is not in 0..4"),
        ("8" * 4000, "is not in 0..4"),
        (-1, "class id -1 is not in 0..4"),
        ("-1", "unknown class '-1'"),
        ("²", "unknown class '²'"),
        (1.0, "a class is a name or a whole number, not float"),
        (None, "a class is a name or a whole number, not NoneType"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_unknown_classes(pipe, name, rule):
    assert rule in refused(pipe.class_id, name)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"classes": []}, "there must be a class"),
        ({"count": 0}, "`count`"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"classes": ["cat", "cow"]}, "unknown class 'cow'"),
        ({"recipe": "spiral-4-cosine"}, "unknown order 'spiral'"),
        ({"recipe": "raster-17-cosine"}, "`sets` (=17) must not exceed the 16 tokens"),
        ({"recipe": ""}, "recipe '' must be text"),
        ({"guidance": -1.0}, "`scale` (=-1.0)"),
        ({"guidance": float("nan")}, "`scale` (=nan)"),
        ({"seed": -1}, "a seed (=-1) must be"),
        ({"seed": 2**63}, "must be a whole number"),
        ({"seed": 2**63 - 1, "count": 2}, "must be a whole number"),
        ({"seed": [1, 2]}, "2 seeds for 1 images"),
        ({"seed": [1.0]}, "a seed (=1.0) must be"),
        ({"temperature": -1.0}, "`temperature` (=-1.0)"),
        ({"top_p": 0.0}, "`top_p` (=0.0)"),
        ({"attention": "none"}, "attention"),
        ({"temprature": 1.0}, "unknown key `temprature`; did you mean 'temperature'"),
        ({"top_k": "many"}, "top_k"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_wrong_arguments_are_refused_in_one_line(pipe, options, rule):
    assert rule in refused(pipe, **{"classes": "cat", **options})


NOT_WHOLE = [None, 1.5, True, "1", b"1", torch.tensor(1.0), np.bool_(True), object]


@pytest.mark.parametrize("name", ["count", "batch_size", "seed"])
@pytest.mark.parametrize("value", NOT_WHOLE, ids=lambda value: repr(value)[:20])
def test_what_is_no_whole_number_gets_the_rule(pipe, name, value):
    assert "whole number" in refused(pipe.sample_codes, "cat", **{name: value})
    assert "whole number" in refused(pipe.redraw, None, "cat", rounds=value)


@pytest.mark.parametrize(
    "value",
    [None, 1.5, True, b"cat", [None], [1.0], [True], [["cat"]], np.float32(1), torch.tensor([1.0])],
    ids=lambda value: repr(value)[:20],
)
def test_what_is_no_class_gets_the_rule(pipe, value):
    assert "a class is a name or a whole number" in refused(pipe, value)


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.array, torch.tensor, int])
def test_whole_numbers_of_any_kind(pipe, kind):
    right = pipe.sample_codes(["dog", "dog"], seed=[5, 6])
    assert torch.equal(pipe.sample_codes(kind(1), seed=kind(5), count=kind(2)), right)
    listed = pipe.sample_codes([kind(1)] * 2, seed=[kind(5), kind(6)], batch_size=kind(1))
    assert torch.equal(listed, right)


@pytest.mark.parametrize("kind", [np.array, torch.tensor, list, tuple, iter])
def test_lists_of_any_kind(pipe, kind):
    right = pipe.sample_codes(["dog", "cat"], seed=[5, 9])
    assert torch.equal(pipe.sample_codes(kind([1, 0]), seed=kind([5, 9])), right)


def test_names_of_numpy(pipe):
    right = pipe.sample_codes(["dog", "cat"])
    assert torch.equal(pipe.sample_codes(np.array(["dog", "cat"])), right)


def test_settings_of_numpy(pipe):
    right = pipe.sample_codes("cat", guidance=3.0, temperature=0.5, top_k=7, top_p=0.75)
    other = {"guidance": torch.tensor(3.0), "top_k": np.int32(7), "top_p": torch.tensor(0.75)}
    found = pipe.sample_codes("cat", temperature=np.float32(0.5), **other)
    assert torch.equal(found, right)


@pytest.mark.parametrize("name", ["guidance", "temperature", "top_k", "top_p", "min_p", "power"])
@pytest.mark.parametrize(
    "value", [True, "2", [1.0], float("nan"), np.ones(2), 1j, object], ids=repr
)
def test_what_is_no_number_gets_the_rule(pipe, name, value):
    refused(pipe.sample_codes, "cat", **{name: value})


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"count": 10**10}, "must be at most 1048576: a call makes at most 1048576 images"),
        ({"classes": [0] * 5, "count": 300_000}, "must be at most 209715"),
        ({"batch_size": 10**10}, "must be at most 65536"),
        ({"seed": range(10**9)}, "a call makes at most 1048576 images"),
        ({"classes": itertools.repeat("cat")}, "a call makes at most 1048576 images"),
        ({"on_set": 3}, "`on_set` must be a function, not 3"),
        ({"recipe": 3}, "recipe 3 must be text"),
        ({"cache": 1}, "cache"),
        ({"smoothing": "no"}, "smoothing"),
        ({"given": [1, 2]}, "`given` must be a tensor, not list"),
        ({"given": torch.zeros(1, 16)}, "must be whole numbers [images, 16]"),
        ({"given": torch.full((1, 16), 32)}, "`given` (=32..32) must be from -1 to 31"),
        ({"given": torch.full((1, 16), -2)}, "`given` (=-2..-2) must be from -1 to 31"),
        ({"given": torch.tensor(3)}, "must be whole numbers [images, 16]"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_limits_are_told_at_once(pipe, options, rule):
    assert rule in refused(pipe.sample_codes, **{"classes": "cat", **options})


@pytest.mark.parametrize(
    "codes",
    [
        None,
        [[0] * 16],
        torch.zeros(1, 15).long(),
        torch.zeros(16).long(),
        torch.full((1, 16), 32),
        torch.full((1, 16), -1),
        torch.zeros(1, 16),
        torch.zeros(1, 16).bool(),
    ],
    ids=lambda value: str(getattr(value, "shape", value)),
)
def test_what_are_no_codes_cannot_be_decoded(pipe, codes):
    assert "`codes`" in refused(pipe.decode, codes)


@pytest.mark.parametrize("source", [None, 3, b"emoji", True, ["emoji"]])
def test_what_names_no_model(source, tmp_path):
    refused(Pipeline.from_pretrained, source)
    refused(load_tokenizer, source)


def test_what_names_no_folder_or_device(pipe, tmp_path):
    for folder in (None, 3, b"m"):
        refused(pipe.save_pretrained, folder)
    refused(pipe.save_pretrained, tmp_path / "m", card=3)
    assert not (tmp_path / "m").exists()
    pipe.save_pretrained(tmp_path / "m")
    for device in ("cuda:99", "toaster", "meta", None, 3, ""):
        assert "device" in refused(Pipeline.from_pretrained, tmp_path / "m", device)
        assert "device" in refused(load_tokenizer, tmp_path / "m", device)
    for sampling in (3, "top_k", [1]):
        assert "`sampling`" in refused(Pipeline.from_pretrained, tmp_path / "m", "cpu", sampling)
    auto = Pipeline.from_pretrained(tmp_path / "m", "auto")
    assert next(auto.model.parameters()).device.type == find_device("auto").type


def test_a_name_of_two_classes_is_ambiguous(pipe):
    """As "crane", bird and machine, is in ImageNet."""
    twice = Pipeline(pipe.model, pipe.tokenizer, ["cat", "crane", "dog", "crane", "7"])
    assert refused(twice, "crane") == "several classes are called 'crane': give an id, 1, 3"
    assert torch.equal(twice.sample_codes(3), twice.sample_codes("3"))


@pytest.mark.parametrize(
    ("names", "rule"),
    [
        (None, "must be a list of names, not None"),
        ("abcde", "must be a list of names, not 'abcde'"),
        ({"a": 1}, "must be a list of names"),
        ([], "from 1 to 1048576 names, not 0"),
        (["a", "b", "c", "d", 5], "5 is none"),
        (["a", "b", "c", "d", "x" * 100_000], "from 1 to 255 characters, not 100000"),
        (["a", "b", "c", "d", ""], "from 1 to 255 characters, not 0"),
        (["a", "b", "c", "d", "e\x1b[31m"], "holds a character that is no text"),
        (["a", "b", "c", "d", "e\n"], "holds a character that is no text"),
        (["a", "b", "c", "d", "\ud800"], "holds a character that is no text"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_class_names_are_names(pipe, tmp_path, names, rule):
    assert rule in refused(Pipeline, pipe.model, pipe.tokenizer, names)
    config = {**pipe.describe(), "classes": names}
    states = {"model": pipe.model.state_dict(), "tokenizer": pipe.tokenizer.state_dict()}
    checkpoint.save(tmp_path / "m", config, states)
    assert rule in refused(Pipeline.from_pretrained, tmp_path / "m")


def test_names_in_any_script(pipe):
    names = ["Кошка", "犬", "گربه\u200cها", "👩\u200d🔬", "a b, c"]
    assert Pipeline(pipe.model, pipe.tokenizer, names).class_id("犬") == 1


def test_a_training_plan_of_another_grid_does_not_matter(grey):
    assert grey.grid == (2, 3)
    assert grey.sample_codes("cat", recipe="raster-1,2,3").shape == (1, 6)
    assert "must sum to the 6 tokens" in refused(grey, "cat", recipe="raster-1,2,1")


def test_partial_images_show_what_is_known(grey):
    seen = []
    final = grey(["cat", "dog"], recipe="raster-1,3,2", seed=2, on_set=seen.append)
    assert [(partial.step, partial.steps, partial.first) for partial in seen] == [
        (1, 3, 0),
        (2, 3, 0),
        (3, 3, 0),
    ]
    for partial, known in zip(seen, (1, 4, 6), strict=True):
        for image, finished in zip(partial.images(), final, strict=True):
            for index in range(6):
                place = (index % 3, index // 3)
                expected = finished.getpixel(place) if index < known else (225, 225, 225)
                assert image.getpixel(place) == expected


def test_partial_images_of_bigger_tokens_and_several_batches(pipe):
    seen = []
    final = pipe("cat", count=3, batch_size=2, recipe="raster-6,10", on_set=seen.append)
    assert [(p.step, p.first, len(p.images())) for p in seen] == [
        (1, 0, 2),
        (2, 0, 2),
        (1, 2, 1),
        (2, 2, 1),
    ]
    first, last = seen[0].images()[0], seen[1].images()[0]
    assert last.tobytes() == final[0].tobytes()
    # Six tokens of 4x4 pixels: the first row and half of the second.
    assert first.getpixel((15, 7)) == first.getpixel((8, 4)) == (225, 225, 225)
    assert first.getpixel((15, 8)) == first.getpixel((0, 15)) == (225, 225, 225)
    corner = [first.getpixel((x, y)) for x in range(16) for y in range(4)]
    assert (225, 225, 225) not in corner


def test_defaults_are_those_of_the_paper():
    defaults = SamplingDefaults()
    assert defaults.guidance == Guidance(2.0, "constant")
    assert dataclasses.asdict(defaults.settings) == {
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "attention": "causal",
        "cache": True,
        "smoothing": False,
    }
    assert PRESETS["B"].class_dropout == 0.1
