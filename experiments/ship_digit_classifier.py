"""Train the digit classifier whose features measure digits, and put it where the package ships it.

python experiments/ship_digit_classifier.py     # 15 seconds on one CPU core
"""

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from tqdm import trange

from setar.data import digits
from setar.data.digits import DigitSet
from setar.evaluation.distances import frechet_distance
from setar.features.digits import SIZE, WEIGHTS, DigitClassifier

EPOCHS = 40
BATCH = 64
LEARNING_RATE = 2e-3
DROPOUT = 0.2
HALVES = 20


def pictures(data: DigitSet) -> Tensor:
    """Grey values float [n, 8, 8] in 0..1."""
    return (data.codes / (digits.VOCABULARY - 1)).unflatten(1, digits.GRID)


def shifted(batch: Tensor) -> Tensor:
    """The pictures, all moved by the same 0 or 1 pixels in each direction."""
    row, column = torch.randint(3, (2,)).tolist()
    padded = functional.pad(batch, (1, 1, 1, 1))
    return padded[:, row : row + SIZE, column : column + SIZE]


def train() -> DigitClassifier:
    data = digits.load("train")
    grey, steps = pictures(data), EPOCHS * (len(data) // BATCH)
    network = DigitClassifier()
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, steps)
    for _ in trange(EPOCHS, desc="epochs"):
        shuffled = torch.randperm(len(data)).split(BATCH)
        for rows in shuffled[: len(data) // BATCH]:
            features = functional.dropout(network(shifted(grey[rows])), DROPOUT)
            loss = functional.cross_entropy(network.classifier(features), data.labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return network


def report(network: DigitClassifier) -> None:
    for split in ("train", "heldout"):
        data = digits.load(split)
        right = network.classifier(network(pictures(data))).argmax(1) == data.labels
        print(f"{split}: {int(right.sum())} of {len(data)} right, {right.float().mean():.4f}")
    grey = pictures(digits.load("all"))
    features = network(grey)
    shuffles = [torch.randperm(len(features)).chunk(2) for _ in range(HALVES)]
    halves = torch.tensor([frechet_distance(features[a], features[b]) for a, b in shuffles])
    print(f"Frechet distance of {HALVES} random halves: {halves.mean():.2f} +- {halves.std():.2f}")
    ours, unseen = (network(pictures(digits.load(split))) for split in ("train", "heldout"))
    print(f"of the held-out digits to the others: {frechet_distance(unseen, ours):.1f}")
    noisy = (grey + 0.1 * torch.randn_like(grey)).clamp(0, 1)
    print(f"with noise of 0.1: {frechet_distance(network(noisy), features):.1f}")
    print(f"upside down: {frechet_distance(network(grey.flip(1)), features):.1f}")
    print(f"uniform noise: {frechet_distance(network(torch.rand_like(grey)), features):.1f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    weights = train().state_dict()
    save_file({name: value.half() for name, value in weights.items()}, WEIGHTS)
    print(f"{WEIGHTS.name}: {WEIGHTS.stat().st_size} bytes")
    report(DigitClassifier.pretrained())
