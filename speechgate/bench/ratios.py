"""The headlines of a benchmark, from its cases."""

from collections.abc import Mapping, Sequence
from typing import Any

HALVES = {"decoder50": ("decoder",), "encoder50": ("encoder",), "both50": ("encoder", "decoder")}


def ratios(records: Sequence[Mapping[str, Any]], batch_size: int, ctc_weight: float) -> dict[str, float]:
    """The headline ratios; those with "_ctc" are with CTC.  ESPnet's batch is its own of the same size."""
    by_name = {record["name"]: record for record in records}
    values: dict[str, float] = {}
    for weight in sorted({0.0, ctc_weight}):
        mark = "_ctc" if weight else ""
        for batch in sorted({1, batch_size}):
            tail = f"b{batch} ctc{weight:g}"
            ours = by_name[f"dense {tail}"]
            theirs = by_name.get(f"espnet dense {tail}")
            if theirs is not None:
                decoding = ours["decoder_ms"] + ours["ctc_head_ms"]
                values[f"espnet_over_speechgate_b{batch}{mark}"] = theirs["decoder_ms"] / decoding
                values[f"espnet_over_speechgate_encoder_b{batch}{mark}"] = theirs["encoder_ms"] / ours["encoder_ms"]
            uncompiled = by_name.get(f"uncompiled dense {tail}")
            if uncompiled is not None:
                values[f"uncompiled_over_compiled_b{batch}{mark}"] = uncompiled["decoder_ms"] / ours["decoder_ms"]
            for name in HALVES:
                half = by_name[f"{name} {tail}"]
                values[f"time_vs_dense_{name}_b{batch}{mark}"] = half["total_ms"] / ours["total_ms"]
            decoder = by_name[f"decoder50 {tail}"]["decoder_ms"]
            values[f"decoder_time_vs_dense_decoder50_b{batch}{mark}"] = decoder / ours["decoder_ms"]
            encoder = by_name[f"encoder50 {tail}"]["encoder_ms"]
            values[f"encoder_time_vs_dense_encoder50_b{batch}{mark}"] = encoder / ours["encoder_ms"]
    values["time_vs_dense_decoder50"] = values["time_vs_dense_decoder50_b1"]
    values["time_vs_dense_both50"] = values["time_vs_dense_both50_b1"]
    return values
