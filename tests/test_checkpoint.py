import errno
import json
import os
import shutil
import stat
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from setar import checkpoint
from setar.models import fmt
from setar.models.base import FAMILIES
from setar.recipes.recipe import Recipe
from setar.registry import Table
from setar.tokenizers import vqgan
from setar.tokenizers.base import TOKENIZERS
from setar.tokenizers.pixels import PixelLevels, PixelLevelsConfig


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """Every weight, since a new FMT's head is zero and hides what the others are."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2, generator=generator)
    return module.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def model() -> fmt.FullyMaskedTransformer:
    return randomised(fmt.FullyMaskedTransformer(fmt.PRESETS["tiny"]))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def tokenizer() -> vqgan.VQGAN:
    return randomised(vqgan.VQGAN(vqgan.PRESETS["tiny"]))  # type: ignore[return-value]


KINDS: dict[str, Table] = {"model": FAMILIES, "tokenizer": TOKENIZERS}


def write(folder: Path, **parts: nn.Module) -> None:
    config = {name: checkpoint.describe(module, KINDS[name]) for name, module in parts.items()}
    checkpoint.save(folder, config, {n: module.state_dict() for n, module in parts.items()})


def read(folder: Path, part: str) -> nn.Module:
    return checkpoint.load_module(folder, part, checkpoint.verify(folder)[part], KINDS[part])


@pytest.fixture
def folder(tmp_path, tokenizer) -> Path:
    write(tmp_path / "vq", tokenizer=tokenizer)
    return tmp_path / "vq"


def assert_equal(ours: nn.Module, theirs: nn.Module) -> None:
    one, other = ours.state_dict(), theirs.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


class TestRoundTrip:
    def test_fmt(self, tmp_path, model):
        write(tmp_path / "m", model=model)
        loaded = read(tmp_path / "m", "model")
        assert_equal(loaded, model)
        assert loaded.config == model.config
        assert not loaded.training
        assert not any(p.requires_grad for p in loaded.parameters())
        plan = Recipe.parse("random-4-cosine").plan((4, 4), 2, torch.Generator().manual_seed(0))
        codes, labels = torch.arange(32).view(2, 16), torch.tensor([0, 3])
        logits = model(codes, labels, plan)
        assert logits.std() > 0.1
        assert torch.equal(loaded(codes, labels, plan), logits)

    def test_vqgan(self, folder, tokenizer):
        loaded = read(folder, "tokenizer")
        assert_equal(loaded, tokenizer)
        assert loaded.config == tokenizer.config
        images = torch.rand(1, 3, 8, 8) * 2 - 1
        codes = tokenizer.encode(images)
        assert torch.equal(loaded.encode(images), codes)
        assert torch.equal(loaded.decode(codes, (2, 2)), tokenizer.decode(codes, (2, 2)))

    def test_a_tokenizer_without_weights(self, tmp_path):
        write(tmp_path / "p", tokenizer=PixelLevels(PixelLevelsConfig(9)))
        assert read(tmp_path / "p", "tokenizer").config == PixelLevelsConfig(9)

    def test_several_parts_and_texts(self, tmp_path, model, tokenizer):
        states = {"model": model.state_dict(), "tokenizer": tokenizer.state_dict()}
        config = {"classes": ["cat", "ä"]}
        checkpoint.save(tmp_path / "a/b", config, states, {"progress.json": "{}\n"})
        names = {file.name for file in (tmp_path / "a/b").iterdir()}
        expected = {"model.safetensors", "tokenizer.safetensors", "progress.json"}
        assert names == expected | {"config.json", "manifest.json"}
        assert checkpoint.verify(tmp_path / "a/b") == config

    def test_views_and_transposes(self, tmp_path):
        """A slice of a larger tensor is stored alone, in its own order."""
        table = torch.arange(24.0).view(4, 6)
        checkpoint.save(tmp_path / "m", {}, {"x": {"slice": table[1:3], "turned": table.mT}})
        loaded = checkpoint.load_tensors(tmp_path / "m", "x")
        assert torch.equal(loaded["slice"], table[1:3])
        assert torch.equal(loaded["turned"], table.mT)

    def test_half_is_half_and_loads_as_float32(self, tmp_path, folder, tokenizer):
        state = checkpoint.half(tokenizer.state_dict())
        config = {"tokenizer": checkpoint.describe(tokenizer, TOKENIZERS)}
        checkpoint.save(tmp_path / "half", config, {"tokenizer": state})
        sizes = [(f / "tokenizer.safetensors").stat().st_size for f in (tmp_path / "half", folder)]
        saved = sum(value.numel() for value in state.values()) * 2
        assert sizes[1] - sizes[0] == pytest.approx(saved, abs=512)
        for name, value in read(tmp_path / "half", "tokenizer").state_dict().items():
            assert value.dtype == torch.float32
            torch.testing.assert_close(value, tokenizer.state_dict()[name], rtol=1e-3, atol=1e-6)

    def test_half_leaves_integers_alone(self):
        state = {"count": torch.tensor([70_000]), "weight": torch.ones(1, dtype=torch.bfloat16)}
        halved = checkpoint.half(state)
        assert halved["count"].dtype == torch.int64
        assert halved["weight"].dtype == torch.float16


class TestVerify:
    @pytest.mark.parametrize("name", ["tokenizer.safetensors", "config.json"])
    @pytest.mark.parametrize("place", [0, 9, -1, 0.5])
    def test_a_flipped_bit_is_refused(self, folder, name, place):
        file = folder / name
        raw = bytearray(file.read_bytes())
        raw[int(len(raw) * place) if isinstance(place, float) else place] ^= 1
        file.write_bytes(raw)
        with pytest.raises(ValueError, match=f"{name} is damaged: its SHA-256 is not"):
            checkpoint.verify(folder)

    @pytest.mark.parametrize("name", ["tokenizer.safetensors", "config.json"])
    def test_a_missing_file(self, folder, name):
        (folder / name).unlink()
        with pytest.raises(ValueError, match=f"vq lacks {name}, which its manifest.json lists"):
            checkpoint.verify(folder)

    def test_a_file_that_vanishes_meanwhile(self, folder, monkeypatch):
        """A run that is training deletes old checkpoints while they are read."""
        listed = checkpoint._listed

        def list_and_delete(*args):
            found = listed(*args)
            shutil.rmtree(folder)
            return found

        monkeypatch.setattr(checkpoint, "_listed", list_and_delete)
        with pytest.raises(ValueError, match=r"cannot read .*vq/config\.json: No such file"):
            checkpoint.verify(folder)

    def test_weights_that_vanish_in_the_middle(self, folder, monkeypatch):
        """Torch calls that a RuntimeError."""

        def lost(file):
            raise RuntimeError(f"unable to open file <{file}> in read-only mode")

        monkeypatch.setattr(checkpoint, "load_file", lost)
        with pytest.raises(ValueError, match=r"tokenizer\.safetensors cannot be read: unable to"):
            checkpoint.load_tensors(folder, "tokenizer")

    @pytest.mark.parametrize("there", [True, False])
    def test_no_model_folder(self, tmp_path, there):
        if there:
            (tmp_path / "empty").mkdir()
        with pytest.raises(ValueError, match=r"empty is no model folder: it has no manifest.json"):
            checkpoint.verify(tmp_path / "empty")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b'{"sha256": {', "is not valid JSON"),
            (b"", "is not valid JSON"),
            (b'{"a": "\xff"}', "is not valid JSON"),
            (b"[" * 100_000, "is not valid JSON"),
            (b"[]", "must hold a JSON object"),
            (b"{}", "has no table `sha256`"),
            (b'{"sha256": []}', "has no table `sha256`"),
            (b'{"sha256": {}}', "does not list config.json"),
        ],
    )
    def test_a_wrong_manifest(self, folder, content, message):
        (folder / "manifest.json").write_bytes(content)
        with pytest.raises(ValueError, match=rf"\A[^\n]*manifest.json {message}[^\n]*\Z"):
            checkpoint.verify(folder)

    def test_the_model_card_may_be_edited(self, tmp_path):
        checkpoint.save(tmp_path / "m", {"a": 1}, {}, {"README.md": "a model"})
        (tmp_path / "m/README.md").write_text("a good model")
        assert checkpoint.verify(tmp_path / "m") == {"a": 1}


class TestCreate:
    @pytest.mark.parametrize(
        ("entry", "kinds", "message"),
        [
            ({"family": "gan"}, FAMILIES, "unknown family 'gan'; known: fmt, decoder-only, var"),
            ({"family": "gan"}, TOKENIZERS, "unknown tokenizer 'gan'; did you mean 'vqgan'?"),
            ({"family": "fmt"}, TOKENIZERS, "unknown tokenizer 'fmt'; known: vqgan, multiscale, "),
            ({}, FAMILIES, "unknown family None"),
            ({"family": ["fmt"]}, FAMILIES, r"unknown family \['fmt'\]"),
            (None, FAMILIES, "must be a JSON object, not None"),
            ("fmt", FAMILIES, "must be a JSON object, not 'fmt'"),
            ({"family": "fmt", "withd": 3}, FAMILIES, "unknown key `withd`; did you mean 'width'?"),
            ({"family": "fmt", "width": "32"}, FAMILIES, "width: Input should be a valid integer"),
            ({"family": "fmt", "width": 30}, FAMILIES, r"`width` \(=30\) must be a multiple"),
            ({"family": "pixels", "levels": 1}, TOKENIZERS, r"`levels` \(=1\) must be at least 2"),
        ],
    )
    def test_refusals(self, entry, kinds, message):
        with pytest.raises(ValueError, match=rf"\Am/config.json: [^\n]*{message}[^\n]*\Z"):
            checkpoint.create(entry, kinds, "m/config.json")

    @pytest.mark.parametrize("kinds", [FAMILIES, TOKENIZERS], ids=["families", "tokenizers"])
    def test_describe_knows_its_families_alone(self, kinds):
        message = rf"\A[^\n]*:Linear is no {kinds.kind}; known: {', '.join(kinds)}\Z"
        with pytest.raises(ValueError, match=message):
            checkpoint.describe(nn.Linear(1, 1), kinds)


class TestLoadStrictly:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"weight": None}, "f lacks the tensor 'weight'"),
            ({"extra": torch.ones(1)}, "f has a tensor 'extra' that the model does not know"),
            ({"bias": torch.ones(4)}, r"f: 'bias' has the shape \(4,\) instead of \(3,\)"),
        ],
    )
    def test_the_first_mismatch_is_named(self, change, message):
        state = {"weight": torch.ones(3, 2), "bias": torch.ones(3), **change}
        given = {name: value for name, value in state.items() if value is not None}
        layer = nn.Linear(2, 3)
        before = layer.weight.clone()
        with pytest.raises(ValueError, match=message):
            checkpoint.load_strictly(layer, given, "f")
        assert torch.equal(layer.weight, before)

    def test_a_file_that_is_no_safetensors(self, tmp_path):
        (tmp_path / "x.safetensors").write_bytes(b"\x10" * 40)
        for part in ("x", "absent"):
            with pytest.raises(
                ValueError, match=rf"\A[^\n]*{part}.safetensors cannot be read[^\n]*\Z"
            ):
                checkpoint.load_tensors(tmp_path, part)


class Died(Exception):
    """The process, at this point."""


def die(*_: object, **__: object) -> None:
    raise Died


class TestReplacing:
    def test_the_new_one_is_complete_and_alone(self, tmp_path, folder, tokenizer):
        (folder / "leftover.txt").write_text("of the older one")
        newer = randomised(vqgan.VQGAN(tokenizer.config), seed=1)
        write(folder, tokenizer=newer)
        assert_equal(read(folder, "tokenizer"), newer)
        assert not (folder / "leftover.txt").exists()
        assert list(tmp_path.iterdir()) == [folder]

    @pytest.mark.parametrize(
        ("owner", "call"),
        [(checkpoint, "save_file"), (checkpoint, "_sha256"), (os, "fsync"), (Path, "rename")],
    )
    def test_dying_before_the_renames_leaves_the_older(
        self, folder, tokenizer, monkeypatch, owner, call
    ):
        newer = randomised(vqgan.VQGAN(tokenizer.config), seed=1)
        with monkeypatch.context() as patch:
            patch.setattr(owner, call, die)
            with pytest.raises(Died):
                write(folder, tokenizer=newer)
        assert_equal(read(folder, "tokenizer"), tokenizer)
        write(folder, tokenizer=newer)
        assert_equal(read(folder, "tokenizer"), newer)

    def test_dying_between_the_renames(self, tmp_path, folder, tokenizer, monkeypatch):
        """Both models are whole under other names; the next call finds the older one again."""
        newer = randomised(vqgan.VQGAN(tokenizer.config), seed=1)
        rename = Path.rename

        def rename_once(path: Path, target: Path) -> None:
            die() if path.name == ".vq.partial" else rename(path, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", rename_once)
            with pytest.raises(Died):
                write(folder, tokenizer=newer)
        assert not folder.exists()
        assert_equal(read(tmp_path / ".vq.old", "tokenizer"), tokenizer)
        assert_equal(read(tmp_path / ".vq.partial", "tokenizer"), newer)
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "save_file", die)
            with pytest.raises(Died):
                write(folder, tokenizer=newer)
        assert_equal(read(folder, "tokenizer"), tokenizer)

    def test_dying_while_the_older_is_deleted(self, tmp_path, folder, tokenizer, monkeypatch):
        newer = randomised(vqgan.VQGAN(tokenizer.config), seed=1)
        rmtree = shutil.rmtree

        def keep_old(path: Path, **options: bool) -> None:
            die() if path.name == ".vq.old" and path.exists() else rmtree(path, **options)

        with monkeypatch.context() as patch:
            patch.setattr(shutil, "rmtree", keep_old)
            with pytest.raises(Died):
                write(folder, tokenizer=newer)
        assert_equal(read(folder, "tokenizer"), newer)
        write(folder, tokenizer=tokenizer)
        assert_equal(read(folder, "tokenizer"), tokenizer)
        assert list(tmp_path.iterdir()) == [folder]

    def test_what_is_no_model_is_left_alone(self, tmp_path, tokenizer):
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis/chapter.txt").write_text("years of work")
        for place in (tmp_path / "thesis", tmp_path / "thesis/chapter.txt"):
            with pytest.raises(ValueError, match="exists and is no model folder"):
                write(place, tokenizer=tokenizer)
        assert (tmp_path / "thesis/chapter.txt").read_text() == "years of work"
        assert list(tmp_path.iterdir()) == [tmp_path / "thesis"]

    def test_an_error_leaves_nothing_beside(self, tmp_path, folder, tokenizer, monkeypatch):
        def full(*_: object) -> None:
            raise SafetensorError("Error while serializing: I/O error: No space left (os error 28)")

        newer = randomised(vqgan.VQGAN(tokenizer.config), seed=1)
        monkeypatch.setattr(checkpoint, "save_file", full)
        with pytest.raises(OSError, match=r"\Acannot write [^\n]*safetensors: [^\n]*No space left"):
            write(folder, tokenizer=newer)
        assert list(tmp_path.iterdir()) == [folder]
        assert_equal(read(folder, "tokenizer"), tokenizer)

    def test_an_empty_folder_is_filled(self, tmp_path, tokenizer):
        (tmp_path / "new").mkdir()
        write(tmp_path / "new", tokenizer=tokenizer)
        assert_equal(read(tmp_path / "new", "tokenizer"), tokenizer)

    def test_a_link_stays_a_link(self, tmp_path, folder, tokenizer):
        (tmp_path / "link").symlink_to(folder)
        newer = randomised(vqgan.VQGAN(tokenizer.config), seed=1)
        write(tmp_path / "link", tokenizer=newer)
        assert (tmp_path / "link").is_symlink()
        assert_equal(read(folder, "tokenizer"), newer)


def test_files_are_readable_by_others(folder):
    umask = os.umask(0)
    os.umask(umask)
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o666 & ~umask}


@pytest.mark.parametrize(("call", "code"), [("open", errno.EACCES), ("fsync", errno.EINVAL)])
def test_where_folders_cannot_be_flushed_models_are_saved(
    tmp_path, tokenizer, monkeypatch, call, code
):
    """On Windows and on some shares."""
    real = getattr(os, call)

    def refuse(what: int | str | Path, *rest: int) -> int | None:
        if stat.S_ISDIR(os.stat(what).st_mode):
            raise OSError(code, os.strerror(code))
        return real(what, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        write(tmp_path / "vq", tokenizer=tokenizer)
    assert_equal(read(tmp_path / "vq", "tokenizer"), tokenizer)


def test_integers_keep_their_value(tmp_path):
    """A float32 holds no whole number above 2**24 exactly."""

    kinds: Table[type[nn.Module]] = Table("counter")

    @kinds.register("counter")
    class Counter(PixelLevels):
        def __init__(self, config: PixelLevelsConfig) -> None:
            super().__init__(config)
            self.register_buffer("count", torch.tensor(0))

    count: Tensor = torch.tensor(2**24 + 1)
    checkpoint.save(tmp_path / "c", {}, {"x": {"count": count}})
    loaded = checkpoint.load_module(tmp_path / "c", "x", {"family": "counter"}, kinds)
    assert torch.equal(loaded.count, count)


def test_only_the_wanted_parts_are_checked(tmp_path):
    tensors = {"model": {"a": torch.ones(3)}, "extra": {"b": torch.ones(3)}}
    checkpoint.save(tmp_path / "m", {"x": 1}, tensors)
    damaged = tmp_path / "m" / "extra.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    assert checkpoint.verify(tmp_path / "m", ("model",)) == {"x": 1}
    with pytest.raises(ValueError, match=r"extra.safetensors is damaged"):
        checkpoint.verify(tmp_path / "m", ("model", "extra"))


def with_sums(folder: Path) -> Path:
    """Make the manifest of what is there, as whoever wrote the files could have."""
    files = [file for file in folder.iterdir() if file.name != "manifest.json"]
    sums = {file.name: sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()}
    (folder / "manifest.json").write_text(json.dumps({"sha256": sums}))
    return folder


def header(entries: dict, data: bytes = b"") -> bytes:
    """A safetensors file with this header."""
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + data


class TestHostile:
    """Files that nobody wrote by mistake; a checksum does not help, it is theirs as well."""

    def test_a_part_that_the_manifest_does_not_list(self, folder):
        manifest = json.loads((folder / "manifest.json").read_text())
        del manifest["sha256"]["tokenizer.safetensors"]
        (folder / "manifest.json").write_text(json.dumps(manifest))
        entry = checkpoint.verify(folder)["tokenizer"]
        with pytest.raises(ValueError, match=r"does not list tokenizer.safetensors\Z"):
            checkpoint.verify(folder, ["tokenizer"])
        with pytest.raises(ValueError, match=r"does not list tokenizer.safetensors\Z"):
            checkpoint.load_module(folder, "tokenizer", entry, TOKENIZERS)

    @pytest.mark.parametrize("name", ["../vq/config.json", "a/../config.json", "", ".", "/etc"])
    def test_a_manifest_that_points_elsewhere(self, folder, name):
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["sha256"][name] = "0"
        (folder / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(ValueError, match=r"\A[^\n]*(is no file in it|no regular file)\Z"):
            checkpoint.verify(folder)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
    @pytest.mark.parametrize("name", ["config.json", "manifest.json", "tokenizer.safetensors"])
    def test_what_is_no_regular_file_is_not_opened(self, folder, name):
        """Whoever reads a pipe waits for ever."""
        entry = checkpoint.verify(folder)["tokenizer"]
        (folder / name).unlink()
        os.mkfifo(folder / name)
        for read in (
            lambda: checkpoint.verify(folder, ["tokenizer"]),
            lambda: checkpoint.load_module(folder, "tokenizer", entry, TOKENIZERS),
        ):
            with pytest.raises(ValueError, match=rf"{name} is no regular file\Z"):
                read()

    def test_links_are_followed(self, folder, tmp_path, tokenizer):
        """The cache of the hub consists of them."""
        (tmp_path / "blobs").mkdir()
        for file in list(folder.iterdir()):
            file.rename(tmp_path / "blobs" / file.name)
            file.symlink_to(tmp_path / "blobs" / file.name)
        assert_equal(read(folder, "tokenizer"), tokenizer)

    def test_a_config_of_any_size_is_not_read(self, folder):
        with (folder / "config.json").open("wb") as stream:
            stream.truncate(2**40)  # a hole
        with pytest.raises(ValueError, match=r"has 1099511627776 bytes; at most \d+ are read\Z"):
            checkpoint.read_json(folder / "config.json")

    @pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "9" * 5000])
    def test_numbers_that_json_does_not_have(self, folder, number):
        (folder / "config.json").write_text(f'{{"a": {number}}}')
        with pytest.raises(ValueError, match="is not valid JSON"):
            checkpoint.read_json(folder / "config.json")

    @pytest.mark.parametrize("length", [2**24 + 1, 10**8, 2**63, 2**64 - 1])
    def test_a_header_of_any_length(self, folder, length):
        file, entry = folder / "tokenizer.safetensors", checkpoint.verify(folder)["tokenizer"]
        file.write_bytes(length.to_bytes(8, "little") + b"{" * 100)
        for call in (
            lambda: checkpoint.load_module(with_sums(folder), "tokenizer", entry, TOKENIZERS),
            lambda: checkpoint.read_tensors(file),
        ):
            with pytest.raises(ValueError, match=rf"\A[^\n]*its header has {length} bytes\Z"):
                call()

    @pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.complex64, torch.bool])
    def test_weights_that_are_no_floats(self, folder, tokenizer, dtype):
        state = {name: value.clone() for name, value in tokenizer.state_dict().items()}
        state["codebook.weight"] = state["codebook.weight"].to(dtype)
        save_file(state, folder / "tokenizer.safetensors")
        with pytest.raises(ValueError, match=r"'codebook.weight' must hold floats, not '\w+'\Z"):
            read(with_sums(folder), "tokenizer")

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_other_floats_become_float32(self, folder, tokenizer, dtype):
        state = {name: value.to(dtype) for name, value in tokenizer.state_dict().items()}
        save_file(state, folder / "tokenizer.safetensors")
        loaded = read(with_sums(folder), "tokenizer")
        assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32}

    def test_shapes_are_compared_before_anything_is_read(self, folder, monkeypatch):
        """A config of a huge model beside a small file, and the other way round."""
        file, entry = folder / "tokenizer.safetensors", checkpoint.verify(folder)["tokenizer"]
        monkeypatch.setattr(checkpoint, "_sha256", die)
        monkeypatch.setattr(checkpoint, "load_file", die)
        huge = {**entry, "channels": 2**14, "multipliers": [1] * 12, "blocks": 16}
        with pytest.raises(ValueError, match=r"lacks the tensor|has the shape"):
            checkpoint.load_module(folder, "tokenizer", huge, TOKENIZERS)
        name, size = "codebook.weight", 2**36
        with file.open("wb") as stream:
            stream.write(
                header({name: {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}})
            )
            stream.truncate(stream.tell() + size)
        with pytest.raises(ValueError, match="lacks the tensor"):
            checkpoint.load_module(folder, "tokenizer", entry, TOKENIZERS)

    def test_a_family_that_computes_with_its_weights_is_made_as_well(self, tmp_path):
        """A plugin need not know of tensors without content."""
        kinds: Table[type[nn.Module]] = Table("counter")

        @kinds.register("counter")
        class Counter(PixelLevels):
            def __init__(self, config: PixelLevelsConfig) -> None:
                super().__init__(config)
                self.register_buffer("count", torch.tensor(3))
                self.double = 2 * self.count.item()

        checkpoint.save(tmp_path / "c", {}, {"x": {"count": torch.tensor(5)}})
        loaded = checkpoint.load_module(tmp_path / "c", "x", {"family": "counter"}, kinds)
        assert (loaded.count, loaded.double) == (5, 6)


@pytest.mark.parametrize(
    "content",
    [
        header({"a": {"dtype": "F32", "shape": [10**30], "data_offsets": [0, 4]}}),
        header({"codebook.weight": {"dtype": ["F32"], "shape": [32, 8], "data_offsets": [0, 0]}}),
        header({"codebook.weight": {"dtype": "F32", "shape": 3}}),
        header({"codebook.weight": 3}),
        header({"codebook.weight": {}}),
        header([]),
        b"",
        b"\x02",
        b"\x02" + bytes(7) + b"[]",
        (10**6).to_bytes(8, "little") + b"[" * 10**6,
    ],
    ids=range(10),
)
def test_headers_that_are_none(folder, content):
    entry = checkpoint.verify(folder)["tokenizer"]
    (folder / "tokenizer.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"\A[^\n]{1,400}\Z"):
        checkpoint.load_module(with_sums(folder), "tokenizer", entry, TOKENIZERS)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory, tokenizer) -> tuple[Path, bytes]:
    """A model folder and the right bytes of its weights."""
    folder = tmp_path_factory.mktemp("damaged") / "m"
    write(folder, tokenizer=tokenizer)
    return folder, (folder / "tokenizer.safetensors").read_bytes()


@settings(max_examples=60)
@given(data=st.data())
def test_any_damage_of_weights_is_one_line(damaged, data):
    """Bytes changed and cut, and the checksum made anew."""
    folder, right = damaged
    raw = bytearray(right)
    for place in data.draw(st.lists(st.integers(0, 9000), max_size=3)):
        raw[place] = data.draw(st.integers(0, 255))
    end = data.draw(st.sampled_from([len(raw), len(raw), 0, 7, 8, 100, len(raw) - 1]))
    (folder / "tokenizer.safetensors").write_bytes(raw[:end])
    message = ""
    try:
        read(with_sums(folder), "tokenizer")
    except ValueError as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 1000
