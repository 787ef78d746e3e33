"""What a paper's table of costs has besides counts: memory, and the time of a forward pass on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from e4profile.errors import E4ProfileError, SettingError, one_of

if TYPE_CHECKING:
    from e4profile.subjects.subject import Subject

BESIDES = ("memory", "time", "predicted", "files")

MEMORY = ("saved_measured_bytes", "peak_bytes", "step_bytes", "forward_peak_bytes", "forward_bytes")
TIME = ("median_s", "iqr_s")
PREDICTED = ("predicted_s", "error_percent")
FILES = (
    "state_bytes",
    "state_formula_bytes",
    "eval_state_bytes",
    "beside_bytes",
    "file_bytes",
    "construct_s",
    "first_forward_s",
)

_MEANINGS = {
    "memory": "memory in float32, SGD: saved and peak of forward and backward, training step, peak of a forward pass "
    "without gradients and that pass whole (e4profile memory)",
    "time": "median and interquartile range of a forward pass in evaluation mode, cpu, float32, {threads}",
    "predicted": "predicted: time of the same pass from the calibration of this device (e4profile time --predicted)",
    "files": "state dict in training mode, by terms and in evaluation mode; buffers and expanded filters beside it; "
    "the file that torch.save writes; seconds to build the network and of its first forward pass, both once, on cpu",
}


def chosen(names: list[str]) -> tuple[str, ...]:
    """What is asked for besides counts, each once.

    Raises:
        UnknownNameError: for what there is not.
        SettingError: for a predicted time on a device that was not calibrated.
    """
    found = tuple(dict.fromkeys(one_of("column", name, BESIDES) for name in names))
    if "predicted" in found:
        from e4profile.records.calibrations import calibration_for

        try:
            calibration_for("cpu", "float32", None)
        except SettingError as error:
            # count names no file
            raise SettingError(f"--with predicted: {str(error).partition(', or name a file')[0]}") from error
    return found


def meanings(besides: tuple[str, ...]) -> list[str]:
    """What the columns are, a sentence each."""
    from e4profile.questions.options import threads_used
    from e4profile.questions.time.table import threads_text

    return [_MEANINGS[name].format(threads=threads_text(threads_used())) for name in besides]


def beside(found: Subject, besides: tuple[str, ...]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The figures of one network by what was asked for, and why one of them is missing.

    Raises:
        UserCodeError: for what a user-defined model raises in every pass.
    """
    figures: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    if "memory" in besides:
        from e4profile.questions.memory.rows import forward_row, memory_row

        known: dict[str, Any] = {}
        try:
            # a norm over single values refuses to train on one image
            known |= memory_row(found, None, "sgd", "float32", "auto", notes)
        except E4ProfileError as error:
            notes.append(f"{found.full_name}: no figure of a training step: {error}")
        known |= forward_row(found, None, "float32", notes)
        figures["memory"] = {key: known.get(key) for key in MEMORY}
    if "time" in besides:
        from e4profile.questions.time.runs import at_own_batch, timed
        from e4profile.witnesses.timing.passes import PassSetting
        from e4profile.witnesses.timing.samples import StopRule, noise_notes

        record = timed(found, at_own_batch(PassSetting(threads=None), found), StopRule())
        figures["time"] = {key: getattr(record, key) for key in TIME}
        notes += [f"{found.full_name}: {said}" for said in noise_notes([record.samples])]
    if "predicted" in besides:
        from e4profile.questions.time.predicted import predicted_table

        table = predicted_table([found], [None], ("cpu", "float32", None), None)
        figures["predicted"] = {key: table.rows[-1][key] for key in PREDICTED}
        notes += table.notes
    if "files" in besides:
        from e4profile.witnesses.memory.files import measure_files

        files = vars(measure_files(found))
        figures["files"] = {key: files[key] for key in FILES}
        by_terms = files["state_formula_bytes"]
        if by_terms not in (None, files["state_bytes"]):
            notes.append(f"{found.full_name}: its state dict has {files['state_bytes']} bytes, by terms {by_terms}")
    return figures, notes
