"""The only file that imports ESPnet: its classes, under the names that the rest of the project uses.

ESPnet's modules are built by direct construction; its argument parsers and class registries are not used.
"""

import io
from contextlib import redirect_stderr
from typing import Any

from torch import Tensor, arange

with redirect_stderr(io.StringIO()):  # on its import ESPnet prints there that it has no flash attention
    import espnet2.legacy.nets.pytorch_backend.transformer.attention  # noqa: F401

from espnet2.asr.ctc import CTC
from espnet2.asr.decoder.transformer_decoder import TransformerDecoder
from espnet2.asr.encoder.branchformer_encoder import BranchformerEncoder, BranchformerEncoderLayer
from espnet2.asr.encoder.conformer_encoder import ConformerEncoder
from espnet2.asr.encoder.e_branchformer_encoder import EBranchformerEncoder, EBranchformerEncoderLayer
from espnet2.asr.encoder.transformer_encoder import TransformerEncoder
from espnet2.asr.frontend.default import DefaultFrontend
from espnet2.asr.specaug.specaug import SpecAug
from espnet2.layers.global_mvn import GlobalMVN
from espnet2.layers.utterance_mvn import UtteranceMVN
from espnet2.legacy.nets.batch_beam_search import BatchBeamSearch
from espnet2.legacy.nets.pytorch_backend import nets_utils
from espnet2.legacy.nets.pytorch_backend.conformer.convolution import mask_padded_frames
from espnet2.legacy.nets.pytorch_backend.conformer.encoder_layer import EncoderLayer as ConformerEncoderLayer
from espnet2.legacy.nets.pytorch_backend.nets_utils import make_pad_mask
from espnet2.legacy.nets.pytorch_backend.transformer.attention import (
    LegacyRelPositionMultiHeadedAttention,
    MultiHeadedAttention,
    RelPositionMultiHeadedAttention,
)
from espnet2.legacy.nets.pytorch_backend.transformer.decoder_layer import DecoderLayer
from espnet2.legacy.nets.pytorch_backend.transformer.encoder_layer import EncoderLayer as TransformerEncoderLayer
from espnet2.legacy.nets.pytorch_backend.transformer.positionwise_feed_forward import PositionwiseFeedForward
from espnet2.legacy.nets.scorers.ctc import CTCPrefixScorer
from espnet2.s2t.espnet_model import ESPnetS2TModel
from espnet2.torch_utils.initialize import initialize

__all__ = [
    "CTC",
    "BatchBeamSearch",
    "BranchformerEncoder",
    "BranchformerEncoderLayer",
    "CTCPrefixScorer",
    "ConformerEncoder",
    "ConformerEncoderLayer",
    "DecoderLayer",
    "DefaultFrontend",
    "EBranchformerEncoder",
    "EBranchformerEncoderLayer",
    "ESPnetS2TModel",
    "GlobalMVN",
    "LegacyRelPositionMultiHeadedAttention",
    "MultiHeadedAttention",
    "PositionwiseFeedForward",
    "RelPositionMultiHeadedAttention",
    "SpecAug",
    "TransformerDecoder",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "UtteranceMVN",
    "initialize",
    "make_pad_mask",
    "mask_padded_frames",
]


def _pad_mask(lengths: Tensor, xs: Tensor | None, length_dim: int, maxlen: Any = None) -> Tensor:
    """Where ESPnet's batches are padding: (B, T), or of the shape of ``xs``, whose ``length_dim`` is the time."""
    frames: Any = maxlen
    if frames is None:
        frames = lengths.max() if xs is None else xs.shape[length_dim]
    device = lengths.device if xs is None else xs.device
    mask_BT = arange(frames, device=device) >= lengths.to(device)[:, None]
    if xs is None or xs.dim() == 2:
        return mask_BT
    return mask_BT[:, :, None].expand_as(xs) if length_dim == 1 else mask_BT[:, None].expand_as(xs)


# What make_pad_mask calls.  ESPnet's own reads its B rows from a mask of T x T, four times a batch: some milliseconds
# for 30 s of audio, but gigabytes for 10 minutes.
nets_utils._make_pad_mask_traceable = _pad_mask
