"""The model at work on pieces of speech: which language, which words, and when.

Shapes: B pieces, N samples, T encoder frames, D width, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from speechgate.audio import SAMPLE_RATE_HZ
from speechgate.data.batch import pad_speech
from speechgate.decoding.engine import Engine
from speechgate.decoding.search import SearchOptions
from speechgate.model.checkpoint import Checkpoint
from speechgate.task import Task
from speechgate.transcribe.segment import Segment, Word
from speechgate.transcribe.speech import Piece
from speechgate.transcribe.words import align_words


class Recogniser:
    """One checkpoint, its model on the device where it runs."""

    def __init__(self, checkpoint: Checkpoint, options: SearchOptions) -> None:
        self._engine = Engine(checkpoint, options)
        _, self._tokenizer = checkpoint.of_espnet("transcribe")
        self._model = checkpoint.model
        self._min_seconds = checkpoint.config.min_seconds

    @torch.inference_mode()
    def segments(self, pieces: Sequence[Piece], tasks: Sequence[Task]) -> list[Segment]:
        """The text of each piece, heard as one batch, or in halves where that does not fit in memory.

        Words have times in recognition only.
        """
        return self._engine.fitting(lambda rows: self._segments(pieces[rows], tasks[rows]), len(pieces))

    def _segments(self, pieces: Sequence[Piece], tasks: Sequence[Task]) -> list[Segment]:
        speech_BN, lengths_B = self._pad(pieces)
        encoder_out_BTD, frames_B, open_BS = self._engine.encode(speech_BN, lengths_B, tasks)
        log_probs_BTV = self._model.ctc.log_softmax(encoder_out_BTD)
        found = self._engine.search(encoder_out_BTD, log_probs_BTV, frames_B, tasks, open_BS)
        segments = []
        for row, (piece, task, nbest) in enumerate(zip(pieces, tasks, found, strict=True)):
            tokens, score = (nbest[0].tokens, nbest[0].score) if nbest else ((), 0.0)
            words: tuple[Word, ...] = ()
            if task.kind == "asr":
                frames = int(frames_B[row])
                frame_seconds = int(lengths_B[row]) / SAMPLE_RATE_HZ / frames
                words = align_words(log_probs_BTV[row, :frames], tokens, self._tokenizer, frame_seconds, piece.start)
            text = self._tokenizer.decode(tokens).strip()
            segments.append(Segment(piece.start, piece.end, text, score / (len(tokens) + 1), words))
        return segments

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
