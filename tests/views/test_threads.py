import threading

import pytest
import torch

from labelassemble.views.threads import image_threads, made_ahead


def test_torch_runs_on_one_core_in_the_pool_and_as_before_elsewhere() -> None:
    before = torch.get_num_threads()
    with image_threads(3, "test") as pool:
        both = threading.Barrier(3)

        def count(_: int) -> tuple[int, int]:
            both.wait()
            return threading.get_ident(), torch.get_num_threads()

        found = list(pool.map(count, range(3)))
    assert len({thread for thread, _ in found}) == 3
    assert {threads for _, threads in found} == {1}
    assert torch.get_num_threads() == before
    elsewhere = []
    thread = threading.Thread(target=lambda: elsewhere.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert elsewhere == [before]


def test_results_come_in_order_and_only_a_little_ahead() -> None:
    made: list[int] = []

    def make(key: int) -> int:
        made.append(key)
        return key * key

    results = made_ahead(make, range(50))
    assert next(results) == 0
    results.close()
    assert made == sorted(made)
    assert len(made) <= 4
    assert list(made_ahead(make, range(5))) == [0, 1, 4, 9, 16]


def test_an_error_comes_out_where_its_result_would_have() -> None:
    def make(key: int) -> int:
        if key == 2:
            raise KeyError("two")
        return key

    results = made_ahead(make, range(5))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(KeyError, match="two"):
        next(results)
