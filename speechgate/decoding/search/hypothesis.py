"""What a search is asked for and what it finds."""

from dataclasses import dataclass

from speechgate.errors import ConfigError

FINISHES = ("espnet", "transformers")


@dataclass(frozen=True)
class SearchOptions:
    """How to search; the defaults are ESPnet's, with end detection.

    By the rule "transformers" (that library's ``generate``) twice ``beam_size`` candidates are looked at in a step,
    those of the first half that end are kept, and the best ``beam_size`` of the others go on; a score is the
    log-probability divided by the number of tokens, <eos> included, to the power of ``length_penalty``.

    Attributes:
        beam_size: hypotheses kept for an utterance; 1 is greedy search.
        ctc_weight: share of the CTC prefix score, the decoder's being 1 - ctc_weight.
        length_bonus: added to the score for every token, the final <eos> included.
        max_length_ratio: most decoder steps as a share of the encoder's frames; 0 is all frames, -n is n steps.  There
            are never more than the decoder has positions for.
        min_length_ratio: hypotheses that end before this share of the frames are dropped; -n is n steps.
            Where that leaves none, the search is repeated with the ratio lowered by 0.1, as ESPnet does.
        nbest: hypotheses returned for an utterance, best first.
        end_detect: stop once the hypotheses that end are hopelessly behind the best one.  ESPnet does so only
            with max_length_ratio 0.  By the rule "transformers": stop once ``beam_size`` hypotheses have ended and the
            best of those that go on, at its present length, scores no better than the worst of them.
        fixed_steps: decode exactly this many tokens and never <eos>: equal work for benchmarks.
        pre_beam_ratio: CTC scores only the beam_size * pre_beam_ratio best tokens of the decoder, and <eos>.
        finish: by whose rule hypotheses end and are ranked, "espnet" or "transformers".
        length_penalty: see above; of the rule "transformers" alone.
    """

    beam_size: int = 5
    ctc_weight: float = 0.3
    length_bonus: float = 0.0
    max_length_ratio: float = 0.0
    min_length_ratio: float = 0.0
    nbest: int = 1
    end_detect: bool = True
    fixed_steps: int | None = None
    pre_beam_ratio: float = 1.5
    finish: str = "espnet"
    length_penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.beam_size < 1:
            raise ConfigError(f"beam_size is {self.beam_size}: give at least 1")
        if not 0.0 <= self.ctc_weight < 1.0:
            raise ConfigError(
                f"ctc_weight is {self.ctc_weight}: give 0 <= weight < 1; decoding by CTC alone is greedy_ctc"
            )
        if self.nbest < 1:
            raise ConfigError(f"nbest is {self.nbest}: give at least 1")
        if self.pre_beam_ratio < 1.0:
            raise ConfigError(f"pre_beam_ratio is {self.pre_beam_ratio}: below 1 it leaves too few tokens for the beam")
        if self.fixed_steps is not None:
            if self.fixed_steps < 1:
                raise ConfigError(f"fixed_steps is {self.fixed_steps}: give at least 1")
            if self.max_length_ratio or self.min_length_ratio:
                raise ConfigError(
                    "fixed_steps excludes max_length_ratio and min_length_ratio: it sets the length itself"
                )
        self._check_finish()

    def _check_finish(self) -> None:
        if self.finish not in FINISHES:
            raise ConfigError(f"finish is {self.finish!r}: give one of {', '.join(FINISHES)}")
        if self.finish == "espnet":
            if self.length_penalty != 1.0:
                raise ConfigError("length_penalty needs finish transformers: ESPnet's rule has length_bonus")
            return
        for name in ("ctc_weight", "length_bonus", "min_length_ratio"):
            if getattr(self, name):
                raise ConfigError(f"finish transformers excludes {name}: that rule has none, set it to 0")

    @property
    def candidates(self) -> int:
        """The best successors of an utterance's hypotheses that a step looks at."""
        return self.beam_size if self.finish == "espnet" else 2 * self.beam_size

    @property
    def pre_beam_size(self) -> int:
        return int(self.beam_size * self.pre_beam_ratio)

    def step_limits(self, frames: int, room: int | None = None) -> tuple[int, int]:
        """The first step at which a hypothesis may end, counted from 0, and the most steps, for so many frames.

        ``room`` is what the decoder has positions for.
        """
        if self.fixed_steps is not None:
            return 0, self.fixed_steps
        longest = frames if self.max_length_ratio == 0 else max(1, _bound(self.max_length_ratio, frames))
        return _bound(self.min_length_ratio, frames), longest if room is None else min(longest, room)


def _bound(ratio: float, frames: int) -> int:
    return int(-ratio) if ratio < 0 else int(ratio * frames)


@dataclass(frozen=True)
class SearchTokens:
    """The ids that have a meaning in the search.

    ``forbidden`` ids are never chosen, those of ``forbidden_first`` not as the first after the prompt; ESPnet forbids
    none.  The other tokens' probabilities stay what they were.
    """

    sos: int
    eos: int
    blank: int = 0
    forbidden: tuple[int, ...] = ()
    forbidden_first: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.eos == self.blank:
            raise ConfigError(f"eos and blank are both {self.eos}: CTC needs a blank of its own")


@dataclass(frozen=True)
class Hypothesis:
    """One hypothesis: ``tokens`` without the prompt, <sos> and <eos>.

    ``score`` is (1 - ctc_weight) * decoder_score + ctc_weight * ctc_score + length_bonus * tokens scored, or by the
    rule "transformers" decoder_score / tokens scored ** length_penalty; the two are natural log-probabilities,
    ``ctc_score`` 0 where CTC took no part.  ``steps`` counts the decoder steps that its utterance took, whatever the
    length of this hypothesis.
    """

    tokens: tuple[int, ...]
    score: float
    decoder_score: float
    ctc_score: float
    steps: int
