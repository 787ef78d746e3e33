"""Profile networks that were written elsewhere, hold every figure against a second opinion, and write tables.

    make strangers                                   everything; finished networks are not run again
    .venv-strangers/bin/python scripts/strangers.py --only timm --limit 40

Five libraries: torchvision (every entry, against its own metadata), timm (every name), transformers and diffusers
(small configurations), escnn (fresh, evaluated, trained). Outside torchvision the second opinion on the MACs is
PyTorch's ``FlopCounterMode``, halved, with the mathematical attention and without the fused recurrent kernels, which
have no formula in it. What a call saves for backward is predicted on the meta device and held against
``saved_tensors_hooks`` of a run on the CPU. A fingerprint of the network's whole state is taken before and after every
call, also after calls that fail half way.

A network's row lies in a JSON-lines file of a folder for temporary files as soon as it is there, so that a run which
was stopped goes on. No weights are downloaded. Exit code 1 where a figure differs without a name, a network is not
given back as it was, or could not be run.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from e4profile.conventions import convention
from e4profile.subjects.inputs import Example
from e4profile.witnesses.counts.base import Count
from e4profile.witnesses.counts.dispatch import count_run
from e4profile.witnesses.counts.measure import measure_module
from e4profile.witnesses.memory.saved import saved_for_backward
from e4profile.witnesses.memory.step import predict
from e4profile.witnesses.walk import Watcher

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

OUT = Path(__file__).resolve().parent.parent / "reports" / "strangers"
LIBRARIES = ("torchvision", "timm", "transformers", "diffusers", "escnn")
COLUMNS = (
    "name", "input", "device", "params", "params_said", "macs", "macs_said", "verdict", "as_found",
    "saved_input", "saved_bytes", "saved_bytes_hooks",
)  # fmt: skip
SUMMARY = (
    "library", "listed", "run", "exact", "named", "known", "counted", "differ", "failed", "as_found", "saved_run",
    "saved_exact", "made_with",
)  # fmt: skip
EXACT, NAMED, KNOWN, COUNTED, DIFFERS, FAILED = "exact", "named", "known", "counted", "DIFFERS", "FAILED"
MINUTES = "about 15 minutes of CPU time on one core without timm, and an estimated 25 for all of timm"
WHOLLY_EVERY = 25
"""Of more than a thousand names, every 25th is asked everything; the others are counted on the meta device."""
MOST_PARAMS = 30_000_000
"""Of a network of full size that also runs on the CPU."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Stranger:
    """A network that somebody else wrote.

    Attributes:
        name: in its library.
        build: makes it.
        inputs: makes the inputs of one call, given the network.
        said: parameters and MACs as text, as the library's metadata has them; None asks a second opinion.
        on_meta: build it on the meta device, where that works.
        saved: also run it on the CPU, for the bytes that it saves, where it is small enough.
        briefly: count it, and ask nothing else but whether it is as before.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[nn.Module], Example]
    said: tuple[int, str] | None = None
    on_meta: bool = False
    saved: bool = False
    briefly: bool = False


# --- what is asked of each network ---------------------------------------------------------------------------------


def examine(one: Stranger) -> Row:
    """The row of one network."""
    model, example, device = built(one)
    before = fingerprint(model)
    if one.briefly:
        counted, _, _ = count_run(model, example, Watcher)
    else:
        counted = measure_module(model, example, ("closed-form", "dispatch")).dispatch
    kept = {"count": fingerprint(model) == before}
    params = sum(tensor.numel() for tensor in model.parameters())
    row: Row = {"name": one.name, "input": str(example), "device": device}
    row |= {"params": counted.params, "params_said": params, "macs": counted.macs}
    if one.said is not None:
        row |= {"params_said": one.said[0], "macs_said": one.said[1]}
        row["verdict"] = verdict_on_metadata(counted, *one.said)
    elif one.briefly:
        row["verdict"] = verdict(counted, params) or COUNTED
    else:
        said, by_operator = second_opinion(model, example)
        row["macs_said"] = said
        row["verdict"] = verdict(counted, params) or verdict_on_macs(counted, said, by_operator)
    if one.saved and params <= MOST_PARAMS:
        if device == "meta":
            model = one.build().eval()
            # two images: a batch norm over one pixel refuses a single one in training
            example = one.inputs(model).map(lambda tensor: torch.cat([tensor, tensor]))
        before = fingerprint(model)
        row["saved_input"] = str(example)
        row["saved_bytes"] = saved_for_backward(model, example, batch_size=None).saved_bytes
        kept["saved bytes"] = fingerprint(model) == before
        predict(model, example, None, loss="sum")
        kept["step"] = fingerprint(model) == before
    if not one.briefly:
        kept |= given_back_after_failures(model, example)
    if "saved_bytes" in row:
        row["saved_bytes_hooks"] = bytes_by_hooks(model, example)
    changed = [call for call, same in kept.items() if not same]
    row["as_found"] = f"CHANGED by {', '.join(changed)}" if changed else "yes"
    return row


def built(one: Stranger) -> tuple[nn.Module, Example, str]:
    """The network in evaluation mode, its inputs, and the device that it is on."""
    torch.manual_seed(0)
    if one.on_meta:
        try:
            with torch.device("meta"):
                model = one.build().eval()
                return model, one.inputs(model), "meta"
        except Exception as error:
            sys.stderr.write(f"  built on the CPU: {type(error).__name__}: {first_line(error)}\n")
    model = one.build().eval()
    return model, one.inputs(model), "cpu"


@contextmanager
def kernels_with_formulas() -> Iterator[None]:
    """Let operators run as products that ``FlopCounterMode`` has a formula for."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            # oneDNN's flags speak of a GPU that is not there
            warnings.simplefilter("ignore")
            with sdpa_kernel(SDPBackend.MATH), torch.backends.mkldnn.flags(enabled=False):
                yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def second_opinion(model: nn.Module, example: Example) -> tuple[int, dict[str, int]]:
    """MACs by PyTorch's own counter, in all and by operator."""
    from torch.utils.flop_counter import FlopCounterMode

    mode = FlopCounterMode(display=False)
    # it follows modules by hooks on their inputs' gradients, which some inputs do not take
    mode.mod_tracker = SimpleNamespace(parents={"Global"}, __enter__=lambda: None, __exit__=lambda *_: None)
    with torch.no_grad(), kernels_with_formulas(), mode:
        model(*example.positional, **example.keywords)
    by_operator = mode.get_flop_counts()["Global"]
    found = {str(operator).replace(".", "::"): flops // 2 for operator, flops in by_operator.items()}
    return sum(found.values()), found


def verdict(counted: Count, params: int) -> str:
    """What is wrong before any other count is asked; nothing where all is well."""
    if counted.uncounted:
        return f"{DIFFERS}: unknown {', '.join(sorted(counted.uncounted))}"
    return f"{DIFFERS}: parameters" if counted.params != params else ""


def verdict_on_macs(counted: Count, macs: int, by_operator: Mapping[str, int]) -> str:
    """How the count and the second opinion agree: differences by operator, named where that one has no formula."""
    if counted.macs == macs:
        return EXACT
    ours: Counter[str] = Counter()
    for operators in counted.by_operator.values():
        for operator, kinds in operators.items():
            # the mathematical attention runs as two batched products
            shown = "aten::bmm" if operator.startswith("aten::_scaled_dot_product") else operator
            ours[shown] += convention("macs").total(kinds)
    gaps = {
        operator: ours[operator] - by_operator.get(operator, 0)
        for operator in sorted({*ours, *by_operator})
        if ours[operator] != by_operator.get(operator, 0)
    }
    said = ", ".join(f"{operator} {gap:+,}" for operator, gap in gaps.items())
    return f"{DIFFERS if any(operator in by_operator for operator in gaps) else NAMED}: {said}"


def verdict_on_metadata(counted: Count, params: int, billions: str) -> str:
    """How the count and a library's own metadata agree; its MACs are billions with up to three decimals."""
    found = f"{counted.macs / 1e9:.3f}"
    wrong = [f"unknown {', '.join(sorted(counted.uncounted))}"] if counted.uncounted else []
    wrong += ["parameters"] if counted.params != params else []
    wrong += [f"10^9 MACs {found}"] if float(found) != float(billions) else []
    return f"{DIFFERS}: {'; '.join(wrong)}" if wrong else EXACT


def bytes_by_hooks(model: nn.Module, example: Example) -> int:
    """What a training forward on the CPU keeps for backward, beside parameters, buffers and inputs."""
    there = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers(), *example.tensors)}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(*example.positional, **example.keywords)
    del output
    return sum(storage.nbytes() for key, storage in kept.items() if key not in there)


class HalfWay(Exception):
    """Raised inside somebody's network."""


def given_back_after_failures(model: nn.Module, example: Example) -> dict[str, bool]:
    """Whether the network is as before after calls that fail at its third layer with parameters."""
    calls: list[None] = []

    def stop(*_: Any) -> None:
        calls.append(None)
        if len(calls) >= 3:
            raise HalfWay

    layers = [one for one in model.modules() if one._parameters and not one._modules]
    handles = [one.register_forward_pre_hook(stop) for one in layers]
    before, found = fingerprint(model), {}
    uses: dict[str, Callable[[], object]] = {
        "a failing count": lambda: measure_module(model, example, ("dispatch",)),
        "failing saved bytes": lambda: saved_for_backward(model, example, batch_size=None),
    }
    for name, use in uses.items():
        calls.clear()
        try:
            use()
        except Exception:
            found[name] = fingerprint(model) == before
        else:
            found[name] = len(calls) < 3
    for handle in handles:
        handle.remove()
    return found


def fingerprint(model: nn.Module) -> str:
    """A hash of all that a network holds: every attribute, hook, mode and identity, and every bit of every tensor."""
    digest = hashlib.sha256()
    seen: set[int] = set()

    def add(*words: object) -> None:
        digest.update(repr(words).encode())

    def tensor(value: Tensor) -> None:
        add(value.device.type, value.dtype, tuple(value.shape), value.requires_grad, id(value.grad))
        if value.device.type == "cpu" and value.layout == torch.strided and not value.is_quantized:
            digest.update(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)

    def walk(value: object) -> None:
        add(type(value).__name__)
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes, torch.dtype, torch.device)):
            add(value)
            return
        add(id(value))
        if id(value) in seen or isinstance(value, type):
            return
        seen.add(id(value))
        if isinstance(value, Tensor):
            tensor(value)
        elif isinstance(value, Mapping):
            for key, item in value.items():
                walk(key)
                walk(item)
        elif isinstance(value, (list, tuple)):
            add(len(value))
            for item in value:
                walk(item)
        elif isinstance(value, (set, frozenset)):
            add(sorted(map(id, value)))
        elif isinstance(value, nn.Module) or (hasattr(value, "__dict__") and not callable(value)):
            walk(vars(value))

    walk(model)
    digest.update(torch.get_rng_state().numpy().data)
    return digest.hexdigest()


def first_line(error: Exception) -> str:
    """Of what it says."""
    return (str(error).splitlines() or [""])[0][:160]


# --- torchvision ---------------------------------------------------------------------------------------------------


def torchvision_strangers() -> list[Stranger]:
    """Every entry of its model registry that carries weights, built as for those weights, which are not loaded."""
    import torchvision

    found = []
    for name in torchvision.models.list_models():
        for entry in torchvision.models.get_model_weights(name):
            found.append(_entry(name, entry, wholly=len(found) % 5 == 0))
    return found


def _entry(name: str, entry: WeightsEnum, *, wholly: bool) -> Stranger:
    import torchvision

    builder = torchvision.models.get_model_builder(name)
    room = builder.__module__.split(".")[-2]

    def build() -> nn.Module:
        load, nn.Module.load_state_dict = nn.Module.load_state_dict, lambda *_, **__: None  # type: ignore[assignment]
        fetch, kind = type(entry).get_state_dict, type(entry)
        kind.get_state_dict = lambda *_, **__: {}
        try:
            return builder(weights=entry, **({"quantize": True} if room == "quantization" else {}))
        finally:
            nn.Module.load_state_dict, kind.get_state_dict = load, fetch  # type: ignore[assignment]

    def inputs(_: nn.Module) -> Example:
        # the sizes at which the metadata was made
        sizes = {"detection": (3, 512, 512), "video": (1, 16, 3, 512, 512)}.get(room, (1, 3, 512, 512))
        with torch.device("cpu"):
            image, change = torch.rand(sizes), entry.transforms()
            if room == "optical_flow":
                return Example(tuple(change(image, image)))
            return Example(([change(image)],) if room == "detection" else (change(image),))

    said = entry.meta["num_params"], str(entry.meta["_ops"])
    # quantised weights have no values on the meta device, and the number of boxes depends on values
    on_meta = room not in ("quantization", "detection")
    small = wholly and room == "models" and entry.meta["num_params"] <= 6_000_000
    return Stranger(f"{name} {entry.name}", build, inputs, said, on_meta, small, briefly=not wholly)


# --- timm ----------------------------------------------------------------------------------------------------------


def timm_strangers() -> list[Stranger]:
    """Every name of its registry, at the size of its own configuration."""
    import timm

    def stranger(name: str, place: int) -> Stranger:
        def build() -> nn.Module:
            made: nn.Module = timm.create_model(name, pretrained=False)
            return made

        def inputs(model: Any) -> Example:
            return Example((torch.rand(1, *model.pretrained_cfg["input_size"]),))

        wholly = place % WHOLLY_EVERY == 0
        return Stranger(name, build, inputs, on_meta=True, saved=wholly, briefly=not wholly)

    return [stranger(name, place) for place, name in enumerate(timm.list_models())]


# --- transformers and diffusers ------------------------------------------------------------------------------------

SMALL = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96, "vocab_size": 99,
    "max_position_embeddings": 64,
}  # fmt: skip
TEXT = (
    "albert", "bert", "big_bird", "bloom", "camembert", "codegen", "cohere", "convbert", "ctrl", "deberta",
    "deberta-v2", "distilbert", "electra", "ernie", "falcon", "fnet", "gemma", "gemma2", "glm", "gpt2",
    "gpt_bigcode", "gpt_neo", "gpt_neox", "gptj", "granite", "layoutlm", "llama", "mamba", "megatron-bert", "mistral",
    "mixtral", "mobilebert", "modernbert", "mpnet", "nystromformer", "olmo", "olmo2", "olmoe", "opt", "persimmon",
    "phi", "phi3", "qwen2", "qwen2_moe", "qwen3", "rembert", "roberta", "roformer", "rwkv", "splinter", "squeezebert",
    "stablelm", "starcoder2", "xglm", "xlm-roberta", "yoso",
)  # fmt: skip
TWO_SIDED = ("bart", "blenderbot", "longt5", "m2m_100", "marian", "mbart", "mt5", "pegasus", "t5", "umt5")
IMAGE = (
    "beit", "convnext", "convnextv2", "cvt", "data2vec-vision", "deit", "dinov2", "dpt", "efficientnet", "focalnet",
    "mobilenet_v1", "mobilenet_v2", "mobilevit", "mobilevitv2", "poolformer", "resnet", "swiftformer", "vit",
    "vit_mae", "vit_msn", "yolos",
)  # fmt: skip
SOUND = ("hubert", "sew", "unispeech", "wav2vec2", "wavlm")
OWN_SIZES: dict[str, dict[str, Any]] = {
    "convnext": {"hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 2, 1], "num_hidden_layers": 4},
    "convnextv2": {"hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 2, 1], "num_hidden_layers": 4},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "max_relative_positions": 16},
    "falcon": {"alibi": False},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2},
    "glm": {"head_dim": 16},
    "gemma": {"head_dim": 16, "num_key_value_heads": 1},
    "gemma2": {"head_dim": 16, "num_key_value_heads": 2},
    "mistral": {"num_key_value_heads": 2},
    "qwen2": {"num_key_value_heads": 2},
    "qwen3": {"head_dim": 16, "num_key_value_heads": 2},
    "stablelm": {"num_key_value_heads": 4},
    "mixtral": {"num_local_experts": 4, "num_key_value_heads": 2},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {"num_key_value_heads": 2, "num_experts": 4, "moe_intermediate_size": 32},
    "mobilebert": {"embedding_size": 32, "intra_bottleneck_size": 32, "true_hidden_size": 32},
    "gptj": {"rotary_dim": 8},
    "codegen": {"rotary_dim": 8},
    "resnet": {"embedding_size": 16, "hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 1, 1]},
    "squeezebert": {"embedding_size": 64},
}
"""Besides the small sizes, where a configuration calls its sizes otherwise."""


def transformers_strangers() -> list[Stranger]:
    """A small configuration of each kind, from ``AutoConfig`` and ``AutoModel``."""

    def stranger(kind: str, inputs: Callable[[Any], Example]) -> Stranger:
        def build() -> nn.Module:
            from transformers import AutoConfig, AutoModel

            return AutoModel.from_config(AutoConfig.for_model(kind, **{**SMALL, **sizes, **OWN_SIZES.get(kind, {})}))

        sizes: dict[str, Any] = {"image_size": 64} if kind in IMAGE else {"pad_token_id": 0}
        if kind in TWO_SIDED:
            sizes |= {"d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
                      "decoder_attention_heads": 4, "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "num_layers": 2,
                      "num_heads": 4, "d_ff": 96, "d_kv": 16, "decoder_start_token_id": 0}  # fmt: skip
        return Stranger(kind, build, inputs, saved=True)

    def words(_: Any) -> Example:
        return Example((), {"input_ids": torch.arange(2 * 16).reshape(2, 16) % 90 + 3})

    def both(_: Any) -> Example:
        ids = torch.arange(2 * 16).reshape(2, 16) % 90 + 3
        return Example((), {"input_ids": ids, "decoder_input_ids": ids[:, :8].contiguous()})

    def images(model: Any) -> Example:
        size = getattr(model.config, "image_size", 64)
        return Example((torch.rand(2, 3, *((size, size) if isinstance(size, int) else size)),))

    def sound(_: Any) -> Example:
        return Example((torch.rand(1, 4000),))

    rows = ((TEXT, words), (TWO_SIDED, both), (IMAGE, images), (SOUND, sound))
    return sorted((stranger(kind, inputs) for kinds, inputs in rows for kind in kinds), key=lambda one: one.name)


BLOCKS: dict[str, Any] = {"block_out_channels": (16, 32), "norm_num_groups": 8}
DIFFUSION: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "AutoencoderKL": (
        {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2, **BLOCKS},
        {"sample": (1, 3, 32, 32)},
    ),
    "AutoencoderTiny": (
        {"encoder_block_out_channels": (16, 16), "decoder_block_out_channels": (16, 16), "num_encoder_blocks": (1, 1),
         "num_decoder_blocks": (1, 1)},
        {"sample": (1, 3, 32, 32)},
    ),
    "ControlNetModel": (
        {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "cross_attention_dim": 24,
         "attention_head_dim": 8, "conditioning_embedding_out_channels": (8, 16), **BLOCKS},
        {"sample": (1, 4, 16, 16), "timestep": 7, "encoder_hidden_states": (1, 5, 24),
         "controlnet_cond": (1, 3, 32, 32)},
    ),
    "DiTTransformer2DModel": (
        {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 2, "sample_size": 8, "in_channels": 4,
         "out_channels": 8},
        {"hidden_states": (1, 4, 8, 8), "timestep": [7], "class_labels": [3]},
    ),
    "FluxTransformer2DModel": (
        {"in_channels": 8, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16,
         "num_attention_heads": 2, "joint_attention_dim": 24, "pooled_projection_dim": 24, "axes_dims_rope": (4, 6, 6)},
        {"hidden_states": (1, 16, 8), "encoder_hidden_states": (1, 5, 24), "pooled_projections": (1, 24),
         "timestep": (1,), "img_ids": (16, 3), "txt_ids": (5, 3)},
    ),
    "PixArtTransformer2DModel": (
        {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 2, "sample_size": 8, "caption_channels": 24,
         "cross_attention_dim": 32, "use_additional_conditions": False},
        {"hidden_states": (1, 4, 8, 8), "encoder_hidden_states": (1, 5, 24), "timestep": [7],
         "added_cond_kwargs": {"resolution": None, "aspect_ratio": None}},
    ),
    "SD3Transformer2DModel": (
        {"sample_size": 8, "num_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2,
         "joint_attention_dim": 24, "caption_projection_dim": 32, "pooled_projection_dim": 24, "in_channels": 4,
         "out_channels": 4, "pos_embed_max_size": 8},
        {"hidden_states": (1, 4, 8, 8), "encoder_hidden_states": (1, 5, 24), "pooled_projections": (1, 24),
         "timestep": [7]},
    ),
    "UNet1DModel": (
        {"in_channels": 4, "out_channels": 4, "extra_in_channels": 64, "block_out_channels": (32, 32),
         "down_block_types": ("DownBlock1DNoSkip", "AttnDownBlock1D"),
         "up_block_types": ("AttnUpBlock1D", "UpBlock1DNoSkip")},
        {"sample": (1, 4, 64), "timestep": [7]},
    ),
    "UNet2DModel": (
        {"sample_size": 16, "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
         "up_block_types": ("AttnUpBlock2D", "UpBlock2D"), "attention_head_dim": 8, **BLOCKS},
        {"sample": (1, 3, 16, 16), "timestep": 7},
    ),
    "UNet2DConditionModel": (
        {"sample_size": 16, "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
         "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "cross_attention_dim": 24, "attention_head_dim": 8,
         **BLOCKS},
        {"sample": (1, 4, 16, 16), "timestep": 7, "encoder_hidden_states": (1, 5, 24)},
    ),
    "UNet3DConditionModel": (
        {"sample_size": 16, "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
         "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"), "cross_attention_dim": 24, "attention_head_dim": 8,
         **BLOCKS},
        {"sample": (1, 4, 4, 16, 16), "timestep": 7, "encoder_hidden_states": (1, 5, 24)},
    ),
    "VQModel": (
        {"block_out_channels": (16,), "norm_num_groups": 8, "num_vq_embeddings": 32},
        {"sample": (1, 3, 16, 16)},
    ),
}  # fmt: skip
"""Small sizes and inputs by class: a tuple is a tensor's shape, a list its whole numbers."""


def diffusers_strangers() -> list[Stranger]:
    """The denoisers and autoencoders of diffusion pipelines."""

    def made(value: Any) -> Any:
        if isinstance(value, tuple):
            return torch.rand(value)
        return torch.tensor(value) if isinstance(value, list) else value

    def stranger(name: str) -> Stranger:
        def build() -> nn.Module:
            import diffusers

            network: nn.Module = getattr(diffusers, name)(**DIFFUSION[name][0])
            return network

        return Stranger(
            name, build, lambda _: Example((), {k: made(v) for k, v in DIFFUSION[name][1].items()}), saved=True
        )

    return [stranger(name) for name in sorted(DIFFUSION)]


# --- escnn ---------------------------------------------------------------------------------------------------------


def escnn_strangers() -> list[Stranger]:
    """Steerable networks as its introduction builds them: fresh, evaluated, and after a training step."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from escnn import gspaces
        from escnn import nn as steerable

    spaces = {
        "C4": lambda: gspaces.rot2dOnR2(4),
        "C8": lambda: gspaces.rot2dOnR2(8),
        "D4": lambda: gspaces.flipRot2dOnR2(4),
        "D8": lambda: gspaces.flipRot2dOnR2(8),
    }

    class Network(nn.Module):
        def __init__(self, space: Any) -> None:
            super().__init__()
            self.given = steerable.FieldType(space, [space.trivial_repr])
            one, two = (steerable.FieldType(space, n * [space.regular_repr]) for n in (3, 4))
            self.body = steerable.SequentialModule(
                steerable.R2Conv(self.given, one, kernel_size=7, padding=1, bias=False),
                steerable.InnerBatchNorm(one),
                steerable.ReLU(one),
                steerable.R2Conv(one, two, kernel_size=5, padding=2, bias=False),
                steerable.InnerBatchNorm(two),
                steerable.ReLU(two),
                steerable.PointwiseAvgPoolAntialiased(two, sigma=0.66, stride=2),
                steerable.GroupPooling(two),
            )
            self.head = nn.Linear(4, 10)

        def forward(self, images: Tensor) -> Tensor:
            features = self.body(steerable.GeometricTensor(images, self.given)).tensor
            return self.head(features.mean((2, 3)))

    def stranger(name: str, state: str) -> Stranger:
        def build() -> nn.Module:
            model = Network(spaces[name]())
            if state == "trained":
                model(torch.rand(2, 1, 29, 29)).sum().backward()
                torch.optim.SGD(model.parameters(), 0.01).step()
            return model

        return Stranger(f"{name} {state}", build, lambda _: Example((torch.rand(2, 1, 29, 29),)), saved=True)

    return [stranger(name, state) for name in spaces for state in ("fresh", "trained")]


# --- running them --------------------------------------------------------------------------------------------------

KNOWN_DIFFERENCES = (
    (
        "torchvision",
        "quantized_inception_v3 *",
        "parameters",
        "the metadata is that of the network before its norms were folded in, with its auxiliary head",
    ),
    ("torchvision", "quantized_*", "parameters", "the metadata is that of the network before its norms were folded in"),
    ("torchvision", "*rcnn*", "10^9 MACs *", "without trained weights another number of boxes is left over"),
)
"""Library, network and verdict as patterns, and the reason."""


def name_known(library: str, row: Row) -> None:
    """Put the reason in place of a verdict that is known."""
    for one, name, said, reason in KNOWN_DIFFERENCES:
        if one == library and fnmatchcase(row["name"], name) and fnmatchcase(row["verdict"], f"{DIFFERS}: {said}"):
            row["verdict"] = f"{KNOWN}: {row['verdict'].partition(': ')[2]} ({reason})"


def run(library: str, strangers: Sequence[Stranger], cache: Path, most_s: float = math.inf) -> dict[str, Row]:
    """Rows by name: those in the cache, and those of the others that are done before the time is over."""
    done, begun_s = read(cache), time.monotonic()
    # in an order in which a run that is stopped leaves rows of all of them
    spread = sorted(range(len(strangers)), key=lambda place: (place % WHOLLY_EVERY, place))
    waiting = [strangers[place] for place in spread if strangers[place].name not in done]
    with cache.open("a", encoding="utf-8") as lines:
        for place, one in enumerate(waiting, 1):
            if time.monotonic() - begun_s > most_s:
                break
            begun = time.process_time()
            try:
                row = examine(one)
            except Exception as error:
                row = {"name": one.name, "verdict": f"{FAILED}: {type(error).__name__}: {first_line(error)}"}
            done[one.name] = row
            lines.write(json.dumps(row) + "\n")
            lines.flush()
            spent = time.process_time() - begun
            said = f"{row['verdict']}, as found: {row.get('as_found', '-')}"
            sys.stderr.write(f"{library} {place}/{len(waiting)} {one.name}: {said} ({spent:.1f} s)\n")
    return {one.name: done[one.name] for one in strangers if one.name in done}


def read(cache: Path) -> dict[str, Row]:
    """Rows by name; a network that failed, or whose line was cut off, is run again."""
    rows: dict[str, Row] = {}
    for line in cache.read_text(encoding="utf-8").splitlines() if cache.exists() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        rows[row["name"]] = row
    # what failed is tried again
    return {name: row for name, row in rows.items() if not row["verdict"].startswith(FAILED)}


def summary(library: str, listed: int, rows: Iterable[Row]) -> Row:
    """How many networks have which verdict."""
    rows = list(rows)
    kinds = Counter(row["verdict"].partition(":")[0] for row in rows)
    saved = [row for row in rows if row.get("saved_bytes_hooks") is not None]
    return {
        "library": library, "listed": listed, "run": len(rows), "exact": kinds[EXACT], "named": kinds[NAMED],
        "known": kinds[KNOWN], "counted": kinds[COUNTED], "differ": kinds[DIFFERS], "failed": kinds[FAILED],
        "as_found": sum(row.get("as_found") == "yes" for row in rows), "saved_run": len(saved),
        "saved_exact": sum(row["saved_bytes"] == row["saved_bytes_hooks"] for row in saved),
    }  # fmt: skip


def write(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """A table as CSV, sorted by its first column."""
    with path.open("w", encoding="utf-8", newline="") as lines:
        table = csv.DictWriter(lines, columns, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(sorted(rows, key=lambda row: str(row[columns[0]])))


def write_readme(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """What the tables say, with the versions that each was made with."""
    lines = ["| " + " | ".join(SUMMARY) + " |", "|" + "---|" * len(SUMMARY)]
    lines += ["| " + " | ".join(str(row[name]) for name in SUMMARY) + " |" for row in rows]
    text = README.format(minutes=MINUTES, table="\n".join(lines), every=WHOLLY_EVERY)
    (folder / "README.md").write_text(text, encoding="utf-8")


README = """# Networks that were written elsewhere

`make strangers` writes these tables: {minutes}. The last column has the versions that a table was made with.

{table}

One file per library, one row per network. *listed* is what the library offers or the script asks for, *run* is what the
rows are of. *exact*: parameters and MACs are those of the second opinion. *named*: the MACs differ by operators without
a formula in it, which the row lists. *known*: the reason is in the row. *as_found*: the network is, bit for bit, as
before after every call, also after those that fail half way. *saved_exact*: predicted bytes are those of the hooks.
The second opinion is torchvision's own metadata, and elsewhere the network's own tensors and PyTorch's
`FlopCounterMode`, halved.

Every {every}th name of timm and every fifth entry of torchvision is asked everything. The others are counted alone;
where no metadata says their MACs, *counted* says that every operator is known and the parameters are those of the
network's own tensors.

A table keeps its figures until its library is run again, also where the program was repaired since.
"""


def main() -> None:
    """Run what is asked for, and write its tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=LIBRARIES, default=LIBRARIES, help="libraries")
    parser.add_argument("--limit", type=int, help="at most so many networks of each library, evenly spread")
    parser.add_argument("--minutes", type=float, default=math.inf, help="at most so many for each library")
    parser.add_argument("--fresh", action="store_true", help="run finished networks again")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "e4profile-strangers")
    parser.add_argument("--out", type=Path, help="write the tables into this folder; otherwise they are not written")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    chosen.cache.mkdir(parents=True, exist_ok=True)
    summaries: dict[str, Row] = {}
    if chosen.out:
        chosen.out.mkdir(parents=True, exist_ok=True)
        if (chosen.out / "summary.csv").exists():
            with (chosen.out / "summary.csv").open(encoding="utf-8", newline="") as lines:
                summaries = {row["library"]: dict(row) for row in csv.DictReader(lines)}
    bad = False
    for library in chosen.only:
        listed: list[Stranger] = globals()[f"{library}_strangers"]()
        cache = chosen.cache / f"{library}-{version(library)}-torch-{torch.__version__}.jsonl"
        if chosen.fresh:
            cache.unlink(missing_ok=True)
        step = 1 if not chosen.limit else -(-len(listed) // chosen.limit)
        rows = run(library, listed[::step], cache, 60 * chosen.minutes)
        for row in rows.values():
            name_known(library, row)
        found = summaries[library] = summary(library, len(listed), rows.values())
        found["made_with"] = f"torch {torch.__version__}, {library} {version(library)}"
        sys.stdout.write(", ".join(f"{name} {found[name]}" for name in SUMMARY) + "\n")
        bad |= bool(found["differ"] or found["failed"]) or found["as_found"] != found["run"]
        if chosen.out:
            write(chosen.out / f"{library}.csv", COLUMNS, rows.values())
            write(chosen.out / "summary.csv", SUMMARY, summaries.values())
            write_readme(chosen.out, [summaries[name] for name in LIBRARIES if name in summaries])
    sys.exit(bad)


if __name__ == "__main__":
    main()
