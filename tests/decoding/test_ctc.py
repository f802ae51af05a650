"""CTC prefix scores against all alignments counted, and against the recurrence written as a plain loop."""

import itertools
import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgate.decoding.search import CtcPrefixScorer, greedy_ctc
from speechgate.decoding.search.compiler import library
from speechgate.decoding.search.exchange import Exchange

BLANK = 0
IMPOSSIBLE = -1e9


@pytest.fixture(params=["PyTorch", "compiled"])
def scorer_of(request):
    if request.param == "compiled" and library() is None:
        pytest.skip("there is no C++ compiler")
    return partial(CtcPrefixScorer, blank=BLANK, compiled=request.param == "compiled")


def random_log_probs(batch, frames, vocabulary, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(batch, frames, vocabulary, generator=generator) * 2).log_softmax(-1)


def counted(x_TV, labels):
    """Log-probability of all label sequences that begin with ``labels``, and of ``labels`` itself, over all paths."""
    begins = equals = 0.0
    for path in itertools.product(range(x_TV.shape[1]), repeat=len(x_TV)):
        text = [label for label, _ in itertools.groupby(path) if label != BLANK]
        probability = math.exp(sum(float(x_TV[t, label]) for t, label in enumerate(path)))
        begins += probability * (text[: len(labels)] == labels)
        equals += probability * (text == labels)
    return tuple(math.log(total) if total else -math.inf for total in (begins, equals))


def looped(x_TV, labels):
    """The same two numbers by the recurrence, frame by frame and in probabilities."""
    p = x_TV.double().exp().tolist()
    in_label = [0.0] * len(p)
    in_blank = list(itertools.accumulate((row[BLANK] for row in p), lambda a, b: a * b))
    begins = 1.0
    for position, label in enumerate(labels):
        repeats = position > 0 and labels[position - 1] == label
        phi = [b + (0.0 if repeats else n) for n, b in zip(in_label, in_blank, strict=True)]
        n, b = [p[0][label] if position == 0 else 0.0], [0.0]
        begins = n[0]
        for t in range(1, len(p)):
            begins += phi[t - 1] * p[t][label]
            n.append(p[t][label] * (n[t - 1] + phi[t - 1]))
            b.append(p[t][BLANK] * (b[t - 1] + n[t - 1]))
        in_label, in_blank = n, b
    equals = in_label[-1] + in_blank[-1]
    return tuple(math.log(total) if total else -math.inf for total in (begins, equals))


def assert_log(score, expected):
    if expected == -math.inf:
        assert score < IMPOSSIBLE
    else:
        assert score == pytest.approx(expected, abs=1e-5)


def check(scorer_of, x_BTV, lengths, sequences, reference):
    """Feed each utterance its sequence of labels and compare all scores on the way with the reference."""
    scorer = scorer_of(x_BTV, torch.tensor(lengths))
    labels_BL = torch.tensor(sequences)
    candidates = torch.arange(x_BTV.shape[2]).expand(len(lengths), 1, -1)
    for position in range(labels_BL.shape[1] + 1):
        psi, complete = scorer.score(candidates)
        for b, length in enumerate(lengths):
            prefix = sequences[b][:position]
            assert_log(complete[b, 0].item(), reference(x_BTV[b, :length], prefix)[1])
            assert psi[b, 0, BLANK] < IMPOSSIBLE
            for label in range(1, x_BTV.shape[2]):
                assert_log(psi[b, 0, label].item(), reference(x_BTV[b, :length], [*prefix, label])[0])
        if position < labels_BL.shape[1]:
            scorer.advance(torch.zeros(len(lengths), 1, dtype=torch.int64), labels_BL[:, position, None])


def test_scores_count_all_alignments(scorer_of):
    check(scorer_of, random_log_probs(2, 5, 3), [5, 3], [[1, 1, 2], [2, 1, 1]], counted)


def test_scores_equal_the_loop(scorer_of):
    sequences = [[1, 2, 2, 3, 1, 4], [4, 4, 4, 4, 4, 4], [1, 2, 3, 4, 1, 2]]
    check(scorer_of, random_log_probs(3, 40, 5), [40, 9, 1], sequences, looped)


def test_long_and_confident_utterance_loses_no_precision(scorer_of):
    """Thousands of frames at -50 a frame: sums of -100,000, while the scores wanted differ by little."""
    x = torch.full((1, 2000, 4), -50.0)
    x[..., BLANK] = -1e-3
    x[0, 1000, :] = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    scorer = scorer_of(x, torch.tensor([2000]))
    psi, complete = scorer.score(torch.tensor([[[1, 2, 3]]]))
    assert psi[0, 0].tolist() == pytest.approx([-1.0 + math.log(share) for share in (0.3, 0.2, 0.1)], abs=1e-6)
    assert complete.item() == pytest.approx(-1.999 + math.log(0.4), abs=1e-4)
    scorer.advance(torch.tensor([[0]]), torch.tensor([[2]]))
    assert scorer.score(torch.tensor([[[1]]]))[1].item() == pytest.approx(-1.999 + math.log(0.2), abs=1e-4)


def test_hypotheses_follow_their_parents_and_utterances_leave(scorer_of):
    x = random_log_probs(3, 12, 5)
    scorer = scorer_of(x, torch.tensor([12, 12, 7]))
    scorer.advance(torch.zeros(3, 2, dtype=torch.int64), torch.tensor([[1, 2]] * 3))
    scorer.advance(torch.tensor([[1, 0]] * 3), torch.tensor([[3, 1]] * 3))  # prefixes 2 3 and 1 1
    scorer.exchange(Exchange([2], 3, x.device), 7)
    psi, complete = scorer.score(torch.tensor([[[4, 1], [4, 1]]]))
    for k, prefix in enumerate(([2, 3], [1, 1])):
        assert_log(complete[0, k].item(), looped(x[2, :7], prefix)[1])
        for c, label in enumerate((4, 1)):
            assert_log(psi[0, k, c].item(), looped(x[2, :7], [*prefix, label])[0])


def test_what_is_not_a_number_stays_with_its_utterance(scorer_of):
    x = random_log_probs(2, 12, 4)
    x[1, 3] = float("nan")
    scorer = scorer_of(x, torch.tensor([12, 12]))
    scorer.advance(torch.tensor([[0], [0]]), torch.tensor([[2], [2]]))
    psi, complete = scorer.score(torch.tensor([[[1, 2]], [[1, 2]]]))
    assert psi[0].isfinite().all()
    assert psi[1].isnan().all()
    assert complete[:, 0].isnan().tolist() == [False, True]


def test_more_labels_than_frames_are_impossible_and_never_nan(scorer_of):
    scorer = scorer_of(random_log_probs(1, 2, 4), torch.tensor([2]))
    for _ in range(6):
        scorer.advance(torch.tensor([[0]]), torch.tensor([[1]]))
    psi, complete = scorer.score(torch.tensor([[[1, 2, 3]]]))
    assert (psi < IMPOSSIBLE).all()
    assert (complete < IMPOSSIBLE).all()
    assert psi.isfinite().all()


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 3),
    frames=st.integers(1, 60),
    beam=st.integers(1, 20),
    threads=st.integers(1, 3),
    impossible=st.booleans(),
    seed=st.integers(0, 2**16),
)
@pytest.mark.skipif(library() is None, reason="there is no C++ compiler")
def test_compiled_scores_are_pytorchs(batch, frames, beam, threads, impossible, seed):
    generator = torch.Generator().manual_seed(seed)
    x = random_log_probs(batch, frames, 6, seed)
    if impossible:
        x[0, frames // 2, 2:] = float("-inf")
    lengths = torch.randint(1, frames + 1, (batch,), generator=generator)
    scorers = [CtcPrefixScorer(x, lengths, BLANK, compiled) for compiled in (False, True)]
    before, held = torch.get_num_threads(), 1
    torch.set_num_threads(threads)
    for _ in range(4):
        candidates = torch.randint(0, 6, (batch, held, 3), generator=generator)
        expected, found = (scorer.score(candidates) for scorer in scorers)
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-6)
        parents, tokens = (torch.randint(0, most, (batch, beam), generator=generator) for most in (held, 6))
        for scorer in scorers:
            scorer.advance(parents, tokens)
        held = beam
    torch.set_num_threads(before)


def test_greedy_ctc():
    best = torch.tensor([[0, 1, 1, 0, 1, 2, 2, 0], [3, 3, 0, 0, 3, 1, 1, 1], [0, 0, 0, 0, 0, 0, 0, 2]])
    log_probs = torch.nn.functional.one_hot(best, 4).float()
    assert greedy_ctc(log_probs, torch.tensor([8, 5, 7]), BLANK) == [[1, 1, 2], [3, 3], []]
