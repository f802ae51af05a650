"""The hypotheses of a recipe's checkpoints: how they are decoded, and where they lie."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from speechgate.config import CONF_DIR, from_mapping, load_yaml
from speechgate.data.tasks import parse_tasks
from speechgate.decoding.search import SearchOptions
from speechgate.errors import ConfigError
from speechgate.recipe import Recipe
from speechgate.runinfo import pick_device
from speechgate.shard import WHOLE, Shard
from speechgate.text.vocabulary import learnt_vocabulary

if TYPE_CHECKING:
    from speechgate.decoding.execution import Execution


def decode(
    recipe: Recipe,
    folder: Path,
    split: str = "test",
    kinds: Sequence[str] = (),
    languages: Sequence[str] = (),
    options: SearchOptions | None = None,
    dense: Path | None = None,
    deaf: bool = False,
    budget: float | None = None,
    shard: Shard = WHOLE,
    vocabulary: bool = False,
    execution: "Execution | None" = None,
) -> Path:
    """Decode a split with the checkpoint in ``folder``; timed against ``dense`` if given.

    ``budget`` turns the dial of gates that have one, to results of their own: decode_test_0.30.
    What was decoded already, by the same weights from the same manifest with the same options, is kept.
    Of several processes each decodes its ``shard``; the folder is complete when it has decode.json.
    ``vocabulary`` writes each language with its own tokens alone; ``execution`` is how the engine computes.

    Raises:
        CheckpointError: these were not learnt.
    """
    from speechgate.decoding.execution import DEFAULT  # here, because ESPnet takes seconds to load
    from speechgate.decoding.split import Decoding, decode_split

    if len(recipe.manifests(split)) > 1:
        raise ConfigError(f"{split} of a mix is several held-out sets: give {' or '.join(recipe.held_out(split))}")
    [manifest] = recipe.manifests(split).values()
    decoding = Decoding(
        folder=_place_of(recipe, folder, kinds, languages) / decoded_name(split, budget),
        checkpoint=folder,
        corpus=recipe.name,
        split=split,
        manifest=manifest,
        tasks=parse_tasks(kinds, languages, recipe.available_tasks()),
        options=options or decode_options(usual_search(folder)),
        dense=dense,
        deaf=deaf,
        budget=budget,
        vocabulary=learnt_vocabulary(recipe.vocabulary_of(folder)) if vocabulary else None,
        execution=execution or DEFAULT,
    )
    if decoding.is_done():
        return decoding.folder
    if left := decode_split(decoding, list(recipe.cuts(split)), pick_device(), shard):
        print(
            f"{decoding.folder}: shard {shard} is decoded; {len(left)} examples of others are not, "
            f"the first {left[0].custom['cut_id']} for {left[0].custom['task']}"
        )
    return decoding.folder


def _place_of(recipe: Recipe, folder: Path, kinds: Sequence[str], languages: Sequence[str]) -> Path:
    """Where the results of a checkpoint lie: beside it, unless it serves more tasks or comes with the recipe."""
    home = recipe.home_of(kinds, languages)
    if folder == recipe.pretrained:
        return home / "dense"
    return folder if home in (recipe.home, folder.parent) else home / folder.name


def decoded_name(split: str, budget: float | None) -> str:
    """The folder of a decoding: decode_test, or decode_test_0.30 at a setting of a budget dial."""
    return f"decode_{split}" if budget is None else f"decode_{split}_{budget:.2f}"


def decodings(home: Path, split: str) -> list[Path]:
    """The folders below ``home`` with decodings of a split, at any setting of a budget dial."""
    return sorted([*home.glob(f"*/decode_{split}/"), *home.glob(f"*/decode_{split}_[0-9].[0-9]*/")])


def usual_search(folder: Path) -> str:
    """The file of conf/decode for a checkpoint: Whisper has no CTC, and ends hypotheses by transformers' rule."""
    return "whisper" if "whisper" in load_yaml(folder / "config.yaml")["model"] else "beam"


def decode_options(conf: str) -> SearchOptions:
    """The search options of a file of conf/decode, or of a YAML path."""
    path = Path(conf) if conf.endswith(".yaml") else CONF_DIR / "decode" / f"{conf}.yaml"
    return from_mapping(SearchOptions, load_yaml(path), str(path))
