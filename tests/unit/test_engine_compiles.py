"""Every kernel compiles for a Hopper GPU at TinyLlama's shape, on a machine without one: to the last step, ptxas."""

from __future__ import annotations

import os
import subprocess
import sys

# In a process of its own: in this one the kernels are interpreted.
COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from worker.engine import programs
from worker.engine.fused import ADDED_FP8, GATED, GATED_FP8, Fused
from worker.engine.kernels import ATTEND, ENDS

SHAPE = {"HEADS": 32, "KEY_HEADS": 4, "GROUP_BLOCK": 8, "HALF": 32, "HALF_BLOCK": 32}
FLOATS = {name: "*fp32" for name in ("scales", "scale", "most", "shared", "cosine", "sine", "levels", "gain")}
KNOWN = FLOATS | {
    "qkv": "*bf16", "query": "*bf16", "key_value": "*bf16", "gate_up": "*bf16", "hidden": "*bf16", "update": "*bf16",
    "starts": "*i32", "ends": "*i32", "factor": "fp32", "softness": "fp32", "epsilon": "fp32", "reach": "i32",
    "values": "*bf16", "count": "i32", "total": "i32", "codes": "*u8", "out": "*bf16",
}

def compile(kernel, constants, options, **types):
    signature = {name: "constexpr" if name in constants else (KNOWN | types)[name] for name in kernel.arg_names}
    source = ASTSource(kernel, signature=signature, constexprs=constants, attrs={})
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    assert made.metadata.shared <= 232_448, (kernel.__name__, made.metadata.shared)
    assert ".local" not in made.asm["ptx"]
    print(kernel.__name__)

def split(sizes):
    options = {name: value for name, value in sizes.items() if name.islower()}
    return {name: value for name, value in sizes.items() if name.isupper()}, options

sizes, options = split(ATTEND)
for is_fp8 in (False, True):
    flags = {"HAS_SCALE": not is_fp8, "HAS_SHARED": True, "IS_FP8": is_fp8}
    compile(programs.attend, SHAPE | sizes | flags, options, out="*fp8e4nv" if is_fp8 else "*bf16")
sizes, options = split(ENDS)
compile(programs.attend_ends, SHAPE | sizes | {"ROWS": 16, "HAS_SHARED": True}, options)
compile(programs.row_scale, {"WIDTH": 2048, "BLOCK": 2048}, {"num_warps": 4})
compile(programs.swiglu, {"INNER": 5632, "STRIPE": 128, "BLOCK": 1024}, {"num_warps": 4})
compile(programs.swiglu_fp8, {"INNER": 5632, "STRIPE": 128, "BLOCK": 8192}, {"num_warps": 8}, out="*fp8e4nv")
norm = {"WIDTH": 2048, "BLOCK": 2048, "HAS_UPDATE": True, "HAS_SCALE": True}
compile(programs.add_norm_fp8, norm, {"num_warps": 4}, out="*fp8e4nv")
compile(programs.dequantise, {"WIDTH": 2048, "BLOCKS": 32, "HAS_GAIN": True}, {"num_warps": 4})
compile(programs.quantise, {"WIDTH": 5632, "BLOCK": 2048}, {"num_warps": 4}, out="*fp8e4nv")

def tile(kind, *sizes):
    return f"tensordesc<{kind}{list(sizes)}>".replace(" ", "")

for is_fp8, ways in ((False, GATED), (True, GATED_FP8)):
    for way in (way for way in ways if isinstance(way, Fused)):
        constants = {"INNER": 5632, "WIDTH": 2048, "TILE": way.tile, "STRIPE": way.wide // 2, "DEPTH": way.depth}
        constants |= {"GROUP": way.group, "IS_FP8": is_fp8}
        kind = "fp8e4nv" if is_fp8 else "bf16"
        described = {"rows": tile(kind, way.tile, way.depth), "weights": tile(kind, way.wide, way.depth)}
        options = {"num_warps": way.warps, "num_stages": way.stages}
        compile(programs.gated, constants, options, out=tile("bf16", way.tile, way.wide // 2), **described)
for way in (way for way in ADDED_FP8 if isinstance(way, Fused)):
    constants = {"WIDTH": 2048, "DEEP": 5632, "TILE": way.tile, "WIDE": way.wide, "DEPTH": way.depth}
    constants |= {"GROUP": way.group, "HAS_SCALES": True}
    described = {"left": tile("fp8e4nv", way.tile, way.depth), "right": tile("fp8e4nv", way.wide, way.depth)}
    compile(programs.add_product_fp8, constants, {"num_warps": way.warps, "num_stages": way.stages}, **described)
"""


def test_every_kernel_compiles_for_hopper_within_its_shared_memory_and_without_spilling() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}

    done = subprocess.run(
        [sys.executable, "-c", COMPILE], capture_output=True, text=True, env=environment, timeout=250, check=False
    )

    assert done.returncode == 0, done.stderr[-3000:]
    compiled = set(done.stdout.split())
    assert compiled == {
        "attend", "attend_ends", "row_scale", "swiglu", "swiglu_fp8", "add_norm_fp8", "dequantise", "gated",
        "quantise", "add_product_fp8",
    }  # fmt: skip
