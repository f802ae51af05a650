"""The model at work on pieces of speech: which language, which words, and when.

Shapes: B pieces, N samples, T encoder frames, V vocabulary, R tokens of it that a piece may be written with.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from speechgate.audio import SAMPLE_RATE_HZ
from speechgate.data.batch import pad_speech
from speechgate.decoding.encoded import Encoded
from speechgate.decoding.engine import Engine, Inputs
from speechgate.decoding.execution import DEFAULT, Execution
from speechgate.decoding.search import Hypothesis, SearchOptions
from speechgate.model.checkpoint import Checkpoint
from speechgate.task import Task
from speechgate.text.vocabulary import Vocabulary
from speechgate.transcribe.segment import Segment, Word
from speechgate.transcribe.speech import Piece
from speechgate.transcribe.words import align_words


class Recogniser:
    """One checkpoint, its model on the device where it runs.

    Attributes:
        times_words: whether words have times, in recognition: a CTC head tells them.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        options: SearchOptions,
        execution: Execution = DEFAULT,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        self._engine = Engine(checkpoint, options, execution, vocabulary)
        self._tokenizer = checkpoint.tokenizer
        self._model = checkpoint.model
        self._min_seconds = checkpoint.config.min_seconds
        self.times_words = self._model.ctc is not None

    def segments(self, batches: Iterable[Sequence[tuple[Piece, Task]]]) -> Iterator[tuple[int, Segment]]:
        """The text of each piece, with its number, counted over all batches, as it is finished.

        Pieces are encoded a batch at a time, and searched as ``Engine.search_all`` does.  Words have times in
        recognition, by models with a CTC head.
        """
        heard: dict[int, Piece] = {}
        count = itertools.count()

        def inputs() -> Iterator[Inputs]:
            for batch in batches:
                for piece, _ in batch:
                    heard[next(count)] = piece
                yield *self._pad([piece for piece, _ in batch]), [task for _, task in batch], None

        encoded = self._engine.encode_all(inputs())
        for number, batch, row, nbest in self._engine.search_all(encoded):
            yield number, self._segment(heard.pop(number), batch, row, nbest)

    @torch.inference_mode()
    def _segment(self, piece: Piece, encoded: Encoded, row: int, nbest: Sequence[Hypothesis]) -> Segment:
        tokens, score = (nbest[0].tokens, nbest[0].score) if nbest else ((), 0.0)
        task = encoded.tasks[row]
        words: tuple[Word, ...] = ()
        if task.kind == "asr" and encoded.ctc_log_probs is not None:
            frames = int(encoded.frames_B[row])
            frame_seconds = int(encoded.samples_B[row]) / SAMPLE_RATE_HZ / frames
            log_probs_TR = encoded.ctc_log_probs[row][:frames]
            columns = self._engine.searcher.output(task).rows_of
            words = align_words(log_probs_TR, tokens, columns, self._tokenizer, frame_seconds, piece.start)
        text = self._tokenizer.decode(tokens).strip()
        return Segment(piece.start, piece.end, text, score / (len(tokens) + 1), words)

    @torch.inference_mode()
    def languages(self, pieces: Sequence[Piece], tasks: Sequence[Task]) -> dict[str, float]:
        """The probability of each language, given pieces of one recording and a task for each language.

        It is the decoder's probability of the language symbol after <sos>, which it learns with the rest of the prompt
        (see ``speechgate.data.batch``), multiplied over the pieces.  Gates see the language, so a gated model hears
        the pieces once as each language, and is asked how likely that one is.
        """
        speech_BN, lengths_B = self._pad(pieces)
        symbols = [self._tokenizer.prompt(task)[0] for task in tasks]
        gates = getattr(self._model, "gates", None)
        if gates is None:
            scores_L = self._first_token(speech_BN, lengths_B)[symbols]
        else:
            scores = []
            for task, symbol in zip(tasks, symbols, strict=True):
                gates.set_context([task] * len(pieces))
                scores.append(self._first_token(speech_BN, lengths_B)[symbol])
            scores_L = torch.stack(scores)
        return dict(zip((task.src for task in tasks), scores_L.softmax(0).tolist(), strict=True))

    def _first_token(self, speech_BN: Tensor, lengths_B: Tensor) -> Tensor:
        """Log-probability (V) of every token after <sos>, summed over the batch."""
        encoder_out_BTD, frames_B = self._model.encode(speech_BN, lengths_B)
        sos_B1 = torch.full((len(speech_BN), 1), self._tokenizer.sos, device=speech_BN.device)
        ones_B = torch.ones(len(speech_BN), dtype=torch.long)
        logits_B1V, _ = self._model.decoder(encoder_out_BTD, frames_B, sos_B1, ones_B)
        return logits_B1V[:, 0].float().log_softmax(-1).sum(0)

    def _pad(self, pieces: Sequence[Piece]) -> tuple[Tensor, Tensor]:
        samples = [torch.from_numpy(piece.samples) for piece in pieces]
        speech_BN, lengths_B = pad_speech(samples, self._min_seconds)
        return speech_BN.to(next(self._model.parameters()).device), lengths_B
