"""What a model card says of a run's configuration."""

from pathlib import Path
from typing import Any

import pytest

from labelassemble.report.model_card import model_card
from labelassemble.report.record import Results, RunRecord


def facts_of(config: dict[str, Any]) -> dict[str, str]:
    run = RunRecord(Path("run"), ("Mass",), ("Mass",), config, None, None, None, None, None)
    [training] = [section for section in model_card(run, Results()) if section.title == "Training"]
    return dict(training.facts)


@pytest.mark.parametrize("section", ["views", "volumes"])
def test_the_views_stand_in_the_card_as_they_are_configured(section: str) -> None:
    strong = [{"RandomAffine": {"degrees": 15, "p": 0.5}}, {"RandomErasing": {}}]
    facts = facts_of({"views": {}, section: {"weak": {"flip": 0.5, "rotate": 10.0}, "strong": strong}})
    assert facts["weak view"] == "{flip: 0.5, rotate: 10.0}"
    assert facts["strong view"] == "[{RandomAffine: {degrees: 15, p: 0.5}}, {RandomErasing: {}}]"
