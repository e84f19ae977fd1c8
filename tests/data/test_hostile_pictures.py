"""Some hundred mutated pictures under every accepted ending; `benchmarks/hostile_pictures.py` reads
100,000 of them."""

import importlib.util
import io
import itertools
from pathlib import Path

import pytest
import torch
from PIL import Image

import setar
from setar.data.decoding import ENDINGS, check_image
from setar.data.images import FolderImages, read_image

SCRIPT = Path(setar.__file__).parents[2] / "benchmarks" / "hostile_pictures.py"
SPEC = importlib.util.spec_from_file_location("hostile_pictures", SCRIPT)
hostile = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(hostile)
SOURCES = hostile.seeds()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("ending", sorted(ENDINGS))
def test_mutated_pictures_are_read_or_refused_in_one_line(tmp_path, capfd, ending):
    file, outcomes = tmp_path / f"a{ending}", set()
    for content in itertools.islice(hostile.mutants(SOURCES, seed=len(ending)), 60):
        file.write_bytes(content)
        try:
            assert read_image(file, (8, 8)).shape == (3, 8, 8)
            outcomes.add("read")
            check_image(file)
        except ValueError as error:
            outcomes.add("refused")
            message = str(error)
            assert message.startswith(f"cannot read the image {file}: ")
            assert "\n" not in message
    assert outcomes == {"read", "refused"}
    assert capfd.readouterr() == ("", "")


def read_by_pillow(content):
    """Whether Pillow reads it: version 12 does not read each TIFF that it wrote."""
    try:
        Image.open(io.BytesIO(content)).load()
    except OSError:
        return False
    return True


def test_pictures_as_they_were_are_all_read(tmp_path):
    good = [one for one in SOURCES[: -len(hostile.FOREIGN)] if read_by_pillow(one)]
    assert len(good) > 50
    for number, content in enumerate(good):
        (tmp_path / f"{number}.png").write_bytes(content)
    assert FolderImages(tmp_path, 8)[torch.arange(len(good))].shape == (len(good), 3, 8, 8)
