"""The recipe's stages: which commands they are, in which order, and how the range is chosen."""

import itertools

import pytest

from speechgate.cli.options import experiments_of
from speechgate.config import load_experiment
from speechgate.corpus.known import CORPORA
from speechgate.recipe import Recipe
from tests.tooling.checkout import ROOT, Checkout

SCRIPT = "recipes/prompts/run.sh"
STAGES = [["download"], ["prepare"], ["tokenize"], ["train"], ["train"], ["decode"], ["score"], ["report"]]


def commands(stages: list[list[str]]) -> list[str]:
    return [command for stage in stages for command in stage]


@pytest.mark.parametrize(("stage", "stop_stage"), [(1, 8), (1, 3), (4, 4), (5, 8)])
def test_runs_the_stages_of_the_range(checkout: Checkout, stage: int, stop_stage: int) -> None:
    checkout.run(SCRIPT, "--stage", str(stage), "--stop-stage", str(stop_stage))
    assert [call[1] for call in checkout.calls] == commands(STAGES[stage - 1 : stop_stage])
    assert all(call[2:4] == ["--corpus", "prompts"] for call in checkout.calls)


def test_dry_run_prints_the_same_commands_and_runs_none(checkout: Checkout) -> None:
    dry = checkout.run(SCRIPT, "--dry-run", "--source", "my recordings").stdout
    assert not (checkout.root / "calls.txt").exists()
    assert "--source my\\ recordings" in dry
    assert checkout.run(SCRIPT, "--source", "my recordings").stdout == dry
    assert ["speechgate", "download", "--corpus", "prompts", "--source", "my recordings"] in checkout.calls
    assert len(dry.splitlines()) == len(checkout.calls)


@pytest.mark.parametrize("corpus", CORPORA)
def test_its_configurations_are_there(checkout: Checkout, corpus: str) -> None:
    checkout.run(f"recipes/{corpus}/run.sh", "--stage", "4", "--stop-stage", "5")
    assert [call[1:4] for call in checkout.calls] == [["train", "--corpus", corpus]] * 2
    assert "--sparsity" in checkout.calls[1]
    recipe = Recipe(corpus)
    dense, [gates] = recipe.configurations(), recipe.configurations(gated=True)
    built: list[str | None] = [None]
    for experiment in map(load_experiment, dense):
        assert (experiment.model is None) != (experiment.init is None)
        assert experiment.init == built[-1]
        built.append(experiment.name)
    assert built[-1] == load_experiment(gates).init == "dense"
    assert load_experiment(gates).gates is not None


WHISPER = "recipes/whisper/run.sh"
WHISPER_STAGES = [
    ["prepare"],
    ["sentences"],
    ["speak"],
    ["prepare", "prepare"],
    ["train"],
    ["train", "train"],
    ["decode", "decode"],
    ["score", "report"],
]


@pytest.mark.parametrize(("stage", "stop_stage"), [(1, 8), (2, 3), (6, 7)])
def test_the_stages_of_whisper(checkout: Checkout, stage: int, stop_stage: int) -> None:
    checkout.run(WHISPER, "--stage", str(stage), "--stop-stage", str(stop_stage), "--count", "30", "--model", "tiny")
    called = [call[2] if call[0] == "python" else call[1] for call in checkout.calls]
    assert called == commands(WHISPER_STAGES[stage - 1 : stop_stage])
    spoken = [call for call in checkout.calls if call[0] == "python"]
    assert all(call[call.index("--count") + 1] == "30" for call in spoken)
    if stage == 1:
        [dense] = [call for call in checkout.calls if "--model" in call]
        assert dense[dense.index("--model") + 1] == "tiny"


def test_what_whisper_trains_and_decodes_is_one_chain(checkout: Checkout) -> None:
    checkout.run(WHISPER, "--stage", "5")
    calls = [dict(itertools.pairwise(call)) for call in checkout.calls]
    assert all(call["--corpus"] == "own,prompts" and call["--exp"] == "exp/whisper" for call in calls)
    dense, gates, dial = (load_experiment(ROOT / call["--conf"]) for call in calls[:3])
    assert dense.train.repeat == {"own": 0}
    assert gates.init == dial.init == dense.name
    assert gates.train == dial.train
    assert gates.gates is not None
    assert dial.gates is not None
    low, high = dial.gates.budget
    assert all(low <= float(share) <= high for share in calls[4]["--sparsity"].split(","))
    decoded = [name for name, _ in experiments_of("", calls[3]["--stack"], calls[3]["--sparsity"])]
    assert decoded == ["dense", gates.with_gates("decoder", float(calls[1]["--sparsity"])).name]
    assert calls[4]["--name"] == dial.with_gates("decoder", None).name


def test_a_failing_stage_ends_the_run(checkout: Checkout) -> None:
    cli = checkout.root / ".venv" / "bin" / "speechgate"
    cli.write_text(cli.read_text(encoding="utf-8") + '[ "$1" != prepare ]\n', encoding="utf-8")
    assert checkout.run(SCRIPT, check=False).returncode != 0
    assert [call[1] for call in checkout.calls] == ["download", "prepare"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--stage 9", "there is no stage '9'"),
        ("--stop-stage x", "there is no stage 'x'"),
        ("--stage 3 --stop-stage 2", "--stage 3 comes after --stop-stage 2"),
        ("--stage", "--stage needs a value"),
        ("--stages 2", "unknown option --stages"),
        ("stage 2", "unknown option stage"),
        (" x", "unknown option "),
        ("--model tiny", "unknown option --model"),
        ("--stage 1+1", "there is no stage '1+1'"),
    ],
)
def test_bad_options_are_refused_by_name(checkout: Checkout, words: str, message: str) -> None:
    result = checkout.run(SCRIPT, *words.split(" "), check=False)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Usage:" in result.stderr
    assert not (checkout.root / "calls.txt").exists()


def test_help(checkout: Checkout) -> None:
    assert "--stop-stage" in checkout.run(SCRIPT, "--help").stdout
