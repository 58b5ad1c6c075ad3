"""Debian's Chromium, driven by selenium, and axe-core, which checks pages for accessibility."""

import importlib.metadata
import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

REQUIRED = "BIRDNET_FS_REQUIRE_BROWSER"  # environment variable with which these tests fail rather than skip


def why_not() -> str:
    """What is missing; "" when everything is there."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        return "Debian's chromium and chromium-driver are not installed"
    if importlib.util.find_spec("selenium") is None:
        return "selenium is not installed"
    return "" if _axe_files() else "axe-playwright-python, which holds axe.min.js, is not installed"


def _axe_files() -> list[Any]:
    try:
        files = importlib.metadata.files("axe-playwright-python") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [file.locate() for file in files if file.name == "axe.min.js"]


missing = why_not()
if missing and os.environ.get(REQUIRED):
    raise RuntimeError(f"{REQUIRED} is set, and {missing}")
in_browser = pytest.mark.skipif(bool(missing), reason=missing or "everything is there")


class Browser:
    """One window."""

    def __init__(self) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
            options.add_argument(argument)
        options.add_argument("--autoplay-policy=no-user-gesture-required")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))

    def open(self, url: str, *, width: int = 1280, dark: bool = False) -> None:
        """Open a page in a window of a width in pixels."""
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]},
        )
        self.driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": False})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get(url)

    def run(self, code: str, *arguments: Any) -> Any:
        """Value that JavaScript returns; it calls `done(value)` where it contains that name."""
        if "done(" in code:
            return self.driver.execute_async_script(f"const done = arguments[arguments.length - 1];{code}", *arguments)
        return self.driver.execute_script(code, *arguments)

    def errors(self) -> list[str]:
        """Messages of the console that are errors, such as what the security policy refused."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def violations(self) -> list[str]:
        """Violations that axe-core finds, each with the elements."""
        self.driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
        (axe,) = _axe_files()
        self.driver.execute_script(axe.read_text(encoding="utf-8"))
        found = self.run(
            "axe.run().then(found => done(found.violations), error => done([{id: String(error), nodes: []}]))"
        )
        return [f"{each['id']}: {[node['html'][:150] for node in each['nodes'][:3]]}" for each in found]


@contextmanager
def opened() -> Iterator[Browser]:
    """A browser that is closed at the end."""
    browser = Browser()
    try:
        yield browser
    finally:
        browser.driver.quit()
