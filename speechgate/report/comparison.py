"""Two models beside each other, for the terminal."""

from rich.table import Table

from speechgate.scoring.compare import compare_decoded, compare_pooled
from speechgate.scoring.decoded import Decoded
from speechgate.scoring.score import runs_on


def comparison_table(baseline: Decoded, system: Decoded) -> Table:
    """Every task and metric, then each kind's utterances pooled; the caption counts hypotheses that run on.

    Raises:
        ManifestError: the two decoded different cuts for a task.
    """
    run_on = [sum(map(runs_on, side.utterances)) for side in (baseline, system)]
    table = Table(
        title=f"{baseline.checkpoint} (A) and {system.checkpoint} (B), {baseline.corpus} {baseline.split}",
        caption=f"paired bootstrap over utterances; hypotheses that run on: {run_on[0]} of A, {run_on[1]} of B",
    )
    for name in ("task", "metric", "A", "B", "B - A", "95%", "p"):
        table.add_column(name, justify="left" if name in ("task", "metric") else "right")
    for rows in (compare_decoded(baseline, system), compare_pooled(baseline, system)):
        for row in rows:
            low, high = row["ci95"]
            table.add_row(
                row["task"],
                row["metric"],
                *(f"{row[key]:.1f}" for key in ("baseline", "system")),
                f"{row['delta']:+.1f}",
                f"{low:+.1f} to {high:+.1f}",
                f"{row['p_value']:.3f}",
            )
        table.add_section()
    return table
