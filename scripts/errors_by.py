"""Where a model goes wrong: the errors of a decoding by the length of the recordings, or by who speaks them.

    python scripts/errors_by.py exp/prompts/dense/decode_test --seconds 2.5 4 6 9
    python scripts/errors_by.py exp/own/dense/decode_test --speakers data/own/cuts_test.jsonl.gz

A line for each group: how many recordings, words (characters where words are not set apart), errors, and errors in a
hundred.  ASR alone; by length, all languages together.
"""

import argparse
import sys
from bisect import bisect_left
from collections import defaultdict
from pathlib import Path

from lhotse import CutSet

from speechgate.scoring.decoded import Utterance, by_task, read_decoded
from speechgate.scoring.metric import MetricStatistics, pool
from speechgate.scoring.score import task_statistics


def errors_of(utterances: list[Utterance]) -> MetricStatistics:
    """Word errors over all languages, or character errors; raises ValueError where languages differ in their unit."""
    return pool([task_statistics(task, group)[0] for task, group in by_task(utterances).items()])


def by_seconds(utterances: list[Utterance], edges: list[float]) -> dict[str, list[Utterance]]:
    """The recordings of up to each of ``edges`` seconds, ascending, and of more than the last."""
    names = [f"up to {edge:g} s" for edge in edges] + [f"over {edges[-1]:g} s"]
    groups: dict[str, list[Utterance]] = {name: [] for name in names}
    for utterance in utterances:
        groups[names[bisect_left(edges, utterance.audio_seconds)]].append(utterance)
    return groups


def by_speaker(utterances: list[Utterance], manifest: Path) -> dict[str, list[Utterance]]:
    """The recordings of each language and speaker that the manifest of cuts tells."""
    speakers = {cut.id: str(cut.supervisions[0].speaker) for cut in CutSet.from_file(manifest)}
    if unknown := next((utterance.id for utterance in utterances if utterance.id not in speakers), None):
        sys.exit(f"{manifest} has no cut {unknown}: give the manifest that was decoded")
    groups: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        groups[f"{utterance.task.src} {speakers[utterance.id]}"].append(utterance)
    return dict(sorted(groups.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("decoded", type=Path, help="decode directory")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--seconds", type=float, nargs="+", help="lengths that part the recordings")
    how.add_argument("--speakers", type=Path, help="manifest of the decoded cuts")
    arguments = parser.parse_args()
    heard = [each for each in read_decoded(arguments.decoded).utterances if each.task.kind == "asr"]
    if not heard:
        sys.exit(f"{arguments.decoded} has no ASR: there are no words to count")
    if arguments.seconds:
        groups = by_seconds(heard, sorted(arguments.seconds))
    else:
        groups = by_speaker(heard, arguments.speakers)
    try:
        counted = {name: errors_of(group) for name, group in groups.items() if group}
    except ValueError as error:
        sys.exit(f"{arguments.decoded} has languages of words and of characters ({error}): use --speakers")
    print(f"{'':32}{'recordings':>12}{'units':>8}{'errors':>8}{'%':>7}")
    for name, found in counted.items():
        *errors, units = found.statistics_UK.sum(axis=0)
        print(f"{name:32}{found.utterances:12}{units:8}{sum(errors):8}{found.value:7.1f}")


if __name__ == "__main__":
    main()
