"""What a recorder sees of a computation."""

import time

import torch
from torch import nn

from random_weights import random_fmt
from setar.bench.floor import products_seconds
from setar.bench.recorder import Like, Recorder, place_of


def test_products_are_kept_with_their_weights_and_counted_by_shape():
    layer, recorder = nn.Linear(8, 4, bias=False).requires_grad_(False), Recorder()
    with recorder, torch.inference_mode():
        for rows in (3, 5, 3, 3):
            with recorder.calling("call"):
                layer(torch.zeros(rows, 8) + 1)
    assert sorted(part.times for part in recorder.parts.values()) == [1, 3]
    for part in recorder.parts.values():
        ((_, args, _),) = part.calls
        assert args[0] in (Like((rows, 8), torch.float32, torch.device("cpu")) for rows in (3, 5))
        assert args[1] is layer.weight


def test_products_of_all_layers_are_seen():
    model, recorder = random_fmt(), Recorder()
    codes, condition = torch.zeros(2, 0, dtype=torch.int64), torch.tensor([0, 1])
    with torch.inference_mode(), recorder, recorder.inside(model), recorder.calling("start"):
        model.encode(model.embed(condition, codes), model.prefixed(model.rotation(codes), 1))
    ((_, part),) = recorder.parts.items()
    encoder = [m for m in model.encoder.modules() if isinstance(m, nn.Linear)]
    assert len(part.calls) == len(encoder) + len(model.encoder)  # each attends once
    assert {"encoder.attention", "encoder.feed_forward", "encoder_norm"} <= recorder.seconds.keys()
    assert all(value > 0 for value in recorder.seconds.values())


def test_the_peak_is_of_what_is_there_at_once():
    recorder = Recorder()
    with recorder, torch.inference_mode():
        kept = torch.zeros(1000)
        for _ in range(5):
            passing = torch.zeros(2000) + kept[:1]
            del passing
        assert recorder.live == 4000
    assert 4000 + 8000 < recorder.peak <= 4000 + 2 * 8000
    del kept
    assert recorder.live == 0


def test_a_mask_that_attention_gets_by_name_is_not_kept():
    recorder, query = Recorder(), torch.zeros(1, 1, 4, 8)
    with recorder, torch.inference_mode(), recorder.calling("call"):
        mask = torch.zeros(1, 1, 4, 4) + 1
        nn.functional.scaled_dot_product_attention(query, query, query, attn_mask=mask)
        del mask
    assert recorder.live == 0
    ((_, part),) = recorder.parts.items()
    given = [value for _, args, named in part.calls for value in (*args, *named.values())]
    assert Like((1, 1, 4, 4), torch.float32, torch.device("cpu")) in given
    assert products_seconds([part], time.perf_counter) > 0


def test_what_was_there_before_does_not_count():
    before, recorder = torch.zeros(1000), Recorder()
    with recorder:
        before.add_(1)
        view = before[10:]
    assert recorder.peak == 0
    assert len(view) == 990


def test_places():
    assert place_of("decoder.3.cross_attention.query") == "decoder.cross_attention"
    assert place_of("head") == "head"
