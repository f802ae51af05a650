"""The two rules: a threshold, and a budget that is met exactly."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from speechgate.gates.allocation import above_zero, spread_dither, within_budget

seeds = st.integers(0, 2**16)
sizes = st.integers(1, 40)
shares = st.floats(0.0, 0.99)


def draw(seed: int, batch: int, sites: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores, dithers and costs."""
    generator = torch.Generator().manual_seed(seed)
    scores_BS = torch.randn(batch, sites, generator=generator)
    return scores_BS, torch.rand(batch, generator=generator), 0.1 + torch.rand(sites, generator=generator)


@given(seeds, sizes, shares)
def test_an_utterance_misses_its_budget_by_less_than_a_module(seed, sites, share):
    scores_BS, dither_B, cost_S = draw(seed, 5, sites)
    open_BS, _ = within_budget(scores_BS, torch.full((5,), share), dither_B, cost_S, 0)
    saved_B = (~open_BS * cost_S).sum(1)
    assert ((saved_B - share * cost_S.sum()).abs() < cost_S.max() + 1e-4).all()


@given(seeds, sizes, shares)
def test_with_the_middle_dither_it_is_the_nearest_number_of_modules(seed, sites, share):
    scores_BS, _, _ = draw(seed, 5, sites)
    open_BS, _ = within_budget(scores_BS, torch.full((5,), share), torch.full((5,), 0.5), torch.ones(sites), 0)
    assert (((~open_BS).sum(1) - share * sites).abs() <= 0.5 + 1e-4).all()


@given(seeds, st.integers(1, 20), shares, st.integers(30, 80))
def test_over_the_utterances_of_a_task_the_mean_is_the_budget(seed, sites, share, utterances):
    scores_BS, _, _ = draw(seed, utterances, sites)
    cost_S = torch.ones(sites)
    dither_B = spread_dither(torch.arange(utterances))
    open_BS, _ = within_budget(scores_BS, torch.full((utterances,), share), dither_B, cost_S, 0)
    # the golden sequence misplaces less than two utterances: less than two modules among all
    assert abs(float((~open_BS).float().mean()) - share) < 2 / (utterances * sites)


@given(seeds, sizes, shares, shares)
def test_a_larger_budget_closes_the_same_modules_and_more(seed, sites, one, other):
    scores_BS, dither_B, cost_S = draw(seed, 4, sites)
    small, large = (
        within_budget(scores_BS, torch.full((4,), share), dither_B, cost_S, 0)[0] for share in sorted((one, other))
    )
    assert not (large & ~small).any()


@given(seeds, sizes, shares)
def test_the_lowest_scores_close_and_the_edge_divides_them(seed, sites, share):
    scores_BS, dither_B, cost_S = draw(seed, 4, sites)
    open_BS, edge_B1 = within_budget(scores_BS, torch.full((4,), share), dither_B, cost_S, 0)
    assert torch.equal(scores_BS > edge_B1, open_BS)


@given(seeds, sizes, shares, st.integers(0, 5))
def test_the_least_number_of_modules_stays_open(seed, sites, share, least):
    scores_BS, dither_B, cost_S = draw(seed, 4, sites)
    for open_BS in (
        within_budget(scores_BS, torch.full((4,), share), dither_B, cost_S, least)[0],
        above_zero(scores_BS - 2, least),
    ):
        assert (open_BS.sum(1) >= min(least, sites)).all()


@given(seeds, sizes)
def test_nothing_to_save_closes_nothing(seed, sites):
    scores_BS, dither_B, cost_S = draw(seed, 4, sites)
    assert within_budget(scores_BS, torch.zeros(4), dither_B, cost_S, 0)[0].all()
