"""Thresholds found after training: they skip the target, and stay with the checkpoint."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from speechgate.config import GatesConfig, load_experiment
from speechgate.decoding.decode import examples_of, gates_of
from speechgate.decoding.engine import Engine
from speechgate.decoding.search import SearchOptions
from speechgate.errors import ConfigError
from speechgate.export.specialise import closed_for
from speechgate.gates.allocation import above_zero
from speechgate.gates.targets import target_of, threshold_of
from speechgate.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from speechgate.recipe import Recipe
from speechgate.training import calibrate as module
from speechgate.training.calibrate import calibrate, nearest_threshold, never_closed, share_below
from tests.data.dummies import dummy_cut, write_audio
from tests.gates.gated import decode, encode, gated_model, train
from tests.model.tiny import TASKS, checkpoint_of, speech, tiny_config
from tests.training.faults import OVERRIDES, prepare

finite = st.floats(-20, 20, width=32) | st.sampled_from([-1.0, 0.0, 1.0, 1.0000001])  # some are equal, some almost


@st.composite
def scored(draw):
    """Scores (U, S) and costs (S)."""
    utterances, sites = draw(st.integers(1, 6)), draw(st.integers(1, 7))
    rows = st.lists(finite, min_size=sites, max_size=sites)
    scores_US = torch.tensor(draw(st.lists(rows, min_size=utterances, max_size=utterances)))
    cost_S = torch.tensor(draw(st.lists(st.floats(0.125, 4, width=32), min_size=sites, max_size=sites)))
    return scores_US, cost_S


@given(scored(), st.floats(0, 0.99), st.integers(0, 3))
def test_no_other_threshold_comes_nearer(scores_and_costs, target, min_open):
    raw_US, cost_S = scores_and_costs
    if min_open:  # which of scores within a rounding error is the highest may change with the threshold
        raw_US = (raw_US * 64).round() / 64
    scores_US = never_closed(raw_US, min_open)
    threshold, share = nearest_threshold(scores_US, cost_S, target)
    open_US = above_zero(raw_US - torch.tensor(threshold), min_open)  # as gates have it
    assert share_below(scores_US, cost_S, threshold) == pytest.approx(share, abs=1e-9)
    assert float(((~open_US) * cost_S.double()).sum() / (cost_S.double().sum() * len(raw_US))) == pytest.approx(share)
    reachable = [0.0, *(share_below(scores_US, cost_S, score) for score in raw_US.flatten().tolist())]
    assert abs(share - target) <= min(abs(other - target) for other in reachable) + 1e-9


@given(st.integers(0, 999), st.floats(0, 0.99))
def test_distinct_scores_meet_the_target_within_one_decision(seed, target):
    scores_US = torch.randn(10, 12, generator=torch.Generator().manual_seed(seed))
    _, share = nearest_threshold(scores_US, torch.ones(12), target)
    assert abs(share - target) <= 0.5 / 120 + 1e-9 or target > 1 - 0.5 / 120


@pytest.fixture(scope="module")
def cuts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio")
    made = []
    for index in range(12):
        samples = torch.randn(6_000 + 400 * index, generator=torch.Generator().manual_seed(index)) * 0.02 * (1 + index)
        path = write_audio(folder / f"{index}.flac", 0, samples=samples.clamp(-0.99, 0.99).numpy())
        language = "rus" if index % 2 else "eng"
        made.append(dummy_cut(f"c{index}", len(samples) / 16_000, language, {"eng": "now"} if index % 2 else {}, path))
    return made


def skipped(checkpoint: Checkpoint, cuts, tasks) -> dict[str, dict[str, float]]:
    """What decoding closes: {stack: {task: share of the cost}}."""
    examples = examples_of(cuts, tasks)
    engine = Engine(checkpoint, SearchOptions(ctc_weight=0.0))
    pairs = list(gates_of(engine, examples, checkpoint.config.min_seconds))
    open_US = torch.cat([open_BS for _, open_BS in pairs])
    names = [cut.custom["task"] for batch, _ in pairs for cut in batch]
    gates = checkpoint.model.gates
    found = {}
    for stack in gates.stacks:
        cost_S = gates.cost_S[gates.sites_of(stack)]
        closed_U = ((~open_US[:, gates.sites_of(stack)]) * cost_S).sum(1) / cost_S.sum()
        found[stack] = {n: float(closed_U[[m == n for m in names]].mean()) for n in dict.fromkeys(names)} | {
            "all": float(closed_U.mean())
        }
    return found


def gated(**gates) -> Checkpoint:
    config = tiny_config()
    return checkpoint_of(gated_model(config, 3, **gates)[0], config)


@pytest.mark.parametrize("target", [0.3, 0.7])
@pytest.mark.parametrize("keys", [{}, {"unit": "macs"}, {"groups": {"heads": 2, "channels": 4}}, {"scope": "local"}])
def test_decoding_skips_the_target_in_each_stack(cuts, keys, target):
    checkpoint = gated(target=target, **keys)
    before = skipped(checkpoint, cuts, TASKS)
    calibrate(checkpoint, cuts, TASKS)
    assert checkpoint.gates is checkpoint.model.gates.config
    assert set(checkpoint.gates.thresholds) == {"encoder", "decoder"}
    for stack, shares in skipped(checkpoint, cuts, TASKS).items():
        assert abs(shares["all"] - target) <= 0.01 < abs(before[stack]["all"] - target)


def test_tasks_with_targets_of_their_own_have_their_own_thresholds(cuts):
    targets = {"asr": 0.6, "encoder/asr:eng": 0.2, "decoder": 0.4}
    checkpoint = gated(target=0.3, targets=targets)
    calibrate(checkpoint, cuts, TASKS)
    assert checkpoint.gates is not None
    assert set(checkpoint.gates.thresholds) == {
        "encoder", "encoder/asr", "encoder/asr:eng", "decoder", "decoder/asr",
    }  # fmt: skip
    shares = skipped(checkpoint, cuts, TASKS)
    assert shares["encoder"]["asr:eng"] == pytest.approx(0.2, abs=0.01)
    assert shares["encoder"]["asr:rus"] == pytest.approx(0.6, abs=0.01)
    assert shares["encoder"]["st:rus-eng"] == pytest.approx(0.3, abs=0.01)
    assert shares["decoder"]["st:rus-eng"] == pytest.approx(0.4, abs=0.5 / 36)  # of 6 utterances and 6 gates
    # what stands in no dev example goes by the closest entry that there is
    assert threshold_of(checkpoint.gates, "encoder", None) == checkpoint.gates.thresholds["encoder"]
    assert target_of(checkpoint.gates, "encoder", None) == 0.3


def test_what_the_scores_do_not_allow_is_said(cuts, capsys):
    checkpoint = gated(target=0.5, min_open=10, stack="decoder")  # of whose 6 gates none may close
    calibrate(checkpoint, cuts, TASKS)
    assert "0.0% skipped of 50.0%" in (said := capsys.readouterr().out)
    assert "no threshold was found that comes nearer" in said


@pytest.mark.parametrize("scope", ["global", "local"])
def test_thresholds_are_saved_used_and_read_from_checkpoints_without(cuts, tmp_path: Path, scope):
    checkpoint = gated(target=0.5, scope=scope)
    save_checkpoint(tmp_path / "old", checkpoint, {})
    values = OmegaConf.load(tmp_path / "old/config.yaml")
    del values.gates["thresholds"]
    OmegaConf.save(values, tmp_path / "old/config.yaml")
    old = load_checkpoint(tmp_path / "old")
    assert old.gates is not None
    assert old.gates.thresholds == {}
    assert skipped(old, cuts, TASKS) == skipped(checkpoint, cuts, TASKS)
    calibrate(checkpoint, cuts, TASKS)
    save_checkpoint(tmp_path / "new", checkpoint, {})
    new = load_checkpoint(tmp_path / "new")
    assert new.gates is not None
    assert new.gates == checkpoint.gates
    assert new.gates.thresholds
    assert skipped(new, cuts, TASKS) == skipped(checkpoint, cuts, TASKS) != skipped(old, cuts, TASKS)
    for each in (new, old):  # exports close what decoding does
        specialised = closed_for(each, TASKS[0], cuts[:1])
        shares = skipped(each, cuts[:1], TASKS[:1])
        cost = sum(site.stack == "decoder" for site in each.model.gates.sites)
        closed = sum(name.startswith("decoder") for name in specialised.closed)
        assert closed / cost == pytest.approx(shares["decoder"]["all"])


@pytest.mark.parametrize("scope", ["global", "local"])
def test_training_that_goes_on_has_the_thresholds_in_force(scope):
    checkpoint = gated(scope=scope, thresholds={"encoder": 0.2, "decoder": -0.3})
    model, found = checkpoint.model, []
    model.gates.noise = 0.0
    for thresholds, training in (({"encoder": 0.2, "decoder": -0.3}, True), ({"encoder": 0.2}, True), ({}, False)):
        checkpoint.calibrate(thresholds)
        train(model) if training else model.eval()
        model.gates.set_context(TASKS)
        decode(model, *encode(model, *speech([9_000, 4_000, 6_000])))
        found.append(model.gates.mask_BS(3))
        for stack, scores in model.gates.scores.items():
            open_BS = torch.cat(scores, 1) > thresholds.get(stack, 0.0)
            assert torch.equal(found[-1][:, model.gates.sites_of(stack)], open_BS)
    assert not torch.equal(found[0], found[2])


def test_thresholds_are_for_their_rule_and_for_stacks():
    with pytest.raises(ConfigError, match=r"gates.rule: threshold"):
        GatesConfig(rule="budget", thresholds={"decoder": 0.1})
    with pytest.raises(ConfigError, match="did you mean 'decoder'"):
        GatesConfig(thresholds={"decodr": 0.1})


def test_a_training_ends_with_gates_that_skip_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    prepare(tmp_path)
    recipe = Recipe("prompts", tmp_path / "data", tmp_path / "exp")
    shares = {}
    real = module.calibrate

    def observed(checkpoint, cuts, tasks):
        shares["before"] = skipped(checkpoint, cuts, tasks)
        real(checkpoint, cuts, tasks)
        shares["after"] = skipped(checkpoint, cuts, tasks)

    monkeypatch.setattr("speechgate.training.run.calibrate", observed)
    experiment = load_experiment("debug", ["name=tuned", *OVERRIDES])
    folder = recipe.train(experiment)
    trained = load_checkpoint(folder)
    assert trained.gates is not None
    for stack in ("encoder", "decoder"):
        assert stack in trained.gates.thresholds
        assert abs(shares["after"][stack]["all"] - trained.gates.target) <= 0.01
        assert abs(shares["before"][stack]["all"] - trained.gates.target) > 0.01
    assert dataclasses.replace(trained.gates, thresholds={}) == experiment.gates
    described = json.loads((folder / "description.json").read_text())
    assert described["gates"]["thresholds"] == {}  # the run is still the one that was asked for
    assert recipe.train(experiment) == folder
    # under the other rule there is nothing to find
    budget = load_experiment("debug", ["name=budget", *OVERRIDES, "train.updates=2", "gates.rule=budget"])
    del shares["before"]
    recipe.train(budget)
    assert "before" not in shares
