"""The Python API is the commands: a function for each, its arguments for the options, and examples that run."""

from __future__ import annotations

import doctest
from importlib import import_module
from inspect import Parameter, signature
from keyword import iskeyword
from typing import Any

import pytest

import e4profile
from e4profile.cli.main import listed

NO_FUNCTION = {"report": "it writes a project's folder of files"}

NO_ARGUMENT = {
    "--format": "a result is a frame, which pandas writes in any format; LaTeX is to_latex's",
    "--units": "a frame has every digit; to_latex takes units",
    **dict.fromkeys(("--columns", "--caption", "--label", "--width", "--bare"), "of to_latex"),
    **dict.fromkeys(("--plot", "--plots", "--font"), "of plot"),
    "--html": "a notebook shows a result",
    "--list": "the refusal of a name lists them",
    "--bibtex": "it is a text, and no rows",
    "--elements": "a frame has every element",
    **dict.fromkeys(("--junit", "--annotations", "--markdown"), "reports for another program"),
    **dict.fromkeys(
        ("--jobs", "--partition", "--gpus", "--array-parallelism", "--timeout-min", "--job-minutes"),
        "the same command comes back to its jobs; other programs map run_setting",
    ),
    "--help": "help(e4profile.count)",
    "calibrate --cards": "a calibration is of no network",
}
"""Options that say nothing of the result, and where what they do is instead."""

SHORT = {"arguments", "models", "error", "table"}
"""What functions take besides: arguments of a network by name, the name that a sweep's networks had before, and what
the help of published errors has in place of its command."""

COMMANDS = {name.replace(" ", "_"): command for name, command in listed().items() if name not in NO_FUNCTION}


def flag(option: Any) -> str:
    return next((one for one in option.opts if one.startswith("--")), "")


def named(option: Any) -> str:
    name = option.name if option.param_type_name == "argument" else flag(option).removeprefix("--").replace("-", "_")
    return f"{name}_" if iskeyword(name) else name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_an_argument_with_the_same_default(name: str) -> None:
    function = getattr(e4profile, name)
    assert function.__name__ == name
    taken = dict(signature(function).parameters)
    options = [one for one in COMMANDS[name].params if not getattr(one, "hidden", False)]
    for option in options:
        if {flag(option), f"{name} {flag(option)}"} & set(NO_ARGUMENT) and named(option) not in taken:
            continue
        assert named(option) in taken, f"{name}() lacks {flag(option)}"
        default = taken.pop(named(option)).default
        assert default == (Parameter.empty if option.required else option.default), flag(option)
    unlisted = {named(one) for one in COMMANDS[name].params if getattr(one, "hidden", False)}
    assert set(taken) - unlisted <= SHORT


def test_what_is_left_out_is_there() -> None:
    flags = {flag for command in COMMANDS.values() for option in command.params for flag in option.opts}
    assert {one.rpartition(" ")[2] for one in NO_ARGUMENT} <= flags | {"--help"}
    assert set(NO_FUNCTION) <= set(listed())


def test_public_names_are_listed_and_found() -> None:
    assert set(COMMANDS) < set(e4profile.__all__) <= set(dir(e4profile))
    for name in e4profile.__all__:
        assert getattr(e4profile, name).__doc__
    for name in ("counts", "report", "time.api", "columns"):
        with pytest.raises(AttributeError, match=name):
            getattr(e4profile, name)


@pytest.mark.parametrize("name", sorted({name.partition("_")[0] for name in COMMANDS}))
def test_the_examples_run(name: str) -> None:
    module = import_module(f"e4profile.questions.{name}.api")
    found = doctest.testmod(module, globs={"e4profile": e4profile})
    assert found.failed == 0
    # a calibration takes a minute, and writes for the user
    assert found.attempted or name == "calibrate"
