"""Write docs/reference/ from the program and the committed records.

python docs/generate_reference.py [--check]
"""

from __future__ import annotations

import inspect
import json
import os
import re
import statistics
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from keyword import iskeyword
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
FOLDER = DOCS / "reference"
_MADE = "<!-- made by docs/generate_reference.py; do not edit -->\n\n"


def commands() -> str:
    """Every command with its help, at a width that does not depend on the terminal."""
    from typer.main import get_command

    from e4profile.cli.main import app, listed
    from e4profile.cli.topics import TOPICS

    root = get_command(app)
    text = [
        "# Commands\n",
        "Data goes to stdout, progress and notes to stderr. Exit codes: 0 done, 1 a check failed, 2 bad input, 130 "
        "interrupted, with a line that says what was saved, if anything; `guard` has a 3 of its own.\n",
    ]
    width = {"max_content_width": 88, "terminal_width": 88, "resilient_parsing": True}
    program = root.make_context("e4profile", [], **width)
    contexts = {"": (root, program)}
    for name, one in listed().items():
        above, _, last = name.rpartition(" ")
        contexts[name] = (one, one.make_context(last, [], parent=contexts[above][1], **width))
    for topic, explain in TOPICS.items():
        text.append(f"## e4profile help {topic}\n\n```text\n{explain().rstrip()}\n```\n")
    for command, context in contexts.values():
        text.append(f"## {context.command_path}\n\n```text\n{command.get_help(context).rstrip()}\n```\n")
    return "\n".join(text)


def cards() -> str:
    """How to write a card, its fields, and every shipped card."""
    from e4profile.networks.cards import Card, Cell, PublishedRow, built_in_cards

    guide = (DOCS.parent / "models" / "README.md").read_text(encoding="utf-8")
    text = [guide.rstrip() + "\n"]
    for kind in (Card, PublishedRow, Cell):
        text.append(f"## {kind.__name__}\n\n{_docstring(kind)}\n")
    text.append("## Shipped cards\n\n| card | title | group | network | source |\n|---|---|---|---|---|")
    text += [
        f"| `{card.name}` | {card.title} | {card.arguments.get('group', '–')} | `{card.network}` | {card.source} |"
        for card in built_in_cards().values()
    ]
    return "\n".join(text) + "\n"


def records() -> str:
    """The line of the store, its kinds, and the environment that it keeps."""
    from e4profile.records import baseline, store
    from e4profile.witnesses.environment import environment
    from e4profile.witnesses.timing.samples import TimeRecord

    kinds = sorted(_record_kinds())
    return "\n".join(
        [
            "# Records\n",
            f"{_docstring(store)}\n",
            f"This version writes schema {store.SCHEMA_VERSION}.\n",
            f"## Record\n\n{_docstring(store.Record)}\n",
            "## Kinds\n\n| kind | written by |\n|---|---|",
            *[f"| `{kind}` | `{module}` |" for kind, module in kinds],
            f"\n## Times\n\n{_docstring(TimeRecord)}\n",
            f"## Environment\n\n{_docstring(environment)}\n",
            f"## Baseline of the guard\n\n{_docstring(baseline)}\n",
        ]
    )


def _record_kinds() -> Iterator[tuple[str, str]]:
    """The modules that declare the kind of a record, and the default kind."""
    from e4profile.records.store import Record

    yield str(Record.__dataclass_fields__["kind"].default), "e4profile.questions.sweep.sweeps"
    package = DOCS.parent / "e4profile"
    for file in package.rglob("*.py"):
        if kind := re.search(r'^KIND = "(\w+)"', file.read_text(encoding="utf-8"), re.MULTILINE):
            yield kind[1], ".".join(file.relative_to(DOCS.parent).with_suffix("").parts)


def conventions() -> str:
    """What counts as what, with its weights per kind of operation."""
    from e4profile.conventions import ELEMENT_KINDS, all_conventions

    text = [
        "# Conventions\n",
        "Counters report operations by kind; a convention adds them up with a weight per kind. A kind that a "
        "convention does not name weighs 0.\n",
        "`--convention` takes a name or a file of weights:\n",
        '```toml\nmeaning = "MACs, and 8 per element of gelu"\n\n[weights]\nconvolution = 1\nlinear = 1\n'
        "gelu = 8\n```\n",
        "A card names such a file from its own folder. `e4profile reconcile` tries it with `--convention`. By default "
        "it tries the rules below that charge what runs element by element only where nothing simpler gives the "
        "figures.\n",
    ]
    for one in all_conventions().values():
        text.append(f"## {one.name}\n\n{one.meaning[0].upper()}{one.meaning[1:]}.\n")
        if one.published_rule:
            text.append(
                "The rule of a publication's own tool. A figure that follows from it alone is *reproduced under a "
                "named rule*.\n"
            )
        if one.source:
            text.append(f"Source: {one.source}.\n")
        if one.differences:
            text.append("The tool's own figure differs where\n\n" + "".join(f"- {text};\n" for text in one.differences))
        text.append("| kind | weight |\n|---|---|")
        text += [f"| `{kind}` | {weight} |" for kind, weight in one.weights.items()]
        text.append("")
    text.append(
        "## Kinds of what runs element by element\n\nThey are counted from a run alone. A network's closed form has no "
        "figure under a convention that charges one. No convention above that comes without a source charges any.\n"
    )
    text.append("| kind | unit |\n|---|---|")
    text += [f"| `{kind}` | {unit} |" for kind, unit in ELEMENT_KINDS.items()]
    text.append("")
    return "\n".join(text)


def counters() -> str:
    """Every stock counter, and what it sees of three networks."""
    from importlib import import_module

    from e4profile.questions.count.rows import gap_causes
    from e4profile.subjects.subject import resolve
    from e4profile.witnesses.counts.measure import measure
    from e4profile.witnesses.counts.registry import REGISTRY, STOCK

    stock = [spec for spec in REGISTRY.values() if spec.raw]
    page = FOLDER / "counters.md"
    before = page.read_text(encoding="utf-8").split("\n## ") if page.exists() else []
    text = [
        "# Stock counters\n",
        f"`--counter NAME` takes any of them, and `count(..., counter=[...])` too; {' and '.join(STOCK)} are asked by "
        "default. Each is shown as it reports. It is "
        "compared with the MACs that run, and the gap is split into causes, module by module; what none explains is "
        "called unexplained. A counter that is not installed has no figure, and its note says how to install it.\n",
    ]
    text += [f"### `{spec.name}`\n\n{inspect.getdoc(import_module(spec.count.__module__))}\n" for spec in stock]
    for name in ("e4net", "p4-r18", "p4-sa"):
        measured = measure(resolve(name), ["dispatch", *(spec.name for spec in stock if spec.version)])
        # a counter that is not installed here keeps the row that was made where it was
        kept = next((part.splitlines() for part in before if part.startswith(f"{name}\n")), [])
        text.append(f"## {name}\n\n{measured.dispatch.macs:,} MACs run.\n\n| counter | reports | share | causes |")
        text.append("|---|---|---|---|")
        for spec in stock:
            if spec.name in measured.gaps:
                gap = measured.gaps[spec.name]
                share = f"{100 * gap.reported / gap.truth:.4g}%"
                text.append(f"| `{spec.name}` | {gap.reported:,} | {share} | {gap_causes(gap)} |")
            else:
                text += [line for line in kept if line.startswith(f"| `{spec.name}` |")]
        text.append("")
    return "\n".join(text)


def layers() -> str:
    """Every layer's named terms."""
    from e4profile.questions.formula.formulas import find_layer, formula_text, layer_names

    text = [
        "# Layers and their formulas\n",
        "Costs are sums of named terms. Those marked `*` are in the paper's formula, the one that the source gives. "
        "`e4profile formula LAYER --memory` prints the same. `--format latex` gives LaTeX, and `--peak` gives the "
        "storages of the layer's peak.\n",
    ]
    for name in layer_names():
        layer = find_layer(name)
        head, _, rest = formula_text(layer).partition("\n\n")
        summary = head.partition(": ")[2].partition("\nsource:")[0]
        origin = f"`from {layer.__module__} import {name}`; source: {layer.source or 'this package'}"
        text.append(f"## {name}\n\n{summary}\n\n{origin}\n")
        text.append(f"```text\n{rest.rstrip()}\n```\n")
        missing = [words for table, words in _TABLES.items() if getattr(layer, table) is None]
        if missing:
            text.append(f"Not stated: {' and '.join(missing)}.\n")
    return "\n".join(text)


_TABLES = {"saved": "what it keeps for backward (`saved`)", "peak": "its storages step by step (`peak`)"}
"""The tables that a layer may leave out, and what a reader then misses."""


def measured() -> str:
    """What the committed benchmarks measured of the aggregation; nothing is measured here."""
    folder = DOCS.parent / "reports" / "benchmarks"
    runs = json.loads((folder / "aggregation.json").read_text(encoding="utf-8"))
    text = [
        "# Measured times of the aggregation\n",
        "From the records in `reports/benchmarks`; `make bench` measures anew and prints, "
        "`make bench OUT=reports/benchmarks` writes them.\n",
        "## Fused against unfold, multiply and sum\n",
        "Stencil generator and aggregation of one layer at batch 32. *reference* spells the aggregation out, *apart* "
        "fuses it, *together* fuses the generator too. A ratio is the reference's median wall time over the "
        "candidate's; saved bytes are what is kept for backward.",
    ]
    for allocator, run in runs.items():
        where = run["environment"]
        text.append(
            f"\nAllocator: {allocator}. {where['cpu']}, threads: {where['threads']}, torch {where['torch']}, "
            f"{where['default_dtype']}.\n\n"
            "| layer | candidate | forward | forward + backward | saved bytes |\n|---|---|---:|---:|---:|"
        )
        for row in run["rows"]:
            base = next(one for one in run["rows"] if (one["size"], one["candidate"]) == (row["size"], "reference"))
            ratios = [
                statistics.median(base[part]["wall_s"]) / statistics.median(row[part]["wall_s"])
                for part in ("forward", "forward+backward")
            ]
            saved = row["saved_bytes"] / base["saved_bytes"]
            text.append(f"| {row['size']} | {row['candidate']} | {ratios[0]:.1f}× | {ratios[1]:.1f}× | {saved:.2f} |")
    text.append("\n## Shares of time and of MACs\n\nForward passes under the profiler, with the fused operator.")
    for line in (folder / "breakdown.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        counts, setting = record["counts"], record["arguments"]
        macs = sum(one["macs"] for one in counts["terms"])
        text.append(
            f"\n{record['card']}, batch {setting['batch_size']}, {setting['mode']}, {record['environment']['device']}, "
            f"threads: {setting['threads']}, torch {record['environment']['torch']}:\n\n"
            "| term | time | MACs |\n|---|---:|---:|"
        )
        text += [
            f"| {one['term']} | {one['seconds'] / counts['total_s']:.1%} | {one['macs'] / macs:.1%} |"
            for one in counts["terms"]
        ]
        text.append(f"| unattributed | {counts['unattributed_s'] / counts['total_s']:.1%} | – |")
    return "\n".join(text) + "\n"


def python() -> str:
    """The functions of Python: signature, what they return, and what every argument means."""
    import e4profile.api
    from e4profile.cli.main import listed

    text = [
        "# Python\n",
        "Every command is a function of the same name, and every option an argument. A network is a card's name or "
        "file, `file.py:Net`, `package.module:Net`, or an `nn.Module` in hand, which is left as it was found; a list "
        "holds several. Where an option takes several values with commas, an argument takes a list or one value; "
        "where it takes `NAME=VALUE`, a dict. Refusals are those of the command, as exceptions: `E4ProfileError`, "
        "its `SettingError` and `UnknownNameError`.\n",
        f"## Result\n\n{_docstring(e4profile.Result)}\n",
        f"### Result.to_latex\n\n{_docstring(e4profile.Result.to_latex)}\n",
        f"### Result.plot\n\n{_docstring(type(e4profile.Result().plot).__call__)}\n",
    ]
    for name, command in listed().items():
        function = getattr(e4profile, name.replace(" ", "_"), None)
        if function is not None:
            text.append(_function(function, {_in_python(one): one for one in command.params}))
    text += [
        _function(function)
        for function in vars(e4profile.api).values()
        if inspect.isfunction(function) and not function.__name__.startswith("_")
    ]
    return "\n".join(text)


def _in_python(option: Any) -> str:
    flags = [flag for flag in option.opts if flag.startswith("--")]
    name = flags[0].removeprefix("--").replace("-", "_") if flags else option.name
    return f"{name}_" if iskeyword(name) else name


def _function(function: Any, options: Mapping[str, Any] | None = None) -> str:
    """One function; what its arguments mean is what the command's help says."""
    signature = inspect.signature(function)
    plain = [one.replace(annotation=inspect.Parameter.empty) for one in signature.parameters.values()]
    called = f"{function.__name__}{signature.replace(parameters=plain, return_annotation=inspect.Signature.empty)}"
    called = textwrap.fill(f"e4profile.{called}", 100, subsequent_indent="    ", break_long_words=False)
    text = [f"## e4profile.{function.__name__}\n\n```text\n{called}\n```\n\n{_docstring(function)}\n"]
    meant = {one.name: getattr((options or {}).get(one.name), "help", None) for one in plain}
    rows = [f"- `{name}`: {text}" for name, text in meant.items() if text]
    return "\n".join([*text, *(["**Arguments**, in the words of the command\n", *rows, ""] if rows else [])])


def _docstring(thing: Any) -> str:
    """A docstring as Markdown: a section with indented entries becomes a list."""
    lines = (inspect.getdoc(thing) or "").replace("``", "`").splitlines()
    found: list[str] = []
    for line in lines:
        if line.startswith("    >>> ") or (found and found[-1].startswith("    ") and line.startswith("    ")):
            found.append(line)
        elif re.fullmatch(r"[A-Z][a-z ]+:", line):
            found += [f"**{line[:-1]}**", ""]
        elif entry := re.match(r"    (\w+): (.*)", line):
            found.append(f"- `{entry[1]}`: {entry[2]}")
        elif re.match(r"    \S", line):
            found.append(line.strip())
        else:
            found.append(re.sub(r"^ {5,}", "  ", line))
    return "\n".join(found)


PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands,
    "cards.md": cards,
    "records.md": records,
    "conventions.md": conventions,
    "counters.md": counters,
    "layers.md": layers,
    "python.md": python,
    "measured.md": measured,
}


def main() -> None:
    """Write or check."""
    os.environ.update(COLUMNS="88", NO_COLOR="1")
    made = {FOLDER / name: _MADE + page() for name, page in PAGES.items()}
    if "--check" not in sys.argv:
        FOLDER.mkdir(exist_ok=True)
        for file, text in made.items():
            file.write_text(text, encoding="utf-8")
        return
    stale = [
        str(file.relative_to(DOCS.parent))
        for file, text in made.items()
        if not file.exists() or file.read_text(encoding="utf-8") != text
    ]
    stale += [str(file.relative_to(DOCS.parent)) for file in FOLDER.glob("*") if file not in made]
    if stale:
        sys.exit(f"{', '.join(stale)}: stale: run python docs/generate_reference.py")


if __name__ == "__main__":
    main()
