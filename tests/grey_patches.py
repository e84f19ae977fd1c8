"""A tokenizer without weights, for any picture whose sides are multiples of 4."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from setar.tokenizers.base import Tokenizer


@dataclass(frozen=True)
class GreyPatchesConfig:
    """There is nothing to choose."""


class GreyPatches(Tokenizer[GreyPatchesConfig]):
    """Codes are the mean brightness of 4x4 pixels; nothing is trained, decoding is exact."""

    Config, presets = GreyPatchesConfig, {"tiny": GreyPatchesConfig()}

    vocabulary = 16  # type: ignore[assignment]  # of the class, so that tests can name it

    def __init__(self, config: GreyPatchesConfig | None = None) -> None:
        super().__init__(config or GreyPatchesConfig())

    def grid(self, height: int, width: int) -> tuple[int, int]:
        return height // 4, width // 4

    def encode(self, images: Tensor) -> Tensor:
        means = F.avg_pool2d(images.mean(1, keepdim=True), 4)
        return means.add(1).div(2).mul(self.vocabulary - 1).round().long().flatten(1)

    def decode(self, codes: Tensor, grid: tuple[int, int]) -> Tensor:
        grey = codes.unflatten(1, grid).float().div(self.vocabulary - 1).mul(2).sub(1)[:, None]
        return grey.repeat_interleave(4, 2).repeat_interleave(4, 3).expand(-1, 3, -1, -1)
