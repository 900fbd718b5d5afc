"""partial_label_loss in TorchScript, torch.export and torch.compile, by binding and by dispatcher, and in training."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from labelassemble import _C, _extension
from labelassemble.functional import partial_label_loss
from labelassemble.head import ClassQueryHead
from labelassemble.loss import PartialLabelLoss
from labelassemble.ops.partial_label_loss import reference


def batch() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    targets = torch.randint(-1, 2, (8, 5)).float()
    return torch.randn(8, 5), torch.randn(8, 5), torch.where(targets < 0, float("nan"), targets)


def test_scripted_loss_saved_and_loaded(tmp_path: Path) -> None:
    loss = PartialLabelLoss(class_weight=[1.0, 2.0, 1.0, 1.0, 0.5])
    torch.jit.script(loss).save(str(tmp_path / "loss.pt"))
    loaded = torch.jit.load(str(tmp_path / "loss.pt"))
    assert torch.equal(loaded(*batch()), loss(*batch()))


def test_traced_function_calls_the_op() -> None:
    traced = torch.jit.trace(partial_label_loss, batch())
    assert "labelassemble::partial_label_loss" in str(traced.graph)
    changed = tuple(2 * tensor for tensor in batch()[:2])
    assert torch.equal(traced(*changed, batch()[2]), partial_label_loss(*changed, batch()[2]))


def test_export_keeps_the_op_and_a_dynamic_batch() -> None:
    size = torch.export.Dim("batch", min=2)
    program = torch.export.export(PartialLabelLoss(), batch(), dynamic_shapes=[{0: size}] * 3)
    assert any("partial_label_loss" in str(node.target) for node in program.graph.nodes)
    larger = tuple(tensor.repeat(3, 1) for tensor in batch())
    assert torch.equal(program.module()(*larger), partial_label_loss(*larger))


@pytest.mark.slow
def test_inductor_compiles_a_step_in_one_graph() -> None:
    weak, strong, targets = batch()
    layer = nn.Linear(5, 5)

    def step(weak: Tensor, strong: Tensor, targets: Tensor) -> Tensor:
        return partial_label_loss(layer(weak), layer(strong), targets)

    compiled = torch.compile(step, fullgraph=True)
    compiled(weak, strong, targets).backward()
    got = layer.weight.grad
    layer.weight.grad = None
    step(weak, strong, targets).backward()
    torch.testing.assert_close(got, layer.weight.grad)


def test_binding_and_dispatcher_give_the_same() -> None:
    weak, strong, targets = batch()
    arguments = (weak, strong, targets, 0.4, 3.0, 0.5, 2.0, None, None, False, "sum", False)
    dispatcher = torch.ops.labelassemble
    assert (
        _extension.implementation("partial_label_loss_terms", reference, weak) is _C.partial_label_loss_terms
    )
    assert torch.equal(_C.partial_label_loss(*arguments), dispatcher.partial_label_loss(*arguments))
    general = (*arguments, True, torch.isnan(targets) & (weak > 0))
    for bound, dispatched in zip(
        _C.partial_label_loss_terms(*general), dispatcher.partial_label_loss_terms(*general), strict=True
    ):
        assert torch.equal(bound, dispatched)
    known = (weak, targets, None, torch.full((5,), 2.0), "mean", False)
    assert torch.equal(_C.masked_bce_with_logits(*known), dispatcher.masked_bce_with_logits(*known))


def test_training_with_op_and_reference_gives_the_same_losses() -> None:
    torch.manual_seed(0)
    images = torch.randn(64, 20)
    labels = (images[:, :6] + 0.3 * torch.randn(64, 6) > 0).float()
    labels[torch.rand(64, 6) < 0.4] = float("nan")
    noise = [0.2 * torch.randn(64, 20) for _ in range(60)]
    histories = []
    for loss in (partial_label_loss, lambda *tensors: reference(*tensors)[0]):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(20, 16), nn.Tanh(), ClassQueryHead(16, 6))
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        history = []
        for step in noise:
            value = loss(model(images), model(images + step), labels)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            history.append(value.item())
        histories.append(history)
    assert histories[0][-1] < 0.5 * histories[0][0]
    assert histories[0] == pytest.approx(histories[1], rel=1e-3)


CHECK = """
import torch
from labelassemble import _C, _extension
from labelassemble.ops.partial_label_loss import partial_label_loss, reference
torch.manual_seed(0)
weak, strong = torch.randn(40, 7, requires_grad=True), torch.randn(40, 7, requires_grad=True)
targets = torch.where(torch.rand(40, 7) < 0.5, torch.rand(40, 7), float("nan"))
loss, want = partial_label_loss(weak, strong, targets), reference(weak, strong, targets)[0]
torch.testing.assert_close(loss, want)
got, expected = (torch.autograd.grad(value, (weak, strong)) for value in (loss, want))
torch.testing.assert_close(got, expected)
print(_extension.cpu_capability())
"""


def run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


HAS = {
    "default": True,
    "avx2": torch.cpu._is_avx2_supported(),
    "avx512": torch.cpu._is_avx512_supported(),
}


@pytest.mark.parametrize("capability", HAS)
def test_kernels_for_every_processor(capability: str) -> None:
    """torch's own variable chooses the kernels; one that names what the processor lacks is refused with a sentence.

    torch itself would be killed by an illegal instruction. tests/cpp has the rule for processors that are not here.
    """
    if HAS[capability]:
        result = run(CHECK, ATEN_CPU_CAPABILITY=capability)
        assert result.returncode == 0, result.stderr
        assert result.stdout.strip() == {"default": "baseline"}.get(capability, capability)
        return
    refused = f"ATEN_CPU_CAPABILITY asks for {capability}, which this processor does not have"
    first = CHECK.replace("torch.manual_seed(0)", "_extension.check_processor()")
    assert refused in run(first, ATEN_CPU_CAPABILITY=capability).stderr
    told = subprocess.run(
        [sys.executable, "-m", "labelassemble", "doctor"],
        env=os.environ | {"ATEN_CPU_CAPABILITY": capability},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.returncode, told.stderr.count("\n")) == (2, 1)
    assert told.stderr.startswith("labelassemble: ")
    assert refused in told.stderr


FALLBACK = """
import sys, warnings
sys.modules["labelassemble._C"] = None
import torch
import labelassemble.ops.class_sums
from labelassemble import _extension, functional
from labelassemble.loss import MaskedBCEWithLogitsLoss, PartialLabelLoss
assert not _extension.NATIVE and "without its native library" in _extension.REASON, _extension.REASON
assert _extension.cpu_capability() == "none" and _extension.build_info() == {}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    targets = torch.tensor([[1.0, float("nan")]])
    for _ in range(2):
        terms = PartialLabelLoss().terms(torch.zeros(1, 2), torch.zeros(1, 2), targets)
    functional.masked_bce_with_logits(torch.zeros(1, 2), targets)
    functional.pooled_class_query_logits(torch.ones(1, 3, 2), torch.eye(2), torch.ones(3, 2), torch.zeros(3))
    functional.class_query_logits(torch.ones(1, 3), torch.eye(2), torch.ones(3, 2), torch.zeros(3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = [torch.jit.script(PartialLabelLoss(pos_weight=2.0)), torch.jit.script(MaskedBCEWithLogitsLoss())]
    z = torch.zeros(1, 2)
    assert torch.equal(scripted[0](z, None, targets), PartialLabelLoss(pos_weight=2.0)(z, None, targets))
    assert torch.equal(scripted[1](z, targets), MaskedBCEWithLogitsLoss()(z, targets))
for line in SCHEMAS:
    name = line.partition("(")[0].partition("::")[2]
    assert str(getattr(torch.ops.labelassemble, name).default._schema) == line, line
messages = [str(warning.message) for warning in caught if "plain torch" in str(warning.message)]
assert len(messages) == 1 and "pip install" in messages[0], messages
assert terms.known == 1 and abs(terms.total.item() - 0.6931 - 2 * 0.125**2) < 2 * 0.2, terms
"""


def test_without_the_native_library_plain_torch_runs_and_says_so_once() -> None:
    ops = ("partial_label_loss", "partial_label_loss_terms", "masked_bce_with_logits", "class_query_logits")
    ops += ("pooled_class_query_logits", "excluded", "class_sums")
    schemas = [str(getattr(torch.ops.labelassemble, op).default._schema) for op in ops]
    result = run(f"SCHEMAS = {schemas!r}\n{FALLBACK}")
    assert result.returncode == 0, result.stderr


OLDER = """
import sys, types, warnings
import torch
older = types.ModuleType("labelassemble._C")
older.build_info, older.cpu_capability = lambda: {"torch": torch.__version__}, lambda: "avx2"
def refuse(*arguments): raise TypeError("incompatible function arguments")
for name in ("partial_label_loss", "partial_label_loss_terms", "masked_bce_with_logits"): setattr(older, name, refuse)
sys.modules["labelassemble._C"] = older
from labelassemble import _extension
from labelassemble.loss import PartialLabelLoss
from labelassemble.ops.class_sums import class_sums
assert not _extension.NATIVE and _extension.cpu_capability() == "none"
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    logits, targets = torch.zeros(1, 2, requires_grad=True), torch.tensor([[1.0, float("nan")]])
    PartialLabelLoss(exclusive=[[False, True], [True, False]])(logits, None, targets).backward()
    assert class_sums(logits, targets)[3].tolist() == [1, 0]
(message,) = {str(warning.message) for warning in caught if "plain torch" in str(warning.message)}
said = "the native library is older than this package (it lacks excluded, class_sums); run: pip install"
assert said in message, message
"""


def test_an_older_native_library_is_named_and_not_used() -> None:
    result = run(OLDER)
    assert result.returncode == 0, result.stderr
