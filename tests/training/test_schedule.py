from dataclasses import replace

import pytest

from speechgate.config import GatesConfig, TrainConfig
from speechgate.training.schedule import (
    anneal,
    gate_noise,
    gate_temperature,
    has_settled,
    learning_rate_scale,
    penalty_scale,
)
from tests.gates.gated import gated_model
from tests.model.tiny import tiny_config

TRAIN = TrainConfig(updates=1000, warmup=100, final_scale=0.1)


def at(update: int, config: TrainConfig = TRAIN) -> float:
    return learning_rate_scale(update, update / config.updates, config)


def test_learning_rate_warms_up_and_falls_to_its_end():
    assert at(0) == pytest.approx(0.01, rel=1e-3)
    assert at(49) == pytest.approx(0.5, rel=0.02)
    assert at(1000) == pytest.approx(0.1)
    assert at(500) == pytest.approx(0.55)  # half a cosine: half-way at the middle
    rising, falling = [at(u) for u in range(0, 90, 10)], [at(u) for u in range(100, 1001, 100)]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)


def test_learning_rate_without_warm_up_begins_at_its_full_value():
    assert at(0, replace(TRAIN, warmup=0)) == 1.0


@pytest.mark.parametrize(("progress", "scale"), [(0.0, 0.0), (0.1, 0.25), (0.4, 1.0), (0.9, 1.0), (1.0, 1.0)])
def test_penalty_ramp(progress, scale):
    assert penalty_scale(progress, GatesConfig(ramp=0.4)) == pytest.approx(scale)


def test_penalty_without_ramp():
    assert penalty_scale(0.0, GatesConfig(ramp=0.0)) == 1.0


@pytest.mark.parametrize(
    ("progress", "noise"), [(0.0, 1.0), (0.5, 1.0), (0.6, 1.0), (0.7, 0.5), (0.8, 0.0), (0.9, 0.0), (1.0, 0.0)]
)
def test_noise_goes_in_the_first_half_of_settling(progress, noise):
    assert gate_noise(progress, GatesConfig(settle=0.4)) == pytest.approx(noise, abs=1e-9)


def test_noise_stays_without_settling():
    assert gate_noise(1.0, GatesConfig(settle=0.0)) == 1.0


@pytest.mark.parametrize(("progress", "temperature"), [(0.0, 1.0), (0.5, 0.5), (1.0, 0.25)])
def test_temperature_falls_by_a_constant_factor(progress, temperature):
    config = GatesConfig(temperature=1.0, final_temperature=0.25)
    assert gate_temperature(progress, config) == pytest.approx(temperature)


def test_gates_are_told_of_the_schedule():
    _, gates = gated_model(tiny_config(), temperature=1.0, final_temperature=0.25, ramp=0.4, settle=0.4)
    anneal(gates, 0.2)
    assert (gates.noise, gates.temperature, gates.ramp) == pytest.approx((1.0, 0.25**0.2, 0.5))
    assert not gates.settled
    anneal(gates, 1.0)
    assert (gates.noise, gates.temperature, gates.ramp) == pytest.approx((0.0, 0.25, 1.0), abs=1e-9)


@pytest.mark.parametrize(
    ("config", "before", "after"),
    [
        (GatesConfig(settle=0.4, rule="budget"), False, True),
        (GatesConfig(settle=0.4, rule="threshold"), False, False),
        (GatesConfig(settle=0.0, rule="budget"), False, False),
        (GatesConfig(settle=0.4, rule="budget", groups={"heads": 2}), False, False),
        (GatesConfig(rule="budget", policy="random"), True, True),
    ],
)
def test_gates_have_settled_when_nothing_is_left_to_learn(config, before, after):
    assert has_settled(0.79, config) == before
    assert has_settled(0.81, config) == after
