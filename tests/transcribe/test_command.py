"""The command line, and the options that it shares with `decode`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from speechgate.cli import app
from speechgate.decoding.execution import Execution
from speechgate.decoding.search import SearchOptions
from speechgate.decoding.search.int8 import can_quantise
from speechgate.errors import CheckpointError, ConfigError
from speechgate.export.export import export
from speechgate.model.checkpoint import load_checkpoint, save_checkpoint
from speechgate.recipe import Recipe
from speechgate.task import Task
from speechgate.text.vocabulary import learn_vocabulary, save_vocabulary
from speechgate.transcribe.transcriber import Transcriber
from tests.gates.gated import gated_model
from tests.model.tiny import TASKS, checkpoint_of, searchable, tiny_config
from tests.transcribe.bundled import ENGLISH, FRENCH


def test_command_line(talk: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_text("no")
    run = CliRunner()
    done = run.invoke(
        app, ["transcribe", str(talk), str(bad), str(FRENCH), "--output-dir", str(tmp_path / "out"), "--format", "json"]
    )
    assert done.exit_code == 1
    assert str(bad) in done.stderr
    assert "asr:fra" in done.stderr
    assert not done.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["agent-loggedoff.json", "talk.json"]
    values = json.loads((tmp_path / "out" / "talk.json").read_text())
    assert (values["task"], values["file"]) == ("asr:eng", str(talk))

    done = run.invoke(app, ["transcribe", str(FRENCH), "--tgt", "en", "--format", "srt"])
    assert done.exit_code == 0
    assert done.stdout.startswith("1\n00:00:0")


@pytest.mark.parametrize("task", TASKS[:2], ids=str)
def test_an_export_does_its_one_task_whatever_it_hears(tmp_path: Path, task: Task) -> None:
    config = tiny_config()
    gated = checkpoint_of(searchable(gated_model(config, context=("task", "source"))[0]), config)
    save_checkpoint(tmp_path / "gated", gated, {})
    export(tmp_path / "gated", task, "speechgate", tmp_path / "small")
    done = CliRunner().invoke(app, ["transcribe", str(ENGLISH[0]), str(FRENCH), "--model", str(tmp_path / "small")])
    assert done.exit_code == 0, done.exception
    assert done.stderr.count(f" s, {task}\n") == 2  # and no language found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.wav", "b.wav", "--format", "srt"], "give --output-dir"),
        (["a.wav", "b/a.mp3", "--output-dir", "out"], "would both be written to"),
        (["a.wav", "a.wav"], "given twice"),
        (["a.wav", "--format", "str"], "did you mean 'srt'"),
    ],
)
def test_wrong_options_are_refused_before_the_model_is_loaded(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["transcribe", *arguments])
    assert isinstance(done.exception, ConfigError)
    assert message in str(done.exception)


def test_a_vocabulary_and_an_output_layer_in_8_bits(transcriber: Transcriber, talk: Path, tmp_path: Path) -> None:
    """As for `decode`: the letters that were learnt and no others, and words that keep their times."""
    folder = Recipe("prompts").pretrained
    tokens = load_checkpoint(folder, "cpu").tokenizer
    letters = "abcdfghijklmnopqrstuvwxyz "  # no e
    learnt = learn_vocabulary(tokens, {"eng": [letters]})
    save_vocabulary(tmp_path / "vocabulary.json", learnt, {})
    options = SearchOptions(beam_size=2)
    narrow = Transcriber(folder, options=options, device="cpu", vocabulary=tmp_path / "vocabulary.json")
    found = narrow.transcribe(talk, src="en")
    assert "e" in transcriber.transcribe(talk, src="en").text
    assert found.text
    assert set(found.text) <= set(letters)
    for segment in found.segments:
        assert [word.text for word in segment.words] == segment.text.split()
    with pytest.raises(ConfigError, match="'fra'"):
        narrow.stream([FRENCH], src="fr")
    (tmp_path / "other.json").write_text((tmp_path / "vocabulary.json").read_text().replace(learnt.digest, "0"))
    with pytest.raises(CheckpointError, match="other tokens"):
        Transcriber(folder, device="cpu", vocabulary=tmp_path / "other.json")
    if not can_quantise(torch.zeros(2, 2)):
        pytest.skip("the processor has no int8 products")
    given = ["transcribe", str(talk), "--src", "en", "--vocabulary", str(tmp_path / "vocabulary.json"), "--int8-output"]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0
    assert done.stdout.strip()
    assert set(done.stdout) <= {*letters, "\n"}
    exact = narrow.transcribe(talk, src="en")
    coarse = Transcriber(
        folder,
        options=options,
        device="cpu",
        vocabulary=tmp_path / "vocabulary.json",
        execution=Execution(int8_output=True),
    ).transcribe(talk, src="en")
    assert [each.score for each in coarse.segments] != [each.score for each in exact.segments]
    assert coarse.segments[0].score == pytest.approx(exact.segments[0].score, abs=0.3)


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, speechgate; assert 'torch' not in sys.modules"
    code += "; assert speechgate.Transcriber.__name__ == 'Transcriber'"
    subprocess.run([sys.executable, "-c", code], check=True)
