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
