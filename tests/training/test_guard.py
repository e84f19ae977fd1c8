"""A step with a number that is not finite moves nothing."""

import json

import pytest
import torch
from torch import nn

from setar.run_folder import checkpoints
from setar.training.distributed import ALONE
from setar.training.guard import LISTED, Guard
from setar.training.loop import LoopConfig, Objective, Step, Trainer
from setar.training.optim import OptimizerConfig

LOOP = {"steps": 6, "batch_size": 2, "log_every": 1, "checkpoint_every": 1, "device": "cpu"}


class Bad(Objective):
    """A line whose loss, or whose gradient alone, is not finite in some steps (from 1 on)."""

    def __init__(self, steps, where="loss"):
        torch.manual_seed(0)
        super().__init__({"model": nn.Linear(2, 1)}, samples=8)
        self.steps, self.where, self.ended = steps, where, []

    def losses(self, items, step):
        loss = self.networks["model"](torch.ones(1, 2)).square().sum()
        if step + 1 in self.steps:
            if self.where == "loss":
                loss = loss * float("inf")
            else:  # sqrt has no slope at 0, but a value
                loss = loss + (self.networks["model"].weight * 0).sum().sqrt()
        return Step({"model": loss}, {"loss": loss.detach()}, lambda: self.ended.append(step + 1))

    def sources(self, items, step):
        return items + 100


def trainer_of(objective, folder, **changes):
    loop = LoopConfig(**{**LOOP, **changes})
    about = (objective, OptimizerConfig(learning_rate=0.1, clip=0.5), loop, folder)
    return Trainer(*about, lambda weights: ({}, {"model": dict(weights)}))


def log(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("where", "what"),
    [("loss", "the loss of `model` is inf"), ("gradient", "the gradient of `model` is nan")],
)
def test_it_ends_before_the_weights_move(tmp_path, where, what):
    objective = Bad({4}, where)
    trainer, seen = trainer_of(objective, tmp_path), []
    for optimizer in trainer.optimizers["model"].values():
        optimizer.register_step_post_hook(lambda *_: seen.append(trainer.step + 1))
    with pytest.raises(FloatingPointError) as error:
        trainer.run()
    assert sorted(set(seen)) == objective.ended == [1, 2, 3]
    items = ", ".join(str(item + 100) for item in trainer.batches.indices(3).tolist())
    last = checkpoints(tmp_path)[-1]
    assert last.name == "step-00000003"
    assert str(error.value) == (
        f"training diverged at step 4: {what} (items {items}); no weight was moved; go on with "
        "--resume and a smaller `optimizer.learning_rate` or `optimizer.clip`; "
        "loop.skip_bad_steps = 10 would leave out ten of them; the last good checkpoint is "
        f"{last}"
    )
    assert all(p.isfinite().all() for p in trainer.result.parameters())


def test_some_are_left_out_and_counted_also_by_who_goes_on(tmp_path, capsys):
    objective = Bad({2, 4})
    trainer_of(objective, tmp_path, skip_bad_steps=2).run()
    assert objective.ended == [1, 3, 5, 6]
    lines = log(tmp_path)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert ["loss" in line for line in lines] == [True, False, True, False, True, True]
    assert [line.get("skipped_steps", 0) for line in lines] == [0, 1, 1, 2, 2, 2]
    said = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1] for line in said] == [
        " step 2 is skipped, 1 of at most 2", " step 4 is skipped, 2 of at most 2",
    ]  # fmt: skip
    later = trainer_of(Bad({7}), tmp_path, skip_bad_steps=2, steps=8)
    assert later.resume()
    with pytest.raises(FloatingPointError, match="diverged at step 7") as error:
        later.run()
    assert "would leave out" not in str(error.value)


def test_a_step_that_is_left_out_leaves_no_gradient_behind(tmp_path):
    """What follows is as if it had not been, but for the schedule and the items."""
    ends = []
    for steps in ({3}, set()):
        trainer = trainer_of(Bad(steps), tmp_path / str(len(steps)), skip_bad_steps=1)
        for step in (0, 1, *([2] if steps else []), 3):
            trainer._step(step)
        ends.append(trainer.result.weight.detach().clone())
    assert torch.equal(*ends)


def test_of_many_items_some_are_counted():
    guard, items = Guard(ALONE, 0), torch.arange(LISTED + 44)
    nan = {"model": torch.tensor(float("nan"))}
    with pytest.raises(FloatingPointError, match=f"items 0, 1, .*, {LISTED - 1} and 44 more\\)"):
        guard.lets_pass(1, items, nan, nan)
    one = {"model": torch.tensor(1.0)}
    assert guard.lets_pass(2, items, one, one)


def test_norms_of_weights_are_logged(tmp_path):
    trainer = trainer_of(Bad(set()), tmp_path, steps=1)
    trainer.run()
    norm = torch.cat([p.detach().flatten() for p in trainer.result.parameters()]).norm().item()
    [line] = log(tmp_path)
    assert line["parameter_norm/model"] == pytest.approx(norm)
    assert "gradient_norm/model" in line
    assert "skipped_steps" not in line
