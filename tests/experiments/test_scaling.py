"""The fit and the bookkeeping of the scaling law; the real models train for half an hour."""

import dataclasses
import math
import re
from itertools import pairwise

import pytest

from random_weights import randomise
from setar.data import emoji
from setar.data.base import DATASETS
from setar.models import fmt, var
from setar.models.base import FAMILIES
from setar.models.fmt import FullyMaskedTransformer
from setar.models.var import VARTransformer
from setar.pretrained import save_tokenizer
from setar.tokenizers import multiscale, vqgan
from setar.tokenizers.multiscale import MultiScaleVQ
from setar.tokenizers.vqgan import VQGAN

MILLION = [1e6 * n for n in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)]


def saved(folder, tokenizer):
    save_tokenizer(randomise(tokenizer), folder)
    return str(folder)


def few(split, load=emoji.load):
    """Every tenth emoji of a split."""
    found = load(split)
    columns = ("images", "labels", "names", "captions", "groups", "skin_tone")
    return dataclasses.replace(found, **{name: getattr(found, name)[::10] for name in columns})


@pytest.fixture
def tiny(scaling, monkeypatch, tmp_path):
    """The script with three tiny sizes, one step, few emoji and tokenizers of random weights."""
    monkeypatch.setattr(emoji, "load", few)
    monkeypatch.setitem(DATASETS._entries, "emoji", few)  # what training asks
    scales = dataclasses.replace(multiscale.PRESETS["tiny"], scales=(1, 2, 3, 4, 6, 8))
    tokenizers = {
        "var": saved(tmp_path / "multiscale", MultiScaleVQ(scales)),
        "fmt": saved(tmp_path / "single", VQGAN(vqgan.PRESETS["tiny"])),
    }
    monkeypatch.setattr(scaling, "TOKENIZERS", tokenizers)
    sizes = [(8, 1, 1), (16, 1, 1), (16, 1, 2)]
    monkeypatch.setattr(scaling, "SIZES", {"var": sizes, "fmt": sizes})
    monkeypatch.setattr(scaling, "STEPS", 1)
    monkeypatch.setattr(scaling, "PLANS", 2)
    return scaling


def test_a_law_is_found_again(scaling):
    law = scaling.Law(1.5, 0.8, 0.4)
    found = scaling.fit(MILLION, [law(n) for n in MILLION])
    assert found(1e8) == pytest.approx(law(1e8), rel=2e-3)
    assert found.exponent == pytest.approx(0.4, rel=1e-2)
    assert scaling.squares(found, MILLION, [law(n) for n in MILLION]) < 1e-6


def test_no_law_ends_below_zero(scaling):
    found = scaling.fit(MILLION, [5 - math.log(n / 1e5) for n in MILLION])
    assert found.floor == 0
    assert found(1e12) > 0


def test_the_largest_is_not_part_of_the_fit(scaling):
    law = scaling.Law(1.0, 1.0, 0.3)
    points = [scaling.Point(8, 1, int(n), int(n), law(n), 0.0) for n in MILLION]
    points[-1] = dataclasses.replace(points[-1], heldout=2 * law(MILLION[-1]))
    result = scaling.Result(points, scaling.fit(*scaling.columns(points[:-1])))
    assert result.error == pytest.approx(-0.5, abs=1e-3)
    assert result.persistence == pytest.approx(law(MILLION[-2]) / points[-1].heldout - 1)
    assert result.explained == pytest.approx(1, abs=1e-6)
    assert not scaling.claim("var", result).holds


def test_blocks_and_what_modulates_them_are_counted(scaling):
    model = FullyMaskedTransformer(fmt.PRESETS["tiny"])
    parts = (model.encoder, model.decoder, model.encoder_norm, model.norm)
    blocks = sum(p.numel() for part in parts for p in part.parameters())
    assert scaling.counted(model) == blocks
    model = VARTransformer(var.PRESETS["tiny"])
    parts = (model.words, model.blocks, model.shared_modulation, model.head_modulation)
    assert scaling.counted(model) == sum(p.numel() for part in parts for p in part.parameters())


def test_sizes_spread_over_a_tenth_to_four_million(scaling):
    for family, sizes in scaling.SIZES.items():
        counts = []
        for size in sizes:
            model = FAMILIES.find(family)(scaling.run_of(family, *size).model.shape)
            assert 1e5 < sum(p.numel() for p in model.parameters()) <= 4e6
            counts.append(scaling.counted(model))
        assert len(counts) >= 5
        ratios = [larger / smaller for smaller, larger in pairwise(counts)]
        assert all(1.5 < ratio < 2.6 for ratio in ratios), ratios


def test_the_learning_rate_falls_with_the_root_of_the_width(tiny):
    narrow, wide = (tiny.run_of("fmt", width, 1, 1).optimizer for width in (44, 176))
    assert wide.learning_rate == pytest.approx(1.5e-3)
    assert narrow.learning_rate == pytest.approx(3e-3)


@pytest.mark.slow
def test_all_models_are_trained_once_and_shown(tiny, lab, capsys):
    page = tiny.section().markdown()
    assert capsys.readouterr().out.count(", seed 0\n") == 6
    assert len(re.findall(r"^\| (?:VAR|FMT) \d+ x \d ", page, re.MULTILINE)) == 6
    assert page.count("| 12 | ") == 2
    assert (lab.PICTURES / "scaling.png").stat().st_size > 1000
    tiny.section()
    assert "training" not in capsys.readouterr().out
    for result in tiny.results().values():
        for point in result.points:  # 32 codes, hardly trained
            assert point.heldout == pytest.approx(math.log(32), rel=0.2)
            assert point.heldout != point.trained
