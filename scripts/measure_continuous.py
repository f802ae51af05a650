"""Time fixed batches against continuous batching, on a split's examples, in turns.

    OMP_NUM_THREADS=1 .venv/bin/python scripts/measure_continuous.py --rows 8
    OMP_NUM_THREADS=1 .venv/bin/python scripts/measure_continuous.py --rows 8 --shuffle

Batches are of ``--rows`` examples of a task, longest first, or in random order with ``--shuffle``; without ``--rows``
they are `decode`'s own.  The encoder runs once beforehand and is not timed.  Prints the processor time of the search,
the steps that it took, and how many hypotheses are not the same text.
"""

import argparse
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
from lhotse.cut import Cut
from torch import Tensor

from speechgate.cli.options import parts_of
from speechgate.data.batch import load_audio, pad_speech
from speechgate.data.tasks import parse_tasks
from speechgate.decoding.decode import batches_of, examples_of
from speechgate.decoding.encoded import Encoded
from speechgate.decoding.engine import Engine
from speechgate.decoding.search import Hypothesis
from speechgate.decoding.search.running import RunningDecoder
from speechgate.hypotheses import decode_options
from speechgate.manifests.cuts import read_cuts
from speechgate.model.checkpoint import load_checkpoint
from speechgate.recipe import Recipe
from speechgate.task import Task


def encoded_runs(engine: Engine, examples: list[Cut], rows: int | None, shuffle: bool) -> list[list[Encoded]]:
    """The batches of each task, encoded."""
    if shuffle:
        random.Random(0).shuffle(examples)
        examples.sort(key=lambda cut: cut.custom["task"])
    runs: dict[str, list[Encoded]] = {}
    sizes = [rows] if rows else [len(batch) for batch in batches_of(examples)]
    at = 0
    while at < len(examples):
        size = sizes[0] if rows else sizes.pop(0)
        task = examples[at].custom["task"]
        batch = [cut for cut in examples[at : at + size] if cut.custom["task"] == task]
        at += len(batch)
        speech = pad_speech([load_audio(cut) for cut in batch], 0.0)
        runs.setdefault(task, []).append(engine.with_ctc(engine.encode(*speech, [Task.parse(task)] * len(batch))))
    return list(runs.values())


def text_of(engine: Engine, nbest: list[Hypothesis]) -> str:
    return engine.tokenizer.decode(nbest[0].tokens) if nbest else ""


@contextmanager
def counted_steps() -> Iterator[list[int]]:
    """The steps that the decoder makes meanwhile."""
    count, step = [0], RunningDecoder.step

    def counting(self: RunningDecoder, *given: Tensor) -> Tensor:
        count[0] += 1
        return step(self, *given)

    with patch.object(RunningDecoder, "step", counting):
        yield count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Recipe("prompts").pretrained)
    parser.add_argument("--manifest", type=Path, help="cuts to decode; the prompts recipe's test split without it")
    parser.add_argument("--task", default="asr,st")
    parser.add_argument("--lang", default="", help="spoken languages; all without it")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--shuffle", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = Recipe("prompts")
    [manifest] = [options.manifest] if options.manifest else recipe.manifests("test").values()
    checkpoint = load_checkpoint(options.model)
    engine = Engine(checkpoint, decode_options("beam"))
    tasks = parse_tasks(parts_of(options.task), parts_of(options.lang), recipe.available_tasks())
    runs = encoded_runs(engine, examples_of(read_cuts(manifest), tasks), options.rows, options.shuffle)
    ways: dict[str, Callable[[list[Encoded]], list[str]]] = {
        "fixed": lambda run: [text_of(engine, nbest) for batch in run for nbest in engine.search(batch)],
        "continuous": lambda run: [
            text_of(engine, nbest) for _, _, _, nbest in sorted(engine.search_all(run), key=lambda found: found[0])
        ],
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    steps: dict[str, int] = {}
    texts: dict[str, list[str]] = {}
    for repeat in range(options.repeats + 1):
        for name, way in ways.items():
            with counted_steps() as count:
                began = time.process_time()
                texts[name] = [text for run in runs for text in way(run)]
                if repeat:  # the first warms up
                    seconds[name].append(time.process_time() - began)
            steps[name] = count[0]
    for name, taken in seconds.items():
        print(f"{name}: {min(taken):.2f} s at best of {[round(each, 2) for each in taken]}, {steps[name]} steps")
    differ = sum(a != b for a, b in zip(texts["fixed"], texts["continuous"], strict=True))
    ratio = min(seconds["fixed"]) / min(seconds["continuous"])
    print(f"{len(texts['fixed'])} utterances, {differ} of other text; continuous batching is {ratio:.2f} times as fast")


if __name__ == "__main__":
    main()
