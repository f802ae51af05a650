"""Whisper as a host against transformers' own modules, and with gates."""

import dataclasses
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

from speechgate.config import GatesConfig
from speechgate.data.batch import pad_speech
from speechgate.decoding.engine import Engine
from speechgate.decoding.search import SearchOptions
from speechgate.errors import AudioError, ConfigError
from speechgate.gates.attach import attach, detach
from speechgate.gates.cost import CostTable
from speechgate.model.checkpoint import Checkpoint, Specialised, load_checkpoint, save_checkpoint
from speechgate.task import Task
from speechgate.whisper.build import load_whisper
from speechgate.whisper.config import WhisperConfig
from speechgate.whisper.layers import whisper_stacks
from tests.whisper.tiny import POSITIONS

TASKS = [Task.asr("eng"), Task.st("fra", "eng"), Task.st("deu", "fra"), Task.asr("mdw")]
SECONDS = (1.7, 0.6, 2.3, 0.9)
SITES = 2 * 2 + 3 * 3
OPTIONS = SearchOptions(beam_size=3, ctc_weight=0.0, finish="transformers", max_length_ratio=-12)


@pytest.fixture(scope="module")
def checkpoint(whisper_folder: Path) -> Checkpoint:
    found = Checkpoint(*load_whisper(WhisperConfig(str(whisper_folder)), TASKS))
    found.model.eval()
    return found


def recordings() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [0.3 * torch.randn(int(16_000 * seconds), generator=generator) for seconds in SECONDS]


def fresh(folder: Path) -> Checkpoint:
    found = Checkpoint(*load_whisper(WhisperConfig(str(folder)), TASKS))
    found.model.eval()
    return found


@torch.inference_mode()
def test_a_whole_window_is_encoded_and_decoded_as_by_transformers(whisper_folder: Path, checkpoint: Checkpoint) -> None:
    reference = WhisperForConditionalGeneration.from_pretrained(whisper_folder, dtype=torch.float32).eval()
    extractor = WhisperFeatureExtractor(feature_size=20, chunk_length=3)
    heard = [each.numpy() for each in recordings()]
    features = extractor(heard, sampling_rate=16_000, return_tensors="pt").input_features
    out_BTD, frames_B = checkpoint.model.encode(*pad_speech(recordings(), 3.0))
    assert frames_B.tolist() == [POSITIONS] * len(TASKS)
    expected_BTD = reference.model.encoder(features).last_hidden_state
    torch.testing.assert_close(out_BTD, expected_BTD, atol=1e-5, rtol=1e-5)
    tokens_BL = torch.randint(0, 256, (len(TASKS), 7))
    logits_BLV, _ = checkpoint.model.decoder(out_BTD, frames_B, tokens_BL, torch.full((len(TASKS),), 7))
    expected_BLV = reference(encoder_outputs=(expected_BTD,), decoder_input_ids=tokens_BL).logits
    torch.testing.assert_close(logits_BLV[..., : expected_BLV.size(2)], expected_BLV, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_utterances_of_a_batch_do_not_influence_each_other(checkpoint: Checkpoint) -> None:
    out_BTD, frames_B = checkpoint.model.encode(*pad_speech(recordings(), 0.2))
    assert frames_B.tolist() == [round(seconds * 50) for seconds in SECONDS]
    tokens_BL = torch.randint(0, 256, (len(TASKS), 5))
    logits_BLV, _ = checkpoint.model.decoder(out_BTD, frames_B, tokens_BL, torch.full((len(TASKS),), 5))
    for row, recording in enumerate(recordings()):
        alone_1TD, frames_1 = checkpoint.model.encode(*pad_speech([recording], 0.2))
        torch.testing.assert_close(alone_1TD[0], out_BTD[row, : frames_1[0]], atol=1e-5, rtol=1e-5)
        one_1LV, _ = checkpoint.model.decoder(alone_1TD, frames_1, tokens_BL[row : row + 1], torch.tensor([5]))
        torch.testing.assert_close(one_1LV[0], logits_BLV[row], atol=1e-4, rtol=1e-4)


def test_a_recording_longer_than_the_positions_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(AudioError, match="more than 3 s"):
        checkpoint.model.encode(*pad_speech([torch.zeros(16_000 * 4)], 0.2))


def test_a_text_longer_than_the_positions_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(ConfigError, match="60 positions"):
        checkpoint.model.decoder(torch.zeros(1, 5, 16), torch.tensor([5]), torch.ones(1, 61).long(), torch.tensor([61]))


def test_a_pretrained_model_comes_ready_to_train(whisper_folder: Path) -> None:
    host, _, _ = load_whisper(WhisperConfig(str(whisper_folder), dropout=0.1), TASKS)
    assert all(module.training for module in host.modules())
    assert {layer.dropout for layer in [*host.encoder.layers, *host.decoder.decoder.layers]} == {0.1}


def decoded(checkpoint: Checkpoint, rows: list[int] | None = None) -> list[tuple[int, ...]]:
    rows = rows or list(range(len(TASKS)))
    speech_BN, lengths_B = pad_speech([recordings()[row] for row in rows], 0.2)
    found = Engine(checkpoint, OPTIONS).decode(speech_BN, lengths_B, [TASKS[row] for row in rows])
    assert all(each.ctc_text is None for each in found)
    return [each.hypotheses[0].tokens for each in found]


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_skipping_is_multiplying_by_zero_and_dropping(whisper_folder: Path, data: st.DataObject) -> None:
    mask = data.draw(st.lists(st.booleans(), min_size=SITES, max_size=SITES))
    checkpoint = fresh(whisper_folder)
    checkpoint.add_gates(GatesConfig(stack="both"), ["deu", "eng", "fra", "mdw"])
    model = checkpoint.model
    model.gates.force(torch.tensor([mask]))
    args = pad_speech(recordings(), 0.2)
    tokens_BL = torch.randint(0, 256, (len(TASKS), 5))

    def run() -> torch.Tensor:
        with torch.no_grad():
            model.gates.set_context(TASKS)
            out_BTD, frames_B = model.encode(*args)
            return model.decoder(out_BTD, frames_B, tokens_BL, torch.full((len(TASKS),), 5))[0]

    skipped_BLV = run()
    multiplied_BLV = run_in_training(model, run)
    torch.testing.assert_close(skipped_BLV, multiplied_BLV, atol=1e-5, rtol=1e-4)
    searched = decoded(checkpoint)
    closed = tuple(str(site) for site, is_open in zip(model.gates.sites, mask, strict=True) if not is_open)
    checkpoint.specialise(Specialised("asr:eng", closed))
    with torch.no_grad():
        out_BTD, frames_B = model.encode(*args)
        dropped_BLV = model.decoder(out_BTD, frames_B, tokens_BL, torch.full((len(TASKS),), 5))[0]
    torch.testing.assert_close(dropped_BLV, skipped_BLV, atol=1e-5, rtol=1e-4)
    assert decoded(checkpoint, [0]) == searched[:1]


def run_in_training(model, run) -> torch.Tensor:
    model.train()
    try:
        return run()
    finally:
        model.eval()


@pytest.mark.parametrize("scope", ["global", "local"])
def test_utterances_with_masks_of_their_own_are_decoded_as_one_by_one(whisper_folder: Path, scope: str) -> None:
    checkpoint = fresh(whisper_folder)
    gates = GatesConfig(stack="both", scope=scope, initial_logit=0.0)
    checkpoint.add_gates(gates, ["deu", "eng", "fra", "mdw"])
    for parameter in checkpoint.model.gates.parameters():
        torch.nn.init.normal_(parameter, std=1.0)
    checkpoint.model.eval()
    speech_BN, lengths_B = pad_speech(recordings(), 0.2)
    found = Engine(checkpoint, OPTIONS).decode(speech_BN, lengths_B, TASKS)
    assert len({each.open_S for each in found}) > 1
    assert [each.hypotheses[0].tokens for each in found] == [decoded(checkpoint, [row])[0] for row in range(4)]
    assert all(each.macs < each.macs_dense for each in found)


def test_gates_come_off_again_and_travel_with_a_checkpoint(whisper_folder: Path, tmp_path: Path) -> None:
    checkpoint = fresh(whisper_folder)
    before = decoded(checkpoint)
    checkpoint.add_gates(GatesConfig(stack="decoder", rule="budget", target=0.3), ["deu", "eng", "fra", "mdw"])
    checkpoint.model.eval()
    gated = decoded(checkpoint)
    save_checkpoint(tmp_path / "saved", checkpoint, {})
    loaded = load_checkpoint(tmp_path / "saved")
    assert decoded(loaded) == gated
    assert loaded.tokenizer.token_list == checkpoint.tokenizer.token_list
    detach(checkpoint.model)
    assert decoded(dataclasses.replace(checkpoint, gates=None)) == before


def test_transformers_own_class_takes_gates_but_no_cache(whisper_folder: Path) -> None:
    model = WhisperForConditionalGeneration.from_pretrained(whisper_folder, dtype=torch.float32).eval()
    features = torch.randn(1, 20, 2 * POSITIONS)
    tokens = torch.tensor([[257, 3, 4]])
    with torch.no_grad():
        dense = model(input_features=features, decoder_input_ids=tokens, use_cache=False).logits
        gates = attach(model, GatesConfig(stack="both"), ["eng"], whisper_stacks)
        gates.set_context([Task.asr("eng")])
        gates.force(torch.ones(1, SITES, dtype=torch.bool))
        torch.testing.assert_close(
            model(input_features=features, decoder_input_ids=tokens, use_cache=False).logits, dense
        )
        gates.force(torch.zeros(1, SITES, dtype=torch.bool))
        assert not torch.allclose(
            model(input_features=features, decoder_input_ids=tokens, use_cache=False).logits, dense
        )
        with pytest.raises(ConfigError, match="use_cache"):
            model(input_features=features, decoder_input_ids=tokens, use_cache=True)


def test_the_cost_of_the_encoder_is_that_of_pytorch_s_counter(whisper_folder: Path) -> None:
    model, frames = fresh(whisper_folder).model, 85
    model.config._attn_implementation = "eager"  # the fused kernel is not counted on a CPU
    cost, x_1TD = CostTable(model), torch.randn(1, frames, 16)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        for layer in model.encoder.layers:
            layer(x_1TD, None)
    encoder = [i for i, site in enumerate(cost.sites) if site.stack == "encoder"]
    assert cost.site_macs(frames, 0, 1)[encoder].sum() == counter.get_total_flops() / 2


def test_a_model_without_ctc_refuses_its_weight(checkpoint: Checkpoint) -> None:
    with pytest.raises(ConfigError, match="no CTC"):
        Engine(checkpoint, SearchOptions(ctc_weight=0.3))
    with pytest.raises(ConfigError, match="Whisper"):
        checkpoint.of_espnet("--format onnx")
