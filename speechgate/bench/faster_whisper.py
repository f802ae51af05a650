"""This engine beside faster-whisper (CTranslate2) on the same Whisper weights: seconds from samples to text, and words.

Both are called as their users call them, one recording after the other, in turns: features, encoder, search and text
count.  Greedy or beam search, the prompt, suppressed tokens and the longest hypothesis are the same; faster-whisper's
second attempts at higher temperatures, its tests for silence and its timestamps are off.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lhotse.cut import Cut
from torch import Tensor
from torch.nn import functional as F

from speechgate.data.batch import SAMPLE_RATE, load_audio, pad_speech
from speechgate.decoding.engine import Engine
from speechgate.decoding.search import SearchOptions
from speechgate.decoding.searcher import search_tokens
from speechgate.errors import ConfigError
from speechgate.model.checkpoint import Checkpoint
from speechgate.task import Task
from speechgate.text.normalize import normalize_for_scoring
from speechgate.text.tokenizer import Tokens

COMPUTE_TYPES = ("float32", "int8")
WINDOW_SECONDS = 30  # what faster-whisper encodes, however short the recording
MOST_TOKENS = 224  # CTranslate2 writes at most half of Whisper's 448 positions
FILES = ("model.bin", "config.json", "tokenizer.json")

Decode = Callable[[Tensor, Task], str]


@dataclass(frozen=True)
class Disagreement:
    """A cut on which the words differ; the texts are as each wrote them."""

    cut: str
    ours: str
    theirs: str


@dataclass(frozen=True)
class Race:
    """This engine with one window, faster-whisper with one compute type.

    Attributes:
        equal: utterances of the same words (as scoring compares them), faster-whisper given 30 s with silence.
        equal_as_called: the same where faster-whisper is given the recording as it is, which is what was timed.  It
            pads the features with zeros then, which are not silence.
        disagreements: the others of the former.
        seconds, seconds_theirs: of all utterances.
        speed: median over utterances of faster-whisper's seconds over this engine's.
    """

    window_seconds: float
    compute_type: str
    beam_size: int
    threads: int
    utterances: int
    equal: int
    equal_as_called: int
    disagreements: tuple[Disagreement, ...]
    seconds: float
    seconds_theirs: float
    speed: float


@dataclass(frozen=True)
class _Heard:
    """What one of the two made of one utterance."""

    text: str
    seconds: float


def load_faster_whisper(folder: Path, compute_type: str) -> Any:
    """faster-whisper's model of a CTranslate2 folder, on the CPU with as many threads as PyTorch has.

    Raises:
        ConfigError: the package is not installed, or the folder is not one of CTranslate2.
    """
    try:
        from faster_whisper import WhisperModel
    except ImportError as error:
        raise ConfigError("--faster-whisper needs the package of this name: pip install faster-whisper") from error
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise ConfigError(
            f"--faster-whisper {folder}: there is no {', '.join(missing)}: make the folder with "
            "ct2-transformers-converter --model NAME --output_dir FOLDER --copy_files tokenizer.json"
        )
    try:
        return WhisperModel(
            str(folder), device="cpu", compute_type=compute_type, cpu_threads=torch.get_num_threads(), num_workers=1
        )
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"--faster-whisper {folder} cannot be loaded as {compute_type}: {error}") from error


def compare_with_faster_whisper(
    checkpoint: Checkpoint,
    models: Mapping[str, Any],
    cuts: Sequence[Cut],
    windows: Sequence[float],
    beam_size: int,
    most_tokens: int,
    said: Callable[[int], None],
) -> list[Race]:
    """Transcribe ``cuts`` in turns, the first once more beforehand to warm up.

    Args:
        models: faster-whisper's, by compute type.
        windows: seconds that recordings are padded to for this engine.
        most_tokens: of a hypothesis.
        said: is told how many utterances are done.

    Raises:
        ConfigError: ``most_tokens`` is more than CTranslate2 writes.
    """
    if most_tokens > MOST_TOKENS:
        raise ConfigError(f"--tokens {most_tokens}: faster-whisper writes at most {MOST_TOKENS}")
    options = SearchOptions(beam_size, ctc_weight=0.0, finish="transformers", max_length_ratio=-most_tokens)
    engine = Engine(checkpoint, options)
    ours: dict[float, Decode] = {seconds: partial(_ours, engine, seconds) for seconds in windows}
    theirs: dict[str, Decode] = {
        name: partial(_theirs, model, engine.tokenizer, beam_size, most_tokens) for name, model in models.items()
    }
    for decode in (*ours.values(), *theirs.values()):
        decode(*_speech(cuts[0]))
    heard: dict[float | str, list[_Heard]] = {**{name: [] for name in ours}, **{name: [] for name in theirs}}
    given_silence: dict[str, list[str]] = {name: [] for name in theirs}
    for count, cut in enumerate(cuts, start=1):
        samples_N, task = _speech(cut)
        for window, decode in ours.items():
            heard[window].append(_timed(decode, samples_N, task))
        for name, decode in theirs.items():
            heard[name].append(_timed(decode, samples_N, task))
        for name, decode in theirs.items():
            given_silence[name].append(
                decode(F.pad(samples_N, (0, WINDOW_SECONDS * SAMPLE_RATE - len(samples_N))), task)
            )
        said(count)
    return [
        _race(cuts, window, name, beam_size, heard[window], heard[name], given_silence[name])
        for window in ours
        for name in theirs
    ]


def _speech(cut: Cut) -> tuple[Tensor, Task]:
    return load_audio(cut), Task.asr(cut.supervisions[0].language)


def _timed(decode: Decode, samples_N: Tensor, task: Task) -> _Heard:
    started = time.perf_counter()
    text = decode(samples_N, task)
    return _Heard(text, time.perf_counter() - started)


def _ours(engine: Engine, window_seconds: float, samples_N: Tensor, task: Task) -> str:
    return engine.decode(*pad_speech([samples_N], window_seconds), [task])[0].text


def _theirs(model: Any, tokens: Tokens, beam_size: int, most_tokens: int, samples_N: Tensor, task: Task) -> str:
    prompt = [tokens.sos, *tokens.prompt(task)]
    segments, _ = model.transcribe(
        samples_N.numpy(),
        language=tokens.token_list[prompt[1]][2:-2],  # <|de|>
        task="transcribe",
        beam_size=beam_size,
        temperature=0.0,
        compression_ratio_threshold=None,
        log_prob_threshold=None,
        no_speech_threshold=None,
        condition_on_previous_text=False,
        without_timestamps=True,
        vad_filter=False,
        suppress_tokens=list(search_tokens(tokens).forbidden),
        # faster-whisper adds the prompt's length to it, and CTranslate2 stops at half of the sum.
        max_new_tokens=2 * most_tokens - len(prompt),
    )
    return " ".join(segment.text.strip() for segment in segments)


def _race(
    cuts: Sequence[Cut],
    window_seconds: float,
    compute_type: str,
    beam_size: int,
    ours: Sequence[_Heard],
    theirs: Sequence[_Heard],
    given_silence: Sequence[str],
) -> Race:
    disagreements, equal_as_called = [], 0
    for cut, a, b, text in zip(cuts, ours, theirs, given_silence, strict=True):
        words, words_as_called, words_given_silence = (
            normalize_for_scoring(each, cut.supervisions[0].language) for each in (a.text, b.text, text)
        )
        equal_as_called += words == words_as_called
        if words != words_given_silence:
            disagreements.append(Disagreement(cut.id, a.text, text))
    return Race(
        window_seconds,
        compute_type,
        beam_size,
        threads=torch.get_num_threads(),
        utterances=len(cuts),
        equal=len(cuts) - len(disagreements),
        equal_as_called=equal_as_called,
        disagreements=tuple(disagreements),
        seconds=sum(each.seconds for each in ours),
        seconds_theirs=sum(each.seconds for each in theirs),
        speed=statistics.median(b.seconds / a.seconds for a, b in zip(ours, theirs, strict=True)),
    )
