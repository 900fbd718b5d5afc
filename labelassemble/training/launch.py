"""Several processes of one training, started by torchrun's own code without its tracebacks."""

import logging
from collections.abc import Sequence

from labelassemble._quiet import quiet


def launch(arguments: Sequence[str], count: int) -> int:
    """Run `labelassemble` with the arguments in `count` processes that train together, and return the exit status.

    What goes wrong is said by the process in which it does; torchrun itself adds a traceback of its own.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main

    words = ["--standalone", f"--nproc-per-node={count}", "-m", "labelassemble", *arguments]
    with quiet("torch.distributed", logging.CRITICAL):
        try:
            main(words)
        except ChildFailedError as error:
            statuses = [failure.exitcode for failure in error.failures.values()]
            return 2 if 2 in statuses else max(1, *statuses)
    return 0
