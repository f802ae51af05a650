"""A Whisper in transformers' own format: its ``generate`` says what this engine does, closed modules and all."""

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, WhisperForConditionalGeneration, pipeline

from speechgate.config import GatesConfig
from speechgate.data.batch import pad_speech
from speechgate.decoding.engine import Engine
from speechgate.decoding.search import SearchOptions
from speechgate.errors import ConfigError
from speechgate.export.export import export
from speechgate.model.checkpoint import Checkpoint, save_checkpoint
from speechgate.task import Task
from speechgate.whisper.build import load_whisper
from speechgate.whisper.config import WhisperConfig
from tests.export.gated_checkpoint import save_gated
from tests.model.tiny import TASKS, recordings

GREEDY = SearchOptions(beam_size=1, ctc_weight=0.0, finish="transformers", max_length_ratio=-20)
WINDOW = 3.0  # seconds that the tiny Whisper's positions cover
KNOWN, NEW = Task.parse("st:fra-eng"), Task.parse("st:mdw-fra")


def save_whisper(pretrained: Path, folder: Path) -> Checkpoint:
    """A tiny Whisper with random gates on both stacks, that look at the task and the languages."""
    host, tokens, config = load_whisper(WhisperConfig(str(pretrained), min_seconds=WINDOW), [KNOWN, NEW])
    checkpoint = Checkpoint(host.eval(), tokens, config)
    torch.manual_seed(3)
    gates = GatesConfig(stack="both", target=0.5, context=("task", "source", "target"))
    checkpoint.add_gates(gates, ["eng", "fra", "mdw"])
    with torch.no_grad():
        for parameter in host.gates.parameters():
            parameter.copy_(torch.randn_like(parameter))
    save_checkpoint(folder, checkpoint, {})
    return checkpoint


@pytest.mark.parametrize("task", [Task.asr("eng"), Task.asr("fra"), KNOWN, NEW], ids=str)
def test_generate_says_what_the_engine_says(whisper_folder: Path, tmp_path: Path, task: Task) -> None:
    gated = save_whisper(whisper_folder, tmp_path / "gated")
    samples = recordings([9_000, 30_000], 0)
    expected = Engine(gated, GREEDY).decode(*pad_speech(samples, WINDOW), [task] * 2)
    exported = export(tmp_path / "gated", task, "transformers", tmp_path / "plain")
    assert 0 < len(exported.specialised.closed) < exported.sites

    model = WhisperForConditionalGeneration.from_pretrained(tmp_path / "plain").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "plain")
    tokens = gated.tokenizer
    assert tokenizer.convert_ids_to_tokens(range(len(tokens))) == tokens.token_list
    for one, samples_N in zip(expected, samples, strict=True):
        speech_1N, _ = pad_speech([samples_N], WINDOW)
        features = gated.model.frontend(speech_1N)[..., : int(100 * WINDOW)]
        found = model.generate(features, max_new_tokens=20, num_beams=1)
        assert tokenizer.decode(found[0], skip_special_tokens=True).strip() == one.text
        assert model.generation_config.lang_to_id[model.generation_config.language] == tokens.prompt(task)[0]


def test_a_model_of_espnets_classes_is_refused(tmp_path: Path) -> None:
    save_gated(tmp_path / "gated")
    with pytest.raises(ConfigError, match="--format transformers is for a Whisper"):
        export(tmp_path / "gated", TASKS[0], "transformers", tmp_path / "plain")
    assert not (tmp_path / "plain").exists()


def test_transformers_own_pipeline_takes_it(whisper_folder: Path, tmp_path: Path) -> None:
    save_whisper(whisper_folder, tmp_path / "gated")
    export(tmp_path / "gated", Task.asr("fra"), "transformers", tmp_path / "plain")
    recognise = pipeline("automatic-speech-recognition", str(tmp_path / "plain"))
    recognise.feature_extractor.n_samples = int(16_000 * WINDOW)  # as long as the tiny Whisper's positions
    heard = recognise({"raw": recordings([20_000], 0)[0].numpy(), "sampling_rate": 16_000})
    assert set(heard) == {"text"}
