"""``setar bench``."""

import json

import pytest

PEERS = {
    "fast.py": "def load(preset): return lambda batch, steps: None",
    "lost.py": "def no(batch, steps): raise ValueError(f'{steps} no')\ndef load(preset): return no",
}


def measured(run, *words):
    code, out, err = run("bench", *words, "--json", "--repeats", 1)
    assert (code, err) == (0, "")
    return json.loads(out)


def test_sampling_of_a_preset_with_peers(run, tmp_path):
    for name, text in PEERS.items():
        (tmp_path / name).write_text(text)
    words = ("fmt:tiny", "--batch", 3, "--recipe", "random-4-cosine", "--peers", tmp_path)
    found = measured(run, *words)
    assert (found["images"], found["steps"], found["guidance"]) == (3, 4, 2.0)
    assert found["ratio"] == pytest.approx(found["seconds"] / found["floor"])
    assert found["seconds_per_image"] == pytest.approx(found["seconds"] / 3)
    assert 0 < found["products"] <= found["floor"]
    assert {"encoder.attention", "decoder.cross_attention", "head"} <= found["breakdown"].keys()
    assert found["peers"]["fast"] < found["seconds"]
    assert found["peers"]["lost"] == "ValueError: 4 no"
    # Of condition and tokens in two attentions and of tokens in one, twice 3 images, 2 layers each.
    kept = 2 * 6 * 32 * 2 * (17 + 17 + 16) * 4
    assert found["expected"]["caches"] == kept
    assert found["expected"]["weights"] < found["peak"] < found["expected_bytes"] + kept


def test_guidance_costs_memory(run):
    with_it = measured(run, "fmt:tiny", "--batch", 2)
    without = measured(run, "fmt:tiny", "--batch", 2, "--guidance", 1)
    assert with_it["expected"]["caches"] == 2 * without["expected"]["caches"]


@pytest.mark.parametrize("precision", ["int8", "bfloat16"])
def test_precisions(run, precision):
    found = measured(run, "fmt:tiny", "--batch", 2, "--precision", precision)
    plain = measured(run, "fmt:tiny", "--batch", 2)
    assert (found["precision"], plain["precision"]) == (precision, "float32")
    assert found["products"] > 0
    assert found["expected"]["weights"] < plain["expected"]["weights"]


@pytest.mark.parametrize("name", ["decoder-only:tiny", "fmt:tiny"])
def test_a_training_step(run, name):
    found = measured(run, name, "--batch", 2, "--train")
    assert found["work"] == "training step"
    assert {"plan", "masks", "loss", "backward", "optimiser"} <= found["breakdown"].keys()
    assert found["products"] > 0


def test_a_model_and_its_table(run, model):
    code, out, err = run("bench", model, "--repeats", 1, "--batch", 1, "--cpu-time")
    assert (code, err) == (0, "")
    for word in ("floor", "ratio", "peak memory", "CPU time", "threads 1"):
        assert word in out


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["fmt:huge"], "preset"),
        (["nonsense:B"], "does not exist"),
        (["fmt:tiny", "--precision", "int3"], "precision"),
        (["fmt:tiny", "--batch", 0], "batch"),
        (["fmt:tiny", "--train", "--peers", "."], "--train"),
        (["fmt:tiny", "--cpu-time", "--threads", 2], "--cpu-time"),
        (["fmt:tiny", "--train", "--precision", "int8"], "--train"),
        (["fmt:tiny", "--train", "--compile"], "--train"),
        (["fmt:tiny", "--compile"], "CUDA"),
        (["fmt:tiny", "--peers", "no such folder"], "no such folder"),
        (["decoder-only:tiny", "--recipe", "random-4-cosine"], "raster"),
        (["var:tiny"], "model folder"),
    ],
)
def test_mistakes(refused, words, word):
    assert word in refused("bench", *words)
