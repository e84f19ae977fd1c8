import hashlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch.nn import functional

from random_weights import randomise
from setar.features import inception
from setar.features.base import make_extractor
from setar.features.inception import InceptionFeatures, InceptionV3, read_inception, resize

SHAPES = {
    "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
    "Conv2d_4a_3x3.conv.weight": (192, 80, 3, 3),
    "Mixed_5b.branch_pool.conv.weight": (32, 192, 1, 1),
    "Mixed_5d.branch3x3dbl_3.bn.running_var": (96,),
    "Mixed_6a.branch3x3.conv.weight": (384, 288, 3, 3),
    "Mixed_6b.branch7x7_2.conv.weight": (128, 128, 1, 7),
    "Mixed_6d.branch7x7dbl_4.conv.weight": (160, 160, 7, 1),
    "Mixed_6e.branch7x7_3.conv.weight": (192, 192, 7, 1),
    "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
    "Mixed_7b.branch3x3_2a.conv.weight": (384, 384, 1, 3),
    "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
    "Mixed_7c.branch_pool.bn.bias": (192,),
    "fc.weight": (1008, 2048),
    "fc.bias": (1008,),
}


def random_images(count, height=40, width=50):
    generator = torch.Generator().manual_seed(count)
    return torch.randint(256, (count, 3, height, width), generator=generator).byte()


@pytest.fixture(scope="module")
def network():
    """Every tensor random, the statistics of the batch norms too."""
    network = randomise(InceptionV3())
    generator = torch.Generator().manual_seed(1)
    for name, tensor in network.published().items():
        if "running" in name:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return network


@pytest.fixture(scope="module")
def features(network):
    return InceptionFeatures(network)(random_images(2))


@pytest.fixture
def half(network):
    """The weights in half precision: a smaller file."""
    return {name: tensor.half() for name, tensor in network.published().items()}


# Resizing


def resized_by_hand(row, size):
    """One line of pixels, in plain Python."""
    result = []
    for i in range(size):
        place = i * len(row) / size
        before = int(place)
        after = min(before + 1, len(row) - 1)
        result.append(row[before] + (row[after] - row[before]) * (place - before))
    return result


@settings(max_examples=30)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 12))
def test_resize_is_the_hand_written_loop(height, width, size):
    image = random_images(1, height, width).float()
    rows = [resized_by_hand(row, size) for row in image[0, 1].tolist()]
    columns = [resized_by_hand(list(column), size) for column in zip(*rows, strict=True)]
    expected = torch.tensor(columns).T
    assert torch.allclose(resize(image, size)[0, 1], expected, atol=1e-3)


def test_resize_has_no_half_pixel_offset():
    image = torch.tensor([[0.0, 4.0], [8.0, 12.0]])[None, None]
    expected = [[0, 2, 4, 4], [4, 6, 8, 8], [8, 10, 12, 12], [8, 10, 12, 12]]
    assert resize(image, 4)[0, 0].tolist() == expected


def test_resize_to_the_same_size_changes_nothing():
    image = random_images(1, 299, 299).float()
    assert torch.equal(resize(image, 299), image)


# The network


def test_names_and_shapes_are_the_published_ones():
    tensors = InceptionV3().published()
    assert {name: tuple(tensors[name].shape) for name in SHAPES} == SHAPES
    assert len(tensors) == 94 * 5 + 2
    assert sum(tensor.numel() for name, tensor in tensors.items() if "run" not in name) == 23850960


def oracle(tensors, images):
    """The graph once more, written out over the names of the weights: (Mixed_6d, pooled)."""

    def conv(name, maps, stride=1, padding=(0, 0)):
        maps = functional.conv2d(maps, tensors[f"{name}.conv.weight"], None, stride, padding)
        mean, variance, gain, bias = (
            tensors[f"{name}.bn.{key}"][:, None, None]
            for key in ("running_mean", "running_var", "weight", "bias")
        )
        return functional.relu((maps - mean) / (variance + 0.001).sqrt() * gain + bias)

    def average(maps):
        ones = torch.ones(1, 1, *maps.shape[2:])
        totals = functional.avg_pool2d(maps, 3, 1, 1, divisor_override=1)
        return totals / functional.avg_pool2d(ones, 3, 1, 1, divisor_override=1)

    def chain(name, maps, *paddings):
        for index, padding in enumerate(paddings, start=1):
            maps = conv(f"{name}_{index}", maps, 1, padding)
        return maps

    none, row, column = (0, 0), (0, 3), (3, 0)
    maps = (resize(images.float(), 299) - 128) / 128
    maps = conv("Conv2d_2a_3x3", conv("Conv2d_1a_3x3", maps, 2))
    maps = functional.max_pool2d(conv("Conv2d_2b_3x3", maps, 1, 1), 3, 2)
    maps = functional.max_pool2d(conv("Conv2d_4a_3x3", conv("Conv2d_3b_1x1", maps)), 3, 2)
    for block in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        parts = [
            conv(f"{block}.branch1x1", maps),
            chain(f"{block}.branch5x5", maps, none, (2, 2)),
            chain(f"{block}.branch3x3dbl", maps, none, (1, 1), (1, 1)),
            conv(f"{block}.branch_pool", average(maps)),
        ]
        maps = torch.cat(parts, 1)
    double = chain("Mixed_6a.branch3x3dbl", maps, none, (1, 1))
    parts = [conv("Mixed_6a.branch3x3", maps, 2), conv("Mixed_6a.branch3x3dbl_3", double, 2)]
    maps = torch.cat([*parts, functional.max_pool2d(maps, 3, 2)], 1)
    for block in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        parts = [
            conv(f"{block}.branch1x1", maps),
            chain(f"{block}.branch7x7", maps, none, row, column),
            chain(f"{block}.branch7x7dbl", maps, none, column, row, column, row),
            conv(f"{block}.branch_pool", average(maps)),
        ]
        maps = torch.cat(parts, 1)
        if block == "Mixed_6d":
            spatial = maps
    parts = [
        conv("Mixed_7a.branch3x3_2", conv("Mixed_7a.branch3x3_1", maps), 2),
        conv("Mixed_7a.branch7x7x3_4", chain("Mixed_7a.branch7x7x3", maps, none, row, column), 2),
    ]
    maps = torch.cat([*parts, functional.max_pool2d(maps, 3, 2)], 1)
    for block in ("Mixed_7b", "Mixed_7c"):
        single = conv(f"{block}.branch3x3_1", maps)
        double = chain(f"{block}.branch3x3dbl", maps, none, (1, 1))
        pooled = average(maps) if block == "Mixed_7b" else functional.max_pool2d(maps, 3, 1, 1)
        parts = [
            conv(f"{block}.branch1x1", maps),
            conv(f"{block}.branch3x3_2a", single, 1, (0, 1)),
            conv(f"{block}.branch3x3_2b", single, 1, (1, 0)),
            conv(f"{block}.branch3x3dbl_3a", double, 1, (0, 1)),
            conv(f"{block}.branch3x3dbl_3b", double, 1, (1, 0)),
            conv(f"{block}.branch_pool", pooled),
        ]
        maps = torch.cat(parts, 1)
    return spatial, maps.mean((2, 3))


def test_features_are_those_of_the_graph_written_out(network, features):
    tensors = network.published()
    maps, pooled = oracle(tensors, random_images(2))
    assert features.pooled.shape == (2, 2048)
    assert features.pooled.dtype == torch.float32
    assert features.pooled.std() > 0.1
    assert torch.allclose(features.pooled, pooled, rtol=1e-3, atol=1e-4)
    assert maps.shape == (2, 768, 17, 17)
    assert maps[:, :7].std() > 0.1
    channels_last = [maps[:, k, r, c] for r in range(17) for c in range(17) for k in range(7)]
    assert torch.allclose(features.spatial, torch.stack(channels_last, 1), rtol=1e-3, atol=1e-4)
    probabilities = (pooled.double() @ tensors["fc.weight"].double().T).softmax(1).float()
    assert torch.allclose(features.probabilities, probabilities, rtol=1e-2, atol=1e-5)
    assert torch.allclose(features.probabilities.sum(1), torch.ones(2), atol=1e-5)


def test_the_network_sees_values_around_128(network):
    seen = []
    first = network.lower["Conv2d_1a_3x3"]
    handle = first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = torch.tensor([0, 128, 255]).byte()[None, :, None, None].expand(1, 3, 8, 9)
    InceptionFeatures(network)(image)
    handle.remove()
    assert seen[0].shape == (1, 3, 299, 299)
    assert seen[0].amin((0, 2, 3)).tolist() == [-1, 0, 127 / 128]
    assert seen[0].amax((0, 2, 3)).tolist() == [-1, 0, 127 / 128]


def test_average_pools_do_not_count_the_padding():
    pooled = inception.average_pool()(torch.ones(1, 1, 4, 4))
    assert torch.equal(pooled, torch.ones(1, 1, 4, 4))


def test_wrong_images_are_refused(network):
    extractor = InceptionFeatures(network)
    assert extractor.name == "Inception"
    with pytest.raises(ValueError, match=r"must be uint8 in 0..255, got torch\.float32"):
        extractor(torch.rand(1, 3, 8, 8))


# Files


def test_a_file_gives_the_same_features(half, tmp_path):
    counters = {"Mixed_5b.branch1x1.bn.num_batches_tracked": torch.tensor(7)}
    save_file({**half, **counters}, tmp_path / "weights.safetensors")
    extractor = make_extractor(f"inception:{tmp_path / 'weights.safetensors'}")
    tensors = extractor.network.published()
    assert all(torch.equal(tensors[name], value.float()) for name, value in half.items())
    assert extractor(random_images(1)).pooled.dtype == torch.float32


def test_of_pickled_files_only_the_published_one_is_read(half, tmp_path, monkeypatch):
    file = tmp_path / "weights.pth"
    torch.save(half, file)
    with pytest.raises(ValueError, match=r"not the published .*, or damaged.*safetensors") as error:
        read_inception(file)
    assert "\n" not in str(error.value)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(inception, "PUBLISHED_SHA256", digest)
    tensors = read_inception(file).published()
    assert torch.equal(tensors["fc.weight"], half["fc.weight"].float())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc.bias": None}, "the tensor 'fc.bias' of FID's Inception is missing"),
        ({"AuxLogits.fc.bias": torch.ones(1)}, "has no tensor 'AuxLogits.fc.bias'"),
        ({"fc.bias": torch.ones(1000)}, r"'fc.bias' must be floats \(1008,\), not \(1000,\)"),
        ({"fc.bias": torch.ones(1008).int()}, r"must be floats \(1008,\), not .* torch.int32"),
    ],
)
def test_loading_is_strict(half, change, message, tmp_path):
    state = {name: value for name, value in {**half, **change}.items() if value is not None}
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=message) as error:
        read_inception(tmp_path / "weights.safetensors")
    assert "weights.safetensors: " in str(error.value)
    assert "\n" not in str(error.value)


def test_unreadable_files_are_one_clear_line(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        read_inception(tmp_path / "weights.pth")
    (tmp_path / "weights.safetensors").write_bytes(b"no tensors here")
    with pytest.raises(ValueError, match="not a safetensors file, or damaged"):
        read_inception(tmp_path / "weights.safetensors")
