"""What a training step of a tokenizer costs, in float32, in bfloat16 and compiled.

python benchmarks/tokenizer_step.py                     `emoji-text`'s, 16 pictures of 64x64
python benchmarks/tokenizer_step.py --config mine.toml  that of a config, with its losses
"""

import argparse
import time

import torch

from setar.config import build, find_config, read_config
from setar.training.distributed import Engine
from setar.training.tokenizer import TokenizerObjective, TokenizerRun, perceptual_maps

WAYS = {
    "float32": (False, False),
    "bfloat16": (True, False),
    "float32, compiled": (False, True),
    "bfloat16, compiled": (True, True),
}
"""Whether in bfloat16, and whether compiled."""


def seconds(run: TokenizerRun, side: int, batch: int, half: bool, compiled: bool) -> float:
    """CPU seconds of a step, forward and backward: the best of several, after the first."""
    torch.manual_seed(0)
    images = torch.randint(256, (batch, 3, side, side), dtype=torch.uint8)
    maps = perceptual_maps(torch.device("cpu")) if run.loss.perceptual else None
    objective = TokenizerObjective(run.tokenizer.create(), images, run.loss, maps)
    for network in objective.networks.values():
        Engine(compiled=compiled).prepare(network.train())
    best = float("inf")
    for _ in range(6):
        began = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            losses = objective.losses(torch.arange(batch), run.loss.critic_start).losses
        torch.stack([*losses.values()]).sum().backward()
        best = min(best, time.process_time() - began)
        for network in objective.networks.values():
            network.zero_grad()
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", default="emoji-text-tokenizer", help="default: %(default)s")
    parser.add_argument("--side", type=int, default=64, help="pixels; default: %(default)s")
    parser.add_argument("--batch", type=int, default=16, help="pictures; default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    run = build(TokenizerRun, read_config(find_config(asked.config)))
    before = 0.0
    for name, way in WAYS.items():
        took = seconds(run, asked.side, asked.batch, *way)
        before = before or took
        print(f"{name:20} {took:.3f} CPU s a step, {before / took:.2f} times as fast", flush=True)


if __name__ == "__main__":
    main()
