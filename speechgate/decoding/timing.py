"""Time of a gated model against the dense one: the same audio, the same number of output tokens, turn by turn.

The two take turns on the same batch, so that other load on the machine falls on both; the ratio is that of medians.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from lhotse.cut import Cut
from rich.progress import track

from speechgate.data.batch import load_audio, pad_speech
from speechgate.data.vectors import load_vectors
from speechgate.decoding.engine import Engine
from speechgate.decoding.execution import DEFAULT, Execution
from speechgate.decoding.search import SearchOptions
from speechgate.gates.allocation import spread_dither
from speechgate.gates.context import Context
from speechgate.model.checkpoint import Checkpoint
from speechgate.task import Task
from speechgate.text.vocabulary import Vocabulary

UTTERANCES = 8  # a task, of median length
STEPS = 40  # output tokens of each
REPEATS = 5


def times_against_dense(
    gated: Checkpoint,
    dense: Checkpoint,
    examples: Sequence[Cut],
    options: SearchOptions,
    execution: Execution = DEFAULT,
    vocabulary: Vocabulary | None = None,
    label: str = "timing beside dense",
) -> dict[str, float]:
    """Seconds with ``gated`` over seconds with ``dense`` for each task: whole inference of one batch of waveforms."""
    fixed = replace(options, fixed_steps=STEPS, max_length_ratio=0.0, min_length_ratio=0.0)
    engines = [Engine(checkpoint, fixed, execution, vocabulary) for checkpoint in (gated, dense)]
    ratios = {}
    for task in track(sorted({cut.custom["task"] for cut in examples}), label):
        cuts = sorted((cut for cut in examples if cut.custom["task"] == task), key=lambda cut: cut.duration)
        middle = max(0, (len(cuts) - UTTERANCES) // 2)
        chosen = cuts[middle : middle + UTTERANCES]
        speech_BN, lengths_B = pad_speech([load_audio(cut) for cut in chosen], gated.config.min_seconds)
        tasks = [Task.parse(task)] * len(chosen)
        vectors = load_vectors(chosen, {} if gated.gates is None else gated.gates.vectors)
        context = Context(tasks, vectors, spread_dither(torch.arange(len(chosen))))
        seconds: list[list[float]] = [[], []]
        for repeat in range(REPEATS + 1):
            for engine, taken in zip(engines, seconds, strict=True):
                spent = seconds_of(engine, speech_BN, lengths_B, tasks, context)
                if repeat:  # the first warms up
                    taken.append(spent)
        ratios[task] = statistics.median(seconds[0]) / statistics.median(seconds[1])
    return ratios


def seconds_of(
    engine: Engine,
    speech_BN: torch.Tensor,
    lengths_B: torch.Tensor,
    tasks: Sequence[Task],
    context: Context | None = None,
) -> float:
    """Wall-clock seconds of one batch, the device synchronised before and after."""
    device = next(engine.model.parameters()).device
    speech_BN = speech_BN.to(device)
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    engine.decode(speech_BN, lengths_B, tasks, context)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started
