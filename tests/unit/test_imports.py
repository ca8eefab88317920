"""Who may import whom, as far as import-linter cannot see it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("segmentation", "unetr", "orthanc", "db")
SOURCES = [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]


def _imported(path: Path) -> set[str]:
    """Top-level names that a file imports anywhere, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nobody_imports_the_application(path: Path) -> None:
    assert "api" not in _imported(path)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_flask_only_in_modules_of_routes(path: Path) -> None:
    web = {"flask", "flask_smorest", "werkzeug"}
    assert path.name == "routes.py" or not _imported(path) & web


@pytest.mark.parametrize("name", ["errors", "settings"])
def test_the_base_imports_nothing_of_ours(name: str) -> None:
    ours = {*PACKAGES, "api", "settings", "errors"}
    allowed = {"settings": {"errors"}, "errors": set()}[name]
    assert _imported(ROOT / f"{name}.py") & ours <= allowed


def test_orthanc_package_is_empty() -> None:
    # pyorthanc's own module does `from orthanc import *` and would take our names.
    assert (ROOT / "orthanc" / "__init__.py").read_bytes() == b""


@pytest.mark.parametrize(
    "module", ["api", "segmentation.worker", "segmentation.cli.main"]
)
def test_torch_is_not_loaded_by(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
