"""Reading files of other projects, writing model folders; loading is tested with each family."""

import argparse
import os
import pickle
import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from foreign_files import assert_same_weights
from random_weights import random_fmt, randomise
from setar import checkpoint
from setar.importers import foreign
from setar.importers.var import WRAPPERS as WRAPPERS_OF_VAR
from setar.importers.var_vqvae import WRAPPERS as WRAPPERS_OF_ITS_TOKENIZER
from setar.pipeline import Pipeline
from setar.pretrained import load_tokenizer
from setar.sampling.settings import SamplingDefaults
from setar.tokenizers.vqgan import VQGAN, VQGANConfig

WRAPPERS = ("first", "second")


def read(file):
    return foreign.read(file, WRAPPERS)


@pytest.fixture
def state():
    return {"a": torch.ones(3), "b.weight": torch.zeros(2, 2)}


@pytest.mark.parametrize("wrapper", [None, *WRAPPERS])
def test_bare_or_wrapped(state, tmp_path, wrapper):
    torch.save({wrapper: state} if wrapper else state, tmp_path / "vq.pt")
    found = read(tmp_path / "vq.pt")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_the_first_wrapper_wins(tmp_path):
    entries = {"second": {"x": torch.tensor(2.0)}, "first": {"x": torch.tensor(1.0)}}
    torch.save(entries, tmp_path / "file.pt")
    assert read(tmp_path / "file.pt")["x"] == 1


def test_a_checkpoint_of_a_training(state, tmp_path):
    arguments = argparse.Namespace(vq_model="VQ-16", lr=1e-4)
    torch.save({"first": state, "steps": 3, "args": arguments}, tmp_path / "vq.pt")
    assert read(tmp_path / "vq.pt").keys() == state.keys()


def test_safetensors(state, tmp_path):
    save_file(state, tmp_path / "vq.safetensors")
    found = read(tmp_path / "vq.safetensors")
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_a_pickled_command_is_refused_and_not_run(state, tmp_path):
    class Command:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "hacked"),)

    torch.save({"first": state, "args": Command()}, tmp_path / "vq.pt")
    with pytest.raises(ValueError, match=r"^[^\n]*pickled objects are never loaded[^\n]*$"):
        read(tmp_path / "vq.pt")
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(
    "content", [[1, 2], {}, {"first": 3}, {"first": {"a": 1}}, {"second": {3: torch.zeros(1)}}]
)
def test_not_a_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "vq.pt")
    with pytest.raises(ValueError, match=r"vq.pt holds no state dict"):
        read(tmp_path / "vq.pt")


@pytest.mark.parametrize("name", ["vq.pt", "vq.safetensors"])
def test_missing_file_and_folder(tmp_path, name):
    with pytest.raises(ValueError, match=f".*{name} does not exist"):
        read(tmp_path / name)
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=f".*{name} is a folder, not a file"):
        read(tmp_path / name)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@settings(max_examples=60)
@given(data=st.data(), legacy=st.booleans())
def test_damaged_files_are_one_line(tmp_path_factory, data, legacy):
    file = tmp_path_factory.mktemp("damaged") / "vq.pt"
    torch.save({"first": {"a": torch.ones(3)}}, file, _use_new_zipfile_serialization=not legacy)
    raw = bytearray(file.read_bytes())
    end = data.draw(st.integers(0, len(raw)))
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=3)):
        raw[place] = data.draw(st.integers(0, 255))
    file.write_bytes(raw[:end])
    refusals = []
    try:
        read(file)
    except ValueError as error:
        refusals.append(str(error))
    assert "\n" not in "".join(refusals)


@pytest.mark.parametrize("content", [b"", b"\x80\x02}.", b"not a file of tensors", b"\x08" * 8])
@pytest.mark.parametrize("name", ["vq.pt", "vq.safetensors", "config.json"])
def test_garbage(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"^[^\n]*(cannot read|no state dict)[^\n]*$"):
        read(tmp_path / name)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module."]
)
def test_names_of_parallel_and_compiled_models(state, tmp_path, prefix):
    torch.save({"first": {prefix + k: v for k, v in state.items()}}, tmp_path / "vq.pt")
    assert read(tmp_path / "vq.pt").keys() == state.keys()


def test_names_of_blocks_that_were_compiled_or_sharded(tmp_path):
    names = ["a._orig_mod.b", "a._fsdp_wrapped_module.c", "_checkpoint_wrapped_module.d", "e"]
    torch.save({name: torch.ones(1) for name in names}, tmp_path / "vq.pt")
    assert [*read(tmp_path / "vq.pt")] == ["a.b", "a.c", "d", "e"]


def test_a_module_that_is_called_module_stays(tmp_path):
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "vq.pt")
    assert [*read(tmp_path / "vq.pt")] == ["module.a", "b"]


def test_an_average_of_weights_counts_its_updates(state, tmp_path):
    averaged = {"n_averaged": torch.tensor(7), **{f"module.{k}": v for k, v in state.items()}}
    torch.save(averaged, tmp_path / "vq.pt")
    assert read(tmp_path / "vq.pt").keys() == state.keys()


def test_the_same_tensor_twice(tmp_path):
    torch.save({"a": torch.ones(1), "_orig_mod.a": torch.zeros(1)}, tmp_path / "vq.pt")
    with pytest.raises(ValueError, match=r"vq.pt: it holds the same tensors twice"):
        read(tmp_path / "vq.pt")


def test_a_checkpoint_of_vars_training(tmp_path):
    """Both its networks are in one file."""
    var, vqvae = {"a": torch.ones(1)}, {"b": torch.ones(1)}
    trainer = {"config": {"depth": 16}, "var_wo_ddp": var, "vae_local": vqvae, "var_opt": {}}
    torch.save({"epoch": 3, "iter": 0, "trainer": trainer, "args": {}}, tmp_path / "ar-ckpt.pth")
    assert [*foreign.read(tmp_path / "ar-ckpt.pth", WRAPPERS_OF_VAR)] == ["a"]
    assert [*foreign.read(tmp_path / "ar-ckpt.pth", WRAPPERS_OF_ITS_TOKENIZER)] == ["b"]


def test_wrappers_inside_wrappers(state, tmp_path):
    """Whatever is empty or no table is passed over."""
    nested = {"epoch": 3, "first": {}, "second": {"first": state, "config": {"lr": 1e-4}}}
    torch.save(nested, tmp_path / "vq.pt")
    assert read(tmp_path / "vq.pt").keys() == state.keys()


def test_what_torch_has_to_say_of_a_file_is_not_said(tmp_path, recwarn):
    (tmp_path / "vq.pt").write_bytes(pickle.dumps({"a": 1}, protocol=4))
    with pytest.raises(ValueError, match="cannot read"):
        read(tmp_path / "vq.pt")
    assert not recwarn.list


def test_a_table_that_holds_itself_has_an_end(tmp_path):
    endless = {"epoch": 3}
    endless["first"] = endless
    torch.save(endless, tmp_path / "vq.pt")
    with pytest.raises(ValueError, match=r"holds no state dict: .* is not a tensor"):
        read(tmp_path / "vq.pt")


@pytest.mark.parametrize(
    ("tensor", "problem"),
    [
        (torch.ones(1).expand(10**12), "larger than what is stored"),
        (torch.ones(3, 1).expand(3, 7), "larger than what is stored"),
        (torch.eye(3).to_sparse(), "is sparse, quantised or without content"),
        (torch.empty(3, device="meta"), "is sparse, quantised or without content"),
    ],
    ids=["expanded", "a little", "sparse", "meta"],
)
def test_tensors_that_are_not_what_they_say(state, tmp_path, tensor, problem):
    torch.save({"first": {**state, "c": tensor}}, tmp_path / "vq.pt")
    with pytest.raises(ValueError, match=rf"^[^\n]*vq.pt: 'c' [^\n]*{problem}[^\n]*$"):
        read(tmp_path / "vq.pt")


def test_an_archive_that_unfolds(state, tmp_path):
    """A few bytes of a compressed archive could become any number of them."""
    torch.save(state, tmp_path / "vq.pt")
    with zipfile.ZipFile(tmp_path / "vq.pt") as stored:
        entries = {name: stored.read(name) for name in stored.namelist()}
    with zipfile.ZipFile(tmp_path / "vq.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in entries.items():
            packed.writestr(name, content)
    with pytest.raises(ValueError, match="not a PyTorch checkpoint of plain tensors, or damaged"):
        read(tmp_path / "vq.pt")


@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_no_numbers(number):
    model = small_vqgan(7)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    state["decoder.norm.bias"][3] = number
    kind = "NaN" if number != number else "infinity"
    with pytest.raises(ValueError, match=f"'decoder.norm.bias' holds {kind}"):
        foreign.load(VQGAN, model.config, state, str, "a tokenizer")


def test_a_default_of_float64_changes_nothing(float64_by_default):
    model = small_vqgan(7)
    loaded = foreign.load(VQGAN, model.config, model.state_dict(), str, "a tokenizer")
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32}


# Writing


def small_vqgan(codes):
    config = VQGANConfig(
        channels=8, multipliers=(1, 1), blocks=1, latent_channels=8, codebook_size=codes
    )
    return randomise(VQGAN(config)).eval()


def test_a_generator_is_written_and_read(tmp_path):
    model, tokenizer = random_fmt(classes=3), small_vqgan(24)
    defaults = SamplingDefaults().changed({"recipe": "random-4-cosine", "scale": 1.5, "top_k": 9})
    foreign.save(model, tokenizer, defaults, tmp_path / "out")
    config = checkpoint.verify(tmp_path / "out")
    assert list(config) == ["model", "tokenizer", "classes", "data", "sampling", "plugins"]
    assert config["classes"] == ["0", "1", "2"]
    assert config["data"] == "", "foreign data have no name here"
    pipe = Pipeline.from_pretrained(tmp_path / "out")
    assert (pipe.model.config, pipe.tokenizer.config) == (model.config, tokenizer.config)
    assert pipe.defaults == defaults
    assert_same_weights(pipe.model, model.state_dict(), str)
    assert_same_weights(pipe.tokenizer, tokenizer.state_dict(), str)
    assert_same_weights(load_tokenizer(tmp_path / "out"), tokenizer.state_dict(), str)


def test_a_tokenizer_of_other_codes_is_refused_and_nothing_written(tmp_path):
    with pytest.raises(ValueError, match="the tokenizer has 23 codes, the model 24"):
        foreign.save(random_fmt(), small_vqgan(23), SamplingDefaults(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
