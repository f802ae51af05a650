import torch

from speechgate.task import Task
from speechgate.text.tokenizer import Tokenizer
from speechgate.training.alignment import word_boundaries

TOKENIZER = Tokenizer.train(["ab ba", "a b"], [Task.asr("eng")], "char", 0)


def certain(*pieces):
    """Log-probabilities that say one piece a frame."""
    names = {"_": "<blank>", " ": "▁"}
    ids = [TOKENIZER.token_list.index(names.get(piece, piece)) for piece in pieces]
    log_probs_TV = torch.full((len(ids), len(TOKENIZER)), -20.0)
    log_probs_TV[torch.arange(len(ids)), ids] = 0.0
    return log_probs_TV.log_softmax(-1)


def test_a_boundary_lies_halfway_between_two_words():
    heard = certain("_", "a", "b", "_", " ", "_", "_", "b", "a", "_")
    assert word_boundaries(heard, ["ab", "ba"], TOKENIZER) == [(3 + 7) / 2]
    assert word_boundaries(certain("a", " ", "b", " ", "a"), ["a", "b", "a"], TOKENIZER) == [1.5, 3.5]


def test_one_word_has_no_boundary():
    assert word_boundaries(certain("_", "a", "b", "_"), ["ab"], TOKENIZER) == []


def test_too_few_frames_for_the_words():
    assert word_boundaries(certain("a", "b"), ["ab", "ba"], TOKENIZER) is None
    assert word_boundaries(certain("a", "a"), ["aa"], TOKENIZER) is None  # a repetition needs a blank between
    assert word_boundaries(certain("a"), [], TOKENIZER) is None
