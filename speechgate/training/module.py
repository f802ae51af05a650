"""The LightningModule: one step, one validation, the optimizer."""

import random
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
import torchaudio.functional as AF
from torch import Tensor, nn

from speechgate.config import GatesConfig, TrainConfig
from speechgate.data.batch import SAMPLE_RATE, Batch
from speechgate.gates.context import Context
from speechgate.gates.targets import target_of
from speechgate.model.frames import encoder_frames
from speechgate.training.distillation import DenseTeacher
from speechgate.training.objective import hybrid_loss, sparsity_penalty
from speechgate.training.randomness import seed_batch
from speechgate.training.schedule import anneal, learning_rate_scale, penalty_scale
from speechgate.training.sharding import ShardedStrategy, shard, whole
from speechgate.training.teacher import WhisperTeacher, distillation_loss
from speechgate.training.trained import parameter_groups

TEACHERS = ("teacher.", "dense.")


class TrainingModule(L.LightningModule):
    """Trains ``model`` (with its gates, if it has any) on batches of ``Batch``.

    Attributes:
        batch: the one at work, for the message if memory runs out.
        frames_B: the encoder's frames of the last batch, on the CPU.
        gradient_norm: of the last update, before it was clipped.
    """

    def __init__(
        self,
        model: Any,
        config: TrainConfig,
        gates: GatesConfig | None,
        seconds_used: Callable[[], float],
        dense: DenseTeacher | None = None,
    ) -> None:
        """``seconds_used`` gives the time spent training, over all resumptions; ``dense`` is for ``train.distill``."""
        super().__init__()
        self.model = model
        self.config = config
        self.gates_config = gates
        self.multipliers: nn.Parameter | None = None  # of the Lagrangian: a linear and a square one for each stack
        if gates is not None and gates.penalty == "lagrangian":
            self.multipliers = nn.Parameter(torch.zeros(len(model.gates.stacks), 2))
        self.seconds_used = seconds_used
        self.minutes = 0.0
        self.sharded = False
        self.batch: Batch | None = None
        self.frames_B = torch.zeros(0)
        self.gradient_norm = torch.zeros(())
        self.teacher: WhisperTeacher | None = None
        self.dense = dense
        if config.teacher is not None:
            self.teacher = WhisperTeacher(config.teacher.model)
            self.to_teacher = nn.Linear(model.encoder.output_size(), self.teacher.width)

    def configure_model(self) -> None:
        """Share the model out over the processes, if that is asked for and there are several."""
        if isinstance(self.trainer.strategy, ShardedStrategy):
            self.sharded = True
            shard(self, self.trainer.strategy.device_mesh["data_parallel"], self.trainer.precision == "bf16-mixed")

    @property
    def progress(self) -> float:
        """From 0 to 1: the share of the updates done, or of the minutes allowed if that is more."""
        by_updates = self.global_step / self.config.updates
        if not self.config.max_minutes:
            return by_updates
        return min(1.0, max(by_updates, self.minutes / self.config.max_minutes))

    def on_train_batch_start(self, batch: Batch, index: int) -> None:
        if self.config.max_minutes:  # by one clock, or the processes' schedules would part
            self.minutes = self.trainer.strategy.broadcast(self.seconds_used()) / 60
        seed_batch(self.config.seed, self.global_rank, index)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch.to(device)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        self.batch = batch
        if self.config.speed_perturb:
            factor = random.choice(self.config.speed_perturb)
            with torch.autocast(batch.speech_BN.device.type, enabled=False):  # samples and log-mel stay in float32
                speech_BN, lengths_B = AF.speed(batch.speech_BN, SAMPLE_RATE, factor, batch.speech_lengths)
            batch.speech_BN, batch.speech_lengths = speech_BN, lengths_B.long().clamp(max=speech_BN.size(1))
        if self.gates_config is not None:
            anneal(self.model.gates, self.progress, self.sharded)
        loss = self._task_loss(batch, "train")
        if self.gates_config is not None:
            loss = loss + self._penalty(batch)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch))
        return loss

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        limit = self.config.clip if self.config.clip > 0 else float("inf")
        self.gradient_norm = whole(nn.utils.clip_grad_norm_(self.parameters(), limit))
        self.log("train/gradient_norm", self.gradient_norm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name in [name for name in checkpoint["state_dict"] if name.startswith(TEACHERS)]:
            del checkpoint["state_dict"][name]  # they do not change, and come from elsewhere

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        own = self.state_dict()
        checkpoint["state_dict"] |= {name: own[name] for name in own if name.startswith(TEACHERS)}

    def validation_step(self, batch: Batch, index: int) -> None:
        self.batch = batch
        loss = self._task_loss(batch, "valid")
        self.log("valid/loss", loss, prog_bar=True, batch_size=len(batch), sync_dist=True)
        if self.gates_config is not None:
            for stack, gates_BS in self.model.gates.gates_BS.items():
                cost_S = self.model.gates.costs_of(stack)
                closed_B = 1 - (gates_BS.float() * cost_S).sum(1) / cost_S.sum()
                for task in sorted(set(batch.tasks)):
                    rows = [i for i, other in enumerate(batch.tasks) if other == task]
                    self.log(f"valid/sparsity/{stack}/{task}", closed_B[rows].mean(), batch_size=len(rows))

    def _task_loss(self, batch: Batch, split: str) -> Tensor:
        if self.gates_config is not None:
            self.model.gates.set_context(Context(batch.tasks, batch.vectors))
        loss, parts, encoder_out_BTD, lengths_B = hybrid_loss(
            self.model, batch, self.config.ctc_weight, self.config.distill, self.dense if self.training else None
        )
        self.frames_B = lengths_B
        if self.teacher is not None and self.training:
            frame, offset = encoder_frames(self.model)
            target_BUD = self.teacher(batch.speech_BN)
            predicted_BTD = self.to_teacher(encoder_out_BTD)
            parts["teacher"] = distillation_loss(predicted_BTD, lengths_B, target_BUD, frame, offset)
            loss = loss + self.config.teacher.weight * parts["teacher"]  # type: ignore[union-attr]
            parts["teacher"] = parts["teacher"].detach() / lengths_B.float().mean()
        if "ctc" in parts:  # nats a token, to be held against the unigram entropy of the tokens
            parts["ctc"] = parts["ctc"] / batch.ctc_lengths.float().mean()
        for name, value in parts.items():
            self.log(f"{split}/{name}", value, batch_size=len(batch), sync_dist=split == "valid")
        return loss

    def _penalty(self, batch: Batch) -> Tensor:
        """The price of missing the target; nothing under the budget rule, which cannot miss it."""
        gates = self.gates_config
        assert gates is not None
        total = batch.speech_BN.new_zeros(())
        budgeted, logged = gates.rule == "budget", (self.global_step + 1) % self.config.log_every == 0
        if budgeted and not logged:
            return total  # nothing to pay either
        for place, (stack, counted_BS) in enumerate(self.model.gates.counted_BS.items()):
            penalty, sparsity = sparsity_penalty(
                counted_BS.detach().float() if budgeted else counted_BS,
                batch.tasks,
                [target_of(gates, stack, task) for task in batch.tasks],
                gates.penalty,
                self.model.gates.costs_of(stack),
                None if self.multipliers is None else self.multipliers[place],
            )
            if not budgeted:
                total = total + penalty
            for task, value in sparsity.items() if logged else ():
                self.log(f"train/sparsity/{stack}/{task}", value, batch_size=len(batch))
        if logged:  # a number that is logged goes to the GPU, and waits for it
            self.log("train/gate_noise", self.model.gates.noise)
            self.log("train/gate_temperature", self.model.gates.temperature)
        # the task loss is summed over an utterance: scale the penalty alike, so that alpha means the same for any data
        tokens = batch.decoder_in_lengths.float().mean()
        return gates.alpha * penalty_scale(self.progress, gates) * tokens * total

    def configure_optimizers(self) -> Any:
        parameters = {name: each for name, each in self.named_parameters() if name != "multipliers"}
        groups = parameter_groups(parameters, self.config, self.gates_config)
        if self.multipliers is not None and self.gates_config is not None:  # they climb where the others descend
            rate = self.gates_config.learning_rate
            groups.append({"params": [self.multipliers], "weight_decay": 0.0, "lr": rate, "maximize": True})
        fused = True if self.device.type == "cuda" else None  # one operation a group for about fifteen
        optimizer = torch.optim.AdamW(groups, lr=self.config.learning_rate, betas=(0.9, 0.98), fused=fused)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda update: learning_rate_scale(update, self.progress, self.config)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
