"""The report's page in a real browser: nothing fails, nothing is fetched, the tables hold results.json's numbers."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from speechgate.report.page import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DESKTOP, PHONE = (1200, 900), (390, 844)
PREPARATION = {"eng": {"recordings": 568, "without text": 17}, "spa": {"recordings": 527, "too short": 8}}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on PATH")


class Browser:
    """Headless Chromium driven over its DevTools pipe: it reads commands on descriptor 3 and answers on 4."""

    def __init__(self, executable: str, profile: Path) -> None:
        to_browser, self._write_end = os.pipe()
        self._read_end, from_browser = os.pipe()
        # Above 4, so that neither is overwritten while they are put in place.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_browser, from_browser)]

        def put_in_place() -> None:
            os.dup2(ends[0], 3)
            os.dup2(ends[1], 4)

        quiet = ("no-first-run", "disable-background-networking", "disable-component-update", "disable-sync")
        flags = (
            "headless",
            "no-sandbox",
            "disable-gpu",
            "disable-quic",
            "remote-debugging-pipe",
            *quiet,
            f"user-data-dir={profile}",
        )
        self._process = subprocess.Popen(
            [executable, *(f"--{flag}" for flag in flags)],
            pass_fds=(3, 4),
            preexec_fn=put_in_place,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (to_browser, from_browser, *ends):
            os.close(end)
        self._buffer = b""
        self._last = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._write_end, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._last:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, page: Path, size: tuple[int, int], dark: bool = False) -> None:
        width, height = size
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        window = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **window)
        self.events.clear()
        self.call("Page.navigate", url=page.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def evaluate(self, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """Save the whole page, not only what the window shows."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self) -> list[dict[str, Any]]:
        """Exceptions, console errors and logged errors since the page was opened."""
        return [
            event
            for event in self.events
            if event.get("method") == "Runtime.exceptionThrown"
            or (event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] == "error")
            or (event.get("method") == "Runtime.consoleAPICalled" and event["params"]["type"] in ("error", "assert"))
        ]

    def requests(self) -> list[str]:
        return [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)
        os.close(self._write_end)
        os.close(self._read_end)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            chunk = os.read(self._read_end, 1 << 16)
            assert chunk, "the browser closed its pipe"
            self._buffer += chunk
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert CHROMIUM is not None
    browser = Browser(CHROMIUM, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def page(decode_dirs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Alone in a folder of its own: everything that the page shows must be inside it.
    written = write_report(decode_dirs, tmp_path_factory.mktemp("out"), "A <test> report", {"preparation": PREPARATION})
    alone = tmp_path_factory.mktemp("alone")
    for name in ("index.html", "results.json"):
        shutil.copy(written.with_name(name), alone)
    return alone / "index.html"


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_page_is_whole(browser: Browser, page: Path, size: tuple[int, int], dark: bool, tmp_path: Path) -> None:
    browser.open(page, size, dark)

    pictures = browser.evaluate("[...document.images].map((i) => [i.complete, i.naturalWidth, i.alt])")
    assert len(pictures) > 10
    assert all(complete and width > 0 and alt for complete, width, alt in pictures)
    assert browser.evaluate("document.title") == "A <test> report"
    # Only tables may be wider than the window, and they scroll in a container of their own.
    assert browser.evaluate("document.documentElement.scrollWidth") <= size[0]
    browser.screenshot(tmp_path / "page.png")
    assert browser.complaints() == []
    assert {url for url in browser.requests() if not url.startswith("data:")} == {page.as_uri()}


def test_tables_hold_the_numbers_of_results_json(browser: Browser, page: Path) -> None:
    browser.open(page, DESKTOP)
    cells = "[...row.cells].map((cell) => [cell.dataset.value ?? '', cell.innerText.trim()])"
    shown = browser.evaluate(
        "[...document.querySelectorAll('table.results tbody tr')].map((row) => {"
        f" row.hidden = false; return {{stack: row.cells[1].innerText, metric: row.dataset.metric, cells: {cells}}} }})"
    )
    rows = json.loads(page.with_name("results.json").read_text(encoding="utf-8"))["rows"]
    by_key = {(r["task"], r["stack"].replace("none", "dense"), r["sparsity_target"], r["metric"]): r for r in rows}
    assert len(shown) == len(by_key) == len(rows)
    for entry in shown:
        task, _, target, _, value, low, _, modules, macs, time, seconds = entry["cells"]
        row = by_key[task[0], entry["stack"], float(target[0]), entry["metric"].lower()]
        assert [float(cell[0]) for cell in (modules, macs, value, low)] == [
            row["sparsity_modules"], row["sparsity_macs"], row["value"], row["ci95"][0],
        ]  # fmt: skip
        assert value[1] == f"{row['value']:.1f}"
        assert low[1] == f"{row['ci95'][0]:.1f} – {row['ci95'][1]:.1f}"
        assert (float(seconds[0]), float(time[0])) == (row["seconds_per_utterance"], row["time_vs_dense"])


def test_tables_filter_and_sort(browser: Browser, page: Path) -> None:
    browser.open(page, DESKTOP)
    visible = "[...document.querySelector('table.results').tBodies[0].rows].filter((row) => !row.hidden)"
    assert set(browser.evaluate(f"{visible}.map((row) => row.dataset.metric)")) == {"WER"}
    browser.evaluate(
        "{const select = document.querySelector('select[name=language]'); select.value = 'fra';"
        " select.dispatchEvent(new Event('change', {bubbles: true}))}"
    )
    assert browser.evaluate(f"{visible}.map((row) => row.cells[0].innerText)") == ["fra"] * 5

    scores = f"{visible}.map((row) => Number(row.cells[4].dataset.value))"
    browser.evaluate("document.querySelectorAll('table.results th button')[4].click()")
    ascending = browser.evaluate(scores)
    assert ascending == sorted(ascending)
    browser.evaluate("document.querySelectorAll('table.results th button')[4].click()")
    assert browser.evaluate(scores) == ascending[::-1]
    assert browser.complaints() == []
