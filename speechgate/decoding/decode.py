"""Examples to decode, their batches, what the gates are to know of them, and what the engine makes of a batch."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from lhotse.cut import Cut

from speechgate.data.batch import load_audio, pad_speech
from speechgate.data.tasks import expand
from speechgate.data.vectors import load_vectors
from speechgate.decoding.engine import Decoded, Engine
from speechgate.errors import ManifestError
from speechgate.gates.allocation import spread_dither
from speechgate.gates.context import Context, join
from speechgate.task import Task

BATCH_SECONDS = 60.0  # padded audio a batch


def examples_of(cuts: Iterable[Cut], tasks: Sequence[Task]) -> list[Cut]:
    """The examples to decode: by task, then longest first, so that a batch shares its task and holds little padding."""
    examples = sorted(expand(cuts, tasks), key=lambda cut: (cut.custom["task"], -cut.duration, cut.id))
    if not examples:
        raise ManifestError(f"no cut of the manifest fits any of: {', '.join(map(str, tasks))}")
    return examples


def batches_of(examples: Sequence[Cut], seconds: float = BATCH_SECONDS) -> list[list[Cut]]:
    """Cut the list into batches of at most ``seconds``, padding included, of one task each."""
    batches: list[list[Cut]] = []
    for cut in examples:
        last = batches[-1] if batches else None
        if last and last[0].custom["task"] == cut.custom["task"] and last[0].duration * (len(last) + 1) <= seconds:
            last.append(cut)
        else:
            batches.append([cut])
    return batches


def contexts_of(examples: Sequence[Cut], vectors: Mapping[str, int]) -> dict[str, Context]:
    """What gates are to know of each example, by its id.

    Utterances of a task round their budgets evenly, in the order of the examples, so that the task keeps to the budget.
    """
    number: Counter[str] = Counter()
    contexts = {}
    for cut in examples:
        task = cut.custom["task"]
        dither_1 = spread_dither(torch.tensor([number[task]]))
        number[task] += 1
        contexts[cut.id] = Context([Task.parse(task)], load_vectors([cut], vectors), dither_1)
    return contexts


def decode_batch(
    engine: Engine,
    batch: Sequence[Cut],
    recordings: Sequence[torch.Tensor],
    contexts: Mapping[str, Context],
    min_seconds: float,
) -> list[Decoded]:
    """Decode a batch that hears ``recordings``, with the contexts that `contexts_of` gave all examples."""
    return engine.decode(*_inputs(engine, batch, recordings, contexts, min_seconds))


def gates_of(engine: Engine, examples: Sequence[Cut], min_seconds: float) -> Iterator[tuple[list[Cut], torch.Tensor]]:
    """What the gates decide for all examples, a batch after the other with its (B, S), without a search."""
    contexts = contexts_of(examples, {} if engine.gates is None else engine.gates.config.vectors)
    for batch in batches_of(examples):
        recordings = [load_audio(cut) for cut in batch]
        yield batch, engine.encode(*_inputs(engine, batch, recordings, contexts, min_seconds)).open_BS


def _inputs(
    engine: Engine,
    batch: Sequence[Cut],
    recordings: Sequence[torch.Tensor],
    contexts: Mapping[str, Context],
    min_seconds: float,
) -> tuple[torch.Tensor, torch.Tensor, list[Task], Context]:
    """What the engine takes: speech (B, N) on its device, lengths (B), tasks, context."""
    speech_BN, lengths_B = pad_speech(recordings, min_seconds)
    tasks = [Task.parse(cut.custom["task"]) for cut in batch]
    device = next(engine.model.parameters()).device
    return speech_BN.to(device), lengths_B, tasks, join([contexts[cut.id] for cut in batch])
