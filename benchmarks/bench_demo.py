"""The start of `recsys demo`: seconds until the server answers, and until the browser shows the first list.

Beside it `import gradio` alone, in turn. Needs artifacts/default (`make export`) and Chromium. Each round
starts the processes anew.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from machine import describe_machine
from playwright.sync_api import sync_playwright
from publish import publish

ROUNDS = 5
BUNDLE = Path("artifacts/default")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")


def import_gradio() -> float:
    """Seconds of a process that imports gradio and ends."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import gradio"], check=True)
    return time.perf_counter() - began


def measure() -> tuple[float, float]:
    """Seconds from the command to the server being up, and from there to the first list in the browser."""
    command = [
        sys.executable,
        "-c",
        "from recsys.cli import main; main()",
        "demo",
        str(BUNDLE),
        "--port",
        "0",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        page = browser.new_page()
        began = time.perf_counter()
        server = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        )
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[0]
            up = time.perf_counter()
            page.goto(url)
            page.wait_for_selector("#picks .items li")
            shown = time.perf_counter()
        finally:
            server.terminate()
            server.wait(30)
            browser.close()
    return up - began, shown - up


def main() -> None:
    rounds = [(import_gradio(), *measure()) for _ in range(ROUNDS)]
    imports, starts, firsts = (list(column) for column in zip(*rounds, strict=True))
    rows = [
        ("`import gradio`, start and end of a process", imports),
        ("the command to the server being up", starts),
        ("the server being up to the first list shown", firsts),
    ]
    times = statistics.median(start / alone for start, alone in zip(starts, imports, strict=True))
    lines = [
        "# The page of `recsys demo`",
        "",
        f"`python benchmarks/bench_demo.py`, {ROUNDS} rounds, server and browser new in each. "
        f"{describe_machine('gradio', 'onnxruntime-gpu')}",
        "",
        "| from | median | slowest |",
        "| --- | --- | --- |",
        *(f"| {name} | {statistics.median(found):.2f} s | {max(found):.2f} s |" for name, found in rows),
        "",
        f"The server is up in {times:.2f} times the time of `import gradio` (median of the rounds).",
    ]
    publish("demo", "\n".join(lines))


if __name__ == "__main__":
    main()
