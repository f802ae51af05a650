"""Time the decoder's output layer in all the ways that the engine has: compiled, packed, bfloat16, int8, and some
of its rows.

    OMP_NUM_THREADS=1 .venv/bin/python scripts/measure_output_layer.py --threads 1

One step of one utterance: ``--beam`` rows of ``--width`` against ``--tokens`` outputs.  The ways take turns, on random
weights and inputs whose logits have a standard deviation of 4, about that of trained models.  Prints milliseconds of
the fastest and the median run, the greatest difference of a log-probability from float32's, and how many cores other
processes kept busy meanwhile.
"""

import argparse
import statistics
import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechgate.bench.machine import Crowding
from speechgate.decoding.search.compiled import CompiledLinear, can_compile
from speechgate.decoding.search.int8 import Int8Linear, can_quantise
from speechgate.decoding.search.linear import Linear, can_pack
from speechgate.decoding.search.output import Output

SHARPNESS = 4.0


def ways_of(linear: Linear, rows: int) -> dict[str, Output]:
    """Each way to compute the layer, the float32 one first; with ``rows`` of its outputs where the name says so."""
    packed = Output(linear.pack(torch.float32))
    ways = {"F.linear": Output(linear), "packed": packed}
    if can_compile(linear.weight):
        ways["compiled"] = Output(CompiledLinear.of(linear))
    if can_pack(linear.weight, torch.bfloat16):
        ways["packed, bfloat16"] = Output(linear.pack(torch.bfloat16))
    if can_quantise(linear.weight):
        ways["int8"] = Output(Int8Linear.of(linear))
    few = torch.randperm(len(packed))[:rows].tolist()
    return ways | {f"{name}, {rows} rows": way.only(few) for name, way in ways.items() if name != "F.linear"}


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--tokens", type=int, default=50_002)
    parser.add_argument("--rows", type=int, default=5_000, help="tokens of one language")
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    layer = nn.Linear(options.width, options.tokens)
    nn.init.normal_(layer.weight, std=SHARPNESS / options.width**0.5)
    x, ways = torch.randn(options.beam, options.width), ways_of(Linear.of(layer), options.rows)
    milliseconds: dict[str, list[float]] = {name: [] for name in ways}
    crowding = Crowding(options.threads)
    crowding.begin()
    for _ in range(options.repeats):
        for name, way in ways.items():
            started = time.perf_counter()
            way(x)
            milliseconds[name].append((time.perf_counter() - started) * 1e3)
    crowding.crowded()
    expected = layer(x)
    print(f"{options.beam} x {options.width} by {options.width} x {options.tokens}, {options.threads} threads")
    for name, way in ways.items():
        fastest, median = min(milliseconds[name]), statistics.median(milliseconds[name])
        print(f"{name:30} {fastest:7.3f} {median:7.3f} ms   difference {_difference(way, x, expected):.4f}")
    print(f"cores that other processes kept busy: {crowding.summary['median_cores_of_others']:.1f}")


def _difference(way: Output, x: Tensor, expected: Tensor) -> float:
    kept = expected if way.ids_R is None else expected[:, way.ids_R]
    return float((F.log_softmax(way(x), -1) - F.log_softmax(kept, -1)).abs().max())


if __name__ == "__main__":
    main()
