"""Reconciling published figures: the rules it finds unaided, what it does not find, and the space it searches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e4profile.conventions import CONVENTIONS
from e4profile.errors import E4ProfileError, SettingError, UnknownNameError
from e4profile.networks.published import agrees_rounded, agrees_truncated
from e4profile.questions.reconcile.rows import Figure, Row, published_rows
from e4profile.questions.reconcile.search import Counter, reconcile
from e4profile.questions.reconcile.space import architectures, axes_of, rules
from e4profile.subjects.subject import resolve
from e4profile.witnesses.counts.closed_form import count_closed_form

SEPARABLE = ("z2cnn", "c-z2cnn", "p4cnn", "g-p4cnn-small", "g-p4cnn", "gc-p4cnn-small", "gc-p4cnn")


def row(name, **figures):
    return Row(name, resolve(name), tuple(Figure(quantity, text) for quantity, text in figures.items()))


def space_of(name, changes, vary=None):
    networks = [resolve(name)]
    return architectures(networks, axes_of(networks, vary), changes)


def test_the_rule_of_tables_1_to_3_is_found_unaided():
    rows = published_rows(resolve("e4net"), resolve("e4net-printed"))
    assert (len(rows), sum(len(one.figures) for one in rows)) == (14, 28)
    found = reconcile(rows)
    best, *others = found.matches
    assert best.changes == (("encoder_norm", True),)
    assert best.rule.differences == ("5 per norm element", "aggregation 0")
    assert best.rule.name == "printed"
    assert best.truncated == 7
    assert best.differences == 4
    # only the classifier's 160 MACs are not decided by the printed digits
    assert [other.rule.differences for other in others] == [("5 per norm element", "linear layers 0", "aggregation 0")]
    assert found.combinations > 50_000
    assert found.found == 4


def test_the_rule_of_the_separable_table_is_found_unaided():
    rows = [one for name in SEPARABLE for one in published_rows(resolve(name))]
    found = reconcile(rows, changes=1)
    best = found.matches[0]
    assert best.changes == ()
    assert best.rule.differences == ("separable weights at output resolution", "weights again per container")
    assert any(match.rule.name == "summary-tool" for match in found.matches)
    assert not any("separable weights" not in str(match.rule) for match in found.matches)


def test_one_separable_network_needs_one_difference():
    found = reconcile(published_rows(resolve("gc-p4cnn")))
    assert (found.matches[0].changes, found.matches[0].differences) == ((), 1)
    assert found.matches[0].rule.differences == ("separable weights at output resolution",)


def test_none_is_found_for_p4_e4r18_and_the_nearest_are_listed():
    found = reconcile(published_rows(resolve("p4-e4r18")), vary=["encoder_norm", "reduction", "slices", "kernel"])
    assert found.matches == ()
    assert found.found == 0
    assert len(found.nearest) >= 5
    distances = [abs(near.deviation) for near in found.nearest]
    assert distances == sorted(distances)
    assert distances[0] > 0.01


def test_the_values_of_a_match_come_out_as_printed():
    found = reconcile([row("e4net", params="18.8K", flops="17M")], vary=["encoder_norm"])
    assert found.matches
    for match in found.matches:
        values = match.as_object()["values"]
        by_rounding = [agrees_rounded(value["built"], value["published"]) for value in values]
        by_truncation = [agrees_truncated(value["built"], value["published"]) for value in values]
        assert all(one or other for one, other in zip(by_rounding, by_truncation, strict=True))
        assert (match.rounding == "rounded") == all(by_rounding)
        assert (match.rounding == "truncated") == (all(by_truncation) and not all(by_rounding))
        assert match.truncated == by_rounding.count(False)


def test_the_search_finds_what_trying_one_by_one_finds():
    figures = row("e4net", params="18.7K", flops="18M")
    found = reconcile([figures], changes=1, vary=["reduction", "encoder_norm"])
    expected = 0
    for changes in space_of("e4net", 1, ["reduction", "encoder_norm"]):
        card = resolve("e4net").with_arguments(dict(changes))
        counted = count_closed_form(card.build(), card.shape)
        for rule in rules(frozenset(counted.operations)):
            cost = sum(rule.weights[kind] * amount for kind, amount in counted.operations.items())
            expected += all(
                agrees_rounded(value, figure.text) or agrees_truncated(value, figure.text)
                for value, figure in zip((counted.params, cost), figures.figures, strict=True)
            )
    assert found.found == expected > 0
    assert found.architectures == 5
    assert found.combinations == 4 * 512 + 512


def test_a_huge_space_is_not_oversold():
    vague = reconcile([row("e4net", flops="17M")], changes=1, vary=["width"])
    sharp = reconcile([row("e4net", params="18,694", flops="17,640,160")], changes=1, vary=["width"])
    assert vague.chance_share > 0.5
    assert sharp.chance_share < 0.01
    assert sharp.matches[0].differences == 0
    assert vague.found > sharp.found


@given(st.integers(1, 10**7), st.sampled_from(["18.8K", "17M", "0.5", "2.98 M", "25210", "1,234", "0.39G"]))
def test_windows_are_those_of_published_figures(value, text):
    figure = Figure("macs", text)
    assert (figure.rounded[0] <= value <= figure.rounded[1]) == agrees_rounded(value, text)
    assert (figure.truncated[0] <= value <= figure.truncated[1]) == agrees_truncated(value, text)


@pytest.mark.parametrize("name", ["e4net", "gc-p4cnn", "c-z2cnn", "p4-sa", "d4resnet18", "g-p4m-resnet44"])
def test_every_declared_convention_is_in_the_space(name):
    card = resolve(name)
    kinds = frozenset(count_closed_form(card.build(), card.shape).operations)
    found = rules(kinds)
    named = {rule.name for rule in found if rule.name}
    weights = {tuple(rule.weights.get(kind, 0) for kind in sorted(kinds)) for rule in found}
    assert len(weights) == len(found)
    for convention in CONVENTIONS.values():
        assert tuple(convention.weights.get(kind, 0) for kind in sorted(kinds)) in weights, convention.name
    assert {"macs", "flops"} <= named
    assert found[0].differences == ()
    assert found[0].name == "macs"


def test_networks_that_nothing_initialises_count_the_same():
    for name in ("e4net", "p4-e4r18", "gc-p4cnn", "d4resnet18"):
        card = resolve(name)
        counted = count_closed_form(card.build(), card.shape)
        found = Counter()(card)
        assert found is not None
        assert (found.params, dict(found.operations)) == (counted.params, counted.operations)


def test_arguments_of_e4_layers_say_nothing_of_other_networks():
    changed = {name for changes in space_of("p4-r18", 1) for name, _ in changes}
    assert changed == {"layer", "stride_by", "kernel", "width"}
    pairs = {tuple(name for name, _ in changes) for changes in space_of("p4-r18", 2)}
    assert ("layer", "reduction") in pairs


def test_rows_say_their_own_arguments_last():
    card = resolve("e4net")
    changed = Row("r=2", card, (Figure("params", "13.0K"),), {"reduction": 2}).changed((("reduction", 4),))
    assert changed.arguments["reduction"] == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: reconcile([]), "nothing to reconcile"),
        (lambda: reconcile([row("e4net", params="1K")], changes=-1), "must not be negative"),
        (
            lambda: reconcile([row("e4net", params="1K")], changes=99),
            "space of e4net holds 27,648 architectures, at most 20,000 are built: search fewer",
        ),
        (lambda: reconcile([row("e4net", params="1K")], vary=["width=1..30000"]), "holds 30,000 architectures"),
        (lambda: reconcile([row("e4net", params="1K")], vary=["depth"]), "unknown searched argument"),
        (lambda: reconcile([row("gc-p4cnn", params="1K")], vary=["kernel"]), "gc-p4cnn takes no kernel"),
        (lambda: Figure("params", "many"), "must be digits"),
        (lambda: Figure("params", "0"), "must be positive"),
        (lambda: Figure("error", "1"), "unknown quantity"),
        (lambda: published_rows(resolve("e4net")), "has no published params"),
        (lambda: published_rows(resolve("e4net-printed"), table="4"), "in table '4'"),
    ],
)
def test_what_cannot_be_reconciled_is_refused(call, message):
    with pytest.raises((SettingError, UnknownNameError), match=message):
        call()


NETS = """
from torch import nn

def build(width=8, depth=1, norm=False, act="relu"):
    layers, channels = [], 3
    for _ in range(depth):
        layers.append(nn.Conv2d(channels, width, 3, padding=1, bias=False))
        layers += [nn.BatchNorm2d(width)] if norm else []
        channels = width
    return nn.Sequential(*layers)

def needs(width):
    if width % 2:
        raise ValueError("odd")
    return build(width)

def never():
    raise RuntimeError("not today")
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    return lambda name, **arguments: resolve(f"{tmp_path / 'nets.py'}:{name}", ["1x3x8x8"], arguments)


def figures_of(subject, **figures):
    return Row("net", subject, tuple(Figure(quantity, text) for quantity, text in figures.items()))


def test_a_builders_arguments_and_the_rule_are_found_together(own):
    # width 12, depth 2, norm; five per norm element
    params = 27 * 12 + 144 * 9 + 2 * 24
    cost = 64 * (27 * 12 + 144 * 9) + 5 * 2 * 12 * 64
    found = reconcile([figures_of(own("build"), params=str(params), flops=str(cost))], changes=3)
    best = found.matches[0]
    assert dict(best.changes) == {"width": 12, "depth": 2, "norm": True}
    assert best.rule.differences == ("5 per batch-norm element",)
    assert found.axes == {"width": 8, "depth": 4, "norm": 1}
    assert found.architectures == 1 + 8 + 4 + 1 + 8 * 4 + 8 + 4 + 8 * 4
    assert found.left_out == 0


def test_values_that_are_said_are_searched(own):
    row = figures_of(own("needs"), params=str(27 * 40))
    found = reconcile([row], vary=["width=8..64"])
    assert found.matches[0].changes == (("width", 40),)
    # the empty change has no width, odd ones are refused
    assert (found.architectures, found.refused) == (29, 29)
    card = figures_of(resolve("e4net"), params="18,694")
    assert reconcile([card], vary=["width=15..17"], changes=1).axes == {"width": 2}


def test_true_is_another_value_than_one(own):
    assert axes_of([own("build", norm=1)], ["norm=1,true"]) == {"norm": [True]}


def test_an_interrupted_search_says_how_much_it_left_out(own):
    def stop(done, _):
        if done == 3:
            raise KeyboardInterrupt

    found = reconcile([figures_of(own("build"), params="1K")], vary=["width=8..20"], progress=stop)
    assert (found.architectures, found.left_out) == (3, 11)
    assert found.as_object()["space"]["left_out_architectures"] == 11


@pytest.mark.parametrize(
    ("name", "vary", "message"),
    [
        ("never", None, "not today"),
        ("needs", None, "needs width: give --set width=VALUE"),
        ("build", ["widht"], "did you mean width"),
        ("build", ["act"], r"act \(='relu'\) is not a whole number"),
        ("build", ["width=1..90000"], "holds 90,000 architectures, at most 20,000"),
        ("build", ["width=1..3", "width=4..5"], "given twice"),
    ],
)
def test_what_a_model_of_ones_own_cannot_search_is_refused(own, name, vary, message):
    with pytest.raises(E4ProfileError, match=message):
        reconcile([figures_of(own(name), params="1K")], vary=vary)


def test_a_model_of_ones_own_is_reconciled_alone(own):
    with pytest.raises(SettingError, match="reconciled alone"):
        reconcile([figures_of(own("build"), params="1K"), row("e4net", params="1K")])


def test_operations_that_are_a_lower_bound_are_not_reconciled(tmp_path):
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n\nclass Exponential(nn.Conv2d):\n"
        "    def __init__(self, width=4):\n        super().__init__(3, width, 3, bias=False)\n\n"
        "    def forward(self, images):\n        return torch.linalg.matrix_exp(super().forward(images))\n"
    )
    subject = resolve(f"{tmp_path / 'net.py'}:Exponential", ["1x3x6x6"])
    with pytest.raises(SettingError, match=r"at least 1,728 MACs.*linalg_matrix_exp"):
        reconcile([Row("own", subject, (Figure("macs", "1.7K"),))], changes=1)
    found = reconcile([Row("own", subject, (Figure("params", "135"),))], changes=1)
    assert found.matches[0].changes == (("width", 5),)
