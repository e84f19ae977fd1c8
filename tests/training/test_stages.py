"""Stages of a training on captions: what they show, runs from end to end, what is refused."""

import json
import shutil

import pytest
import torch
from PIL import Image

import setar.text
import tiny_captions
import tiny_runs
import tiny_texts
from setar import Pipeline, checkpoint
from setar.data.images import FolderImages
from setar.data.scenes import ScenesConfig
from setar.recipes.recipe import Recipe
from setar.run_folder import checkpoints
from setar.tokenizers.vqgan import PRESETS, VQGAN
from setar.training.data import DataConfig
from setar.training.loop import LoopConfig
from setar.training.run import open_run
from setar.training.shapes import stride_of
from setar.training.stages import StageConfig, lay_out, shapes_of
from setar.training.text import BucketExamples, SceneExamples


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """Pictures, tokenizer and encoder of `tiny_captions`."""
    return tiny_captions.save(tmp_path_factory.mktemp("captioned"), heldout=3)


def laid_out(*configs, size=(16, 16), data=None, loop=None, processes=1):
    data = data or DataConfig("/a/folder", image_size=16)
    recipe, loop = Recipe.parse("random-4-random"), loop or LoopConfig(batch_size=8)
    return lay_out(configs, data, size, VQGAN(PRESETS["tiny"]), recipe, loop, processes)


def test_what_stages_show():
    first, second, third = laid_out(
        StageConfig(10),
        StageConfig(20, image_size=24, max_aspect=2.0, recipe=Recipe.parse("ar"), batch_size=4),
        StageConfig(5, scenes=ScenesConfig(one=1.0, above=1.0)),
    )
    assert (first.first, second.first, third.first) == (0, 10, 30)
    assert (first.sizes, first.grids, first.counts) == (((16, 16),), ((4, 4),), (8,))
    assert second.sizes == ((24, 24), (20, 28), (28, 20))
    assert second.grids == ((6, 6), (5, 7), (7, 5))
    assert (second.counts, second.longest, str(second.recipe)) == (
        (4, 4, 4),
        36,
        "raster-N-uniform",
    )
    assert (third.sizes, third.grids) == (((16, 16), (32, 16)), ((4, 4), (8, 4)))
    assert (third.counts, str(third.recipe)) == ((8, 4), "random-4-random")


def test_scenes_of_the_data_are_those_of_stages_of_their_size():
    data = DataConfig("/a/folder", image_size=16, scenes=ScenesConfig(four=1.0))
    others = StageConfig(1, image_size=32), StageConfig(1, max_aspect=2.0)
    same, larger, wider = laid_out(StageConfig(1), *others, data=data)
    assert same.scenes == data.scenes
    assert larger.scenes is wider.scenes is None
    assert (larger.sizes, len(wider.sizes)) == (((32, 32),), 3)


@pytest.mark.parametrize(
    ("config", "more", "message"),
    [
        (StageConfig(1, image_size=18), {}, r"`image_size` \(=18\) .* multiple of the 4 pixels"),
        (
            StageConfig(1, recipe=Recipe.parse("random-17-random")),
            {},
            "'random-17-random' of stage",
        ),
        (StageConfig(1, image_size=24), {"data": DataConfig("emoji")}, "'emoji' has one size"),
        (StageConfig(1), {"processes": 3}, r"`batch_size` \(=8\) of stage 1 must be a multiple of"),
        (
            StageConfig(1, scenes=ScenesConfig(four=1.0)),
            {"processes": 4},
            "must be a multiple of 4 x 4 processes: drawings of a scene",
        ),
        (
            StageConfig(1, batch_size=6, scenes=ScenesConfig(four=1.0)),
            {},
            "multiple of 4: drawings",
        ),
        (
            StageConfig(1, scenes=ScenesConfig(four=1.0)),
            {"size": (16, 32)},
            "scenes need square pictures, not 16x32",
        ),
    ],
)
def test_stages_that_do_not_fit_are_refused_before_they_begin(config, more, message):
    with pytest.raises(ValueError, match=message):
        laid_out(config, **more)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, r"`steps` \(=0\) must be at least 1"),
        ({"max_aspect": 0.5}, r"`max_aspect` \(=0.5\) must be from 1 to 8"),
        ({"max_aspect": 9.0}, r"`max_aspect` \(=9.0\) must be from 1 to 8"),
        ({"image_size": 5000}, r"`image_size` \(=5000\) must be at most 4096"),
        ({"batch_size": 0}, r"`batch_size` \(=0\) must be at least 1"),
        ({"scenes": ScenesConfig(), "image_size": 16}, "`scenes`, .* `image_size` .* not both"),
        ({"scenes": ScenesConfig(), "max_aspect": 2.0}, "`scenes`, .* `max_aspect` .* not both"),
    ],
)
def test_stages_that_cannot_be(values, message):
    with pytest.raises(ValueError, match=message):
        StageConfig(**{"steps": 1, **values})


def test_strides_and_shapes(here, tmp_path):
    assert stride_of(VQGAN(PRESETS["tiny"]), (16, 32)) == (4, 4)
    images = FolderImages(here / "pictures", 16)
    assert shapes_of(images)[:3].tolist() == [[20, 20], [18, 30], [30, 18]]


def test_a_photograph_on_its_side_has_its_upright_shape(tmp_path):
    picture = Image.new("RGB", (30, 18))
    exif = picture.getexif()
    exif[274] = 6
    picture.save(tmp_path / "a.jpg", exif=exif)
    picture.save(tmp_path / "b.jpg")
    images = FolderImages(tmp_path, None)
    assert shapes_of(images).tolist() == [[30, 18], [18, 30]]
    assert images[torch.tensor([0])].shape[-2:] == (30, 18)


# Runs


def test_stages_from_end_to_end(make, here):
    trainer = make(tiny_captions.config(here))
    trainer.run()
    assert trainer.loop.steps == 5
    folder = trainer.folder
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["stage"] for line in lines] == [1, 1, 2, 2, 2]
    assert lines[-1]["heldout_loss"] > 0
    assert (folder / "samples/step-00000005.png").is_file()
    pipe = Pipeline.from_pretrained(folder)
    assert pipe.reads == "text"
    assert pipe(["a red apple"], size=(20, 28))[0].size == (28, 20)
    objective = trainer.objective
    assert isinstance(objective.examples(1), BucketExamples)
    assert objective.samples == 9


def test_a_resumed_stage_goes_on_as_if_nothing_had_happened(make, read, here, tmp_path):
    for stages in (tiny_captions.STAGES, tiny_captions.SCENES):
        text = tiny_captions.config(here, stages)
        square = "data.image_size=16"
        whole = make(text, square, out="whole")
        whole.run()
        shutil.copytree(tmp_path / "whole", tmp_path / "stopped")
        shutil.rmtree(checkpoints(tmp_path / "stopped")[-1])
        trainer = open_run(read(text, square), tmp_path / "stopped", resume=True)
        assert trainer.step == 3
        trainer.run()
        ours, theirs = (checkpoints(tmp_path / name)[-1] for name in ("whole", "stopped"))
        assert ours.name == theirs.name == "step-00000005"
        assert len(tiny_runs.digests(ours)) > 4
        assert tiny_runs.digests(ours) == tiny_runs.digests(theirs)
        shutil.rmtree(tmp_path / "whole")
        shutil.rmtree(tmp_path / "stopped")


def test_a_run_that_ends_with_a_stage_goes_on_with_the_next(make, read, here, tmp_path):
    text, often = tiny_captions.config(here), ["loop.checkpoint_every=2", "loop.keep=9"]
    make(text, *often, out="whole").run()
    shutil.copytree(tmp_path / "whole", tmp_path / "stopped")
    for late in checkpoints(tmp_path / "stopped")[1:]:
        shutil.rmtree(late)
    trainer = open_run(read(text, *often), tmp_path / "stopped", resume=True)
    assert trainer.step == 2
    trainer.run()
    ours, theirs = (checkpoints(tmp_path / name)[-1] for name in ("whole", "stopped"))
    assert ours.name == theirs.name == "step-00000005"
    assert (ours / "model.safetensors").read_bytes() == (theirs / "model.safetensors").read_bytes()


def test_a_changed_encoder_is_said(make, read, here, tmp_path, capsys):
    shutil.copytree(here / "encoder", tmp_path / "encoder")
    text, words = tiny_captions.config(here), [f'text.encoder="{tmp_path / "encoder"}"']
    make(text, *words, "loop.checkpoint_every=2", out="run").run()
    shutil.rmtree(checkpoints(tmp_path / "run")[-1])
    capsys.readouterr()
    open_run(read(text, *words, "loop.checkpoint_every=2"), tmp_path / "run", resume=True)
    assert "another encoder" not in capsys.readouterr().out
    setar.text._shared.cache_clear()
    tiny_texts.save(tmp_path / "encoder", "bert", seed=7)
    open_run(read(text, *words, "loop.checkpoint_every=2"), tmp_path / "run", resume=True)
    assert "captions were read by encoder-m1-12-" in capsys.readouterr().out


def test_stages_of_single_images_are_balanced(make, here, tmp_path):
    folder = tmp_path / "uneven"
    shutil.copytree(here / "pictures", folder)
    (folder / "metadata.jsonl").unlink()
    for index, file in enumerate(sorted(folder.glob("*.png"))):
        own = folder / ("few" if index < 3 else "many")
        own.mkdir(exist_ok=True)
        file.rename(own / file.name)
        (own / file.name).with_suffix(".txt").write_text("a cat")
    trainer = make(tiny_captions.config(here), f'data.source="{folder}"', "data.balance=1")
    batches = trainer.objective.examples(0).batches(18, 0)  # 3 pictures thrice, and 9 others
    assert sorted(batches.indices(0).tolist()) == [*[0] * 3, *[1] * 3, *[2] * 3, *range(3, 12)]


def test_a_batch_need_only_suit_the_scenes_that_are_shown(make, here):
    pairs = "[[stages]]\nsteps = 1\nbatch_size = 6\nscenes = {one = 0, beside = 1.0}\n"
    trainer = make(tiny_captions.config(here, pairs))
    trainer.run()
    assert trainer.step == 1


def test_captions_with_odd_characters_end_no_training(make, here, tmp_path):
    shutil.copytree(here / "pictures", tmp_path / "odd")
    file = tmp_path / "odd/metadata.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    odd = ["a \0 cat", "a \ud83d dog", "a tree " * 9999]
    for index, row in enumerate(rows):
        row["text"] = odd[index % 3]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    trainer = make(tiny_captions.config(here), f'data.source="{tmp_path / "odd"}"')
    trainer.run()
    assert trainer.step == 5


def test_scenes_from_end_to_end(make, here):
    trainer = make(tiny_captions.config(here, tiny_captions.SCENES))
    examples = [trainer.objective.examples(stage) for stage in (0, 1)]
    assert all(isinstance(one, SceneExamples) for one in examples)
    assert examples[0].scenes.drawings is examples[1].scenes.drawings
    trainer.run()
    assert trainer.step == 5


def test_without_stages_there_is_one(make, here):
    trainer = make(tiny_captions.config(here, ""), "loop.steps=2")
    [stage] = trainer.objective.stages
    assert (stage.first, stage.steps, stage.length) == (0, 2, 0)


def test_a_training_begins_with_weights_that_fit(make, here, tmp_path, capsys):
    first = make(tiny_captions.config(here), out="first")
    first.run()
    words = [f'init="{tmp_path / "first"}"', "model.decoder_layers=2", "loop.seed=3"]
    second = make(tiny_captions.config(here), *words, out="second")
    before = checkpoint.load_tensors(checkpoints(tmp_path / "first")[-1], "model")
    after = second.result.state_dict()
    assert torch.equal(after["tokens.weight"], before["tokens.weight"])
    assert before.keys() < after.keys()
    [(_, told)] = [fact for fact in second.facts if fact[0] == "begins"]
    new = sorted(after.keys() - before.keys())
    assert told.startswith(
        f"with {len(before)} of {len(after)} tensors of {tmp_path / 'first'}; new"
    )
    assert all(name in told for name in new)
    other = tiny_runs.save_pipeline(tmp_path / "classes")
    with pytest.raises(ValueError, match="has no weights that fit this model"):
        make(tiny_captions.config(here), f'init="{other}"', out="no")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["loop.steps=7"], r"`loop.steps` \(=7\) must be left out, or be the 5 steps of"),
        (["data.flips=true"], "`data.flips` would make captions with left and right wrong"),
        (["model.positions=learned"], "not 4x4 tokens, which need model.positions = 'sine'"),
        (["model.condition=class"], "`text` is for models that read texts"),
        (["model.condition_dim=7"], r"`model.condition_dim` \(=7\) may be left out, or be the 16"),
        (["loop.batch_size=4", "stages=[{steps=1, max_aspect=9}]"], "`max_aspect` .* 1 to 8"),
    ],
)
def test_settings_that_do_not_fit(make, here, changes, message):
    with pytest.raises(ValueError, match=message):
        make(tiny_captions.config(here), *changes)


def test_steps_may_be_said_twice(read, here):
    run = read(tiny_captions.config(here), "loop.steps=5")
    assert run.completed().loop.steps == 5


def test_pictures_without_a_caption_are_listed(make, here, tmp_path):
    shutil.copytree(here / "pictures", tmp_path / "some")
    (tmp_path / "some/07.png").unlink()
    make(tiny_captions.config(here), f'data.source="{tmp_path / "some"}"', out="list")
    assert (tmp_path / "list/uncaptioned.txt").read_text().splitlines() == [
        "01.png\thas no caption",
        "07.png\thas a caption, but is not there",
    ]


def test_images_without_captions_are_refused(make, here, tmp_path):
    shutil.copytree(here / "pictures", tmp_path / "bare")
    (tmp_path / "bare/metadata.jsonl").unlink()
    with pytest.raises(ValueError, match=r"bare' has no captions: write a metadata.jsonl"):
        make(tiny_captions.config(here), f'data.source="{tmp_path / "bare"}"')


def test_too_few_drawings_end_a_training_before_its_first_step(make, here, tmp_path):
    shutil.copytree(here / "pictures", tmp_path / "styled")
    file = tmp_path / "styled/metadata.jsonl"
    rows = [json.loads(line) | {"style": "noto"} for line in file.read_text().splitlines()]
    rows[0]["style"] = "alone"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match="of 'alone' there are 1"):
        make(tiny_captions.config(here, tiny_captions.SCENES), f'data.source="{file.parent}"')
