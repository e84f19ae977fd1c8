import torch

from setar.tokenizers.base import to_float, to_uint8


def test_bytes_survive_the_round_trip():
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(pixels)), pixels)


def test_to_float_spans_minus_one_to_one():
    floats = to_float(torch.tensor([[0, 255]], dtype=torch.uint8))
    assert floats.dtype == torch.float32
    assert floats.tolist() == [[-1.0, 1.0]]


def test_to_uint8_clamps_and_rounds_half_to_even():
    values = torch.tensor([-7.0, -1.0, 0.0, 1.0, 7.0, 2.4 / 127.5 - 1, 2.6 / 127.5 - 1])
    assert to_uint8(values).tolist() == [0, 0, 128, 255, 255, 2, 3]


def test_to_uint8_takes_half_precision():
    grey = torch.tensor([-1.0, 0.5, 1.0])
    assert torch.equal(to_uint8(grey.to(torch.bfloat16)), to_uint8(grey))
