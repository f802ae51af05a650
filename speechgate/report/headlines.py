"""What a reader should know in ten seconds, from results.json: means, trade-offs, whether the model listens."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from speechgate.report.numbers import percent, points, signed
from speechgate.report.results import gated_names, primary_rows
from speechgate.scoring.metric import lower_is_better

LABELS = {"wer": "WER", "cer": "CER", "bleu": "BLEU", "chrf": "chrF"}
KIND_NAMES = {"asr": "recognition", "st": "translation"}
_HALF = 0.5


@dataclass(frozen=True)
class Quality:
    """The mean over the tasks of one kind, in percent; ``delta`` is in points from dense, over tasks of both."""

    label: str
    mean: float
    delta: float
    tasks: int


@dataclass(frozen=True)
class TradeOff:
    """One model in a line; ``gated`` is its name in ``gated_names``, "dense" without gates.

    Shares are means over its tasks; ``time_saved`` is None where time was not measured.  ``worse`` counts the tasks
    whose quality is lower than the dense model's with p < 0.05, of ``compared``.
    """

    stack: str
    gated: str
    sparsity_target: float
    sparsity_modules: float
    macs_saved: float
    time_saved: float | None
    quality: dict[str, Quality]
    worse: int
    compared: int

    @property
    def points_lost(self) -> float:
        """Mean loss over kinds of task, in points: more WER or less BLEU."""
        return fmean(q.delta if lower_is_better(q.label.lower()) else -q.delta for q in self.quality.values())


@dataclass(frozen=True)
class Headline:
    """A large number with what it is and one sentence; ``good`` is False for a warning."""

    title: str
    value: str
    sentence: str
    good: bool = True


def trade_offs(results: dict[str, Any]) -> list[TradeOff]:
    """One entry a model, in the order of the results."""
    rows = primary_rows(results["rows"])
    dense = {row["task"]: row["value"] for row in rows if row["stack"] == "none"}
    names = gated_names(rows)
    return [
        _trade_off(entry, names.get(entry["checkpoint"], "dense"), _rows_of(entry, rows), dense)
        for entry in results["diagnostics"]
    ]


def headlines(results: dict[str, Any]) -> list[Headline]:
    """Dense quality, the best trade-off near 50%, and the deaf baselines."""
    rows = primary_rows(results["rows"])
    found = [_dense(kind, [r for r in rows if r["stack"] == "none" and kind_of(r) == kind]) for kind in KIND_NAMES]
    gated = [trade_off for trade_off in trade_offs(results) if trade_off.stack != "none"]
    return [headline for headline in (*found, _best(gated), _listens(results, rows)) if headline]


def kind_of(row: dict[str, Any]) -> str:
    """ "asr" or "st"."""
    return str(row["task"]).partition(":")[0]


def metric_label(rows: Sequence[dict[str, Any]]) -> str:
    """ "WER", or "WER / CER" where the languages differ."""
    return " / ".join(dict.fromkeys(LABELS[row["metric"]] for row in rows))


def _rows_of(model: dict[str, Any], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if all(row[key] == model[key] for key in ("stack", "sparsity_target", "checkpoint"))]


def _trade_off(model: dict[str, Any], gated: str, rows: Sequence[dict[str, Any]], dense: dict[str, float]) -> TradeOff:
    quality = {}
    for kind in KIND_NAMES:
        if of_kind := [row for row in rows if kind_of(row) == kind]:
            shared = [row["value"] - dense[row["task"]] for row in of_kind if row["task"] in dense]
            delta = fmean(shared) if shared else 0.0
            quality[kind] = Quality(metric_label(of_kind), fmean(row["value"] for row in of_kind), delta, len(of_kind))
    primary = {(row["task"], row["metric"]) for row in rows}
    tests = [test for test in model["versus_dense"] if (test["task"], test["metric"]) in primary]
    worse = [t for t in tests if t["p_value"] < 0.05 and (t["delta"] > 0) == lower_is_better(t["metric"])]
    times = [row["time_vs_dense"] for row in rows if row["time_vs_dense"] is not None]
    return TradeOff(
        stack=model["stack"],
        gated=gated,
        sparsity_target=model["sparsity_target"],
        sparsity_modules=fmean(row["sparsity_modules"] for row in rows),
        macs_saved=fmean(row["sparsity_macs"] for row in rows),
        time_saved=1 - fmean(times) if times else None,
        quality=quality,
        worse=len(worse),
        compared=len(tests),
    )


def _dense(kind: str, rows: Sequence[dict[str, Any]]) -> Headline | None:
    if not rows:
        return None
    ordered = sorted(rows, key=lambda row: row["value"])
    spread = " to ".join(f"{points(row['value'])} ({row['src']})" for row in (ordered[0], ordered[-1]))
    sentence = (
        f"Mean of {len(rows)} languages, from {spread}." if len(rows) > 1 else f"In one language, {rows[0]['src']}."
    )
    return Headline(
        f"Dense {KIND_NAMES[kind]}, {metric_label(rows)}", points(fmean(r["value"] for r in rows)), sentence
    )


def _best(gated: Sequence[TradeOff]) -> Headline | None:
    if not gated:
        return None
    nearest = min(abs(trade_off.sparsity_target - _HALF) for trade_off in gated)
    candidates = [t for t in gated if abs(abs(t.sparsity_target - _HALF) - nearest) < 1e-9]
    best = min(candidates, key=lambda trade_off: trade_off.points_lost)
    changes = ", ".join(f"{quality.label} {signed(quality.delta)}" for quality in best.quality.values())
    target = percent(best.sparsity_target, 0)
    choice = "loses least" if len(candidates) > 1 else "gives"
    cost = f"significantly worse in {best.worse} of {best.compared} tasks" if best.compared else "no paired test"
    compute = f"{signed(-100 * best.macs_saved, 0)}%"
    sentence = f"Closing {target} of the {_spelt_out(best.gated)} {choice}: {changes}; {cost}. Compute {compute}."
    if best.time_saved is None:
        return Headline(f"Compute at {target} sparsity", compute, sentence)
    return Headline(f"Time at {target} sparsity", f"{signed(-100 * best.time_saved, 0)}%", sentence)


def _listens(results: dict[str, Any], rows: Sequence[dict[str, Any]]) -> Headline | None:
    dense = {(row["task"], row["metric"]): row for row in rows if row["stack"] == "none"}
    deaf = [
        (dense[key], entry)
        for model in results["diagnostics"]
        for entry in model["deaf"]
        if (key := (entry["task"], entry["metric"])) in dense
    ]
    if not deaf:
        return None
    guessing = sorted({row["task"] for row, entry in deaf if not _much_worse(row, entry)})
    audio = "shuffled" if any(entry["audio"] == "shuffled" for _, entry in deaf) else deaf[0][1]["audio"]
    means = []
    for kind in KIND_NAMES:
        if pairs := [(row, entry) for row, entry in deaf if kind_of(row) == kind and entry["audio"] == audio]:
            real, without = (fmean(score["value"] for score in scores) for scores in zip(*pairs, strict=True))
            means.append(f"{metric_label([row for row, _ in pairs])} {points(real)} becomes {points(without)}")
    sentence = f"With {audio} audio {' and '.join(means)}."
    if guessing:
        sentence += f" No clear difference: {', '.join(guessing)}."
        return Headline("Does it listen?", "Not everywhere", sentence, good=False)
    return Headline("Does it listen?", "Yes", f"{sentence} Worse in every task, intervals apart.")


def _much_worse(real: dict[str, Any], deaf: dict[str, Any]) -> bool:
    """Whether the deaf score lies beyond the real one, intervals apart."""
    if lower_is_better(real["metric"]):
        return bool(deaf["ci95"][0] > real["ci95"][1])
    return bool(deaf["ci95"][1] < real["ci95"][0])


def _spelt_out(gated: str) -> str:
    return gated.replace("both", "encoder and decoder")
