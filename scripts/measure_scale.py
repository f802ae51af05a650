"""Measure the manifests' part of a preparation and the start of a training on a synthetic corpus.

    .venv/bin/python scripts/measure_scale.py --cuts 1000000

Utterances in four languages with translations into English go through the gate, the manifest, the index, the leaks and
the bucket sampler.  There is no audio: recordings are named and never opened.  Prints seconds, those of the processor
(which the load of others lengthens little), and the peak of memory.
"""

import argparse
import os
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lhotse import AudioSource, MonoCut, Recording, SupervisionSegment

from speechgate.config import TrainConfig
from speechgate.data.loaders import task_sets, train_sampler
from speechgate.manifests.cuts import open_manifest
from speechgate.manifests.gate import open_gate
from speechgate.manifests.index import index_manifest
from speechgate.manifests.large import LargeCuts
from speechgate.manifests.leaks import Repeats, find_leaks
from speechgate.manifests.quality import Quality

LANGUAGES = ("deu", "fra", "ita", "spa")
HELD_OUT = 2_000
BATCHES = 1_000


def synthetic(count: int, split: str) -> Iterator[MonoCut]:
    """Cuts sorted by language, as corpora are; texts of twelve letters a second."""
    draw = random.Random(split)
    words = ["".join(draw.choices("abcdefghilmnoprstuv", k=draw.randint(2, 9))) for _ in range(20_000)]
    for number in range(count):
        language = LANGUAGES[number * len(LANGUAGES) // count]
        seconds = round(draw.lognormvariate(1.6, 0.6), 2)
        text, translation = (" ".join(draw.choices(words, k=max(1, int(2 * seconds)))) for _ in range(2))
        cut_id = f"{language}-{split}-{number:08d}"
        source = AudioSource(type="file", channels=[0], source=f"audio/{language}/{cut_id}.flac")
        recording = Recording(cut_id, [source], 16_000, round(seconds * 16_000), seconds)
        supervision = SupervisionSegment(cut_id, cut_id, 0.0, seconds, text=text, language=language)
        supervision.speaker = f"{split}-{language}-{draw.randrange(3_000)}"
        supervision.custom = {"translated_text": {"eng": translation}}
        yield MonoCut(cut_id, 0.0, seconds, 0, [supervision], recording=recording)


def prepare(folder: Path, counts: dict[str, int]) -> dict[str, Path]:
    paths = {split: folder / f"cuts_{split}.jsonl.gz" for split in counts}
    repeats = Repeats()
    with open_gate(Quality(), folder / "quarantine.jsonl") as gate:
        for split, count in counts.items():
            with open_manifest(paths[split]) as write:
                for cut in synthetic(count, split):
                    if gate.passes(cut, split):
                        repeats.add(cut, split)
                        write(cut)
    repeats.repeated_ids()
    return paths


def measured[T](name: str, work: Callable[[], T]) -> T:
    start, cpu = time.perf_counter(), time.process_time()
    result = work()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name:<42} {seconds:8.1f} s   {cpu:7.1f} s of CPU   peak {peak_mib:6.0f} MiB", flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=1_000_000)
    count = parser.parse_args().cuts
    print(f"{count:,} cuts, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    config = TrainConfig(max_duration=240.0, buckets=20)
    with tempfile.TemporaryDirectory() as folder:
        counts = {"train": count, "dev": HELD_OUT, "test": HELD_OUT}
        paths = measured("make, judge and write", lambda: prepare(Path(folder), counts))
        measured("check and index, once", lambda: index_manifest(paths["train"]))
        measured("leaks", lambda: find_leaks({split: [path] for split, path in paths.items()}))
        index = measured("open again", lambda: index_manifest(paths["train"]))
        sampler = measured(
            "sampler", lambda: train_sampler(*task_sets(LargeCuts([index]), index.tasks, config), config)
        )
        batches = iter(sampler)
        measured("first batch (cuts)", lambda: next(batches))
        measured(f"{BATCHES} more batches", lambda: [next(batches) for _ in range(BATCHES)])


if __name__ == "__main__":
    main()
