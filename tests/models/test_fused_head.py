"""AssembleNet with the class-query head pools inside the head: the same numbers, and nothing else notices."""

import pytest
import torch
from torch import Tensor, nn

from labelassemble.models.assemble_net import AssembleNet
from labelassemble.models.features import captured_features

CLASSES = ["Nodule", "Edema", "COVID-19"]
OP = "labelassemble::pooled_class_query_logits"


def network(backbone: str, head: str = "class_query") -> AssembleNet:
    torch.manual_seed(0)
    return AssembleNet(backbone, classes=CLASSES, head=head)


def images(size: int = 32) -> Tensor:
    return torch.randn(4, 1, size, size, generator=torch.Generator().manual_seed(1))


def ops_of(net: nn.Module, *inputs: Tensor) -> set[str]:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        net(*inputs)
    return {event.name for event in profiler.events()}


@pytest.mark.parametrize("backbone", ["densenet_small", "cnn_small", "patch_small"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("training", [True, False])
def test_logits_and_gradients_are_those_of_separate_steps(
    backbone: str, layout: torch.memory_format, training: bool
) -> None:
    net = network(backbone).to(memory_format=layout).train(training)  # type: ignore[call-overload]
    pixels = images().contiguous(memory_format=layout)
    answers = [net(pixels), net.head(net.backbone(pixels))]
    torch.testing.assert_close(*answers, rtol=1e-5, atol=1e-6)
    gradients = [
        torch.autograd.grad((logits * torch.arange(1.0, 4.0)).sum(), list(net.parameters()))
        for logits in answers
    ]
    for got, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize("backbone", ["densenet_small", "densenet121", "cnn_small", "patch_small"])
def test_the_fused_op_is_called_in_training_and_evaluation(backbone: str) -> None:
    net = network(backbone)
    assert OP not in ops_of(net.backbone, images())
    # Eager calls go through the binding, which calls the dispatcher's op as well.
    assert OP in ops_of(net.train(), images())
    with torch.inference_mode():
        assert OP in ops_of(net.eval(), images())


@pytest.mark.parametrize("head", ["linear", "task_code"])
def test_other_heads_get_pooled_features(head: str) -> None:
    assert OP not in ops_of(network("patch_small", head), images())


def test_a_backbone_of_ones_own_is_called_whole() -> None:
    class Flat(nn.Module):
        out_features = 16

        def __init__(self) -> None:
            super().__init__()
            self.features = nn.AdaptiveAvgPool2d(4)

        def forward(self, pixels: Tensor) -> Tensor:
            return self.features(pixels).flatten(1)  # type: ignore[no-any-return]

    net = AssembleNet(lambda channels: Flat(), classes=CLASSES)
    assert torch.equal(net(images()), net.head(net.backbone(images())))


def test_hooks_still_see_the_pooled_features() -> None:
    net = network("densenet_small").eval()
    with torch.no_grad():
        alone = net(images())
        with captured_features(net) as batches:
            answers = net(images())
        torch.testing.assert_close(batches[0], net.backbone(images()))
        torch.testing.assert_close(answers, alone, rtol=1e-5, atol=1e-6)
    seen: list[torch.Size] = []
    hook = net.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    net(images())
    hook.remove()
    net(images())
    assert seen == [(4, 120)]


def test_a_frozen_backbone_learns_nothing_and_the_head_does() -> None:
    net = network("densenet_small")
    net.freeze_backbone()
    net(images()).sum().backward()
    assert all(parameter.grad is None for parameter in net.backbone.parameters())
    assert all(parameter.grad is not None for parameter in net.head.parameters())


def test_compile_fullgraph_and_autocast() -> None:
    net = network("densenet_small")
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images()), net(images()), rtol=1e-5, atol=1e-5)
    net.eval()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        half, separate = net(images()), net.head(net.backbone(images()))
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half, separate, rtol=0.02, atol=0.02)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch's own
def test_an_exported_program_and_a_script_need_no_op_of_ours() -> None:
    net = network("densenet_small").eval()
    program = torch.export.export(net, (images(),)).run_decompositions()
    assert not any("labelassemble" in str(node.target) for node in program.graph.nodes)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(images()), net(images()), rtol=1e-5, atol=1e-6)
        scripted = torch.jit.script(net)
        torch.testing.assert_close(scripted(images()), net(images()), rtol=1e-5, atol=1e-6)
    assert "labelassemble::" not in str(scripted.inlined_graph)
