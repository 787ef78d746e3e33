"""Implicitly equivariant networks beside group-convolutional ones, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from e4profile.questions.table.rows import IMPLICIT, TITLES
from e4profile.show.tables import Column, Table


def implicit_table(comparison: Sequence[Mapping[str, Any]]) -> Table:
    """The rows of ``e4profile.questions.table.implicit_rows.implicit_comparison`` as a table."""
    columns = (
        Column("model", "model", "text", priority=100),
        Column("objective", "objective", "text", priority=50),
        Column("width", "width", "integer", priority=60),
        Column("params", "params", "integer", priority=90),
        Column("inference_macs", "inference MACs", "integer", priority=95),
        Column("step_macs", "training step MACs", "integer", priority=95),
        Column("step_ratio", "step / plain step", "ratio", priority=80),
        Column("gcnn_group", "G-CNN group", "text", priority=30),
        Column("gcnn_width", "G-CNN width", "integer", priority=30),
        Column("gcnn_params", "G-CNN params", "integer", priority=40),
        Column("gcnn_inference_macs", "G-CNN inference MACs", "integer", priority=70),
        Column("gcnn_step_macs", "G-CNN training step MACs", "integer", priority=70),
    )
    return Table(
        TITLES[IMPLICIT],
        columns,
        tuple({column.key: row[column.key] for column in columns} for row in comparison),
        (
            "inference costs what the plain network costs; a training step runs an image and its copy, forward and "
            "backward",
            "step / plain step is measured: executed MACs of a step with and without the objective",
            "the G-CNN is the ResNet18 whose parameters, by closed form, come nearest",
            "no cost was published for these networks",
        ),
        convention="macs, per sample",
    )
