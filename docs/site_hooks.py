"""What the site has beyond its Markdown: formulas in MathML, the notebook with its outputs, the figures of the report.

mkdocs calls these functions (``hooks`` in mkdocs.yml). On GitHub the same pages show formulas as text.
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK, FIGURES = "notebook.md", "../reports/figures/"
_LAYER = re.compile(r"^## (\w+)\n(.*?)^```text\n.*?^```$", re.MULTILINE | re.DOTALL)


def on_files(files: Any, config: Any) -> Any:
    """Add the notebook as a page, and the report's figures for the gallery."""
    files.append(File.generated(config, NOTEBOOK, content=executed_notebook()))
    for figure in sorted((ROOT / "reports" / "figures").glob("*.svg")):
        files.append(File.generated(config, f"figures/{figure.name}", abs_src_path=str(figure)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Formulas as MathML on the page of layers; the gallery's figures where the site has them."""
    if page.file.src_uri == "reference/layers.md":
        return _LAYER.sub(lambda found: f"## {found[1]}\n{found[2]}{formulas(found[1])}\n", markdown)
    return markdown.replace(FIGURES, "figures/").replace("(example.ipynb)", f"({NOTEBOOK})")


def formulas(layer: str) -> str:
    """A layer's named terms as HTML tables with MathML, and what the symbols mean."""
    from e4profile.questions.formula.formulas import find_layer
    from e4profile.questions.report.closed_forms import closed_form

    form = closed_form(find_layer(layer))
    parts = []
    for table in form.tables:
        rows = [
            f"<tr><td>{html.escape(row.term)}{' *' if row.printed else ''}</td><td>{math(row.mathml)}</td></tr>"
            for row in (*table.terms, *table.sums)
        ]
        parts.append(f"<table><caption>{html.escape(table.heading)}</caption><tbody>{''.join(rows)}</tbody></table>")
    symbols = [f"<li>{math(symbol)}: {html.escape(meaning)}</li>" for symbol, meaning in form.symbols]
    return "\n\n".join([*parts, f"<ul>{''.join(symbols)}</ul>"])


def math(mathml: str) -> str:
    """An expression as its own element of the page."""
    return f'<math displaystyle="true">{mathml}</math>'


def executed_notebook() -> str:
    """The example notebook as Markdown, run from top to bottom, each output below its cell."""
    import nbclient
    import nbformat

    notebook = nbformat.read(ROOT / "docs" / "example.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(ROOT / "docs")}}).execute()
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        parts += [shown(output.get("data", {})) for output in cell.outputs]
    return "\n\n".join(part for part in parts if part) + "\n"


def shown(data: dict[str, str]) -> str:
    """An output in the richest form that a page can hold."""
    if "image/png" in data:
        return f'<img alt="Figure of the cell above" src="data:image/png;base64,{data["image/png"].strip()}">'
    if "text/html" in data:
        return re.sub(r"\n\s*\n", "\n", data["text/html"])
    return f"```text\n{data['text/plain']}\n```" if "text/plain" in data else ""
