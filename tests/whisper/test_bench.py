"""The benchmark of a Whisper: this engine alone, with what closed modules save."""

import json
from pathlib import Path

import torch

from speechgate.bench.run import BenchOptions, run_bench
from speechgate.decoding.execution import Execution
from speechgate.model.checkpoint import Checkpoint, save_checkpoint
from speechgate.task import Task
from speechgate.whisper.build import load_whisper
from speechgate.whisper.config import WhisperConfig


def test_a_whisper_is_timed_without_ctc_and_espnet(whisper_folder: Path, tmp_path: Path) -> None:
    host, tokens, config = load_whisper(WhisperConfig(str(whisper_folder)), [Task.asr("fra")])
    save_checkpoint(tmp_path / "whisper", Checkpoint(host, tokens, config), {})
    options = BenchOptions(str(tmp_path / "whisper"), audio_s=1.0, tokens=3, beam=2, batch=2, repeats=1)
    run_bench(options, Execution(), torch.device("cpu"), tmp_path, lambda text: None)
    result = json.loads((tmp_path / "bench.json").read_text())
    cases = {case["name"]: case for case in result["cases"]}
    assert {(case["engine"], case["ctc_weight"]) for case in cases.values()} == {("speechgate", 0.0)}
    assert cases["dense b1 ctc0"]["skip_efficiency"] is None
    assert cases["decoder50 b1 ctc0"]["skip_efficiency"] is not None
    assert cases["decoder50 b1 ctc0"]["gmacs"] < cases["dense b1 ctc0"]["gmacs"]
    assert cases["decoder50 b1 ctc0"]["gbytes_read_by_steps"] < cases["dense b1 ctc0"]["gbytes_read_by_steps"]
    parts = {"frontend", "encoder.subsampling", "encoder.attn", "encoder.ffn", "decoder.output"}
    parts |= {"decoder.self_attn", "decoder.src_attn", "decoder.ffn"}
    assert all(profile["ms"].keys() == parts and min(profile["ms"].values()) > 0 for profile in result["profiles"])
    assert result["model"] | {"encoder_layers": 2, "decoder_layers": 3, "width": 16} == result["model"]
