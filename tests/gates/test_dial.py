"""One checkpoint for any budget: what is asked for is what is skipped, and what is skipped is what matters least."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgate.config import GatesConfig, load_experiment
from speechgate.errors import ConfigError
from speechgate.gates.allocation import spread_dither
from speechgate.gates.attach import attach
from speechgate.gates.context import Context
from speechgate.gates.cost_ms import LEAST, measure_ms
from speechgate.task import Task
from speechgate.training.schedule import anneal
from tests.gates.gated import configs, decode, encode, gated_model, seeds
from tests.model.tiny import LANGUAGES, TASKS, random_model, speech, tiny_config

DIAL = {"rule": "budget", "budget": (0.0, 0.7)}


@settings(max_examples=15, deadline=None)
@given(
    config=configs,
    seed=seeds,
    share=st.floats(0.0, 0.7),
    scope=st.sampled_from(["global", "local"]),
    unit=st.sampled_from(["modules", "macs"]),
    context=st.sampled_from([("task", "audio"), ("budget",), ()]),
)
def test_every_utterance_and_their_mean_keep_to_the_budget(config, seed, share, scope, unit, context):
    model, gates = gated_model(config, seed, scope=scope, unit=unit, context=context, **DIAL)
    gates.budget = share
    batch = 24
    gates.set_context(Context([TASKS[0]] * batch, {}, spread_dither(torch.arange(batch))))
    with torch.no_grad():
        decode(model, *encode(model, *speech([2_000 + 50 * i for i in range(batch)], seed)))
    for stack, gates_BS in gates.gates_BS.items():
        cost_S = gates.cost_S[gates.sites_of(stack)]
        saved_B = ((~gates_BS).float() * cost_S).sum(1) / cost_S.sum()
        parts = 1 if scope == "global" else gates.layers[stack]  # each layer rounds
        assert float((saved_B - share).abs().max()) <= parts * float(cost_S.max() / cost_S.sum()) + 1e-4
        if unit == "modules":
            assert float(saved_B.mean()) == pytest.approx(share, abs=2 * parts / (batch * len(cost_S)) + 1e-4)


def test_masks_are_nested_where_the_scores_do_not_know_the_budget():
    model, gates = gated_model(tiny_config(), **DIAL)
    inputs = speech([5_000, 4_000, 6_000])
    earlier = torch.ones(3, len(gates.sites), dtype=torch.bool)
    for share in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7):
        gates.budget = share
        gates.set_context(TASKS)
        with torch.no_grad():
            encode(model, *inputs)
        open_BS = gates.mask_BS(3)[:, gates.sites_of("encoder")]
        assert not (open_BS & ~earlier[:, gates.sites_of("encoder")]).any()
        earlier[:, gates.sites_of("encoder")] = open_BS
    assert (~earlier[:, gates.sites_of("encoder")]).any()


def train_on_values(values: dict[Task, torch.Tensor], updates: int = 250, **keys) -> torch.nn.Module:
    """Gates of an encoder trained on a loss that is the sum of the values of the closed modules of each task."""
    torch.manual_seed(0)
    model = random_model(tiny_config())
    gates = attach(model, GatesConfig(**{"stack": "encoder", "context": ("task", "source"), **DIAL, **keys}), LANGUAGES)
    gates.train()
    optimizer = torch.optim.Adam(gates.parameters(), lr=0.02)
    x_BTD, mask_BT = torch.zeros(12, 3, 16), torch.ones(12, 3, dtype=torch.bool)
    tasks = list(values) * (12 // len(values))
    for update in range(updates):
        anneal(gates, update / updates)
        if gates.settled:
            break
        gates.set_context(tasks)
        gates.decide("encoder", x_BTD, mask_BT)
        value_BS = torch.stack([values[task] for task in tasks])
        loss = ((1 - gates.gates_BS["encoder"]) * value_BS).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return gates.eval()


@pytest.mark.parametrize("keys", [{}, {"estimator": "straight_through"}, {"estimator": "hard_concrete"}])
def test_the_dial_learns_to_close_what_matters_least_for_each_task(keys):
    generator = torch.Generator().manual_seed(4)
    values = {task: torch.rand(8, generator=generator) for task in (TASKS[1], TASKS[2])}
    gates = train_on_values(values, **keys)
    regret = []
    for share in (0.125, 0.25, 0.375, 0.5, 0.625):
        gates.budget = share
        gates.set_context(list(values))
        open_BS = gates.decide("encoder", torch.zeros(2, 3, 16), torch.ones(2, 3, dtype=torch.bool))
        for value_S, open_S in zip(values.values(), open_BS, strict=True):
            closed = int((~open_S).sum())
            assert closed == round(share * 8)
            best, worst = value_S.sort().values[:closed].sum(), value_S.sort().values[-closed:].sum()
            regret.append(float((value_S[~open_S].sum() - best) / (worst - best)))
    assert sum(regret) / len(regret) < 0.1  # random masks have 0.5


def test_budgets_of_a_batch_cover_the_range_and_begin_dense():
    _, gates = gated_model(tiny_config(), **DIAL)
    gates.train()
    gates.set_context(TASKS * 10)
    share_B, _ = gates._shares_to_close("decoder", torch.device("cpu"))
    assert float((share_B.sort().values - (torch.arange(30) + 0.5) / 30 * 0.7).abs().max()) <= 0.5 / 30 * 0.7 + 1e-6
    gates.ramp = 0.0
    assert not gates._shares_to_close("decoder", torch.device("cpu"))[0].any()


def test_a_dial_can_only_be_turned_where_there_is_one_and_as_far_as_it_was_trained():
    _, gates = gated_model(tiny_config(), **DIAL)
    with pytest.raises(ConfigError, match=r"0\.8 is outside the range 0 to 0\.7"):
        gates.budget = 0.8
    _, gates = gated_model(tiny_config())
    with pytest.raises(ConfigError, match="no dial"):
        gates.budget = 0.3


def test_the_name_of_an_experiment_with_a_dial_has_no_target():
    experiment = load_experiment("gates_dial")
    assert experiment.with_gates(None, None).name == "gates_dial_decoder"
    with pytest.raises(ConfigError, match="belongs to its decoding"):
        experiment.with_gates(None, 0.3)


def test_fixed_targets_under_the_budget_rule_are_met_for_each_task_and_stack():
    targets = {"asr": 0.25, "st:rus-eng": 0.5, "encoder/rus": 0.75}
    model, gates = gated_model(tiny_config(), rule="budget", targets=targets, target=0.1, scope="global")
    gates.set_context([TASKS[0], TASKS[1], TASKS[2]])
    with torch.no_grad():
        decode(model, *encode(model, *speech([5_000, 4_000, 6_000])))
    assert (~gates.gates_BS["encoder"]).sum(1).tolist() == [2, 2, 4]  # of 8; a kind is closer than a language
    assert (~gates.gates_BS["decoder"]).sum(1).tolist() in ([1, 1, 3], [2, 2, 3])  # of 6: 1.5 rounds either way


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({"asr:de": 0.5}, "write it 'asr:deu'"),
        ({"nonsense": 0.5}, "neither a stack, a task nor a language"),
        ({"middle/asr": 0.5}, "give"),
        ({"asr": 1.5}, "0 <= share < 1"),
    ],
)
def test_targets_of_nothing_known_are_refused(targets, message):
    with pytest.raises(ConfigError, match=message):
        attach(random_model(tiny_config()), GatesConfig(targets=targets), LANGUAGES)


def test_the_least_number_of_modules_runs():
    for keys in ({"rule": "budget", "target": 0.9}, {"initial_logit": -5.0}):
        model = random_model(tiny_config())
        gates = attach(model, GatesConfig(stack="encoder", min_open=3, **keys), LANGUAGES)
        gates.set_context(TASKS[:1])
        with torch.no_grad():
            encode(model, *speech([5_000]))
        assert int(gates.gates_BS["encoder"].sum()) == 3


def test_whole_layers_close_together():
    model, gates = gated_model(tiny_config(encoder_layers=3), granularity="layer", rule="budget", target=0.34)
    gates.set_context(TASKS)
    with torch.no_grad():
        decode(model, *encode(model, *speech([5_000, 4_000, 6_000])))
    for stack, kinds in (("encoder", 4), ("decoder", 3)):
        layered_BLK = gates.gates_BS[stack].unflatten(1, (-1, kinds))
        assert torch.equal(layered_BLK.any(2), layered_BLK.all(2))
        assert ((~layered_BLK.all(2)).sum(1) == 1).all()


@pytest.mark.parametrize("policy", ["random", "shallow", "layerdrop"])
def test_policies_decide_without_the_utterance_and_meet_the_target(policy):
    keys = {"policy": policy, "rule": "budget", "target": 0.5, "context": ()}
    config = tiny_config(decoder_layers=4)
    chosen = []
    for seed in (0, 0, 1):
        model = random_model(config)
        gates = attach(model, GatesConfig(stack="decoder", seed=seed, **keys), LANGUAGES)
        assert list(gates.parameters()) == []
        gates.set_context(TASKS)
        with torch.no_grad():
            decode(model, *encode(model, *speech([5_000, 4_000, 6_000])))
        chosen.append(gates.gates_BS["decoder"])
    assert torch.equal(chosen[0], chosen[1])
    assert torch.equal(chosen[0], chosen[2]) == (policy != "random")
    assert (chosen[0] == chosen[0][:1]).all()
    assert int((~chosen[0][0]).sum()) == 6
    if policy != "random":
        layers = chosen[0][0].unflatten(0, (4, 3)).all(1).tolist()
        assert layers == {"shallow": [True, True, False, False], "layerdrop": [True, False, True, False]}[policy]


def test_layerdrop_drops_other_layers_in_each_training_step():
    model, gates = gated_model(
        tiny_config(decoder_layers=4),
        stack="decoder",
        policy="layerdrop",
        granularity="layer",
        rule="budget",
        context=(),
    )
    model.train()
    masks = []
    for _ in range(6):
        gates.set_context(TASKS)
        decode(model, *encode(model, *speech([5_000, 4_000, 6_000])))
        layered_BLK = gates.gates_BS["decoder"].detach().bool().unflatten(1, (4, 3))
        assert torch.equal(layered_BLK.any(2), layered_BLK.all(2))
        masks += [tuple(row) for row in layered_BLK.all(2).tolist()]
    assert len(set(masks)) > 3


def test_configuration_of_a_dial_that_makes_no_sense_is_refused():
    for keys, named in [
        ({"budget": (0.0, 0.7)}, "need gates.rule"),
        ({"budget": (0.7, 0.0), "rule": "budget"}, "low, high"),
        ({"budget": (0.0, 0.4), "rule": "budget"}, "outside gates.budget"),
        ({**DIAL, "targets": {"asr": 0.5}}, "exclude each other"),
        ({"policy": "random"}, "need gates.rule"),
        ({"context": ("budget",)}, "need gates.rule"),
        ({"context": ("vector:speaker",)}, "vector:NAME:SIZE"),
        ({"context_dropout": 1.0}, "context_dropout"),
        ({"estimator": "reinforce"}, "gates.estimator"),
        ({"unit": "seconds"}, "gates.unit"),
    ]:
        with pytest.raises(ConfigError, match=named):
            replace(GatesConfig(), **keys)


def test_the_share_of_macs_counts_macs():
    model, gates = gated_model(tiny_config(), unit="macs", rule="budget", target=0.3, stack="decoder")
    assert gates.state_dict()["cost_S"].unique().numel() > 1
    gates.set_context([TASKS[0]] * 40)
    gates.context = Context([TASKS[0]] * 40, {}, spread_dither(torch.arange(40)))
    with torch.no_grad():
        decode(model, *encode(model, *speech([3_000] * 40)))
    cost_S = gates.cost_S[gates.sites_of("decoder")]
    saved = float(((~gates.gates_BS["decoder"]).float() * cost_S).sum() / cost_S.sum() / 40)
    assert saved == pytest.approx(0.3, abs=0.01)


def test_measured_costs_are_positive_and_leave_the_model_as_it_was():
    model, gates = gated_model(tiny_config(encoder_layers=1, decoder_layers=1), unit="ms")
    cost_S = measure_ms(model, repeats=3)
    assert cost_S.shape == (len(gates.sites),)
    assert (cost_S >= LEAST).all()
    assert cost_S.max() >= 1  # the mean over the sites
    assert gates.forced is None
    assert not model.training
