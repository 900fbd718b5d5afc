"""Assembling in arrays against assembling row by row, over generated sources."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelassemble.data import CsvSource, Taxonomy, assemble
from labelassemble.errors import LabelAssembleError

CLASSES = ("Pneumonia", "Viral Pneumonia", "COVID-19", "Normal", "Tube")
IMPLIES = {"Viral Pneumonia": ("Pneumonia",), "COVID-19": ("Viral Pneumonia", "Pneumonia")}
TAXONOMY = Taxonomy.model_validate(
    {
        "classes": [
            {"name": "Pneumonia"},
            {"name": "Viral Pneumonia", "synonyms": ["viral"], "implies": ["Pneumonia"]},
            {"name": "COVID-19", "implies": ["Viral Pneumonia"]},
            {"name": "Normal"},
            {"name": "Tube"},
        ],
        "no_finding": "Normal",
        "exempt": ["Tube"],
    }
)


@st.composite
def sources(draw: st.DrawFn) -> tuple[list[str], list[dict[str, int]], dict[str, int], list[str]]:
    """Return the classes, the rows, what is assumed and what is hidden in one source."""
    classes = draw(st.lists(st.sampled_from(CLASSES), min_size=1, unique=True))
    row = st.fixed_dictionaries({name: st.sampled_from([1, 0, -1, -2]) for name in classes})
    hide = draw(st.lists(st.sampled_from(classes), unique=True))
    free = [name for name in CLASSES if name not in hide]
    assume = draw(st.dictionaries(st.sampled_from(free), st.sampled_from([0, 1]))) if free else {}
    return classes, draw(st.lists(row, min_size=1, max_size=6)), assume, hide


def row_by_row(
    classes: list[str], rows: list[dict[str, int]], assume: dict[str, int], hide: list[str], union: list[str]
) -> list[list[tuple[int, int]]]:
    """Return (state, origin) of each cell, by the rules in words."""
    labelled = {name for name in classes if any(row[name] != -1 for row in rows)}
    result = []
    for row in rows:
        states = {name: row.get(name, -1) for name in {*classes, *union}}
        rules = dict.fromkeys(states, 0)
        if row.get("Normal") == 1:
            if any(state == 1 for name, state in states.items() if name not in ("Normal", "Tube")):
                states["Normal"] = -2
            else:
                for name in labelled - {"Normal", "Tube"}:
                    if states[name] == -1:
                        states[name], rules[name] = 0, 3
        given_states = dict(states)
        for name, parents in IMPLIES.items():
            for parent in parents:
                if given_states.get(name) == 1 and given_states.get(parent, 1) <= 0:
                    written = given_states[parent] == 0
                    states[parent], rules[parent] = (-2, 0) if written else (1, 2)
        for name, parents in IMPLIES.items():
            for parent in parents:
                if (
                    given_states.get(parent) == 0 == states[parent]
                    and name in labelled
                    and states[name] == -1
                ):
                    states[name], rules[name] = 0, 2
        cells = []
        for name in union:
            state, rule = (-1, 0) if name in hide else (states[name], rules[name])
            cells.append((assume[name], 1) if state == -1 and name in assume else (state, rule))
        result.append(cells)
    return result


@settings(deadline=None, max_examples=150)
@given(drawn=st.lists(sources(), min_size=1, max_size=3))
def test_assembling_in_arrays_is_assembling_row_by_row(
    tmp_path_factory: pytest.TempPathFactory,
    drawn: list[tuple[list[str], list[dict[str, int]], dict[str, int], list[str]]],
) -> None:
    folder: Path = tmp_path_factory.mktemp("sources")
    union = list(dict.fromkeys(name for classes, *_ in drawn for name in classes))
    expected = []
    given_sources = []
    for number, (classes, rows, assume, hide) in enumerate(drawn):
        assume = {name: state for name, state in assume.items() if name in union}
        heads = ["viral" if name == "Viral Pneumonia" else name for name in classes]
        lines = [",".join(["path", *heads])]
        lines += [
            ",".join([f"{number}-{index}.png", *(str(row[name]) for name in classes)])
            for index, row in enumerate(rows)
        ]
        (folder / f"{number}.csv").write_text("\n".join(lines) + "\n")
        words = {name: "positive" if state else "negative" for name, state in assume.items()}
        given_sources.append(
            CsvSource.model_validate(
                {"name": f"s{number}", "path": folder / f"{number}.csv", "assume": words, "hide": tuple(hide)}
            )
        )
        expected += row_by_row(classes, rows, assume, hide, union)
    if all(state == -1 or rule == 1 for row in expected for state, rule in row):
        with pytest.raises(LabelAssembleError, match="no source labels any of the classes"):
            assemble(given_sources, taxonomy=TAXONOMY)
        return
    table = assemble(given_sources, taxonomy=TAXONOMY).table
    assert table.classes == tuple(union)
    assert table.labels.tolist() == [[state for state, _ in row] for row in expected]
    assert table.origins.tolist() == [[rule for _, rule in row] for row in expected]
