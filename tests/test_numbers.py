import numpy as np
import pytest
import torch

from setar.numbers import as_real, as_whole, counted, whole

WHOLE = [
    3,
    np.int64(3),
    np.uint8(3),
    np.array(3),
    torch.tensor(3),
    torch.tensor(3, dtype=torch.uint8),
]
NO_WHOLE = [
    True,
    np.bool_(True),
    np.array(True),
    torch.tensor(True),
    3.0,
    np.float32(3),
    torch.tensor(3.0),
    "3",
    b"3",
    None,
    [3],
    np.array([3]),
    torch.tensor([3]),
    3j,
    object,
]


@pytest.mark.parametrize("value", WHOLE, ids=repr)
def test_whole_numbers(value):
    assert (as_whole(value), type(as_whole(value))) == (3, int)
    assert whole("n", value, 1) == whole("n", value, 3, 3) == 3


@pytest.mark.parametrize("value", NO_WHOLE, ids=repr)
def test_what_is_no_whole_number(value):
    assert as_whole(value) is None
    with pytest.raises(ValueError, match=r"\A`n` \(=[^\n]*\) must be a whole number[^\n]*\Z"):
        whole("n", value, 1)


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (0, "`n` (=0) must be at least 1"),
        (10, "`n` (=10) must be at most 9: so many digits there are"),
        (10**30, "must be at most 9"),
    ],
)
def test_bounds(value, rule):
    with pytest.raises(ValueError, match=r"\A[^\n]{1,200}\Z") as caught:
        whole("n", value, 1, 9, "so many digits there are")
    assert rule in str(caught.value)


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), np.int64(2), torch.tensor(2.0)], ids=repr)
def test_numbers(value):
    assert (as_real(value), type(as_real(value))) == (2.0, float)


@pytest.mark.parametrize(
    "value",
    [True, np.bool_(True), torch.tensor(True), "2", None, [2.0], np.ones(1), float("nan"), 10**400],
    ids=lambda value: repr(value)[:20],
)
def test_what_is_no_number(value):
    assert as_real(value) is None


def test_one_is_counted_in_the_singular():
    assert [counted(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
