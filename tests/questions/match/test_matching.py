"""The setting nearest to a cost: the literature's widths, the search itself, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from program import says

from e4profile.errors import E4ProfileError, SettingError, UnknownNameError
from e4profile.questions.match.axes import Axis, bracket, falls
from e4profile.questions.match.by_time import match_time
from e4profile.questions.match.matching import VariantCost, closest, match
from e4profile.questions.match.targets import is_number, quantity_by_unit, wanted
from e4profile.subjects.guest import UserCodeError
from e4profile.subjects.subject import resolve
from e4profile.witnesses.counts.closed_form import count_closed_form
from e4profile.witnesses.counts.dispatch import count_dispatch
from e4profile.witnesses.timing.samples import Samples
from e4profile.witnesses.variants import VariantCounter


@pytest.mark.parametrize(
    ("name", "to", "width"),
    [
        ("p4cnn", "z2cnn", 10),
        ("g-p4cnn", "z2cnn", 17),
        ("gc-p4cnn", "z2cnn", 30),
        ("c-z2cnn", "z2cnn", 56),
        ("p4-r18", "r18", 32),
        ("p4m-r18", "r18", 23),
        ("d1resnet18", "11.69M", 55),
        ("c4resnet18", "11.69M", 39),
        ("d4resnet18", "11.69M", 28),
        ("d8resnet18", "11.69M", 20),
    ],
)
def test_the_widths_of_the_literature(name, to, width):
    found = match(resolve(name), to)
    assert found.nearest.setting == {"width": width}
    assert found.below is not None
    assert found.above is not None
    assert found.below.setting == {"width": width - 1}
    assert found.above.setting == {"width": width + 1}
    assert found.below.value < found.nearest.value < found.above.value


def test_the_separable_plain_network_is_a_near_tie():
    found = match(resolve("c-z2cnn"), "z2cnn")
    assert found.above is not None
    assert (found.target, found.target_name) == (25210, "z2cnn")
    assert (found.nearest.deviation, found.above.deviation) == (-392, 393)
    assert found.above.setting == {"width": 57}


@pytest.mark.parametrize("by", ["params", "macs"])
def test_the_values_are_what_the_dispatch_counter_counts(by):
    card = resolve("e4net")
    found = match(card, "20k" if by == "params" else "25M", by=by)
    for point in (found.below, found.nearest, found.above):
        assert point is not None
        built = card.with_arguments(point.setting).build()
        counted = count_dispatch(built, (torch.empty(card.shape, device="meta"),))
        assert point.value == (counted.params if by == "params" else counted.macs)
        assert point.deviation == point.value - found.target


def test_no_other_width_is_nearer():
    card = resolve("p4cnn")
    found = match(card, 7000, by="params")
    widths = range(1, 40)
    params = {w: count_closed_form(card.with_arguments({"width": w}).build(), card.shape).params for w in widths}
    assert found.nearest.setting["width"] == min(widths, key=lambda w: abs(params[w] - 7000))


def test_settings_that_cannot_be_built_are_passed_over():
    # reduction 2 and 2 channels per slice: even widths only
    found = match(resolve("p4-e4r18"), "5.8M")
    assert [p.setting["width"] % 2 for p in (found.below, found.nearest, found.above) if p] == [0, 0, 0]
    assert found.nearest.setting["width"] - 2 == found.below.setting["width"]


def test_wide_networks_need_no_memory():
    found = match(resolve("p4m-r18"), 10**13)
    assert found.nearest.setting["width"] > 20000
    assert abs(found.nearest.deviation) < 10**9


def test_several_widths_grow_in_the_cards_proportion():
    found = match(resolve("p4m-resnet44"), "resnet44")
    assert found.nearest.setting == {"widths": [11, 23, 45]}
    assert found.above is not None
    assert found.above.setting == {"widths": [12, 25, 49]}


def test_divisors_are_enumerated_and_ordered_by_cost():
    card = resolve("e4net")
    found = match(card, "13k", vary="reduction")
    assert found.nearest.setting == {"reduction": 2}
    # a larger reduction is cheaper
    assert found.below is not None
    assert found.below.setting == {"reduction": 4}
    assert found.above is not None
    assert found.above.setting == {"reduction": 1}
    assert match(card, 1, vary="slices").below is None


def test_kernels_are_odd():
    found = match(resolve("e4net"), "18.7k", vary="kernel")
    assert found.nearest.setting == {"kernel": 5}
    assert found.below is not None
    assert found.below.setting == {"kernel": 3}


def test_memory_is_the_predicted_step():
    from e4profile.witnesses.memory.step import predict

    card = resolve("p4cnn")
    found = match(card, "2M", by="memory", batch_size=2)
    at = card.with_arguments(found.nearest.setting)
    assert found.nearest.value == predict(at.build(), at.input, 2).step_bytes


def test_a_convention_weighs_the_operations():
    card = resolve("e4net")
    assert match(card, 10**7, by="macs", convention_name="flops").nearest.value == (
        2 * match(card, 5 * 10**6, by="macs").nearest.value
    )


@pytest.mark.parametrize("step", [1, 3, 7])
@pytest.mark.parametrize("target", [1, 2, 49, 50, 1234567])
def test_bracket_holds_the_nearest(step, target):
    def cost(index):
        return index * index if index % step == 0 else None

    around = bracket(cost, target)
    candidates = range(step, 2000, step)
    best = min(candidates, key=lambda index: abs(index * index - target))
    assert best in around
    assert all(index % step == 0 for index in around)
    place = around.index(best)
    assert place == 0 or around[place - 1] == best - step
    assert around[place + 1] == best + step


def test_bracket_stops_where_nothing_can_be_built():
    assert bracket(lambda _: None, 10) == []
    assert bracket(lambda index: index if index <= 5 else None, 10) == [4, 5]
    assert bracket(lambda _: 1, 10, largest_index=100) == []


def test_an_argument_of_layers_that_are_not_there_decides_nothing():
    with pytest.raises(
        SettingError, match=r"no slices builds r18: slices \(=\d+\) applies to E4 layers, and r18 has none"
    ):
        match(resolve("r18"), "25k", vary="slices")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vary": "depth"}, "unknown axis 'depth'"),
        ({"by": "joules"}, "unknown quantity 'joules'"),
        ({"vary": "kernel"}, "p4cnn takes no kernel; vary width"),
        ({"by": "time"}, "time is matched by measurement"),
        ({"convention_name": "mac"}, "unknown convention"),
    ],
)
def test_what_cannot_be_matched_is_refused(arguments, message):
    with pytest.raises((SettingError, UnknownNameError), match=message):
        match(resolve("p4cnn"), "25k", **arguments)


@pytest.mark.parametrize("to", ["0", "0.5", 0, -3])
def test_targets_are_positive_whole_numbers(to):
    with pytest.raises(SettingError, match=r"must be (a )?positive"):
        match(resolve("p4cnn"), to)


@pytest.mark.parametrize(
    ("text", "by", "value"),
    [("25k", "params", 25000), ("3G", "macs", 3 * 10**9), ("2gib", "memory", 2**31), ("12 ms", "time", 0.012)],
)
def test_each_quantity_is_read_with_its_own_units(text, by, value):
    assert wanted(text, by) == value


def test_names_are_no_numbers():
    for name in ("r18", "infer.py:build", "3d.py:build", "./2.toml", "nano", "pkg.net:Net"):
        assert not is_number(name)
        assert wanted(name, "time") is None
    assert [quantity_by_unit(text) for text in ("12ms", "2GiB", "25k", "r18")] == ["time", "memory", None, None]


def test_the_nearest_of_two_equally_near_is_the_cheaper():
    found = closest("net", [({"width": 3}, 12), ({"width": 2}, 8), ({"width": 9}, 30)], by="params", target=10)
    assert found.nearest.setting == {"width": 2}
    assert found.above is not None
    assert found.above.value == 12


def samples(seconds):
    return Samples(tuple(seconds), 0, 1.0, 7, True, "noise target", "")


def timer(seconds_of, asked=None, jitter=lambda _: (1.0,) * 20):
    """A timer of made-up times: the seconds of a subject, times the jitter of its own twenty rounds."""

    def take(subjects, *, brief=False):
        if asked is not None:
            asked.append(([dict(one.arguments) for one in subjects], brief))
        return [samples(seconds_of(one) * factor for factor in jitter(one)) for one in subjects]

    return take


def test_time_follows_measurements_and_not_the_macs():
    asked = []
    found = match_time(resolve("p4cnn"), "5ms", timer(lambda one: 1e-3 + 1e-5 * one.argument("width") ** 2, asked))
    assert found.nearest.setting == {"width": 20}
    assert found.nearest.value == pytest.approx(5e-3)
    assert found.nearest.interval == pytest.approx((5e-3, 5e-3))
    assert (found.below.setting, found.above.setting) == ({"width": 19}, {"width": 21})
    assert (found.alike, found.noise) == ((), ())
    assert len([one for one in asked if one[1]]) <= 13
    # at the end several are sampled in turn, in one call
    assert [len(subjects) for subjects, brief in asked if not brief] == [5]
    assert "a setting that was not measured may come nearer" in found.notes[-1]


def test_time_of_another_network_is_sampled_in_turn_with_the_settings():
    asked = []
    found = match_time(resolve("p4cnn"), "z2cnn", timer(lambda one: one.argument("width") / 1000, asked))
    assert (found.target, found.target_name) == (0.02, "z2cnn")
    assert found.nearest.setting == {"width": 20}
    subjects, brief = asked[-1]
    assert not brief
    assert subjects[-1] == resolve("z2cnn").arguments


def test_settings_that_cannot_be_told_apart_are_said_first():
    def jitter(one):
        return [1.0, 1.3, 0.8, 1.1] * 5 if one.argument("width") % 2 else [1.1, 0.8, 1.3, 1.0] * 5

    found = match_time(resolve("p4cnn"), "5ms", timer(lambda one: 5e-3, jitter=jitter))
    assert found.alike
    assert (found.below, found.above) == (None, None)
    assert found.notes[0].startswith("alike: width=")
    assert "cannot be told apart" in found.notes[0]
    assert found.noise
    assert found.notes[1].startswith("noisy: ")
    assert found.as_object()["verdict"] == "ambiguous"


def test_the_slower_setting_of_fewer_macs_is_no_neighbour_below():
    seconds = {19: 9e-3, 20: 5e-3, 21: 8e-3}
    found = match_time(resolve("p4cnn"), "5ms", timer(lambda one: seconds[one.argument("width")]), vary="width=19..21")
    assert found.nearest.setting == {"width": 20}
    assert found.below is None
    assert found.above.setting == {"width": 21}
    assert "width=19 is slower than width=20, which has more MACs" in found.notes


def test_a_place_that_only_brief_measurements_knew_is_looked_at_again():
    slow = {"now": 2.0}

    def seconds_of(one):
        return slow["now"] * 1e-5 * one.argument("width") ** 2

    take = timer(seconds_of)

    def calming(subjects, *, brief=False):
        found = take(subjects, brief=brief)
        if not brief:
            slow["now"] = 1.0
        return found if brief else take(subjects)

    found = match_time(resolve("p4cnn"), "5ms", calming)
    assert 21 <= found.nearest.setting["width"] <= 23


def test_a_time_out_of_reach_is_said():
    found = match_time(resolve("p4cnn"), "5s", timer(lambda one: 1e-3 * one.argument("width")), vary="width=1..3")
    assert found.nearest.setting == {"width": 3}
    assert any(says(note, "outside what was measured", "takes that long") for note in found.notes)


NETS = """
from torch import nn

def build(width=4, depth=1, act="relu", kernel=3):
    layers, channels = [], 3
    for _ in range(depth):
        layers += [nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers)

CALLS = []

def fours(width=8):
    import torch
    CALLS.append((width, str(torch.get_default_device()) if hasattr(torch, "get_default_device") else "meta"))
    if width % 4:
        raise ValueError(f"width {width} must be divisible by 4")
    return build(width)

def falling(groups=1):
    return nn.Conv2d(64, 64, 3, groups=groups, bias=False)

def concrete(width=4):
    import torch
    return build(int(torch.tensor(width).item()))

def flat(unused=1):
    return build()

def never(width=8):
    raise RuntimeError("not today")

def needs(width):
    return build(width)
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    return lambda name, shape="1x3x8x8", **arguments: resolve(f"{tmp_path / 'nets.py'}:{name}", [shape], arguments)


@pytest.mark.parametrize("name", ["build", "concrete", "needs"])
def test_a_model_of_ones_own_is_counted_from_what_runs(own, name):
    found = match(own(name), 1000)
    assert (found.nearest.setting, found.nearest.value) == ({"width": 37}, 27 * 37)
    assert (found.below.value, found.above.value) == (27 * 36, 27 * 38)
    assert "counted from what one call runs" in found.notes[-1]
    assert match(own(name), 64 * 999, by="macs").nearest.value == 64 * 27 * 37
    # a call with two images
    assert match(own(name, "2x3x8x8"), 2 * 64 * 999, by="macs").nearest.value == 2 * 64 * 27 * 37


def test_any_whole_number_of_a_builder_can_be_varied(own):
    found = match(own("build", width=8), 10_000, vary="depth")
    assert found.nearest.setting == {"depth": 18}
    assert found.nearest.value == 27 * 8 + 17 * 8 * 8 * 9
    listed = match(own("build"), 300, vary="kernel=1,3,5")
    assert [point.setting["kernel"] for point in (listed.below, listed.nearest)] == [3, 5]
    spanned = match(own("build"), "1k", vary="width=8..64..8")
    assert [p.setting["width"] for p in (spanned.below, spanned.nearest, spanned.above)] == [32, 40, 48]
    wide = match(own("build"), 27 * 900 + 1, vary="width=10..1000")
    assert wide.nearest.setting == {"width": 900}
    assert match(own("build"), 27 * 5000, vary="width=10..1000").nearest.setting == {"width": 1000}


def test_refused_widths_are_passed_over_and_falling_costs_are_found(own):
    found = match(own("fours"), 27 * 21)
    assert [p.setting["width"] for p in (found.below, found.nearest, found.above)] == [16, 20, 24]
    found = match(own("falling", "1x64x4x4"), 64 * 9 * 15, vary="groups")
    assert [p.setting["groups"] for p in (found.below, found.nearest, found.above)] == [8, 4, 2]


def test_what_the_meta_device_refuses_is_not_tried_in_real_memory(own):
    target, count = own("fours"), VariantCounter()
    count(target)
    with pytest.raises(UserCodeError, match="width 9"):
        count(target.with_arguments({"width": 9}))
    assert target._source.builder.__globals__["CALLS"] == [(8, "meta"), (9, "meta")]


def test_a_model_of_ones_own_is_a_target_too(own):
    found = match(resolve("p4cnn"), own("build", width=100))
    assert (found.target, found.target_name.rpartition(":")[2]) == (2700, "build")
    assert match(own("build"), resolve("z2cnn")).target == 25210


def test_memory_of_a_model_of_ones_own(own):
    from e4profile.subjects.batches import BatchedInputs
    from e4profile.witnesses.memory.step import predict

    found = match(own("build"), "1MB", by="memory", batch_size=2)
    at = own("build", width=found.nearest.setting["width"])
    assert found.nearest.value == predict(at.build(), BatchedInputs(at.specs), 2, loss="auto").step_bytes


@pytest.mark.parametrize(
    ("name", "vary", "message"),
    [
        ("build", "widht", "unknown argument of .*did you mean width"),
        ("build", "act", r"act \(='relu'\) is not a whole number: say which values"),
        ("build", "act=relu,gelu", "act does not change the params"),
        ("flat", "unused", "unused does not change the params"),
        ("never", "width", "cannot build with .*not today"),
        ("fours", "width=9..11", "no width builds .*must be divisible by 4"),
        ("build", "width=9..", "must be a range"),
    ],
)
def test_what_a_model_of_ones_own_cannot_vary_is_refused(own, name, vary, message):
    with pytest.raises(E4ProfileError, match=message):
        match(own(name), 1000, vary=vary)


def test_a_refused_builder_keeps_its_traceback(own):
    with pytest.raises(UserCodeError) as error:
        match(own("fours"), 1000, vary="width=9..11")
    assert "in fours" in error.value.details


def test_costs_that_fall_are_known_by_their_first_two():
    assert falls(lambda i: -i)
    assert not falls(lambda i: i)
    assert not falls(lambda _: None)
    assert falls(lambda i: None if i % 2 else -i, last=4)


def test_a_bracket_ends_where_the_candidates_end():
    asked = []

    def cost(index):
        asked.append(index)
        return index

    assert bracket(cost, 2, last=3) == [1, 2, 3]
    assert bracket(cost, 10**6, last=5000) == [4999, 5000]
    assert max(asked) <= 5000
    assert len(asked) < 200


def test_a_cards_other_arguments_need_their_values():
    with pytest.raises(SettingError, match=r"say which values it may take, for example --vary blocks=1\.\.8"):
        match(resolve("p4-r18"), 1000, vary="blocks")
    found = match(resolve("p4-r18"), "3M", vary="width=4..40..4")
    assert found.nearest.setting["width"] % 4 == 0
    cost = VariantCost(Axis(resolve("p4cnn"), "width=3,5"), "params")
    assert (cost(2), cost(3)) == (match(resolve("p4cnn"), 10**4, vary="width=5,90").nearest.value, None)


def test_axes_know_their_candidates():
    assert Axis(resolve("e4net"), "slices").indices() == [1, 2, 4, 8, 16]


def stopping_after(calls):
    """A timer that Ctrl-C ends after some calls."""
    take, done = timer(lambda one: 1e-3 * one.argument("width")), []

    def stops(subjects, *, brief=False):
        if len(done) == calls:
            raise KeyboardInterrupt
        done.append(brief)
        return take(subjects, brief=brief)

    return stops


def test_an_interrupt_gives_what_was_measured_until_then():
    found = match_time(resolve("p4cnn"), "3.1ms", stopping_after(3), vary="width=2..8")
    assert found.interrupted
    assert [one.setting["width"] for one in (found.below, found.nearest)] == [2, 3]
    assert (found.nearest.value, found.above.value) == (pytest.approx(3e-3), pytest.approx(4e-3))
    assert found.nearest.deviation == pytest.approx(-1e-4)
    assert found.nearest.interval is None
    assert found.notes[0].startswith("interrupted: 3 brief measurements one after another")
    assert found.as_object()["verdict"] == "interrupted"


def test_an_interrupt_after_settings_were_sampled_in_turn_keeps_their_intervals():
    drifting = {"now": 3.0}
    take = timer(lambda one: drifting["now"] * 1e-5 * one.argument("width") ** 2)
    in_turn = []

    def stops(subjects, *, brief=False):
        if in_turn:
            raise KeyboardInterrupt
        if not brief:
            in_turn.append(len(subjects))
            drifting["now"] = 1.0
        return take(subjects, brief=brief)

    found = match_time(resolve("p4cnn"), "5ms", stops)
    assert found.interrupted
    assert len(in_turn) == 1
    assert found.nearest.interval == pytest.approx((found.nearest.value, found.nearest.value))
    assert found.notes[0] == "interrupted: other settings were not sampled in turn"


def test_an_interrupt_before_anything_was_measured_goes_on():
    with pytest.raises(KeyboardInterrupt):
        match_time(resolve("p4cnn"), "3ms", stopping_after(0))
    with pytest.raises(KeyboardInterrupt):
        match_time(resolve("p4cnn"), "z2cnn", stopping_after(1))


UNKNOWN = """

def exponential(width=4):
    import torch

    class Exponential(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, width, 3, bias=False)

        def forward(self, images):
            return torch.linalg.matrix_exp(self.conv(images))

    return Exponential()
"""


def test_macs_that_are_a_lower_bound_are_not_matched(tmp_path):
    (tmp_path / "nets.py").write_text(NETS + UNKNOWN)
    bounded, exact = (resolve(f"{tmp_path / 'nets.py'}:{name}", ["1x3x8x8"]) for name in ("exponential", "build"))
    for subject, to in ((bounded, 10_000), (exact, bounded)):
        with pytest.raises(SettingError, match=r"at least 3,888 MACs.*aten::linalg_matrix_exp; say what it costs"):
            match(subject, to, by="macs")
    # parameters are exact, and a time needs only a place to look
    assert match(bounded, 27 * 20).nearest.setting == {"width": 20}
    found = match_time(bounded, 1e-2, timer(lambda one: 1e-3 * one.argument("width")))
    assert found.nearest.setting == {"width": 10}


def test_at_most_is_the_costliest_setting_that_does_not_exceed_the_target() -> None:
    card = resolve("z2cnn")
    costs = {width: VariantCounter()(card.with_arguments({"width": width})).params for width in range(1, 30)}
    for target in (costs[7], costs[8] - 1, 30_000):
        found = match(card, target, at_most=True)
        assert found.nearest.setting["width"] == max(width for width, cost in costs.items() if cost <= target)
        assert found.nearest.deviation <= 0
        assert found.above is not None
        assert found.above.deviation > 0
    with pytest.raises(SettingError, match="no setting of z2cnn has at most 5 parameters: the cheapest, width=1, has"):
        match(card, 5, at_most=True)
