"""The places of frames, held to what a moved click does."""

from dataclasses import replace

import pytest
import torch

from speechgate.model.frames import encoder_frames
from tests.model.tiny import random_model, tiny_config


@pytest.mark.parametrize("layer", ["conv2d2", "conv2d", "conv2d6", "conv2d8"])
def test_frames_lie_where_the_subsampling_looks(layer):
    config = tiny_config()
    model = random_model(replace(config, encoder=config.encoder | {"input_layer": layer}))
    step, first = encoder_frames(model)
    features_BFM = torch.zeros(1, 200, 20)
    with torch.inference_mode():
        silent_BTD = model.encoder.embed(features_BFM, None)[0]
        silent_BTD = silent_BTD[0] if isinstance(silent_BTD, tuple) else silent_BTD
        heard = torch.zeros(silent_BTD.size(1), 200)
        for feature in range(200):
            moved_BFM = features_BFM.clone()
            moved_BFM[:, feature] = 1.0
            out_BTD = model.encoder.embed(moved_BFM, None)[0]
            out_BTD = out_BTD[0] if isinstance(out_BTD, tuple) else out_BTD
            heard[:, feature] = (out_BTD - silent_BTD).abs().amax(2)[0] > 1e-6
    hop = model.frontend.hop_length / 16_000
    for frame, features in enumerate(heard):
        places = features.nonzero()[:, 0]
        assert hop * float(places[0] + places[-1]) / 2 == pytest.approx(first + frame * step)
