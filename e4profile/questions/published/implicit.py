"""Implicitly equivariant networks next to group-convolutional ones of the nearest number of parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from e4profile.errors import positive
from e4profile.groups import Group
from e4profile.layers import trace
from e4profile.networks.cards import Card, all_cards
from e4profile.networks.resnets import basic_resnet
from e4profile.questions.columns import COLUMNS, table_of_rows
from e4profile.questions.published.rows import IMPLICIT, TITLES, built_object
from e4profile.show.tables import Column, Table
from e4profile.subjects.subject import Subject, of_card
from e4profile.witnesses.counts.closed_form import count_closed_form, training_step_macs
from e4profile.witnesses.counts.training_step import measured_training_macs
from e4profile.witnesses.equivariance.implicit import implicit_equivariance_loss, sampling_group

NETWORKS = ("basic_cnn", "implicit_resnet18", "implicit_vgg")
"""The topologies of Khetan et al. 2021, in the order of their tables."""

IMAGES_PER_SAMPLE = 2
"""Every image and one transformed copy, whatever the group."""

_MEASURED_BATCH = 2


def objective_name(arguments: Mapping[str, Any]) -> str:
    """What a card's arguments ask of the training: R4, R8, R4+reflection, R8-4-2-1, ..."""
    mode = str(arguments.get("mode", "R4"))
    if arguments.get("ratio") is not None:
        mode = "-".join([mode, *(str(size) for size in arguments["pool_sizes"][1:])])
    return f"{mode}+reflection" if arguments.get("reflection") else mode


def comparable_group(arguments: Mapping[str, Any]) -> Group:
    """The group on the pixel grid with as many elements as the loss pools over: C4, or D4 for eight.

    Rotations by 45 degrees do not map the grid onto itself, so R8 is set against the other group of order 8.
    """
    order = max(arguments.get("pool_sizes") or (4,))
    eight = order >= 8 or arguments.get("mode") == "R8" or bool(arguments.get("reflection"))
    return Group(4, mirrors=eight)


def g_cnn(group: Group, width: int, channels: int, classes: int) -> nn.Module:
    """A group-convolutional ResNet18 with true strides, on the meta device."""
    with torch.device("meta"):
        built: nn.Module = basic_resnet(group=group, width=width, stride_by="conv", channels=channels, classes=classes)
    return built


@cache
def g_cnn_params(group: Group, width: int, channels: int, classes: int) -> int:
    """Parameters of ``g_cnn`` by closed form, which need no particular image size."""
    return count_closed_form(g_cnn(group, width, channels, classes), (1, channels, 32, 32)).params


def nearest_width(group: Group, channels: int, classes: int, params: int) -> int:
    """The width at which the G-CNN's parameters, by closed form, come nearest to ``params``.

    Parameters grow with the width, about with its square: that gives a first guess, and steps of one from there
    find the two widths around ``params``. Of two equally near ones the narrower is taken.

    Raises:
        SettingError: when ``params`` is not positive.
    """
    positive(params=params)

    def at(width: int) -> int:
        return g_cnn_params(group, width, channels, classes)

    width = 16
    for _ in range(2):
        width = max(1, round(width * math.sqrt(params / at(width))))
    while at(width) < params:
        width += 1
    while width > 1 and at(width - 1) >= params:
        width -= 1
    return min({max(1, width - 1), width}, key=lambda near: (abs(at(near) - params), near))


def measured_step(card: Subject, *, plain: bool = False) -> int:
    """MACs that run in a training step of two samples on the meta device: with the card's objective, or plain."""
    model, shape = card.build("meta"), card.at_batch(_MEASURED_BATCH).shape
    images, labels = torch.empty(shape, device="meta"), torch.empty(shape[:1], dtype=torch.long, device="meta")
    mode, reflection = _objective(card)

    def loss() -> torch.Tensor:
        if plain:
            return F.cross_entropy(model(images), labels)
        return implicit_equivariance_loss(model, images, labels, group=mode, reflection=reflection, beta=1.0)

    return measured_training_macs(model, loss)


def _objective(card: Subject) -> tuple[str, bool]:
    return str(card.arguments.get("mode", "R4")), bool(card.arguments.get("reflection", False))


def comparison_row(card: Subject, *, measured: bool = True) -> dict[str, Any]:
    """One row of the comparison, see ``implicit_comparison``; without its measured steps where nothing is to run."""
    model, shape = card.build("meta"), card.shape
    count = count_closed_form(model, shape)
    (_, classes), _ = trace(model, shape)
    ran: dict[str, Any] = {}
    if measured:
        objective, plain = measured_step(card), measured_step(card, plain=True)
        ran = {
            "measured_step_macs": objective // _MEASURED_BATCH,
            "measured_plain_step_macs": plain // _MEASURED_BATCH,
            "step_ratio": Fraction(objective, plain),
        }
    group = comparable_group(card.arguments)
    width = nearest_width(group, shape[1], classes, count.params)
    other = g_cnn(group, width, shape[1], classes)
    other_count = count_closed_form(other, shape)
    return {
        "model": card.name,
        "network": card.topology,
        "objective": objective_name(card.arguments),
        "group": sampling_group(*_objective(card)).name,
        "width": int(card.arguments["width"]),
        "params": count.params,
        "inference_macs": count.macs,
        "step_macs": training_step_macs(model, shape, IMAGES_PER_SAMPLE).total,
        **ran,
        "gcnn_group": group.alias,
        "gcnn_width": width,
        "gcnn_params": other_count.params,
        "gcnn_inference_macs": other_count.macs,
        "gcnn_step_macs": training_step_macs(other, shape).total,
    }


def implicit_comparison() -> list[dict[str, Any]]:
    """Every card of an implicitly equivariant network beside a G-CNN of the nearest number of parameters.

    Per sample, exact integers: ``params``; ``inference_macs``, those of the plain network; ``step_macs``,
    forward and backward of one image and its copy by closed form; ``measured_step_macs`` and
    ``measured_plain_step_macs``, what PyTorch's counter sees with and without the objective, and their quotient
    ``step_ratio``. The G-CNN (``gcnn_*``) is a ResNet18 for the same images and classes, with true strides,
    trained on the image alone.
    """
    cards = [card for card in all_cards().values() if card.network in NETWORKS]
    cards.sort(key=lambda card: (NETWORKS.index(card.network), _reading_order(card)))
    return [comparison_row(of_card(card)) for card in cards]


def _reading_order(card: Card) -> tuple[Any, ...]:
    arguments = card.arguments
    shared_out = arguments.get("ratio") is not None
    mode = str(arguments.get("mode", "R4"))
    return (shared_out, bool(arguments.get("reflection")), mode, card.name)


def implicit_table(comparison: Sequence[Mapping[str, Any]]) -> Table:
    """The rows of ``implicit_comparison`` as a table."""
    of_the_other = {"group": 30, "width": 30, "params": 40, "inference_macs": 70, "step_macs": 70}
    other = [
        replace(COLUMNS[key], key=f"gcnn_{key}", header=f"G-CNN {COLUMNS[key].header}", priority=priority)
        for key, priority in of_the_other.items()
    ]
    shown = ("model", "objective", "width", "params", "inference_macs", "step_macs", "step_ratio")
    return table_of_rows(
        TITLES[IMPLICIT],
        comparison,
        (
            "inference costs what the plain network costs; a training step runs an image and its copy, forward and "
            "backward",
            "step / plain step is measured: executed MACs of a step with and without the objective",
            "the G-CNN is the ResNet18 whose parameters, by closed form, come nearest",
            "no cost was published for these networks",
        ),
        "macs, per sample",
        keys=(*shown, *(column.key for column in other)),
        columns=(*other, Column("step_ratio", "step / plain step", "ratio", priority=80)),
        priorities={"params": 90},
    )


_QUANTITIES = {
    "params": None,
    "inference_macs": "macs",
    "step_macs": "macs, forward and backward of an image and its copy, closed form",
    "measured_step_macs": "macs, the same, as executed",
    "measured_plain_step_macs": "macs, forward and backward of one image, as executed",
}


def implicit_objects(comparison: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The comparison of implicitly equivariant networks as objects with the keys of ``TABLE_COLUMNS``.

    Args:
        comparison: the rows of ``implicit_comparison``.
    """
    rows = []
    for built in comparison:
        other = f"G-CNN of nearest parameters ({built['gcnn_group']}, width {built['gcnn_width']})"
        for label, prefix in ((built["model"], ""), (f"{built['model']}: {other}", "gcnn_")):
            rows += [
                built_object(label, built["model"], quantity, meaning, built[prefix + quantity])
                for quantity, meaning in _QUANTITIES.items()
                if prefix + quantity in built
            ]
    return rows
