import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from speechgate.config import GatesConfig
from speechgate.gates.decision import Sampling, decide_gates
from speechgate.gates.estimator import hard_concrete, hard_concrete_open, perturb, straight_through

logits = st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=20)
ESTIMATORS = ("gumbel", "straight_through", "hard_concrete")


def sample(values: torch.Tensor, noise: float, temperature: float = 0.66, **keys) -> tuple[torch.Tensor, torch.Tensor]:
    """Gates by the threshold rule, and what counts, for logits (S)."""
    config = GatesConfig(**keys)
    sampling = Sampling(noise, temperature)
    gates_1S, counted_1S = decide_gates(config, values[None], None, None, torch.ones(len(values)), sampling)
    return gates_1S[0], counted_1S[0]


@given(logits, st.floats(0.1, 2.0), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from(ESTIMATORS[:2]))
def test_straight_through_gates_are_exactly_zero_or_one(values, temperature, noise, estimator):
    gates_S, counted_S = sample(torch.tensor(values), noise, temperature, estimator=estimator)
    assert ((gates_S == 0) | (gates_S == 1)).all()
    assert torch.equal(counted_S, gates_S)


@given(logits, st.floats(0.1, 2.0), st.sampled_from(ESTIMATORS))
def test_without_noise_they_are_the_threshold(values, temperature, estimator):
    logits_S = torch.tensor(values)
    gates_S, counted_S = sample(logits_S, 0.0, temperature, estimator=estimator)
    for each_S in (gates_S, counted_S):
        torch.testing.assert_close(each_S, (logits_S > 0).float(), atol=1e-6, rtol=0)


def test_threshold():
    config = GatesConfig()
    scores_1S = torch.tensor([[-1.0, -1e-6, 0.0, 1e-6, 1.0]])
    open_1S = decide_gates(config, scores_1S, None, None, torch.ones(5), None)[0]
    assert open_1S.tolist() == [[False, False, False, True, True]]


@pytest.mark.parametrize("noise", [0.0, 1.0])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_logit_has_a_gradient_of_the_sign_of_its_gate(noise, estimator):
    torch.manual_seed(0)
    logits_S = torch.linspace(-1, 1, 41, requires_grad=True)
    gates_S, counted_S = sample(logits_S, noise, estimator=estimator)
    counted_S.sum().backward(retain_graph=True)
    assert (logits_S.grad > 0).all()
    logits_S.grad = None
    gates_S.sum().backward()
    assert (logits_S.grad >= 0).all()
    assert (logits_S.grad > 0).sum() > 20  # the hard-concrete distribution has none at its ends


def test_the_gradient_is_the_tempered_sigmoid_s():
    logits_S = torch.tensor([-0.5, 0.2, 1.0], requires_grad=True)
    straight_through(logits_S, logits_S > 0, 0.5).sum().backward()
    soft_S = torch.sigmoid(logits_S.detach() / 0.5)
    torch.testing.assert_close(logits_S.grad, soft_S * (1 - soft_S) / 0.5)


@pytest.mark.parametrize("logit", [-2.0, 0.0, 0.7, 2.0])
def test_samples_are_open_with_the_probability_of_the_logit(logit):
    torch.manual_seed(1)
    count = 40_000
    share = float((perturb(torch.full((count,), logit), 1.0) > 0).float().mean())
    probability = float(torch.sigmoid(torch.tensor(logit)))
    assert share == pytest.approx(probability, abs=4 * (probability * (1 - probability) / count) ** 0.5)


@pytest.mark.parametrize("logit", [-2.0, 0.0, 0.7, 2.0])
def test_hard_concrete_gates_are_not_zero_with_the_probability_that_is_counted(logit):
    torch.manual_seed(1)
    logits_S = torch.full((40_000,), logit)
    gates_S = hard_concrete(perturb(logits_S, 1.0), logits_S > 0, 0.66, 1.0)
    probability = float(hard_concrete_open(logits_S, logits_S > 0, 0.66, 1.0)[0])
    share = float((gates_S > 0).float().mean())
    assert share == pytest.approx(probability, abs=4 * (probability * (1 - probability) / 40_000) ** 0.5)
    assert (gates_S == 0).any()
    assert (gates_S == 1).any()
    assert ((gates_S > 0) & (gates_S < 1)).any()


def test_less_noise_moves_samples_towards_the_threshold():
    torch.manual_seed(2)
    shares = [float((perturb(torch.full((5_000,), 1.0), noise) > 0).float().mean()) for noise in (1.0, 0.5, 0.1)]
    assert shares == sorted(shares)
    assert shares[-1] > 0.99


def test_the_edge_of_a_budget_moves_with_the_logits():
    """No gradient shifts all logits alike: the number of open gates is the budget's, not theirs."""
    torch.manual_seed(3)
    logits_BS = torch.randn(4, 9, requires_grad=True)
    gates_BS = straight_through(logits_BS, logits_BS > 0, 0.66, torch.zeros(4, 1))
    (gates_BS * torch.randn(4, 9)).sum().backward()
    torch.testing.assert_close(logits_BS.grad.sum(1), torch.zeros(4), atol=1e-4, rtol=0)
    assert (logits_BS.grad.abs() > 1e-5).all()


def shift_free(logits_BS: torch.Tensor, edge_B1: torch.Tensor, temperature: float) -> torch.Tensor:
    """Logits relative to an edge that moves with them so that the sum of the soft gates stays."""
    centred_BS = logits_BS - edge_B1
    soft_BS = torch.sigmoid(centred_BS.detach() / temperature)
    weight_BS = soft_BS * (1 - soft_BS) + 1e-6
    moved_B1 = (weight_BS * (logits_BS - logits_BS.detach())).sum(1, keepdim=True) / weight_BS.sum(1, keepdim=True)
    return centred_BS - moved_B1


def autograd_s(logits_BS, open_BS, temperature, noise, edge_B1, estimator) -> torch.Tensor:
    """The gates as autograd would derive them."""
    if edge_B1 is not None:
        logits_BS = shift_free(logits_BS, edge_B1, temperature)
    soft_BS = torch.sigmoid(logits_BS / temperature)
    if estimator == "hard_concrete":
        soft_BS = (soft_BS * 1.2 - 0.1).clamp(0, 1)
        return soft_BS + (1 - noise) * (open_BS.to(soft_BS) - soft_BS).detach()
    return open_BS.to(soft_BS) + (soft_BS - soft_BS.detach())


@given(
    st.integers(0, 999),
    st.floats(0.2, 2.0),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.booleans(),
    st.sampled_from(["gumbel", "hard_concrete"]),
)
def test_gates_and_their_gradients_are_autograd_s(seed, temperature, noise, budget, estimator):
    generator = torch.Generator().manual_seed(seed)
    logits_BS, weight_BS = (3 * torch.randn(3, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    open_BS, edge_B1 = logits_BS > 0.3, torch.full((3, 1), 0.3, dtype=torch.float64) if budget else None
    logits_BS.requires_grad_()
    if estimator == "gumbel":
        gates_BS = straight_through(logits_BS, open_BS, temperature, edge_B1)
    else:
        gates_BS = hard_concrete(logits_BS, open_BS, temperature, noise, edge_B1)
    expected_BS = autograd_s(logits_BS, open_BS, temperature, noise, edge_B1, estimator)
    torch.testing.assert_close(gates_BS, expected_BS)
    found, expected = (
        torch.autograd.grad((each_BS * weight_BS).sum(), logits_BS)[0] for each_BS in (gates_BS, expected_BS)
    )
    torch.testing.assert_close(found, expected)


def test_what_the_penalty_counts_has_autograd_s_gradient():
    logits_BS = torch.linspace(-4, 4, 9, dtype=torch.float64)[None].requires_grad_()
    hard_concrete_open(logits_BS, logits_BS > 0, 0.66, 0.5).sum().backward()
    at_BS = logits_BS.detach().requires_grad_()
    torch.sigmoid(at_BS - 0.66 * math.log(0.1 / 1.1)).sum().backward()
    torch.testing.assert_close(logits_BS.grad, at_BS.grad)
