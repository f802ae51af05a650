"""What a benchmark found, for the terminal."""

from typing import Any

from rich.table import Table


def ratios_table(result: dict[str, Any]) -> Table:
    """Every case's milliseconds and skip efficiency; the caption has the headline ratios and who else was there."""
    machine, ratios = result["machine"], result["ratios"]
    others = machine["others"]["median_cores_of_others"]
    shown = {name: value for name, value in ratios.items() if name.startswith(("espnet_over", "time_vs_dense_both50_"))}
    table = Table(
        title=f"{result['model']['name']}: milliseconds a batch, {machine['device']}, {machine['precision']}",
        caption="\n".join(
            [
                *(f"{name}  {value:.2f}" for name, value in shown.items()),
                f"cores that other processes kept busy, of {machine['cores']}: {others:.1f}",
            ]
        ),
    )
    for name in ("case", "encoder", "CTC head", "search", "same", "skip eff.", "dropped"):
        table.add_column(name, justify="left" if name == "case" else "right")
    for case in result["cases"]:
        same, efficiency = case["same_hypotheses"], case["skip_efficiency"]
        table.add_row(
            case["name"],
            *(f"{case[part]:.0f}" for part in ("encoder_ms", "ctc_head_ms", "decoder_ms")),
            "" if same is None else "yes" if same else "NO",
            "" if efficiency is None else f"{efficiency:.2f}",
            "disturbed" if case["disturbed"] else str(case["dropped"]),
        )
    return table
