"""Published errors against cost: one table at a time, the front exact, the figure the same bytes."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from itertools import product

import pytest

from e4profile.errors import SettingError, UnknownNameError
from e4profile.networks.cards import all_cards
from e4profile.questions.sweep.pareto import Candidate, candidates, cost_of, error_name, front, sweep_costs
from e4profile.questions.sweep.pareto_drawing import plot_pareto
from e4profile.questions.sweep.pareto_table import pareto_table
from e4profile.records.jobs.setting import recorded_arguments
from e4profile.records.store import Record, RecordStore
from e4profile.show.style import paper_style, save
from e4profile.subjects.subject import resolve


def made_up(label, error, spread=None):
    return Candidate(label, resolve("z2cnn"), "separable-mnist", "test_error", Decimal(error), spread)


def test_the_front_of_the_separable_table():
    cost = cost_of("macs")
    points = front([(one, cost(one.subject)[0]) for one in candidates(table="separable-mnist")])
    assert [point.candidate.label for point in points if point.on_front] == [
        "gc-P4CNN-small",
        "g-P4CNN-small",
        "P4CNN",
        "g-P4CNN",
        "gc-P4CNN",
    ]
    by_label = {point.candidate.label: point for point in points}
    assert by_label["gc-P4CNN"].cost == 16_506_060
    assert by_label["gc-P4CNN"].candidate.error == Decimal("1.74")
    assert by_label["Z2CNN"].dominated_by == ("gc-P4CNN-small",)


@pytest.mark.parametrize("costs", list(product((1, 2, 3), repeat=3)))
def test_the_front_is_what_nothing_dominates(costs):
    for errors in product(("1.0", "1.00", "2"), repeat=3):
        items = [(made_up(str(i), error), cost) for i, (cost, error) in enumerate(zip(costs, errors, strict=True))]
        for point in front(items):
            beaten = any(
                (cost, one.error) != (point.cost, point.candidate.error)
                and cost <= point.cost
                and one.error <= point.candidate.error
                for one, cost in items
            )
            assert point.on_front == (not beaten)


def test_equal_points_are_both_on_the_front():
    points = front([(made_up("a", "1"), 5), (made_up("b", "1"), 5), (made_up("c", "1"), 6)])
    assert [point.dominated_by for point in points] == [(), (), ("a", "b")]


def test_rows_of_one_network_are_one_point():
    labels = [one.label for one in candidates(table="3")]
    assert "s=2 = r=1 = k=5" in labels
    assert len(labels) == 7


def test_rows_have_their_own_arguments():
    (row,) = [one for one in candidates(table="3") if one.label == "r=4"]
    assert row.subject.arguments["reduction"] == 4
    assert cost_of("params")(row.subject) == (10_102, ())


def test_errors_and_spreads_are_as_printed():
    (row,) = [one for one in candidates(table="1") if one.label == "E4-Net"]
    assert (str(row.error), str(row.spread)) == ("1.29", "0.023")


def test_accuracies_become_errors_and_say_so():
    found = {one.subject.name: one for one in candidates(table="steerable")}
    assert found["c4resnet18"].error == Decimal("26.6")
    assert error_name(found["c4resnet18"].quantity) == "100% - published top-1 accuracy"


def test_one_of_several_errors_is_chosen_by_name():
    errors = {y: {one.subject.name: one.error for one in candidates(table="4", y=y)} for y in ("cifar10", "cifar100")}
    assert errors["cifar10"]["r18"] == Decimal("9.7")
    assert errors["cifar100"]["r18"] == Decimal("34")
    assert error_name("test_error_cifar100") == "published test error, CIFAR-100"


def test_the_cards_common_table_is_found():
    found = candidates([resolve("p4cnn"), resolve("z2cnn")])
    assert [(one.table, one.label) for one in found] == [("separable-mnist", "Z2CNN"), ("separable-mnist", "P4CNN")]


@pytest.mark.parametrize(
    ("cards", "table", "y", "message"),
    [
        (["z2cnn", "r18"], None, "error", r"share no table.*z2cnn: separable-mnist; r18: 4"),
        (["z2cnn", "e4net"], None, "error", r"e4net: none"),
        (["z2cnn", "r18"], "4", "error", r"z2cnn: no published error in table '4'"),
        (["e4net-printed"], None, "error", r"tables 1, 2, 3 have errors of these networks: choose with --table"),
        ([], None, "error", r"give networks or --table"),
        ([], "9", "error", r"unknown table with published errors '9'"),
        ([], "4", "error", r"table '4' has several errors: name one in place of error: cifar10, cifar100"),
        ([], "4", "svhn", r"unknown published error of table '4' 'svhn'"),
    ],
)
def test_errors_of_different_data_are_never_mixed(cards, table, y, message):
    with pytest.raises((SettingError, UnknownNameError), match=message):
        candidates([resolve(name) for name in cards], table, y)


def test_memory_is_the_emulated_peak():
    from e4profile.witnesses.memory.peak import allocator_emulation

    card = resolve("z2cnn")
    expected = allocator_emulation(card.build(), card.input, batch_size=2, device="meta").peak_bytes
    assert cost_of("memory")(card) == (expected, ())


def record(candidate, **counts):
    arguments = recorded_arguments(candidate.subject)
    return Record(card=candidate.subject.name, arguments=arguments, counts=counts, counters={})


def test_costs_of_a_sweep_meet_the_published_settings(tmp_path):
    path = tmp_path / "records.jsonl"
    known = candidates(table="3")
    store = RecordStore(path)
    for cost, one in enumerate(known[:3], start=1):
        store.append(record(one, macs_measured=cost * 1000))
    other = known[0].subject.with_arguments({"width": 24})
    store.append(record(Candidate("", other, "3", "test_error", Decimal(1), None), macs_measured=9))
    costed, notes = sweep_costs(path, "macs", known)
    assert [(one.label, cost) for one, cost in costed] == [
        (one.label, cost * 1000) for cost, one in enumerate(known[:3], start=1)
    ]
    assert notes == ["1 of 4 settings have no published error here"]
    with pytest.raises(SettingError, match="holds no time"):
        sweep_costs(path, "time", known)
    with pytest.raises(SettingError, match=r"no setting in .* has a published error"):
        sweep_costs(path, "macs", candidates(table="4", y="cifar10"))
    with pytest.raises(SettingError, match="does not exist"):
        sweep_costs(tmp_path / "none.jsonl", "macs", known)


def rows(table, y="error"):
    points = front([(one, 1000 + 7 * i * i) for i, one in enumerate(candidates(table=table, y=y))])
    return [
        {
            "network": point.candidate.label,
            "card": point.candidate.subject.name,
            "cost": point.cost,
            "published_error": point.candidate.error,
            "spread": point.candidate.spread,
            "on_front": point.on_front,
        }
        for point in points
    ]


def draw(given, x="params"):
    with paper_style():
        return plot_pareto(given, name="front", subject="A table", x=x, error="published test error", remarks=["How."])


def texts(figure):
    from matplotlib.text import Text

    return [text for text in figure.findobj(Text) if text.get_text()]


@pytest.mark.parametrize("table", ["1", "2", "3", "separable-mnist", "steerable"])
def test_every_network_is_named_inside_the_page_and_no_name_covers_another(table):
    given = rows(table)
    plot = draw(given)
    named = {text.get_text(): text for text in texts(plot.figure)}
    page = plot.figure.bbox
    boxes = []
    for row in given:
        label = row["network"] if row["network"] in named else row["network"].partition(" = ")[0]
        boxes.append(named[label].get_window_extent())
        assert page.x0 <= boxes[-1].x0
        assert boxes[-1].x1 <= page.x1
    for place, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[:place])
    assert any("Errors are published, not measured here." in text for text in named)
    assert "published test error (%)" in named


def test_the_same_front_gives_the_same_bytes(tmp_path):
    for folder in ("one", "other"):
        plot = draw(rows("3"), "macs")
        with paper_style():
            paths = save(plot, tmp_path / folder)
    assert {path.suffix for path in paths} == {".svg", ".png", ".csv"}
    for path in paths:
        assert path.read_bytes() == (tmp_path / "one" / path.name).read_bytes()
    table = (tmp_path / "one" / "front.csv").read_text()
    assert table.splitlines()[0] == "network,card,cost,published_error,spread,on_front"
    assert len(table.splitlines()) == 8


def test_every_published_error_can_be_read():
    rows = [row for card in all_cards().values() for row in card.published]
    errors = {(row.table, cell.quantity) for row in rows for cell in row.cells if cell.quantity.startswith("test_")}
    assert len({table for table, _ in errors}) < len(errors)
    for table, y in errors | {("steerable", "error")}:
        assert all(0 < one.error < 100 for one in candidates(table=table, y=y)), table


def test_a_table_in_which_a_network_has_no_row_names_the_cards_that_have_one() -> None:
    with pytest.raises(SettingError, match=r"e4net: no published error in table '4'; cards that have one: .*p4-r18"):
        candidates([resolve("e4net")], "4")
    with pytest.raises(UnknownNameError, match="known"):
        candidates([resolve("e4net")], "nowhere")


def test_a_lower_bound_is_on_no_front_and_dominates_none():
    bound = replace(made_up("bound", "1"), unknown=("aten::x",))
    points = {one.candidate.label: one for one in front([(bound, 5), (made_up("a", "2"), 6), (made_up("b", "1"), 4)])}
    assert [points[name].on_front for name in ("bound", "a", "b")] == [False, False, True]
    assert points["a"].dominated_by == ("b",)
    items = [(bound, 5), (made_up("a", "2"), 6), (made_up("c", "3"), 7)]
    points = {one.candidate.label: one for one in front(items)}
    assert [points[name].on_front for name in ("bound", "a", "c")] == [False, True, False]
    assert points["c"].dominated_by == ("a",)


def test_a_front_through_noise_says_alike() -> None:
    few, same, more = (made_up(label, error) for label, error in (("few", "2"), ("same", "1.9"), ("more", "1")))
    costed = [(few, 1.0), (same, 1.01), (more, 5.0)]
    between = {id(few): (0.9, 1.1), id(same): (0.95, 1.05), id(more): (4.9, 5.1)}
    points = front(costed, between)
    assert [(point.on_front, point.alike) for point in points] == [(True, True), (True, False), (True, False)]
    table = pareto_table(points, "time", "given error", "how")
    assert table.rows[0]["alike"] is True
    assert any(note.startswith("alike: the measured times do not decide whether few is on") for note in table.notes)
    assert not any(point.alike for point in front(costed))
    beaten = front([(few, 1.0), (more, 0.99)], {id(few): (0.9, 1.1), id(more): (0.9, 1.1)})
    assert [(point.candidate.label, point.on_front, point.alike) for point in beaten] == [
        ("more", True, False), ("few", False, True),
    ]  # fmt: skip
