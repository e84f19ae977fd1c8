"""The gallery, with a tiny model: its pictures are there, and its commands make them again."""

import re
import shlex

import pytest
from PIL import Image

import tiny_text
from setar.data.styles_tiny import FOLDER

pytest.importorskip("transformers", reason="setar[text] is not installed")


@pytest.mark.slow
def test_the_page_is_whole_and_its_commands_make_its_pictures(example, run, tmp_path):
    model = tmp_path / "model"
    tiny_text.text_pipeline(tmp_path / "encoder").save_pretrained(model)
    names = example("gallery.py", "--model", model, "--out", tmp_path / "docs")
    page = (tmp_path / "docs" / "gallery.md").read_text()
    book, folder = names["book"], tmp_path / "docs" / "gallery"
    linked = re.findall(r"\]\(gallery/([\w.-]+)\)", page)
    assert sorted(linked) == sorted(file.name for file in folder.iterdir())
    assert page.count("```bash") == len(linked) == len(book.commands) == 13
    assert page.count("\n## ") == len(names["SECTIONS"])
    with Image.open(folder / "appearing.gif") as moving:
        assert moving.n_frames == 4  # sets of the tiny model
    for file in ("beside", "inpainting"):
        command = " ".join(book.commands[file]).replace("\\\n", " ")
        command = command.replace(f"src/setar/data/assets/{FOLDER.name}", str(FOLDER))
        each = tmp_path / file
        code, _, err = run(*shlex.split(command)[1:], "--each", each)
        assert code == 0, err
        again = [Image.open(found).tobytes() for found in sorted(each.iterdir())]
        assert again == [picture.tobytes() for picture in book.made[file]]
    for file, words in names["SEEN"].items():
        assert file in book.commands
        assert words in page
