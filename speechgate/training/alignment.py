"""Word boundaries of training recordings, from the CTC output of a model that has learnt to hear them.

Shapes: B batch, T frames, V tokens.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
import torchaudio.functional as AF
from lhotse.cut import Cut
from rich.progress import track
from torch import Tensor

from speechgate.data.batch import load_readable, pad_speech
from speechgate.data.recombine import AlignedWords
from speechgate.model.checkpoint import Checkpoint
from speechgate.model.frames import encoder_frames
from speechgate.text.normalize import normalize_for_training
from speechgate.text.tokenizer import Tokenizer

BATCH = 16
WORD_START = "▁"  # sentencepiece's mark: a piece of its own among characters, the beginning of one among subwords


@torch.inference_mode()
def align_words(checkpoint: Checkpoint, cuts: Iterable[Cut]) -> list[AlignedWords]:
    """Align the transcripts of ``cuts`` with their recordings, by the best path of the checkpoint's CTC.

    A boundary is put halfway between the last frame of a word and the first of the next.  Recordings with fewer frames
    than their transcript needs are left out; those that cannot be read too, with a warning.
    """
    _, tokenizer = checkpoint.of_espnet("train.recombine")
    model = checkpoint.model.eval()
    device = next(model.parameters()).device
    frame_seconds, _ = encoder_frames(model)
    ordered = sorted(cuts, key=lambda cut: cut.duration)
    aligned = []
    for start in track(range(0, len(ordered), BATCH), "aligning words"):
        readable = load_readable(ordered[start : start + BATCH])
        speech_BN, lengths_B = pad_speech([samples for _, samples in readable], checkpoint.config.min_seconds)
        encoder_out_BTD, frames_B = model.encode(speech_BN.to(device), lengths_B)
        log_probs_BTV = model.ctc.log_softmax(encoder_out_BTD).float().cpu()
        for (cut, _), log_probs_TV, frames in zip(readable, log_probs_BTV, frames_B.tolist(), strict=True):
            supervision = cut.supervisions[0]
            words = normalize_for_training(supervision.text, supervision.language).split()
            inner = word_boundaries(log_probs_TV[:frames], words, tokenizer)
            if inner is not None:
                edges = (0.0, *(min(frame * frame_seconds, cut.duration) for frame in inner), cut.duration)
                aligned.append(AlignedWords(cut, tuple(words), edges))
    return aligned


def word_boundaries(log_probs_TV: Tensor, words: Sequence[str], tokenizer: Tokenizer) -> list[float] | None:
    """The frames between successive words; None where no path of CTC has room for the words."""
    ids = tokenizer.encode(" ".join(words))
    repeats = sum(one == two for one, two in pairwise(ids))
    if not ids or len(ids) + repeats > len(log_probs_TV):
        return None
    path_1T, scores_1T = AF.forced_align(log_probs_TV[None].contiguous(), torch.tensor([ids]), blank=tokenizer.blank)
    spans = AF.merge_tokens(path_1T[0], scores_1T[0], blank=tokenizer.blank)
    boundaries, last_end, in_gap = [], 0, False
    for number, (token, span) in enumerate(zip(ids, spans, strict=True)):
        piece = tokenizer.token_list[token]
        in_gap = in_gap or (number > 0 and piece.startswith(WORD_START))
        if piece == WORD_START:
            continue
        if in_gap:
            boundaries.append((last_end + span.start) / 2)
        last_end, in_gap = span.end, False
    return boundaries if len(boundaries) == len(words) - 1 else None
