import errno
import json
import shutil
import sys

import pytest
import safetensors.torch
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from setar import checkpoint
from setar.models.fmt import FMTConfig, FullyMaskedTransformer
from setar.pretrained import locate
from setar.recipes.recipe import Recipe
from setar.run_folder import CLOCKS, checkpoints
from setar.tokenizers.vqgan import VQGAN, VQGANConfig
from setar.training.generator import GeneratorObjective
from setar.training.lock import locked
from setar.training.loop import LoopConfig, Objective, Step, Trainer
from setar.training.optim import OptimizerConfig
from setar.training.stored import kept
from setar.training.tokenizer import TokenizerLossConfig, TokenizerObjective
from tiny_runs import rewrite, state_file

LOOP = {"steps": 8, "batch_size": 4, "log_every": 1, "checkpoint_every": 3, "device": "cpu"}
OPTIMIZER = OptimizerConfig(
    name="muon", learning_rate=3e-3, schedule="cosine", warmup_steps=2, ema=0.9, weight_decay=0.05
)


@pytest.fixture(autouse=True)
def one_thread():
    """Sums come out the same to the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def generator_objective():
    torch.manual_seed(0)
    shape = {"width": 16, "heads": 2, "encoder_layers": 1, "decoder_layers": 1}
    config = FMTConfig(vocabulary=12, classes=3, grid=(3, 3), dropout=0.1, **shape)
    codes, labels = torch.randint(12, (10, 9)), torch.randint(3, (10,))
    recipe = Recipe.parse("random-3-random")
    return GeneratorObjective(FullyMaskedTransformer(config), kept(codes), labels, recipe)


def tokenizer_objective():
    torch.manual_seed(0)
    shape = VQGANConfig(
        channels=8, multipliers=(1, 2), blocks=1, latent_channels=8, codebook_size=64
    )
    images = torch.randint(256, (10, 3, 8, 8), dtype=torch.uint8)
    loss = TokenizerLossConfig(
        adversarial=0.5, critic_start=2, critic_channels=8, critic_layers=1, revive_every=2
    )
    return TokenizerObjective(VQGAN(shape), images, loss)


OBJECTIVES = {"generator": generator_objective, "tokenizer": tokenizer_objective}


class Interrupted(Exception):
    """Stands for whatever ends a process."""


def noisy_picture(module, step):
    """Uses up random numbers, as sampling does."""
    assert not module.training
    return torch.randint(256, (3, 4, 4), dtype=torch.uint8)


def make_trainer(objective, folder, **changes):
    loop = LoopConfig(**{**LOOP, "sample_every": 2, **changes})
    return Trainer(
        objective, OPTIMIZER, loop, folder, lambda w: ({}, {"model": dict(w)}), noisy_picture
    )


def deleted_at_once(folder):
    """Deletes a folder into which TensorBoard's thread may be writing, which makes files anew."""
    gone = folder.rename(folder.with_name("gone"))
    shutil.rmtree(gone, ignore_errors=True)


def broken_at(objective, step):
    """The objective, ending the process in the middle of a step."""
    losses = objective.losses

    def guarded(items, now):
        if now == step:
            raise Interrupted
        return losses(items, now)

    objective.losses = guarded
    return objective


def metrics(folder, without=CLOCKS):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in without} for line in lines]


def everything(trainer):
    """Every tensor that a run depends on."""
    tensors = {f"average {k}": v for k, v in trainer.ema.state.items()}
    tensors |= {f"objective {k}": v for k, v in trainer.objective.state().items()}
    for network, module in trainer.objective.networks.items():
        tensors |= {f"{network} {k}": v for k, v in module.state_dict().items()}
        for name, optimizer in trainer.optimizers[network].items():
            for index, entry in optimizer.state_dict()["state"].items():
                tensors |= {f"{name} {network} {index} {k}": v for k, v in entry.items()}
    return tensors


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert not different


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An uninterrupted run of each kind: trainer and folder."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    runs = {}
    for kind, make in OBJECTIVES.items():
        folder = tmp_path_factory.mktemp(kind)
        runs[kind] = make_trainer(make(), folder), folder
        runs[kind][0].run()
    torch.set_num_threads(threads)
    return runs


# Resuming


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_run_cut_off_in_step_seven_ends_as_if_nothing_had_happened(kind, finished, tmp_path):
    reference, folder = finished[kind]
    first = make_trainer(broken_at(OBJECTIVES[kind](), step=6), tmp_path)
    with pytest.raises(Interrupted):
        first.run()
    assert first.step == 6

    second = make_trainer(OBJECTIVES[kind](), tmp_path)
    assert second.resume()
    assert second.step == 6
    assert_same(everything(second), everything(first))
    second.run()

    assert_same(everything(second), everything(reference))
    assert second.ema.updates == reference.ema.updates == 8
    assert metrics(tmp_path) == metrics(folder)
    last = "checkpoints/step-00000008/model.safetensors"
    assert (tmp_path / last).read_bytes() == (folder / last).read_bytes()


def test_the_runs_above_were_worth_comparing(finished):
    for kind, (trainer, folder) in finished.items():
        new = make_trainer(OBJECTIVES[kind](), folder / "new")
        changed = [not torch.equal(v, everything(new)[k]) for k, v in everything(trainer).items()
                   if k in everything(new)]  # fmt: skip
        assert sum(changed) > 0.9 * len(changed)
        losses = [line["loss"] for line in metrics(folder)]
        assert len(set(losses)) == 8
    lines = metrics(finished["tokenizer"][1])
    assert [line["step"] for line in lines if "critic_loss" in line] == [3, 4, 5, 6, 7, 8]
    last_used = finished["tokenizer"][0].objective.last_used
    assert (last_used <= 5).any(), "some codes were dead, and revived, at the last step"


def test_steps_after_the_checkpoint_are_logged_once(tmp_path):
    with pytest.raises(Interrupted):
        make_trainer(broken_at(generator_objective(), step=5), tmp_path).run()
    assert [line["step"] for line in metrics(tmp_path)] == [1, 2, 3, 4, 5]
    trainer = make_trainer(generator_objective(), tmp_path)
    trainer.resume()
    assert trainer.step == 3
    trainer.run()
    assert [line["step"] for line in metrics(tmp_path)] == list(range(1, 9))


def test_a_log_line_that_was_cut_off_is_forgotten(finished, tmp_path):
    shutil.copytree(finished["generator"][1], tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints/step-00000008")
    log = tmp_path / "run/metrics.jsonl"
    log.write_text(log.read_text()[:-20])
    trainer = make_trainer(generator_objective(), tmp_path / "run")
    trainer.resume()
    trainer.run()
    assert metrics(tmp_path / "run") == metrics(finished["generator"][1])


def test_a_new_run_has_nothing_to_resume(tmp_path):
    trainer = make_trainer(generator_objective(), tmp_path)
    assert not trainer.resume()
    assert trainer.step == 0


def test_a_finished_run_is_left_as_it_is(finished):
    _, folder = finished["generator"]
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    trainer = make_trainer(generator_objective(), folder)
    assert trainer.resume()
    trainer.run()
    assert before == {file: file.stat().st_mtime_ns for file in folder.rglob("*")}


def test_more_steps_go_on_from_the_end(finished, tmp_path):
    shutil.copytree(finished["generator"][1], tmp_path / "run")
    trainer = make_trainer(generator_objective(), tmp_path / "run", steps=10)
    trainer.resume()
    trainer.run()
    assert [line["step"] for line in metrics(tmp_path / "run")] == list(range(1, 11))


def flip(file):
    """Change one bit near the end of a file."""
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_goes_on(finished, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished["tokenizer"][1], run)
    newest = checkpoints(run)[-1]
    file = state_file(newest, "critic-adamw")
    flip(file)
    trainer = make_trainer(tokenizer_objective(), run)
    assert trainer.resume()
    assert trainer.step == 6
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"setar: {file} is damaged: its SHA-256 is not the one in manifest.json")
    assert line.endswith("called step-00000008.damaged, and step-00000006 goes on")
    assert (run / "checkpoints/step-00000008.damaged/train" / file.name).exists()
    trainer.run()
    assert_same(everything(trainer), everything(finished["tokenizer"][0]))
    assert metrics(run) == metrics(finished["tokenizer"][1])
    assert [folder.name for folder in checkpoints(run)] == ["step-00000006", "step-00000008"]


@pytest.mark.parametrize("part", ["model", "average", "model-adamw"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.int8, torch.complex64])
def test_a_checkpoint_with_other_dtypes_is_damaged(finished, tmp_path, part, dtype):
    run = tmp_path / "run"
    shutil.copytree(finished["generator"][1], run)
    file = state_file(checkpoints(run)[-1], part)
    rewrite(file, lambda state: {name: tensor.to(dtype) for name, tensor in state.items()})
    trainer = make_trainer(generator_objective(), run)
    assert trainer.resume()
    assert trainer.step == 6


def test_a_checkpoint_of_version_0_4_goes_on(finished, tmp_path):
    """It had each part of the state whole, in a file beside the model."""
    run = tmp_path / "run"
    shutil.copytree(finished["tokenizer"][1], run)
    shutil.rmtree(checkpoints(run)[-1])
    [newest] = checkpoints(run)
    parts = {"model": checkpoint.load_tensors(newest, "model")}
    for file in (newest / "train").iterdir():
        for name, tensor in load_file(file).items():
            part, _, name = name.partition("/")
            parts.setdefault(f"train-{part}", {})[name] = tensor
    texts = {"progress.json": (newest / "progress.json").read_text()}
    shutil.rmtree(newest)
    checkpoint.save(newest, {}, parts, texts)
    trainer = make_trainer(tokenizer_objective(), run)
    assert trainer.resume()
    assert trainer.step == 6
    trainer.run()
    assert_same(everything(trainer), everything(finished["tokenizer"][0]))


def test_if_all_are_damaged_nothing_is_touched(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished["generator"][1], run)
    for folder in checkpoints(run):
        flip(folder / "model.safetensors")
    trainer = make_trainer(generator_objective(), run)
    before = everything(make_trainer(generator_objective(), run))
    with pytest.raises(ValueError, match=r"\Ano checkpoint of [^\n]*run is whole: ") as error:
        trainer.resume()
    assert "step-00000008/model.safetensors is damaged" in str(error.value)
    assert_same(everything(trainer), before)
    assert [folder.name for folder in checkpoints(run)] == ["step-00000006", "step-00000008"]


def test_a_checkpoint_of_another_model_is_refused(finished, tmp_path):
    shutil.copytree(finished["tokenizer"][1], tmp_path / "run")
    with pytest.raises(ValueError, match="lacks the tensor"):
        make_trainer(generator_objective(), tmp_path / "run").resume()


# Checkpoints on disk


def test_half_a_checkpoint_counts_for_nothing(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished["generator"][1], run)
    partial = run / "checkpoints/.step-00000009.partial"
    partial.mkdir()
    (partial / "model.safetensors").write_bytes(b"half")
    assert [folder.name for folder in checkpoints(run)] == ["step-00000006", "step-00000008"]
    assert locate(run).name == "step-00000008"
    trainer = make_trainer(generator_objective(), run, steps=9)
    trainer.resume()
    assert trainer.step == 8
    trainer.run()
    assert [folder.name for folder in checkpoints(run)] == ["step-00000008", "step-00000009"]
    assert not partial.exists()


@pytest.mark.parametrize(("keep", "left"), [(1, [8]), (2, [6, 8]), (9, [3, 6, 8])])
def test_as_many_checkpoints_are_kept_as_wanted(keep, left, tmp_path):
    make_trainer(generator_objective(), tmp_path, keep=keep).run()
    assert [int(folder.name[5:]) for folder in checkpoints(tmp_path)] == left


def test_old_checkpoints_stay_until_the_new_one_is_complete(tmp_path, monkeypatch):
    complete = checkpoint.seal

    def failing(beside):
        if beside.name == ".step-00000006.partial":
            raise OSError(28, "No space left on device")
        complete(beside)

    monkeypatch.setattr(checkpoint, "seal", failing)
    with pytest.raises(OSError, match="No space"):
        make_trainer(generator_objective(), tmp_path, keep=1).run()
    assert [folder.name for folder in checkpoints(tmp_path)] == ["step-00000003"]


def test_the_exported_weights_are_the_averaged_ones(finished):
    trainer, folder = finished["generator"]
    exported = checkpoint.load_tensors(checkpoints(folder)[-1], "model")
    assert_same(exported, trainer.ema.state)
    own = trainer.result.state_dict()
    assert any(not torch.equal(own[name], exported[name]) for name in own)


# The loop


def test_pictures_come_from_averaged_weights_and_change_nothing(tmp_path):
    seen = []

    def show(module, step):
        seen.append((step, module.training, {k: v.clone() for k, v in module.state_dict().items()}))
        return torch.zeros(3, 4, 6, dtype=torch.uint8)

    trainer = make_trainer(generator_objective(), tmp_path, steps=3, sample_every=2)
    trainer.show = show
    trainer.run()
    assert [(step, training) for step, training, _ in seen] == [(2, False), (3, False)]
    assert_same(seen[-1][2], trainer.ema.state)
    assert trainer.result.training
    with Image.open(tmp_path / "samples/step-00000003.png") as picture:
        assert picture.size == (6, 4)
    plain = make_trainer(generator_objective(), tmp_path / "plain", steps=3)
    plain.show = None
    plain.run()
    assert_same(everything(trainer), everything(plain))


def test_gradients_are_clipped_and_the_true_norm_is_logged(tmp_path):
    trainer = make_trainer(generator_objective(), tmp_path, steps=1)
    head, norms = trainer.result.head.weight, []
    losses = trainer.objective.losses

    def enlarged(items, step):
        found = losses(items, step)
        return found._replace(losses={name: 1e4 * loss for name, loss in found.losses.items()})

    trainer.objective.losses = enlarged
    optimizer = trainer.optimizers["model"]["adamw"]
    update = optimizer.step

    def measured():
        grads = [p.grad for p in trainer.result.parameters() if p.grad is not None]
        norms.append(torch.stack([g.norm() for g in grads]).norm().item())
        update()

    optimizer.step = measured
    trainer.run()
    assert norms == [pytest.approx(OPTIMIZER.clip, rel=1e-3)]
    assert metrics(tmp_path)[0]["gradient_norm/model"] > 100
    assert head.grad is None


def test_the_schedule_reaches_every_group(finished):
    trainer, folder = finished["tokenizer"]
    rates = [line["learning_rate"] for line in metrics(folder)]
    assert rates[:3] == pytest.approx([1.5e-3, 3e-3, 3e-3])
    assert rates[3:] == sorted(rates[3:], reverse=True)
    for optimizers in trainer.optimizers.values():
        groups = [group for optimizer in optimizers.values() for group in optimizer.param_groups]
        assert [group["lr"] for group in groups] == [rates[-1]] * len(groups)


def test_bfloat16_on_a_cpu_trains_and_keeps_float32_weights(tmp_path):
    steps = {}
    for precision in ("bfloat16", "float32"):
        trainer = make_trainer(generator_objective(), tmp_path, steps=2, precision=precision)
        steps[precision] = trainer._step(0)["gradient_norm/model"].item()
        assert {p.dtype for p in trainer.result.parameters()} == {torch.float32}
    assert steps["bfloat16"] != steps["float32"]
    assert steps["bfloat16"] == pytest.approx(steps["float32"], rel=0.02)


def test_without_averaging_the_plain_weights_are_exported(tmp_path):
    objective = generator_objective()
    trainer = Trainer(
        objective,
        OptimizerConfig(ema=0.0),
        LoopConfig(**{**LOOP, "steps": 1}),
        tmp_path,
        lambda w: ({}, {"model": dict(w)}),
    )
    trainer.run()
    assert_same(checkpoint.load_tensors(checkpoints(tmp_path)[-1], "model"),
                trainer.result.state_dict())  # fmt: skip


class Explosion(Objective):
    """An objective whose loss is no number from some step on."""

    def __init__(self, step):
        super().__init__({"model": nn.Linear(2, 1)}, samples=4)
        self.last = step

    def losses(self, items, step):
        loss = self.networks["model"](torch.ones(1, 2)).sum()
        loss = loss * float("nan") if step >= self.last else loss
        return Step({"model": loss}, {"loss": loss.detach()})


def test_divergence_is_an_error_and_never_a_checkpoint(tmp_path):
    loop = LoopConfig(**{**LOOP, "log_every": 100})
    trainer = Trainer(Explosion(4), OPTIMIZER, loop, tmp_path, lambda w: ({}, {"m": dict(w)}))
    with pytest.raises(FloatingPointError, match="diverged at step 5: the loss of `model` is nan"):
        trainer.run()
    assert [folder.name for folder in checkpoints(tmp_path)] == ["step-00000003"]


def test_weights_that_are_not_finite_replace_no_good_checkpoint(tmp_path):
    trainer = make_trainer(generator_objective(), tmp_path, keep=1, log_every=100)
    step = trainer._step

    def overflow(number):
        found = step(number)
        if number == 4:  # seen by no loss, and by no gradient
            trainer.ema.state["tokens.weight"][3, 5] = float("inf")
        return found

    trainer._step = overflow
    message = (
        r"diverged at step 6: `tokens.weight` of average is not finite; .* is .*step-00000003\Z"
    )
    with pytest.raises(FloatingPointError, match=message):
        trainer.run()
    [left] = checkpoints(tmp_path)
    assert left.name == "step-00000003"
    assert checkpoint.load_tensors(left, "model")["tokens.weight"].isfinite().all()


@pytest.mark.parametrize("part", ["model", "model-adamw", "average"])
def test_a_checkpoint_of_nan_is_left_out(finished, tmp_path, part):
    """Such as an earlier version could write."""
    run = tmp_path / "run"
    shutil.copytree(finished["generator"][1], run)

    def with_nan(state):
        next(v for v in state.values() if v.ndim)[0] = float("nan")
        return state

    rewrite(state_file(checkpoints(run)[-1], part), with_nan)
    trainer = make_trainer(generator_objective(), run)
    assert trainer.resume()
    assert trainer.step == 6


@pytest.mark.parametrize("where", ["show", "picture", "folder"])
def test_what_cannot_be_drawn_ends_no_training(tmp_path, capsys, where):
    trainer = make_trainer(generator_objective(), tmp_path, steps=2)
    if where == "show":
        trainer.show = lambda module, step: (_ for _ in ()).throw(ValueError("no\nsampling"))
    elif where == "picture":
        trainer.show = lambda module, step: torch.zeros(3, 0, 4, dtype=torch.uint8)
    else:
        (tmp_path / "samples").write_text("mine")
    trainer.run()
    assert [folder.name for folder in checkpoints(tmp_path)] == ["step-00000002"]
    *_, said = capsys.readouterr().err.splitlines()
    assert said.startswith("setar: no picture of step 2: ")
    plain = make_trainer(generator_objective(), tmp_path / "plain", steps=2)
    plain.run()
    assert_same(everything(trainer), everything(plain))


@pytest.mark.parametrize("where", ["model", "state"])
def test_a_full_disk_names_the_last_checkpoint_and_leaves_nothing_half(
    tmp_path, monkeypatch, where
):
    trainer = make_trainer(generator_objective(), tmp_path)
    export, state = checkpoint.save_file, safetensors.torch.save

    def full_at_export(tensors, file):
        export(tensors, file)
        if trainer.step == 6 and where == "model":
            raise SafetensorError("I/O error: No space left on device (os error 28)")

    def full_at_state(tensors, **options):
        if trainer.step == 6 and where == "state":
            raise OSError(errno.ENOSPC, "No space left on device")
        return state(tensors, **options)

    monkeypatch.setattr(checkpoint, "save_file", full_at_export)
    monkeypatch.setattr(safetensors.torch, "save", full_at_state)
    with pytest.raises(OSError, match=r"\Acannot write .*No space left.* is .*step-00000003\Z"):
        trainer.run()
    assert [f.name for f in (tmp_path / "checkpoints").iterdir()] == ["step-00000003"]


def test_a_folder_that_is_deleted_in_mid_run_ends_it(tmp_path):
    trainer = make_trainer(generator_objective(), tmp_path / "run", sample_every=0)
    step = trainer._step

    def deleted(number):
        if number == 4:
            deleted_at_once(tmp_path / "run")
        return step(number)

    trainer._step = deleted
    with pytest.raises(OSError, match=r"run.*; there is no checkpoint yet\Z"):
        trainer.run()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["tensorboard", "samples"])
def test_curves_and_pictures_that_are_deleted_in_mid_run_end_nothing(tmp_path, capsys, name):
    trainer = make_trainer(generator_objective(), tmp_path)
    step = trainer._step

    def deleted(number):
        if number == 4:
            deleted_at_once(tmp_path / name)
        return step(number)

    trainer._step = deleted
    trainer.run()
    assert len(metrics(tmp_path)) == 8
    assert checkpoints(tmp_path)[-1].name == "step-00000008"
    err = capsys.readouterr().err
    assert err.count("\n") == err.count("setar: ") <= 1


def test_a_place_where_no_checkpoint_can_be_is_found_before_the_work(tmp_path):
    (tmp_path / "checkpoints").write_text("mine")
    trainer = make_trainer(generator_objective(), tmp_path)
    with pytest.raises(OSError, match="checkpoints"):
        trainer.run()
    assert trainer.step == 0
    assert (tmp_path / "checkpoints").read_text() == "mine"


def test_a_new_training_of_another_process_is_refused(tmp_path):
    trainer = make_trainer(generator_objective(), tmp_path)
    with locked(tmp_path), pytest.raises(ValueError, match="another training goes on in"):
        trainer.run()


def test_other_amounts_of_images_are_said(finished, tmp_path, capsys):
    shutil.copytree(finished["generator"][1], tmp_path / "run")
    objective = generator_objective()
    objective.samples = 12
    trainer = make_trainer(objective, tmp_path / "run", steps=9)
    assert trainer.resume()
    assert "an epoch has 12 images now, 10 before" in capsys.readouterr().out


class Pair(Objective):
    """Two networks: the loss of the first passes through both, that of the second is its own."""

    def __init__(self, pull):
        torch.manual_seed(0)
        super().__init__({"first": nn.Linear(2, 2), "second": nn.Linear(2, 1)}, samples=4)
        self.pull, self.finished = pull, []

    def losses(self, items, step):
        first, second = self.networks.values()
        through, alone = second(first(torch.ones(1, 2))).sum(), second(torch.ones(1, 2)).sum()
        before = [network.weight.detach().clone() for network in (first, second)]

        def finish():
            after = (first.weight, second.weight)
            moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
            self.finished.append((step, moved))

        return Step(
            {"first": self.pull * through, "second": alone}, {"loss": alone.detach()}, finish
        )


def test_a_loss_moves_its_own_network_alone_and_then_the_step_is_finished(tmp_path):
    ends = []
    for pull in (1.0, -3.0):
        objective, loop = Pair(pull), LoopConfig(**{**LOOP, "steps": 2})
        folder = tmp_path / str(pull)
        Trainer(objective, OPTIMIZER, loop, folder, lambda w: ({}, {"model": dict(w)})).run()
        assert objective.finished == [(0, [True, True]), (1, [True, True])]
        assert all(p.grad is None for n in objective.networks.values() for p in n.parameters())
        ends.append([network.weight for network in objective.networks.values()])
    assert not torch.equal(ends[0][0], ends[1][0])
    assert torch.equal(ends[0][1], ends[1][1])


def test_what_a_step_changes_at_its_end_is_averaged(tmp_path):
    class Fixed(Explosion):
        def losses(self, items, step):
            found = super().losses(items, step)
            return found._replace(finish=lambda: self.networks["model"].bias.data.fill_(7.0))

    loop = LoopConfig(**{**LOOP, "steps": 1})
    trainer = Trainer(Fixed(9), OPTIMIZER, loop, tmp_path, lambda w: ({}, {"model": dict(w)}))
    before = trainer.ema.state["bias"].clone()
    trainer.run()
    decay = 2 / 11  # of the first update, see `AveragedWeights`
    torch.testing.assert_close(trainer.ema.state["bias"], decay * before + (1 - decay) * 7.0)


def test_without_a_terminal_progress_is_plain_lines(tmp_path, capsys):
    make_trainer(generator_objective(), tmp_path, steps=2).run()
    out, err = capsys.readouterr()
    assert [line.split(",")[0] for line in out.splitlines()] == ["step 1 of 2", "step 2 of 2"]
    assert "loss 2." in out
    assert err == ""


def test_without_tensorboard_there_are_no_curves(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    make_trainer(generator_objective(), tmp_path).run()
    out, err = capsys.readouterr()
    assert out.count("no curves, for TensorBoard is not installed (pip install setar[train])") == 1
    assert err == ""
    assert len(metrics(tmp_path)) == 8
    assert not (tmp_path / "tensorboard").exists()


def test_tensorboard_gets_the_losses(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, folder = finished["generator"]
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    logged = [line["loss"] for line in metrics(folder)]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(logged)


# Settings


def test_the_device_is_looked_for():
    assert LoopConfig(device="cpu").resolve_device() == torch.device("cpu")
    with pytest.raises(ValueError, match="no device 'cuda:99'"):
        LoopConfig(device="cuda:99").resolve_device()


@pytest.mark.parametrize(
    ("name", "there", "expected"),
    [
        ("auto", True, "cuda:3"),
        ("cuda", True, "cuda:3"),
        ("cpu", True, "cpu"),
        ("cuda:1", True, "cuda:1"),
        ("auto", False, "auto"),
    ],
)
def test_each_process_of_a_machine_has_its_own_gpu(monkeypatch, name, there, expected):
    asked, taken = [], []
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr("setar.training.loop.find_device", lambda text: asked.append(text) or text)
    assert LoopConfig(device=name).resolve_device() == expected
    assert asked == [expected]
    assert taken == ["cuda:3"] * (expected == "cuda:3")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("batch_size", 0),
        ("log_every", 0),
        ("checkpoint_every", 0),
        ("keep", 0),
        ("steps", 10**10),
        ("batch_size", 10**10),
        ("log_every", 2**62),
        ("sample_every", 2**62),
        ("checkpoint_every", 2**62),
        ("keep", 2**62),
        ("sample_every", -1),
        ("seed", -1),
        ("seed", 2**40),
    ],
)
def test_impossible_loops_are_refused(name, value):
    with pytest.raises(ValueError, match="must be"):
        LoopConfig(**{name: value})
