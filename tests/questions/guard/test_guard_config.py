from __future__ import annotations

from pathlib import Path

import pytest
from guarded_project import config_text

from e4profile.errors import SettingError
from e4profile.questions.guard.config import Budgets, find_config, load_config


def write(folder: Path, text: str, name: str = "pyproject.toml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_every_key_is_read(tmp_path: Path) -> None:
    text = """
    [tool.e4profile]
    baseline = "counts.json"
    [[tool.e4profile.models]]
    name = "small"
    build = "nets/small.py:build"
    input = ["1x3x32x32", "mask=1x1x32x32:bool"]
    args = { width = 24 }
    params_max = 0
    macs_max = 10
    saved_bytes_max = 20
    equivariance_error_max = 1e-10
    group = "p4"
    field_out = "regular"
    closed_form = true
    [[tool.e4profile.models]]
    name = "e4net"
    """
    config = load_config(write(tmp_path, text))
    small, card = config.models
    assert (small.name, small.build) == ("small", "nets/small.py:build")
    assert small.inputs == ("1x3x32x32", "mask=1x1x32x32:bool")
    assert small.arguments == {"width": 24}
    assert small.budgets == Budgets(0, 10, 20, 1e-10, "p4", "regular", True)
    assert (card.build, card.inputs, card.budgets) == ("e4net", (), Budgets())
    assert config.baseline == tmp_path / "counts.json"


def test_limits_may_have_units(tmp_path: Path) -> None:
    text = config_text(params_max="25k", macs_max="1.5 G", saved_bytes_max="2gib")
    assert load_config(write(tmp_path, text)).models[0].budgets == Budgets(25_000, 1_500_000_000, 2**31)


def test_named_inputs_are_keywords(tmp_path: Path) -> None:
    text = config_text(input={"image": "1x3x8x8", "mask": "1x1x8x8:bool"})
    assert load_config(write(tmp_path, text)).models[0].inputs == ("image=1x3x8x8", "mask=1x1x8x8:bool")


def test_own_file_may_leave_the_prefix_out(tmp_path: Path) -> None:
    short = config_text().replace("tool.e4profile.", "")
    long = load_config(write(tmp_path, config_text(), "e4profile.toml"))
    assert load_config(write(tmp_path, short, "e4profile.toml")) == long
    with pytest.raises(SettingError, match=r"\[tool.e4profile\]: missing"):
        load_config(write(tmp_path, short))


def test_baseline_can_be_turned_off(tmp_path: Path) -> None:
    text = "[tool.e4profile]\nbaseline = false\n" + config_text()
    assert load_config(write(tmp_path, text)).baseline is None


def test_nearest_configuration_wins(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    outer = write(tmp_path, config_text())
    write(tmp_path / "a", "[project]\nname = 'x'\n")
    assert find_config(inner) == outer
    own = write(tmp_path, config_text(), "e4profile.toml")
    assert find_config(inner) == own
    near = write(inner, config_text())
    assert find_config(inner) == near


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("tool = [", "not TOML"),
        ("[tool.other]", r"\[tool.e4profile\]: missing"),
        ("tool = 3", r"\[tool.e4profile\]: missing"),
        ("[tool]\ne4profile = 3", "3 must be a table"),
        ("[tool.e4profile]", "at least one"),
        ("[tool.e4profile]\nmodels = 3", "models: 3 must be a list"),
        ("[tool.e4profile]\nmodels = [3]", r"models\[0\]: 3 must be a table"),
        ("[tool.e4profile]\nmodel = 3", "unknown key 'model'; did you mean models"),
        ("[[tool.e4profile.models]]\nbuild = 'a'", r"models\[0\].name: missing"),
        (config_text() + config_text(), "'net' is given 2 times"),
        (config_text(parms_max=3), "unknown key 'parms_max'; did you mean params_max"),
        (config_text(params_max="3Q"), r"models\[0\].params_max \(=3Q\) has the unknown unit 'q': write 25210, 25k"),
        (config_text(saved_bytes_max="3 parsecs"), r"models\[0\].saved_bytes_max \(=3 parsecs\) .*: write 24GiB"),
        (config_text(params_max=True), "params_max: True must be"),
        (config_text(macs_max=1.5), "macs_max: 1.5 must be"),
        (config_text(saved_bytes_max=-1), "saved_bytes_max: -1 must be"),
        (config_text(equivariance_error_max=-1), "equivariance_error_max: -1.0 must be"),
        (config_text(equivariance_error_max=True), "equivariance_error_max: True must be"),
        (config_text(closed_form=1), "closed_form: 1 must be true or false"),
        (config_text(closed_form=True, closed_form_min_percent=0), "closed_form_min_percent: 0.* must be above 0"),
        (config_text(closed_form=True, closed_form_min_percent=101), "closed_form_min_percent: 101.* at most 100"),
        (config_text(closed_form_min_percent=50), "closed_form_min_percent: 50.* beside closed_form = true"),
        (config_text(field_out="vector"), "unknown field type 'vector'"),
        (config_text(group=4), "group: 4 must be a text"),
        (config_text(input=3), "input: 3 must be a text in quotes or a table or a list"),
        (config_text(args=3), "args: 3 must be a table"),
        ("[tool.e4profile]\nbaseline = true\n" + config_text(), "baseline: True must be a file name"),
    ],
)
def test_a_bad_configuration_names_key_and_value(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(SettingError, match=reason):
        load_config(write(tmp_path, text))


def test_a_missing_configuration_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="cannot be read"):
        load_config(tmp_path / "none.toml")


def test_the_example_in_the_help_is_a_configuration(tmp_path: Path) -> None:
    from typer.main import get_command

    from e4profile.cli.main import app
    from e4profile.questions.guard.command import EXAMPLE

    command = get_command(app).commands["guard"]  # type: ignore[attr-defined]
    assert command.epilog == EXAMPLE
    text = EXAMPLE.removeprefix("\b\n")
    (model,) = load_config(write(tmp_path, text)).models
    assert (model.name, model.build, model.inputs) == ("small", "net.py:build", ("1x3x32x32",))
    assert (model.arguments, model.budgets) == ({"width": 16}, Budgets(params_max=25_000))
    alone = text.replace("[[tool.e4profile.models]]", "[[models]]")
    assert load_config(write(tmp_path, alone, "e4profile.toml")).models == (model,)
    assert all(len(line) <= 78 for line in text.splitlines())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_read(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "e4profile.toml"
    file.write_text("[[models]]\nname = 'z2cnn'\n", encoding=encoding)
    assert load_config(file).models[0].name == "z2cnn"


def test_without_configuration_the_guide_and_an_example_are_shown(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"docs/how-to/guard\.md") as raised:
        find_config(tmp_path)
    (tmp_path / "e4profile.toml").write_text(raised.value.details)
    (model,) = load_config(find_config(tmp_path)).models
    assert (model.name, model.build, model.inputs) == ("small", "net.py:build", ("1x3x32x32",))


def test_a_folder_in_place_of_the_configuration_is_named(tmp_path: Path) -> None:
    (tmp_path / "e4profile.toml").mkdir()
    with pytest.raises(SettingError, match=r"e4profile\.toml: is a folder"):
        find_config(tmp_path)


def test_an_empty_name_is_called_empty(tmp_path: Path) -> None:
    file = tmp_path / "e4profile.toml"
    file.write_text('[[models]]\nname = ""\n')
    with pytest.raises(SettingError, match="name: is empty"):
        load_config(file)
