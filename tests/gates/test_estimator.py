import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from speechgate.gates.estimator import straight_through_gumbel, threshold

logits = st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=20)


@given(logits, st.floats(0.1, 2.0), st.sampled_from([0.0, 0.5, 1.0]))
def test_gates_are_exactly_zero_or_one(values, temperature, noise):
    gates_S = straight_through_gumbel(torch.tensor(values), temperature, noise)
    assert ((gates_S == 0) | (gates_S == 1)).all()


@given(logits, st.floats(0.1, 2.0))
def test_without_noise_they_are_the_threshold(values, temperature):
    logits_S = torch.tensor(values)
    assert torch.equal(straight_through_gumbel(logits_S, temperature, 0.0).bool(), threshold(logits_S))


def test_threshold():
    gates_S = threshold(torch.tensor([-1.0, -1e-6, 0.0, 1e-6, 1.0]))
    assert gates_S.tolist() == [False, False, False, True, True]


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_every_logit_has_a_gradient_of_the_sign_of_its_gate(noise):
    torch.manual_seed(0)
    logits_S = torch.linspace(-4, 4, 41, requires_grad=True)
    straight_through_gumbel(logits_S, 0.66, noise).sum().backward()
    assert (logits_S.grad > 0).all()


def test_the_gradient_is_the_tempered_sigmoid_s():
    logits_S = torch.tensor([-0.5, 0.2, 1.0], requires_grad=True)
    straight_through_gumbel(logits_S, 0.5, 0.0).sum().backward()
    soft_S = torch.sigmoid(logits_S.detach() / 0.5)
    torch.testing.assert_close(logits_S.grad, soft_S * (1 - soft_S) / 0.5)


@pytest.mark.parametrize("logit", [-2.0, 0.0, 0.7, 2.0])
def test_samples_are_open_with_the_probability_of_the_logit(logit):
    torch.manual_seed(1)
    count = 40_000
    share = float(straight_through_gumbel(torch.full((count,), logit), 0.66, 1.0).mean())
    probability = float(torch.sigmoid(torch.tensor(logit)))
    assert share == pytest.approx(probability, abs=4 * (probability * (1 - probability) / count) ** 0.5)


def test_less_noise_moves_samples_towards_the_threshold():
    torch.manual_seed(2)
    shares = [
        float(straight_through_gumbel(torch.full((5_000,), 1.0), 0.66, noise).mean()) for noise in (1.0, 0.5, 0.1)
    ]
    assert shares == sorted(shares)
    assert shares[-1] > 0.99
