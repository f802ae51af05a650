"""From recordings to text: a stream from decoding over the search for speech and its recognition to mended seams.

A recording of hours needs no more memory than a minute, and segments come as they are found.
"""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from speechgate.audio import SAMPLE_RATE_HZ, Recording
from speechgate.decoding.execution import DEFAULT, Execution
from speechgate.decoding.search import SearchOptions
from speechgate.errors import AudioError
from speechgate.hypotheses import decode_options, usual_search
from speechgate.model.checkpoint import load_checkpoint
from speechgate.recipe import Recipe
from speechgate.runinfo import pick_device
from speechgate.task import Task
from speechgate.text.vocabulary import load_vocabulary
from speechgate.transcribe.known import Known
from speechgate.transcribe.recogniser import Recogniser
from speechgate.transcribe.segment import Event, Failed, Finished, Heard, Segment, Source, Transcript, name_of
from speechgate.transcribe.speech import Piece, SileroDetector, pieces_of
from speechgate.transcribe.stitch import stitched

BATCH_SECONDS = 60.0  # padded audio a batch
LANGUAGE_SECONDS = 30.0  # speech that is heard to tell the language

_Work = tuple[Piece, Task, Source]  # a piece of speech, what is to be done with it, where it comes from


class Transcriber:
    """Transcribes and translates recordings with one checkpoint."""

    def __init__(
        self,
        model: Path | str | None = None,
        *,
        sparsity: float | None = None,
        options: SearchOptions | None = None,
        window_seconds: float | None = None,
        fill_seconds: float | None = None,
        device: torch.device | str | None = None,
        vocabulary: Path | str | None = None,
        execution: Execution = DEFAULT,
    ) -> None:
        """Load a model.

        Args:
            model: checkpoint folder; None for the dense model of the prompts recipe.
            sparsity: share of the modules to skip, for a model with a budget dial.
            options: of the search; None for those of conf/decode/beam.yaml, or whisper.yaml for a Whisper.
            window_seconds: longest piece that the model is given; None for the longest recording of its training.
            fill_seconds: pieces shorter than this go on over short pauses; None for the length that the model pads
                its input to anyway.
            device: where to run; None for CUDA if there is one, else the CPU.
            vocabulary: a file of `speechgate vocabulary`: each language is written with its own tokens alone.
            execution: how the engine computes: precision, the output layer in 8 bits, CUDA graphs.

        Raises:
            CheckpointError: ``model`` holds no usable checkpoint, or ``vocabulary`` no tokens of this model.
            ConfigError: the model has no budget dial, or one of another range, or the device cannot do what
                ``execution`` asks for.
        """
        folder = Recipe("prompts").folder_of("dense") if model is None else Path(model)
        checkpoint = load_checkpoint(folder, device or pick_device())
        if sparsity is not None:
            checkpoint.turn(sparsity)
        tokenizer = checkpoint.tokenizer
        self.known = Known.of(folder, tokenizer)
        self.window_seconds = self.known.window_seconds if window_seconds is None else window_seconds
        self._min_seconds = checkpoint.config.min_seconds
        self.fill_seconds = self._min_seconds if fill_seconds is None else fill_seconds
        self._vocabulary = None if vocabulary is None else load_vocabulary(Path(vocabulary), tokenizer)
        options = options or decode_options(usual_search(folder))
        self._recogniser = Recogniser(checkpoint, options, execution, self._vocabulary)

    def transcribe(
        self, source: Source | str, task: str | None = None, src: str | None = None, tgt: str | None = None
    ) -> Transcript:
        """Transcribe one recording; arguments as for ``stream``.

        Raises:
            AudioError: it cannot be decoded, or is in a language for which the model has no such task.
            ConfigError: the model has no such task for any language.
        """
        source = Path(source) if isinstance(source, str) else source
        *heard, last = self.stream([source], task, src, tgt)
        if isinstance(last, Failed):
            raise last.error
        assert isinstance(last, Finished)
        segments = tuple(event.segment for event in heard if isinstance(event, Heard))
        return Transcript(segments, last.seconds, last.task, last.language_probability)

    def stream(
        self, sources: Iterable[Source | str], task: str | None = None, src: str | None = None, tgt: str | None = None
    ) -> Iterator[Event]:
        """Transcribe recordings; those of a batch do not influence each other.

        Args:
            sources: files, or streams open for reading.
            task: "asr" or "st"; None for st if ``tgt`` is given, asr otherwise.
            src: the spoken language, ISO 639; None if it is to be found out for each recording.
            tgt: the language to translate into; needed only where the model knows several.

        Returns:
            For each recording, in order, its segments (``Heard``), then ``Finished`` or ``Failed``; as they are found.

        Raises:
            ConfigError: the model has no such task, or the vocabulary not its language; the message lists what there
                is.
        """
        tasks = self.known.choose(task, src, tgt)
        if self._vocabulary is not None:
            for each in tasks:
                self._vocabulary.ids(each.tgt)  # refused now rather than when it is heard
        return stitched(self._recognised(self._read_all(sources, tasks)))

    def _read_all(self, sources: Iterable[Source | str], tasks: Sequence[Task]) -> Iterator[_Work | Event]:
        for given in sources:
            source = Path(given) if isinstance(given, str) else given
            try:
                yield from self._read(source, tasks)
            except AudioError as error:
                yield Failed(source, error)

    def _read(self, source: Source, tasks: Sequence[Task]) -> Iterator[_Work | Event]:
        """The pieces of one recording with what is to be done with them, then ``Finished``."""
        task, probability, first = tasks[0], None, list[Piece]()
        overlap = task.kind == "asr" and self._recogniser.times_words  # seams are mended by the times of words
        with Recording(source) as recording:
            samples = _Samples(recording)
            pieces = pieces_of(samples, SileroDetector(), self.window_seconds, self.fill_seconds, overlap=overlap)
            if len(tasks) > 1:
                first = _up_to(LANGUAGE_SECONDS, pieces)
                if not first:
                    yield Finished(source, samples.seconds, None)
                    return
                task, probability = self._tell(source, first, tasks)
            for piece in itertools.chain(first, pieces):
                yield piece, task, source
            yield Finished(source, samples.seconds, task, probability)

    def _tell(self, source: Source, pieces: Sequence[Piece], tasks: Sequence[Task]) -> tuple[Task, float]:
        """The task that fits the language spoken, and the probability of that language.

        Raises:
            AudioError: none of ``tasks`` does.
        """
        probabilities = self._recogniser.languages(pieces, self.known.by_language())
        language = max(probabilities, key=probabilities.__getitem__)
        for task in tasks:
            if task.src == language:
                return task, probabilities[language]
        spoken = ", ".join(task.src for task in tasks)
        raise AudioError(
            f"{name_of(source)} is in {language}, as far as the model can tell, and {tasks[0].kind} from {language} "
            f"is not what it does: give --src if it is in {spoken}"
        )

    def _recognised(self, items: Iterable[_Work | Event]) -> Iterator[Event]:
        """Recognise the pieces, many at a time and across recordings; everything comes out in the order it came in."""
        inside: deque[_Work | Event] = deque()
        found: dict[int, Segment] = {}
        number = 0  # of the first piece inside
        for finished, segment in self._recogniser.segments(self._batches(items, inside)):
            found[finished] = segment
            while inside and (number in found or not isinstance(inside[0], tuple)):
                item = inside.popleft()
                if isinstance(item, tuple):
                    piece, _, source = item
                    yield Heard(source, found.pop(number), piece.cut)
                    number += 1
                else:
                    yield item
        for item in inside:
            assert not isinstance(item, tuple)
            yield item

    def _batches(
        self, items: Iterable[_Work | Event], inside: deque[_Work | Event]
    ) -> Iterator[list[tuple[Piece, Task]]]:
        """The pieces in batches of at most ``BATCH_SECONDS``; all that is read goes ``inside``."""
        batch: list[tuple[Piece, Task]] = []
        longest = 0.0
        for item in items:
            inside.append(item)
            if isinstance(item, tuple):
                piece, task, _ = item
                seconds = max(piece.seconds, self._min_seconds)
                if batch and (len(batch) + 1) * max(longest, seconds) > BATCH_SECONDS:
                    yield batch
                    batch, longest = [], 0.0
                batch.append((piece, task))
                longest = max(longest, seconds)
        if batch:
            yield batch


class _Samples:
    """The blocks of samples of a recording, checked, clipped to [-1, 1] as in 16-bit audio, and counted.

    Raises:
        AudioError: while iterating: as ``Recording.blocks``, or a sample is not finite.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._count = 0

    @property
    def seconds(self) -> float:
        """How much has been read so far."""
        return self._count / SAMPLE_RATE_HZ

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self._recording.blocks("flt"):
            if not np.isfinite(block).all():
                raise AudioError(f"{self._recording.name} has samples that are not finite, at {self.seconds:.2f} s")
            self._count += len(block)
            yield block.clip(-1.0, 1.0)


def _up_to(seconds: float, pieces: Iterator[Piece]) -> list[Piece]:
    """Take pieces until they hold ``seconds``, padding included."""
    taken: list[Piece] = []
    while len(taken) * max((piece.seconds for piece in taken), default=0.0) < seconds:
        piece = next(pieces, None)
        if piece is None:
            break
        taken.append(piece)
    return taken
