"""The encoder's faster kernels against the modules that they stand in for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgate.decoding.kernels import EncoderKernels
from speechgate.decoding.search.linear import can_pack
from speechgate.model.espnet_compat import RelPositionMultiHeadedAttention

needs_packing = pytest.mark.skipif(
    not can_pack(torch.zeros(2, 2), torch.float32), reason="this processor packs no weights"
)


@needs_packing
@settings(max_examples=20, deadline=None)
@given(
    heads=st.integers(1, 4),
    frames=st.integers(1, 40),
    lengths=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=4),
    masked=st.booleans(),
    seed=st.integers(0, 99),
)
def test_relative_attention_is_espnets(heads: int, frames: int, lengths: list[float], masked: bool, seed: int) -> None:
    torch.manual_seed(seed)
    attention = RelPositionMultiHeadedAttention(heads, 8 * heads, 0.0).eval()
    x_BTD, places = torch.randn(len(lengths), frames, 8 * heads), torch.randn(1, 2 * frames - 1, 8 * heads)
    real_B = torch.tensor([max(1, round(frames * share)) for share in lengths])
    mask_B1T = (torch.arange(frames) < real_B[:, None])[:, None] if masked else None
    kernels = EncoderKernels(_Model(attention), torch.float32, packed=True)
    with torch.inference_mode():
        expected_BTD = attention(x_BTD, x_BTD, x_BTD, places, mask_B1T)
        with kernels.in_use():
            assert "forward" in vars(attention)
            found_BTD = attention(x_BTD, x_BTD, x_BTD, places, mask_B1T)
    torch.testing.assert_close(found_BTD, expected_BTD, atol=1e-5, rtol=1e-5)
    assert "forward" not in vars(attention)


class _Model:
    """An encoder of one module."""

    ctc = None

    def __init__(self, encoder: torch.nn.Module) -> None:
        self.encoder = torch.nn.Sequential(encoder)
