"""A tiny random Whisper as transformers keeps it on disk: bytes for pieces, three languages."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

SPECIALS = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|fr|>", "<|de|>", "<|translate|>", "<|transcribe|>"]
SPECIALS += ["<|startoflm|>", "<|notimestamps|>", "<|0.00|>", "<|0.02|>"]
POSITIONS = 150  # 3 s


def write_whisper(folder: Path, specials: list[str] = SPECIALS, **architecture: Any) -> Path:
    """Write a random model, its tokenizer and its rules of generation; returns ``folder``."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(each, special=True) for each in specials])
    first = len(letters)
    torch.manual_seed(0)
    config = WhisperConfig(
        **{
            "vocab_size": first + len(specials),
            "num_mel_bins": 20,
            "d_model": 16,
            "encoder_layers": 2,
            "decoder_layers": 3,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 24,
            "decoder_ffn_dim": 24,
            "max_source_positions": POSITIONS,
            "max_target_positions": 60,
            "bos_token_id": first,
            "eos_token_id": first,
            "pad_token_id": first,
            "decoder_start_token_id": first + 1,
            "suppress_tokens": None,
            "begin_suppress_tokens": None,
            **architecture,
        }
    )
    model = WhisperForConditionalGeneration(config)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.dim() == 1:  # ones and zeros would hide a mistake
                value.add_(0.1 * torch.randn_like(value))
            elif "embed_positions" not in name:
                value.normal_(std=value.shape[-1] ** -0.5)
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    GenerationConfig(suppress_tokens=[1, 2], begin_suppress_tokens=[3, first]).save_pretrained(folder)
    return folder
