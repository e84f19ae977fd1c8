import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from fake_features import random_pictures
from setar.data import digits, emoji
from setar.data.styles_tiny import FOLDER
from setar.evaluation import sources
from setar.evaluation.sources import (
    EvenlySpaced,
    NpzImages,
    find_pictures,
    holds_pictures,
    load_statistics,
    save_pictures,
)

EVERY = torch.arange(5)


def nhwc(pictures):
    return pictures.permute(0, 2, 3, 1).numpy()


@pytest.fixture
def pictures():
    return random_pictures(5, side=6)


# .npz files


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_adm_files_are_read_compressed_or_not(tmp_path, pictures, save):
    save(tmp_path / "a.npz", nhwc(pictures), np.arange(5))
    images = NpzImages(tmp_path / "a.npz")
    assert len(images) == 5
    assert torch.equal(images[torch.tensor([3, 0, 3])], pictures[[3, 0, 3]])
    assert isinstance(images._pixels, np.memmap) is (save is np.savez)


def test_other_arrays_may_come_first(tmp_path, pictures):
    np.savez(tmp_path / "a.npz", mu=np.zeros(3), arr_0=nhwc(pictures))
    assert torch.equal(NpzImages(tmp_path / "a.npz")[EVERY], pictures)


def test_fortran_order_is_read(tmp_path, pictures):
    np.savez(tmp_path / "a.npz", np.asfortranarray(nhwc(pictures)))
    assert torch.equal(NpzImages(tmp_path / "a.npz")[EVERY], pictures)


def test_saved_pictures_are_read_by_numpy_and_by_us(tmp_path, pictures, monkeypatch):
    monkeypatch.setattr(sources, "BATCH", 2)
    save_pictures(pictures, tmp_path / "a.npz", torch.tensor([4, 3, 2, 1, 0]))
    with np.load(tmp_path / "a.npz") as archive:
        assert np.array_equal(archive["arr_0"], nhwc(pictures))
        assert archive["arr_1"].tolist() == [4, 3, 2, 1, 0]
    images = NpzImages(tmp_path / "a.npz")
    assert isinstance(images._pixels, np.memmap)
    assert torch.equal(images[EVERY], pictures)


def test_pictures_need_no_labels(tmp_path, pictures):
    save_pictures(pictures, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as archive:
        assert archive.files == ["arr_0"]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((5, 6, 6, 3), np.float32), r"must be uint8 .* not float32 \[5, 6, 6, 3\]"),
        (np.zeros((5, 3, 6, 6), np.uint8), r"not uint8 \[5, 3, 6, 6\]"),
        (np.zeros((6, 6, 3), np.uint8), r"not uint8 \[6, 6, 3\]"),
        (np.zeros((5, 6, 6, 4), np.uint8), r"not uint8 \[5, 6, 6, 4\]"),
        (np.array([{}]), "cannot read"),
    ],
)
def test_other_arrays_are_refused(tmp_path, array, message):
    np.savez(tmp_path / "a.npz", array)
    with pytest.raises(ValueError, match=message):
        NpzImages(tmp_path / "a.npz")


def test_files_that_are_no_pictures_are_refused(tmp_path, pictures):
    file = tmp_path / "a.npz"
    with pytest.raises(ValueError, match=r".*a\.npz does not exist"):
        NpzImages(file)
    np.savez(file, images=nhwc(pictures))
    with pytest.raises(ValueError, match="has no `arr_0`"):
        NpzImages(file)
    for content in (b"", b"no archive", b"PK\x03\x04"):
        file.write_bytes(content)
        for read in (NpzImages, holds_pictures, lambda file: load_statistics(file, "Inception")):
            with pytest.raises(ValueError, match=r"cannot read .*a\.npz as \.npz"):
                read(file)
    with file.open("wb") as stream:
        np.save(stream, nhwc(pictures))
    with pytest.raises(ValueError, match=r"cannot read .*a\.npz as \.npz"):
        NpzImages(file)


def test_a_damaged_archive_is_refused(tmp_path, pictures):
    file = tmp_path / "a.npz"
    np.savez_compressed(file, nhwc(pictures))
    content = bytearray(file.read_bytes())
    content[120:140] = bytes(20)
    file.write_bytes(content)
    with pytest.raises(ValueError, match="cannot read"):
        NpzImages(file)


# Statistics


def statistics(**changes):
    arrays = {"mu": np.zeros(3), "sigma": np.eye(3), "mu_s": np.ones(2), "sigma_s": np.eye(2)}
    return {**arrays, **changes}


def test_statistics_without_a_name_are_inceptions(tmp_path):
    np.savez(tmp_path / "a.npz", **statistics())
    found = load_statistics(tmp_path / "a.npz", "Inception")
    assert found.gaussian.covariance.tolist() == np.eye(3).tolist()
    assert found.spatial.mean.tolist() == [1, 1]
    assert found.images is found.pooled is None
    assert load_statistics(tmp_path / "a.npz", "EffLite0") is None
    assert not holds_pictures(tmp_path / "a.npz")


def test_a_file_of_pictures_has_no_statistics(tmp_path, pictures):
    save_pictures(pictures, tmp_path / "a.npz")
    assert load_statistics(tmp_path / "a.npz", "Inception") is None
    assert holds_pictures(tmp_path / "a.npz")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"sigma": np.eye(4)},
            r"a\.npz as \.npz: `mu` and `sigma` must be \[d\] and \[d, d\], not \[3\]",
        ),
        ({"mu_s": np.zeros((2, 1))}, "`mu_s` and `sigma_s` must be"),
        ({"mu": np.array([0, np.nan, 1])}, "`mu` holds values that are not finite"),
        ({"sigma": np.diag([1, np.inf, 1])}, "`sigma` holds values that are not finite"),
        ({"mu": np.array([0, 1e4000, 1], np.longdouble)}, "`mu` holds values that are not finite"),
        ({"mu": np.array(["a", "b", "c"])}, r"`mu` must be numbers, at most \[3\], not <U1 \[3\]"),
        ({"mu": np.zeros(3, complex)}, "must be numbers"),
        ({"mu": np.zeros(0), "sigma": np.zeros((0, 0))}, "has 0 dimensions: it must be 1 to 8192"),
        (
            {"sigma": np.eye(3) + np.triu(np.ones((3, 3)), 1)},
            "`sigma` is no covariance: it is not sym",
        ),
        (
            {"sigma": np.diag([1.0, 1, -0.1])},
            "`sigma` is no covariance: it has negative eigenvalues",
        ),
        ({"sigma_s": -np.eye(2)}, "`sigma_s` is no covariance"),
        ({"images": np.array(0)}, r"`images` \(=0\) must be at least 1"),
        ({"images": np.array(np.nan)}, "`images` holds values that are not finite"),
        ({"images": np.array([5])}, "`images` must be numbers"),
        (
            {"pooled": np.full((4, 3), np.nan, np.float32)},
            "`pooled` holds values that are not finite",
        ),
        ({"pooled": np.full((4, 3), 1e300)}, "`pooled` holds values that are not finite"),
        ({"pooled": np.zeros((4, 2))}, r"`pooled` must be numbers, at most \[50000, 3\]"),
        ({"pooled": np.zeros((0, 3))}, "`pooled` must be numbers"),
        ({"features": np.array(["Inception"])}, "`features` must be a short name"),
        ({"features": np.array(5)}, "`features` must be a short name"),
        ({"mu": np.array([{}])}, "cannot read"),
    ],
)
def test_wrong_statistics_are_refused(tmp_path, changes, message):
    np.savez(tmp_path / "a.npz", **statistics(**changes))
    with pytest.raises(ValueError, match=message) as error:
        load_statistics(tmp_path / "a.npz", "Inception")
    assert "\n" not in str(error.value)


def test_covariances_that_others_rounded_are_read(tmp_path):
    """Rank-deficient, in float32 or float16, and not symmetric in the last digits."""
    features = np.random.default_rng(0).normal(size=(20, 50)) * 10
    for kind in (np.float64, np.float32, np.float16, ">f8"):
        sigma = np.cov(features.T).astype(kind)
        sigma[3, 4] *= 1 + 1e-7
        np.savez(tmp_path / "a.npz", mu=features.mean(0).astype(kind), sigma=sigma)
        found = load_statistics(tmp_path / "a.npz", "Inception").gaussian
        assert found.covariance.dtype == torch.float64
        assert found.covariance == pytest.approx(torch.from_numpy(np.cov(features.T)), rel=1e-2)


def test_half_of_the_statistics_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", mu=np.zeros(3))
    with pytest.raises(ValueError, match="has `mu` but no `sigma`"):
        load_statistics(tmp_path / "a.npz", "Inception")


# Data sets and folders


def test_the_embedded_data_sets():
    found = find_pictures("emoji")
    assert found.name == "emoji:train"
    assert torch.equal(found.open(), emoji.load("train").images)
    assert torch.equal(find_pictures("emoji:heldout").open(), emoji.load("heldout").images)
    grey = find_pictures("digits:all").open()
    assert grey.shape == (1797, 3, 8, 8)
    assert grey.dtype == torch.uint8
    levels = digits.load("all").codes.view(-1, 8, 8) * 255 / 16
    assert torch.equal(grey[:, 0], levels.round().byte())
    assert torch.equal(grey[:, 0], grey[:, 2])


def test_names_and_the_data_set_of_a_split_are_known(tmp_path, pictures):
    train, heldout = find_pictures("emoji"), find_pictures("emoji:heldout")
    assert train.data.classes == heldout.data.classes == emoji.subgroups()
    assert (train.training, heldout.training) == (True, False)
    assert list(heldout.names) == list(emoji.load("heldout").names)
    folder = find_pictures(str(save_folder(tmp_path / "mine:train", pictures)))
    assert (folder.data.classes, folder.training) == (("deep",), True)
    assert sorted(folder.names) == ["0", "1", "2", "3", "4"]
    save_pictures(pictures, tmp_path / "a.npz")
    stored = find_pictures(str(tmp_path / "a.npz"))
    assert (stored.data, stored.names) == (None, ())


def test_what_is_left_out_of_a_captioned_folder_has_no_captions_either():
    whole = find_pictures(str(FOLDER), 4).data
    train, held = whole.paths[3], whole.heldout_paths[0]
    left = find_pictures(str(FOLDER), 4, left_out=frozenset({train, held}))
    assert left.data.paths == [path for path in whole.paths if path != train]
    assert left.data.captions == [*whole.captions[:3], *whole.captions[4:]]
    assert left.data.heldout_paths == whole.heldout_paths[1:]
    assert len(left.data.heldout) == len(whole.heldout) - 1
    assert len(left.images) == len(whole) - 1


def test_other_splits_are_refused():
    with pytest.raises(ValueError, match="must be one of train, heldout, all"):
        find_pictures("emoji:test").open()


def save_folder(folder, pictures):
    for index, image in enumerate(nhwc(pictures)):
        file = folder / "deep" / f"class {index % 2}" / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    return folder


def test_a_folder_is_read_whole_or_cropped(tmp_path, pictures):
    folder = save_folder(tmp_path / "mine", pictures[..., :4])
    whole = find_pictures(str(folder))
    assert whole.images[torch.arange(5)].shape == (5, 3, 6, 4)
    found = {image.numpy().tobytes() for image in whole.images[torch.arange(5)]}
    assert found == {image.numpy().tobytes() for image in pictures[..., :4]}
    cropped = find_pictures(str(folder), 4).images[torch.arange(5)]
    middles = {image.numpy().tobytes() for image in pictures[:, :, 1:5, :4]}
    assert {image.numpy().tobytes() for image in cropped} == middles


def test_a_folder_of_several_sizes_is_refused_only_whole(tmp_path, pictures):
    folder = save_folder(tmp_path / "mine", pictures)
    Image.new("RGB", (9, 7)).save(folder / "large.png")
    with pytest.raises(ValueError, match=r"must be of one \(width, height\): .*large\.png has \(9"):
        find_pictures(str(folder)).images[torch.arange(6)]
    assert find_pictures(str(folder), 4).images[torch.arange(6)].shape == (6, 3, 4, 4)
    assert find_pictures(str(folder), (2, 3)).images[torch.arange(6)].shape == (6, 3, 2, 3)


def test_a_data_set_name_with_a_dot_is_a_folder(tmp_path, monkeypatch, pictures):
    monkeypatch.chdir(tmp_path)
    save_folder(tmp_path / "emoji", pictures)
    assert len(find_pictures("./emoji").open()) == 5


def test_empty_and_missing_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no image"):
        find_pictures(str(tmp_path)).open()
    with pytest.raises(ValueError, match="does not exist"):
        find_pictures(str(tmp_path / "none")).open()


def test_pictures_from_all_over(pictures):
    some = EvenlySpaced(pictures, 3)
    assert len(some) == 3
    assert torch.equal(some[torch.tensor([0, 1, 2])], pictures[[0, 1, 3]])
    with pytest.raises(ValueError, match=r"`images` \(=6\) must not exceed the 5 there are"):
        EvenlySpaced(pictures, 6)


def test_archives_larger_than_4_gib_can_be_written(tmp_path, pictures, monkeypatch):
    asked = []
    real = zipfile.ZipFile.open

    def watched(self, name, mode="r", **options):
        asked.append(options.get("force_zip64"))
        return real(self, name, mode, **options)

    monkeypatch.setattr(zipfile.ZipFile, "open", watched)
    save_pictures(pictures, tmp_path / "a.npz")
    assert asked == [True]
