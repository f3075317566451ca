"""Drives the Chromium of the system."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Locator, Page, sync_playwright

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
QUIET = (  # no requests beyond this machine
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)

BUSY = 503  # the status with which Prefect answers while its SQLite is locked


@contextmanager
def browsing() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=list(QUIET))
        try:
            page = browser.new_page(viewport={"width": 1300, "height": 1100})
            page.set_default_timeout(180_000)  # a busy machine is not a failure
            yield page
        finally:
            browser.close()


def field(page: Page, label: str) -> Locator:
    """A field in the form of a deployment, by its label."""
    own = page.locator(".schema-form-property__label", has_text=re.compile(rf"^{re.escape(label)}( \(Optional\))?$"))
    return page.locator(".schema-form-property", has=own).last


def choose(page: Page, label: str, option: str) -> None:
    """Chooses one of the first options of a select. The others are in the page only after scrolling."""
    field(page, label).locator("button.p-select-button__control").first.focus()
    page.keyboard.press("ArrowDown")
    page.get_by_text(option, exact=True).click()


def open_form(page: Page, address: str, deployment_id: str) -> None:
    """Opens the page of the deployment, then Run, then Custom run."""
    page.goto(f"{address}/deployments/deployment/{deployment_id}")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("Custom run").click()
    page.locator(".schema-form-property").first.wait_for()


def submit(page: Page) -> None:
    """Submits the form. If the server's SQLite was locked, the page stays, and the form is submitted again."""
    button, status = page.get_by_role("button", name="Submit", exact=True), BUSY
    while status == BUSY:
        with page.expect_response(re.compile(r"/create_flow_run$")) as answer:
            button.click()
        status = answer.value.status
    page.wait_for_url(re.compile(r"/(deployments/deployment/[^/]*$|runs/)"))


def fill_as_json(page: Page, parameters: str) -> None:
    """Fills in all parameters as JSON, through the menu of the form."""
    page.locator(".p-icon-button-menu button").first.click()
    page.get_by_text("Use JSON input").click()
    page.locator("textarea").first.fill(parameters)
