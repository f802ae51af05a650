#!/usr/bin/env python
"""How the choices of the budget rule train, on gates alone: the table of docs/gates.md.

Two tasks, 24 modules, a random value each; closing a module costs its value, plus noise.  Regret is the value of the
closed modules between the best choice (0) and the worst (1), at budgets of 10 to 70%; a random choice has 0.5.

    .venv/bin/python scripts/ablate_dial.py
"""

import argparse
from unittest.mock import patch

import torch

from speechgate.config import GatesConfig
from speechgate.gates import estimator
from speechgate.gates.decision import Sampling, decide_gates
from speechgate.training.schedule import gate_noise, penalty_scale

CONFIG = GatesConfig(rule="budget", budget=(0.0, 0.7))
SITES, BATCH, SEEDS = 24, 12, 20
COST_S = torch.ones(SITES)


def regret_after(updates: int, seed: int, *, one_budget: bool = False, noise: bool = True, edge: bool = True) -> float:
    """Train two tasks' scores; return the mean regret over tasks and budgets."""
    torch.manual_seed(seed)
    value_KS = torch.rand(2, SITES)
    score_KS = torch.nn.Parameter(torch.full((2, SITES), CONFIG.initial_logit))
    optimizer = torch.optim.Adam([score_KS], lr=0.05)
    task_B = torch.arange(BATCH) % 2
    for update in range(updates):
        progress = update / updates
        budget_B = torch.rand(1).expand(BATCH) if one_budget else (torch.randperm(BATCH) + torch.rand(BATCH)) / BATCH
        closed_B = 0.7 * budget_B * penalty_scale(progress, CONFIG)
        sampling = Sampling(gate_noise(progress, CONFIG) if noise else 0.0, CONFIG.temperature)
        with patch.object(estimator, "edge_share", estimator.edge_share if edge else torch.zeros_like):
            gates_BS, _ = decide_gates(CONFIG, score_KS[task_B], closed_B, torch.rand(BATCH), COST_S, sampling)
        closed_BS = 1 - gates_BS
        loss = ((closed_BS * value_KS[task_B]).sum(1) + 0.3 * torch.randn(BATCH) * closed_BS.sum(1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = []
    for share in torch.arange(1, 8) / 10:
        open_KS, _ = decide_gates(CONFIG, score_KS.detach(), share.expand(2), torch.full((2,), 0.5), COST_S, None)
        for value_S, open_S in zip(value_KS, open_KS, strict=True):
            closed, ordered_S = int((~open_S).sum()), value_S.sort().values
            best, worst = ordered_S[:closed].sum(), ordered_S[-closed:].sum()
            found.append(float((value_S[~open_S].sum() - best) / (worst - best)))
    return sum(found) / len(found)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    variants: dict[str, dict[str, bool]] = {
        "as described": {},
        "one budget a batch": {"one_budget": True},
        "without noise": {"noise": False},
        "the edge without its gradient": {"edge": False},
    }
    for name, keys in variants.items():
        for updates in (40, 250):
            regrets = [regret_after(updates, seed, **keys) for seed in range(SEEDS)]
            mean, low, high = sum(regrets) / SEEDS, min(regrets), max(regrets)
            print(f"{name:30s} {updates:4d} updates: regret {mean:.3f} ({low:.3f}-{high:.3f})", flush=True)


if __name__ == "__main__":
    main()
