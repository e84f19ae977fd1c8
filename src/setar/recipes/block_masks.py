"""Masks by blocks, for kernels that leave out what nobody sees (FlexAttention, arXiv 2412.05496).

Of a block of queries and a block of keys the smallest and the largest clocks say enough:

    smallest key clock  > largest query clock     nothing is visible; the block is left out
    largest key clock  <= smallest query clock    all is visible; nothing is compared
    else                                          each pair is compared

so that no mask of all pairs is ever made. Blocks that stick out of a mask are compared.
"""

from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask

from setar.recipes.clocks import visible

BLOCK = 128
"""Queries and keys of a block, as the kernels have them."""
LEAST_HEAD = 16
"""Numbers of a head that those kernels need."""
LATEST = 2**63 - 2**10
"""Later than every clock, padding's too; a float has it exactly, which `F.pad` goes through."""


def training_mask(key_clock: Tensor, query_clock: Tensor, head_dim: int) -> Tensor | BlockMask:
    """What `visible` says of clocks ``[B, K]`` and ``[B, Q]``, as `attend` takes it.

    By blocks on a CUDA device with Triton, if there is more than one block of keys; heads of fewer
    than `LEAST_HEAD` numbers, and CPUs, which have no backward pass by blocks, get bools.
    """
    fits = key_clock.shape[-1] > BLOCK and head_dim >= LEAST_HEAD
    if fits and key_clock.device.type == "cuda" and find_spec("triton"):
        return block_mask(key_clock, query_clock)
    return visible(key_clock, query_clock)[:, None]


def block_mask(key_clock: Tensor, query_clock: Tensor) -> BlockMask:
    """What `visible` says of clocks int64 ``[B, K]`` and ``[B, Q]``, by blocks; for all heads.

    Clocks of one row are those of every image.
    """
    rows = len(key_clock)

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return key_clock[batch % rows, key] <= query_clock[batch % rows, query]

    least_key, most_key = _extremes(key_clock, LATEST)
    least_query, most_query = _extremes(query_clock, -LATEST)
    some, all_of_them = visible(least_key, most_query), visible(most_key, least_query)
    return BlockMask.from_kv_blocks(
        *_listed(some & ~all_of_them),
        *_listed(all_of_them),
        BLOCK_SIZE=BLOCK,
        mask_mod=sees,
        seq_lengths=(query_clock.shape[-1], key_clock.shape[-1]),
    )


def _extremes(clock: Tensor, outside: int) -> tuple[Tensor, Tensor]:
    """Smallest and largest clock of each block, ``[B, blocks]``; beyond the end is ``outside``."""
    missing = -clock.shape[-1] % BLOCK
    blocks = F.pad(clock, (0, missing), value=outside).unflatten(-1, (-1, BLOCK))
    return blocks.amin(-1), blocks.amax(-1)


def _listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Of bool ``[B, q, k]``: how many of each row are True, and their numbers first; one head."""
    order = blocks.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    return blocks.sum(-1, dtype=torch.int32)[:, None], order.to(torch.int32)[:, None]
