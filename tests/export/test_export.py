"""A checkpoint for one task: smaller, and the same hypotheses, gates and costs as the gated one."""

import json
from itertools import cycle

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from speechgate.cli import app
from speechgate.decoding.engine import Engine
from speechgate.errors import CheckpointError, ConfigError, ManifestError
from speechgate.export.export import export
from speechgate.export.specialise import closed_for
from speechgate.manifests.cuts import write_cuts
from speechgate.model.build import count_parameters
from speechgate.model.checkpoint import load_checkpoint, save_checkpoint
from speechgate.task import Task
from speechgate.transcribe.known import Known
from tests.data.dummies import dummy_cut, write_audio
from tests.export.gated_checkpoint import OPTIONS, decode_noise, forced, save_gated
from tests.gates.gated import ENCODERS
from tests.model.tiny import TASKS


@pytest.mark.parametrize(("encoder", "task"), [*zip(sorted(ENCODERS), cycle(TASKS), strict=False)])
def test_the_specialised_checkpoint_says_what_the_gated_one_does(tmp_path, encoder, task):
    gated = save_gated(tmp_path / "gated", encoder)
    expected = decode_noise(gated, task)
    exported = export(tmp_path / "gated", task, "speechgate", tmp_path / "small")
    assert exported.specialised.task == str(task)
    assert 0 < len(exported.specialised.closed) < len(gated.model.gates.sites)

    small = load_checkpoint(tmp_path / "small")
    found = decode_noise(small, task)
    predictors = Engine(gated, OPTIONS).cost.predictor_macs()
    for one, other in zip(found, expected, strict=True):
        assert (one.text, one.ctc_text, one.hypotheses) == (other.text, other.ctc_text, other.hypotheses)
        assert one.open_S == other.open_S
        assert (one.macs, one.macs_dense) == (other.macs - predictors, other.macs_dense)
    assert (small.gates, small.languages, small.stack) == (gated.gates, gated.languages, "both")
    assert count_parameters(small.model) < count_parameters(gated.model)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("small", "gated")]
    assert sizes[0] < sizes[1]


def test_it_is_for_its_task_alone_and_for_no_new_gates(tmp_path):
    gated = save_gated(tmp_path / "gated")
    export(tmp_path / "gated", TASKS[0], "speechgate", tmp_path / "small")
    small = load_checkpoint(tmp_path / "small")
    with pytest.raises(ConfigError, match="specialised for asr:eng: it cannot do st:rus-eng"):
        decode_noise(small, TASKS[2])
    with pytest.raises(CheckpointError, match="lacks modules: gate the one that it was made of"):
        small.add_gates(gated.gates, gated.languages)
    with pytest.raises(CheckpointError, match="already: export the one it was made of"):
        export(tmp_path / "small", TASKS[0], "espnet", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_it_tells_its_window_and_its_one_task(tmp_path):
    gated = save_gated(tmp_path / "gated")
    description = {"name": "gated", "tasks": [str(task) for task in TASKS], "train": {"max_seconds": 20.0}}
    save_checkpoint(tmp_path / "gated", gated, {"description": description})
    export(tmp_path / "gated", TASKS[2], "speechgate", tmp_path / "small")
    run = json.loads((tmp_path / "small" / "run.json").read_text())
    assert run["source"] == str(tmp_path / "gated")
    assert run["description"] == description | {"tasks": ["st:rus-eng"]}
    assert Known.of(tmp_path / "small", gated.tokenizer) == Known((TASKS[2],), 20.0)


def test_gates_that_hear_the_audio_are_fixed_to_what_most_utterances_get(tmp_path):
    gated = save_gated(tmp_path / "gated", context=("task", "source", "audio"), seed=2)
    with torch.no_grad():  # let the audio decide
        for predictor in gated.model.gates.predictors.values():
            predictor.context.norms["audio"].weight.mul_(100)
    save_checkpoint(tmp_path / "gated", gated, {})
    with pytest.raises(ConfigError, match=r"depend on more than the task \(audio\), so they are not fixed by it"):
        export(tmp_path / "gated", TASKS[0], "speechgate", tmp_path / "small")
    cuts = []
    for index, hertz in enumerate((90, 300, 1_000, 2_000, 6_000)):
        samples = 0.3 * np.sin(2 * np.pi * hertz / 16_000 * np.arange(6_000 + 900 * index) ** (1 + index / 50))[:, None]
        path = write_audio(tmp_path / f"{index}.wav", 0, samples=samples)
        cuts.append(dummy_cut(str(index), len(samples) / 16_000, path=path))
    with pytest.raises(ManifestError, match="no cut of the manifest fits"):
        export(tmp_path / "gated", TASKS[1], "speechgate", tmp_path / "small", cuts)
    exported = export(tmp_path / "gated", TASKS[0], "speechgate", tmp_path / "small", cuts)
    assert exported.specialised.utterances == 5
    assert 0.5 <= exported.specialised.agreement < 1
    assert "by 5 utterances" in str(exported)

    gates = gated.model.gates
    masks_BS = []
    for cut in cuts:
        speech_1N = torch.from_numpy(cut.load_audio())
        speech_1N = torch.nn.functional.pad(speech_1N, (0, 512))
        gates.set_context(TASKS[:1])
        with torch.inference_mode():
            encoder_out, frames = gated.model.encode(speech_1N, torch.tensor([speech_1N.size(1)]))
            gated.model.decoder(encoder_out, frames, torch.tensor([[3]]), torch.tensor([1]))
        masks_BS.append(gates.mask_BS(1))
    closed = torch.cat(masks_BS).float().mean(0) < 0.5
    assert exported.specialised.closed == tuple(str(s) for s, c in zip(gates.sites, closed, strict=True) if c)
    small = load_checkpoint(tmp_path / "small")
    found = decode_noise(small, TASKS[0])
    expected = decode_noise(forced(gated, exported.specialised.closed), TASKS[0])
    assert [one.hypotheses for one in found] == [one.hypotheses for one in expected]


def test_refusals(tmp_path):
    save_gated(tmp_path / "gated")
    with pytest.raises(ConfigError, match="--format: 'onyx' is not known; did you mean 'onnx'"):
        export(tmp_path / "gated", TASKS[0], "onyx", tmp_path / "small")
    with pytest.raises(ConfigError, match="no language <fra>"):
        export(tmp_path / "gated", Task.asr("fra"), "speechgate", tmp_path / "small")
    assert not (tmp_path / "small").exists()
    with pytest.raises(ConfigError, match="gated is not empty"):
        export(tmp_path / "gated", TASKS[0], "speechgate", tmp_path / "gated")


def test_the_gates_without_audio_are_those_of_any_audio(tmp_path):
    gated = save_gated(tmp_path / "gated", seed=5)
    for task in TASKS:
        closed = closed_for(gated, task).closed
        for decoded in decode_noise(gated, task):
            assert [str(site) not in closed for site in gated.model.gates.sites] == list(decoded.open_S)


def test_from_the_command_line(tmp_path):
    save_gated(tmp_path / "gated", context=("task", "audio"))
    path = write_audio(tmp_path / "a.wav", 0.5)
    write_cuts([dummy_cut("a", 0.5, "rus", {"eng": "thank you"}, path)], tmp_path / "cuts.jsonl.gz")
    arguments = ["export", str(tmp_path / "gated"), "--task", "st", "--src", "ru", "--tgt", "en"]
    arguments += ["--out", str(tmp_path / "small")]
    refused = CliRunner().invoke(app, arguments)
    assert "these gates depend on more than the task (audio)" in str(refused.exception)
    done = CliRunner().invoke(app, [*arguments, "--manifest", str(tmp_path / "cuts.jsonl.gz")])
    assert done.exit_code == 0, done.exception
    assert done.stdout.startswith("st:rus-eng: ")
    assert load_checkpoint(tmp_path / "small").specialised.utterances == 1


def test_the_dial_is_fixed_too(tmp_path):
    save_gated(tmp_path / "gated", rule="budget", budget=(0.0, 0.7))
    closed = []
    for share in (0.2, 0.6):
        exported = export(tmp_path / "gated", TASKS[0], "speechgate", tmp_path / str(share), sparsity=share)
        closed.append(len(exported.specialised.closed))
        small = load_checkpoint(tmp_path / str(share))
        assert small.sparsity_target == share
        gated = load_checkpoint(tmp_path / "gated")
        gated.turn(share)
        expected = decode_noise(gated, TASKS[0])
        assert [one.hypotheses for one in decode_noise(small, TASKS[0])] == [one.hypotheses for one in expected]
    assert closed[0] < closed[1]
    with pytest.raises(ConfigError, match="a specialised model has no budget dial"):
        small.turn(0.5)


def test_gates_of_the_local_scope_need_utterances(tmp_path):
    save_gated(tmp_path / "gated", scope="local")
    with pytest.raises(ConfigError, match=r"depend on more than the task \(scope local\)"):
        export(tmp_path / "gated", TASKS[0], "speechgate", tmp_path / "small")
    cut = dummy_cut("a", 0.5, path=write_audio(tmp_path / "a.wav", 0.5))
    exported = export(tmp_path / "gated", TASKS[0], "speechgate", tmp_path / "small", [cut])
    assert (exported.specialised.utterances, exported.specialised.agreement) == (1, 1.0)
    assert exported.specialised.closed
