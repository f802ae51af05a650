"""ESPnet's BatchBeamSearch over many random utterances: the same n best, scores by a float64 search of our own.

SPEECHGATE_EXACTNESS=500 checks that many utterances in all.
"""

import os

import pytest
import torch

from speechgate.decoding.search import SearchOptions
from tests.decoding.reference import assert_same, random_model

UTTERANCES = int(os.environ.get("SPEECHGATE_EXACTNESS", "24"))
OPTIONS = [
    SearchOptions(beam_size=1, ctc_weight=0.0),
    SearchOptions(beam_size=1, ctc_weight=0.3),
    SearchOptions(beam_size=5, ctc_weight=0.0, nbest=5),
    SearchOptions(beam_size=5, ctc_weight=0.3, nbest=5),
    SearchOptions(beam_size=4, ctc_weight=0.5, length_bonus=0.5, nbest=3),
    SearchOptions(beam_size=3, ctc_weight=0.3, length_bonus=-0.5, min_length_ratio=0.2, nbest=2),
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: f"beam{o.beam_size}-ctc{o.ctc_weight}-{o.length_bonus}")
def test_equals_espnet_over_many_utterances(options):
    generator = torch.Generator().manual_seed(7)
    count = max(4, UTTERANCES // len(OPTIONS) + 1)
    for batch in range(0, count, 4):
        model = random_model(vocabulary=40, seed=batch, eos_bias=float(batch % 12) / 3)
        lengths = torch.randint(2, 45, (min(4, count - batch),), generator=generator).tolist()
        encoder_out, lengths_B = model.encoder_out(lengths, seed=batch)
        expected = model.espnet_search(encoder_out, lengths_B, options)
        assert_same(model.search(encoder_out, lengths_B, options), expected)
        single = model.search(encoder_out[:1, : lengths[0]], lengths_B[:1], options)
        assert_same(single, expected[:1])


def test_float32_scores_are_near_those_of_float64():
    model = random_model(width=48, layers=3, vocabulary=90, seed=3, eos_bias=-10.0)
    encoder_out, lengths_B = model.encoder_out([60, 60])
    options = SearchOptions(beam_size=5, fixed_steps=60)
    found = model.search(encoder_out, lengths_B, options)
    model.decoder.double(), model.ctc.double()
    exact = model.search(encoder_out.double(), lengths_B, options)
    for ours, reference in zip(found, exact, strict=True):
        assert ours[0].tokens == reference[0].tokens
        assert ours[0].score == pytest.approx(reference[0].score, abs=2e-4)
