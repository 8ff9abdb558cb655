"""The rules of the code: import directions, private names, names of classes, sizes of modules."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("recsys", "export", "serve", "demos")
MAX_LINES = 400
MODULES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    if "node_modules" not in path.parts
}
TREES = {name: ast.parse(source) for name, source in MODULES.items()}


def test_import_directions_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_answering_loads_no_torch(tmp_path) -> None:
    bundle = ROOT / "tests" / "fixtures" / "bundles" / "dot-bias"
    code = (
        "import sys; from recsys.cli import cli;"
        f"cli.main(['recommend', {str(bundle)!r}, '--user-id', '10'], standalone_mode=False);"
        "heavy = {'torch', 'onnx', 'pandas', 'onnxscript'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Movie" in done.stdout


def name_of(path: str) -> str:
    """The module's name of a file."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports_at_once(tree: ast.Module) -> Iterator[tuple[str, str | None]]:
    """What importing a module imports, in order, as (module, name or None); not for the sake of types."""
    waiting: list[ast.AST] = list(reversed(tree.body))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            waiting += reversed(list(ast.iter_child_nodes(node)))


def cycles_from(start: str, imports: dict[str, list[tuple[str, str | None]]]) -> Iterator[str]:
    """Names taken from modules whose import has begun and not ended, where `start` is imported first."""
    begun: set[str] = set()
    ended: set[str] = set()

    def load(module: str) -> Iterator[str]:
        parent = module.rpartition(".")[0]
        if parent:
            yield from load(parent)
        if module in begun or module not in imports:
            return
        begun.add(module)
        for source, name in imports[module]:
            yield from load(source)
            if f"{source}.{name}" in imports:
                yield from load(f"{source}.{name}")
            elif name and source in begun - ended:
                yield f"{module} takes {name} from {source}, which is being imported"
        ended.add(module)

    yield from load(start)


def test_any_module_can_be_imported_first() -> None:
    imports = {name_of(path): list(imports_at_once(tree)) for path, tree in TREES.items()}
    assert [fault for module in imports for fault in cycles_from(module, imports)] == []
    circle = {"a": [("b", "x")], "b": [("a", "y")], "p": [("p.c", "z")], "p.c": [("p", "d")], "p.d": []}
    assert [*cycles_from("a", circle)] == ["b takes y from a, which is being imported"]
    assert [*cycles_from("p.d", circle)] == []


@pytest.mark.parametrize("word", ["import pickle", "allow_pickle", "from jax", "import jax"])
def test_no_pickle_and_no_jax(word) -> None:
    assert [name for name, source in MODULES.items() if word in source] == []


def is_private(name: str) -> bool:
    return any(part.startswith("_") and not part.startswith("__") for part in name.split("."))


def is_foreign(module: str) -> bool:
    return module.partition(".")[0] not in {*PACKAGES, *sys.stdlib_module_names}


def private_names_of_others(tree: ast.Module) -> Iterator[str]:
    """Private modules and attributes of other packages that a module imports or reads."""
    foreign = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if is_foreign(alias.name):
                    foreign.add(alias.asname or alias.name.partition(".")[0])
                    yield from filter(is_private, [alias.name])
        elif isinstance(node, ast.ImportFrom) and node.module and is_foreign(node.module):
            foreign |= {alias.asname or alias.name for alias in node.names}
            yield from filter(is_private, (f"{node.module}.{alias.name}" for alias in node.names))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            base = node.value
            while isinstance(base, ast.Attribute):
                base = base.value
            if isinstance(base, ast.Name) and base.id in foreign:
                yield ast.unparse(node)


def test_no_private_names_of_other_packages() -> None:
    code = "import os, numpy as np\nfrom ray._private import x\nimport a._b\nos._exit(0)\nnp.core._y(1)"
    assert list(private_names_of_others(ast.parse(code))) == ["ray._private.x", "a._b", "np.core._y"]
    found = {name: list(private_names_of_others(tree)) for name, tree in TREES.items()}
    assert {name: names for name, names in found.items() if names} == {}


def test_no_two_public_classes_share_a_name() -> None:
    places = defaultdict(list)
    for name, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name)
    shared = {name: where for name, where in places.items() if len(where) > 1}
    assert shared == {}


def test_modules_are_short() -> None:
    lines = {name: source.count("\n") for name, source in MODULES.items()}
    assert {name: n for name, n in lines.items() if n > MAX_LINES} == {}


def test_the_architecture_names_every_folder() -> None:
    drawn = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").splitlines()
    for package in PACKAGES:
        line = next(line for line in drawn if line.startswith(f"{package}/"))
        folders = {path.name for path in (ROOT / package).iterdir() if any(path.glob("*.py"))}
        assert {name for name in folders if f"{name}/" not in line} == set(), package
