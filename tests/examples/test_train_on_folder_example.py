import pytest
from PIL import Image

import tiny_runs
from setar import Pipeline


def interrupt(*_):
    raise KeyboardInterrupt


def test_interrupted_resumed_and_sampled(example, tmp_path, monkeypatch):
    pictures = tiny_runs.save_pictures(tmp_path / "my pictures", 4)
    words = ["train_on_folder.py", pictures, "--batch", 2, "--steps", 2]
    out = tmp_path / "outputs" / "mine"
    with monkeypatch.context() as patch:
        patch.setattr("setar.training.generator.GeneratorRun.trainer", interrupt)
        with pytest.raises(KeyboardInterrupt):
            example(*words)
    [tokenizer] = out.rglob("tokenizer.safetensors")
    before = tokenizer.stat().st_mtime_ns

    names = example(*words)
    assert tokenizer.stat().st_mtime_ns == before
    assert [row[0] for row in names["rows"]] == ["cats", "dogs"]
    made = Pipeline.from_pretrained(out / "generator")("dogs", guidance=1.5, count=8)
    shown = names["rows"][1][2]
    assert [image.tobytes() for image in shown] == [image.tobytes() for image in made]
    assert shown[0].size == (32, 32)
    with Image.open(out / "samples.png") as picture:
        assert picture.width > 8 * 96

    with pytest.raises(ValueError, match="was started with tokenizer"):
        example(*words[:-1], 3)
