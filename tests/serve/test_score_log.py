"""The log of scores that `labelassemble monitor` reads: what was answered, what was seen, what could not be read."""

import json
import re

import numpy as np
import pytest

from labelassemble.run.monitor import read_log
from labelassemble.views.options import ViewOptions

RAW = {"Inference-Header-Content-Length": "0"}


def test_each_image_leaves_its_scores_and_no_more(tmp_path, repository, serving, images, png, infer_body):
    log = tmp_path / "scores.jsonl"
    with serving(repository, "--score-log", str(log)) as server:
        answer = server.request("/v2/models/grey/infer", infer_body([2, 1, 1, 1], [0, 51], id="who"))
        scores = np.reshape(answer.json["outputs"][0]["data"], (2, 3))
        assert server.request("/v2/models/grey/infer", png(images[0]), RAW).status == 200
        assert server.request("/v2/models/grey/infer", png(images[0])[:-40], RAW).status == 400
        assert server.request("/v2/models/grey/infer", b"{}").status == 400  # no image at all
        server.wait_until(lambda: log.read_text().count("\n") == 4, "four lines of the score log")
    first, second, third, bad = map(json.loads, log.read_text().splitlines())
    assert list(first) == ["time", "model", "version", "brightness", "contrast", "scores"]
    assert list(bad) == ["time", "model", "version", "unreadable"]
    for line, row, grey in ((first, scores[0], 0.0), (second, scores[1], 0.2)):
        assert (line["model"], line["version"]) == ("grey", "2")
        assert list(line["scores"].values()) == pytest.approx(row, abs=1e-6)
        assert line["brightness"] == pytest.approx(grey, abs=1e-6)
        assert line["contrast"] == pytest.approx(0, abs=1e-3)
    pixels = images[0] / 255  # 12 x 12, as the network takes it
    assert third["brightness"] == pytest.approx(pixels.mean(), abs=1e-5)
    assert third["contrast"] == pytest.approx(pixels.std(), abs=1e-5)
    assert "who" not in log.read_text()
    # What the server writes is what `labelassemble monitor` reads.
    now, remarks = read_log(log, ViewOptions())
    assert (now.images, now.unreadable, remarks) == (3, 1, ())
    np.testing.assert_allclose(np.stack(list(now.scores.values()), axis=1)[:2], scores, atol=1e-6)
    assert [len(now.inputs[name]) for name in ("brightness", "contrast")] == [3, 3]


def test_a_full_disk_under_the_log_is_counted_apart(repository, serving, infer_body):
    with serving(repository, "--score-log", "/dev/full") as server:
        assert server.request("/v2/models/grey/infer", infer_body([1, 1, 1, 1], [0])).status == 200
        server.wait_for("the score log cannot be written")

        def counted():
            text = server.request("/metrics").body.decode()
            return [
                re.search(rf"\nlabelassemble_{log}_log_lost_lines_total (\d+)", text)[1]
                for log in ("score", "access")
            ]

        server.wait_until(lambda: counted() == ["1", "0"], "a line that is counted")
