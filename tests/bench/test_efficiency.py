"""Skip efficiency: time saved in the stacks that close something, over the time of what they close."""

import pytest
import torch

from speechgate.bench.efficiency import skip_efficiency
from speechgate.bench.timing import Samples
from tests.gates.gated import config_of, gated_model

PROFILE = {
    "encoder.ffn1": 10.0,
    "encoder.attn": 40.0,
    "encoder.cgmlp": 20.0,
    "encoder.merge": 6.0,
    "encoder.ffn2": 10.0,
    "decoder.self_attn": 8.0,
    "decoder.src_attn": 8.0,
    "decoder.ffn": 4.0,
}


def samples(encoder_ms: float, decoder_ms: float) -> Samples:
    return Samples([{"encoder_ms": encoder_ms, "decoder_ms": decoder_ms}], [False])


@pytest.fixture
def gates():
    model, _ = gated_model(config_of("e_branchformer", encoder_layers=2, decoder_layers=2), 0)
    return model.gates


def closing(gates, *names: str) -> torch.Tensor:
    return torch.tensor([[str(site) not in names for site in gates.sites]])


def test_chance_in_the_other_stack_does_not_count(gates) -> None:
    open_BS = closing(gates, "decoder.0.self_attn", "decoder.1.ffn")  # which take 4 + 2 ms
    assert skip_efficiency(open_BS, gates, samples(90.0, 30.0), samples(60.0, 27.0), PROFILE) == pytest.approx(0.5)


def test_a_merge_is_saved_where_both_of_its_branches_are_closed(gates) -> None:
    both = closing(gates, "encoder.0.attn", "encoder.0.cgmlp")  # 20 + 10 + 3 ms
    assert skip_efficiency(both, gates, samples(90.0, 30.0), samples(57.0, 20.0), PROFILE) == pytest.approx(1.0)
    one = closing(gates, "encoder.0.attn")
    assert skip_efficiency(one, gates, samples(90.0, 30.0), samples(70.0, 30.0), PROFILE) == pytest.approx(1.0)


def test_there_is_none_where_nothing_is_closed(gates) -> None:
    assert skip_efficiency(closing(gates), gates, samples(90.0, 30.0), samples(80.0, 30.0), PROFILE) is None
