"""The first query of docs/howto/serving.md, by curl and by Triton's client, is run as the page has it."""

import contextlib
import io
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "serving.md"
IMAGE = np.random.default_rng(3).integers(0, 256, (1, 40, 30), dtype=np.uint8)


def _block(language: str) -> str:
    """Return the first block in that language below "A first query"."""
    section = PAGE.read_text().partition("### A first query")[2]
    found = re.search(rf"^```{language}\n(.*?)^```", section, re.M | re.S)
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def covid(
    tmp_path_factory: pytest.TempPathFactory, models: Any, serving: Any, write_config: Any
) -> Iterator[Any]:
    repository = tmp_path_factory.mktemp("repository")
    models["grey", 1].export(repository / "covid", 1, [IMAGE])
    write_config(repository / "covid", delay=2000)
    with serving(repository, strict=True) as server:
        yield server


@pytest.fixture
def expected(models: Any, png: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NDArray[np.float32]:
    """The folder of the query with its image, and what Python answers."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chest.png").write_bytes(png(IMAGE))
    return models["grey", 1].probabilities([IMAGE])[0]  # type: ignore[no-any-return]


def test_with_curl(covid: Any, expected: NDArray[np.float32]) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    command = _block("sh").replace("127.0.0.1:8000", covid.url)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    answer, shown = json.loads(done.stdout), json.loads(_block("json"))
    for output in (answer["outputs"][0], shown["outputs"][0]):
        assert len(output.pop("data")) == 3
    assert answer == shown
    np.testing.assert_allclose(json.loads(done.stdout)["outputs"][0]["data"], expected, atol=1e-6)


def test_with_tritons_client(covid: Any, expected: NDArray[np.float32]) -> None:
    pytest.importorskip("tritonclient.http")
    scope: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(_block("python").replace("127.0.0.1:8000", covid.url), scope)
    scope["client"].close()
    np.testing.assert_allclose(scope["probabilities"], expected, atol=1e-6)
    assert list(scope["classes"]) == ["one", "two, too", "three"]
    assert printed.getvalue().startswith("{'one': 0.")
