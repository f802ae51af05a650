"""A tiny random Whisper, and its search by this project's engine and by transformers."""

import pytest
import torch
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin, WhisperConfig, WhisperForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from speechgate.decoding.search import Hypothesis, SearchOptions, SearchTokens, prepare_whisper_decoder, search

EOS, SOT, LANGUAGE, TRANSCRIBE, TRANSLATE, NO_TIMESTAMPS = range(194, 200)
VOCABULARY = 200
POSITIONS = 40
WIDTH = 32
PROMPT = [LANGUAGE, TRANSCRIBE, NO_TIMESTAMPS]
TOKENS = SearchTokens(SOT, EOS, forbidden=(1, 2, 7, 30, SOT, *PROMPT), forbidden_first=(3, EOS))
LENGTHS = [31, 7, 18, 2]
OPTIONS = SearchOptions(beam_size=4, ctc_weight=0.0, max_length_ratio=-100, nbest=4, finish="transformers")


def random_whisper(sharpness: float = 3.0, eos_bias: float = 8.0, seed: int = 0) -> WhisperForConditionalGeneration:
    """A tiny random Whisper; ``sharpness`` scales its logits, without which all tokens would be about equal."""
    torch.manual_seed(seed)
    config = WhisperConfig(
        vocab_size=VOCABULARY,
        d_model=WIDTH,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_source_positions=50,
        max_target_positions=POSITIONS,
        tie_word_embeddings=False,
        pad_token_id=EOS,
        bos_token_id=EOS,
        eos_token_id=EOS,
        decoder_start_token_id=SOT,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    model = WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.model.decoder.named_parameters():
            if "norm" in name or name.endswith("bias"):  # ones and zeros would hide a mistake
                parameter.add_(torch.randn_like(parameter) * 0.1)
            elif "embed" not in name:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
        for embedding in (model.model.decoder.embed_tokens, model.model.decoder.embed_positions):
            embedding.weight.normal_()
        model.proj_out.weight.normal_(std=sharpness / WIDTH**0.5)
        # The output layer has no bias: <eos> is made likelier along a direction that every position shares.
        model.model.decoder.layer_norm.bias += 0.5
        model.proj_out.weight[EOS] += eos_bias / (0.5 * WIDTH)
    model.generation_config = GenerationConfig(
        max_length=POSITIONS,
        pad_token_id=EOS,
        bos_token_id=EOS,
        eos_token_id=EOS,
        decoder_start_token_id=SOT,
        no_timestamps_token_id=NO_TIMESTAMPS,
        is_multilingual=True,
        lang_to_id={"<|en|>": LANGUAGE},
        task_to_id={"transcribe": TRANSCRIBE, "translate": TRANSLATE},
        return_timestamps=False,
    )
    return model


def encoder_out(lengths: list[int], seed: int = 0) -> Tensor:
    """Random encoder output (B, T, D); what is beyond each length must not matter."""
    generator = torch.Generator().manual_seed(seed)
    out_BTD = torch.full((len(lengths), max(lengths), WIDTH), 1e3)
    for row, length in zip(out_BTD, lengths, strict=True):
        row[:length] = torch.randn(length, WIDTH, generator=generator)
    return out_BTD


def ours(
    model: WhisperForConditionalGeneration,
    out_BTD: Tensor,
    lengths: list[int],
    options: SearchOptions,
    tokens: SearchTokens = TOKENS,
    static: bool = False,
    open_BM: Tensor | None = None,
) -> list[list[Hypothesis]]:
    weights = prepare_whisper_decoder(model.model.decoder, model.proj_out)
    prompts = [PROMPT] * len(lengths)
    return search(weights, None, out_BTD, torch.tensor(lengths), prompts, options, tokens, static, open_BM)


@torch.inference_mode()
def theirs(
    model: WhisperForConditionalGeneration,
    out_BTD: Tensor,
    lengths: list[int],
    options: SearchOptions,
    tokens: SearchTokens = TOKENS,
) -> list[list[tuple[tuple[int, ...], float | None]]]:
    """The n best, tokens and score, by the ``generate`` that Whisper's own calls, which returns only one.

    One by one, since its cross-attention knows no padding.
    """
    found = []
    for row, length in zip(out_BTD, lengths, strict=True):
        output = GenerationMixin.generate(
            model,
            encoder_outputs=BaseModelOutput(row[None, :length]),
            decoder_input_ids=torch.tensor([[SOT, *PROMPT]]),
            num_beams=options.beam_size,
            num_return_sequences=options.nbest,
            length_penalty=options.length_penalty if options.beam_size > 1 else None,
            suppress_tokens=list(tokens.forbidden),
            begin_suppress_tokens=list(tokens.forbidden_first),
            max_length=min(POSITIONS, 1 + len(PROMPT) - int(options.max_length_ratio)),
            return_dict_in_generate=True,
            output_scores=True,
        )
        scores = output.sequences_scores.tolist() if options.beam_size > 1 else [None]
        texts = [
            tuple(token for token in text[1 + len(PROMPT) :].tolist() if token != EOS) for text in output.sequences
        ]
        found.append(list(zip(texts, scores, strict=True)))
    return found


def assert_same(found: list[list[Hypothesis]], expected: list[list[tuple[tuple[int, ...], float | None]]]) -> None:
    assert len(found) == len(expected)
    for hypotheses, references in zip(found, expected, strict=True):
        assert [hypothesis.tokens for hypothesis in hypotheses] == [tokens for tokens, _ in references]
        for hypothesis, (_, score) in zip(hypotheses, references, strict=True):
            if score is not None:
                assert hypothesis.score == pytest.approx(score, abs=1e-4, rel=1e-6)
