"""Names that moved are still found in their old places, and say where they are now."""

from importlib import import_module

import pytest

MOVED = {
    "setar.importers.folders.save_tokenizer": "setar.pretrained",
    "setar.training.settings.make_run": "setar.training.run",
    "setar.training.settings.GeneratorRun": "setar.training.generator",
    "setar.training.train.open_run": "setar.training.run",
    "setar.sampling.edit.box_mask": "setar.pictures.masks",
    "setar.sampling.edit.prepare": "setar.pictures.masks",
    "setar.pipeline.Ask": "setar.asking",
    "setar.pipeline.PartialImages": "setar.generation",
    "setar.evaluation.metrics.GaussianStatistics": "setar.evaluation.distances",
}


@pytest.mark.parametrize(("old", "place"), MOVED.items())
def test_the_old_place_gives_the_same_thing_with_a_warning(old, place):
    module, _, name = old.rpartition(".")
    with pytest.warns(DeprecationWarning, match=f"^{old} is now {place}.{name}$"):
        found = getattr(import_module(module), name)
    assert found is getattr(import_module(place), name)


@pytest.mark.parametrize("module", sorted({old.rpartition(".")[0] for old in MOVED}))
def test_other_names_are_missing_as_ever(module):
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'nothing'"):
        _ = import_module(module).nothing
