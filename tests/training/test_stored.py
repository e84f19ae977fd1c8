"""Training on folders of codes."""

import shutil

import pytest
import torch

import tiny_captions
import tiny_codes
import tiny_runs
from setar import Pipeline
from setar.data.codes import CodeFolder
from setar.origin import origin_of
from setar.pretrained import load_tokenizer
from setar.run_folder import checkpoints, left_out
from setar.training.stored import Stored, features_of
from setar.training.text import TextObjective


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tiny_codes.save(tmp_path_factory.mktemp("stored"))
    tiny_codes.encoded(folder, heldout=0.2)
    tiny_codes.encoded(folder, out="scales", tokenizer=folder / "multiscale", features=True)
    return folder


def of(folder, out="codes", tokenizer="tokenizer"):
    return [f'data.source="{folder}/{out}"', f'tokenizer="{folder}/{tokenizer}"', "data.flips=true"]


def train_codes(folder, out="codes"):
    codes = CodeFolder(folder / out).codes("train", [(16, 16)])
    assert codes is not None
    return codes


# Views and order


def test_a_view_follows_from_seed_step_and_image_alone(folder):
    codes = train_codes(folder)
    items, stored = torch.arange(len(codes)), Stored(codes, seed=3)
    drawn = stored.codes(items, 5)
    assert torch.equal(stored.codes(items.flip(0), 5), drawn.flip(0))
    assert torch.equal(stored.codes(items[4:6], 5), drawn[4:6])
    others = (Stored(codes, 4).codes(items, 5), stored.codes(items, 6))
    assert all(not torch.equal(other, drawn) for other in others)
    views = torch.stack([codes.codes(items, torch.full_like(items, view)) for view in (0, 1)])
    assert (views == drawn).all(-1).any(0).all()
    upright = Stored(codes, 3, upright=True)
    assert torch.equal(upright.codes(items, 5), views[0])


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_an_epoch_shows_every_record_once_to_any_number_of_processes(folder, make, count):
    from setar.training.distributed import Processes

    trainer = make(tiny_runs.FOLDER_GENERATOR, *of(folder), "loop.batch_size=12", out=f"of{count}")
    records = trainer.objective.samples
    assert records == len(train_codes(folder))
    batches = torch.stack([trainer.batches.indices(step) for step in range(records)])
    shares = [batches[:, Processes(i, count).rows(batches.shape[1])] for i in range(count)]
    together = torch.cat(shares, 1)
    assert torch.equal(together, batches)
    for epoch in together.flatten().split(records):  # twelve epochs
        assert sorted(epoch.tolist()) == list(range(records))


# Runs


def test_a_class_model_trains_samples_and_goes_on(folder, make, tmp_path):
    words = [tiny_runs.FOLDER_GENERATOR, *of(folder), "loop.checkpoint_every=1", "loop.steps=3"]
    whole = make(*words, out="whole")
    whole.run()
    resumed = make(*words, "loop.steps=2", out="part")
    resumed.run()
    from setar.training.run import open_run, read_run

    run = read_run(tmp_path / "run.toml", words[1:])
    again = open_run(run, tmp_path / "part", resume=True)
    again.run()
    for name, tensor in whole.result.state_dict().items():
        assert torch.equal(again.result.state_dict()[name], tensor)
    assert "heldout_loss" in (tmp_path / "part/metrics.jsonl").read_text()
    pipe = Pipeline.from_pretrained(tmp_path / "part")
    assert pipe.classes == ("cats", "dogs")
    assert pipe("cats", seed=1)[0].size == (16, 16)
    # Evaluation compares with the pictures, but for those that could not be read.
    origin = origin_of(str(tmp_path / "part"))
    assert origin.data == str(folder / "pictures")
    assert origin.size == (16, 16)
    assert origin.left_out == {*tiny_codes.BROKEN} == {*left_out(tmp_path / "part")}
    assert len(checkpoints(tmp_path / "part")) == 2


def test_features_for_self_correction_are_kept_ones_or_those_of_the_codes(folder, make):
    kept = make(
        tiny_runs.FOLDER_VAR, *of(folder, "scales", "multiscale"), *VAR, out="kept"
    ).objective
    tiny_codes.encoded(folder, out="plain", tokenizer=folder / "multiscale")
    made = make(
        tiny_runs.FOLDER_VAR, *of(folder, "plain", "multiscale"), *VAR, out="made"
    ).objective
    items = torch.arange(8)
    codes = train_codes(folder, "scales")
    views = Stored(codes, 0).features(items, 4)
    assert torch.equal(kept.features(items, 4), views)
    tokenizer = load_tokenizer(folder / "multiscale")
    own = features_of(Stored(codes, 0).codes, tokenizer, (1, 30))(items, 4)
    assert torch.equal(made.features(items, 4), own)
    for objective in (kept, made):
        step = objective.losses(items, 4)
        step.losses["model"].backward()
        assert step.losses["model"].isfinite()


VAR = ["self_correction=0.5", "recipe='raster-1,4,9,16'", "sampling.recipe='raster-1,4,9,16'"]


def test_a_model_of_texts_trains_on_shapes(make, tmp_path):
    tiny_captions.save(tmp_path, heldout=2)
    tiny_codes.encoded(tmp_path, sizes=(16, 24), max_aspect=2.0, views="crop+flip")
    words = (tiny_captions.config(tmp_path), f'data.source="{tmp_path}/codes"')
    trainer = make(*words)
    assert isinstance(trainer.objective, TextObjective)
    examples = trainer.objective.examples(1)
    items = torch.arange(10)
    grids = examples.grids(items)
    assert {*grids} == {(6, 6), (5, 7), (7, 5)}
    folder = CodeFolder(tmp_path / "codes")
    codes = folder.codes("train", folder.encoding.resolutions[1])
    assert codes is not None
    wide = torch.tensor([i for i in items.tolist() if grids[i] == (5, 7)])
    for step in (0, 1):  # no mirror images, whatever the step
        assert torch.equal(examples.codes(wide, (5, 7), step), codes.centres(wide))
    trainer.run()
    assert "heldout_loss" in (tmp_path / "run/metrics.jsonl").read_text()


# What is refused


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["data.image_size=32"], "has codes of pictures of 16x16 pixels, not 32x32"),
        (["tokenizer='emoji'"], "does not read them: its "),
        (["tokenizer='pixels'"], "does not suit the data"),
        (["data.source='FOLDER/scales'", "data.heldout=0.1"], "encode with --heldout 0.1"),
    ],
)
def test_what_does_not_suit_the_codes(folder, make, changes, words):
    changes = [change.replace("FOLDER", str(folder)) for change in changes]
    with pytest.raises(ValueError, match=words):
        make(tiny_runs.FOLDER_GENERATOR, *of(folder), *changes)


def test_another_codebook(folder, make, tmp_path):
    from random_weights import randomise
    from setar.pretrained import save_tokenizer
    from setar.tokenizers.vqgan import PRESETS, VQGAN

    save_tokenizer(randomise(VQGAN(PRESETS["tiny"]), seed=1), tmp_path / "other")
    with pytest.raises(ValueError, match="its codebook is another one"):
        make(tiny_runs.FOLDER_GENERATOR, *of(folder), f'tokenizer="{tmp_path}/other"')


def test_mirror_images_that_are_not_there(folder, make):
    tiny_codes.encoded(folder, out="upright", views="crop")
    with pytest.raises(ValueError, match=r"has no mirror images: encode with --views crop\+flip"):
        make(tiny_runs.FOLDER_GENERATOR, *of(folder, "upright"))


def test_a_damaged_shard_ends_the_run_before_its_first_step(folder, make, tmp_path):
    shutil.copytree(folder / "codes", tmp_path / "codes")
    file = tmp_path / "codes/train-16x16/00001.npy"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged in .*: train-16x16/00001\.npy"):
        make(tiny_runs.FOLDER_GENERATOR, *of(folder), f'data.source="{tmp_path}/codes"')


def test_a_tokenizer_cannot_be_trained_on_codes(folder, make):
    with pytest.raises(ValueError, match="holds codes, not pictures"):
        make(tiny_runs.FOLDER_TOKENIZER, f'data.source="{folder}/codes"')
