"""The vocabulary of a recipe: learnt, decoded with, and what it changes counted."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from speechgate import hypotheses
from speechgate.bench.changes import decoding_changes
from speechgate.cli import app
from speechgate.decoding.execution import DEFAULT, Execution
from speechgate.decoding.search.int8 import can_quantise
from speechgate.decoding.search.linear import can_pack
from speechgate.errors import CheckpointError, ConfigError
from speechgate.model.checkpoint import save_checkpoint
from speechgate.recipe import Recipe
from tests.model.tiny import checkpoint_of, random_model, searchable, tiny_config, tokenizer
from tests.training.faults import prepare

WANTED = (["asr"], ["en", "ru"], "greedy")  # kinds, languages, conf


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A random model of English and Russian characters, and the bundled recordings."""
    folder = tmp_path_factory.mktemp("changes")
    prepare(folder)
    recipe = Recipe("prompts", folder / "data", folder / "exp")
    config = tiny_config()
    save_checkpoint(recipe.home / "tiny", checkpoint_of(searchable(random_model(config, seed=4)), config), {})
    return recipe


def changes(recipe: Recipe, execution: Execution, vocabulary: bool):
    return decoding_changes(recipe, recipe.home / "tiny", "test", *WANTED, execution, vocabulary)


def test_learnt_counted_and_decoded_with(recipe: Recipe) -> None:
    places = ["--data", str(recipe.data), "--exp", str(recipe.exp)]
    learnt = CliRunner().invoke(app, ["vocabulary", "tiny", "--coverage", "0.9", *places])
    assert learnt.exit_code == 0, learnt.output
    values = json.loads((recipe.home / "tiny" / "vocabulary.json").read_text())
    assert values["coverage"] == 0.9
    for language in ("eng", "rus"):
        assert f"{language}  {len(values['languages'][language]['ids'])} of {len(tokenizer())} tokens" in learnt.output
        assert 0.9 <= values["languages"][language]["covered"] < 1.0

    path, found = changes(recipe, DEFAULT, True)
    record = json.loads(path.read_text())
    assert path.name == "changes_test.json"
    assert record["other"]["vocabulary"]["tokens"]["eng"] == len(values["languages"]["eng"]["ids"])
    usual, other = _decode(recipe, False), _decode(recipe, True)
    for task, of_task in found.items():
        different = {id for id, text in usual[task].items() if other[task][id] != text}
        assert {each["id"] for each in of_task.changed} == different
        assert of_task.utterances == len(usual[task])
        assert all(milliseconds > 0 for milliseconds in of_task.times.values())
        assert record["tasks"][task]["changed"] == of_task.changed
    assert sum(len(each.changed) for each in found.values()) > 0

    shown = CliRunner().invoke(
        app, ["changes", "tiny", "--vocabulary", "--task", "asr", "--lang", "en", "--conf", "greedy", *places]
    )
    assert shown.exit_code == 0, shown.output
    assert f"{len(found['asr:eng'].changed)} (" in shown.output


def _decode(recipe: Recipe, vocabulary: bool) -> dict[str, dict[str, str]]:
    """The hypotheses by task and id; the folder is the same with and without a vocabulary."""
    kinds, languages, conf = WANTED
    options = hypotheses.decode_options(conf)
    folder = hypotheses.decode(recipe, recipe.home / "tiny", "test", kinds, languages, options, vocabulary=vocabulary)
    record = json.loads((folder / "decode.json").read_text())
    assert (record["vocabulary"] is not None) == vocabulary
    found: dict[str, dict[str, str]] = {}
    for line in (folder / "hypotheses.jsonl").read_text().splitlines():
        values = json.loads(line)
        found.setdefault(values["task"], {})[values["id"]] = values["hypothesis"]
    return found


def test_nothing_to_changes(recipe: Recipe) -> None:
    with pytest.raises(ConfigError, match="nothing to count"):
        changes(recipe, DEFAULT, False)


def test_a_vocabulary_that_was_not_learnt(recipe: Recipe, tmp_path: Path) -> None:
    config = tiny_config()
    folder = recipe.home / "other"
    save_checkpoint(folder, checkpoint_of(random_model(config), config), {})
    with pytest.raises(CheckpointError, match="speechgate vocabulary"):
        decoding_changes(recipe, folder, "test", *WANTED, DEFAULT, True)
    with pytest.raises(CheckpointError, match="speechgate vocabulary"):
        hypotheses.decode(recipe, folder, "test", *WANTED[:2], vocabulary=True)


@pytest.mark.parametrize("asked", [Execution(packed=False), Execution(precision="bfloat16", int8_output=True)])
def test_decoded_again_only_if_it_is_computed_otherwise(recipe: Recipe, asked: Execution) -> None:
    if asked.int8_output and not (can_quantise(torch.zeros(2, 2)) and can_pack(torch.zeros(2, 2), torch.bfloat16)):
        pytest.skip("the processor has no such products")

    def decoded(execution: Execution | None) -> int:
        kinds, languages, conf = WANTED
        options = hypotheses.decode_options(conf)
        tiny = recipe.home / "tiny"
        folder = hypotheses.decode(recipe, tiny, "test", kinds, languages, options, execution=execution)
        record = json.loads((folder / "decode.json").read_text())
        assert record["execution"] == asdict(execution or DEFAULT)
        return (folder / "decode.json").stat().st_mtime_ns

    usual = decoded(None)
    assert decoded(DEFAULT) == usual
    other = decoded(asked)
    assert other > usual
    assert decoded(asked) == other
