"""The files for ESPnet, loaded by ESPnet alone."""

import pytest
import torch
from espnet2.bin.s2t_inference import Speech2Text
from espnet2.tasks.s2t import S2TTask

from speechgate.export.espnet import write_espnet
from speechgate.export.export import export
from speechgate.model.checkpoint import Specialised, load_checkpoint
from speechgate.model.espnet_compat import GlobalMVN
from speechgate.model.published import import_espnet
from tests.export.gated_checkpoint import forced, save_gated
from tests.gates.gated import ENCODERS, decode, encode
from tests.model.tiny import TASKS, recordings, speech


def assert_same(folder, gated, seed=0):
    """That ESPnet's model says what the gated one says with the gates now forced."""
    model, _ = S2TTask.build_model_from_file(folder / "config.yaml", folder / "model.pth")
    inputs = speech([9_000, 4_000, 6_000], seed)
    with torch.inference_mode():
        expected, found = encode(gated.model, *inputs), encode(model.eval(), *inputs)
        torch.testing.assert_close(found[0], expected[0], atol=1e-5, rtol=1e-5)
        assert torch.equal(found[1], expected[1])
        torch.testing.assert_close(decode(model, *found), decode(gated.model, *expected), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            model.ctc.log_softmax(found[0]), gated.model.ctc.log_softmax(expected[0]), atol=1e-5, rtol=1e-5
        )
    return model


@pytest.mark.parametrize("encoder", sorted(ENCODERS))
def test_espnet_says_what_the_gated_checkpoint_says(tmp_path, encoder):
    gated = save_gated(tmp_path / "gated", encoder, seed=1)
    exported = export(tmp_path / "gated", TASKS[2], "espnet", tmp_path / "espnet")
    assert exported.specialised.closed
    assert_same(tmp_path / "espnet", forced(gated, exported.specialised.closed))


@pytest.mark.parametrize("scope", ["utterance", "global"])
def test_the_normalisation_is_the_model_s(tmp_path, scope):
    normalize = {"scope": scope, "norm_vars": True}
    gated = save_gated(tmp_path / "gated", normalize=normalize)
    exported = export(tmp_path / "gated", TASKS[2], "espnet", tmp_path / "espnet")
    model = assert_same(tmp_path / "espnet", forced(gated, exported.specialised.closed))
    if scope == "global":
        read = GlobalMVN(tmp_path / "espnet" / "feats_stats.npz")
        torch.testing.assert_close(read.mean.float(), gated.model.normalize.mean.float())
        torch.testing.assert_close(read.std.float(), gated.model.normalize.std.float())
    imported = import_espnet(tmp_path / "espnet")
    assert imported.config.normalize == normalize
    inputs = speech([9_000, 4_000])
    with torch.inference_mode():
        torch.testing.assert_close(encode(imported.model, *inputs), encode(model, *inputs))


def test_both_branches_closed_merge_to_nothing(tmp_path):
    gated = save_gated(tmp_path / "gated")
    closed = ("encoder.0.attn", "encoder.0.cgmlp", "encoder.1.cgmlp")
    write_espnet(load_checkpoint(tmp_path / "gated"), Specialised("asr:eng", closed), tmp_path / "espnet")
    assert_same(tmp_path / "espnet", forced(gated, closed))


def test_layers_with_nothing_open_are_left_out_where_they_are_the_identity(tmp_path):
    for encoder, left in (("transformer", 1), ("e_branchformer", 2)):
        folder = tmp_path / encoder
        gated = save_gated(folder / "gated", encoder)
        closed = [str(site) for site in gated.model.gates.sites if site.layer == 0]
        closed.append("decoder.1.src_attn")
        weights = write_espnet(
            load_checkpoint(folder / "gated"), Specialised("asr:eng", tuple(closed)), folder / "espnet"
        )
        model = assert_same(folder / "espnet", forced(gated, tuple(closed)))
        assert (len(model.encoder.encoders), len(model.decoder.decoders)) == (left, 1)
        assert weights.stat().st_size < (folder / "gated" / "model.safetensors").stat().st_size


def test_espnet_s_own_inference_runs_it(tmp_path):
    save_gated(tmp_path / "gated")
    export(tmp_path / "gated", TASKS[0], "espnet", tmp_path / "espnet")
    recognise = Speech2Text(
        tmp_path / "espnet" / "config.yaml",
        tmp_path / "espnet" / "model.pth",
        beam_size=1,
        maxlenratio=-4,  # so many tokens at most
        lang_sym="<eng>",
        task_sym="<asr>",
    )
    text, tokens, *_ = recognise(recordings([8_000])[0].numpy())[0]
    assert isinstance(text, str)
    assert tokens[:3] == ["<eng>", "<asr>", "<notimestamps>"]
