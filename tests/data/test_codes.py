"""Reading folders of codes; writing them is tested in training/test_encoding.py."""

import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny_codes
from setar.data.base import kind_of_source, open_data
from setar.data.codes import CodeFolder, Rows, open_array
from setar.data.images import FolderImages
from setar.pretrained import load_tokenizer
from setar.tokenizers.base import encode_images


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tiny_codes.save(tmp_path_factory.mktemp("codes"))
    tiny_codes.encoded(folder, heldout=0.2)
    return folder


@pytest.fixture
def copy(folder, tmp_path):
    """A copy of the codes, to be damaged."""
    shutil.copytree(folder / "codes", tmp_path / "codes")
    return tmp_path / "codes"


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(1, 3), st.data())
@settings(max_examples=40)
def test_rows_of_several_files_are_those_of_one_array(tmp_path_factory, counts, views, data):
    folder = tmp_path_factory.mktemp("rows")
    whole = np.arange(sum(counts) * views * 4, dtype="<u2").reshape(-1, views, 4)
    files = [folder / f"{index}.npy" for index in range(len(counts))]
    ends = np.cumsum(counts)
    for file, end, count in zip(files, ends, counts, strict=True):
        if count:  # a shard without records is never opened
            np.save(file, whole[end - count : end])
    if not len(whole):
        return
    rows = np.array(data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=20)))
    drawn = np.array(
        data.draw(st.lists(st.integers(0, views - 1), min_size=len(rows), max_size=len(rows)))
    )
    read = Rows(files, counts, (views, 4), np.dtype("<u2"))
    for _ in range(2):  # also once the pages were given back
        assert np.array_equal(read.read(rows, drawn), whole[rows, drawn])


def test_a_folder_of_codes_is_a_data_set_without_pictures(folder):
    assert kind_of_source(folder / "codes") == "codes"
    data = open_data(str(folder / "codes"))
    pictures = FolderImages(folder / "pictures", 16)
    assert data.classes == pictures.classes == ("cats", "dogs")
    assert data.stored is not None
    assert data.heldout is not None
    assert len(data) + len(data.heldout) == 30 - len(tiny_codes.BROKEN)
    with pytest.raises(ValueError, match="holds codes, not pictures"):
        data.images[torch.tensor([0])]


def test_records_are_the_codes_of_the_pictures(folder):
    """Every record of both splits, view by view, against encoding its picture alone."""
    codes, tokenizer = CodeFolder(folder / "codes"), load_tokenizer(folder / "tokenizer")
    images, seen, same = FolderImages(folder / "pictures", 16), [], []
    rows = {file.relative_to(images.folder).as_posix(): i for i, file in enumerate(images.files)}
    for split in ("train", "heldout"):
        records = codes.codes(split, [(16, 16)])
        assert records is not None
        lines = (folder / "codes" / f"{split}-records.jsonl").read_text().splitlines()
        pictures = records.pictures()
        items = torch.tensor([rows[json.loads(lines[i])["file_name"]] for i in pictures])
        labels = codes.labels(split, pictures)
        assert labels is not None
        assert torch.equal(labels, images.labels[items])
        seen += items.tolist()
        all_records = torch.arange(len(records))
        views = torch.zeros_like(all_records)
        assert torch.equal(records.centres(all_records), records.codes(all_records, views))
        if split == "train":
            mirrored = encode_images(tokenizer, Some(images, items, flip=True))
            same.append(records.codes(all_records, views + 1) == mirrored)
    assert sorted(seen) == [i for path, i in sorted(rows.items()) if path not in tiny_codes.BROKEN]
    # Other batches may differ in the last digit, and so in a code.
    assert torch.cat(same).double().mean() > 0.98


class Some:
    def __init__(self, images, items, flip=False):
        self.images, self.items, self.flip = images, items, flip

    def __len__(self):
        return len(self.items)

    def __getitem__(self, items):
        batch = self.images[self.items[items]]
        return batch.flip(-1) if self.flip else batch


def test_a_whole_folder_passes_and_shares_the_check(folder):
    codes = CodeFolder(folder / "codes")
    count = len([*codes.files(), *codes.notes()])
    assert codes.check() == count
    assert codes.check(index=0, count=2) + codes.check(index=1, count=2) == count


def damages(file):
    content = file.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]
    return {
        "flipped": flipped,
        "truncated": content[:middle],
        "empty": b"",
        "longer": content + b"0",
    }


@pytest.mark.parametrize("kind", ["flipped", "truncated", "empty", "longer", "missing"])
def test_every_damaged_file_is_named(copy, kind):
    codes = CodeFolder(copy)
    for name, _ in [*codes.files(), *codes.notes()]:
        file = copy / name
        content = file.read_bytes()
        if kind == "missing":
            file.unlink()
        else:
            file.write_bytes(damages(file)[kind])
        with pytest.raises(ValueError, match=r"damaged in .*encode.* makes it anew") as error:
            CodeFolder(copy).check()
        assert name in str(error.value)
        assert "\n" not in str(error.value)
        file.write_bytes(content)
    CodeFolder(copy).check()
    (copy / "encoding.json").write_bytes(
        damages(copy / "encoding.json")[kind.replace("missing", "empty")]
    )
    with pytest.raises(ValueError, match=r"encoding\.json"):
        CodeFolder(copy)


def test_no_flipped_bit_of_the_manifest_goes_unseen(copy):
    file = copy / "manifest.json"
    content = file.read_bytes()
    whole = CodeFolder(copy).manifest
    for place in range(0, len(content), 37):
        flipped = bytes([content[place] ^ 1 << place % 7])
        file.write_bytes(content[:place] + flipped + content[place + 1 :])
        reason = ""
        try:
            assert CodeFolder(copy).manifest == whole  # as of white space
        except ValueError as error:
            reason = str(error)
        assert not reason or "manifest.json" in reason
        assert "\n" not in reason


def test_what_is_not_finished_says_so(copy):
    (copy / "manifest.json").unlink()
    with pytest.raises(ValueError, match="not encoded to the end: the same `setar encode` goes on"):
        open_data(str(copy))


def test_other_sizes_are_named(folder):
    with pytest.raises(ValueError, match="has codes of pictures of 16x16 pixels, not 32x32"):
        open_data(str(folder / "codes"), 32)


def test_a_code_beyond_the_vocabulary_is_refused(copy):
    codes = CodeFolder(copy).codes("train", [(16, 16)])
    assert codes is not None
    file = copy / "train-16x16" / "00000.npy"
    array = np.load(file)
    array[1] = 32
    np.save(file, array)
    codes.centres(torch.tensor([0]))
    with pytest.raises(ValueError, match="holds the code 32; of 32 there are those below"):
        codes.centres(torch.tensor([0, 1]))


def test_pickles_and_other_arrays_are_refused(tmp_path):
    file = tmp_path / "a.npy"
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"cannot read .*a\.npy"):
        open_array(file, (1,), np.dtype("<u2"))
    np.save(file, np.zeros((2, 3), "<u2"))
    with pytest.raises(ValueError, match=r"holds uint16 \[2, 3\], not uint16 \[3, 2\]"):
        open_array(file, (3, 2), np.dtype("<u2"))


def test_a_captions_table_is_read_line_by_line(folder, tmp_path):
    shutil.copytree(folder / "pictures", tmp_path / "pictures")
    rows = [
        {"file_name": f"cats/{i:02d}.png", "text": ["a cat", f"über {i}"] if i % 4 else []}
        for i in range(0, 30, 2)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "pictures" / "metadata.jsonl").write_text(text)
    data = open_data(
        str(
            tiny_codes.encoded(
                tmp_path, tokenizer=folder / "tokenizer", source=tmp_path / "pictures"
            )
        )
    )
    assert data.stored is not None
    assert data.stored.encoding.views == "crop"  # captions with left and right stay true
    captioned = [texts for texts in data.captions if texts]
    assert len(captioned) == 7
    assert captioned[0] == ("a cat", "über 2")
    assert data.captions[0:2] == [data.captions[0], data.captions[1]]
    assert data.stored.encoding.captions == 14
