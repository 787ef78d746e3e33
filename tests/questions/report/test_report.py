"""The reports folder: what is committed is current; what is stale, missing or superfluous is found."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from html_document import Document
from page_sample import figure
from program import Run

import e4profile.questions.published.rows as rows
import e4profile.questions.report.content as content
import e4profile.questions.report.files as files
from e4profile.cli.main import main
from e4profile.conventions import CONVENTIONS
from e4profile.errors import SettingError
from e4profile.layers import GroupConv2d
from e4profile.networks.cards import VERDICTS, PublishedRow, all_cards
from e4profile.questions.published.rows import BuiltCell, build_row, build_table, table_names, table_title
from e4profile.questions.report.closed_forms import closed_form
from e4profile.questions.report.files import check_report, write_report
from e4profile.questions.report.published import build_published, verdict_table
from e4profile.questions.sweep.plans import make_plan
from e4profile.records.store import RecordStore
from e4profile.subjects.subject import Subject

ENDINGS = (".csv", ".md", ".tex", ".svg", ".png")
COMMITTED = Path(__file__).resolve().parents[3] / "reports"


def _silent(_: str) -> None:
    pass


def _small(patch: pytest.MonkeyPatch) -> None:
    """A report of one table, one short sweep and one figure."""
    patch.setattr(content, "table_names", lambda: ["2"])
    patch.setattr(content, "SWEPT_GROUPS", ("p4",))
    patch.setattr(
        content, "make_plan", lambda groups: make_plan(groups=groups, reductions=[1], slices=[1, 2], kernels=[3])
    )
    patch.setattr(content, "draw_all", lambda folder, records: figure(folder))
    patch.setattr(content, "closed_forms", lambda: [closed_form(GroupConv2d)])


MADE_ANEW = content.make_report
"""What ``written`` stands in for."""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    _small(monkeypatch)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small report, made once."""
    folder = tmp_path_factory.mktemp("made") / "reports"
    with pytest.MonkeyPatch.context() as patch:
        _small(patch)
        write_report(folder, _silent)
    return folder


@pytest.fixture
def written(small: None, made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The small report in a folder of its own; what is made anew to compare it with is copied."""

    def copied(folder: Path, records: Path, done: Callable[[str], None]) -> None:
        del records
        shutil.copytree(made, folder, ignore=shutil.ignore_patterns(files.MANIFEST), dirs_exist_ok=True)
        for step in content.steps():
            done(step)

    monkeypatch.setattr(content, "make_report", copied)
    return Path(shutil.copytree(made, tmp_path / "reports"))


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _main_job(run: Run, folder: Path) -> RecordStore:
    """The records of ``make sweep``, whose table and figures are the committed ones, byte for byte."""
    assert run("sweep", "--group", "p4").code == 0
    written = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert written.pop("records.jsonl")
    expected = {path.name: path.read_bytes() for path in (COMMITTED / "sweep-p4").iterdir()}
    # records with their environment are not committed
    expected.pop("records.jsonl", None)
    assert sorted(written) == sorted(expected)
    stale = sorted(name for name, content in expected.items() if written[name] != content)
    assert stale == [], "run `make sweep` and commit reports/sweep-p4"
    return RecordStore(folder / "records.jsonl")


@pytest.mark.slow
def test_the_committed_report_is_current_and_every_published_cell_has_its_recorded_verdict(
    monkeypatch: pytest.MonkeyPatch, run: Run, tmp_path: Path
) -> None:
    """The whole report made anew, byte for byte; the page small enough to open anywhere.

    What ``make sweep`` measured is read back, where it is measured a second time otherwise.
    """
    records = _main_job(run, tmp_path / "reports" / "sweep-p4")
    monkeypatch.setattr(content, "Sweep", partial(content.Sweep, store=records))
    built: dict[tuple[str, str, str], list[BuiltCell]] = {}

    def kept(subject: Subject, row: PublishedRow, execution: str | None) -> list[BuiltCell]:
        return built.setdefault((subject.name, row.table, row.row), build_row(subject, row, execution))

    monkeypatch.setattr(rows, "build_row", kept)
    stale = check_report(COMMITTED, _silent)
    assert set(built) == {(card.name, row.table, row.row) for card in all_cards().values() for row in card.published}
    # code that is not here gives no verdict
    judged = [cell for cells in built.values() for cell in cells if cell.verdict != "not installed"]
    assert [cell for cell in judged if not cell.as_recorded] == []
    assert len(judged) > 100
    assert stale.differences == []
    assert (COMMITTED / "index.html").stat().st_size < 2_000_000
    document = Document((COMMITTED / "index.html").read_text("utf-8"))
    assert document.problems == []
    assert len(document.values("id")) == len(set(document.values("id")))
    text = "".join(document.text)
    assert all(table_title(name) in text for name in table_names())
    names = {f"{name}.{ending}" for name in table_names() for ending in ("md", "csv", "tex")}
    assert names <= {path.name for path in (COMMITTED / "tables").iterdir()}


def test_a_report_holds_every_kind_of_file(written: Path) -> None:
    assert set(_bytes(written)) == {
        *(f"tables/{name}.{ending}" for name in ("2", "sweep-p4") for ending in ("md", "csv", "tex")),
        *(f"figures/a-figure.{ending}" for ending in ("svg", "png", "csv")),
        "versions.json",
        "report-manifest.json",
        "index.html",
    }
    assert r"\toprule" in (written / "tables/2.tex").read_text("utf-8")
    assert (written / "tables/2.csv").read_text("utf-8").startswith("row,quantity,published,built")


def test_the_same_cards_give_the_same_bytes_and_every_step_is_announced_once(
    small: None, made: Path, tmp_path: Path
) -> None:
    steps: list[str] = []
    write_report(tmp_path / "again", steps.append)
    assert _bytes(tmp_path / "again") == _bytes(made)
    assert steps == content.steps()


def test_the_page_shows_every_cell_with_its_verdict(written: Path) -> None:
    document = Document((written / "index.html").read_text("utf-8"))
    text = "".join(document.text)
    for cell in build_table("2"):
        assert cell.verdict in text
        assert cell.built is None or f"{cell.built:,}" in text
        assert cell.executed_macs is None or f"{cell.executed_macs:,}" in text


def test_the_tally_adds_up() -> None:
    published = [build_published(name) for name in ("2", "3")]
    *tables, every = verdict_table(published).rows
    assert [row["cells"] for row in tables] == [len(one.verdicts) for one in published]
    for row in (*tables, every):
        assert sum(row[name] for name in VERDICTS) == row["cells"]
    for key in ("cells", *VERDICTS):
        assert every[key] == sum(row[key] for row in tables)
    compared = [cell for cell in build_table("2") if cell.judged]
    assert tables[0]["reproduced"] == sum(cell.verdict == "reproduced" for cell in compared) > 0


def test_what_is_stale_missing_or_superfluous_is_found(written: Path) -> None:
    (written / "tables/2.md").write_text((written / "tables/2.md").read_text("utf-8").replace("9,862", "9,863"))
    (written / "tables/2.csv").write_bytes((written / "tables/2.csv").read_bytes().replace(b"\n", b"\r\n"))
    (written / "tables/2.tex").unlink()
    _as_if_written(written, "tables/old.csv")
    (written / "tables/mine.csv").write_text("not of the report")
    (written / "figures/a-figure.png").write_bytes(b"")
    (written / "notes.txt").write_text("not of the report")
    stale = check_report(written, _silent)
    found = {text.split(":")[0].split("\n")[0]: text for text in stale.differences}
    assert len(stale.names) == len(stale.differences)
    assert all(name in text for name, text in zip(stale.names, stale.differences, strict=True))
    assert set(found) == {
        "--- tables/2.md", "tables/2.csv", "tables/2.tex", "tables/old.csv", "figures/a-figure.png"
    }  # fmt: skip
    diff = found["--- tables/2.md"].splitlines()
    assert any(line.startswith("-") and "9,863" in line for line in diff)
    assert any(line.startswith("+") and "9,862" in line for line in diff)
    assert found["tables/2.csv"].endswith("line ends")
    assert found["tables/2.tex"].endswith("missing")
    assert found["tables/old.csv"].endswith("superfluous")
    assert "stale" in found["figures/a-figure.png"]


def test_a_diff_is_short(written: Path) -> None:
    (written / "index.html").write_text("x" * 10_000 + "\n" * 5_000)
    (text,) = check_report(written, _silent).differences
    assert len(text.splitlines()) <= 25
    assert max(map(len, text.splitlines())) <= 201
    assert "more lines of index.html" in text


def _with_version(folder: Path, name: str) -> None:
    recorded = json.loads((folder / "versions.json").read_text("utf-8"))
    (folder / "versions.json").write_text(json.dumps({**recorded, name: "0.1"}))


def _redraw(folder: Path) -> None:
    for ending in ("svg", "png"):
        (folder / f"figures/a-figure.{ending}").write_text("drawn otherwise")
    page = folder / "index.html"
    page.write_text(page.read_text("utf-8").replace('src="data:image/svg+xml,', 'src="data:image/svg+xml,other'))


def test_with_another_matplotlib_figures_are_compared_by_their_numbers(written: Path) -> None:
    _redraw(written)
    assert len(check_report(written, _silent).differences) == 3
    _with_version(written, "matplotlib")
    stale = check_report(written, _silent)
    assert stale.differences == []
    assert ["CSV only" in note for note in stale.notes] == [True]
    (written / "figures/a-figure.csv").write_text("x,y\n1,1\n2,5\n")
    (text,) = check_report(written, _silent).differences
    assert "figures/a-figure.csv" in text
    (written / "figures/a-figure.svg").unlink()
    assert "figures/a-figure.svg: missing" in check_report(written, _silent).differences


def test_with_another_pillow_png_files_alone_are_not_compared(written: Path) -> None:
    picture = written / "figures/a-figure.png"
    picture.write_bytes(picture.read_bytes() + b"x")
    assert ["a-figure.png: stale" in text for text in check_report(written, _silent).differences] == [True]
    _with_version(written, "pillow")
    stale = check_report(written, _silent)
    assert stale.differences == []
    assert ["PNG files are not compared" in note for note in stale.notes] == [True]
    drawing = written / "figures/a-figure.svg"
    drawing.write_bytes(drawing.read_bytes() + b" ")
    assert ["a-figure.svg: stale" in text for text in check_report(written, _silent).differences] == [True]


def test_with_another_sympy_the_page_is_compared_without_its_formulas(written: Path) -> None:
    page = written / "index.html"
    page.write_text(page.read_text("utf-8").replace("<mi>A</mi>", "<mi>B</mi>"))
    assert len(check_report(written, _silent).differences) == 1
    _with_version(written, "sympy")
    assert check_report(written, _silent).differences == []
    page.write_text(page.read_text("utf-8").replace("9,862", "9,863"))
    assert len(check_report(written, _silent).differences) == 1


def test_another_counter_version_excuses_nothing(written: Path) -> None:
    _with_version(written, "fvcore")
    (written / "tables/2.tex").unlink()
    stale = check_report(written, _silent)
    assert stale.differences == ["tables/2.tex: missing"]
    assert "made with fvcore 0.1" in stale.notes[0]


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of a report whose contents cost nothing to make."""

    def make(folder: Path, records: Path, done: Callable[[str], None]) -> None:
        del records
        for name in ("tables/2.csv", "tables/2.md", "figures/a.svg", "index.html"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(f"new {name}")
        (folder / "versions.json").write_text(json.dumps(content.installed_versions()))
        done("page")

    monkeypatch.setattr(content, "make_report", make)
    write_report(tmp_path / "reports", _silent)
    return tmp_path / "reports"


def _as_if_written(folder: Path, name: str) -> None:
    """A file of an earlier report that is no longer made."""
    (folder / name).write_text("1,2\n")
    manifest = folder / files.MANIFEST
    listed = json.loads(manifest.read_text("utf-8"))
    manifest.write_text(json.dumps({**listed, name: hashlib.sha256(b"1,2\n").hexdigest()}))


def test_regenerating_removes_what_is_no_longer_made_and_nothing_else(light: Path) -> None:
    before = _bytes(light)
    _as_if_written(light, "tables/old.csv")
    _as_if_written(light, "tables/edited.csv")
    kept = {f"{folder}/mine{ending}": b"mine" for folder in ("tables", "figures") for ending in ENDINGS}
    kept |= {
        "tables/edited.csv": b"by hand",
        "benchmarks/read.me": b"records",
        "notes.csv": b"",
        "figures/a/b.svg": b"",
    }
    for name, text in kept.items():
        (light / name).parent.mkdir(exist_ok=True)
        (light / name).write_bytes(text)
    write_report(light, _silent)
    assert _bytes(light) == before | kept


@pytest.mark.parametrize("name", ["index.html", "versions.json", "tables/2.csv", "figures/a.svg"])
@pytest.mark.parametrize("reported", [False, True])
def test_a_file_that_no_report_wrote_is_never_written_over(
    light: Path, tmp_path: Path, name: str, reported: bool
) -> None:
    out = light if reported else tmp_path / "paper"
    if reported:
        manifest = json.loads((out / files.MANIFEST).read_text("utf-8"))
        (out / files.MANIFEST).write_text(json.dumps({key: value for key, value in manifest.items() if key != name}))
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    (out / name).write_text("{}")
    before = _bytes(out)
    with pytest.raises(SettingError, match="no report wrote it"):
        write_report(out, _silent)
    assert _bytes(out) == before


def test_a_report_from_before_there_were_manifests_is_made_anew_and_nothing_is_removed(light: Path) -> None:
    before = _bytes(light)
    (light / files.MANIFEST).unlink()
    (light / "tables/2.md").write_text("old")
    (light / "tables/old.csv").write_text("mine or the report's")
    write_report(light, _silent)
    assert _bytes(light) == before | {"tables/old.csv": b"mine or the report's"}


@pytest.mark.parametrize(
    "name", ["../mine.csv", "tables/../../mine.csv", "/mine.csv", "mine.csv", "tables/mine.txt", ""]
)
def test_a_manifest_reaches_only_files_of_a_report(light: Path, name: str) -> None:
    (light.parent / "mine.csv").write_text("mine")
    (light / "mine.csv").write_text("mine")
    (light / files.MANIFEST).write_text(json.dumps({name: hashlib.sha256(b"mine").hexdigest()}))
    for attempt in (write_report, check_report):
        with pytest.raises(SettingError, match=r"report-manifest\.json: .* is not a file of a report"):
            attempt(light, _silent)
    assert (light.parent / "mine.csv").read_text() == (light / "mine.csv").read_text() == "mine"


class _KilledError(BaseException):
    pass


def _killed_at(monkeypatch: pytest.MonkeyPatch, name: str, call: int) -> None:
    """End at the n-th call of a function of the module, as a killed process would."""
    calls = iter(range(call))
    module = files if hasattr(files, name) else content
    function = getattr(module, name)

    def counted(*arguments: object) -> object:
        if next(calls, None) is None:
            raise _KilledError
        return function(*arguments)

    monkeypatch.setattr(module, name, counted)


@pytest.mark.parametrize("call", [0, 1, 3, 5])
def test_a_killed_report_is_put_in_place_by_the_next_one(
    light: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    new = _bytes(light) | {"tables/mine.csv": b"mine"}
    for path in [path for path in light.rglob("*") if path.is_file()]:
        if path.name != files.MANIFEST:
            path.write_text("old")
    _as_if_written(light, "tables/old.csv")
    (light / "tables/mine.csv").write_text("mine")
    with monkeypatch.context() as patch:
        _killed_at(patch, "_move", call)
        with pytest.raises(_KilledError):
            write_report(light, _silent)
    with pytest.raises(SettingError, match="was killed while it was put in place"):
        check_report(light, _silent)
    with monkeypatch.context() as patch:
        _killed_at(patch, "make_report", 0)
        with pytest.raises(_KilledError):
            write_report(light, _silent)
    assert _bytes(light) == new


@pytest.mark.parametrize("call", [0, 1, 4])
def test_a_report_that_is_killed_before_it_lies_there_whole_changes_nothing(
    light: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    (light / "tables/2.md").write_text("old")
    before = _bytes(light)
    with monkeypatch.context() as patch:
        _killed_at(patch, "_digest", call)
        with pytest.raises(_KilledError):
            write_report(light, _silent)
    assert {name: text for name, text in _bytes(light).items() if not name.startswith(".")} == before
    assert len(check_report(light, _silent).differences) == 1
    write_report(light, _silent)
    assert check_report(light, _silent).differences == []
    assert not list(light.glob(".*"))


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_the_report_is_in_place(
    light: Path, monkeypatch: pytest.MonkeyPatch, kind: signal.Signals
) -> None:
    new = _bytes(light)
    (light / "tables/2.md").write_text("old")
    move = files._move

    def moved(source: Path, target: Path) -> None:
        os.kill(os.getpid(), kind)
        move(source, target)

    def ended(*_: object) -> None:
        raise _KilledError

    monkeypatch.setattr(files, "_move", moved)
    before = signal.signal(kind, ended)
    try:
        with pytest.raises(_KilledError):
            write_report(light, _silent)
        assert signal.getsignal(kind) is ended
    finally:
        signal.signal(kind, before)
    assert _bytes(light) == new


def _interrupt_at(wanted: str) -> Callable[[str], None]:
    def done(step: str) -> None:
        if step == wanted:
            raise KeyboardInterrupt

    return done


@pytest.mark.parametrize("step", ["table 2", "page"])
def test_an_interrupted_report_leaves_the_old_one_whole(
    written: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(content, "make_report", MADE_ANEW)
    (written / "index.html").write_text("old")
    before = _bytes(written)
    with pytest.raises(KeyboardInterrupt):
        write_report(written, _interrupt_at(step))
    assert _bytes(written) == before


def test_folders_that_cannot_be_used_are_one_error(small: None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="is a file"):
        write_report(tmp_path / "file", _silent)
    with pytest.raises(SettingError, match="cannot write"):
        write_report(tmp_path / "file" / "below", _silent)
    with pytest.raises(SettingError, match="holds no report"):
        check_report(tmp_path, _silent)
    (tmp_path / "versions.json").write_text("[")
    with pytest.raises(SettingError, match=r"versions\.json: cannot be read"):
        check_report(tmp_path, _silent)


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["e4profile", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def test_the_command_writes_checks_and_fails(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(written)
    out = str(written)
    assert _run(monkeypatch, "report", "--out", out, "--check") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "run e4profile report" in error
    assert _run(monkeypatch, "report", "--out", out) == 0
    assert _run(monkeypatch, "report", "--out", out, "--check") == 0
    assert capsys.readouterr().out == ""
    (tmp_path / "reports/tables/2.md").unlink()
    assert _run(monkeypatch, "report", "--out", out, "--check") == 1
    captured = capsys.readouterr()
    assert captured.out == "tables/2.md: missing\n"
    assert "1 file is stale" in captured.err
    (tmp_path / "reports/tables/2.csv").write_text("one\ntwo\n")
    assert _run(monkeypatch, "report", "--out", out, "--check") == 1
    assert capsys.readouterr().out.startswith("tables/2.csv: stale\ntables/2.md: missing\n\n--- tables/2.csv\n")
    shutil.rmtree(tmp_path / "reports")
    (tmp_path / "reports").write_text("")
    assert _run(monkeypatch, "report", "--out", out) == 2


def test_a_published_row_names_its_card_and_a_rule_is_said_once() -> None:
    page = build_published("separable-mnist").pages[0]
    assert {row["card"] for row in page.table.rows} >= {"z2cnn", "g-p4cnn"}
    meaning = CONVENTIONS["weights-at-output"].meaning
    assert [meaning in note for note in page.table.notes].count(True) == 1
    counted = {dict(details).get("counted") for details in page.details}
    assert "by the convention weights-at-output" in counted
    assert not any(meaning in text for details in page.details for _, text in details)
    assert not any(row["verdict"] == "published" for row in page.table.rows)
