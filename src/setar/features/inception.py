"""The Inception-v3 of the Frechet inception distance (Heusel et al. 2017) and of ADM's evaluator.

FID is defined on one network: TensorFlow's `inception-2015-12-05` graph (Szegedy et al. 2016 with
1008 outputs). Its weights are public as `pt_inception-2015-12-05-6726825d.pth` of pytorch-fid,
which is also torch-fidelity's `weights-inception-2015-12-05-6726825d.pth`; the user brings the
file. The graph differs from other Inception-v3: its average pools do not count the padding, its
last block has a max pool where the paper has an average, and it resizes images in its own way.

Three tensors of the graph are measured, as in `evaluations/evaluator.py` of openai/guided-diffusion
(ADM, Dhariwal & Nichol 2021):

- `pool_3`: 2048 pooled features, for FID, KID, precision and recall.
- `mixed_6/conv`: the first 7 channels, 17x17x7 flattened channels-last, for sFID (Nash et al.
  2021). The blocks of the graph are `mixed` .. `mixed_10`, so `mixed_6` is the port's `Mixed_6d`;
  the scope `mixed_6/conv` holds `conv2d_params`, `Conv2D`, `batchnorm`, and the op of the scope's
  own name is the last one, the ReLU. So the tensor is the 1x1 branch of `Mixed_6d` after batch norm
  and ReLU, the first of its concatenated branches. Certain: a PyTorch port that reads this tensor
  (lavinal712/ADM-evaluation-suite-pytorch) reports an sFID of 6.1405 on 50,000 images where ADM's
  TensorFlow evaluator reports 6.1404, and 5.0935 against 5.0946.
- probabilities: softmax of `pool_3` times the weights of `softmax/logits/MatMul`, without the
  biases: ADM's evaluator multiplies by the input of that op. The same port confirms it: an
  Inception score of 141.478 against 141.477.
"""

from hashlib import file_digest
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from setar.features.base import FeatureExtractor, Features, check_images
from setar.files import check_file

SIZE = 299
"""Height and width that the network sees."""

SPATIAL_CHANNELS = 7
CLASSES = 1008

PUBLISHED = "pt_inception-2015-12-05-6726825d.pth"
PUBLISHED_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"

COUNTER = "num_batches_tracked"
"""Of batch norms in training; absent from the published file, present in files saved anew."""


class ConvNorm(nn.Module):
    """Convolution, batch norm, ReLU; ``name`` is that of the published weights in its block."""

    def __init__(
        self,
        name: str,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        padded: bool = True,
    ) -> None:
        super().__init__()
        self.name = name
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, width // 2) if padded else (0, 0)
        self.conv = nn.Conv2d(inputs, outputs, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [B, inputs, H, W] to [B, outputs, H', W']."""
        return self.bn(self.conv(maps)).relu_()


class Branches(nn.ModuleList):
    """Networks side by side on the same maps; their outputs are concatenated along channels."""

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [B, inputs, H, W] to [B, sum of the branches' outputs, H', W']."""
        return torch.cat([branch(maps) for branch in self], dim=1)


def block_a(inputs: int, pooled: int) -> Branches:
    """35x35 maps: 1x1, 5x5, two 3x3, and a pool."""
    return Branches(
        [
            ConvNorm("branch1x1", inputs, 64),
            nn.Sequential(ConvNorm("branch5x5_1", inputs, 48), ConvNorm("branch5x5_2", 48, 64, 5)),
            nn.Sequential(
                ConvNorm("branch3x3dbl_1", inputs, 64),
                ConvNorm("branch3x3dbl_2", 64, 96, 3),
                ConvNorm("branch3x3dbl_3", 96, 96, 3),
            ),
            nn.Sequential(average_pool(), ConvNorm("branch_pool", inputs, pooled)),
        ]
    )


def block_b(inputs: int) -> Branches:
    """35x35 maps to 17x17."""
    return Branches(
        [
            ConvNorm("branch3x3", inputs, 384, 3, stride=2, padded=False),
            nn.Sequential(
                ConvNorm("branch3x3dbl_1", inputs, 64),
                ConvNorm("branch3x3dbl_2", 64, 96, 3),
                ConvNorm("branch3x3dbl_3", 96, 96, 3, stride=2, padded=False),
            ),
            nn.MaxPool2d(3, stride=2),
        ]
    )


def block_c(width: int) -> Branches:
    """17x17 maps of 768 channels: 1x1, one and two 7x7 in rows and columns, and a pool."""
    return Branches(
        [
            ConvNorm("branch1x1", 768, 192),
            nn.Sequential(
                ConvNorm("branch7x7_1", 768, width),
                ConvNorm("branch7x7_2", width, width, (1, 7)),
                ConvNorm("branch7x7_3", width, 192, (7, 1)),
            ),
            nn.Sequential(
                ConvNorm("branch7x7dbl_1", 768, width),
                ConvNorm("branch7x7dbl_2", width, width, (7, 1)),
                ConvNorm("branch7x7dbl_3", width, width, (1, 7)),
                ConvNorm("branch7x7dbl_4", width, width, (7, 1)),
                ConvNorm("branch7x7dbl_5", width, 192, (1, 7)),
            ),
            nn.Sequential(average_pool(), ConvNorm("branch_pool", 768, 192)),
        ]
    )


def block_d(inputs: int) -> Branches:
    """17x17 maps to 8x8."""
    return Branches(
        [
            nn.Sequential(
                ConvNorm("branch3x3_1", inputs, 192),
                ConvNorm("branch3x3_2", 192, 320, 3, stride=2, padded=False),
            ),
            nn.Sequential(
                ConvNorm("branch7x7x3_1", inputs, 192),
                ConvNorm("branch7x7x3_2", 192, 192, (1, 7)),
                ConvNorm("branch7x7x3_3", 192, 192, (7, 1)),
                ConvNorm("branch7x7x3_4", 192, 192, 3, stride=2, padded=False),
            ),
            nn.MaxPool2d(3, stride=2),
        ]
    )


def block_e(inputs: int, pool: nn.Module) -> Branches:
    """8x8 maps: 1x1, one and two 3x3 that end in a row and a column, and a pool."""

    def row_and_column(name: str) -> Branches:
        row = ConvNorm(f"{name}a", 384, 384, (1, 3))
        return Branches([row, ConvNorm(f"{name}b", 384, 384, (3, 1))])

    return Branches(
        [
            ConvNorm("branch1x1", inputs, 320),
            nn.Sequential(ConvNorm("branch3x3_1", inputs, 384), row_and_column("branch3x3_2")),
            nn.Sequential(
                ConvNorm("branch3x3dbl_1", inputs, 448),
                ConvNorm("branch3x3dbl_2", 448, 384, 3),
                row_and_column("branch3x3dbl_3"),
            ),
            nn.Sequential(pool, ConvNorm("branch_pool", inputs, 192)),
        ]
    )


def average_pool() -> nn.Module:
    """3x3 average, the padding not counted: TensorFlow's, and not PyTorch's default."""
    return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)


class InceptionV3(nn.Module):
    """The network under the published names, with random weights; always in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.lower = nn.ModuleDict(
            {
                "Conv2d_1a_3x3": ConvNorm("", 3, 32, 3, stride=2, padded=False),
                "Conv2d_2a_3x3": ConvNorm("", 32, 32, 3, padded=False),
                "Conv2d_2b_3x3": ConvNorm("", 32, 64, 3),
                "pool_1": nn.MaxPool2d(3, stride=2),
                "Conv2d_3b_1x1": ConvNorm("", 64, 80),
                "Conv2d_4a_3x3": ConvNorm("", 80, 192, 3, padded=False),
                "pool_2": nn.MaxPool2d(3, stride=2),
                "Mixed_5b": block_a(192, pooled=32),
                "Mixed_5c": block_a(256, pooled=64),
                "Mixed_5d": block_a(288, pooled=64),
                "Mixed_6a": block_b(288),
                "Mixed_6b": block_c(128),
                "Mixed_6c": block_c(160),
                "Mixed_6d": block_c(160),
            }
        )
        self.upper = nn.ModuleDict(
            {
                "Mixed_6e": block_c(192),
                "Mixed_7a": block_d(768),
                "Mixed_7b": block_e(1280, average_pool()),
                "Mixed_7c": block_e(2048, nn.MaxPool2d(3, stride=1, padding=1)),
            }
        )
        self.fc = nn.Linear(2048, CLASSES)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "InceptionV3":
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(self, images: Tensor) -> Features:
        """Features of uint8 images [B, 3, H, W], on the device of the network.

        Pooled [B, 2048], spatial [B, 2023], probabilities [B, 1008].
        """
        maps = (resize(images.float(), SIZE) - 128) / 128
        for block in self.lower.values():
            maps = block(maps)
        spatial = maps[:, :SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1)
        for block in self.upper.values():
            maps = block(maps)
        pooled = maps.mean(dim=(2, 3))
        probabilities = (pooled @ self.fc.weight.T).softmax(dim=1)
        return Features(pooled, spatial, probabilities)

    def published(self) -> dict[str, Tensor]:
        """The tensors of the network, not copies, under the names of the published weights."""
        parts = {
            f"{block}.{part.name}".strip("."): part
            for block, network in [*self.lower.items(), *self.upper.items()]
            for part in network.modules()
            if isinstance(part, ConvNorm)
        }
        return {
            f"{name}.{key}": tensor
            for name, part in [*parts.items(), ("fc", self.fc)]
            for key, tensor in part.state_dict().items()
            if key != f"bn.{COUNTER}"
        }


class InceptionFeatures(FeatureExtractor):
    """Inception-v3 as a feature extractor; its Frechet distance is FID.

    Images are taken as they are and resized by the network; FIDs are compared between images that
    were made at the same size.
    """

    name = "Inception"

    def __init__(self, network: InceptionV3, device: str | torch.device = "cpu") -> None:
        self.device = device
        self.network = network.to(device)

    @classmethod
    def make(cls, argument: str, device: str | torch.device) -> Self:
        """``inception:FILE``; errors are those of `read_inception`."""
        if not argument:
            raise ValueError("the features 'inception' need their weights: inception:FILE")
        return cls(read_inception(Path(argument)), device)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        """Pooled [B, 2048], spatial [B, 2023] and probabilities [B, 1008] of uint8 images."""
        check_images(images)
        features = self.network(images.to(self.device))
        return Features(*(tensor.cpu() for tensor in features))


def read_inception(file: Path) -> InceptionV3:
    """The network with the weights of a file, loaded strictly, in float32.

    Args:
        file: the published ``.pth``, known by its SHA-256; it alone is unpickled. Any other weights
            come as ``.safetensors`` under the same names, such as ``Mixed_5b.branch1x1.bn.weight``.

    Raises:
        ValueError: there is no such file, it is damaged or another one, or a tensor is missing,
            unknown, or of the wrong shape or kind.
    """
    check_file(file)
    theirs = {name: value for name, value in _read(file).items() if not name.endswith(COUNTER)}
    network = InceptionV3()
    ours = network.published()
    for name in [*ours, *theirs]:
        if name not in theirs:
            raise ValueError(f"{file}: the tensor {name!r} of FID's Inception is missing")
        if name not in ours:
            raise ValueError(f"{file}: FID's Inception has no tensor {name[:80]!r}")
        shape, value = tuple(ours[name].shape), theirs[name]
        if value.shape != shape or not value.is_floating_point():
            found = f"{tuple(value.shape)} {value.dtype}"
            raise ValueError(f"{file}: {name!r} must be floats {shape}, not {found}")
    for name, tensor in ours.items():
        tensor.copy_(theirs[name])
    return network


def resize(images: Tensor, size: int) -> Tensor:
    """Float images [B, C, H, W] to [B, C, size, size] as TensorFlow 1's ResizeBilinear does.

    Output i lies at i * H / size of the input (no half-pixel offset, so the picture shifts), mixes
    the two pixels around that place, and repeats the last pixel beyond it; no antialiasing.
    """
    return _resize_axis(_resize_axis(images, 3, size), 2, size)


def _resize_axis(images: Tensor, axis: int, size: int) -> Tensor:
    length = images.shape[axis]
    place = torch.arange(size, dtype=torch.float32, device=images.device) * (length / size)
    before = place.long()
    after = (before + 1).clamp(max=length - 1)
    share = (place - before).reshape([-1] + [1] * (3 - axis))
    first = images.index_select(axis, before)
    return first + (images.index_select(axis, after) - first) * share


def _read(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except (OSError, SafetensorError, RuntimeError) as error:
            message = f"cannot read {file}: not a safetensors file, or damaged"
            raise ValueError(message) from error
    with file.open("rb") as content:
        digest = file_digest(content, "sha256").hexdigest()
    if digest != PUBLISHED_SHA256:
        raise ValueError(
            f"{file} is not the published {PUBLISHED}, or damaged: its SHA-256 begins with "
            f"{digest[:8]}, not {PUBLISHED_SHA256[:8]}; other weights must be .safetensors"
        )
    return torch.load(file, map_location="cpu", weights_only=True)
