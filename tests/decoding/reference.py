"""Random models whose search is worth comparing, and ESPnet's own search as the reference."""

from dataclasses import dataclass

import pytest
import torch
from espnet2.asr.ctc import CTC
from espnet2.asr.decoder.transformer_decoder import TransformerDecoder
from espnet2.legacy.nets.batch_beam_search import BatchBeamSearch
from espnet2.legacy.nets.scorers.ctc import CTCPrefixScorer
from espnet2.legacy.nets.scorers.length_bonus import LengthBonus
from torch import Tensor, nn

from speechgate.decoding.search import DecoderWeights, Hypothesis, SearchOptions, SearchTokens, prepare_decoder, search

PROMPT = [4, 7, 9]


@dataclass
class RandomModel:
    """Decoder and CTC head with random weights, and random encoder output to search over."""

    decoder: TransformerDecoder
    ctc: CTC
    vocabulary: int
    width: int

    @property
    def tokens(self) -> SearchTokens:
        return SearchTokens(sos=self.vocabulary - 1, eos=self.vocabulary - 2, blank=0)

    def encoder_out(self, lengths: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
        """Random encoder output (B, T, D), zero beyond each length, and the lengths."""
        generator = torch.Generator().manual_seed(seed)
        out = torch.zeros(len(lengths), max(lengths), self.width)
        for row, length in zip(out, lengths, strict=True):
            row[:length] = torch.randn(length, self.width, generator=generator)
        return out, torch.tensor(lengths)

    @torch.inference_mode()
    def search(
        self,
        encoder_out: Tensor,
        lengths: Tensor,
        options: SearchOptions,
        mask: Tensor | None = None,
        prompts: list[list[int]] | None = None,
        tokens: SearchTokens | None = None,
        weights: DecoderWeights | None = None,
    ) -> list[list[Hypothesis]]:
        return search(
            weights or prepare_decoder(self.decoder, mask),
            self.ctc.log_softmax(encoder_out),
            encoder_out,
            lengths,
            prompts or [PROMPT] * len(lengths),
            options,
            tokens or self.tokens,
        )

    def espnet_search(
        self, encoder_out: Tensor, lengths: Tensor, options: SearchOptions, batched: bool = False
    ) -> list[list["Reference"]]:
        return espnet_search(self.decoder, self.ctc, self.tokens, PROMPT, encoder_out, lengths, options, batched)


Reference = tuple[tuple[int, ...], float, float, float]  # tokens, score, decoder's share, CTC's share


@torch.inference_mode()
def espnet_search(
    decoder: TransformerDecoder,
    ctc: CTC,
    tokens: SearchTokens,
    prompt: list[int],
    encoder_out: Tensor,
    lengths: Tensor,
    options: SearchOptions,
    batched: bool = False,
) -> list[list[Reference]]:
    """The n best of each utterance by ESPnet."""
    vocabulary = decoder.output_layer.out_features
    reference = BatchBeamSearch(
        scorers={
            "decoder": decoder,
            "ctc": CTCPrefixScorer(ctc, tokens.eos),
            "length_bonus": LengthBonus(vocabulary),
        },
        weights={
            "decoder": 1.0 - options.ctc_weight,
            "ctc": options.ctc_weight,
            "length_bonus": options.length_bonus,
        },
        beam_size=options.beam_size,
        vocab_size=vocabulary,
        sos=tokens.sos,
        eos=tokens.eos,
        pre_beam_ratio=options.pre_beam_ratio,
        pre_beam_score_key="full",
    )
    reference.set_hyp_primer([tokens.sos, *prompt])
    ratios = (options.max_length_ratio, options.min_length_ratio)
    if batched:
        found = reference(encoder_out, *ratios, x_lengths=lengths)
    else:
        found = [reference(row[:length], *ratios) for row, length in zip(encoder_out, lengths, strict=True)]

    def plain(hypothesis) -> Reference:
        written = hypothesis.yseq[1 + len(prompt) :].tolist()
        scores = hypothesis.scores
        text = tuple(token for token in written if token != tokens.eos)
        return text, float(hypothesis.score), float(scores["decoder"]), float(scores.get("ctc", 0.0))

    return [[plain(hypothesis) for hypothesis in nbest[: options.nbest]] for nbest in found]


def random_model(
    width: int = 32,
    heads: int = 4,
    layers: int = 2,
    units: int = 64,
    vocabulary: int = 30,
    sharpness: float = 4.0,
    eos_bias: float = 1.0,
    seed: int = 0,
) -> RandomModel:
    """Build a random model; ``sharpness`` scales its logits, without which all tokens would be about equal."""
    torch.manual_seed(seed)
    decoder = TransformerDecoder(
        vocabulary, width, attention_heads=heads, linear_units=units, num_blocks=layers, use_flash_attn=False
    ).eval()
    ctc = CTC(vocabulary, width).eval()
    for layer in (decoder.output_layer, ctc.ctc_lo):
        nn.init.normal_(layer.weight, std=sharpness / width**0.5)
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            if "norm" in name or name.endswith("bias"):  # ones and zeros would hide a mistake
                parameter.add_(torch.randn_like(parameter) * 0.1)
        decoder.output_layer.bias[vocabulary - 2] += eos_bias
        ctc.ctc_lo.bias[0] += 2.0
    return RandomModel(decoder, ctc, vocabulary, width)


def assert_same(found: list[list[Hypothesis]], expected: list, tolerance: float = 1e-3) -> None:
    """The same hypotheses in the same order, with the same scores."""
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        # Below this a hypothesis is impossible for CTC, and ESPnet's float32 score of it is rounding noise.
        theirs = [hypothesis for hypothesis in theirs if hypothesis[1] > -1e6]
        ours = [hypothesis for hypothesis in ours if hypothesis.score > -1e6]
        assert [hypothesis.tokens for hypothesis in ours] == [hypothesis[0] for hypothesis in theirs]
        for hypothesis, (_, score, decoder_score, ctc_score) in zip(ours, theirs, strict=True):
            assert hypothesis.score == pytest.approx(score, abs=tolerance)
            assert hypothesis.decoder_score == pytest.approx(decoder_score, abs=tolerance)
            assert hypothesis.ctc_score == pytest.approx(ctc_score, abs=tolerance)
