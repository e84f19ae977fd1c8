"""Tables: every entry loads, knows its name, and is refused a second time."""

import pytest

from entries import TABLES
from setar.registry import Table

ENTRIES = [(kind, name) for kind, table in TABLES.items() for name in table]


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_every_entry_is_found_by_its_name(kind, name):
    table = TABLES[kind]
    entry = table.find(name)
    assert name in table
    assert table.find(name) is entry
    if kind not in ("metric", "guidance", "order", "schedule"):
        assert table.name_of(entry) == name
    described = getattr(entry, "function", entry)
    assert described.__doc__ or name.startswith(("constant", "linear", "power", "var")) or kind in (
        "metric", "guidance", "tokenizer",
    )  # fmt: skip


@pytest.mark.parametrize("kind", TABLES)
def test_a_wrong_name_is_one_line_with_the_nearest(kind):
    table = TABLES[kind]
    first = next(iter(table))
    with pytest.raises(ValueError, match=r"\A[^\n]*did you mean[^\n]*\Z") as error:
        table.find(f"{first}x")
    assert repr(first) in str(error.value)
    for wrong in ("", "\n", "x" * 10_000, None, 3, ["fmt"]):
        with pytest.raises(ValueError, match=r"\Aunknown [^\n]*\Z") as error:
            table.find(wrong)
        assert len(str(error.value)) < 1200


@pytest.mark.parametrize("kind", TABLES)
def test_a_name_belongs_to_one_thing(kind):
    table = TABLES[kind]
    name = next(iter(table))

    def other():
        pass

    if table.of is not None:
        with pytest.raises(ValueError, match="register it with the decorator"):
            table.add("of-another-kind", other)
        other = table.find([*table][1])
    with pytest.raises(ValueError, match="is already registered by"):
        table.add(name, other)
    for malformed in ("", "Upper", "two words", "-x", "x" * 41, "1x", None):
        with pytest.raises(ValueError, match="must be lower-case words joined by hyphens"):
            table.add(malformed, other)


def test_the_example_plugins_fill_every_table():
    assert {kind for kind, name in ENTRIES if TABLES[kind].plugin_of(name)} == {*TABLES}
    assert TABLES["family"].plugin_of("deep-sets") == "plugin.py"
    assert TABLES["family"].plugin_of("fmt") == ""


def test_a_lazy_entry_is_imported_when_it_is_found(tmp_path, monkeypatch):
    (tmp_path / "a_room_of_its_own.py").write_text("class Thing:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    table: Table[type] = Table("thing", {"thing": "a_room_of_its_own:Thing"})
    import sys

    assert "a_room_of_its_own" not in sys.modules
    kind = table.find("thing")
    assert kind.__name__ == "Thing"
    assert table.name_of(kind) == "thing"
    with pytest.raises(ValueError, match="is no thing"):
        table.name_of(int)


def test_classes_of_one_factory_are_told_apart():
    def made():
        class Made:
            pass

        return Made

    table: Table[type] = Table("thing")
    first, second = made(), made()
    table.add("first", first)
    table.add("second", second)
    assert [table.name_of(kind) for kind in (first, second)] == ["first", "second"]
