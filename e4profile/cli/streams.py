"""What a stream's encoding lacks: signs that look alike for readers, exact escapes for programs; never an error."""

from __future__ import annotations

import codecs
import io
import os
import sys

_ALIKE = {
    "─": "-", "│": "|", "–": "-", "—": "-", "−": "-", "…": "...", "×": "x", "·": ".", "±": "+-", "→": "->",
    "≤": "<=", "≥": ">=", "≠": "!=", "≈": "~", "µ": "u", "²": "^2", "³": "^3", "⁻": "^-", "¹": "1", "′": "'",
    "‘": "'", "’": "'", "“": '"', "”": '"', "•": "*", "✓": "v", "✗": "x",
}  # fmt: skip

READERS, PROGRAMS, LATEX = "e4profile-readers", "e4profile-programs", "e4profile-latex"
"""The names under which streams find what stands for a sign that they lack."""


def _escaped(sign: str) -> str:
    """As JSON escapes it, in two halves beyond sixteen bits."""
    halves = sign.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{halves[place]:02x}{halves[place + 1]:02x}" for place in range(0, len(halves), 2))


def _for_readers(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(_ALIKE.get(sign) or _escaped(sign) for sign in signs), error.end


def _for_programs(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_escaped, error.object[error.start : error.end])), error.end


def _for_latex(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    from e4profile.show.latex import command

    found = map(command, error.object[error.start : error.end])
    return "".join(one if one.isascii() else rf"\texttt{{U+{ord(one):04X}}}" for one in found), error.end


codecs.register_error(LATEX, _for_latex)
codecs.register_error(READERS, _for_readers)
codecs.register_error(PROGRAMS, _for_programs)


def prepare_streams() -> bool:
    """Whether there is a stdout; a closed stderr is done without, and both write every sign in some way."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - it stands in for the stream
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=READERS)
    return sys.stdout is not None


def write_for(output_format: str) -> None:
    """Let stdout escape what its encoding lacks as the format's programs read it, rather than show what looks alike."""
    errors = {"json": PROGRAMS, "csv": PROGRAMS, "latex": LATEX, "latex-all": LATEX}.get(output_format)
    if errors and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=errors)
