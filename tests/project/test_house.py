"""The house: a module imports from lower floors or from its own folder, there are no cycles, and the door is light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import attention_ref as ar

HOUSE = Path(ar.__file__).parent
FLOORS = {
    0: ("errors", "op"),
    1: ("score", "normalize", "adjust", "layer", "masks"),
    2: ("pipeline",),
    3: ("mechanism",),
    4: ("backend", "plot", "train"),
    5: ("conformance.libraries",),
    6: ("oracle",),
    7: ("conformance", "vectors"),
    8: ("__init__",),
    9: ("cli",),
    10: ("__main__",),
}
CONTRIBUTING = HOUSE.parent / "CONTRIBUTING.md"
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
HEAVY = ("autograd", "matplotlib", "torch", "jax", "scipy", "onnx", "pandas")


def sources(house=HOUSE):
    """{dotted name inside the package: its source}; a folder's __init__ has the folder's name."""
    out = {}
    for path in sorted(house.rglob("*.py")):
        parts = path.relative_to(house).with_suffix("").parts
        out[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path.read_text()
    return out


def imports(source, known):
    """The modules of the package that a module's source imports, at the top or inside a function."""
    out = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise AssertionError(f"a relative import in line {node.lineno}")
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, _, inner = name.partition(".")
            if package == "attention_ref":
                out.add(nearest(inner, known))
    return out


def nearest(name, known):
    """The module that a dotted name lives in; a name of the package itself lives in __init__."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or "__init__"


def room_of(name):
    """The room that a module stands in: the longest of its names that has a floor."""
    room = name
    while room not in FLOOR and "." in room:
        room = room.rpartition(".")[0]
    return room


def wrong_imports(modules):
    """What breaks the rule: rooms without a floor, and imports from above or from a neighbor."""
    out = []
    for name, source in modules.items():
        room = room_of(name)
        if room not in FLOOR:
            out.append(f"{room} has no floor")
            continue
        for other in imports(source, modules):
            below = room_of(other)
            if below not in FLOOR:
                out.append(f"{below} has no floor")
            elif below != room and not reachable(room, below, modules):
                out.append(f"{name} imports {other}")
    return out


def reachable(room, other, modules):
    """A lower floor, or a single file on the same one."""
    folders = {room_of(name) for name in modules if "." in name}
    return FLOOR[other] < FLOOR[room] or (FLOOR[other] == FLOOR[room] and other not in folders)


def cycles(modules):
    """Modules that reach themselves; a folder's __init__ is not counted as importing its files."""
    graph = {name: imports(source, modules) - {name} for name, source in modules.items()}
    reach = {name: set(others) for name, others in graph.items()}
    for _ in graph:
        reach = {name: others.union(*(reach[other] for other in others)) for name, others in reach.items()}
    return sorted(name for name, others in reach.items() if name in others)


def test_every_module_imports_from_below():
    assert wrong_imports(sources()) == []


def test_there_are_no_cycles():
    assert cycles(sources()) == []


@pytest.mark.parametrize(
    ("modules", "wrong"),
    [
        ({"op": "from attention_ref.pipeline.rule import rules", "pipeline.rule": ""}, ["op imports pipeline.rule"]),
        ({"op": "def f():\n    from attention_ref import score", "score": ""}, ["op imports score"]),
        ({"plot.a": "import attention_ref.backend.torch", "backend.torch": ""}, ["plot.a imports backend.torch"]),
        ({"mechanism.a": "import attention_ref as ar"}, ["mechanism.a imports __init__"]),
        (
            {"layer.a": "from attention_ref.normalize import softmax", "normalize.softmax": ""},
            ["layer.a imports normalize.softmax"],
        ),
        ({"attic.old": ""}, ["attic has no floor"]),
        ({"mechanism.a": "from attention_ref.mechanism.b import f", "mechanism.b": ""}, []),
    ],
)
def test_the_reader_of_imports_sees(modules, wrong):
    assert wrong_imports(modules) == wrong


def test_the_reader_of_imports_sees_cycles():
    modules = {
        "mechanism.a": "from attention_ref.mechanism import b",
        "mechanism.b": "import attention_ref.mechanism.a",
    }
    assert cycles(modules) == ["mechanism.a", "mechanism.b"]
    assert cycles({"op": "import attention_ref.errors", "errors": ""}) == []


def test_a_module_is_short():
    assert [name for name, source in sources().items() if source.count("\n") > 350] == []


def test_the_import_is_light():
    code = f"import sys, attention_ref; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=HOUSE.parent)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_contributing_shows_these_floors():
    text = CONTRIBUTING.read_text()
    for floor, rooms in FLOORS.items():
        line = f"| {floor} | {' '.join(f'`{room}`' for room in rooms)} |"
        assert line in text, f"CONTRIBUTING.md, The layers: the line for layer {floor} should be {line}"
