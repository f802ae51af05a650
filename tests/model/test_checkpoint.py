import json
import subprocess
import sys

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file
from torch import nn

from speechgate.config import GatesConfig, load_yaml
from speechgate.errors import CheckpointError, ConfigError
from speechgate.files import write_text
from speechgate.model.checkpoint import load_checkpoint, save_checkpoint
from speechgate.model.weights import average_states, load_weights
from tests.model.tiny import LANGUAGES, TASKS, checkpoint_of, random_model, randomise, speech, tiny_config, tokenizer

GATES = GatesConfig(stack="both", target=0.7, context=("task", "audio"))


def saved(folder, gates: GatesConfig | None = None, config=None, **keys):
    """A checkpoint and the folder that it was written to."""
    config = config or tiny_config()
    checkpoint = checkpoint_of(random_model(config), config)
    if gates is not None:
        checkpoint.add_gates(gates, LANGUAGES)
        randomise(checkpoint.model.gates, 1)
    save_checkpoint(folder, checkpoint, {"seed": 3}, **keys)
    return checkpoint


def rewrite(folder, old: str, new: str) -> None:
    """Put ``new`` in the place of ``old`` in the checkpoint's config.yaml."""
    path = folder / "config.yaml"
    text = path.read_text()
    assert text.count(old) == 1
    write_text(path, text.replace(old, new))


def same_weights(found: nn.Module, expected: nn.Module, tolerance: float = 0.0) -> None:
    states = found.state_dict(), expected.state_dict()
    assert list(states[0]) == list(states[1])
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], atol=tolerance, rtol=tolerance, msg=name)


@pytest.mark.parametrize("gates", [None, GATES])
def test_round_trip(tmp_path, gates):
    checkpoint = saved(tmp_path / "new" / "folder", gates)
    loaded = load_checkpoint(tmp_path / "new" / "folder")
    same_weights(loaded.model, checkpoint.model)
    assert (loaded.config, loaded.gates) == (checkpoint.config, checkpoint.gates)
    assert loaded.languages == (() if gates is None else LANGUAGES)
    assert loaded.stack == ("none" if gates is None else "both")
    assert loaded.tokenizer.token_list == tokenizer().token_list
    assert not any(module.training for module in loaded.model.modules())
    for model in (checkpoint.model, loaded.model):
        if gates is not None:
            model.gates.set_context(TASKS[:2])
    inputs = speech([5_000, 4_000])
    with torch.inference_mode():
        assert torch.equal(loaded.model.encode(*inputs)[0], checkpoint.model.encode(*inputs)[0])
    if gates is not None:
        assert torch.equal(loaded.model.gates.mask_BS(2), checkpoint.model.gates.mask_BS(2))


def test_folder_holds_what_its_users_need_and_nothing_pickled(tmp_path):
    saved(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"model.safetensors", "config.yaml", "tokens.txt", "tokens.model", "run.json"}
    assert json.loads((tmp_path / "run.json").read_text()) == {"seed": 3}


def test_half_precision_on_disk_is_single_precision_again_in_memory(tmp_path):
    checkpoint = saved(tmp_path, GATES, dtype=torch.float16)
    floating = [value for value in load_file(tmp_path / "model.safetensors").values() if value.is_floating_point()]
    assert {value.dtype for value in floating} == {torch.float16}
    loaded = load_checkpoint(tmp_path)
    assert {value.dtype for value in loaded.model.parameters()} == {torch.float32}
    same_weights(loaded.model, checkpoint.model, tolerance=1e-3)


def test_weights_of_another_model_are_refused_by_key(tmp_path):
    saved(tmp_path / "small")
    saved(tmp_path / "deep", config=tiny_config(encoder_layers=3))
    saved(tmp_path / "wide", config=tiny_config(width=24))
    saved(tmp_path / "gated", GATES)
    dense = random_model(tiny_config())
    with pytest.raises(CheckpointError, match=r"encoder\.encoders\.2\.\S+ is unknown; .* and \d+ more"):
        load_weights(dense, tmp_path / "deep" / "model.safetensors")
    with pytest.raises(
        CheckpointError, match=r"encoder\.embed\.conv\.0\.weight is \(24, 1, 3, 3\), not \(16, 1, 3, 3\)"
    ):
        load_weights(dense, tmp_path / "wide" / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"gates\.predictors\.\S+ is unknown"):
        load_weights(dense, tmp_path / "gated" / "model.safetensors")
    deep = random_model(tiny_config(encoder_layers=3))
    with pytest.raises(CheckpointError, match=r"small.model\.safetensors belongs to another model: .* is missing"):
        load_weights(deep, tmp_path / "small" / "model.safetensors")
    same_weights(dense, random_model(tiny_config()))  # and nothing was loaded


@pytest.mark.parametrize("size", [0, 4, 500, 20_000])
def test_a_truncated_file_is_refused(tmp_path, size):
    saved(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read .*: copy or train it again"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.yaml", "tokens.txt", "tokens.model"])
def test_a_missing_file_is_named(tmp_path, name):
    saved(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load_checkpoint(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"absent holds no model\.safetensors"):
        load_checkpoint(tmp_path / "absent")


@pytest.mark.parametrize(
    ("written", "advice"),
    [
        ("format: 2\n", "has format 2; this version reads 1: update speechgate"),
        ("format: 0\n", r"has format 0; .*: train it again, or load it with the commit in .*run\.json"),
        ("format: draft\n", r"has format draft; .*: train it again, or load it with the commit in .*run\.json"),
        ("", r"has format None; .*: train it again, or load it with the commit in .*run\.json"),
    ],
)
def test_another_format_is_refused_with_what_to_do(tmp_path, written, advice):
    saved(tmp_path)
    rewrite(tmp_path, "format: 1\n", written)
    with pytest.raises(CheckpointError, match=advice):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("part", "old", "new", "near"),
    [("gates", "  hidden:", "  hiden:", "hidden"), ("model", "  specaug:", "  spec_aug:", "specaug")],
)
def test_a_key_that_is_not_known_any_more_is_named_with_the_nearest(tmp_path, part, old, new, near):
    saved(tmp_path, GATES)
    rewrite(tmp_path, old, new)
    with pytest.raises(ConfigError, match=rf"config\.yaml: {part}: '{new.strip(' :')}' is not known; .* '{near}'"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("key", ["model", "languages"])
def test_a_part_that_is_missing_is_named(tmp_path, key):
    saved(tmp_path, GATES)
    rewrite(tmp_path, f"\n{key}:", f"\nnot_{key}:")
    with pytest.raises(CheckpointError, match=rf"config\.yaml has no '{key}': copy the checkpoint again"):
        load_checkpoint(tmp_path)


def test_gates_older_than_a_key_are_as_they_were_without_it(tmp_path):
    """The first checkpoints of gates had these keys, and no others."""
    checkpoint = saved(tmp_path, GATES)
    path = tmp_path / "config.yaml"
    values = load_yaml(path)
    first = "stack target context hidden initial_logit temperature alpha ramp settle learning_rate"
    write_text(path, OmegaConf.to_yaml({**values, "gates": {key: values["gates"][key] for key in first.split()}}))
    loaded = load_checkpoint(tmp_path)
    assert loaded.gates == checkpoint.gates
    same_weights(loaded.model, checkpoint.model)
    for model in (checkpoint.model, loaded.model):
        model.gates.set_context(TASKS[:2])
        with torch.inference_mode():
            model.encode(*speech([5_000, 4_000]))
    assert torch.equal(loaded.model.gates.mask_BS(2), checkpoint.model.gates.mask_BS(2))


def test_average_of_states():
    states = [
        {
            "weight": torch.tensor([1.0, 2.0]),
            "half": torch.tensor([0.0], dtype=torch.float16),
            "steps": torch.tensor(5),
        },
        {
            "weight": torch.tensor([3.0, 6.0]),
            "half": torch.tensor([1.0], dtype=torch.float16),
            "steps": torch.tensor(9),
        },
    ]
    mean = average_states(iter(states))
    assert mean["weight"].tolist() == [2.0, 4.0]
    assert (mean["half"].item(), mean["half"].dtype) == (0.5, torch.float16)
    assert mean["steps"] == 9
    assert average_states(states[:1])["weight"].tolist() == [1.0, 2.0]


def test_a_colleague_can_read_what_the_umask_lets_them(tmp_path):
    program = (
        "import os, sys; os.umask(0o022)\n"
        "import torch; from safetensors.torch import save_file; from pathlib import Path\n"
        "from speechgate.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as temporary: save_file({'w': torch.ones(2)}, temporary)\n"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "w.safetensors"], check=True)
    assert (tmp_path / "w.safetensors").stat().st_mode & 0o777 == 0o644
