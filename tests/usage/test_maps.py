"""Heat maps: every site has its place, scales are shared, and pictures are written whole."""

from pathlib import Path

import numpy as np
import pytest

from speechgate.gates.sites import GateSite
from speechgate.usage.maps import draw_differences, draw_distances, draw_usage, from_mean, layer_grid
from speechgate.usage.statistics import distances
from speechgate.usage.theme import THEMES, Theme, save_png

DECODER = [GateSite("decoder", layer, kind) for layer in range(2) for kind in ("self_attn", "src_attn", "ffn")]
BOTH = [GateSite("encoder", layer, kind) for layer in range(8) for kind in ("ffn1", "attn", "cgmlp", "ffn2")] + DECODER


def test_grid_has_kinds_as_rows_and_layers_as_columns() -> None:
    grid_KL = layer_grid(np.arange(6.0), DECODER, "decoder")
    assert grid_KL.tolist() == [[0, 3], [1, 4], [2, 5]]


def test_a_module_in_groups_is_one_cell() -> None:
    sites = [GateSite("decoder", 0, "self_attn"), *(GateSite("decoder", 0, "ffn", f"c{i}") for i in range(4))]
    assert layer_grid(np.array([1.0, 1.0, 0.5, 0.0, 0.0]), sites, "decoder").tolist() == [[1.0], [0.375]]


def test_difference_from_the_mean() -> None:
    differences = from_mean({"deu": np.array([1.0, 0.5]), "fra": np.array([0.0, 0.5])})
    assert differences["deu"].tolist() == [0.5, 0]
    assert differences["fra"].tolist() == [-0.5, 0]


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_all_panels_share_one_scale(theme: Theme) -> None:
    rng = np.random.default_rng(0)
    usage = {context: rng.random(len(BOTH)) for context in ("ASR", "ST", "other")}
    figure = draw_usage(usage, BOTH, theme)
    meshes = [mesh for ax in figure.axes for mesh in ax.collections if hasattr(mesh, "get_coordinates")]
    panels = [mesh for mesh in meshes if mesh.get_array().size in (32, 6)]
    assert len(panels) == 6  # three contexts, two stacks
    assert {(mesh.norm.vmin, mesh.norm.vmax) for mesh in panels} == {(0, 100)}
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert "ST, encoder" in titles
    assert "other, decoder" in titles


def test_differences_are_centred_and_signed(tmp_path: Path) -> None:
    figure = draw_differences({"ST − ASR": np.array([0.3, -0.1, 0, 0, 0, 0.0])}, DECODER, THEMES[0])
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert sorted(texts) == sorted(["+30", "−10", "0", "0", "0", "0"])
    mesh = figure.axes[0].collections[0]
    assert (mesh.norm.vmin, mesh.norm.vmax) == (pytest.approx(-30), pytest.approx(30))
    save_png(figure, tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["map.png"]


def test_distances_leave_out_what_cannot_be_measured() -> None:
    found = distances({"asr:deu": np.array([[True, False]]), "asr:fra": np.array([[True, True]] * 2)})
    texts = [text.get_text() for text in draw_distances(found, THEMES[0]).axes[0].texts]
    assert texts == ["50.0", "50.0", "0.0"]  # a single German utterance has no partner
