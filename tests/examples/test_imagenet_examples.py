"""The way of docs/imagenet.md on a miniature: from ImageNet's tars to figures."""

import re
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from random_weights import randomise
from setar.config import CONFIGS
from setar.data.images import FolderImages
from setar.pipeline import Pipeline
from setar.pretrained import save_tokenizer
from setar.tokenizers.vqgan import PRESETS, VQGAN

PAGE = Path(__file__).parents[2] / "docs" / "imagenet.md"
CLASSES = ("tench, Tinca tinca", "crane", "crane", "banana")
"""In the order of their WordNet ids."""


def unpacked(archive, folder):
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    return folder


@pytest.fixture
def imagenet(example, tmp_path):
    """The folder of the miniature, with folders of classes; the current one is above."""
    example("imagenet_miniature.py", "files")
    for inner in sorted(unpacked("files/ILSVRC2012_img_train.tar", tmp_path / "tars").iterdir()):
        unpacked(inner, tmp_path / "imagenet" / "train" / inner.stem)
    flat = unpacked("files/ILSVRC2012_img_val.tar", tmp_path / "flat")
    kit = unpacked("files/ILSVRC2012_devkit_t12.tar.gz", tmp_path)
    shutil.copytree(flat, tmp_path / "kaggle-flat")
    example("imagenet_folders.py", flat, kit / "ILSVRC2012_devkit_t12" / "data", "imagenet")
    return tmp_path / "imagenet"


def classes_below(folder):
    return {f.name: f.parent.name for f in sorted(folder.glob("*/*.JPEG"))}


def test_folders_are_those_of_the_classes(imagenet, example, tmp_path, capsys):
    images = FolderImages(imagenet / "train", 32)
    assert images.classes == CLASSES
    assert images.labels.bincount().tolist() == [12] * 4
    assert not images.left_out
    modes = {images.header(item)[2] for item in range(12)}
    assert modes == {"L", "CMYK", "RGB"}
    assert (imagenet / "train" / "n01440764" / "n01440764_2.JPEG").read_bytes()[1:4] == b"PNG"
    held = FolderImages(imagenet / "val", 32)
    assert held.classes == CLASSES
    assert held.labels.bincount().tolist() == [3] * 4

    for _ in range(2):  # once more, when all is done
        example("imagenet_folders.py", tmp_path / "kaggle-flat", "files", "kaggle")
    assert classes_below(tmp_path / "kaggle" / "val") == classes_below(imagenet / "val")
    names = (imagenet / "train" / "classes.tsv").read_text()
    assert (tmp_path / "kaggle" / "train" / "classes.tsv").read_text() == names
    assert capsys.readouterr().out.count("12 validation images of 4 classes in kaggle") == 2
    next((tmp_path / "kaggle" / "val").glob("*/*.JPEG")).unlink()
    with pytest.raises(SystemExit, match="is neither in"):
        example("imagenet_folders.py", tmp_path / "kaggle-flat", "files", "kaggle")
    with pytest.raises(SystemExit, match=r"has neither meta\.mat nor"):
        example("imagenet_folders.py", tmp_path / "kaggle-flat", tmp_path, "kaggle")


def test_from_folders_to_figures(imagenet, run, tmp_path):
    save_tokenizer(randomise(VQGAN(PRESETS["tiny"])), tmp_path / "vq")
    encode = ["encode", "vq", "imagenet/train", "--validation", "imagenet/val", "--resize", "adm"]
    encode += ["--size", 16, "--shard", 16, "--views", "ten-crop", "--out", "imagenet/ten-crop"]
    code, out, err = run(*encode)
    assert code == 0, err
    assert "48 records of 16 tokens, views ten-crop, 3 shards" in out
    assert "60 images -> " in out

    small = {"tokenizer": "vq", "data.image_size": 16, "model.preset": "tiny", "loop.steps": 2,
             "loop.batch_size": 8, "loop.checkpoint_every": 2, "recipe": "random-4-random",
             "sampling.recipe": "random-4-cosine", "loop.device": "cpu"}  # fmt: skip
    words = [word for key, value in small.items() for word in ("--set", f"{key}={value}")]
    code, out, err = run("train", CONFIGS / "imagenet-paper.toml", "--out", "runs/b", *words)
    assert code == 0, err
    assert "48 records of 10 views (ten-crop) in 3 shards" in out
    assert "12 images, never trained on" in out
    assert Pipeline.from_pretrained("runs/b").classes == CLASSES

    evaluate = ["evaluate", "runs/b", "--count", 2, "--save-samples", "samples.npz"]
    code, out, err = run(*evaluate)
    assert code == 0, err
    assert re.search(r"reference +│ imagenet/train", out)
    assert re.search(r"FD-EffLite0 +│ \d", out)
    samples = np.load("samples.npz")
    assert samples["arr_0"].shape == (8, 16, 16, 3)
    assert samples["arr_1"].tolist() == [0, 1, 2, 3] * 2
    assert run("sample", "runs/b", "--classes", "tench, Tinca tinca,3", "--count", 1)[0] == 0
    code, _, err = run("sample", "runs/b", "--classes", "crane")
    assert (code, "several classes are called 'crane': give an id, 1, 2" in err) == (2, True)


def test_the_page_names_what_there_is():
    text = PAGE.read_text()
    for file in set(re.findall(r"(?:configs|examples)/[\w-]+\.\w+", text)):
        assert (PAGE.parents[1] / file).is_file(), file
