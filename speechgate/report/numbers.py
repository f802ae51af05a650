"""How numbers are written on the page and in the terminal, in one place so that they agree."""

_MINUS = "\u2212"


def points(value: float) -> str:
    """A score: one decimal."""
    return f"{value:.1f}".replace("-", _MINUS)


def signed(value: float, digits: int = 1) -> str:
    """A difference, with its sign; what rounds to zero has none."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", _MINUS)


def percent(share: float | None, digits: int = 1) -> str:
    """A share as percent, a dash where it was not measured."""
    return "–" if share is None else f"{100 * share:.{digits}f}%".replace("-", _MINUS)


def interval(ci95: list[float]) -> str:
    return f"{points(ci95[0])} – {points(ci95[1])}"


def p_value(p: float | None) -> str:
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
