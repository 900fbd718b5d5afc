"""The loss of the whole batch on several processes and in several parts, with torch alone.

    torchrun --standalone --nproc-per-node 2 examples/global_mean.py
    python examples/global_mean.py

Both print the same: the losses and the weights do not depend on how many processes there are, nor on parts. A mean on
each process would: the first one knows 2 labels of a step, the other 12.
"""

import os
from contextlib import nullcontext

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from labelassemble import PartialLabelLoss
from labelassemble.functional import global_counts

PARTS = 2  # of each process's images, one after the other: gradient accumulation

torch.manual_seed(0)
images, targets = torch.randn(8, 5), (torch.rand(8, 3) > 0.5).float()
targets[:4] = targets[:4].where(
    torch.arange(12).view(4, 3) < 2, torch.nan
)  # the first half: 2 known labels of 12
net: nn.Module = nn.Linear(5, 3)
rank, processes = 0, int(os.environ.get("WORLD_SIZE", "1"))
if processes > 1:
    dist.init_process_group("gloo")
    rank, net = dist.get_rank(), DistributedDataParallel(net)
optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
criterion = PartialLabelLoss()

mine = slice(rank * 8 // processes, (rank + 1) * 8 // processes)
for _ in range(3):
    parts = list(zip(images[mine].chunk(PARTS), targets[mine].chunk(PARTS), strict=True))
    counts = global_counts([labels for _, labels in parts])  # of all parts and processes
    total = torch.zeros(())
    for number, (inputs, labels) in enumerate(parts, start=1):
        last = number == PARTS or not isinstance(net, DistributedDataParallel)
        with nullcontext() if last else net.no_sync():
            loss = criterion(net(inputs), None, labels, counts=counts)
            loss.backward()
        total += loss.detach()
    optimizer.step()
    optimizer.zero_grad()
    if processes > 1:
        dist.all_reduce(total)
    if rank == 0:
        print(f"loss {total.item() / processes:.5f}")
if rank == 0:
    print("weight", " ".join(f"{value:.5f}" for value in next(net.parameters())[0].tolist()))
if processes > 1:
    dist.destroy_process_group()
