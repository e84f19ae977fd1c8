"""Other systems' own code, timed beside ours in the same run.

A peer is a Python file of yours, outside this package, with one function::

    def load(preset):
        # `preset` is what `setar bench` was asked for, such as "fmt:B": choose a model of that size
        model = their_code.GPT_B().eval()

        def sample(batch, steps):
            # make the codes of `batch` images in `steps` steps, with guidance as ours has it;
            # threads and device are those of this process; raise ValueError if it cannot
            return model.generate(torch.arange(batch) % 1000, steps)

        return sample

The name of the file is the peer's. What it returns is not looked at; what it raises is shown.

A peer runs in this process, and `import setar` sets ``THP_MEM_ALLOC_ENABLE=1`` for it. That slows
code that makes large tensors anew at each step, up to twice; 0, set before the command, is what
such code has by itself, and then ours has it too.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any


def load_peers(folder: Path, preset: str) -> dict[str, Callable[[int, int], Any]]:
    """The peers of a folder by name, one of each Python file in it.

    Raises:
        ValueError: there is no such folder, it has no Python file, or one has no `load`.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder of peers")
    files = sorted(folder.glob("[!._]*.py"))
    if not files:
        raise ValueError(f"{folder} has no peer: a Python file with a function `load(preset)`")
    return {file.stem: _load(file, preset) for file in files}


def _load(file: Path, preset: str) -> Callable[[int, int], Any]:
    spec = importlib.util.spec_from_file_location(f"setar_peer_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        load = getattr(module, "load", None)
        sample = load(preset) if callable(load) else None
    except Exception as error:  # a user's own code may raise anything
        raise ValueError(f"{file}: {type(error).__name__}: {error}".splitlines()[0]) from error
    if load is None:
        raise ValueError(f"{file} has no function `load(preset)`")
    if not callable(sample):
        raise ValueError(f"{file}: `load` must return a function of batch and steps")
    return sample
