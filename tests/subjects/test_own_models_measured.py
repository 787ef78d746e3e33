"""User-defined models under the clock, the allocator and the roof."""

from __future__ import annotations

import json
from pathlib import Path

import image_clock
import pytest
from own_model_nets import IMAGES_ONLY, write
from program import Run, says

from e4profile.witnesses.timing.clock import CpuClock

QUICK = ("--min-run-time-s", "0", "--max-run-time-s", "0.02")
INPUTS = ("--input", "image=2x3x8x8", "--input", "mask=2x1x6x6:bool", "--input", "times:=3")
OWN = ("net.py:build", *INPUTS)

LOSSES = """
    from torch import nn

    print("a loss")

    lmod = nn.MSELoss()

    def maps(output):
        print("called")
        return output["maps"].mean()

    def absent(output):
        return output["map"].mean()

    def vector(output):
        return output["maps"]

    number = 3
"""


def test_time_and_memory_take_models_of_one_input(own: Run, tmp_path: Path) -> None:
    write(tmp_path, IMAGES_ONLY, "images.py")
    model = ("images.py:build", "--input", "1x3x8x8", "--arg", "width=2", "-f", "json")
    code, out, _ = own("memory", *model, "--batch-size", "1,3")
    assert code == 0
    rows = json.loads(out)
    params = 3 * 2 * 9 + 2 + 72 * 5 + 5
    assert [row["parameter_bytes"] for row in rows] == [4 * params] * 2
    # the ReLU's output; the flattened maps are the same memory
    assert [row["saved_measured_bytes"] for row in rows] == [4 * 72, 3 * 4 * 72]
    code, out, _ = own("time", *model, "--batch-size", "2", *QUICK)
    assert code == 0
    (row,) = json.loads(out)
    assert (row["network"], row["batch_size"]) == ("images.py:build width=2", 2)


def test_the_clock_takes_keywords_and_values_at_any_batch(own: Run) -> None:
    code, out, err = own("time", *OWN, "--pass", "forward,backward,step", "--batch-size", "1,4", *QUICK, "-f", "json")
    assert (code, err.count("batch of 4")) == (0, 3)
    assert [row["batch_size"] for row in json.loads(out)] == [1] * 3 + [4] * 3
    _, out, _ = own("time", *OWN, "--pass", "step", *QUICK)
    assert says(out, "net.py:build", "image=(2, 3, 8, 8), mask=(2, 1, 6, 6), times=3")
    assert says(out, "net.py:build", "sum of 2 outputs", "--loss")


def test_the_allocator_takes_keywords_and_values_at_any_batch(own: Run) -> None:
    code, out, _ = own("memory", *OWN, "-f", "json")
    (row,) = json.loads(out)
    # images of float32 and masks of bool
    assert (code, row["batch_size"], row["input_bytes"]) == (0, 2, 2 * (4 * 3 * 64 + 36))
    _, out, _ = own("memory", *OWN, "--batch-size", "5", "-f", "json")
    (more,) = json.loads(out)
    assert (more["batch_size"], more["input_bytes"]) == (5, 5 * (4 * 3 * 64 + 36))
    assert more["saved_measured_bytes"] == row["saved_measured_bytes"] + 3 * row["saved_per_image_bytes"]
    _, out, _ = own("memory", *OWN)
    assert says(out, "net.py:build", "sum of 2 outputs", "--loss")


def test_inputs_without_a_common_leading_size_are_called_as_given(own: Run, tmp_path: Path) -> None:
    text = """
        import torch
        from torch import nn

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.table, self.head = nn.Embedding(9, 4), nn.Linear(4, 2)

            def forward(self, image, ids):
                return self.head(image), self.table(ids)
    """
    write(tmp_path, text, "two.py")
    two = ("two.py:Net", "--input", "2x4", "--input", "7:int64")
    code, out, _ = own("memory", *two, "-f", "json")
    (row,) = json.loads(out)
    assert (code, row["batch_size"], row["saved_per_image_bytes"]) == (0, None, None)
    assert row["input_bytes"] == 2 * 4 * 4 + 7 * 8
    assert own("time", *two, "--pass", "step", *QUICK).code == 0
    for command in ("time", "memory"):
        code, _, err = own(command, *two, "--batch-size", "3")
        assert (code, "different leading sizes (2x4, 7:int64)" in err) == (2, True)
        code, _, err = own(command, *two, "--fits", "30ms" if command == "time" else "1GiB")
        assert (
            code,
            "two.py:Net: the leading size of every input (2x4 7:int64) must be the batch, which --fits looks for"
            in err,
        ) == (2, True)
    code, _, err = own("memory", *two, "--layers")
    assert (code, "a closed form takes one positional tensor" in err) == (2, True)


@pytest.mark.parametrize("command", [("time", "--pass", "step", *QUICK), ("memory",)])
def test_backward_starts_from_a_loss_of_ones_own(own: Run, tmp_path: Path, command: tuple[str, ...]) -> None:
    write(tmp_path, LOSSES, "losses.py")
    code, out, err = own(*command, *OWN, "--loss", "losses.py:maps", "-f", "json")
    assert (code, len(json.loads(out))) == (0, 1)
    assert "called" in err
    code, out, err = own(*command, *OWN, "--loss", "losses.py:absent")
    assert (code, out) == (2, "")
    assert says(err, "--loss losses.py:absent", "the output", "KeyError: 'map'")
    assert 'losses.py", line' in err.split("Traceback")[1]
    code, out, err = own(*command, *OWN, "--loss", "losses.py:lmod")
    assert (code, out) == (2, "")
    assert says(err, "--loss losses.py:lmod", "the output", "TypeError: ")
    assert "in the network itself" not in err
    for loss, message in (
        ("losses.py:vector", "returned torch.float32 of shape (2, 4, 6, 6), not one real number"),
        ("losses.py:number", "--loss losses.py:number is a int"),
        ("cross_entropi", "did you mean cross_entropy"),
        ("cross_entropy", "needs class scores (B, classes), not an output of shape (2, 4, 6, 6), (2, 2, 36)"),
    ):
        code, out, err = own(*command, *OWN, "--loss", loss)
        assert (code, out) == (2, "")
        assert message in err
    assert own(*command, *OWN, "--loss", "mean").code == 0


def test_a_breakdown_with_a_loss_of_ones_own_goes_to_stdout(own: Run, tmp_path: Path) -> None:
    write(tmp_path, LOSSES, "losses.py")
    breakdown = ("time", *OWN, "--breakdown", "--pass", "step", "--loss", "losses.py:maps", *QUICK)
    code, out, err = own(*breakdown, "-f", "json")
    assert (code, json.loads(out)[-1]["term"]) == (0, "total")
    assert "called" in err
    code, out, err = own(*breakdown)
    assert (code, "unattributed" in out, "unattributed" in err) == (0, True, False)


def test_lazy_layers_are_met_before_the_network_leaves_for_the_meta_device(own: Run, tmp_path: Path) -> None:
    net = """
        from torch import nn

        def build(lazy=True):
            last = nn.LazyLinear(5) if lazy else nn.Linear(72, 5)
            return nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), last)
    """
    write(tmp_path, net, "lazy.py")
    for options in ((), ("--fits", "1MiB"), ("--peaks",)):
        found = []
        for lazy in ("true", "false"):
            asked = ("lazy.py:build", "--input", "2x3x8x8", "--arg", f"lazy={lazy}")
            code, out, err = own("memory", *asked, *options, "-f", "json")
            assert code == 0, err
            found.append([{**row, "model": ""} for row in json.loads(out)])
        assert found[0] == found[1]


def test_a_loss_decides_what_is_held(own: Run, tmp_path: Path) -> None:
    write(tmp_path, LOSSES, "losses.py")
    _, whole, _ = own("memory", *OWN, "-f", "json")
    _, part, _ = own("memory", *OWN, "--loss", "losses.py:maps", "-f", "json")
    assert json.loads(part)[0]["peak_bytes"] != json.loads(whole)[0]["peak_bytes"]


CONVOLUTION, TOKENS = 2 * 27 * 4 * 36, 2 * 8 * 36


def test_the_breakdown_of_a_network_without_a_form_has_the_macs_that_run(own: Run) -> None:
    code, out, _ = own("time", *OWN, "--breakdown", "--pass", "step", *QUICK, "-f", "json")
    assert code == 0
    rows = {row["term"]: row for row in json.loads(out)}
    assert rows["convolution"]["macs"] == rows["total"]["macs"] == CONVOLUTION + TOKENS
    assert rows["convolution"]["seconds"] > 0
    assert rows["activation"]["macs"] == 0
    parts = [row["time_percent"] for term, row in rows.items() if term != "total"]
    assert sum(parts) == pytest.approx(100)
    _, out, _ = own("time", *OWN, "--breakdown", *QUICK)
    assert "MACs by the dispatch counter" in out


def test_the_roofline_of_a_network_without_a_form_has_the_macs_that_run(own: Run, tmp_path: Path) -> None:
    code, out, err = own("roofline", *OWN, "--max-run-time-s", "0.02", "--plot", tmp_path / "figures", "-f", "json")
    assert code == 0
    rows = {row["path"]: row for row in json.loads(out)}
    assert {path: row["macs"] for path, row in rows.items()} == {
        "conv": CONVOLUTION, "tokens": TOKENS, "whole pass": CONVOLUTION + TOKENS,
    }  # fmt: skip
    maps = 2 * 4 * 36
    assert rows["conv"]["bytes"] == 4 * (2 * 3 * 64 + maps + 4 * 27 + 4)
    assert rows["tokens"]["bytes"] == 4 * (maps + 2 * 2 * 36 + 8 + 2)
    assert (tmp_path / "figures" / "roofline-net.py-build-cpu-float32.csv").exists()
    _, out, _ = own("roofline", *OWN, "--max-run-time-s", "0.02")
    assert "MACs by the dispatch counter" in out
    (tmp_path / "file").write_text("")
    code, _, err = own("roofline", *OWN, "--plot", tmp_path / "file")
    assert (code, "is a file; name another folder" in err) == (2, True)


def test_a_network_that_fails_lets_the_others_go_on(own: Run, tmp_path: Path) -> None:
    text = """
        from torch import nn

        class Fails(nn.Module):
            def forward(self, images):
                raise KeyError("scale")
    """
    write(tmp_path, text, "fails.py")
    batches = ("--batch-size", "1,2", *QUICK, "-f", "json")
    code, out, err = own("time", "fails.py:Fails", "net.py:build", "--input", "2x3x9x9", *batches)
    assert (code, [row["network"] for row in json.loads(out)]) == (1, ["net.py:build"] * 2)
    for batch in (1, 2):
        words = f"fails.py:Fails cannot run on ({batch}, 3, 9, 9): in the network itself (Fails): KeyError: 'scale'"
        assert words in err
    assert err.count("Traceback") == 1, "the same traceback once"
    assert "not every network could be timed" in err
    code, out, err = own("time", "fails.py:Fails", "--input", "2x3x9x9", *batches)
    assert (code, out, err.count("Traceback")) == (2, "", 1)


def test_two_models_of_ones_own_are_compared(own: Run, tmp_path: Path) -> None:
    write(tmp_path, IMAGES_ONLY, "images.py")
    both = ("time", "images.py:build", "--against", "net.py:build", "--input")
    code, out, _ = own(*both, "2x3x8x8", *QUICK, "-f", "json")
    (row,) = json.loads(out)
    assert (code, row["network"], row["against"], row["batch_size"]) == (0, "images.py:build", "net.py:build", 2)
    code, _, err = own("time", "net.py:build", "--against", "images.py:build", "--input", "2x3x9x9", *QUICK)
    assert (code, says(err, "images.py:build", "(2, 3, 9, 9)", "in 3 (Linear)")) == (2, True)


def test_the_batch_that_fits_a_time(own: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CpuClock, "read", image_clock.read)
    write(tmp_path, IMAGES_ONLY, "images.py")
    file = tmp_path / "times.jsonl"
    fits = ("time", "images.py:build", "--input", "1x3x8x8", *QUICK, "--out", file)
    code, out, _ = own(*fits, "--fits", "5.5ms", "-f", "json")
    (row,) = json.loads(out)
    assert code == 0
    assert row["limit_s"] == 0.0055
    assert (row["batch_size"], row["batch_above"]) == (5, 6)
    assert (row["median_s"], row["above_s"]) == pytest.approx((0.005, 0.006))
    assert row["above_low_s"] <= row["above_s"] <= (row["above_high_s"] or row["above_s"]), (
        "a measured time has its interval"
    )
    assert len(file.read_text().splitlines()) == row["measured"]
    code, out, err = own(*fits, "--fits", "1ns")
    assert code == 1
    assert "even a batch of 1 exceeds the limit" in out
    assert "nothing fits: no batch of any network stays within 1ns" in err
    for options, message in (
        (("--fits", "5"), "--fits (=5) is a time without its unit: write 30ms"),
        (("--fits", "0ms"), "--fits (=0ms) must be positive: write 30ms"),
        (("--fits", "5ms", "--batch-size", "3"), "omit --batch-size 3"),
        (("--fits", "5ms", "--against", "e4net"), "omit --against e4net"),
        (("--fits", "5ms", "--breakdown"), "--breakdown profiles one network as it is"),
    ):
        code, out, err = own(*fits, *options)
        assert (code, out) == (2, "")
        assert message in err


def test_memory_says_the_batch_or_looks_for_it(own: Run) -> None:
    code, _, err = own("memory", "e4net", "--fits", "1GiB", "--batch-size", "3")
    assert (code, "--fits finds the batch size: omit --batch-size 3" in err) == (2, True)
    code, out, _ = own("memory", *OWN, "--fits", "1MiB", "-f", "json")
    (row,) = json.loads(out)
    assert code == 0
    assert row["step_bytes"] <= 2**20 < row["next_step_bytes"]
    code, out, _ = own("memory", *OWN, "--fits", "1MiB", "--units", "exact")
    assert (code, f"{row['step_bytes']:,} B" in out) == (0, True)
    code, out, _ = own("memory", *OWN, "--fits", "1MiB")
    assert (code, " MiB" in out, " B" in out) == (0, True, False)
    code, out, err = own("memory", *OWN, "--fits", "1KiB")
    assert (code, says(err, "nothing fits", "a single image", "1KiB")) == (1, True)
