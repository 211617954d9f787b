"""The page of a dataset in a real browser, through the path and the subdomain gateway of a real node."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from PIL import Image

from ipfs_dataset import DatasetCard, IPFSDatasetExporter, load

NAMES = ("chromium", "chromium-browser", "google-chrome")
EVIL = "\"><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
CARD = DatasetCard(name=f"Pets {EVIL}", description=EVIL, licence="MIT", classes=["cat", EVIL])
SIZES = {"phone": (390, 844), "desktop": (1280, 900)}


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no Chromium: there is none of {', '.join(NAMES)} on PATH")
    return found


@pytest.fixture(scope="module")
def page(kubo):
    """Returns the CID of a dataset and the URLs of its page."""
    samples = [(torch.rand(3, 16, 16), n % 2, EVIL) for n in range(30)]
    cid = IPFSDatasetExporter(kubo.api, progress=False).export_to_ipfs(samples, card=CARD)
    port = urlsplit(kubo.gateway).port
    return cid, {
        "path": f"{kubo.gateway}/ipfs/{cid}/",
        "subdomain": f"http://{cid}.ipfs.localhost:{port}/",
    }


def run(browser, folder, url, *options):
    """Runs the browser; returns what it wrote, and the URLs that it requested."""
    log = folder / "net.json"
    done = subprocess.run(
        [
            *(
                browser,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
            ),
            *("--hide-scrollbars", "--no-first-run", "--disable-background-networking"),
            *("--disable-component-update", "--disable-sync", "--virtual-time-budget=3000"),
            *(
                "--enable-logging=stderr",
                f"--user-data-dir={folder / 'profile'}",
                f"--log-net-log={log}",
            ),
            # The browser's own services are not reached.
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE *localhost, EXCLUDE 127.0.0.1",
            *options,
            url,
        ],
        capture_output=True,
        timeout=120,
        check=True,
        cwd=folder,
    )
    text = log.read_text("utf-8", "replace").rstrip().rstrip(",")
    # A log that was cut off when the browser ended lacks what closes it.
    fields = json.loads(text if text.endswith("}") and text.count("]}") else text + "]}")
    started = fields["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    requested = {
        event["params"]["url"]
        for event in fields["events"]
        if event["type"] == started and "url" in event.get("params", {})
    }
    console = [
        line for line in done.stderr.decode("utf-8", "replace").splitlines() if "CONSOLE" in line
    ]
    own = (".google.com", ".googleapis.com", ".gstatic.com", "-googleapis.com")
    asked = {
        url
        for url in requested
        if url.startswith("http") and not f".{urlsplit(url).hostname}".endswith(own)
    }
    return done.stdout.decode(), asked, console


class Dom(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.inside: list[dict[str, str | None]] = []
        self.found: dict[str, str] = {}
        self.tags: list[str] = []
        self.hidden = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.inside.append(dict(attrs))
        if "data-hint" in dict(attrs):
            self.hidden = "hidden" in dict(attrs)

    def handle_endtag(self, tag):
        if self.inside:
            self.inside.pop()

    def handle_data(self, data):
        for name in ("data-url", "data-gateway"):
            if self.inside and name in self.inside[-1]:
                self.found[name] = data


@pytest.mark.parametrize("kind", ["path", "subdomain"])
def test_the_page_names_its_own_cid_and_gateway_and_requests_nothing_else(
    browser, page, kind, tmp_path
):
    cid, urls = page
    text, requested, console = run(browser, tmp_path, urls[kind], "--dump-dom")
    dom = Dom(text)
    assert dom.found["data-url"] == f"ipfs://{cid}"
    parts = urlsplit(urls[kind])
    host = parts.netloc.removeprefix(f"{cid}.ipfs.")
    assert dom.found["data-gateway"] == f"gateway+http://{host}"
    assert dom.hidden
    assert requested == {urls[kind]}
    assert console == []
    assert "<title>taken</title>" not in text
    assert dom.tags.count("script") == 1
    assert dom.tags.count("img") == 30


def test_without_scripts_the_page_explains_where_to_find_its_cid(browser, page, tmp_path):
    _, urls = page
    settings = tmp_path / "profile" / "Default" / "Preferences"
    settings.parent.mkdir(parents=True)
    blocked = {"profile": {"default_content_setting_values": {"javascript": 2}}}
    settings.write_text(json.dumps(blocked))
    text, requested, console = run(browser, tmp_path, urls["path"], "--dump-dom")
    dom = Dom(text)
    assert dom.found["data-url"] == "ipfs://CID"
    assert not dom.hidden
    assert requested == {urls["path"]}
    assert console == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_the_page_is_drawn_on_phones_and_desktops_light_and_dark(
    browser, page, size, scheme, tmp_path
):
    _, urls = page
    picture = tmp_path / "page.png"
    width, height = SIZES[size]
    run(
        browser,
        tmp_path,
        urls["path"],
        f"--window-size={width},{height}",
        f"--screenshot={picture}",
        f"--blink-settings=preferredColorScheme={int(scheme == 'light')}",
    )
    drawn = np.asarray(Image.open(io.BytesIO(picture.read_bytes())).convert("L")).astype(int)
    assert (drawn[2, 2] > 200) == (scheme == "light")
    assert drawn.max() - drawn.min() > 150


def test_the_address_that_the_page_names_loads_the_dataset(page, kubo):
    cid, _ = page
    dataset: Any = load(f"ipfs://{cid}", f"gateway+{kubo.gateway}")
    assert len(dataset) == 30
    assert dataset.card == CARD
    assert dataset.classes == ["cat", EVIL]
