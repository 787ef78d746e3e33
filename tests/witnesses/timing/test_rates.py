"""Rates: what follows from them, and the fit that finds them again; nothing here is timed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from e4profile.errors import SettingError
from e4profile.witnesses.timing.calibration import Observed, left_out
from e4profile.witnesses.timing.rates import Rate, Run, fit_rates, non_negative, predicted_s, with_steps

RATES = {"both": Rate(2e-11, 3e-10, 1e-5), "traffic": Rate(0.0, 1e-10, 4e-6), "calls": Rate(0.0, 0.0, 7e-6)}


def observed(topology: str, seed: int, rates: Mapping[str, Rate] = RATES, unique: str = "") -> Observed:
    """A network of a dozen layers that take exactly what the rates say."""
    random = np.random.default_rng(seed)
    works = []
    for _ in range(12):
        macs, moved = (int(10 ** random.uniform(4, 7)) for _ in range(2))
        calls = [int(one) for one in random.integers(1, 5, 3)]
        works.append((("both", macs, moved, calls[0]), ("traffic", 0, moved, calls[1]), ("calls", 0, 0, calls[2])))
    parts = [Run(work, float(predicted_s(rates, work))) for work in works]
    if unique:
        parts.append(Run(((unique, 1000, 10, 1),), 1e-3))
    whole = tuple(one for part in parts for one in part.work)
    return Observed(topology, f"{topology} {seed}", tuple(parts), Run(whole, sum(part.seconds for part in parts), 5.0))


def test_the_fit_finds_rates_again() -> None:
    runs = [run for seed in range(4) for run in observed("any", seed).parts]
    found = fit_rates(runs)
    for kind, rate in RATES.items():
        for name in ("s_per_mac", "s_per_byte", "s_per_call"):
            assert getattr(found[kind], name) == pytest.approx(getattr(rate, name), rel=1e-6, abs=1e-15), (kind, name)


def test_a_part_that_would_be_negative_is_zero() -> None:
    # twice the bytes in less time: no bandwidth explains that
    found = fit_rates([Run((("traffic", 0, 1000, 1),), 2e-6), Run((("traffic", 0, 2000, 1),), 1e-6)])
    assert found["traffic"].s_per_byte == 0
    assert 1e-6 < found["traffic"].s_per_call < 2e-6


def test_least_squares_are_optimal_within_what_is_allowed() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        matrix, target = random.normal(size=(30, 8)), random.normal(size=30)
        matrix[:, 3] = 0
        found = non_negative(matrix, target)
        gradient = matrix.T @ (target - matrix @ found)
        assert (found >= 0).all()
        assert gradient == pytest.approx(np.minimum(gradient, 0), abs=1e-9)  # no step up helps
        assert gradient[found > 0] == pytest.approx(0, abs=1e-9)  # nor a step down


def test_columns_that_say_the_same_end_the_search() -> None:
    # a step that ends on a coefficient of nearly zero was taken for ever
    counts = [
        "0011200", "0011200", "2011220", "2211210", "0102210", "2110212", "0111202", "0111202", "1202120", "0121120",
        "0121120", "0111122",
    ]  # fmt: skip
    scales = [3e-5, 3e-6, 1e-5, *[9.999999999999999e-6] * 3, 1e-5, 1e-5, 3e-5, 3e-5, 9e-5, 9.999999999999999e-6]
    target = np.array(
        [
            0.9300618736358149,
            0.9984230614962147,
            0.9726469426326707,
            1.0351146268079208,
            0.8854079952760366,
            0.9870707109769404,
            0.9697435087866846,
        ]
    )
    matrix = np.array([[int(count) for count in column] for column in counts]).T * scales
    found = non_negative(matrix, target)
    assert (found >= 0).all()
    assert (matrix.T @ (target - matrix @ found)).max() < 1e-15


def test_arrays_of_settings_give_what_numbers_give() -> None:
    macs, moved = np.array([10_000, 10_000_000]), np.array([1_000_000, 1_000])
    together = predicted_s(RATES, [("both", macs, moved, 2), ("calls", 0, 0, np.array([1, 3]))])
    alone = [
        predicted_s(RATES, [("both", int(m), int(b), 2), ("calls", 0, 0, c)])
        for m, b, c in zip(macs, moved, (1, 3), strict=True)
    ]
    assert together == pytest.approx(alone)
    assert alone[0] == pytest.approx(3e-10 * 1_000_000 + 2e-5 + 7e-6)


def test_what_was_not_timed_has_no_rate() -> None:
    with pytest.raises(SettingError, match="no rate for: gather"):
        predicted_s(RATES, [("gather", 1, 1, 1)])
    for runs in ([], [Run((("both", 1, 1, 1),), 0.0)]):
        with pytest.raises(SettingError, match="timed runs"):
            fit_rates(runs)


def test_leaving_networks_out_states_the_error() -> None:
    networks = [observed("a", 0), observed("a", 1), observed("b", 2), observed("c", 3, unique="only here")]
    parts = [one.topology for one in networks]
    exact = left_out(networks, parts, RATES | {"only here": Rate(0, 0, 1e-3)})
    assert (exact.networks, exact.without_rate) == (3, 1)
    assert exact.mean_percent == pytest.approx(0, abs=1e-4)
    assert exact.rank_correlation == pytest.approx(1)
    # twice as slow as everything else: half of its time is what the others predict
    slow = observed(
        "slow", 4, {kind: Rate(2 * r.s_per_mac, 2 * r.s_per_byte, 2 * r.s_per_call) for kind, r in RATES.items()}
    )
    found = left_out([*networks[:3], slow], [*parts[:3], "slow"], RATES)
    assert found.largest_percent >= 49
    with pytest.raises(SettingError, match="left out"):
        left_out(networks[:2], ["a", "a"], RATES)


def test_steps_of_one_factor_give_it_and_what_ran_in_none_has_none() -> None:
    networks = [observed("even" if seed % 2 else "odd", seed, unique="alone" * (seed == 1)) for seed in range(6)]
    rates = fit_rates([run for one in networks for run in one.parts])
    steps = [
        replace(one, step=Run(one.whole.work, 3 * float(predicted_s(rates, one.whole.work)))) if seed != 1 else one
        for seed, one in enumerate(networks)
    ]
    found = with_steps(rates, [one.step for one in steps if one.step])
    assert {kind: rate.step_factor for kind, rate in found.items()} == {
        **dict.fromkeys(RATES, pytest.approx(3)), "alone": None
    }  # fmt: skip
    with pytest.raises(SettingError, match="no training step with: alone"):
        predicted_s(found, networks[1].whole.work, step=True)
    error = left_out(steps, [one.topology for one in steps], found, step=True)
    assert (error.networks, error.without_rate) == (5, 0)
    assert error.largest_percent == pytest.approx(0, abs=1e-6)
