#!/usr/bin/env python3
"""The page of a made-up report in a headless Chromium: page.py PROGRAM [--pictures DIRECTORY]

PROGRAM writes the report. The browser is driven by its DevTools protocol, over a pipe. Exit status 77: skipped, with
the reason. --pictures leaves screenshots: light, dark, on a phone, and the print as PDF.
"""
import argparse
import base64
import itertools
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import time

BROWSERS = "chromium chromium-browser google-chrome chrome".split()
DEADLINE_S = 60
PHONE, DESK = (320, 640), (1280, 900)


class Browser:
    """One page of a browser. `events` are all that the page told."""

    def __init__(self, program, directory):
        to_browser, self.output = os.pipe()
        self.input, from_browser = os.pipe()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
                   "--disable-dev-shm-usage", "--remote-debugging-pipe", f"--user-data-dir={directory}", "about:blank"]
        # The protocol is on descriptors 3 and 4, whatever the pipes are here.
        shell = 'exec "$@" 3<&%d 4>&%d' % (to_browser, from_browser)
        self.process = subprocess.Popen(["bash", "-c", shell, "bash", program, *options],
                                        pass_fds=(to_browser, from_browser), stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self.numbers, self.buffer, self.events, self.session = itertools.count(1), b"", [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(domain + ".enable")

    def message(self, deadline):
        while b"\0" not in self.buffer:
            if not select.select([self.input], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError("the browser does not answer")
            data = os.read(self.input, 1 << 20)
            if not data:
                raise EOFError("the browser has ended")
            self.buffer += data
        text, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, **parameters):
        number, deadline = next(self.numbers), time.monotonic() + DEADLINE_S
        request = {"id": number, "method": method, "params": parameters}
        if self.session:
            request["sessionId"] = self.session
        os.write(self.output, json.dumps(request).encode() + b"\0")
        while True:
            message = self.message(deadline)
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self.events.append(message)

    def told(self, *methods):
        return [event["params"] for event in self.events if event["method"] in methods]

    def open(self, url):
        self.events.clear()
        self.call("Page.navigate", url=url)
        deadline = time.monotonic() + DEADLINE_S
        while not self.told("Page.loadEventFired"):
            self.events.append(self.message(deadline))

    def ask(self, expression):
        answer = self.call("Runtime.evaluate", expression=f"(async () => {expression})()", returnByValue=True,
                           awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def size(self, width, height):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 500)
        self.settle()

    def prefer(self, scheme):
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.settle()

    def settle(self):
        """Wait for a frame in which the page notices, and one in which it has drawn."""
        self.ask("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def press(self, key, code):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code,
                      text="\r" if kind == "keyDown" else "")

    def picture(self, path):
        height = self.ask("document.documentElement.scrollHeight")
        width = self.ask("document.documentElement.clientWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, 12000), "scale": 1}
        data = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self):
        try:
            session, self.session = self.session, None
            self.call("Browser.close")
        except (EOFError, BrokenPipeError):
            pass
        self.process.wait(DEADLINE_S)


PLOTS = """[...document.querySelectorAll("figure")].map((figure) => ({
    family: figure.closest(".family").querySelector("h3").textContent,
    metric: figure.dataset.metric, kind: figure.dataset.kind, caption: figure.querySelector("figcaption").textContent,
    medians: figure.querySelectorAll('.median > *').length,
    spreads: figure.querySelectorAll('.spread > *').length,
    base: figure.querySelectorAll('.same > *').length,
    lines: figure.querySelectorAll('[aria-label="line"] > path').length,
    axes: [...figure.querySelectorAll('[aria-label$="axis label"]')].map((label) => label.textContent),
    ticks: [...figure.querySelectorAll('[aria-label$="tick label"]')].map((axis) =>
        [...axis.children].map((tick) => tick.textContent)),
    broken: /NaN|undefined|Infinity/.test(figure.innerHTML),
}))"""

# Texts of an axis that lie over each other, or stick out of the picture.
COLLISIONS = """[...document.querySelectorAll("figure")].flatMap((figure) => {
    const place = figure.closest(".family").querySelector("h3").textContent + ": " + figure.dataset.metric;
    const svg = figure.querySelector("svg").getBoundingClientRect();
    const texts = [...figure.querySelectorAll("svg text")].map((text) => [text, text.getBoundingClientRect()]);
    const over = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom - 1 && b.top < a.bottom - 1;
    const out = texts.filter(([, box]) => box.width > 0 && (box.left < svg.left - 1 || box.right > svg.right + 1))
        .map(([text]) => `${place}: sticks out: ${text.textContent}`);
    const pairs = texts.flatMap(([text, box], i) => texts.slice(i + 1).filter(([, other]) => over(box, other))
        .map(([other]) => `${place}: ${text.textContent} over ${other.textContent}`));
    return out.concat(pairs);
})"""

OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"

def heading_of(name):
    """An expression: in the first table, the heading of that name."""
    return f"""[...document.querySelector(".family table").querySelectorAll("th")]
        .find((th) => th.textContent === "{name}")"""


def column_of(name):
    """An expression: the texts of that column, from above; what was refused has no values there."""
    return f"""[...document.querySelector(".family table").querySelectorAll("tbody tr")].map((tr) =>
        tr.children[{heading_of(name)}.cellIndex]?.textContent ?? "")"""


def plots_expected(report):
    """-> {(workload, metric, kind): how many dots its plots have together}"""
    plotted = "rate cpu p50 p99 syscalls bytes add restart cancel fire".split()
    expected = {}
    for cell in report["cells"]:
        for place, series in enumerate(cell["series"]):
            for metric in plotted:
                values = [(metric, "values")] if metric in series["values"] else []
                if place > 0 and metric in ("rate", "cpu") and metric in series["ratios"]:
                    values.append((metric, "ratios"))
                for name, kind in values:
                    key = cell["job"]["workload"], name, kind
                    expected[key] = expected.get(key, 0) + 1
    return expected


def check_quiet(browser):
    errors = browser.told("Runtime.exceptionThrown") + [
        entry for entry in browser.told("Runtime.consoleAPICalled") if entry["type"] in ("error", "warning", "assert")]
    errors += [entry for entry in browser.told("Log.entryAdded") if entry["entry"]["level"] in ("error", "warning")]
    assert not errors, errors
    asked = [request["request"]["url"] for request in browser.told("Network.requestWillBeSent")]
    other = [url for url in asked if not url.startswith(("file:", "data:"))]
    assert len([url for url in asked if url.startswith("file:")]) == 1 and not other, asked


def check_plots(browser, report):
    found = {}
    for plot in browser.ask(PLOTS):
        key = plot["family"].split(":")[0], plot["metric"], plot["kind"]
        assert plot["medians"] == plot["spreads"] > 0, plot
        assert plot["base"] == (plot["kind"] == "ratios"), plot
        assert (plot["lines"] > 0) == (": by " in plot["family"]), plot
        assert plot["axes"] and all(plot["axes"]) and len(plot["ticks"]) == 2, plot
        assert all(map(all, plot["ticks"])) and len(plot["ticks"][-1]) >= 2 and not plot["broken"], plot
        found[key] = found.get(key, 0) + plot["medians"]
    assert found == plots_expected(report), (found, plots_expected(report))
    print(f"{sum(found.values())} marks in {len(found)} kinds of plots")


def check_sorting(browser):
    heading, subjects = heading_of("subject"), column_of("subject")
    before, state = browser.ask(subjects), f"{heading}.getAttribute('aria-sort')"
    assert browser.ask(state) is None
    browser.ask(f"{heading}.firstChild.click()")
    assert browser.ask(state) == "ascending" and browser.ask(subjects) == sorted(before) != before
    browser.ask(f"{heading}.firstChild.focus()")
    browser.press("Enter", 13)
    assert browser.ask(state) == "descending" and browser.ask(subjects) == sorted(before, reverse=True)
    scale = {"/s": 1, "k/s": 1e3, "M/s": 1e6}
    browser.ask(f"{heading}.firstChild.click()")  # what has no rate is in the middle now; by rate it is last either way
    for descending in (True, False):
        browser.ask(f"{heading_of('rate')}.firstChild.click()")
        rates = browser.ask(column_of("rate"))
        numbers = [float(text.split()[0]) * scale[text.split()[1]] for text in rates if text]
        assert numbers == sorted(numbers, reverse=descending) and len(numbers) < len(rates), rates
        assert not any(rates[len(numbers):]), rates
    assert browser.ask("document.querySelectorAll('[aria-sort]').length") == 1


def check_themes(browser):
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    button = "document.getElementById('theme')"
    browser.prefer("light")
    light = browser.ask(paper)
    browser.prefer("dark")
    dark = browser.ask(paper)
    assert light != dark and browser.ask(f"{button}.textContent") == "Light colours"
    browser.ask(f"{button}.click()")
    assert browser.ask(paper) == light and browser.ask(f"{button}.textContent") == "Dark colours"
    browser.ask(f"{button}.click()")
    assert browser.ask(paper) == dark


def check_page(browser, url, report, pictures):
    browser.prefer("light")
    browser.size(*DESK)
    browser.open(url)
    assert report["machine"] in browser.ask("document.title")
    assert report["command"] in browser.ask("document.getElementById('head').textContent")
    for size, name in ((DESK, "light"), ((768, 1024), "tablet"), (PHONE, "phone")):
        browser.size(*size)
        assert browser.ask(OVERFLOW) <= 0, (name, browser.ask(OVERFLOW))
        check_plots(browser, report)
        if pictures:
            browser.picture(pictures / f"{name}.png")
        collisions = browser.ask(COLLISIONS)
        assert not collisions, (name, collisions)
    browser.size(*DESK)
    check_sorting(browser)
    check_themes(browser)
    if pictures:
        browser.picture(pictures / "dark.png")
        pdf = browser.call("Page.printToPDF", printBackground=False)["data"]
        (pictures / "print.pdf").write_bytes(base64.b64decode(pdf))
    check_quiet(browser)


def check_corners(browser, url, report):
    browser.size(*PHONE)
    browser.open(url)
    check_plots(browser, report)
    assert browser.ask("document.querySelectorAll('td.refused').length") == 3
    assert browser.ask("document.getElementById('notes')") is None and browser.ask(OVERFLOW) <= 0
    check_quiet(browser)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--pictures", type=pathlib.Path)
    arguments = parser.parse_args()
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        print("SKIPPED: no Chromium here")
        sys.exit(77)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        subprocess.run([arguments.program, directory], check=True, stdout=subprocess.DEVNULL)
        path = pathlib.Path(directory)
        report, corners = (json.loads((path / name).read_text(encoding="utf-8"))
                           for name in ("report.json", "corners.json"))
        browser = Browser(program, path / "profile")
        try:
            check_page(browser, (path / "report.html").as_uri(), report, arguments.pictures)
            check_corners(browser, (path / "corners.html").as_uri(), corners)
        finally:
            browser.close()


main()
