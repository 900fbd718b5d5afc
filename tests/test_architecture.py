"""The one direction: data -> views -> model -> loss -> training -> evaluation -> report -> export -> serving."""

import ast
from pathlib import Path

import labelassemble

PACKAGE = Path(labelassemble.__file__).parent
ORDER = (
    "_checkout",
    "errors",
    "_yaml",
    "_validation",
    "version",
    "processor",
    "_lazy",
    "_native",
    "_class_name",
    "_extension",
    "_figures",
    "_files",
    "_quiet",
    "ops",
    "functional",
    "loss_options",
    "detection_options",
    "loss_weights",
    "masked_bce",
    "loss",
    "named_classes",
    "growth",
    "head",
    "data",
    "views",
    "models",
    "training",
    "evaluation",
    "explain",
    "report",
    "interoperability",
    "export",
    "config",
    "run",
    "integrations",
    "init",
    "doctor",
    "experiments",
    "cli",
    "__main__",
)


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:  # a neighbour in the same room
            assert node.level == 1, f"{path}: a relative import leaves its room"
            assert path.parent != PACKAGE, f"{path}: a relative import leaves its room"
        elif isinstance(node, ast.ImportFrom):
            if node.module == "labelassemble":
                names = [f"labelassemble.{alias.name}" for alias in node.names]
            elif node.module:
                names = [node.module]
        rooms |= {name.split(".")[1] for name in names if name.startswith("labelassemble.")}
    return rooms - {"_C"}


def test_every_room_has_its_place_in_the_order() -> None:
    rooms = {_room(path) for path in PACKAGE.rglob("*.py")} - {"__init__"}
    assert rooms == set(ORDER)


def test_imports_point_left_only() -> None:
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        room = _room(path)
        if room == "__init__":
            continue
        for imported in _imported_rooms(path):
            if imported != room and ORDER.index(imported) > ORDER.index(room):
                wrong.append(f"{path.relative_to(PACKAGE)} imports {imported}")
    assert not wrong


def test_native_code_is_reached_through_one_module_only() -> None:
    users = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if "labelassemble._C" in path.read_text(encoding="utf-8") and path.name != "_native.py"
    ]
    assert users == []


def test_public_names() -> None:
    for name in (
        "PartialLabelLoss",
        "MaskedBCEWithLogitsLoss",
        "ClassQueryHead",
        "AssembleNet",
        "functional",
    ):
        assert name in labelassemble.__all__
        assert hasattr(labelassemble, name)
