"""The status page in a real browser: what it says, how it is used, and what it must not do."""

import io
import math
import os
from datetime import datetime, timedelta

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

from backend import FLOAT, ROOT, Backend, Client
from conftest import CONFIG, Page, Prefix, Sidecar, until

IMAGES = ROOT / "docs" / "images"
CLIENT = "fraud-scorer/2.3"
WIDTHS = (1280, 390)


def text(page, selector):
    return page.locator(selector).inner_text()


def client(page, name):
    return page.locator("#clients > details", has=page.locator("summary .name", has_text=name))


def test_it_answers_the_questions_of_an_operator_in_order(browser, sidecar):
    with Page(browser, sidecar.url) as page:
        assert page.title() == "scoring-7d9c4b-x2x8q - tfs-sidecar"
        assert text(page, "#ready") == "ready"
        titles = page.locator("h2").all_inner_texts()
        assert titles[:4] == [
            "Is it up?", "What share of requests mismatches?", "Who must change what?", "What changed?",
        ]
        assert "is up" in text(page, "#upstream")
        assert "Calls in flight" in text(page, "#load")
        assert "churn, version 7: serving_default, mode repair" in text(page, "#models")
        churn = page.locator("#shares li", has_text="churn")
        assert "77 of 187 requests" in churn.inner_text() and "41 %" in churn.inner_text()
        assert "77 of 187" in churn.locator("svg").get_attribute("aria-label")
        assert page.locator("#clients > details").count() == 5
        fraud = client(page, CLIENT).locator("summary").first.inner_text()
        assert "40 of 100 requests" in fraud and "40 %" in fraud and "Python" in fraud
        assert "Go" in client(page, "ranker/1.8").locator("summary").first.inner_text()
        assert "churn: version 6 to 7" in text(page, "#changes") and "tenure" in text(page, "#changes")
        forecast = page.locator("#changes .forecast").first.inner_text()
        assert "What it means for the clients: callers " in forecast and "reporting/3.0 (50 requests)" in forecast
        assert "featurs" in text(page, "#config-problems")
        assert "chrun" in text(page, "#unknown") and "reporting/3.0" in text(page, "#unknown")
        assert "DIM_MISMATCH" in text(page, "#recent")


def test_every_number_on_it_is_in_the_api(browser, sidecar):
    fixes = {(fix["client"], fix["kind"]): fix for fix in sidecar.api("fixes")}
    fix = fixes[CLIENT, "add_batch_dim"]
    assert (fix["count"], fix["share"], fix["language"], fix["outcome"]) == (40, 0.4, "python", "repaired")
    assert fixes["web-frontend/7.0", "add_batch_dim"]["outcome"] == "would_repair"
    assert fixes["reporting/3.0", "MODEL_UNKNOWN"]["model"] == "chrun"
    clients = {client["client"]: client for client in sidecar.api("clients")["clients"]}
    assert (clients[CLIENT]["requests"], clients[CLIENT]["mismatches"]) == (100, 40)
    with Page(browser, sidecar.url) as page:
        shown = client(page, CLIENT)
        shown.locator("summary").first.click()
        assert "40 requests, 40 % to churn" in shown.inner_text()


def test_the_line_to_change_is_three_clicks_away(browser, sidecar):
    with Page(browser, sidecar.url) as page:
        shown = client(page, CLIENT)
        shown.locator("summary").first.click()
        mistake = shown.locator(".mistakes > details")
        mistake.locator("summary").click()
        mistake.get_by_role("button", name="Copy the fix for add_batch_dim for features").click()
        page.locator(".copy button", has_text="Copied").wait_for()
        fix = next(fix for fix in sidecar.api("fixes") if fix["client"] == CLIENT)
        assert page.evaluate("navigator.clipboard.readText()") == fix["fix"] != ""
        assert "copied the fix" in page.locator("#said").inner_text()


def test_it_is_copied_without_the_clipboard_api(browser, sidecar):
    """Browsers have it only for HTTPS and localhost."""
    with Page(browser, sidecar.url) as page:
        page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
        page.evaluate("document.addEventListener('copy', () => { window.copied = document.activeElement.value; })")
        shown = client(page, CLIENT)
        shown.locator("summary").first.click()
        shown.locator(".mistakes summary").click()
        shown.get_by_role("button").click()
        page.locator(".copy button", has_text="Copied").wait_for()
        assert page.evaluate("window.copied") == sidecar.api("fixes")[0]["fix"]


def test_the_keyboard_is_enough(browser, sidecar):
    with Page(browser, sidecar.url) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        for _ in range(2):
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.localName") == "summary"
            page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.localName") == "button"
        page.keyboard.press("Enter")
        page.locator(".copy button", has_text="Copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == sidecar.api("fixes")[0]["fix"]


def test_what_is_open_and_focused_stays_so_while_it_refreshes(browser, sidecar):
    with Page(browser, sidecar.url) as page:
        shown = client(page, CLIENT)
        summary = shown.locator("summary").first
        summary.click()
        node = summary.element_handle()
        with page.expect_response("**/api/status"):
            pass
        with page.expect_response("**/api/config"):
            pass
        assert shown.get_attribute("open") is not None
        assert page.evaluate("node => node === document.activeElement && node.isConnected", node)


@pytest.mark.parametrize(
    ("fill", "clients"),
    [
        ({"search": "node embed"}, ["web-frontend/7.0"]),
        ({"search": "dim_mismatch"}, ["checkout/4.1"]),
        ({"model": "embed"}, ["web-frontend/7.0"]),
        ({"outcome": "reject"}, ["checkout/4.1", "reporting/3.0"]),
        ({"search": "no such thing"}, []),
    ],
)
def test_it_is_filtered(browser, sidecar, fill, clients):
    with Page(browser, sidecar.url) as page:
        for name, value in fill.items():
            field = page.locator(f"#{name}")
            field.fill(value) if name == "search" else field.select_option(value)
        shown = page.locator("#clients > details > summary .name").all_inner_texts()
        assert sorted(shown) == clients
        assert clients or "Nothing passes the filter." in text(page, "#who-note")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_can_be_read(browser, sidecar, width, scheme):
    with Page(browser, sidecar.url, width, scheme) as page:
        shown = client(page, CLIENT)
        shown.locator("summary").first.click()
        shown.locator(".mistakes summary").click()
        page.locator("#models summary").first.click()
        page.locator("#config-title + details summary").click()
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow == 0
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(255, 255, 255)") == (scheme == "light")
        options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
        report = Axe().run(page, options=options)
        assert report.violations_count == 0, report.generate_report()


def test_nothing_from_the_network_becomes_html(browser, tmp_path):
    from backend import Backend, Client, FLOAT

    name = "<img src=x onerror=alert(1)>"
    config = tmp_path / "sidecar.yaml"
    config.write_text("poll_interval: 100ms\n")
    with Backend({"m": (1, {"x": (FLOAT, [-1, 4])})}) as backend, Sidecar(backend.address, config) as running:
        sender = Client(running.address, f"{name.replace(' ', '')}/1.0")
        until(lambda: sender.send("m", x=(FLOAT, [4])) == "OK", "the first answer")
        sender.send(name, x=(FLOAT, [4]))
        sender.send("m", **{name.replace("<", "a<"): (FLOAT, [4])})
        sender.close()
        with Page(browser, running.url) as page:
            assert name in text(page, "#unknown")
            assert page.locator("main img").count() == 0


def test_before_it_is_ready_it_says_what_is_missing(browser, tmp_path):
    config = tmp_path / "sidecar.yaml"
    config.write_text(CONFIG)
    with Sidecar("127.0.0.1:1", config) as running, Page(browser, running.url) as page:
        assert text(page, "#ready") == "not ready"
        assert page.title().startswith("(not ready)")
        assert "127.0.0.1:1" in text(page, "#upstream")
        page.locator("#problems li", has_text="churn").wait_for()


def test_it_works_behind_a_prefix(browser, sidecar):
    with Prefix(sidecar.admin) as prefix, Page(browser, prefix.url) as page:
        assert text(page, "#ready") == "ready"
        assert page.locator("#clients > details").count() == 5
        links = page.get_by_role("link").evaluate_all("links => links.map((link) => link.href)")
        assert len(links) > 9 and all(link.startswith(prefix.url) for link in links)


def later(status):
    moved = datetime.fromisoformat(status["now"]) + timedelta(minutes=35)
    return {**status, "now": moved.strftime("%Y-%m-%dT%H:%M:%SZ")}


def hour(history):
    """The same requests, spread over an hour in waves; all that mismatch are in the last 35 minutes."""

    def spread(series):
        requests, mismatches = sum(series["requests"]), sum(series["mismatches"])
        waves = [20 + 9 * math.sin(at / 9) + 4 * math.sin(at * 1.7) for at in range(121)]
        share = [0 if at < 51 else 1 for at in range(121)]
        wrong = sum(wave * part for wave, part in zip(waves, share))
        counts = [wave / sum(waves) * (requests - mismatches) for wave in waves]
        bad = [wave * part / wrong * mismatches for wave, part in zip(waves, share)]
        return {"requests": whole([all + more for all, more in zip(counts, bad)], requests), "mismatches": whole(bad, mismatches)}

    def whole(values, total):
        """Whole numbers with the same sum, in larger units so that bars can be seen."""
        scaled = [round(value * 1000) for value in values]
        scaled[-1] += total * 1000 - sum(scaled)
        return [value / 1000 for value in scaled]

    return {**history, **{key: {name: spread(series) for name, series in history[key].items()} for key in ("models", "clients")}}


@pytest.mark.skipif(os.environ.get("UPDATE") != "1", reason="UPDATE=1 writes the screenshots")
@pytest.mark.parametrize(
    ("width", "scheme", "name"), [(1280, "light", "page"), (390, "light", "page-phone"), (1280, "dark", "page-dark")]
)
def test_screenshots_are_small(browser, sidecar, width, scheme, name):
    """With the clock moved on by 35 minutes, and a history of an hour, as after a bad deployment."""
    IMAGES.mkdir(exist_ok=True)
    with Page(browser, sidecar.url, width, scheme) as page:
        shown = client(page, CLIENT)
        shown.locator("summary").first.click()
        shown.locator(".mistakes summary").click()
        page.route("**/api/status", lambda route: route.fulfill(json=later(sidecar.api("status"))))
        page.route("**/api/history", lambda route: route.fulfill(json=hour(sidecar.api("history"))))
        page.locator(".when", has_text="35 minutes ago").first.wait_for()
        page.mouse.move(0, 0)
        page.evaluate("document.activeElement.blur()")
        path = IMAGES / f"{name}.png"
        end = page.locator("#unknown-title").bounding_box()["y"]
        shot = page.screenshot(full_page=True, clip={"x": 0, "y": 0, "width": width, "height": end})
        # Few colours make a small file.
        Image.open(io.BytesIO(shot)).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
        assert path.stat().st_size < 150_000


PROFILE = """profile: 1
rows: 1000
inputs:
  "x":
    dtype: float
    by: feature
    features:
      - {name: "age", count: 1000, min: 18, max: 95, mean: 45, std: 14, quantiles: [19, 23, 35, 45, 55, 68, 80]}
      - {name: "income", count: 1000, min: 50, max: 60, mean: 55, std: 3, quantiles: [50, 51, 53, 55, 57, 59, 60]}
"""


def test_it_says_whose_values_do_not_look_like_the_training_data(browser, tmp_path):
    """Every value that the client sends is 1."""
    (tmp_path / "fraud.yaml").write_text(PROFILE)
    config = tmp_path / "sidecar.yaml"
    config.write_text(f"models: {{fraud: {{profile: {tmp_path}/fraud.yaml}}}}\n")
    with Backend({"fraud": (1, {"x": (FLOAT, [-1, 2])})}) as backend, Sidecar(backend.address, config) as running:
        until(running.is_ready, "readiness")
        with Page(browser, running.url) as page:
            assert "No model has a profile" in text(page, "#values-note")
        sender = Client(running.address, "fraud-batch/2.3")
        sender.send("fraud", 7, x=(FLOAT, [200, 2]))
        sender.close()
        with Page(browser, running.url) as page:
            shown = page.locator("#findings li", has_text="fraud-batch/2.3 to fraud / serving_default: x").inner_text()
            finding = running.api("findings")["signatures"][0]["findings"][0]
            assert finding["kind"] == "OUT_OF_RANGE" and finding["requests"] == 7
            assert "OUT_OF_RANGE" in shown and "7 requests" in shown and finding["text"] in shown
            assert "feature income" in shown and "age" not in shown
            assert "448 rows" in text(page, "#values-note")
            results = Axe().run(page)
            assert results.violations_count == 0, results.generate_report()
            page.locator("#search").fill("nobody")
            assert page.locator("#findings li").count() == 0
            assert "Nothing passes the filter" in text(page, "#values-note")
