"""The layout of the project: the wheel holds the tree, and the core imports nothing heavy."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDERS = ("graph", "selector", "jobs", "configs")


def test_every_package_folder_is_listed():
    """A folder that is not listed works in an editable install and is silently missing from the wheel."""
    listed = set(tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {
        "prereq." + ".".join(path.parent.relative_to(REPOSITORY).parts)
        for folder in ("graph", "selector", "jobs")
        for path in (REPOSITORY / folder).rglob("__init__.py")
    }
    assert found | {"prereq.configs"} == listed


@pytest.mark.slow
def test_the_wheel_holds_exactly_the_tree(tmp_path):
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(REPOSITORY)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    tree = {
        f"prereq/{path.relative_to(REPOSITORY).as_posix()}"
        for folder in FOLDERS
        for path in (REPOSITORY / folder).rglob("*")
        if path.suffix in (".py", ".yaml", ".typed") and "__pycache__" not in path.parts
    }
    assert held == tree


def test_the_feed_imports_neither_ray_nor_torch():
    code = (
        "import sys, prereq.selector.feed\n"
        "banned = {'ray', 'torch', 'sklearn', 'scipy', 'pydantic', 'fasttext', 'datasketch', 'yaml'}\n"
        "heavy = banned & set(sys.modules)\n"
        "print(sorted(heavy))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
