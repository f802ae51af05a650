"""The whole way on the bundled slice, without a network: prepare, train, gate, decode, score, report."""

import json
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from speechgate.bench.experiments import bench_experiments
from speechgate.cli import app
from speechgate.config import load_experiment
from speechgate.decoding.execution import Execution
from speechgate.demo import Point, copy_pretrained, run_points
from speechgate.errors import CheckpointError, ConfigError, SpeechgateError
from speechgate.preparation import _prepare_corpus, prepare
from speechgate.recipe import Recipe
from speechgate.report.results import validate_results
from speechgate.shard import WHOLE


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    folder = tmp_path_factory.mktemp("recipe")
    recipe = Recipe("prompts", folder / "data", folder / "exp")
    prepare(recipe, "bundled")
    return recipe


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.timeout(300)
def test_from_the_bundled_slice_to_a_report(recipe: Recipe, no_network: None) -> None:
    experiment = load_experiment("debug")
    dense = recipe.train(experiment)
    losses = (dense / "losses.csv").read_text()
    assert "valid/loss" in losses
    kinds, languages = ["asr"], ["en", "it"]
    page = run_points(recipe, [Point("decoder", 0.5)], "debug_gates", recipe.home / "sweep", kinds, languages, dense)
    results = json.loads((page.parent / "results.json").read_text())
    validate_results(results)
    assert {(row["stack"], row["task"], row["src"]) for row in results["rows"]} == {
        (stack, f"asr:{src}", src) for stack in ("none", "decoder") for src in ("eng", "ita")
    }
    assert "<table" in page.read_text()

    table = bench_experiments(recipe, [], Execution())
    assert [column.header for column in table.columns] == ["task", "sweep/gates_decoder_0.50"]
    assert list(table.columns[0].cells) == ["asr:eng", "asr:ita"]
    assert all(float(cell) > 0 for cell in table.columns[1].cells)

    before = {path: path.stat().st_mtime_ns for path in recipe.home.rglob("*") if path.name in KEPT}
    run_points(recipe, [Point("decoder", 0.5)], "debug_gates", recipe.home / "sweep", kinds, languages, dense)
    assert before == {path: path.stat().st_mtime_ns for path in before}, "a second run did work again"


def test_a_mix_takes_what_is_prepared(recipe: Recipe, no_network: None) -> None:
    """And brings no other recordings of a corpus in its place."""
    (recipe.data / "own").mkdir(exist_ok=True)
    before = (recipe.data / "prompts" / "source.json").read_text()
    with pytest.raises(SpeechgateError, match="own"):  # of which there is no source
        prepare(Recipe("own,prompts", recipe.data, recipe.exp), "auto")
    assert _prepare_corpus(Recipe("own,prompts", recipe.data, recipe.exp), "prompts", "auto", WHOLE)
    assert (recipe.data / "prompts" / "source.json").read_text() == before


def test_a_report_names_what_is_not_scored_and_takes_names(recipe: Recipe) -> None:
    command = ["report", "--exp", str(recipe.exp), "--data", str(recipe.data)]
    result = CliRunner().invoke(app, [*command, "--name", "nobody"])
    assert "is decoded in" in str(result.exception)
    assert "by nobody" in str(result.exception)
    unscored = recipe.home / "unscored" / "decode_test"
    unscored.mkdir(parents=True)
    result = CliRunner().invoke(app, [*command, "--name", "unscored"])
    assert f"not scored since it was decoded: {unscored}" in str(result.exception)
    unscored.rmdir()


KEPT = ("model.safetensors", "hypotheses.jsonl", "decode.json", "hypotheses_silent.jsonl")


def test_a_folder_of_another_configuration_is_refused(recipe: Recipe) -> None:
    recipe.train(load_experiment("debug", ["name=twice", "train.updates=2"]))
    with pytest.raises(CheckpointError, match="another configuration"):
        recipe.train(load_experiment("debug", ["name=twice", "train.updates=2", "train.learning_rate=1e-4"]))


@pytest.mark.parametrize(
    ("kinds", "languages", "message"),
    [
        (["asr"], ["de"], "it has: eng, fra, ita, rus, spa"),
        (["st:fra"], [], "it has: asr, st, st:eng"),
        (["mt"], [], "it has: asr, st, st:eng"),
        ([], ["xx"], "unknown language"),
    ],
)
def test_what_a_corpus_lacks_is_answered_with_what_it_has(
    recipe: Recipe, kinds: list[str], languages: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe.train(load_experiment("debug"), kinds, languages)


def test_unknown_corpus_and_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Choose from: prompts"):
        Recipe("promts")
    with pytest.raises(CheckpointError, match="trained here: none"):
        Recipe("prompts", exp=tmp_path).folder_of("gates_decoder_0.50")


def test_the_pretrained_model_loads_and_is_small(recipe: Recipe) -> None:
    folder = recipe.pretrained
    assert sum(path.stat().st_size for path in folder.iterdir()) < 12 * 1024 * 1024
    assert copy_pretrained(recipe, recipe.home / "copied").joinpath("model.safetensors").is_file()
