"""The graphs in ONNX Runtime against PyTorch."""

import json

import numpy as np
import onnxruntime
import pytest
import torch

from speechgate.data.batch import pad_speech
from speechgate.decoding.engine import Engine
from speechgate.decoding.search import SearchOptions, greedy_ctc
from speechgate.export.export import export
from tests.export.gated_checkpoint import save_gated
from tests.model.tiny import TASKS, recordings, speech


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A gated checkpoint, its graphs, and their description; some of its modules are closed."""
    folder = tmp_path_factory.mktemp("onnx")
    gated = save_gated(folder / "gated", seed=1, layers=1, use_sdpa=True)
    made = export(folder / "gated", TASKS[2], "onnx", folder / "onnx")
    assert 0 < len(made.specialised.closed) < len(gated.model.gates.sites)
    sessions = [onnxruntime.InferenceSession(str(path)) for path in made.files]
    return gated, *sessions, json.loads((folder / "onnx" / "onnx.json").read_text())


def run(session, *inputs):
    return session.run(None, {own.name: np.asarray(x) for own, x in zip(session.get_inputs(), inputs, strict=True)})


@pytest.mark.parametrize("lengths", [[9_000], [4_000, 20_000, 6_000]])
def test_the_encoder_s_outputs(exported, lengths):
    gated, encoder, _, _ = exported
    assert_same_encoder(gated, encoder, lengths)


@pytest.mark.parametrize("normalize", [{"scope": "global"}, {"scope": "utterance", "norm_vars": True}])
def test_the_normalisation_is_the_model_s(tmp_path, normalize):
    gated = save_gated(tmp_path / "gated", layers=1, use_sdpa=True, normalize=normalize)
    made = export(tmp_path / "gated", TASKS[2], "onnx", tmp_path / "onnx")
    assert_same_encoder(gated, onnxruntime.InferenceSession(str(made.files[0])), [4_000, 20_000])


def assert_same_encoder(gated, encoder, lengths):
    speech_BN, lengths_B = speech(lengths)
    gated.model.gates.set_context([TASKS[2]] * len(lengths))
    with torch.inference_mode():
        expected, frames_B = gated.model.encode(speech_BN, lengths_B)
        log_probs = gated.model.ctc.log_softmax(expected)
    found, found_frames_B, found_log_probs, _ = run(encoder, speech_BN, lengths_B)
    assert found_frames_B.tolist() == frames_B.tolist()
    for row, frames in enumerate(frames_B.tolist()):
        np.testing.assert_allclose(found[row, :frames], expected[row, :frames], atol=1e-4)
        np.testing.assert_allclose(found_log_probs[row, :frames], log_probs[row, :frames], atol=1e-4)


@pytest.mark.parametrize("lengths", [[9_000], [4_000, 12_000]])
def test_greedy_search_finds_what_the_engine_finds(exported, lengths):
    gated, encoder, decoder, info = exported
    steps = 8
    engine = Engine(gated, SearchOptions(beam_size=1, ctc_weight=0.0, fixed_steps=steps))
    samples = recordings(lengths)
    expected = engine.decode(*pad_speech(samples, info["min_seconds"]), [TASKS[2]] * len(lengths))
    _, frames_B, ctc_BTV, sources = run(encoder, *pad_speech(samples, info["min_seconds"]))
    size = info["empty_past"]
    size[2] = len(lengths)
    past, tokens_BQ = np.zeros(size, np.float32), np.array([info["prompt"]] * len(lengths))
    said = []
    for _ in range(steps):
        log_probs_BV, past = run(decoder, tokens_BQ, past, sources, frames_B)
        allowed_BV = log_probs_BV.copy()
        allowed_BV[:, list(engine.tokens.forbidden)] = -np.inf
        allowed_BV[:, info["eos"]] = -np.inf
        tokens_BQ = allowed_BV.argmax(-1)[:, None]
        said.append(tokens_BQ[:, 0])
    assert past.shape[4] == len(info["prompt"]) + steps - 1
    for row, decoded in enumerate(expected):
        assert [int(token[row]) for token in said] == list(decoded.hypotheses[0].tokens)
    ids = greedy_ctc(torch.from_numpy(ctc_BTV), torch.from_numpy(frames_B), info["blank"])
    assert [gated.tokenizer.decode(each) for each in ids] == [decoded.ctc_text for decoded in expected]


def test_the_graphs_hold_no_closed_module(exported):
    gated, _, _, info = exported
    assert info["task"] == "st:rus-eng"
    own = [site for site in info["closed"] if site.endswith("self_attn")]
    assert info["empty_past"][0] == len(gated.model.decoder.decoders) - len(own)
