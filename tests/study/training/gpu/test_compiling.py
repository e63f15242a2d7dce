"""Triton compiles every kernel for an H100, also where there is none: its interpreter takes what a compiler may not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMPILE = """
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from cifar_ablations.study.training.gpu import blocks, fleet_draws, gather, loss, update

HALF, FULL, BYTES, WHOLE, LONG, INT = "*bf16", "*fp32", "*u8", "*i32", "*i64", "i32"
PLACE = {"positions": INT, "height": INT, "width": INT, "channels": INT}
SIZES = {"ROWS": 32, "COLUMNS": 64}
FIRST = {**SIZES, "FACTOR": tl.bfloat16}
KERNELS = [
    (blocks._pool, {"x": HALF, "bias": FULL, "y": HALF, "choices": BYTES, **PLACE}, {"RELU": True, **SIZES}),
    (blocks._unpool, {"gradient": HALF, "choices": BYTES, "found": HALF, "sums": FULL, **PLACE, "rounds": INT}, SIZES),
    (
        blocks._convolve,
        {"x": FULL, "weight": HALF, "bias": FULL, "y": HALF, "choices": BYTES, **PLACE},
        {"RELU": True, **FIRST},
    ),
    (
        blocks._correlate,
        {"x": FULL, "gradient": HALF, "choices": BYTES, "sums": FULL, **PLACE, "rounds": INT},
        FIRST,
    ),
    (
        blocks._sum,
        {"sums": FULL, "of_bias": FULL, "of_weight": HALF, "rows": INT, "channels": INT},
        {"TAPS": 28, "ROWS": 128, "COLUMNS": 16},
    ),
    (gather._copy, {**dict.fromkeys("abcdefghijkl", HALF), "table": LONG, "row": FULL}, {"BLOCK": 2048}),
    (
        loss._losses,
        {"logits": HALF, "targets": FULL, "losses": FULL, "gradient": HALF, "batch": INT, "classes": INT},
        {"ROWS": 16, "COLUMNS": 16},
    ),
    (
        update._step,
        {name: FULL for name in update._step.arg_names}
        | {"number": LONG, "rows": INT, "size": INT, "adaptive": INT},
        {"CLIPPED": True, "BLOCK": 2048},
    ),
    (fleet_draws._uniform, {"keys": WHOLE, "table": LONG, "found": FULL}, {"BLOCK": 1024}),
]
for kernel, types, constants in KERNELS:
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else types[name] for name in names}
    source = ASTSource(kernel, signature, {(names.index(name),): value for name, value in constants.items()})
    print(kernel.__name__, len(triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]))
"""


@pytest.mark.exhaustive
def test_every_kernel_compiles(tmp_path: Path) -> None:
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    compiled = dict(line.split() for line in done.stdout.splitlines())
    assert len(compiled) == 9
    assert all(int(size) > 1_000 for size in compiled.values())
