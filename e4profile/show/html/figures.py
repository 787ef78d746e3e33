"""A figure as a page shows it: the drawing inside the page, its numbers beside it."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from e4profile.errors import SettingError
from e4profile.show.html.model import slug
from e4profile.show.html.tables import csv_uri

MOST_NUMBER_ROWS = 60
_LARGEST_SVG = 140_000
_ENDINGS = (".svg", ".png", ".csv")
_PATH_DATA = re.compile(r'(?<= d=")[^"]*(?=")')
_AROUND_LETTER = re.compile(r"\s*([A-Za-z])\s*")
_PLACE = re.compile(r' [xy]="[^"]*"|translate\([^)]*\)')
_GROUP_NAME = re.compile(r'<g id="[^"]*"')
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_PREAMBLE = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>", re.DOTALL)


@dataclass(frozen=True)
class ShownFigure:
    """Everything the template needs of one figure; header and rows are empty without numbers to show."""

    anchor: str
    caption: str
    image_uri: str
    file_name: str
    csv_uri: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def shown_figures(paths: Sequence[Path], captions: Mapping[str, str] | None = None) -> list[ShownFigure]:
    """Gather the files of each figure (same name, .svg, .png, .csv) in order of appearance.

    Args:
        paths: the files.
        captions: by name without ending; the name itself for a figure that is not in it.

    Raises:
        SettingError: for another ending, a figure without a drawing, or a file that cannot be read.
    """
    files: dict[Path, dict[str, Path]] = {}
    for path in paths:
        if path.suffix not in _ENDINGS:
            raise SettingError(f"figure {path}: the ending must be one of {', '.join(_ENDINGS)}")
        files.setdefault(path.with_suffix(""), {})[path.suffix] = path
    try:
        return [_shown(stem, found, (captions or {}).get(stem.name)) for stem, found in files.items()]
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"a figure cannot be read: {error}") from error


def _shown(stem: Path, files: dict[str, Path], caption: str | None) -> ShownFigure:
    if set(files) <= {".csv"}:
        raise SettingError(f"figure {stem}: there is no .svg and no .png to show")
    numbers = files[".csv"].read_text(encoding="utf-8") if ".csv" in files else ""
    header, *rows = list(csv.reader(io.StringIO(numbers))) or [[]]
    few = len(rows) <= MOST_NUMBER_ROWS
    return ShownFigure(
        anchor=f"figure-{slug(stem.name)}",
        caption=caption or stem.name.replace("-", " ").replace("_", " "),
        image_uri=_image(files),
        file_name=f"{stem.name}.csv",
        csv_uri=csv_uri(numbers) if numbers else "",
        header=tuple(header) if few else (),
        rows=tuple(map(tuple, rows)) if few else (),
    )


def _image(files: dict[str, Path]) -> str:
    """The drawing as an address that holds it: an image cannot run scripts or reach the network."""
    vector = _shrunk(files[".svg"].read_text(encoding="utf-8")) if ".svg" in files else ""
    raster = files[".png"].read_bytes() if ".png" in files else b""
    if vector and (not raster or len(vector) <= max(_LARGEST_SVG, len(raster) * 4 // 3)):
        return f"data:image/svg+xml,{quote(vector, safe=_SAFE)}"
    return f"data:image/png;base64,{base64.b64encode(raster).decode()}"


# what an address may hold as it is, so that a drawing grows little
_SAFE = " =/:;,.()-_+*!?@$[]{}|^~"


def _shrunk(svg: str) -> str:
    """Coordinates to a hundredth of a point, short names for glyphs, and nothing that is not drawn."""

    def rounded(text: re.Match[str]) -> str:
        return _LONG_NUMBER.sub(lambda number: f"{float(number[0]):.2f}", text[0])

    short = _PATH_DATA.sub(lambda d: _AROUND_LETTER.sub(r"\1", rounded(d).strip()), _PREAMBLE.sub("", svg))
    short = _PLACE.sub(rounded, _GROUP_NAME.sub("<g", short))
    short = short.replace("DejaVuSans-", "d-").replace("xlink:href=", "href=")
    return re.sub(r">\s+<", "><", short).strip()
