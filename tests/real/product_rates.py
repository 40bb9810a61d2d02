"""Products of 4-bit weights: with one row, as a step of decoding has hundreds, or with the rows of a prompt.

    python tests/real/product_rates.py [--shapes KxN ...] [--megabytes N ...] [--rows N] [--threads N]

Products of one shape, each with weights of its own, one after another: as many as the megabytes hold.  A
table, the read bandwidth over as many bytes, and a last line of JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import ModelProto, TensorProto, helper

from runtime.machine.bandwidth import read_bandwidth

RUNS = 15
BLOCKS = (16, 32, 64, 128, 256)  # that onnxruntime knows


def main() -> int:
    parser = argparse.ArgumentParser(description="Rates of 4-bit products, from caches and from memory.")
    parser.add_argument("--shapes", nargs="+", type=shape, default=[(1536, 12288), (2560, 10240)], metavar="KxN")
    parser.add_argument(
        "--megabytes", nargs="+", type=count, default=[40, 200, 800], metavar="N", help="of all weights"
    )
    parser.add_argument("--block", type=int, default=128, choices=BLOCKS, help="weights of one scale (default: 128)")
    parser.add_argument("--rows", type=count, default=1, metavar="N", help="of the other factor (default: 1, a step)")
    parser.add_argument("--threads", type=count, default=2, metavar="N", help="default: %(default)s")
    args = parser.parse_args()
    settings = (args.rows, args.block, args.threads)
    rates = [rate(k, n, size, *settings) for k, n in args.shapes for size in args.megabytes]
    print(json.dumps({"rows": args.rows, "block": args.block, "threads": args.threads, "rates": rates}))
    return 0


def shape(text: str) -> tuple[int, int]:
    """Inputs and outputs of a matrix.  Raises ArgumentTypeError for anything but two numbers from 1 up."""
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r}: not two numbers from 1 up, as in 1536x12288")
    return int(found[1]), int(found[2])


def count(text: str) -> int:
    """Raises ArgumentTypeError for anything but a number from 1 up."""
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r}: not a number from 1 up")
    return int(text)


def rate(inputs: int, outputs: int, megabytes: int, rows: int, block: int, threads: int) -> dict[str, float | str]:
    size = inputs * outputs // 2  # bytes of one matrix
    copies = max(1, megabytes * 10**6 // size)
    taken = seconds(products(inputs, outputs, block, copies, rows), (rows, inputs), threads)
    reads, multiplies = size * copies / taken, rows * inputs * outputs * copies / taken
    limit = read_bandwidth(threads, size * copies)
    name = f"{inputs}x{outputs}"
    told = f"{reads / 1e9:5.1f} GB/s of {limit / 1e9:5.1f} read, {multiplies / 1e9:5.0f} billion multiplications/s"
    print(f"{name:>12} {size * copies / 1e6:6.0f} MB: {told}", flush=True)
    found = {"bytes_s": round(reads), "read_bytes_s": round(limit), "multiplications_s": round(multiplies)}
    return {"shape": name, "bytes": size * copies, **found}


def products(inputs: int, outputs: int, block: int, copies: int, rows: int) -> ModelProto:
    """`copies` matrices of [outputs, inputs] in 4 bits, each times [rows, inputs]."""
    rng, blocks = np.random.default_rng(0), -(-inputs // block)
    nodes, weights = [], []
    for number in range(copies):
        packed = rng.integers(0, 256, outputs * blocks * block // 2, dtype=np.uint8)
        scales = np.full(outputs * blocks, 0.01, np.float32)
        sizes = [outputs, blocks, block // 2]
        weights += [helper.make_tensor(f"w{number}", TensorProto.UINT8, sizes, packed.tobytes(), raw=True)]
        weights += [helper.make_tensor(f"s{number}", TensorProto.FLOAT, sizes[:2], scales.tobytes(), raw=True)]
        names, output = ["x", f"w{number}", f"s{number}"], [f"y{number}"]
        kinds: dict[str, Any] = {"K": inputs, "N": outputs, "bits": 4, "block_size": block, "accuracy_level": 4}
        nodes += [helper.make_node("MatMulNBits", names, output, domain="com.microsoft", **kinds)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, inputs])
    ys = [helper.make_tensor_value_info(f"y{number}", TensorProto.FLOAT, [rows, outputs]) for number in range(copies)]
    graph = helper.make_graph(nodes, "products", [x], ys, weights)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def seconds(model: ModelProto, shape: tuple[int, int], threads: int) -> float:
    """The median of a call that computes all products."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    taken = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        session.run(None, {"x": x})
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


if __name__ == "__main__":
    raise SystemExit(main())
