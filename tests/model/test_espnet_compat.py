"""What is mended of ESPnet."""

import pytest
import torch
from espnet2.asr.frontend.default import DefaultFrontend
from espnet2.legacy.nets.pytorch_backend.nets_utils import _make_pad_mask
from hypothesis import given
from hypothesis import strategies as st

from speechgate.model.espnet_compat import make_pad_mask

lengths_of = st.lists(st.integers(0, 12), min_size=1, max_size=5).filter(any)


@given(lengths=lengths_of, extra=st.integers(0, 3))
def test_masks_are_espnets_own(lengths, extra):
    lengths_B, longest = torch.tensor(lengths), max(lengths) + extra
    assert torch.equal(make_pad_mask(lengths_B), _make_pad_mask(lengths_B))
    assert torch.equal(make_pad_mask(lengths_B, maxlen=longest), _make_pad_mask(lengths_B, maxlen=longest))
    for shape, dim in (((longest,), 1), ((longest,), -1), ((longest, 4), 1), ((4, longest), 2), ((4, longest), -1)):
        xs = torch.zeros(len(lengths), *shape)
        found, expected = make_pad_mask(lengths_B, xs, dim), _make_pad_mask(lengths_B, xs, dim)
        assert torch.equal(found, expected)


def test_memory_does_not_grow_with_the_square_of_the_length():
    lengths_B = torch.tensor([1_000_000, 5])  # of 10^12 elements, a square mask would not fit
    assert make_pad_mask(lengths_B).sum() == 999_995
    samples = torch.zeros(1, 20_000_000)  # what ESPnet's modules call is mended too
    features, frames = DefaultFrontend(n_fft=64, hop_length=64, n_mels=2)(samples, torch.tensor([20_000_000]))
    assert features.shape[1] == frames[0] == 20_000_000 // 64 + 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_lengths_may_lie_on_another_device():
    xs = torch.zeros(2, 5, 3, device="cuda")
    lengths_B = torch.tensor([5, 2])
    assert torch.equal(make_pad_mask(lengths_B, xs, 1).cpu(), _make_pad_mask(lengths_B, xs.cpu(), 1))
