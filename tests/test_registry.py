"""Plugins: files that the user names, and packages that are installed."""

import sys
from importlib.metadata import EntryPoint

import pytest

from setar import registry
from setar.recipes.orders import ORDERS
from setar.recipes.recipe import Recipe
from setar.registry import Table, did_you_mean, load_plugin, load_plugins, quoted, require_plugins

CODE = """
import torch
import setar

@setar.register_order("{name}")
def order(height, width):
    return torch.arange(height * width).flip(0)
"""


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """Whatever a test registers is forgotten after it."""
    monkeypatch.setattr(ORDERS, "_entries", dict(ORDERS._entries))
    monkeypatch.setattr(ORDERS, "_plugins", dict(ORDERS._plugins))
    monkeypatch.setattr(registry, "_files", dict(registry._files))
    monkeypatch.setattr(registry, "_installed", set(registry._installed))
    monkeypatch.setattr(registry, "_failures", [])
    monkeypatch.setattr(registry, "_looked", registry._looked)


@pytest.fixture
def plugin(tmp_path):
    def write(name="mine.py", code="", folder=""):
        code = code or CODE.format(name="mine")
        file = tmp_path / folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(code)
        return file

    return write


def test_a_file_registers_what_it_defines(plugin):
    with pytest.raises(ValueError, match="unknown order 'mine'"):
        Recipe.parse("mine-4-uniform")
    assert load_plugin(plugin()) == "mine.py"
    assert Recipe.parse("mine-4-uniform").plan((2, 2)).order.tolist() == [[3, 2, 1, 0]]
    assert ORDERS.plugin_of("mine") == "mine.py"
    assert registry.plugin_files()[-1].name == "mine.py"
    require_plugins(["mine.py"], "a model")


def test_a_file_is_run_once(plugin):
    file = plugin(
        code="import setar.registry\nsetar.registry.RUNS = getattr(setar.registry, 'RUNS', 0) + 1"
    )
    for _ in range(3):
        load_plugin(file)
    assert vars(registry).pop("RUNS") == 1
    other = plugin(folder="other")
    with pytest.raises(ValueError, match=r"are both called mine\.py"):
        load_plugin(other)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("1 +", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        (CODE.format(name="Wrong Name"), "must be lower-case words joined by hyphens"),
        (
            CODE.format(name="raster"),
            "'raster' is already registered by setar.recipes",
        ),
    ],
)
def test_a_plugin_that_fails_says_why_in_one_line(plugin, code, reason):
    with pytest.raises(ValueError, match=r"\Athe plugin [^\n]*mine\.py failed: [^\n]*\Z") as error:
        load_plugin(plugin(code=code))
    assert reason in str(error.value)
    assert registry._running == []


def test_files_that_are_none(tmp_path, plugin):
    for wrong in (tmp_path, tmp_path / "nowhere.py", ""):
        with pytest.raises(ValueError, match="does not exist"):
            load_plugin(wrong)
    with pytest.raises(ValueError, match=r"must be a Python file, ending in \.py"):
        load_plugin(plugin("notes.txt", "hello"))


def test_a_config_finds_its_plugins_beside_itself_or_here(plugin, tmp_path, monkeypatch):
    plugin(folder="configs")
    load_plugins(["mine.py"], tmp_path / "configs")
    plugin("here.py", CODE.format(name="here"))
    monkeypatch.chdir(tmp_path)
    load_plugins(["here.py"], tmp_path / "configs")
    assert {"mine", "here"} <= {*ORDERS}
    with pytest.raises(ValueError, match=r"the plugin nowhere\.py does not exist"):
        load_plugins(["nowhere.py"], tmp_path / "configs")
    (tmp_path / "here.py").unlink()
    load_plugins(["here.py"], tmp_path / "configs")  # loaded from another place before


def installed(monkeypatch, *points):
    monkeypatch.setattr(registry, "_looked", False)
    monkeypatch.setattr(registry, "entry_points", lambda group: points)


def test_an_installed_plugin_is_loaded_when_a_name_is_not_known(plugin, tmp_path, monkeypatch):
    plugin("a_package.py", CODE.format(name="installed"))
    monkeypatch.syspath_prepend(tmp_path)
    installed(monkeypatch, EntryPoint("a-package", "a_package", registry.GROUP))
    assert Recipe.parse("raster-4-uniform")
    assert "a_package" not in sys.modules
    assert Recipe.parse("installed-4-uniform")
    assert ORDERS.plugin_of("installed") == "a-package"
    require_plugins(["a-package"], "a model")


def test_an_installed_plugin_that_fails_is_named_and_spoils_nothing(plugin, tmp_path, monkeypatch):
    plugin("good_package.py", CODE.format(name="good"))
    monkeypatch.syspath_prepend(tmp_path)
    broken = EntryPoint("broken", "nowhere_at_all", registry.GROUP)
    installed(monkeypatch, broken, EntryPoint("good", "good_package", registry.GROUP))
    assert Recipe.parse("good-4-uniform")
    with pytest.raises(
        ValueError,
        match=r"\Aunknown order [^\n]*the plugin broken \(nowhere_at_all\) failed: [^\n]*\Z",
    ):
        Recipe.parse("not-known-4-uniform")


@pytest.mark.parametrize("name", ["other.py", "../mine.py", "a\nb"])
def test_a_plugin_that_is_not_loaded_is_asked_for(name):
    with pytest.raises(
        ValueError, match=r"\Amodels/x needs the plugin '[^\n]*--plugin FILE[^\n]*\Z"
    ):
        require_plugins([name], "models/x")


def test_a_table_refuses_without_plugins_too():
    table: Table[int] = Table("number", {"one": "math:pi"})
    assert table.find("one") == pytest.approx(3.14159, abs=1e-5)
    with pytest.raises(ValueError, match="unknown number 'two'; known: one"):
        table.find("two")


def test_the_nearest_names():
    assert did_you_mean("rastr", ["raster", "roll"]) == "did you mean 'raster'?"
    assert did_you_mean("cat-fac", ["cat-face", "cat-paw"], 2) == (
        "did you mean 'cat-face' or 'cat-paw'?"
    )
    assert did_you_mean("zzz", ["a", "b"]) == "known: a, b"
    assert did_you_mean("zzz", map(str, range(1000))).endswith("39, ...")
    assert quoted("ä\n") == r"'\xe4\n'"
    assert len(quoted("ä" * 100_000)) < 70


def test_what_a_lazy_entry_registers_is_its_plugins(plugin, tmp_path, monkeypatch):
    plugin("lazy_things.py", CODE.format(name="lazy"))
    code = "from setar.recipes.orders import ORDERS\nORDERS.add('lazy', 'lazy_things:order')"
    plugin("lazy_package.py", code)
    monkeypatch.syspath_prepend(tmp_path)
    installed(monkeypatch, EntryPoint("lazy-package", "lazy_package", registry.GROUP))
    assert Recipe.parse("lazy-4-uniform")
    assert ORDERS.plugin_of("lazy") == "lazy-package"
    assert ORDERS.plugin_of("raster") == ""


def test_a_link_keeps_the_name_that_the_user_gave(plugin, tmp_path):
    (tmp_path / "link.py").symlink_to(plugin())
    assert load_plugin(tmp_path / "link.py") == "link.py"
    require_plugins(["link.py"], "a model")
