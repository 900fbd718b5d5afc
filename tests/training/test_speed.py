import pytest

from labelassemble.training.launch import launch
from labelassemble.training.options import TrainOptions
from labelassemble.training.speed import bfloat16_is_quicker, choose_speed

OLD, NEW = frozenset({"avx2"}), frozenset({"avx2", "avx512f", "avx512_bf16"})


@pytest.mark.parametrize(
    ("gpu", "dense", "flags", "precision", "channels_last"),
    [
        (None, True, OLD, "float32", True),
        (None, True, NEW, "bfloat16", True),
        (None, False, NEW, "float32", False),  # not measured for small networks
        ((8, 0), True, OLD, "bfloat16", True),
        ((7, 5), True, NEW, "float32", False),
    ],
)
def test_auto_takes_what_is_quicker(
    gpu: tuple[int, int] | None, dense: bool, flags: frozenset[str], precision: str, channels_last: bool
) -> None:
    speed = choose_speed(TrainOptions(), gpu=gpu, dense=dense, flags=flags)
    assert (speed.precision, speed.channels_last, speed.compile, speed.warning) == (
        precision,
        channels_last,
        False,
        "",
    )
    graph = ", a CUDA graph a step" if gpu else ""
    assert speed.to_text().startswith(
        f"Trains in {precision}, channels {'last' if channels_last else 'first'}{graph}: the "
    ) or (not dense)
    assert bfloat16_is_quicker(gpu, dense, flags)[0] == (precision == "bfloat16")


@pytest.mark.parametrize("asked", ["bfloat16", "float16"])
def test_what_is_asked_for_and_slow_is_a_warning(asked: str) -> None:
    options = TrainOptions.model_validate({"precision": asked, "channels_last": False, "compile": True})
    speed = choose_speed(options, flags=OLD)
    assert speed[:3] == (asked, False, True)
    assert f"train.precision={asked} on a processor without it: a step took " in speed.warning
    assert not choose_speed(options, flags=NEW | {"avx512_fp16"}).warning
    assert not choose_speed(options, gpu=(9, 0), flags=OLD).warning
    assert bool(choose_speed(options, gpu=(7, 0), flags=OLD).warning) == (asked == "bfloat16")
    assert not choose_speed(TrainOptions(precision="float32"), flags=OLD).warning


def test_processes_that_fail_leave_their_own_sentence_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

    given: list[str] = []

    def failing(words: list[str]) -> None:
        given.extend(words)
        raise ChildFailedError(
            "labelassemble", {0: ProcessFailure(0, 1, 2, ""), 1: ProcessFailure(1, 2, -15, "")}
        )

    monkeypatch.setattr("torch.distributed.run.main", failing)
    assert launch(["train", "a.yaml"], 2) == 2
    assert given == ["--standalone", "--nproc-per-node=2", "-m", "labelassemble", "train", "a.yaml"]
    monkeypatch.setattr("torch.distributed.run.main", lambda words: None)
    assert launch(["train", "a.yaml"], 2) == 0
