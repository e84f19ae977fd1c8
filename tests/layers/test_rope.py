"""2-D rotary embedding: against explicit rotations, and what makes it relative."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from setar.layers.rope import rotate, rotation

HEAD_DIM = 16


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def at(row, column, head_dim=HEAD_DIM):
    return rotation(torch.tensor([[row]]), torch.tensor([[column]]), head_dim)


def turned(vector, row, column, base=10000.0):
    """One vector rotated by 2x2 matrices: neighbouring pairs, first rows, then columns."""
    result = []
    pairs = len(vector) // 2
    for pair in range(pairs):
        position = row if pair < pairs // 2 else column
        exponent = 2 * (pair % (pairs // 2)) / (len(vector) / 2)
        angle = position * base**-exponent
        a, b = vector[2 * pair], vector[2 * pair + 1]
        result.append(a * math.cos(angle) - b * math.sin(angle))
        result.append(a * math.sin(angle) + b * math.cos(angle))
    return result


@pytest.mark.parametrize("head_dim", [4, 8, 16, 64])
def test_equals_explicit_rotations(head_dim):
    rows, columns = torch.tensor([[0, 3, 15], [7, 1, 2]]), torch.tensor([[5, 0, 15], [2, 9, 11]])
    x = random(2, 3, 3, head_dim)
    found = rotate(x, rotation(rows, columns, head_dim))
    for image in range(2):
        for head in range(3):
            for token in range(3):
                expected = turned(
                    x[image, head, token].tolist(),
                    rows[image, token].item(),
                    columns[image, token].item(),
                )
                assert found[image, head, token].tolist() == pytest.approx(expected, abs=2e-5)


positions = st.tuples(*[st.integers(0, 40)] * 6)


@settings(max_examples=50)
@given(positions)
def test_dot_products_depend_on_differences_only(numbers):
    row, column, other_row, other_column, down, right = numbers
    query, key = random(1, 2, 1, HEAD_DIM), random(1, 2, 1, HEAD_DIM, seed=1)

    def score(shift_rows, shift_columns):
        a = rotate(query, at(row + shift_rows, column + shift_columns))
        b = rotate(key, at(other_row + shift_rows, other_column + shift_columns))
        return (a * b).sum(-1)

    torch.testing.assert_close(score(down, right), score(0, 0), atol=2e-4, rtol=0)


def test_rows_and_columns_matter_separately():
    query, key = random(1, 1, 1, HEAD_DIM), random(1, 1, 1, HEAD_DIM, seed=1)
    places = [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (0, 2)]
    scores = [(query * rotate(key, at(*place))).sum().item() for place in places]
    assert min(abs(a - b) for i, a in enumerate(scores) for b in scores[:i]) > 1e-3


def test_origin_is_the_identity():
    x = random(2, 3, 1, HEAD_DIM)
    assert torch.equal(rotate(x, at(0, 0)), x)


def test_first_half_follows_the_row_and_second_half_the_column():
    x = random(1, 1, 1, HEAD_DIM)
    half = HEAD_DIM // 2
    down, right = rotate(x, at(3, 0)), rotate(x, at(0, 3))
    assert torch.equal(down[..., half:], x[..., half:])
    assert torch.equal(right[..., :half], x[..., :half])
    assert (down[..., :half] != x[..., :half]).all()
    assert (right[..., half:] != x[..., half:]).all()


def test_norms_stay():
    x = random(2, 3, 5, HEAD_DIM)
    where = torch.arange(10).view(2, 5)
    found = rotate(x, rotation(where, 3 * where, HEAD_DIM))
    torch.testing.assert_close(found.norm(dim=-1), x.norm(dim=-1))


def test_half_precision_is_rotated_in_float32():
    x = random(1, 1, 1, HEAD_DIM).bfloat16()
    found = rotate(x, at(31, 17))
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, rotate(x.float(), at(31, 17)).bfloat16())


def test_other_bases():
    rows = torch.tensor([[2]])
    found = rotate(random(1, 1, 1, 8), rotation(rows, rows, 8, base=100.0))
    expected = turned(random(1, 1, 1, 8).flatten().tolist(), 2, 2, base=100.0)
    assert found.flatten().tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("head_dim", [2, 6, 10, 33])
def test_head_dimensions_that_are_no_multiple_of_four_are_refused(head_dim):
    with pytest.raises(ValueError, match=rf"\(={head_dim}\) must be a multiple of 4"):
        at(0, 0, head_dim)


def test_positions_are_not_broadcast_over_tokens():
    with pytest.raises(AssertionError, match="one rotation per token"):
        rotate(random(1, 1, 3, HEAD_DIM), at(1, 1))
    with pytest.raises(AssertionError, match="one rotation per token"):
        rotate(random(1, 1, 1, HEAD_DIM), at(1, 1)[:, :, :0])
