"""The guard's result as JUnit XML that agrees with the exit code.

A deviation is a failure, a missing baseline or a usage error is an error: exit code 0 exactly when there is
neither, 1 exactly when there is a failure.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from e4profile.errors import SettingError
from e4profile.questions.guard.run import GuardResult

_SUITE = "e4profile guard"


def junit_text(result: GuardResult) -> str:
    """One test case per check."""
    problems = [check for check in result.checks if check.status != "pass"]
    suite = _suite(
        tests=len(result.checks),
        failures=sum(check.status == "deviation" for check in problems),
        errors=sum(check.status == "no baseline" for check in problems),
    )
    for check in result.checks:
        case = ET.SubElement(suite, "testcase", classname=_clean(check.model), name=check.name, time="0")
        if check.status != "pass":
            kind = "failure" if check.status == "deviation" else "error"
            ET.SubElement(case, kind, message=_clean(check.message), type=check.status)
    notes = [*result.notes, *(f"{model.name}: {note}" for model in result.models for note in model.notes)]
    if notes:
        ET.SubElement(suite, "system-out").text = _clean("\n".join(notes))
    return _text(suite)


def junit_error(message: str) -> str:
    """The report of a run that ended with a usage error, so that no older report is taken for it."""
    suite = _suite(tests=1, failures=0, errors=1)
    case = ET.SubElement(suite, "testcase", classname=_SUITE, name="usage", time="0")
    ET.SubElement(case, "error", message=_clean(message), type="usage")
    return _text(suite)


def write_report(file: Path, text: str) -> None:
    """Write a report, making its folder.

    Raises:
        SettingError: when it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise SettingError(f"cannot write {file}: {error.strerror}") from error


def _suite(**counts: int) -> ET.Element:
    return ET.Element(
        "testsuite", {"name": _SUITE, **{key: str(n) for key, n in counts.items()}, "skipped": "0", "time": "0"}
    )


def _text(suite: ET.Element) -> str:
    root = ET.Element("testsuites", {key: suite.attrib[key] for key in ("name", "tests", "failures", "errors")})
    root.append(suite)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _clean(text: str) -> str:
    # XML 1.0 has no way to write a control character, escaped or not
    return "".join(c if c in "\t\n" or (c.isprintable() and c not in "\ufffe\uffff") else " " for c in text)
