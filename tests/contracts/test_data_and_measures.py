"""What every data set, feature extractor and metric promises."""

import pytest
import torch

from entries import DATASETS, EXTRACTORS, METRICS
from setar.data.base import open_data
from setar.evaluation.metrics import GENERAL, Evidence, measure
from setar.evaluation.summary import summarise
from setar.features.base import make_extractor

each_data_set = pytest.mark.parametrize("name", [*DATASETS])
WITHOUT_FILE = [name for name in EXTRACTORS if name != "inception"]


def pictures_for(name, count=8, seed=0):
    side = 8 if name == "digits" else 16
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, side, side), generator=generator).byte()


@each_data_set
@pytest.mark.parametrize("split", ["train", "heldout", "all"])
def test_a_data_set_has_a_label_for_every_picture(name, split):
    data = open_data(f"{name}:{split}")
    assert len(data) == len(data.images) == len(data.labels) > 0
    assert data.labels.dtype == torch.int64
    assert 0 <= int(data.labels.min()) <= int(data.labels.max()) < len(data.classes)
    assert len({*data.classes}) == len(data.classes)
    some = data.images[torch.tensor([0, len(data) - 1])]
    assert some.dtype == torch.uint8
    assert some.shape[:2] == (2, 3)
    assert torch.equal(open_data(f"{name}:{split}").images[torch.tensor([0])], some[:1])
    for values in (data.names, data.captions):
        assert len(values) in (0, len(data))
    assert len(data.shown(3)) == 3
    assert data.features in EXTRACTORS
    assert all(metric in METRICS for metric in data.report)


@each_data_set
def test_train_is_the_default_split_and_others_are_refused(name):
    assert len(open_data(name)) == len(open_data(f"{name}:train"))
    assert open_data(name).classes == open_data(f"{name}:heldout").classes


@pytest.mark.parametrize("name", ["emoji", "digits"])
def test_an_unknown_split_is_refused(name):
    with pytest.raises(ValueError, match="must be one of train, heldout, all"):
        open_data(f"{name}:test")


@pytest.mark.parametrize("name", WITHOUT_FILE)
def test_an_extractor_is_a_function_of_each_picture(name):
    extractor, pictures = make_extractor(name), pictures_for(name)
    found = extractor(pictures)
    assert found.pooled.shape[0] == len(pictures)
    assert found.pooled.dtype == torch.float32
    assert not found.pooled.requires_grad
    assert torch.isfinite(found.pooled).all()
    assert (found.pooled[0] != found.pooled[1]).any()
    torch.testing.assert_close(extractor(pictures[3:4]).pooled[0], found.pooled[3])
    if found.probabilities is not None:
        torch.testing.assert_close(found.probabilities.sum(1), torch.ones(len(pictures)))
    assert extractor.name in extractor.described


@pytest.mark.parametrize("name", [n for n in WITHOUT_FILE if not EXTRACTORS.plugin_of(n)])
def test_an_argument_that_it_does_not_take_is_refused(name):
    with pytest.raises(ValueError, match=r"\A[^\n]*nothing after[^\n]*\Z"):
        make_extractor(f"{name}:file")
    with pytest.raises(ValueError, match="inception:FILE"):
        make_extractor("inception")


@pytest.fixture(scope="module")
def evidence():
    extractor = make_extractor("thumbnails")
    made, real = pictures_for("made", 12), pictures_for("real", 10, seed=1)
    summaries = summarise(made, extractor), summarise(real, extractor)
    return Evidence(*summaries, extractor, images=made)


@pytest.mark.parametrize("name", [*METRICS])
def test_a_metric_gives_figures_or_nothing(name, evidence):
    figures = METRICS.find(name).function(evidence)
    assert all(isinstance(key, str) for key in figures)
    assert all(isinstance(value, int | float) for value in figures.values())
    assert METRICS.find(name).heading
    if name in ("frechet", "kernel", "precision-recall", "contrast"):
        assert figures


def test_metrics_are_measured_in_tables(evidence):
    tables = measure(evidence, [*GENERAL, "contrast", "contrast"])
    assert list(tables) == ["figures"]
    assert {"FD-thumbnails", "KD-thumbnails", "contrast"} <= tables["figures"].keys()
    with pytest.raises(ValueError, match="unknown metric 'contrst'; did you mean 'contrast'"):
        measure(evidence, ["contrst"])
