"""One network from every kind of source: each witness gives the same numbers for all of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from own_nets import write

from e4profile.errors import SettingError
from e4profile.networks.cards import find_card
from e4profile.subjects.subject import InputsMissing, Subject, resolve
from e4profile.witnesses.counts.measure import measure
from e4profile.witnesses.equivariance.report import RANDOMISED
from e4profile.witnesses.equivariance.witness import witness_of
from e4profile.witnesses.memory.step import predict
from e4profile.witnesses.timing.in_turn import ForwardInTurn
from e4profile.witnesses.variants import VariantCounter, peak_bytes, step_bytes

ARGUMENTS = {"group": "p4", "width": 4, "slices": 2, "reduction": 2, "kernel": 3}
INPUT = "1x1x28x28"
BUILDER = f"""
    from e4profile.networks.cards import find_card

    def build(**arguments):
        return find_card("e4net").with_arguments({{**{ARGUMENTS!r}, **arguments}}).build("cpu")
"""


def _card(_: Path) -> Subject:
    return resolve("e4net", arguments=ARGUMENTS)


def _card_file(folder: Path) -> Subject:
    known = find_card("e4net").with_arguments(ARGUMENTS)
    lines = (f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}" for key, value in
             known.arguments.items() if value is not None)  # fmt: skip
    text = f'name = "small"\nnetwork = "{known.network}"\ninput = [1, 28, 28]\n[arguments]\n'
    (folder / "small.toml").write_text(text + "\n".join(lines), encoding="utf-8")
    return resolve(str(folder / "small.toml"))


def _package(folder: Path) -> Subject:
    (folder / "packaged_nets").mkdir()
    write(folder / "packaged_nets", BUILDER, "__init__.py")
    return resolve("packaged_nets:build", [INPUT])


def _file(folder: Path) -> Subject:
    return resolve(f"{write(folder, BUILDER)}:build", [INPUT])


def _in_hand(_: Path) -> Subject:
    return resolve(find_card("e4net").with_arguments(ARGUMENTS).build("cpu"), [INPUT])


SOURCES: dict[str, Callable[[Path], Subject]] = {
    "card": _card, "card file": _card_file, "package": _package, "file": _file, "in hand": _in_hand,
}  # fmt: skip


@pytest.fixture(params=SOURCES)
def subject(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Subject]:
    monkeypatch.chdir(tmp_path)
    yield SOURCES[request.param](tmp_path)
    sys.modules.pop("packaged_nets", None)


def every_number(subject: Subject) -> dict[str, Any]:
    measured, variants = measure(subject), VariantCounter()
    report = witness_of(subject)
    step = predict(subject.build_whole(), subject.batched, 3, loss="auto")
    (samples,) = ForwardInTurn(max_run_time_s=0.01)([subject], brief=True)
    return {
        "sizes": measured.sizes,
        "closed form": [(one.path, one.params, dict(one.operations)) for one in measured.closed.layers],
        "dispatch": [(one.path, one.params, dict(one.operations)) for one in measured.dispatch.layers],
        "printed": (measured.printed_params, measured.printed_macs),
        "raw": {name: count.macs for name, count in measured.raw.items()},
        "failures": measured.failures,
        "variant": (variants(subject).params, variants(subject).total()),
        "peak": peak_bytes(subject, 2, variants),
        "step": (step_bytes(subject, 3, "adam", variants), step.step_bytes, step.saved_bytes),
        "equivariance": (report.verdict, report.group.alias, report.output[RANDOMISED]),
        "timed": samples.median_s > 0,
        "example": [tuple(one.shape) for one in subject.example().tensors],
        "input": (subject.input, subject.shape, subject.own_batch, subject.batch_size),
    }


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    return every_number(_card(Path()))


@pytest.mark.parametrize("subject", [name for name in SOURCES if name != "card"], indirect=True)
def test_every_witness_gives_the_same_numbers(subject: Subject, expected: dict[str, Any]) -> None:
    assert every_number(subject) == expected
    assert expected["sizes"] == "topology"
    assert expected["raw"].keys() == {"fvcore", "thop"}


def test_arguments_are_replaced_alike_where_there_are_any(subject: Subject) -> None:
    if not subject.accepts("width"):
        with pytest.raises(SettingError, match="takes no arguments, so not width"):
            subject.with_arguments({"width": 8})
        return
    wider = subject.with_arguments({"width": 8})
    assert wider.argument("width") == 8
    assert "width=8" in wider.full_name.split()
    assert VariantCounter()(wider).params > VariantCounter()(subject).params


def test_a_subject_says_what_it_lacks() -> None:
    model = find_card("e4net").with_arguments(ARGUMENTS).build("cpu")
    with pytest.raises(InputsMissing, match="needs its inputs"):
        resolve(model)
    with pytest.raises(SettingError, match="not for a module"):
        resolve(model, [INPUT], {"width": 3})
    found = resolve(model, [INPUT])
    assert (found.published, dict(found.training), found.notes) == ((), {}, [])
    assert resolve("e4net-printed").published
    assert resolve("e4net").training["optimiser"] == "adam"


def test_a_module_in_hand_is_left_as_it_was_found() -> None:
    model = find_card("e4net").with_arguments(ARGUMENTS).build("cpu").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = resolve(model, [INPUT])
    every_number(found)
    assert found.build() is model
    assert all(one.training for one in model.modules())
    assert all(bool((tensor == before[name]).all()) for name, tensor in model.state_dict().items())


def test_inputs_that_were_given_keep_their_batch() -> None:
    assert resolve("e4net").at_batch(4).shape == (4, 1, 28, 28)
    assert resolve("e4net", batch_size=3).at_batch(4).shape == (4, 1, 28, 28)
    assert resolve("e4net", ["2x1x33x33"]).at_batch(4).shape == (2, 1, 33, 33)
