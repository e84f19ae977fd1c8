"""Classes as a user writes them: names with commas, ids, other scripts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setar.classes import Classes

NAMES = ("tench, Tinca tinca", "猫", "dog", "42", "a, b", "b, c", "a", "sky & sea", "caf\u00e9")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("tench, Tinca tinca", ["tench, Tinca tinca"]),
        ("dog,tench, Tinca tinca, 猫", ["dog", "tench, Tinca tinca", "猫"]),
        (" dog ,, dog,", ["dog", "dog"]),
        ("42", ["42"]),
        ("2,0", ["dog", "tench, Tinca tinca"]),
        ("a, b", ["a, b"]),
        ("a, b, c", ["a", "b, c"]),
        ("a, b,b, c", ["a, b", "b, c"]),
        ("cafe\u0301", ["caf\u00e9"]),
    ],
)
def test_texts_are_read(text, names):
    assert [NAMES[index] for index in Classes(NAMES).ids(text)] == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dgo", "unknown class 'dgo'; did you mean 'dog'"),
        ("dog,dgo", "unknown class 'dgo'; did you mean 'dog'"),
        ("dog, b", "unknown class 'b'"),
        ("dog,9", r"class id 9 is not in 0\.\.8"),
        ("9" * 5000, r"class id 9{60} is not in 0\.\.8"),
        ("²", "unknown class '²'"),
        (",", "there is no class in ','"),
        (" ", "there is no class in ' '"),
    ],
)
def test_unknown_classes(text, message):
    with pytest.raises(ValueError, match=message):
        Classes(NAMES).ids(text)


def test_one_class_is_taken_whole():
    assert Classes(NAMES).id("tench, Tinca tinca") == 0
    assert Classes(NAMES).id("42") == 3
    assert Classes(NAMES).id(" 2 ") == 2
    with pytest.raises(ValueError, match="unknown class 'a,b'"):
        Classes(NAMES).id("a,b")


def test_names_that_several_classes_have():
    names = ["cat", "caf\u00e9", "cafe\u0301", "dog"]
    for read in (Classes(names).id, Classes(names).ids):
        with pytest.raises(ValueError, match="several classes are called 'café': give an id, 1, 2"):
            read("caf\u00e9")
    assert Classes(names).ids("1,dog") == [1, 3]


def ways(pieces, names):
    """In how many ways neighbours of these pieces can be joined to names."""
    if not pieces:
        return 1
    firsts = range(1, len(pieces) + 1)
    return sum(
        ways(pieces[end:], names) for end in firsts if ",".join(pieces[:end]).strip() in names
    )


words = st.text("ab ,", min_size=1, max_size=6).filter(lambda w: w.strip() == w and w.strip(","))


@given(st.data())
def test_what_can_be_read_in_one_way_comes_back(data):
    names = data.draw(st.lists(words, min_size=1, max_size=6, unique=True))
    chosen = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=4))
    text = ",".join(chosen)
    read = [names[index] for index in Classes(names).ids(text)]
    only = ways(text.split(","), names) == 1 and not any(not p.strip() for p in text.split(","))
    assert read == chosen or not only


@given(st.lists(st.text(max_size=8), max_size=5, unique=True), st.text(max_size=30))
def test_any_text_is_read_or_refused(names, text):
    try:
        found = Classes(names).ids(text)
    except ValueError:
        return
    assert found
    assert all(0 <= index < len(names) for index in found)


def test_a_thousand_classes_are_read_at_once():
    names = [f"n{i:08d}, synonym {i}" for i in range(1000)]
    assert Classes(names).ids(", ".join(names)) == list(range(1000))
