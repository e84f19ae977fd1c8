"""What a family of generators is: all that the rest of the code may ask of it.

A new family is one file with a `GeneratorConfig` and a `Generator`, and a line in `FAMILIES` (or
``@FAMILIES.register("name")`` in a plugin). The tests of `tests/contracts` then run over it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, Protocol, Self, TypeVar, get_args

import torch
from torch import Tensor, nn

from setar.device import slow_in_bfloat16
from setar.layers.attention import Mask
from setar.layers.dropout import Dropout
from setar.layers.packed import Packing, pack
from setar.layers.rope import rotation
from setar.models.condition import Condition, make_condition
from setar.numbers import as_real, whole
from setar.recipes.block_masks import training_mask
from setar.recipes.orders import MAX_TOKENS
from setar.recipes.recipe import SetPlan
from setar.registry import Table, quoted

Editing = Literal["kept-first", "suffix", "own"]
"""How a family makes part of an image anew: ``kept-first`` takes the kept tokens as the first set
of a plan in any order; ``suffix`` can only make the last tokens in raster order; ``own`` makes all
tokens in its one order, and kept ones replace what it draws for them."""

Scales = tuple[tuple[int, int], ...]
"""Rows and columns of each token map of an image, coarse to fine."""

ConfigKind = TypeVar("ConfigKind", bound="GeneratorConfig")

# Beyond these a size is a mistake or an attack, which should end in a line and not in an attempt
# to make the model. Each is several times what any published model has.
MAX_CODES = 2**20
"""Of a vocabulary; the largest published ones have 2**18 codes."""
MAX_CLASSES = 2**20
"""Classes; ImageNet has 21841 at most."""
MAX_WIDTH = 2**16
"""Numbers in a token or in the vector of a code; the widest language models have 2**14."""
MAX_LAYERS = 128
"""Blocks of a network; the deepest published language models have 126."""
MAX_PREFIX = 2**14
"""Tokens of a condition; texts have at most some thousand."""


class TokenizerFacts(Protocol):
    """What a generator's shape takes from the tokenizer of its codes."""

    @property
    def vocabulary(self) -> int:
        """Number of different codes."""
        ...

    @property
    def scales(self) -> Scales | None:
        """Its token maps, if there are several; None is one map, of any grid."""
        ...

    @property
    def code_dim(self) -> int:
        """Numbers in the vector of a code."""
        ...


@dataclass(frozen=True)
class GeneratorConfig:
    """What the shapes of all families have in common."""

    vocabulary: int = 16384
    """Number of different codes."""
    classes: int = 1000
    """Number of classes, if it is conditioned on one."""
    grid: tuple[int, int] = (16, 16)
    """Rows and columns of tokens."""
    class_dropout: float = 0.1
    """Share of conditions replaced by "none" while training; guidance needs it above 0."""
    condition: str = "class"
    """A name of `setar.models.condition.CONDITIONS`: what the images are conditioned on."""
    condition_length: int = 1
    """Tokens of the condition, before those of the image; of texts, the most."""
    condition_dim: int = 0
    """Numbers of a token of the text encoder; 0 where there is none."""
    condition_projection: Literal["linear", "mlp"] = "linear"
    """What makes tokens of the model of those of the text encoder: a norm and one matrix, or two
    with a GELU between them, as in LlamaGen."""
    width: int = 768
    """Of the tokens inside the model."""
    heads: int = 12
    """Attention heads."""

    TOKENIZER_FACTS: ClassVar[tuple[str, ...]] = ("vocabulary", "classes", "grid")
    """Fields that follow from tokenizer and data, and that no config file says."""

    def __post_init__(self) -> None:
        check_sizes(self, "vocabulary", most=MAX_CODES)
        check_sizes(self, "classes", most=MAX_CLASSES)
        check_sizes(self, "grid", most=MAX_TOKENS)
        check_sizes(self, "condition_length", most=MAX_PREFIX)
        whole("condition_dim", self.condition_dim, 0, MAX_WIDTH, "no text encoder is that wide")
        if self.condition_projection not in ("linear", "mlp"):
            given = quoted(self.condition_projection)
            raise ValueError(f"`condition_projection` must be 'linear' or 'mlp', not {given}")
        check_sizes(self, "width", "heads", most=MAX_WIDTH)
        share = as_real(self.class_dropout)
        if share is None or not 0 <= share <= 1:
            raise ValueError(f"0 <= `class_dropout` (={self.class_dropout}) <= 1 must hold")

    @property
    def recipe(self) -> str:
        """A recipe that it can be trained and sampled with; token by token unless it says more."""
        return "ar"

    @property
    def sampling_recipe(self) -> str:
        """What it is sampled with unless somebody says more; by default `recipe`."""
        return self.recipe

    def fitted(
        self, tokenizer: TokenizerFacts, condition: Mapping[str, Any], grid: tuple[int, int]
    ) -> Self:
        """The same for the codes of a tokenizer, on ``grid``.

        Args:
            tokenizer: of the codes.
            condition: fields that follow from the data, such as the number of ``classes``.
            grid: rows and columns of the tokens of an image.

        Raises:
            ValueError: the tokenizer does not fit the family.
        """
        if tokenizer.scales is not None:
            raise ValueError(
                "a tokenizer of several scales needs a generator of the family 'var', which makes "
                "one scale after the other; this one has one grid of tokens"
            )
        facts = {"vocabulary": tokenizer.vocabulary, "grid": grid}
        return dataclasses.replace(self, **facts, **condition)


def check_sizes(config: Any, *names: str, most: int = MAX_WIDTH) -> None:
    """ValueError unless these fields are whole numbers from 1 to ``most``.

    A field may be a pair of such numbers, whose product is not more than that either.
    """
    for name in names:
        value = getattr(config, name)
        if isinstance(value, tuple) and len(value) == 2:
            rows, columns = (whole(name, side, 1) for side in value)
            if rows * columns > most:
                raise ValueError(f"`{name}` (={quoted(value)}) must not be more than {most} cells")
        else:
            whole(name, value, 1, most, "no published model comes near")


class Decoding(Protocol):
    """One batch of images being generated."""

    def predict(self, positions: Tensor) -> Tensor:
        """Float32 logits ``[B, n, V]`` of the tokens at raster ``positions`` ``[B, n]``.

        Raises:
            ValueError: the family cannot make these next.
        """
        ...

    def absorb(self, codes: Tensor, positions: Tensor) -> None:
        """Make ``codes`` ``[B, n]`` at ``positions`` ``[B, n]`` known to later steps.

        They may be tokens that were not asked for. Of a family that `takes_soft_codes`, mixtures
        ``[B, n, V]`` too.
        """
        ...


def guided(both: Tensor, scales: Sequence[float]) -> Tensor:
    """u + s (c - u) ``[B, n, D]`` of ``[2 B, n, D]``, the conditional c first; one s, or n."""
    conditional, unconditional = both.chunk(2)
    scale = scales[0] if len(scales) == 1 else both.new_tensor(scales)[:, None]
    # In the memory of one: vocabularies are large.
    return (conditional - unconditional).mul_(scale).add_(unconditional)


class HeadDecoding:
    """A decoding whose model ends in a linear ``head`` without a bias.

    Guidance may then mix what the head reads, which gives the same logits as mixing its logits, and
    lets it compute half as many.
    """

    model: Any

    def ask(self, positions: Tensor) -> Tensor:
        """What the head reads of the tokens at raster ``positions`` ``[B, n]``: ``[B, n, width]``.

        Raises:
            ValueError: the family cannot make these next.
        """
        raise NotImplementedError

    def predict(self, positions: Tensor) -> Tensor:
        """Float32 logits ``[B, n, V]`` of the next set, at raster ``positions`` ``[B, n]``."""
        return self.model.head(self.ask(positions)).float()

    def guided(self, positions: Tensor, scales: Sequence[float]) -> Tensor:
        """Guided logits ``[B / 2, n, V]``: the second half is the first without its conditions."""
        asked = self.ask(positions)
        return self.model.head(guided(asked.float(), scales).to(asked.dtype)).float()


class Generator(nn.Module, Generic[ConfigKind]):
    """A model that predicts codes, trained by calling it and sampled by `start`.

    Conditions are whatever `setar.models.condition.Condition` of the model's config reads, a tensor
    whose first axis is the batch: class ids int64 ``[B]``, where C means "no class".
    """

    Config: ClassVar[type[GeneratorConfig]]
    """The class of its shape."""
    presets: ClassVar[Mapping[str, Any]]
    """Shapes by name; ``tiny`` is there for tests."""
    editing: ClassVar[Editing]
    """How part of an image is made anew; every family must say so."""
    attentions: ClassVar[tuple[str, ...]] = ("causal",)
    """The kinds of attention that it can be sampled with; ``full`` looks at all known tokens anew
    at every step, as in MAR."""
    takes_prefix: ClassVar[bool] = True
    """Whether its condition may be several tokens."""
    takes_soft_codes: ClassVar[bool] = False
    """Whether it reads mixtures of codes."""
    guides: ClassVar[bool] = False
    """Whether its decodings are `HeadDecoding`s, which guide what the head reads."""
    self_correcting: ClassVar[bool] = False
    """Whether it can be trained on mistakes, with `after_mistakes`."""

    packing: Packing | None = None
    """How its weights are laid out, if `pack` was called."""

    condition: Condition
    """Reads what the images are conditioned on."""

    def __init__(self, config: ConfigKind) -> None:
        super().__init__()
        for word in ("Config", "presets", "editing"):
            if not hasattr(self, word):
                raise ValueError(f"the family {type(self).__name__} must say its `{word}`")
        if self.editing not in get_args(Editing):
            known = ", ".join(get_args(Editing))
            raise ValueError(
                f"the `editing` of the family {type(self).__name__} must be one of {known}, "
                f"not {self.editing!r}"
            )
        self.config = config
        self.condition = make_condition(config, config.width)
        if self.condition.length != 1 and not self.takes_prefix:
            raise ValueError(
                f"`condition_length` (={self.condition.length}) must be 1 for "
                f"{type(self).__name__}, which reads no prefix"
            )

    def forward(self, codes: Tensor, condition: Tensor, plan: SetPlan) -> Tensor:
        """Predict every set from the sets before it, all at once (training).

        Args:
            codes: int64 ``[B, N]`` in raster order.
            condition: of each image, ``[B, ...]``.
            plan: orders and clocks of this batch.

        Returns:
            Float32 logits ``[B, N, V]`` in output order: row j predicts ``codes[order[j]]``.

        Raises:
            ValueError: the family cannot follow the plan.
        """
        raise NotImplementedError

    def start(
        self,
        condition: Tensor,
        tokens: int,
        attention: str = "causal",
        cache: bool = True,
        grid: tuple[int, int] | None = None,
    ) -> Decoding:
        """Begin to generate ``tokens`` tokens for each condition.

        Args:
            condition: ``[B, ...]``.
            tokens: most tokens that will be absorbed; caches are allocated for them once.
            attention: one of `attentions`.
            cache: False computes everything anew at each step, to compare with.
            grid: rows and columns of tokens; None is that of the config. Only families that make
                `any_grid` are asked with one.

        Raises:
            ValueError: it cannot be sampled with this attention or on this grid.
        """
        raise NotImplementedError

    def transformer_blocks(self) -> Sequence[nn.Module]:
        """The blocks that hold most of its weights, in the order in which training calls them.

        Each is compiled, recomputed or sharded by itself, so training must call them as modules,
        and use no part of one from outside. By default they are the members of its module lists.
        """
        lists = (child for child in self.children() if isinstance(child, nn.ModuleList))
        return [block for blocks in lists for block in blocks]

    def pack(self, packing: Packing) -> Self:
        """Lay the weights of its blocks and its head out for sampling on a CPU (`layers.packed`).

        With ``int8`` they become whole numbers; norms, embeddings and what reads the condition stay
        float32, and so does all that is added up.

        It is done once, and not undone; the model is for inference from then on.

        Raises:
            ValueError: this torch has not the kernels, or it was laid out in another way.
        """
        if self.packing not in (None, packing):
            raise ValueError(f"a model whose weights are laid out in {self.packing} stays so")
        self.packing = packing
        for block in self.transformer_blocks():
            pack(block, packing)
        if (head := getattr(self, "head", None)) is not None:
            self.head = pack(head, packing)
        return self

    def compute_in(self, precision: str, device: torch.device) -> Self:
        """Bring it to a device, for inference, its products in a precision (`PRECISIONS`).

        On a CPU large weights are laid out for the kernels, see `pack`.

        Raises:
            ValueError: the device, or the way in which its weights are laid out, does not allow it.
        """
        check_precision(precision, device)
        if self.packing == "int8" and precision != "int8":
            raise ValueError(f"a model that is stored in int8 cannot compute in {precision}")
        if precision == "bfloat16":
            return self.to(device, torch.bfloat16)
        if device.type == "cpu":
            return self.pack("int8" if precision == "int8" else "float32")
        return self.to(device)

    def cached_like(self) -> Tensor:
        """An empty tensor of the device and dtype of keys and values that are cached.

        Beside products in int8 they are bfloat16, where the CPU has units for that.
        """
        like = next(self.parameters())
        short = self.packing == "int8" and not slow_in_bfloat16(like.device)
        return like.new_empty(0, dtype=torch.bfloat16 if short else like.dtype)

    def compile_sampling(self, **options: Any) -> Self:
        """Sample in steps of few fixed shapes from now on, compiled at their first use.

        On CUDA ``mode="reduce-overhead"`` records each as a graph, so that a step costs no calls of
        kernels. Full attention and sampling without a cache stay as they are.

        Args:
            options: of `torch.compile`.

        Raises:
            ValueError: the family has no such steps.
        """
        raise ValueError(
            f"sampling with a {type(self).__name__} is not compiled; that of an FMT is"
        )

    def null(self, condition: Tensor) -> Tensor:
        """What stands for no condition, in the shape of ``condition``."""
        return self.condition.null(condition)

    @property
    def any_grid(self) -> bool:
        """Whether it makes images on other grids than its config's too."""
        return False

    def check(self, plan: SetPlan) -> None:
        """Raise ValueError if it cannot follow a plan; by default, if it has not that grid."""
        self.check_grid(plan.grid)

    def check_grid(self, grid: tuple[int, int] | None) -> tuple[int, int]:
        """A grid to generate, its own if None; ValueError if it has not that one."""
        own = (self.config.grid[0], self.config.grid[1])
        if grid is None or tuple(grid) == own:
            return own
        if not self.any_grid:
            raise ValueError(f"the plan is for a grid of {tuple(grid)}, not {own}")
        return grid[0], grid[1]

    def check_attention(self, attention: str) -> None:
        """Raise ValueError unless it can be sampled with this attention."""
        if attention not in self.attentions:
            known = " or ".join(map(repr, self.attentions))
            alone = "full" not in self.attentions
            hint = "; full attention needs a family that was trained for it, an FMT" * alone
            raise ValueError(
                f"`attention` must be {known} for {type(self).__name__}, not {attention!r}{hint}"
            )

    def attach(self, tokenizer: Any) -> None:
        """Take what it needs of the tokenizer of its codes; most families need nothing.

        The tokenizer's weights stay the tokenizer's: they do not enter the state dict.

        Raises:
            ValueError: the tokenizer is not of the kind that it needs.
        """

    def after_mistakes(
        self, features: Tensor, condition: Tensor, wrong: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Predict from codes with mistakes (training with self-correction).

        Args:
            features: float32 ``[B, C, rows, columns]``, of images, by the tokenizer.
            condition: of each image, ``[B, ...]``.
            wrong: int64 ``[B, N]``, codes to put in the place of the right ones.
            mask: bool ``[B, N]``, where they are put.

        Returns:
            Float32 logits ``[B, N, V]``, and the codes ``[B, N]`` that they should predict: those
            that make up for the mistakes before them.
        """
        raise NotImplementedError


PRECISIONS = ("float32", "bfloat16", "int8")
"""What a generator can compute its products in; ``int8`` on CPUs only."""


def check_precision(precision: Any, device: torch.device) -> None:
    """ValueError unless a generator can compute in it on a device."""
    if precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise ValueError(f"`precision` (={quoted(precision)}) must be one of {known}")
    if precision == "int8" and device.type != "cpu":
        raise ValueError(f"`precision` int8 is for CPUs, and not for the device {device}")


def initialise(module: nn.Module) -> None:
    """Normal weights of standard deviation 0.02, as in LlamaGen; for `nn.Module.apply`."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)


@dataclass(frozen=True)
class GridConfig(GeneratorConfig):
    """Shape of a family whose tokens lie on one grid, with rotary embedding."""

    dropout: float = 0.1
    """On tokens, residuals and feed-forward, while training."""
    rope_base: float = 10000.0
    """Base of the wavelengths of rotary embedding."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % (4 * self.heads):
            raise ValueError(
                f"`width` (={self.width}) must be a multiple of 4 x `heads` (={self.heads}), "
                "for 2-D rotary embedding"
            )
        share, base = as_real(self.dropout), as_real(self.rope_base)
        if share is None or not 0 <= share < 1:
            raise ValueError(f"0 <= `dropout` (={self.dropout}) < 1 must hold")
        if base is None or base <= 0:
            raise ValueError(f"`rope_base` (={self.rope_base}) must be above 0")


GridKind = TypeVar("GridKind", bound=GridConfig)


class GridGenerator(Generator[GridKind]):
    """What families of one grid share: input ``[condition, tokens]``, and rotations."""

    def __init__(self, config: GridKind) -> None:
        super().__init__(config)
        self.tokens = nn.Embedding(config.vocabulary, config.width)
        self.dropout = Dropout(config.dropout)

    def embed(self, condition: Tensor | None, codes: Tensor) -> Tensor:
        """Input ``[B, T + n, width]``: T tokens of a condition, if any, and codes ``[B, n]``."""
        x = self.tokens(codes)
        if condition is not None:
            x = torch.cat([self.condition.embed(condition), x], 1)
        return self.dropout(x)

    def cells(self, positions: Tensor, columns: Tensor | int = 0) -> tuple[Tensor, Tensor]:
        """Rows and columns of raster positions ``[B or 1, n]`` on a grid of so many columns.

        ``columns`` may be those of each image, ``[B, 1]``; 0 are those of the config.
        """
        if isinstance(columns, int):
            columns = positions.new_tensor([[columns or self.config.grid[1]]])
        return positions // columns, positions % columns

    def mask(self, key_clock: Tensor, query_clock: Tensor) -> Mask:
        """Where queries see keys in `forward`, of clocks ``[B, K]`` and ``[B, Q]``."""
        return training_mask(key_clock, query_clock, self.config.width // self.config.heads)

    def rotation(self, positions: Tensor, columns: Tensor | int = 0) -> Tensor:
        """Rotations of the `cells` of raster positions ``[B or 1, n]``."""
        config = self.config
        head_dim = config.width // config.heads
        return rotation(*self.cells(positions, columns), head_dim, config.rope_base)


FAMILIES: Table[type[Generator]] = Table(
    "family",
    {
        "fmt": "setar.models.fmt:FullyMaskedTransformer",
        "decoder-only": "setar.models.decoder_only:DecoderOnlyTransformer",
        "var": "setar.models.var:VARTransformer",
        "randar": "setar.models.randar:RandARTransformer",
        "arpg": "setar.models.arpg:ARPGTransformer",
        "lpd": "setar.models.lpd:LPD",
    },
)
"""Families of generators by the name that configs and model folders use."""
