"""A headless Chromium that tests drive by the devtools protocol."""

import base64
import json
import os
import shutil
import signal
import subprocess
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from websockets.sync.client import connect

from actors.deadline import until

START_SECONDS = 60.0
ANSWER_SECONDS = 60.0


class Browser:
    """One tab. Use as a context manager.

    Args:
        folder: for what it keeps.

    Attributes:
        complaints: what pages wrote to the console as errors, and what they threw.
    """

    def __init__(self, folder: Path) -> None:
        program = shutil.which("chromium")
        assert program, "chromium is needed: apt-get install chromium"
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        flags += [
            "--disable-extensions",
            "--disable-background-networking",
            "--disable-component-update",
            "--hide-scrollbars",
        ]
        self._process = subprocess.Popen(
            [program, *flags, "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        port = folder / "DevToolsActivePort"
        assert until(lambda: port.exists() and bool(port.read_text().strip()), START_SECONDS), "no devtools port"
        address = f"http://127.0.0.1:{port.read_text().split()[0]}/json/list"
        tabs: list[dict[str, Any]] = []

        def has_tab() -> bool:
            with urllib.request.urlopen(address, timeout=ANSWER_SECONDS) as response:
                tabs[:] = [each for each in json.load(response) if each["type"] == "page"]
            return bool(tabs)

        assert until(has_tab, START_SECONDS), "no tab"
        self._opened = ExitStack()
        channel = connect(tabs[0]["webSocketDebuggerUrl"], max_size=None, open_timeout=ANSWER_SECONDS)
        self._socket = self._opened.enter_context(channel)
        self._asked = 0
        self.complaints: list[str] = []
        for domain in ("Runtime", "Log", "Page"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the protocol, and its result."""
        self._asked += 1
        self._socket.send(json.dumps({"id": self._asked, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=ANSWER_SECONDS))
            if message.get("id") == self._asked:
                assert "error" not in message, message["error"]
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        told = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(told["exceptionDetails"]))
        elif message.get("method") == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(told["args"]))
        elif message.get("method") == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")

    def open(self, url: str) -> None:
        gone = self.ask("Page.navigate", url=url)
        assert "errorText" not in gone, f"{url}: {gone['errorText']}"
        assert until(lambda: self.value("document.readyState") == "complete", ANSWER_SECONDS), f"{url} does not load"

    def value(self, expression: str) -> Any:
        """What an expression amounts to in the page."""
        result = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def until(self, expression: str, seconds: float = ANSWER_SECONDS) -> bool:
        """Whether an expression comes to hold in time."""
        return until(lambda: bool(self.value(expression)), seconds)

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key)

    def look(self, width: int, theme: str, height: int = 900) -> None:
        """Take on a width (px) and a colour scheme, light or dark."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])

    def picture(self) -> bytes:
        """The whole page as PNG."""
        shot = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    def close(self) -> None:
        self._opened.close()
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(START_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
