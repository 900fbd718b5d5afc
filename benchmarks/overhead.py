"""Times a small call of the same C++ function through the pybind11 binding and through the dispatcher.

    python benchmarks/overhead.py                  # a table under benchmarks/results/

Eager calls of labelassemble.functional take the quicker one (labelassemble/_extension.py).
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from harness import Row, device_name, machine, measure, print_row, write
from loss import inputs

from labelassemble import _C, functional

ARGUMENTS = (0.5, 4.0, 1.0, 1.0, None, None, True, "mean", True)


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each measured line")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    first_line = machine(arguments.device)
    print(first_line)
    shape = (16, 15)
    tensors = inputs(shape, torch.float32, arguments.device, planes=False)
    calls: dict[str, Callable[[], torch.Tensor]] = {
        "torch.ops": lambda: torch.ops.labelassemble.partial_label_loss(*tensors, *ARGUMENTS),
        "_C (pybind11)": lambda: _C.partial_label_loss(*tensors, *ARGUMENTS),
        "functional": lambda: functional.partial_label_loss(*tensors),
    }
    rows: list[Row] = []
    for name, call in calls.items():
        runs: dict[str, Callable[[], object]] = {
            "forward": call,
            "both": lambda call=call: torch.autograd.grad(call(), tensors[:2]),
        }
        for run, function in runs.items():
            p20, p50, p80 = measure(function, seconds=arguments.seconds)
            first = next((row.p50_us for row in rows if row.run == run), p50)
            rows.append(
                Row(
                    op="partial_label_loss",
                    shape="16x15",
                    dtype="float32",
                    threads=1,
                    implementation=name,
                    run=run,
                    p20_us=p20,
                    p50_us=p50,
                    p80_us=p80,
                    speedup=first / p50,
                    gigabytes_s=0.0,
                    of_copy_rate=0.0,
                    peak_extra_mib=0.0,
                )
            )
            print_row(rows[-1])
    remarks = [
        "Overhead of a call: speedup is over torch.ops here; bytes do not matter at this size and are 0."
    ]
    write(rows, arguments.output / f"overhead_{device_name(arguments.device)}", first_line, remarks)


if __name__ == "__main__":
    main()
