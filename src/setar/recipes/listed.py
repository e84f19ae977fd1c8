"""Orders that a file lists: ``FILE.json-20-lpd`` is a recipe.

The file is JSON, a list of orders, each a list of the raster indices of all tokens: what LPD
publishes (hub ``mit-han-lab/lpd_orders``). Each image takes one of them, by its own seed. The order
in a recipe is the path of the file, with its ending.
"""

import json
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor

from setar.recipes.orders import ORDERS, Order
from setar.registry import quoted

ENDING = ".json"
"""Of the names of orders that are files."""


def find_order(name: str) -> Order:
    """The order of this name, or of a file, which is read when it is drawn.

    Raises:
        ValueError: there is no such name; of a file, when it is drawn.
    """
    if isinstance(name, str) and name.endswith(ENDING):
        return Order(name, partial(_draw, name), per_image=True, uses_sizes=False, sizes=None)
    return ORDERS.find(name)


def _draw(
    path: str, height: int, width: int, batch: int, generator: torch.Generator | None
) -> Tensor:
    """Return int64 [batch, N]: one of the listed orders for each image."""
    try:
        state = Path(path).stat()
    except (OSError, ValueError) as error:  # the latter of what cannot be a path
        raise _unreadable(path, error) from error
    orders = _read(path, state.st_mtime_ns, state.st_size)
    if orders.shape[1] != height * width:
        raise ValueError(
            f"the orders of {quoted(path)} have {orders.shape[1]} tokens, not the "
            f"{height * width} of the grid {height}x{width}"
        )
    return orders[torch.randint(len(orders), (batch,), generator=generator)].long()


@lru_cache(maxsize=2)
def _read(path: str, _changed: int, _size: int) -> Tensor:
    """Return int32 [orders, N]; ValueError if the file is something else."""
    try:
        orders = torch.tensor(json.loads(Path(path).read_bytes()))
    except OSError as error:
        raise _unreadable(path, error) from error
    except (ValueError, TypeError, RuntimeError, RecursionError) as error:
        raise ValueError(_rule(path)) from error
    if orders.dtype != torch.int64 or orders.ndim != 2 or not orders.numel():
        raise ValueError(_rule(path))
    tokens = orders.shape[1]
    whole = (orders.sort(1).values == torch.arange(tokens)).all(1)
    if not whole.all():
        first = int(whole.long().argmin())
        raise ValueError(f"{_rule(path)} 0..{tokens - 1}, each once; order {first} is none")
    return orders.to(torch.int32)


def _unreadable(path: str, error: Exception) -> ValueError:
    reason = getattr(error, "strerror", error)
    return ValueError(f"cannot read the orders of {quoted(path)}: {reason}")


def _rule(path: str) -> str:
    return f"{quoted(path)} must hold a list of orders in JSON, each a list of raster indices"
