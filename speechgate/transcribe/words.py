"""When each word is spoken: the CTC head's best alignment of a transcript (Viterbi, torchaudio's ``forced_align``).

Shapes: T encoder frames, R tokens that may be written.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from torchaudio.functional import forced_align, merge_tokens

from speechgate.text.tokenizer import Tokens
from speechgate.transcribe.segment import Word

SPACE = "▁"  # of sentencepiece: a word begins


def align_words(
    log_probs_TR: Tensor,
    tokens: Sequence[int],
    columns: Callable[[Iterable[int]], list[int]],
    tokenizer: Tokens,
    frame_seconds: float,
    start: float,
) -> tuple[Word, ...]:
    """The words of ``tokens`` with their times.

    Args:
        log_probs_TR: the CTC head's log-probabilities of one utterance.
        tokens: pieces of text, as the search gives them.
        columns: those of ``log_probs_TR`` that belong to some tokens.
        frame_seconds: the length of a frame.
        start: of the utterance, added to all times.

    Returns:
        The words; none where the frames are too few for the tokens, which speech at a human pace does not do.
    """
    repeats = sum(a == b for a, b in itertools.pairwise(tokens))
    if not tokens or len(tokens) + repeats > len(log_probs_TR):
        return ()
    targets_1L = torch.tensor([columns(tokens)], dtype=torch.int32, device=log_probs_TR.device)
    [blank] = columns([tokenizer.blank])
    path_1T, scores_1T = forced_align(log_probs_TR[None].float(), targets_1L, blank=blank)
    spans = merge_tokens(path_1T[0], scores_1T[0], blank=blank)
    words: list[tuple[list[int], int, int]] = []
    begins = True
    for span, token in zip(spans, tokens, strict=True):
        piece = tokenizer.token_list[token]
        begins = begins or piece.startswith(SPACE)
        if piece == SPACE:
            continue
        if begins:
            words.append(([], span.start, span.end))
        ids, first, _ = words[-1]
        words[-1] = ([*ids, token], first, span.end)
        begins = False
    return tuple(
        Word(tokenizer.decode(ids).strip(), start + first * frame_seconds, start + end * frame_seconds)
        for ids, first, end in words
    )
