import pytest
import torch

from speechgate.transcribe.words import align_words
from tests.model.tiny import tokenizer


def log_probs_of(frames: list[int]) -> torch.Tensor:
    """A CTC output that is all but sure of one token a frame."""
    logits = torch.zeros(len(frames), len(tokenizer()))
    logits[range(len(frames)), frames] = 12.0
    return logits.log_softmax(-1)


def test_words_get_the_times_of_their_letters() -> None:
    tokens = tokenizer().encode("try it")
    frames = [0] * 50
    places = [3, 5, 6, 10, 30, 31]
    for place, token in zip(places, tokens, strict=True):
        frames[place] = token
    words = align_words(log_probs_of(frames), tokens, list, tokenizer(), 0.04, start=10.0)
    assert [word.text for word in words] == ["try", "it"]
    assert [word.start for word in words] == pytest.approx([10.0 + 3 * 0.04, 10.0 + 30 * 0.04])
    assert [word.end for word in words] == pytest.approx([10.0 + 7 * 0.04, 10.0 + 32 * 0.04])


def test_a_letter_that_ctc_did_not_hear_has_its_place_too() -> None:
    tokens = tokenizer().encode("thank you")
    frames = [0] * 40
    for place, token in enumerate(tokens):
        frames[2 + 3 * place] = token if place != 3 else 0
    words = align_words(log_probs_of(frames), tokens, list, tokenizer(), 0.04, 0.0)
    assert [word.text for word in words] == ["thank", "you"]


def test_too_few_frames_give_no_times() -> None:
    tokens = tokenizer().encode("letters")
    assert (
        align_words(log_probs_of([0] * len(tokens)), tokens, list, tokenizer(), 0.04, 0.0) == ()
    )  # "tt" needs one more
    assert align_words(log_probs_of([0] * 9), [], list, tokenizer(), 0.04, 0.0) == ()
