"""The built wheel works away from the checkout."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_and_every_card_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    cards = {path.name for path in (ROOT / "models").glob("*.toml")}
    assert cards
    assert {Path(name).name for name in names if name.startswith("e4profile/models/")} >= cards
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"e4profile"}
    assert "e4profile/py.typed" in names
    assert not [name for name in names if "__pycache__" in name or name.endswith("models/__init__.py")]


def test_it_runs_from_a_clean_folder(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target),
         str(wheel)],
        check=True, capture_output=True,
    )  # fmt: skip
    code = (
        f"import sys; sys.path.insert(0, {str(target)!r})\n"
        f"import e4profile; assert e4profile.__file__.startswith({str(target)!r}), e4profile.__file__\n"
        "sys.argv = ['e4profile', 'models', '--format', 'json']\n"
        "from e4profile.cli.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {row["model"] for row in json.loads(done.stdout)} == {p.stem for p in (ROOT / "models").glob("*.toml")}
