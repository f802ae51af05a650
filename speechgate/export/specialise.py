"""Which modules a task closes, and the checkpoint without them.

Shapes: B batch, S gate sites, T frames, D width.
"""

from collections.abc import Sequence

import torch
from lhotse.cut import Cut
from torch import Tensor

from speechgate.decoding.decode import examples_of, gates_of
from speechgate.decoding.engine import Engine
from speechgate.decoding.search import SearchOptions
from speechgate.errors import CheckpointError, ConfigError
from speechgate.gates.espnet import known_stacks
from speechgate.model.checkpoint import Checkpoint, Specialised
from speechgate.task import Task

KNOWN_IN_ADVANCE = {"task", "source", "target", "budget"}  # contexts that a task and a dial fix


def closed_for(checkpoint: Checkpoint, task: Task, cuts: Sequence[Cut] = ()) -> Specialised:
    """What the gates close for ``task``, their budget dial standing where it does.

    Gates that look at nothing but task, languages and budget always decide the same for it.  Gates that hear the audio,
    as all do that decide layer by layer, decide by the majority of the utterances in ``cuts``.  Without gates nothing
    is closed.

    Raises:
        CheckpointError: the checkpoint is specialised already.
        ConfigError: gates that hear the audio, and no ``cuts``; or a language that they do not know.
        ManifestError: no cut fits the task.
    """
    if checkpoint.specialised is not None:
        raise CheckpointError(
            f"this checkpoint is specialised for {checkpoint.specialised.task} already: export the one it was made of"
        )
    checkpoint.tokenizer.prompt(task)  # refuses languages and tasks that the model has no symbol for
    if checkpoint.gates is None:
        return Specialised(str(task), ())
    others = sorted(set(checkpoint.gates.context) - KNOWN_IN_ADVANCE)
    others += ["scope local"] if checkpoint.gates.scope == "local" else []
    if not others or checkpoint.gates.policy != "learned":
        open_BS = _decide_without_audio(checkpoint, task)
    elif cuts:
        open_BS = _decide_by_audio(checkpoint, task, cuts)
    else:
        raise ConfigError(
            f"these gates depend on more than the task ({', '.join(others)}), so they are not fixed by it: "
            "give a manifest of utterances, and they are fixed to what most of these get"
        )
    open_S = open_BS.float().mean(0) >= 0.5
    closed = [str(site) for site, is_open in zip(checkpoint.model.gates.sites, open_S, strict=True) if not is_open]
    stacks = checkpoint.model.gates.stacks
    gated = [index for stack in stacks for index in checkpoint.model.gates.sites_of(stack)]
    agreement = float((open_BS == open_S)[:, gated].float().mean())
    heard = len(open_BS) if others and cuts else 0
    return Specialised(str(task), tuple(closed), heard, agreement, checkpoint.sparsity_target)


@torch.inference_mode()
def _decide_without_audio(checkpoint: Checkpoint, task: Task) -> Tensor:
    """(1, S): the input of the stacks does not matter, so one frame of zeros will do."""
    model = checkpoint.model.eval()
    model.gates.set_context([task])
    for stack in known_stacks(model):
        if stack.name in model.gates.stacks:
            x_1TD = torch.zeros(1, 1, stack.width, device=next(model.parameters()).device)
            model.gates.decide(stack.name, x_1TD, torch.ones(1, 1, dtype=torch.bool, device=x_1TD.device))
    return model.gates.mask_BS(1)


def _decide_by_audio(checkpoint: Checkpoint, task: Task, cuts: Sequence[Cut]) -> Tensor:
    """(utterances, S): the gates of each."""
    engine = Engine(checkpoint, SearchOptions(ctc_weight=0.0))
    examples = examples_of(cuts, [task])
    return torch.cat([open_BS for _, open_BS in gates_of(engine, examples, checkpoint.config.min_seconds)])
