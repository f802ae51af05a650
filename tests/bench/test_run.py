"""The benchmark of a tiny model: the contract of bench.json, and how runs are timed."""

import json
from collections import Counter

import pytest
import torch
from typer.testing import CliRunner

from speechgate.bench.machine import Crowding
from speechgate.bench.profile import module_times
from speechgate.bench.run import Bench, BenchOptions, run_bench
from speechgate.bench.subject import Subject
from speechgate.bench.table import ratios_table
from speechgate.bench.timing import Samples, take_turns
from speechgate.cli import app
from speechgate.decoding.engine import Engine
from speechgate.decoding.execution import Execution
from speechgate.decoding.search import SearchOptions
from speechgate.errors import ConfigError
from speechgate.gates.cost import CostTable
from speechgate.model.checkpoint import load_checkpoint, save_checkpoint
from tests.model.tiny import TASKS, checkpoint_of, random_model, tiny_config

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench")
    options = BenchOptions("debug", 60, audio_s=1.0, tokens=3, beam=2, batch=2, repeats=1)
    run_bench(options, Execution(), CPU, out, lambda text: None)
    assert (out / "bench.png").stat().st_size > 1000
    return json.loads((out / "bench.json").read_text())


def test_contract(result):
    assert result["schema"] == 1
    assert result["machine"]["threads"] == torch.get_num_threads()
    assert min(result["machine"][key] for key in ("gmacs_per_second", "gbytes_per_second")) > 0
    keys = {"name", "audio_s", "batch", "beam", "ctc_weight", "tokens", "engine", "sparsity_decoder"}
    keys |= {"sparsity_encoder", "encoder_ms", "decoder_ms", "total_ms", "ms_per_token", "same_hypotheses"}
    for case in result["cases"]:
        assert keys | {"skip_efficiency", "gmacs"} <= case.keys()
        assert case["total_ms"] >= case["encoder_ms"] + case["decoder_ms"] > 0
        assert (case["skip_efficiency"] is None) == (case["sparsity_decoder"] + case["sparsity_encoder"] == 0)
    ratios = {"espnet_over_speechgate_b1", "espnet_over_speechgate_b2", "time_vs_dense_decoder50"}
    assert ratios | {"time_vs_dense_both50"} <= result["ratios"].keys()


@pytest.mark.parametrize("subsampling", ["conv2d", "conv2d8"])
def test_what_is_counted_has_the_encoders_own_frames(tmp_path, subsampling):
    config = tiny_config()
    config.encoder["input_layer"] = subsampling
    save_checkpoint(tmp_path, checkpoint_of(random_model(config), config), {})
    bench = Bench(BenchOptions(str(tmp_path), 60, audio_s=2.0, tokens=3, beam=2, batch=2), Execution(), CPU)
    dense = next(case for case in bench.cases() if case.name == "dense b1 ctc0.3")
    speech_BN, lengths_B = bench.subject.audio(2.0, 1)
    encoded = Engine(load_checkpoint(tmp_path), SearchOptions()).encode(speech_BN, lengths_B, [TASKS[0]])
    features = int(lengths_B) // config.frontend["hop_length"] + 1
    table = CostTable(bench.subject.model)
    macs, _ = table.utterance_macs(dense.open_BS[0], features, int(encoded.frames_B), 3, 2)
    assert bench.floors(dense)["gmacs"] == pytest.approx(macs / 1e9)


def test_both_engines_find_the_same(result):
    compared = {
        case["name"]: case["same_hypotheses"] for case in result["cases"] if case["same_hypotheses"] is not None
    }
    engines = ("", "uncompiled ") if Execution().compiles(torch.zeros(1)) else ("",)
    cases = [f"{engine}dense b{batch} ctc{weight}" for engine in engines for batch in (1, 2) for weight in ("0", "0.3")]
    assert compared == dict.fromkeys(cases, True)
    assert sum(name.startswith("uncompiled_over_compiled") for name in result["ratios"]) == len(cases) - 4


def test_half_of_the_modules_are_closed_and_every_kind_once(result):
    by_name = {case["name"]: case for case in result["cases"]}
    assert by_name["both50 b1 ctc0"]["sparsity_decoder"] == by_name["both50 b1 ctc0"]["sparsity_encoder"] == 0.5
    assert by_name["decoder50 b1 ctc0"]["sparsity_encoder"] == 0
    assert (
        by_name["both50 b1 ctc0"]["gmacs"] < by_name["decoder50 b1 ctc0"]["gmacs"] < by_name["dense b1 ctc0"]["gmacs"]
    )
    assert sum(name.startswith("no ") for name in by_name) == 7


def test_half_of_a_stack_is_every_other_module_of_each_kind():
    gates = Subject("debug", 60, CPU).mask(("encoder", "decoder"))
    sites = Subject("debug", 60, CPU).gates.sites
    closed = Counter(
        (site.stack, site.kind) for site, is_open in zip(sites, gates.tolist(), strict=True) if not is_open
    )
    layers = Counter((site.stack, site.kind) for site in sites)
    assert all(abs(closed[kind] - layers[kind] / 2) < 1 for kind in layers)


def test_table_shows_every_case(result):
    assert ratios_table(result).row_count == len(result["cases"])


def test_profile_times_every_kind_and_leaves_no_trace():
    subject = Subject("debug", 60, CPU)
    engine = subject.engine(SearchOptions(beam_size=2, fixed_steps=2), Execution())
    everything = torch.ones(1, len(subject.gates.sites), dtype=torch.bool)
    with module_times(subject.model, CPU) as spent:
        subject.run(engine, *subject.audio(1.0, 1), everything)
    assert {f"{site.stack}.{site.kind}" for site in subject.gates.sites} <= spent.keys()
    assert {"encoder.merge", "encoder.subsampling", "frontend", "decoder.output", "ctc.prefix_scores"} <= spent.keys()
    before = dict(spent)
    subject.run(engine, *subject.audio(1.0, 1), everything)
    assert dict(spent) == before


def test_turns_are_taken_and_disturbed_runs_dropped():
    order = []
    candidates = {name: (lambda name=name: order.append(name) or {"total_ms": 1.0}) for name in "ab"}
    samples = take_turns(candidates, 2, Crowding(threads=1), lambda text: None)
    assert order == list("ababab")
    assert len(samples["a"].parts) == 2
    runs = [{"ms": value} for value in (1.0, 2.0, 90.0)]
    assert Samples(runs, [False, False, True]).median("ms") == 1.5
    assert Samples(runs, [False, False, True]).dropped == 1
    few = Samples(runs, [False, True, True])
    assert (few.median("ms"), few.dropped, few.disturbed) == (2.0, 0, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--corpus", "prompts", "--batch", "4"], "it takes no --batch"),
        (["--name", "gates_decoder_0.50"], "bench --name goes with --corpus"),
    ],
)
def test_options_that_do_not_go_together_are_refused(words, message):
    result = CliRunner().invoke(app, ["bench", *words])
    assert message in str(result.exception)


def test_unknown_model_is_refused():
    with pytest.raises(ConfigError, match=r"smal.*small"):
        Subject("smal", 60, CPU)
