import tiny_codes
import tiny_runs
from setar.data.codes import CodeFolder


def test_encode_and_train(run, tmp_path):
    tiny_codes.save(tmp_path, 12)
    words = ["encode", tmp_path / "tokenizer", tmp_path / "pictures", "--size", 16, "--shard", 4]
    code, out, err = run(*words, "--out", tmp_path / "codes", "--views", "ten-crop")
    assert code == 0, err
    assert "10 records of 16 tokens, views ten-crop, 3 shards" in out
    assert "left out: 2 images that cannot be read" in out
    assert f"12 images -> {tmp_path / 'codes'}" in out
    assert len(CodeFolder(tmp_path / "codes").manifest.families[0].shards) == 3
    config = tmp_path / "run.toml"
    config.write_text(tiny_runs.FOLDER_GENERATOR)
    told = [
        "--set",
        f"data.source={tmp_path / 'codes'}",
        "--set",
        f"tokenizer={tmp_path}/tokenizer",
    ]
    code, out, err = run("train", config, "--out", tmp_path / "run", *told)
    assert code == 0, err
    assert "codes     10 records of 10 views (ten-crop) in 3 shards, all checked (SHA-256)" in out


def test_pictures_of_their_own_are_set_aside(run, refused, tmp_path):
    tiny_codes.save(tmp_path, 6)
    tiny_runs.save_pictures(tmp_path / "val", 4)
    words = ["encode", tmp_path / "tokenizer", tmp_path / "pictures", "--size", 16]
    words += ["--out", tmp_path / "codes", "--validation"]
    code, out, err = run(*words, tmp_path / "val")
    assert code == 0, err
    assert "heldout  16x16 pixels: 4 records of 16 tokens, views crop, 1 shard" in out
    config = tmp_path / "run.toml"
    config.write_text(tiny_runs.FOLDER_GENERATOR)
    told = ["--set", f"data.source={tmp_path}/codes", "--set", f"tokenizer={tmp_path}/tokenizer"]
    more = ["--set", f"data.validation={tmp_path}/val"]
    assert "encode with --validation" in refused("train", config, *told, *more)
    code, out, err = run("train", config, "--out", tmp_path / "run", *told)
    assert code == 0, err
    assert "held out  4 images, never trained on" in out
    assert "heldout_loss" in out
    assert "not both" in refused(*words, tmp_path / "val", "--heldout", 0.1)
    assert "must be pictures in files" in refused(*words, tmp_path / "codes")
    tiny_runs.save_pictures(tmp_path / "other", 4, classes=("cats", "cows"))
    assert "the class 'cows' of" in refused(*words, tmp_path / "other")


def test_mistakes_are_one_line(refused, tmp_path):
    tiny_codes.save(tmp_path, 12)
    words = ["encode", tmp_path / "tokenizer", tmp_path / "pictures"]
    out = ["--out", tmp_path / "codes"]
    assert "must be one of crop, crop+flip, ten-crop" in refused(*words, *out, "--views", "flips")
    assert "`resize`" in refused(*words, *out, "--resize", "cubic")
    assert "--size reads" in refused(*words, *out, "--size", "x")
    assert "`shard` (=0)" in refused(*words, *out, "--shard", 0)
    assert "does not exist" in refused("encode", "nothing", tmp_path / "pictures", *out)
    assert "is no folder of codes" in refused(*words, "--out", tmp_path / "pictures")
