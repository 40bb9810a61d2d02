"""What bench measures: contexts, bytes of a step, bandwidth, the page, and coming back to a context."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from runtime.bundle.bundle import Bundle
from runtime.cli import cmd_bench
from runtime.cli import main as cli
from runtime.engine.onnx import OnnxEngine
from runtime.engine.piece import Piece
from runtime.errors import ContextFull
from runtime.machine.bandwidth import beyond_caches, read_bandwidth
from runtime.machine.resident_memory import peak_rss
from runtime.measure.bench import Figures, Settings, bytes_per_token
from runtime.measure.bench_page import page, table

SHORT = ["--prompt-tokens", "8", "--new-tokens", "3", "--repeat", "2", "--threads", "1"]


@pytest.fixture(scope="module")
def measured(bundle, tmp_path_factory) -> tuple[list[str], Figures, str]:
    """The lines of a run at three contexts, its figures, its page."""
    folder, html, out = str(bundle("e2b")), tmp_path_factory.mktemp("bench") / "x.html", io.StringIO()
    with contextlib.redirect_stdout(out):
        assert cli.main(["bench", folder, *SHORT, "--context", "100,0,30", "--html", str(html)]) == 0
    *lines, figures = out.getvalue().splitlines()
    return lines, msgspec.json.decode(figures, type=Figures), html.read_text()


def test_every_context_is_measured_from_the_shortest(measured):
    lines, figures, _ = measured
    assert [one.context for one in figures.contexts] == [0, 30, 100]
    first = figures.contexts[0]
    assert (figures.decode_tok_s, figures.settings.context) == (first.decode_tok_s, 0)
    peaks = [one.peak_rss_bytes for one in figures.contexts]
    assert peaks == sorted(peaks)
    assert figures.peak_rss_bytes >= peaks[-1] > 1 << 20
    assert [line.split()[0] for line in lines[-3:]] == ["0", "30", "100"]


def test_a_step_reads_all_weights_and_the_rows_that_are_in_use(bundle):
    found = Bundle.open(bundle("e2b"))
    weights = found.manifest.files["onnx/decoder.data"].size
    # 7 layers over one float32 key head: four sliding of 16 within a window of 8, three full of 32
    assert bytes_per_token(found.manifest, 5) == weights + 2 * 4 * (4 * 16 * 5 + 3 * 32 * 5)
    assert bytes_per_token(found.manifest, 100) == weights + 2 * 4 * (4 * 16 * 8 + 3 * 32 * 100)


def test_reads_are_the_rate_times_the_bytes(measured):
    _, figures, _ = measured
    for one in figures.contexts:
        assert one.read_gb_s == pytest.approx(one.decode_tok_s * one.bytes_per_token / 1e9, rel=0.01, abs=1e-3)
    assert figures.bandwidth_gb_s > 0.1


def test_the_bandwidth_is_that_of_memory():
    assert 1e8 < read_bandwidth(2, 8 << 20) < 1e13


@pytest.mark.parametrize(("largest", "size"), [("266240K", 4 * 260 << 20), ("512K", 256 << 20)])
def test_the_bandwidth_is_read_beyond_all_caches(largest, size, tmp_path):
    for number, told in enumerate(["48K", largest]):
        (tmp_path / f"index{number}").mkdir()
        (tmp_path / f"index{number}" / "size").write_text(f"{told}\n")
    assert beyond_caches(8 << 30, tmp_path) == size
    assert beyond_caches(100 << 20, tmp_path) == 50 << 20


def test_where_no_cache_is_told_the_bandwidth_is_read_over_256_mb(tmp_path):
    assert beyond_caches(8 << 30, tmp_path / "none") == 256 << 20


def test_the_page_shows_all_figures_and_needs_nothing_else(measured):
    _, figures, made = measured
    assert made.count("<svg ") == 4
    assert all(f">{cell}<" in made for cells in table(figures) for cell in cells)
    assert not any(word in made for word in ("http", "src=", "@import", "url(", "<script", "<link"))
    assert "<b>" not in page("<b>.bundle", figures)


def test_what_memory_does_not_hold_is_refused(bundle):
    settings = Settings(threads=1, prompt_tokens=8, new_tokens=2, context=0, repeat=1)
    with pytest.raises(ContextFull, match="0 MB are available"):
        cmd_bench.check_context(settings, 0, Bundle.open(bundle("e2b")), "onnx", room=1000)


def test_the_last_line_is_one_object_with_a_page_too(bundle, tmp_path, capsys):
    assert cli.main(["bench", str(bundle("e2b")), *SHORT, "--json", "--html", str(tmp_path / "x.html")]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert len(json.loads(out)["contexts"]) == 1


@pytest.mark.parametrize("tokens", [5, 150])
def test_a_decoder_comes_back_to_where_it_was_saved(bundle, tokens):
    decoder = OnnxEngine.open(Bundle.open(bundle("e2b")), 1)
    decoder.prefill(np.arange(tokens) % 300)
    saved = decoder.save()
    first = [decoder.forward(Piece(np.array([token]))).logits.copy() for token in range(80)]
    decoder.restore(saved)
    assert decoder.position == tokens
    again = [decoder.forward(Piece(np.array([token]))).logits.copy() for token in range(80)]
    assert np.array_equal(first, again)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux says it there")
def test_the_peak_is_this_process_s_own():
    assert 20 << 20 < peak_rss() < 64 << 30
