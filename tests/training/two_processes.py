"""What two processes must do as one does: begun by test_distributed.py, a check a function.

Each process runs every check; what went wrong in one is written to FOLDER/RANK.json by the check's name.
"""

import copy
import csv
import json
import logging
import os
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from made_slices import write_slices
from rich.console import Console
from torch import Tensor, nn

from labelassemble.config import load_config
from labelassemble.errors import LabelAssembleError
from labelassemble.functional import global_counts
from labelassemble.loss import MaskedBCEWithLogitsLoss, PartialLabelLoss
from labelassemble.report.detection import DetectionResults
from labelassemble.run import assemble_config, train_run
from labelassemble.run import training as run_module
from labelassemble.training.accumulate import Counts, count, split
from labelassemble.training.batch_norm import GlobalBatchNorm, synchronised
from labelassemble.training.checkpoint import load_checkpoint
from labelassemble.training.display import Display
from labelassemble.training.distributed import OtherProcessFailed, Processes, data_parallel, joined
from labelassemble.training.interrupt import TrainingInterrupted
from labelassemble.views.batch import Batch
from labelassemble.views.sampler import Sampler

QUIET = Console(quiet=True)
SHARES = ([4, 4], [5, 3], [8, 0], [0, 8])  # images of each process


def _mine(x: Tensor, shares: list[int], processes: Processes) -> Tensor:
    return x.split(shares)[processes.rank]


def check_batch_norm_is_that_of_the_whole_batch(processes: Processes, folder: Path) -> None:
    torch.manual_seed(0)
    for shares in SHARES:
        for shape in ((8, 3, 5, 4), (8, 3)):
            plain: nn.Module = nn.BatchNorm2d(3) if len(shape) == 4 else nn.BatchNorm1d(3)
            plain = plain.double()
            nn.init.normal_(plain.weight)
            ours = synchronised(copy.deepcopy(plain), torch.device("cpu"))
            assert isinstance(ours, GlobalBatchNorm)
            shared = data_parallel(ours)
            for _ in range(2):
                x = 100 + torch.randn(shape, dtype=torch.float64)
                weights = torch.randn(shape, dtype=torch.float64)
                whole = x.clone().requires_grad_()
                part = _mine(x, shares, processes).clone().requires_grad_()
                expected = plain(whole)
                (expected * weights).sum().backward()
                found = shared(part)
                (2 * found * _mine(weights, shares, processes)).sum().backward()
                torch.testing.assert_close(found, _mine(expected, shares, processes), rtol=1e-9, atol=1e-11)
                torch.testing.assert_close(
                    part.grad, 2 * _mine(whole.grad, shares, processes), rtol=1e-9, atol=1e-11
                )
            for name, value in plain.named_parameters():
                torch.testing.assert_close(ours.get_parameter(name).grad, value.grad, rtol=1e-9, atol=1e-11)
            for name, value in plain.state_dict().items():
                torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(ours.eval()(x), plain.eval()(x))


def _net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.LazyLinear(3)
    )


def check_gradients_are_those_of_one_process(processes: Processes, folder: Path) -> None:
    torch.manual_seed(0)
    alone = _net().double()
    alone(torch.zeros(1, 1, 8, 8, dtype=torch.float64))
    shared = data_parallel(synchronised(copy.deepcopy(alone), torch.device("cpu")))
    criterion = PartialLabelLoss(pseudo_weight=0.7, consistency_weight=0.3)
    weak, strong = torch.randn(2, 8, 1, 8, 8, dtype=torch.float64).unbind()
    targets = (torch.rand(8, 3) < 0.5).double()
    targets[torch.rand(8, 3) < 0.5] = float("nan")
    targets[5:] = targets[5:].nan_to_num(0.0)  # with shares [5, 3] the second process has no unknown label
    for shares in SHARES:
        alone.zero_grad()
        shared.zero_grad()
        a, b = alone(torch.cat([weak, strong])).chunk(2)
        whole = criterion.terms(a, b, targets)
        whole.total.backward()
        part = [_mine(x, shares, processes) for x in (weak, strong, targets)]
        counts = Counts(*(int(v) for v in processes.sum(count(part[2])[:3])))
        assert counts == count(targets)
        a, b = shared(torch.cat(part[:2])).chunk(2)
        terms = criterion.terms(a, b, part[2], counts=counts.divisors(count(part[2])))
        (2 * terms.total).backward()
        sums = processes.sum([float(term.detach()) for term in terms])
        torch.testing.assert_close(
            torch.tensor(sums, dtype=torch.float64),
            torch.stack([term.detach().double() for term in whole]),
            rtol=1e-10,
            atol=1e-12,
        )
        for name, value in alone.named_parameters():
            found = shared.module.get_parameter(name).grad
            torch.testing.assert_close(found, value.grad, rtol=1e-8, atol=1e-12, msg=f"{name} {shares}")


def check_parts_and_processes_together(processes: Processes, folder: Path) -> None:
    """A batch in three parts on two processes, one of which has fewer images than parts; no BatchNorm."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double()
    images, targets = torch.randn(7, 1, 4, 4, dtype=torch.float64), (torch.rand(7, 3) < 0.5).double()
    targets[torch.rand(7, 3) < 0.4] = float("nan")
    criterion = PartialLabelLoss()
    expected = torch.autograd.grad(criterion(net(images), None, targets), list(net.parameters()))
    mine, known = (_mine(x, [5, 2], processes) for x in (images, targets))
    parts = list(split(Batch(0, torch.arange(len(mine)), mine, None, known), 3, keep_empty=True))
    assert len(parts) == 3
    shared = data_parallel(net)
    net.zero_grad()
    for part in parts:
        divisors = count(targets).divisors(count(part.targets))
        with nullcontext() if part is parts[-1] else shared.no_sync():
            terms = criterion.terms(shared(part.weak), None, part.targets, counts=divisors)
            (2 * terms.total).backward()
    for parameter, gradient in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-10, atol=1e-14)


def check_public_counts_give_the_gradient_of_one_process(processes: Processes, folder: Path) -> None:
    """Two known labels on one process, twelve on the other, in parts; averaged by DDP, or divided by the parts too."""
    torch.manual_seed(0)
    net = nn.Linear(5, 3).double()
    weak, strong = torch.randn(2, 8, 5, dtype=torch.float64).unbind()
    targets = (torch.rand(8, 3) < 0.5).double()
    targets[:4].view(-1)[2:] = float("nan")
    shared = data_parallel(net)
    losses: list[nn.Module] = [
        PartialLabelLoss(pseudo_weight=0.7),
        PartialLabelLoss(known_mean="class", class_weight=[1.0, 2.0, 0.5], strong_known=True),
        PartialLabelLoss(pseudo_weight=0.0, consistency_weight=0.0),
    ]
    mine = [_mine(x, [4, 4], processes) for x in (weak, strong, targets)]
    for criterion in losses:
        whole = criterion(net(weak), net(strong), targets)
        expected = torch.autograd.grad(whole, list(net.parameters()))
        for divided in (1, 2):
            parts = list(zip(*(x.chunk(2) for x in mine), strict=True))
            counts = global_counts(
                [part[2] for part in parts], divided_by=2 * divided if divided > 1 else None
            )
            net.zero_grad()
            total = 0.0
            for number, (a, b, labels) in enumerate(parts):
                with nullcontext() if number else shared.no_sync():
                    z = shared(torch.cat([a, b])).chunk(2)
                    loss = criterion(*z, labels, counts=counts) / divided
                    loss.backward()
                total += float(loss)
            assert abs(processes.sum([total])[0] / 2 - float(whole)) < 1e-12
            for parameter, gradient in zip(net.parameters(), expected, strict=True):
                torch.testing.assert_close(parameter.grad, gradient, rtol=1e-10, atol=1e-14)
    bce = MaskedBCEWithLogitsLoss(torch.rand(3), pos_weight=2.0).double()
    expected = torch.autograd.grad(bce(net(weak), targets), list(net.parameters()))
    net.zero_grad()
    bce(shared(mine[0]), mine[2], global_counts(mine[2])).backward()
    for parameter, gradient in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-10, atol=1e-14)


class _Branches(nn.Module):
    """A network of which a part is left out on request."""

    def __init__(self) -> None:
        super().__init__()
        self.always, self.sometimes = nn.Linear(2, 1), nn.Linear(2, 1)

    def forward(self, x: Tensor, both: bool) -> Tensor:
        y: Tensor = self.always(x)
        return y + self.sometimes(x) if both else y


def check_a_parameter_may_be_left_out_in_any_part_of_any_process(processes: Processes, folder: Path) -> None:
    torch.manual_seed(0)
    net = _Branches()
    shared = data_parallel(net)
    for number in range(16):
        used = [[bool(number >> (2 * rank + part) & 1) for part in (0, 1)] for rank in (0, 1)]
        images = torch.randn(2, 2, 3, 2)  # [processes, parts, B, features]
        pairs = [(images[rank, part], used[rank][part]) for rank in (0, 1) for part in (0, 1)]
        expected = torch.autograd.grad(
            sum(net(x, both).sum() for x, both in pairs), list(net.parameters()), allow_unused=True
        )
        shared.zero_grad()
        for part in (0, 1):
            with shared.no_sync() if part == 0 else nullcontext():
                (2 * shared(images[processes.rank, part], used[processes.rank][part]).sum()).backward()
        for parameter, gradient in zip(net.parameters(), expected, strict=True):
            if gradient is None:
                assert parameter.grad is None
            else:
                torch.testing.assert_close(parameter.grad, gradient, msg=str(used))


def _metrics(run: Path) -> list[dict[str, float]]:
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row.pop("seconds")
    return [{name: float(value) if value else -1.0 for name, value in row.items()} for row in rows]


def _same_curve(one: Path, two: Path, tolerance: float) -> None:
    for a, b in zip(_metrics(one), _metrics(two), strict=True):
        assert a.keys() == b.keys()
        for name, value in a.items():
            assert abs(value - b[name]) <= tolerance * max(1.0, abs(value)), (name, value, b[name])


def check_the_learning_curve_is_that_of_one_process(processes: Processes, folder: Path) -> None:
    # 24 training images in two batches, which divide evenly; in two parts as well.
    options = ["train.accumulate=2", "train.ema=0.9", "train.sampling=balanced", "train.clip_norm=1.0"]
    for name, overrides in (("plain", []), ("options", options)):
        config = load_config(folder / "run.yaml", ["train.epochs=2", "train.batch_size=12", *overrides])
        if processes.first:
            train_run(config, folder / f"{name}-alone", resume=False, console=QUIET)
        train_run(config, folder / f"{name}-two", resume=False, console=QUIET, processes=processes)
        if processes.first:
            _same_curve(folder / f"{name}-alone", folder / f"{name}-two", 2e-3)
            first_alone, first_two = (_metrics(folder / f"{name}-{kind}")[0] for kind in ("alone", "two"))
            assert abs(first_alone["train_loss"] - first_two["train_loss"]) < 1e-4
            assert (folder / f"{name}-two" / "checkpoints" / "best.pt").exists()


def check_the_learning_curve_of_volumes_is_that_of_one_process(processes: Processes, folder: Path) -> None:
    """Crops of 14 slices in batches of 5: the processes' parts differ in size, one has none in some steps."""
    slices = folder / "slices"
    if processes.first:
        slices.mkdir()
        write_slices(slices)
    processes.together(lambda: None)
    changes = ["loss.warmup_epochs=0", "loss.known_mean=class", "sources.0.exclusive=all"]
    for batch_size, steps in ((5, 3), (1, 2)):
        size = [f"train.batch_size={batch_size}", f"train.steps_per_epoch={steps}", "train.epochs=1"]
        config = load_config(slices / "run.yaml", [*changes, *size])
        alone, two = (slices / f"{kind}{batch_size}" for kind in ("alone", "two"))
        if processes.first:
            train_run(config, alone, resume=False, console=QUIET)
        train_run(config, two, resume=False, console=QUIET, processes=processes)
        if processes.first:
            _same_curve(alone, two, 2e-3)
            found = [_metrics(run)[0] for run in (alone, two)]
            assert found[0]["train_dice"] > 0
            for name in ("train_loss", "train_dice"):
                assert abs(found[0][name] - found[1][name]) < 1e-4


def check_a_process_may_have_no_image_in_a_step(processes: Processes, folder: Path) -> None:
    """Batches of one image, which the first process has; the file of the third step's cannot be read."""
    overrides = [
        "preset=paper",
        "train.batch_size=1",
        "train.epochs=1",
        "train.steps_per_epoch=3",
        "views.bad_files_limit=0.1",
    ]
    config = load_config(folder / "run.yaml", [*overrides, "loss.warmup_epochs=0"])
    table = assemble_config(config, QUIET).table
    row = Sampler(24, batch_size=1, seed=0, steps_per_epoch=3).epoch(0)[2].rows[0]
    path = Path(table.paths[table.splits == "train"][row])
    kept = path.read_bytes()
    processes.together(lambda: None)
    if processes.first:
        path.write_bytes(b"")
        train_run(config, folder / "none-alone", resume=False, console=QUIET)
    train_run(config, folder / "none-two", resume=False, console=QUIET, processes=processes)
    if processes.first:
        _same_curve(folder / "none-alone", folder / "none-two", 2e-3)
        assert _metrics(folder / "none-two")[0]["train_known"] == 2
        path.write_bytes(kept)


def check_an_error_in_one_process_ends_all(processes: Processes, folder: Path) -> None:
    config = load_config(
        folder / "damaged" / "run.yaml",
        ["views.bad_files=stop", "views.bad_files_limit=0.1", "train.batch_size=4"],
    )
    try:
        train_run(config, folder / "stopped", resume=False, console=QUIET, processes=processes)
    except LabelAssembleError as error:
        raised = f"error: {error}"
    except OtherProcessFailed:
        raised = "other"
    kinds = processes.gather(raised)
    assert sorted(kind.partition(":")[0] for kind in kinds) == ["error", "other"], kinds
    assert any("north-0.png: damaged PNG image" in kind for kind in kinds)


def _signalling(at: int, on: bool) -> Callable[..., None]:
    step = Display.step

    def signalled(self: Display, epoch: int, done: int, *terms: Any, **others: Any) -> None:
        step(self, epoch, done, *terms, **others)
        if done == at and on:
            os.kill(os.getpid(), signal.SIGTERM)

    return signalled


def check_a_signal_to_one_process_stops_all_and_the_run_goes_on(processes: Processes, folder: Path) -> None:
    config = load_config(folder / "run.yaml", ["train.epochs=2", "train.batch_size=12", "train.ema=0.9"])
    whole, parts = folder / "signal-whole", folder / "signal-parts"
    train_run(config, whole, resume=False, console=QUIET, processes=processes)
    original = Display.step
    for at in (1, 2):  # within the first epoch, and at its end
        Display.step = _signalling(at, on=processes.rank == 1)  # type: ignore[method-assign]
        try:
            train_run(config, parts, resume=at > 1, console=QUIET, processes=processes)
        except TrainingInterrupted as stop:
            stopped = 2 * stop.epoch + stop.step
        finally:
            Display.step = original  # type: ignore[method-assign]
        assert stopped == at
        if processes.first:
            state = load_checkpoint(parts / "checkpoints" / "last.pt")
            assert 2 * state["epoch"] + state["step"] == at
    train_run(config, parts, resume=True, console=QUIET, processes=processes)
    if processes.first:
        assert _metrics(whole) == _metrics(parts)
        one, two = (load_checkpoint(run / "checkpoints" / "last.pt") for run in (whole, parts))
        assert all(torch.equal(one["model"][name], two["model"][name]) for name in one["model"])


def check_another_number_of_processes_goes_on_and_says_so(processes: Processes, folder: Path) -> None:
    config = load_config(folder / "run.yaml", ["train.epochs=2", "train.batch_size=12"])
    run = folder / "fewer"
    original = Display.step
    Display.step = _signalling(3, on=True)  # type: ignore[method-assign]
    try:
        train_run(config, run, resume=False, console=QUIET, processes=processes)
    except TrainingInterrupted:
        pass
    finally:
        Display.step = original  # type: ignore[method-assign]
    if not processes.first:
        return
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("labelassemble").addHandler(handler)
    train_run(config, run, resume=True, console=QUIET)
    logging.getLogger("labelassemble").removeHandler(handler)
    assert any("is of 2 process(es), going on with 1" in line for line in said), said
    _same_curve(run, folder / "plain-alone", 2e-3)


CHECKS = {
    name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")
}


def main(folder: Path) -> None:
    """Run every check and write what went wrong."""
    found: dict[str, str] = {}
    with joined() as processes:
        assert processes.count == 2
        for name, check in CHECKS.items():
            began = time.monotonic()
            try:
                check(processes, folder)
                if processes.first:
                    print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)
                found[name] = ""
            except Exception:
                found[name] = traceback.format_exc()
            (folder / f"{processes.rank}.json").write_text(json.dumps(found))
            if found[name]:
                os._exit(0)  # the two are no longer in step: the other one notices


def begin(folder: Path, rank: int, port: int) -> None:
    """Be one of the two, in a process of its own."""
    os.environ |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # torchrun sets all of these
    torch.set_num_threads(1)
    nothing = DetectionResults()
    run_module.evaluate_run = lambda run, table: None  # type: ignore[assignment]  # what comes after training
    run_module.evaluate_detection_run = lambda run, table: nothing  # type: ignore[assignment]
    main(folder)
