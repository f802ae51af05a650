"""A Whisper checkpoint as transformers writes its own, for all that reads these, as converters of other engines do.

transformers' layers have all their modules.  A closed one stays, with its last projection zero, so that it adds exactly
0; a layer with nothing open is left out.
"""

from pathlib import Path

from torch import nn
from transformers import GenerationConfig, WhisperFeatureExtractor, WhisperTokenizer

from speechgate.files import write_text
from speechgate.gates.attach import detach
from speechgate.gates.fixed import silence
from speechgate.model.checkpoint import Checkpoint, Specialised
from speechgate.model.weights import save_weights
from speechgate.task import Task
from speechgate.whisper.host import WhisperHost
from speechgate.whisper.tokens import TRANSCRIBE, TRANSLATE, WhisperTokens


def write_transformers(checkpoint: Checkpoint, specialised: Specialised, folder: Path) -> Path:
    """Write ``checkpoint`` with the gates fixed; its model is changed on the way.  Returns the path of the weights.

    ``generate`` does the task of ``specialised`` unless told otherwise.  A translation into another language than
    English, which transformers' Whisper has no name for, takes the name of "translate".
    """
    host, tokens = checkpoint.model, checkpoint.tokenizer
    assert isinstance(tokens, WhisperTokens)
    if hasattr(host, "gates"):
        detach(host)
    _close(host, specialised.closed)
    host.config.encoder_layers = len(host.encoder.layers)
    host.config.decoder_layers = len(host.decoder.decoder.layers)
    host.config.architectures = ["WhisperForConditionalGeneration"]
    write_text(folder / "config.json", host.config.to_json_string())
    generation = _generation(tokens, host.config.max_target_positions, Task.parse(specialised.task))
    write_text(folder / "generation_config.json", generation.to_json_string())
    WhisperFeatureExtractor(feature_size=host.config.num_mel_bins).save_pretrained(folder)
    _tokenizer(tokens).save_pretrained(folder)
    parts = {"model.encoder": host.encoder, "model.decoder": host.decoder.decoder}
    state = {
        f"{name}.{key}": value.detach().float().cpu().contiguous()
        for name, part in parts.items()
        for key, value in part.state_dict().items()
    }
    save_weights(state, folder / "model.safetensors")
    return folder / "model.safetensors"


def _close(host: WhisperHost, closed: tuple[str, ...]) -> None:
    stacks = host.stacks()
    silence(stacks, closed)
    for stack, owner in zip(stacks, (host.encoder, host.decoder.decoder), strict=True):
        owner.layers = nn.ModuleList(
            layer
            for index, layer in enumerate(stack.layers)
            if any(str(site) not in closed for kind in stack.kinds for site in stack.sites(index, kind))
        )


def _generation(tokens: WhisperTokens, max_length: int, task: Task) -> GenerationConfig:
    language, does, no_timestamps = tokens.prompt(task)
    spoken = {tokens.token_list[place]: place for place in tokens.language_ids.values()}
    named = {TRANSCRIBE: tokens.token_list.index(TRANSCRIBE), TRANSLATE: tokens.token_list.index(TRANSLATE)}
    name = TRANSCRIBE if does == named[TRANSCRIBE] else TRANSLATE
    return GenerationConfig(
        bos_token_id=tokens.eos,
        eos_token_id=tokens.eos,
        pad_token_id=tokens.eos,
        decoder_start_token_id=tokens.sos,
        suppress_tokens=sorted(tokens.suppressed),
        begin_suppress_tokens=sorted(tokens.suppressed_first),
        no_timestamps_token_id=no_timestamps,
        max_length=max_length,
        is_multilingual=True,
        lang_to_id=spoken,
        task_to_id={symbol.strip("<|>"): place for symbol, place in (named | {name: does}).items()},
        language=tokens.token_list[language],
        task=name.strip("<|>"),
    )


def _tokenizer(tokens: WhisperTokens) -> WhisperTokenizer:
    end = tokens.token_list[tokens.eos]
    return WhisperTokenizer(tokenizer_object=tokens.pieces(), bos_token=end, eos_token=end, pad_token=end)
