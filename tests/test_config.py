import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from setar.config import (
    CONFIGS,
    build,
    find_config,
    read_toml,
    shipped_configs,
    table,
)


@dataclass(frozen=True)
class Inner:
    steps: int = 10
    rate: float = 0.1
    sizes: tuple[int, ...] = (1, 2)
    compile: bool = False
    mode: Literal["fast", "exact"] = "fast"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"`steps` (={self.steps}) must be at least 1")


@dataclass(frozen=True)
class Outer:
    name: str
    loop: Inner = field(default_factory=Inner)
    other: Inner | None = None
    limits: tuple[float, float] = (0.0, 1.0)
    family: ClassVar[str] = "no key"


def refusal(values: dict, source: str = "config") -> str:
    """The message, which must be one line."""
    with pytest.raises(ValueError, match=r"\A[^\n\r]+\Z") as error:
        build(Outer, values, source)
    return str(error.value)


class TestBuild:
    def test_reads_what_toml_gives(self):
        values = {
            "name": "x",
            "loop": {"steps": 3, "rate": 2, "sizes": [4, 5], "compile": True, "mode": "exact"},
            "limits": [0, 0.5],
        }
        made = build(Outer, values)
        assert made == Outer("x", Inner(3, 2.0, (4, 5), True, "exact"), None, (0.0, 0.5))
        assert isinstance(made.loop.rate, float)
        assert isinstance(made.loop.sizes, tuple)

    def test_defaults_and_optional_tables(self):
        assert build(Outer, {"name": "x"}) == Outer("x")
        assert build(Outer, {"name": "x", "other": {"steps": 2}}).other == Inner(2)
        assert build(Outer, {"name": "x", "other": None}).other is None

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"nam": "x"}, "unknown key `nam`; did you mean 'name'?"),
            ({"zzz": 1}, "unknown key `zzz`; known: name, loop, other, limits"),
            ({"family": "x"}, "unknown key `family`"),
            ({"loop": {"step": 1}}, "loop: unknown key `step`; did you mean 'steps'?"),
            ({"other": {"ratee": 1}}, "other: unknown key `ratee`; did you mean 'rate'?"),
            ({"a\nb\r\x0b": 1}, "unknown key `a b `"),
            ({3: 1}, "unknown key `3`"),
        ],
    )
    def test_unknown_key_names_the_nearest(self, values, message):
        assert message in refusal({"name": "x", **values})

    @pytest.mark.parametrize(
        ("values", "where"),
        [
            ({"steps": 3.0}, "steps"),
            ({"steps": True}, "steps"),
            ({"steps": "3"}, "steps"),
            ({"steps": 2**63}, "steps"),
            ({"steps": -(10**400)}, "steps"),
            ({"rate": "0.1"}, "rate"),
            ({"rate": False}, "rate"),
            ({"rate": float("nan")}, "rate"),
            ({"rate": float("-inf")}, "rate"),
            ({"rate": 10**400}, "rate"),
            ({"compile": 1}, "compile"),
            ({"compile": "true"}, "compile"),
            ({"sizes": 3}, "sizes"),
            ({"sizes": [1, "2"]}, "sizes.1"),
            ({"sizes": [1.5]}, "sizes.0"),
            ({"sizes": {"a": 1}}, "sizes"),
            ({"mode": "slow"}, "mode"),
            ({"steps": None}, "steps"),
        ],
    )
    def test_nothing_is_converted(self, values, where):
        message = refusal({"name": "x", "loop": values}, "run.toml")
        assert message.startswith("run.toml: loop")
        assert where in message

    def test_the_wrong_value_is_shown_and_cut(self):
        assert refusal({"name": "x", "loop": {"steps": "a\nb"}}).endswith(r", got 'a\nb'")
        assert len(refusal({"name": "x", "loop": {"steps": "a" * 10_000}})) < 200

    def test_missing_key(self):
        assert refusal({}) == "config: missing key `name`"

    def test_wrong_length(self):
        assert "limits" in refusal({"name": "x", "limits": [0.0]})
        assert "limits" in refusal({"name": "x", "limits": [0.0, 0.5, 1.0]})

    def test_a_value_in_the_place_of_a_table(self):
        assert "loop" in refusal({"name": "x", "loop": 3})

    def test_the_rule_of_the_class_itself(self):
        message = refusal({"name": "x", "loop": {"steps": 0}})
        assert message == "config: loop: `steps` (=0) must be at least 1"

    @pytest.mark.parametrize("value", [object(), {1, 2}, b"x", Path("x")])
    def test_values_of_no_file_format(self, value):
        assert "neither TOML nor JSON knows" in refusal({"name": value})

    def test_endless_nesting(self):
        deep: list = []
        for _ in range(100_000):
            deep = [deep]
        assert "nested too deeply" in refusal({"name": deep})
        while deep:  # or its destruction would overflow the stack
            deep = deep[0]


@dataclass(frozen=True)
class Text:
    """A config that is written as a text, not field by field."""

    words: tuple[str, ...]

    @classmethod
    def from_table(cls, value: Any, where: str) -> "Text":
        if not isinstance(value, str):
            raise ValueError(f"{where} must be text")
        return cls(tuple(value.split("-")))

    def to_table(self) -> str:
        return "-".join(self.words)


@dataclass(frozen=True)
class Nested:
    text: Text
    inner: Inner = field(default_factory=Inner)
    more: Text | None = None


class TestOwnTables:
    def test_a_class_reads_its_own_table(self):
        made = build(Nested, {"text": "a-b", "more": "c"})
        assert made == Nested(Text(("a", "b")), Inner(), Text(("c",)))
        assert build(Text, "a-b") == Text(("a", "b"))
        assert build(Nested, {"text": "a", "more": None}).more is None

    def test_it_is_told_where_its_table_is(self):
        with pytest.raises(ValueError, match=r"\Arun.toml: text must be text\Z"):
            build(Nested, {"text": 3}, "run.toml")
        with pytest.raises(ValueError, match=r"\Arun.toml: a.b.more must be text\Z"):
            build(Nested, {"text": "a", "more": 3}, "run.toml", "a.b")

    def test_a_table_is_the_inverse(self):
        values = {
            "text": "a-b",
            "inner": {
                "steps": 3,
                "rate": 0.5,
                "sizes": [4, 5],
                "compile": True,
                "mode": "exact",
            },
            "more": None,
        }
        made = build(Nested, values)
        assert table(made) == values
        assert build(Nested, json.loads(json.dumps(table(made)))) == made


class TestShipped:
    def test_every_file_is_one(self):
        assert shipped_configs() == sorted(file.stem for file in CONFIGS.iterdir())
        assert {"digits", "emoji", "emoji-tokenizer"} <= {*shipped_configs()}

    @pytest.mark.parametrize(
        "text", ["digits", "digits.toml", "configs/digits", "configs/digits.toml"]
    )
    def test_names_work_anywhere(self, text, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert find_config(text) == CONFIGS / "digits.toml"

    def test_a_file_of_ones_own_goes_first(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "configs").mkdir()
        (tmp_path / "configs/digits.toml").write_text("mine")
        assert find_config("configs/digits.toml").read_text() == "mine"
        assert find_config("digits.toml") == CONFIGS / "digits.toml"
        assert find_config(str(tmp_path / "configs/digits.toml")).read_text() == "mine"

    def test_a_folder_is_no_config(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "digits").mkdir()
        assert find_config("digits") == CONFIGS / "digits.toml"

    def test_other_files_are_left_to_be_read(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "run.txt").write_text("")
        assert find_config("run.txt") == Path("run.txt")
        assert find_config("nowhere/digits.toml") == Path("nowhere/digits.toml")

    @pytest.mark.parametrize(
        ("text", "hint"),
        [("digit", "did you mean 'digits'?"), ("zzz", "known: "), ("", "known: ")],
    )
    def test_unknown_names(self, text, hint, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ValueError, match=rf"\A'{text}' does not exist: [^\n]+\Z") as error:
            find_config(text)
        assert hint in str(error.value)


class TestReadToml:
    @pytest.fixture
    def file(self, tmp_path) -> Path:
        file = tmp_path / "run.toml"
        file.write_text('name = "ä"\nseed = 3\n[loop]\nsteps = 5\n', encoding="utf-8")
        return file

    def test_overrides_change_and_add(self, file):
        overrides = ["loop.steps=7", "loop.mode = exact", "other.sizes=[1, 2]", "seed=1e-3"]
        assert read_toml(file, overrides) == {
            "name": "ä",
            "seed": 1e-3,
            "loop": {"steps": 7, "mode": "exact"},
            "other": {"sizes": [1, 2]},
        }

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("true", True),
            ('"3"', "3"),
            ("-3", -3),
            ("1.5", 1.5),
            ("", ""),
            ("random-16-cosine", "random-16-cosine"),
            ("a=b", "a=b"),
            ("1\nseed = 4", "1\nseed = 4"),
            ("[1, 2", "[1, 2"),
            ("9" * 5000, "9" * 5000),
            ("[" * 20_000, "[" * 20_000),
        ],
    )
    def test_override_is_toml_or_else_text(self, file, text, value):
        assert read_toml(file, [f"name={text}"]) == {"name": value, "seed": 3, "loop": {"steps": 5}}

    @pytest.mark.parametrize("override", ["", "loop.steps", "=3", "loop.=3", ".steps=3", "a..b=3"])
    def test_not_an_override(self, file, override):
        with pytest.raises(ValueError, match="an override reads key=value"):
            read_toml(file, [override])

    def test_a_value_is_no_table(self, file):
        with pytest.raises(ValueError, match="'seed' is a value, not a table"):
            read_toml(file, ["seed.steps=3"])

    @pytest.mark.parametrize(
        "content",
        [
            b"steps = ",
            b"steps = 1\nsteps = 2",
            b"[a",
            b"a = " + b"[" * 20_000,
            b"a = " + b"9" * 5000,
        ],
    )
    def test_not_toml(self, tmp_path, content):
        (tmp_path / "run.toml").write_bytes(content)
        with pytest.raises(ValueError, match=r"\A[^\n]*run.toml is not valid TOML: [^\n]+\Z"):
            read_toml(tmp_path / "run.toml")

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
    def test_a_pipe_is_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "run.toml")
        with pytest.raises(ValueError, match="it is no regular file"):
            read_toml(tmp_path / "run.toml")

    def test_a_file_of_any_size_is_not_read(self, tmp_path):
        with (tmp_path / "run.toml").open("wb") as stream:
            stream.truncate(2**40)  # a hole
        with pytest.raises(ValueError, match="more than 1048576 bytes"):
            read_toml(tmp_path / "run.toml")

    def test_unreadable(self, tmp_path):
        (tmp_path / "latin.toml").write_bytes("name = 'ä'".encode("latin-1"))
        for path in (tmp_path, tmp_path / "none.toml", tmp_path / "latin.toml"):
            with pytest.raises(ValueError, match=r"\Acannot read the config [^\n]+\Z"):
                read_toml(path)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("config") / "run.toml"
    file.write_text('name = "x"\n[loop]\nsteps = 5\n')
    return file


KEYS = st.sampled_from(["name", "loop", "loop.steps", "loop.rate", "loop.sizes", "limits", "other"])
VALUES = st.one_of(
    st.text(max_size=12),
    st.integers().map(str),
    st.floats().map(str),
    st.lists(st.integers()).map(str),
    st.sampled_from(["{steps = 2}", "{}", "1979-05-27", "07:32:00", "nan", "1e999", "[[]]", "'''"]),
)


@settings(max_examples=300)
@given(overrides=st.lists(st.tuples(KEYS | st.text(max_size=8), VALUES).map("=".join), max_size=3))
@example(overrides=["loop.steps=" + "[" * 5000])
@example(overrides=["\ud800=1"])
@example(overrides=["name=\ud800"])
@example(overrides=["limits=[" + "1" * 400 + ", 1]"])
def test_overrides_build_or_are_refused_in_one_line(base, overrides):
    refusals = []
    try:
        made = build(Outer, read_toml(base, overrides), str(base))
    except ValueError as error:
        refusals.append(str(error))
    else:
        assert isinstance(made.name, str)
        assert made.loop.steps >= 1
        assert all(isinstance(limit, float) and abs(limit) < 2**64 for limit in made.limits)
    assert all(len(message.splitlines()) == 1 for message in refusals)
