"""The configuration of a training run."""

from dataclasses import dataclass, field

from speechgate.config.reading import choices
from speechgate.errors import ConfigError


@dataclass(frozen=True)
class TeacherConfig:
    """A pre-trained Whisper encoder whose output the encoder learns to predict (``model``: folder or hub name)."""

    model: str
    weight: float = 1.0


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters beside the linear layers that the patterns ``targets`` name, such as "*.linear_q".

    All else is frozen but the gates and the parameters that ``full`` names.  The adapters' output is scaled by
    ``alpha / rank``.
    """

    targets: tuple[str, ...]
    rank: int = 8
    alpha: int = 16
    dropout: float = 0.0
    full: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.targets or self.rank < 1:
            raise ConfigError("train.lora needs targets (patterns of linear layers) and a rank of at least 1")


@dataclass(frozen=True)
class NoiseConfig:
    """Noise added to a ``share`` of the examples, at a ratio of speech to noise drawn from ``snr_db`` (low, high).

    ``sounds`` is a folder of recordings, or a manifest of lhotse's with cuts or recordings.
    """

    sounds: str
    share: float = 0.5
    snr_db: tuple[float, ...] = (5.0, 20.0)

    def __post_init__(self) -> None:
        _require_share("train.noise.share", self.share)
        if len(self.snr_db) != 2 or self.snr_db[0] > self.snr_db[1]:
            raise ConfigError(f"train.noise.snr_db is {list(self.snr_db)}: give [lowest, highest], in dB")


@dataclass(frozen=True)
class ReverbConfig:
    """Reverberation of a ``share`` of the examples.

    ``responses`` is a folder or manifest of impulse responses; where it is empty, they are of ``rooms`` rooms drawn by
    lhotse's fast generator (Luo and Yu, arXiv 2208.04101), which takes 15 times as long as the reverberation itself;
    each worker draws a room when it first needs it.  With 0 each example has a room of its own.
    """

    share: float = 0.5
    responses: str = ""
    rooms: int = 1000

    def __post_init__(self) -> None:
        _require_share("train.reverb.share", self.share)
        if self.rooms < 0:
            raise ConfigError(f"train.reverb.rooms is {self.rooms}: give how many, or 0 for one an example")


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    ``max_duration`` is seconds of audio a batch, ``max_seconds`` the longest recording used.  ``max_minutes`` (0: no
    limit) ends the run by the clock, its schedules hurried along.  ``repeat`` says how many times a corpus of the mix
    counts, by its name: {prompts: 4}; one that counts 0 times is left out.  ``cache`` recordings are kept decoded in
    memory by each worker.  ``gated_only`` trains the gates and the stacks that they gate, and freezes the rest.
    ``join`` is the share of examples that others of their task follow, up to at most ``max_seconds`` (data/join.py).
    ``recombine`` is the share of ASR examples replaced by words of other recordings (data/recombine.py); it needs
    a checkpoint to continue from, whose CTC finds the words.  ``noise`` and ``reverb`` are added to examples as they
    are loaded (data/augment.py); ``speed_perturb`` are the speeds that a batch is played at, drawn on the device.
    ``freeze`` names parameters that keep their values by patterns such as "encoder.*"; ``lora`` trains adapters
    instead of weights; ``layer_decay`` multiplies the learning rate once for each layer below a stack's last one.
    ``accumulate`` batches make an update.  ``checkpoint_every`` and ``log_every`` count updates.  ``wandb`` names a
    project of Weights & Biases to log to as well.  ``exact_resume``
    off begins a new data order at each resumption (docs/training.md).  ``on_oom``: "stop", or "halve" the seconds of
    a batch and go on.  ``activation_checkpointing`` computes each layer's activations a second time in the backward
    pass and keeps none (training/recompute.py).  ``sharding``: of several processes each keeps the whole model
    ("ddp"), or its share of weights, gradients and optimizer states ("fsdp", training/sharding.py).
    ``distill`` is the share of the decoder's loss that the predictions of the dense model ``init`` take from the
    reference (training/distillation.py).  The model that is kept has the
    mean weights of ``average`` validations: the "best" or the "last" (``average_of``); or with "ema" the moving
    average over updates, of decay ``ema_decay``.
    """

    updates: int = 1000
    max_minutes: float = 0.0
    max_duration: float = 60.0
    min_seconds: float = 0.3
    max_seconds: float = 30.0
    buckets: int = 10
    workers: int = 0
    cache: int = 0
    gated_only: bool = False
    freeze: tuple[str, ...] = ()
    lora: LoraConfig | None = None
    layer_decay: float = 1.0
    task_temperature: float = 2.0
    repeat: dict[str, int] = field(default_factory=dict)
    ctc_weight: float = 0.3
    learning_rate: float = 1e-3
    warmup: int = 200
    final_scale: float = 0.02
    weight_decay: float = 1e-2
    clip: float = 1.0
    precision: str = "auto"
    speed_perturb: tuple[float, ...] = ()
    join: float = 0.0
    recombine: float = 0.0
    noise: NoiseConfig | None = None
    reverb: ReverbConfig | None = None
    teacher: TeacherConfig | None = None
    distill: float = 0.0
    validate_every: int = 200
    patience: int = 0
    average: int = 1
    average_of: str = "best"
    ema_decay: float = 0.999
    accumulate: int = 1
    checkpoint_every: int = 200
    log_every: int = 20
    wandb: str = ""
    exact_resume: bool = True
    on_oom: str = "stop"
    activation_checkpointing: bool = False
    sharding: str = "ddp"
    seed: int = 0

    def __post_init__(self) -> None:
        choices("train.average_of", self.average_of, ("best", "last", "ema"))
        choices("train.on_oom", self.on_oom, ("stop", "halve"))
        choices("train.sharding", self.sharding, ("ddp", "fsdp"))
        for name in ("updates", "accumulate", "checkpoint_every", "validate_every", "log_every", "average"):
            if getattr(self, name) < 1:
                raise ConfigError(f"train.{name} is {getattr(self, name)}: give at least 1")
        for name in ("max_duration", "task_temperature"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"train.{name} is {getattr(self, name)}: give a number above 0")
        if not all(isinstance(speed, int | float) and speed > 0 for speed in self.speed_perturb):
            raise ConfigError(f"train.speed_perturb is {list(self.speed_perturb)}: give speeds such as [0.9, 1.0, 1.1]")
        for name, share in (("join", self.join), ("recombine", self.recombine)):
            if not 0.0 <= share <= 1.0:
                raise ConfigError(f"train.{name} is {share}: the share of the examples, 0 to 1")
        for corpus, times in self.repeat.items():
            if not isinstance(times, int) or isinstance(times, bool) or times < 0:
                raise ConfigError(f"train.repeat.{corpus} is {times}: give a whole number of times, 0 for none")
        if not 0.0 < self.layer_decay <= 1.0 or not 0.0 < self.ema_decay < 1.0:
            raise ConfigError(
                "train.layer_decay and train.ema_decay are factors: 0 < layer_decay <= 1, 0 < ema_decay < 1"
            )
        if not 0.0 <= self.distill <= 1.0 or (self.distill and self.ctc_weight == 1.0):
            raise ConfigError("train.distill is a share of the decoder's loss: 0 to 1, and 0 with train.ctc_weight: 1")
        if self.average_of == "ema" and self.average > 1:
            raise ConfigError(
                "train.average counts validations, and train.average_of: ema averages updates: leave it out"
            )
        if self.lora is not None and (self.freeze or self.gated_only):
            raise ConfigError(
                "train.lora freezes all but what train.lora.full names: no train.freeze, no train.gated_only"
            )


def _require_share(key: str, share: float) -> None:
    if not 0.0 < share <= 1.0:
        raise ConfigError(
            f"{key} is {share}: the share of the examples, 0 < share <= 1; leave the section out for none"
        )
