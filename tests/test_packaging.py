"""The built wheel works away from the checkout."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel and a source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", str(folder)],
        cwd=ROOT, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def sdist(built: Path) -> Path:
    (found,) = built.glob("*.tar.gz")
    return found


def test_the_wheel_holds_the_package_and_every_card_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    cards = {path.name for path in (ROOT / "models").glob("*.toml")}
    assert cards
    assert {Path(name).name for name in names if name.startswith("e4profile/models/")} >= cards
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"e4profile"}
    assert "e4profile/py.typed" in names
    assert not [name for name in names if "__pycache__" in name or name == "e4profile/models/__init__.py"]


def test_the_sdist_holds_all_that_its_readme_and_its_tests_name(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, text=True, capture_output=True, check=False)
    if tracked.returncode != 0:
        pytest.skip("git does not list what belongs to the sources")
    own = {name for name in tracked.stdout.splitlines() if (ROOT / name).exists()}
    # what CI and git are told stays with the repository
    assert {name for name in own - names if not name.startswith((".ci/", ".git"))} == set()
    assert "PKG-INFO" in names
    assert not [name for name in names if "__pycache__" in name]


def test_the_wheel_does_the_main_job_from_a_clean_folder(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile",
         "--target", str(target), str(wheel)],
        check=True, capture_output=True,
    )  # fmt: skip
    code = (
        f"import sys; sys.path.insert(0, {str(target)!r})\n"
        f"import e4profile; assert e4profile.__file__.startswith({str(target)!r}), e4profile.__file__\n"
        "from e4profile.cli.main import main\n"
        "for line in ('models', 'sweep --group p4 -r 1 -s 2 -k 5'):\n"
        "    sys.argv = ['e4profile', *line.split(), '--format', 'json']\n"
        "    try: main()\n"
        "    except SystemExit as end: assert not end.code, (line, end.code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    models, end = json.JSONDecoder().raw_decode(done.stdout)
    assert {row["model"] for row in models} == {path.stem for path in (ROOT / "models").glob("*.toml")}
    rows = json.loads(done.stdout[end:])
    assert [(row["model"], row["macs_measured"], row["agrees"]) for row in rows] == [
        ("e4net-gcnn", 135_926_944, True), ("e4net", 17_640_160, True),
    ]  # fmt: skip
    assert (tmp_path / "reports" / "sweep-p4-r1-s2-k5" / "table.csv").exists()


def test_the_sdist_builds_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "tarfile", "-e", str(sdist), str(tmp_path)], check=True)
    (sources,) = tmp_path.iterdir()
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "again")],
        cwd=sources, check=True, capture_output=True,
    )  # fmt: skip
    (again,) = (tmp_path / "again").iterdir()
    assert again.name == wheel.name
    assert contents(again) == contents(wheel)


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_version_is_said_once_and_the_same_everywhere(sdist: Path) -> None:
    version = sdist.name.removeprefix("e4profile-").removesuffix(".tar.gz")
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {version}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "e4profile", "--version"], text=True, capture_output=True, check=True)
    assert re.fullmatch(rf"e4profile {re.escape(version)} \(torch \d+\.\d+\.\S+, .+\)\n", done.stdout)
