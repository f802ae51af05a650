"""Gates of heads and channels, fixed: the exported models hold sliced weights and say the same."""

import json

import numpy as np
import onnxruntime
import pytest
import torch

from speechgate.errors import ConfigError
from speechgate.export.export import export
from speechgate.export.onnx import write_onnx
from speechgate.model.build import count_parameters
from speechgate.model.checkpoint import Specialised, load_checkpoint
from tests.export.gated_checkpoint import decode_noise, forced, save_gated
from tests.export.test_espnet import assert_same
from tests.gates.gated import ENCODERS
from tests.model.tiny import TASKS, speech

GROUPS = {"heads": 2, "channels": 4}


@pytest.mark.parametrize("encoder", sorted(ENCODERS))
def test_a_specialised_checkpoint_holds_slices_and_says_the_same(tmp_path, encoder):
    gated = save_gated(tmp_path / "gated", encoder, groups=GROUPS, rule="budget", target=0.5)
    expected = decode_noise(gated, TASKS[0])
    exported = export(tmp_path / "gated", TASKS[0], "speechgate", tmp_path / "small")
    small = load_checkpoint(tmp_path / "small")
    for one, other in zip(decode_noise(small, TASKS[0]), expected, strict=True):
        assert [h.tokens for h in one.hypotheses] == [h.tokens for h in other.hypotheses]
        assert [h.score for h in one.hypotheses] == pytest.approx([h.score for h in other.hypotheses], abs=1e-4)
        assert (one.open_S, one.macs_dense) == (other.open_S, other.macs_dense)
        assert one.macs == pytest.approx(other.macs - gated_predictors(gated))
    assert count_parameters(small.model) < count_parameters(gated.model)
    closed = set(exported.specialised.closed)
    for index, layer in enumerate(small.model.decoder.decoders):
        shares = [f"decoder.{index}.ffn.c{i}" not in closed for i in range(4)]
        assert (layer.feed_forward is None) == (not any(shares))
        if any(shares):
            assert layer.feed_forward.w_1.out_features == 28 // 4 * sum(shares)


def gated_predictors(checkpoint) -> int:
    return sum(module.weight.numel() for module in checkpoint.model.gates.modules() if hasattr(module, "in_features"))


@pytest.mark.parametrize("encoder", sorted(ENCODERS))
def test_espnet_adds_nothing_for_closed_groups(tmp_path, encoder):
    gated = save_gated(tmp_path / "gated", encoder, groups=GROUPS, rule="budget", target=0.5)
    exported = export(tmp_path / "gated", TASKS[2], "espnet", tmp_path / "espnet")
    assert exported.specialised.closed
    assert_same(tmp_path / "espnet", forced(gated, exported.specialised.closed))


def test_onnx_runs_slices_where_layers_have_as_many_heads(tmp_path):
    gated = save_gated(tmp_path / "gated", layers=1, use_sdpa=True, groups=GROUPS)
    closed = ("encoder.0.ffn1.c2", "encoder.0.attn.h0", "decoder.0.self_attn.h1", "decoder.0.ffn.c0")
    small = load_checkpoint(tmp_path / "gated")
    small.specialise(Specialised("asr:eng", closed))
    (tmp_path / "onnx").mkdir()
    paths = write_onnx(small, tmp_path / "onnx")
    assert json.loads((tmp_path / "onnx" / "onnx.json").read_text())["empty_past"] == [1, 2, 1, 1, 0, 8]
    session = onnxruntime.InferenceSession(str(paths[0]))
    speech_BN, lengths_B = speech([9_000, 5_000])
    inputs = {own.name: np.asarray(x) for own, x in zip(session.get_inputs(), (speech_BN, lengths_B), strict=True)}
    found = session.run(None, inputs)[0]
    with torch.inference_mode():
        expected, frames_B = forced(gated, closed).model.encode(speech_BN, lengths_B)
    for row, frames in enumerate(frames_B.tolist()):
        np.testing.assert_allclose(found[row, :frames], expected[row, :frames], atol=1e-4)


def test_onnx_refuses_layers_with_different_heads(tmp_path):
    save_gated(tmp_path / "gated", groups=GROUPS)
    small = load_checkpoint(tmp_path / "gated")
    small.specialise(Specialised("asr:eng", ("decoder.0.src_attn.h1",)))
    with pytest.raises(ConfigError, match=r"gates leave src_attn \[1, 2\] heads: use --format speechgate"):
        write_onnx(small, tmp_path)
