"""`transcribe` with a Whisper: pieces of speech without times of words, what the engine hears in each."""

from pathlib import Path

import numpy as np
import pytest
import torch

from speechgate.audio import Recording
from speechgate.data.batch import pad_speech
from speechgate.decoding.engine import Engine
from speechgate.decoding.search import SearchOptions
from speechgate.hypotheses import decode_options
from speechgate.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from speechgate.task import Task
from speechgate.transcribe.transcriber import Transcriber
from speechgate.whisper.build import load_whisper
from speechgate.whisper.config import WhisperConfig
from tests.transcribe.test_transcriber import FRENCH

GREEDY = SearchOptions(beam_size=1, ctc_weight=0.0, finish="transformers", max_length_ratio=-12)
TASKS = [Task.asr("eng"), Task.asr("fra"), Task.st("fra", "eng")]


@pytest.fixture(scope="module")
def folder(whisper_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    host, tokens, config = load_whisper(WhisperConfig(str(whisper_folder)), TASKS)
    folder = tmp_path_factory.mktemp("checkpoint")
    run = {"description": {"tasks": [str(task) for task in TASKS], "train": {"max_seconds": 3.0}}}
    save_checkpoint(folder, Checkpoint(host.eval(), tokens, config), run)
    return folder


@pytest.mark.parametrize("task", TASKS[1:], ids=str)
def test_each_piece_reads_as_the_engine_hears_it(folder: Path, task: Task) -> None:
    transcriber = Transcriber(folder, options=GREEDY, device="cpu")
    heard = transcriber.transcribe(FRENCH, src="fr", tgt=None if task.kind == "asr" else task.tgt)
    assert heard.task == task
    assert heard.segments
    with Recording(FRENCH) as recording:
        samples_N = torch.from_numpy(np.concatenate(list(recording.blocks("flt"))))
    checkpoint = load_checkpoint(folder)
    engine = Engine(checkpoint, GREEDY)
    for segment in heard.segments:
        assert segment.words == ()
        assert segment.end - segment.start <= 3.0
        piece_N = samples_N[round(16_000 * segment.start) : round(16_000 * segment.end)].clip(-1, 1)
        [alone] = engine.decode(*pad_speech([piece_N], checkpoint.config.min_seconds), [task])
        assert segment.text == alone.text


def test_the_language_is_found_out(folder: Path) -> None:
    heard = Transcriber(folder, options=GREEDY, device="cpu").transcribe(FRENCH)
    assert heard.task in TASKS[:2]
    assert 0.5 <= heard.language_probability <= 1.0


def test_the_search_is_whispers_unless_told_otherwise(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr(
        "speechgate.transcribe.transcriber.Recogniser", lambda checkpoint, options, *_: given.append(options)
    )
    Transcriber(folder, device="cpu")
    assert given == [decode_options("whisper")]
