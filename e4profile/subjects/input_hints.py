"""What to write instead, for a network that cannot run on the inputs that it was given."""

from __future__ import annotations

import re
from collections.abc import Sequence
from inspect import Parameter, signature

from torch import nn

from e4profile.subjects.guest import text_of
from e4profile.subjects.inputs import InputSpec

_CHANNELS = re.compile(r"expected input\[[\d, ]+\] to have (\d+) channels, but got (\d+) channels")
_IMAGE_DIMENSIONS = 3


def input_hint(model: nn.Module, specs: Sequence[InputSpec], error: BaseException) -> str:
    """The remedy as the end of an error's line; empty where none is known.

    Args:
        model: the network.
        specs: its inputs as they were given; nothing is said without any.
        error: what its forward raised.
    """
    if not specs:
        return ""
    text = text_of(error)
    if isinstance(error, TypeError) and "required" in text and "argument" in text:
        return _by_name(model, specs)
    tensors = [spec for spec in specs if spec.shape]
    only = tensors[0].shape if len(tensors) == 1 else None
    if only and len(only) == _IMAGE_DIMENSIONS:
        whole = "x".join(map(str, (1, *only)))
        return f"; an input is given with its batch: --input {tensors[0].name}{'=' if tensors[0].name else ''}{whole}"
    found = _CHANNELS.search(text)
    if found and only and len(only) > 1 and only[1] == int(found[2]):
        whole = "x".join(map(str, (only[0], found[1], *only[2:])))
        return f"; with {found[1]} channels: --input {tensors[0].name}{'=' if tensors[0].name else ''}{whole}"
    return ""


def _by_name(model: nn.Module, specs: Sequence[InputSpec]) -> str:
    """Every input that forward requires, by its name; those that were given in their places."""
    try:
        taken = signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return ""
    required = [
        one.name
        for one in taken
        if one.default is Parameter.empty
        and one.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    ]
    positional = [str(spec) for spec in specs if not spec.name]
    keyword = {spec.name.partition(".")[0]: str(spec).partition("=")[2] for spec in specs if spec.name and spec.shape}
    shapes = dict(zip(required, positional, strict=False)) | keyword
    if not required:
        return ""
    words = " ".join(f"--input {name}={shapes.get(name, 'SHAPE')}" for name in required)
    return f"; give every input that forward takes: {words}"
