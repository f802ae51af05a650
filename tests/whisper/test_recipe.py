"""Whisper through a recipe: fine-tuned, gated, decoded, scored, exported, on the bundled recordings."""

import json
from pathlib import Path

import pytest

from speechgate.config import load_experiment
from speechgate.errors import ConfigError
from speechgate.export.export import export
from speechgate.hypotheses import decode
from speechgate.model.checkpoint import load_checkpoint
from speechgate.recipe import Recipe
from speechgate.scoring.score import score_directory
from speechgate.task import Task
from tests.training.faults import prepare
from tests.whisper.tiny import write_whisper

FEW = ["train.updates=2", "train.validate_every=2", "train.average=1", "train.max_duration=6", "train.warmup=0"]


def test_whisper_goes_through_the_stages(tmp_path: Path) -> None:
    folder = write_whisper(tmp_path / "whisper", max_source_positions=1500, max_target_positions=448)
    prepare(tmp_path)
    recipe = Recipe("prompts", tmp_path / "data", tmp_path / "exp")
    kinds, languages = ["asr", "st:eng"], ["fr", "es"]
    dense = recipe.train(load_experiment("whisper", [f"model.whisper={folder}", *FEW]), kinds, languages)
    assert load_checkpoint(dense).tokenizer.added == ("<|spa|>",)
    gates = load_experiment("whisper_gates", FEW).with_gates("decoder", 0.5)
    gated = recipe.train(gates, kinds, languages, init=dense)
    assert recipe.dense_of(gated) == dense
    assert recipe.dense_of(dense) is None
    decoded = decode(recipe, gated, "test", kinds, languages, dense=dense)
    record = json.loads((decoded / "decode.json").read_text())
    assert record["options"]["finish"] == "transformers"
    assert set(record["time_vs_dense"]) == {"asr:fra", "asr:spa", "st:fra-eng", "st:spa-eng"}
    rows = score_directory(decoded)["rows"]
    assert {row["task"] for row in rows} == set(record["time_vs_dense"])
    assert all(abs(row["sparsity_modules"] - 0.5) < 1 / 9 for row in rows)
    exported = export(gated, Task.asr("fra"), "speechgate", tmp_path / "small", list(recipe.cuts("test")))
    small, whole = (path.stat().st_size for path in (exported.files[0], gated / "model.safetensors"))
    assert small < whole
    with pytest.raises(ConfigError, match="Whisper"):
        export(gated, Task.asr("fra"), "espnet", tmp_path / "other", list(recipe.cuts("test")))
