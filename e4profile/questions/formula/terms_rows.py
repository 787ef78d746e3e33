"""Where the MACs go: those of a whole network by named term."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from torch import nn

from e4profile.conventions import CONVOLUTION, MAC_KINDS
from e4profile.errors import SettingError
from e4profile.layers.base import layer_cost
from e4profile.layers.containers import trace
from e4profile.layers.group_conv import GroupConv2d
from e4profile.layers.lifting import LiftingConv2d
from e4profile.layers.stock import as_costed
from e4profile.networks.cards import Card
from e4profile.questions.plot.registry import drawn_name
from e4profile.subjects.subject import Subject, Target
from e4profile.subjects.variants import VariantCounter
from e4profile.witnesses.counts.measure import Measurement

_DEFAULT_MODELS = (
    "p4-cnn", "e4net", "e4net-large", "p4-r18", "p4-e4r18", "p4m-r18", "p4m-e4r18",
)  # fmt: skip


def default_models() -> tuple[str, ...]:
    """Networks of He et al. 2021, each E4 network after the G-CNN it is compared with."""
    return _DEFAULT_MODELS


def terms_rows(networks: Sequence[Subject]) -> list[dict[str, Any]]:
    """One row per network and named term with ``macs``, those of one image, and ``share`` of the network's.

    A model of one's own is called with its own inputs. Without a closed form of the whole, layers that have one keep
    their terms, at the shapes recorded from the run, and all else is named by the kind of what runs: convolution,
    linear, aggregation, attention.

    Raises:
        SettingError: for a card's network with a part that has no closed form, or a network without MACs.
        UserCodeError: for what a model of one's own raises.
    """
    rows = []
    for network in networks:
        found = macs_by_named_term(network)
        whole = sum(found.values())
        if not whole:
            raise SettingError(f"{network.name} runs no MACs to share out")
        rows += [
            {"model": drawn_name(network), "term": term, "macs": macs, "share": macs / whole}
            for term, macs in found.items()
        ]
    return rows


def macs_by_named_term(network: Subject) -> dict[str, int]:
    """MACs of one image by the layers' own names of their terms, in order of execution."""
    if not isinstance(network, Card):
        own: dict[str, int] = VariantCounter().model_on_meta(network, _own_terms)
        return own
    return _by_topology(network.build("meta"), network.input_shape())


def _own_terms(target: Target) -> dict[str, int]:
    measured = target.measure(())
    shape = target.example("meta").single_shape
    if measured.sizes == "topology" and shape is not None:
        return _by_topology(target.build(), shape)
    if measured.sizes == "recorded" and not measured.differences:
        return _by_recorded_shapes(target.build(), measured)
    return {kind: macs for kind, macs in measured.dispatch.operations.items() if kind in MAC_KINDS and macs}


def _by_recorded_shapes(model: nn.Module, measured: Measurement) -> dict[str, int]:
    """The terms of the layers that have a closed form, and the kinds of all else that runs."""
    formed = {layer.path: layer for layer in measured.closed.layers}
    found: Counter[str] = Counter()
    seen_by_path = measured.dispatch.rolled_up(formed)
    for path, seen in sorted(seen_by_path.items(), key=lambda item: item[0] not in formed):
        module = model.get_submodule(path)
        form = as_costed(module) if path in formed else None
        # what no form names has its kind for a name
        amounts = seen.operations if form is None else formed[path].terms
        for term, macs in amounts.items():
            if macs and (term if form is None else form.kinds.get(term, CONVOLUTION)) in MAC_KINDS:
                found[term if form is None else _name(module, term)] += macs
    return dict(found)


def _by_topology(model: nn.Module, input_shape: tuple[int, ...]) -> dict[str, int]:
    _, steps = trace(model, input_shape)
    found: Counter[str] = Counter()
    for step in steps:
        cost = layer_cost(step.form, step.input_shape)
        for term, macs in cost.macs.items():
            if cost.kinds[term] in MAC_KINDS and macs:
                found[_name(step.module, term)] += macs
    return dict(found)


def _name(module: object, term: str) -> str:
    if term == "convolution" and isinstance(module, LiftingConv2d):
        return "lifting"
    if term == "convolution" and isinstance(module, GroupConv2d):
        return "group convolution"
    return term
