from __future__ import annotations

import getpass
import json
import os
import platform
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from e4profile.witnesses import environment as module
from e4profile.witnesses.environment import environment, same_environment

CUDA_KEYS = {
    *("device_multiprocessors", "device_memory_bytes", "cuda", "driver", "cudnn", "cudnn_enabled"),
    *("cudnn_benchmark", "cudnn_deterministic", "tf32_matmul", "tf32_cudnn"),
}


def test_it_is_json_and_tells_what_runs() -> None:
    found = environment()
    assert json.loads(json.dumps(found)) == found
    assert found["torch"] == str(torch.__version__)
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["machine"] == platform.machine()
    assert found["cpu"]
    assert CUDA_KEYS & set(found) == (CUDA_KEYS if torch.cuda.is_available() else set())


def test_it_follows_the_settings() -> None:
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    try:
        torch.set_num_threads(3)
        torch.set_default_dtype(torch.float64)
        found = environment()
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
    assert (found["threads"], found["default_dtype"]) == (3, "float64")
    assert same_environment(found, environment()) == (
        ["default_dtype", "threads"] if threads != 3 else ["default_dtype"]
    )


def test_asking_twice_gives_the_same() -> None:
    assert same_environment(environment(), environment()) == []


def test_it_names_no_host_user_or_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_CONF", "prof_prefix:/home/someone/prof,narenas:2")
    monkeypatch.setenv("MALLOC_TRACE", "~someone/trace.log")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True,max_split_size_mb:128")
    monkeypatch.setenv("LD_PRELOAD", "")
    found = environment()
    assert found["allocator"] == {
        "MALLOC_ARENA_MAX": "2",
        "MALLOC_CONF": "prof_prefix:<path>,narenas:2",
        "MALLOC_TRACE": "<path>",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True,max_split_size_mb:128",
    }
    text = json.dumps(found)
    assert "someone" not in text
    private = [socket.gethostname(), str(Path.home()), os.getcwd(), sys.prefix, getpass.getuser()]
    words = set(re.split(r"[^\w./-]+", text))
    assert not [name for name in private if name in words or (len(name) > 8 and name in text)]


def test_a_preloaded_allocator_is_told_by_name() -> None:
    found = module._allocator({"LD_PRELOAD": "/home/someone/lib/libjemalloc.so.2:/x/other.so", "PATH": "/bin"})
    assert found == {"preloaded": "jemalloc"}


def test_differences_that_matter_are_named() -> None:
    a = {"e4profile": "1", "cpu": "x", "threads": 1, "same": {"a": 1}}
    b = {"e4profile": "2", "cpu": "y", "same": {"a": 1}, "extra": None}
    assert same_environment(a, b) == same_environment(b, a) == ["cpu", "extra", "threads"]
    assert same_environment({"e4profile": "1"}, {"e4profile": "2"}) == []


@pytest.mark.parametrize(
    ("text", "driver"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n", "535.104.05"),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (a@b)  Thu\n"
            "GCC version:  gcc version 13.3.0\n",
            "570.86.15",
        ),
        ("something else\n", None),
    ],
)
def test_the_driver_version_as_the_kernel_tells_it(tmp_path: Path, text: str, driver: str | None) -> None:
    (tmp_path / "version").write_text(text)
    assert module._driver_version(tmp_path / "version") == driver
    assert module._driver_version(tmp_path / "none") is None


def test_the_cpu_model_and_its_fallback(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU @ 2.1GHz \nmodel\t: 3\n")
    assert module._cpu_model(tmp_path / "cpuinfo") == "Some CPU @ 2.1GHz"
    assert module._cpu_model(tmp_path / "none") == (platform.processor() or platform.machine())


TF32 = """
import torch
from e4profile.witnesses.environment import _tf32
for flags in ((True, False), (False, True)):
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = flags
    assert tuple(_tf32().values()) == flags, (flags, _tf32())
if hasattr(torch.backends.cuda.matmul, "fp32_precision"):
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    assert _tf32() == {"tf32_matmul": True, "tf32_cudnn": False}
"""


def test_tf32_is_read_however_it_was_set() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", TF32], check=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_the_device() -> None:
    found = environment()
    assert found["device"] == torch.cuda.get_device_name()
    assert found["cuda"] == torch.version.cuda
    before = torch.backends.cuda.matmul.allow_tf32
    try:
        torch.backends.cuda.matmul.allow_tf32 = not before
        assert same_environment(found, environment()) == ["tf32_matmul"]
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def test_importing_it_does_not_load_torch() -> None:
    code = "import sys, e4profile.witnesses.environment; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
