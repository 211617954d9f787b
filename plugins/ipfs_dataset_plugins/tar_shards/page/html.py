"""The page of a published dataset, ``index.html``. It is self-contained and sends no requests.

All text from the dataset or its card is escaped, and a content security policy allows only the script of this
module, by its hash. The page contains no times or versions, so equal datasets with equal cards have equal
pages. It cannot contain its own CID; the script reads the CID from the address, and without scripts the text
explains where to find it.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from typing import TYPE_CHECKING, Any

import attrs

from ipfs_dataset_core import human_size
from ipfs_dataset_plugins.tar_shards.page.pictures import WAVE_HEIGHT, WAVE_WIDTH
from ipfs_dataset_plugins.tar_shards.page.statistics import label_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ipfs_dataset_core import DatasetCard
    from ipfs_dataset_plugins.tar_shards.manifest import Shard
    from ipfs_dataset_plugins.tar_shards.page.previews import Field, Preview, Value
    from ipfs_dataset_plugins.tar_shards.page.statistics import Statistics

MAX_PAGE_BYTES = 1 << 20
_MAX_BARS = 40
_MAX_FIELDS = 100
_MAX_SHARDS = 50
_MAX_CLASSES = 400

_STYLE = """
:root{color-scheme:light dark;--page:#fff;--text:#1b1f24;--soft:#57606a;--line:#d4d9e0;--tile:#f3f5f8;
--link:#0b5cad;--bar:#2f7fc1;--wave:#2f7fc1;--code:#f3f5f8}
@media (prefers-color-scheme:dark){:root{--page:#12161c;--text:#e8ebef;--soft:#a3adb9;--line:#333b46;
--tile:#1d232c;--link:#7db8f2;--bar:#5aa2de;--wave:#7db8f2;--code:#1d232c}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--text);font:1rem/1.55 system-ui,-apple-system,"Segoe UI",
Roboto,"Noto Sans","DejaVu Sans",sans-serif;overflow-wrap:anywhere}
body>*{max-width:72rem;margin:0 auto;padding:0 clamp(1rem,4vw,2.5rem)}
.skip{position:absolute;left:-99rem}.skip:focus{left:1rem;top:.5rem;background:var(--page);padding:.5rem}
header{padding-top:clamp(1.5rem,5vw,3.5rem)}
h1{font-size:clamp(1.7rem,5vw,2.6rem);line-height:1.15;margin:0 0 .6rem;letter-spacing:-.015em}
h2{font-size:1.25rem;margin:2.6rem 0 .8rem;line-height:1.3}
p{margin:.6rem 0;max-width:46rem}
.by,.note{color:var(--soft)}.note{font-size:.92rem}
a{color:var(--link)}a:focus-visible,summary:focus-visible,pre:focus-visible{outline:3px solid var(--link);
outline-offset:2px;border-radius:3px}
dl.facts{display:flex;flex-wrap:wrap;gap:.9rem 2.2rem;margin:1.4rem 0 0;padding:1rem 0;
border-block:1px solid var(--line)}
dl.facts dt{font-size:.82rem;color:var(--soft)}dl.facts dd{margin:0;font-weight:600}
pre{background:var(--code);border:1px solid var(--line);border-radius:8px;padding:.9rem 1rem;margin:.8rem 0;
overflow-x:auto;font:.88rem/1.55 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.92em}
.wrap{white-space:pre-wrap}
ul.sheet{list-style:none;margin:0;padding:0;display:grid;gap:.7rem;
grid-template-columns:repeat(auto-fill,minmax(min(8rem,29%),1fr))}
ul.wide{grid-template-columns:repeat(auto-fill,minmax(min(17rem,100%),1fr))}
ul.sheet li{background:var(--tile);border:1px solid var(--line);border-radius:8px;overflow:hidden;
display:flex;flex-direction:column}
ul.sheet img{display:block;width:100%;height:auto;aspect-ratio:1;object-fit:contain;image-orientation:none}
ul.sheet img.part{aspect-ratio:auto;max-height:20rem}
ul.sheet img.flat{aspect-ratio:auto;height:3rem;object-fit:fill}
img.small{image-rendering:pixelated}
.wave{display:block;width:100%;height:auto}.wave path{fill:var(--wave)}
.caption{padding:.45rem .6rem;font-size:.86rem;line-height:1.4;margin-top:auto}
.caption .number{color:var(--soft)}.caption q,.caption .text{display:block}
.caption .text{white-space:pre-wrap;max-height:9.8em;overflow:hidden}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.94rem}
th,td{text-align:left;padding:.4rem .8rem .4rem 0;border-bottom:1px solid var(--line);vertical-align:top}
thead th{color:var(--soft);font-weight:600;font-size:.85rem}tbody th{font-weight:500}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.bars th{max-width:16rem}.bars td.bar{width:55%;min-width:6rem;vertical-align:middle;padding-right:0}
.bars svg{display:block;width:100%;height:.9rem}.bars rect{fill:var(--bar)}
details{margin:.8rem 0}summary{cursor:pointer;color:var(--link)}
footer{margin-top:3.5rem;padding-top:1rem;padding-bottom:2.5rem;color:var(--soft);font-size:.9rem}
@media (max-width:30rem){.bars td.bar{width:34%;min-width:4rem}th,td{padding-right:.5rem}}
@media print{ul.sheet li{break-inside:avoid}}
"""

# Path gateways have /ipfs/CID/ in the path, subdomain gateways cid.ipfs.host as the host.
_SCRIPT = """
(function(){var l=location,m=/^\\/(ip[fn]s)\\/([A-Za-z0-9._-]+)(\\/[^?#]*)?/.exec(l.pathname),
s=/^([a-z0-9-]+)\\.(ip[fn]s)\\./.exec(l.hostname),n,r,p;
if(m){n=m[1];r=m[2];p=m[3]||""}else if(s){n=s[2];r=s[1];p=l.pathname;
if(n==="ipns"&&!/^k[a-z0-9]{50,}$/.test(r)){r=r.replace(/--/g,"\\0").replace(/-/g,".").replace(/\\0/g,"-")}}
else{return}
p=p.replace(/index\\.html$/,"").replace(/\\/+$/,"");
try{p=decodeURIComponent(p)}catch(e){return}
if(!/^[A-Za-z0-9._\\/~ -]*$/.test(p)){return}
var g=l.protocol+"//"+(m?l.host:l.host.slice(s[0].length)),u=n+"://"+r+p,i,e;
e=document.querySelectorAll("[data-url]");for(i=0;i<e.length;i++){e[i].textContent=u}
e=document.querySelectorAll("[data-gateway]");for(i=0;i<e.length;i++){e[i].textContent="gateway+"+g}
e=document.querySelectorAll("[data-hint]");for(i=0;i<e.length;i++){e[i].hidden=true}})();
"""


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


_POLICY = (
    f"default-src 'none'; img-src data:; style-src '{_hash(_STYLE)}'; script-src '{_hash(_SCRIPT)}'; "
    "base-uri 'none'; form-action 'none'"
)


# Control characters, and characters that reorder the text around them to disguise a name.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# Maximum number of characters of a class name that are shown.
_MAX_NAME = 120


def escaped(text: Any) -> str:
    """Escapes text for use in HTML, including within quotation marks."""
    cleaned = _CONTROLS.sub("\ufffd", str(text))
    return html.escape(cleaned.encode("utf-8", "replace").decode(), quote=True)


@attrs.frozen(kw_only=True)
class PageContent:
    """The content of a page.

    Args:
        card: The author's description.
        classes: The number of each class, by name.
        statistics: Statistics of the samples.
        previews: The samples to show.
        shards: The files with the samples.
        files: Names of the other files to which the page links.
    """

    card: DatasetCard | None
    classes: Mapping[str, int]
    statistics: Statistics
    previews: Sequence[Preview]
    shards: Sequence[Shard]
    files: Sequence[str] = ()


def page_html(content: PageContent) -> bytes:
    """Returns ``index.html``, leaving out previews until it has at most 1 MiB.

    Args:
        content: The content of the page.
    """
    previews = list(content.previews)
    while True:
        page = _page(attrs.evolve(content, previews=previews)).encode()
        if len(page) <= MAX_PAGE_BYTES or not previews:
            return page
        previews = previews[: len(previews) * 3 // 4]


def _page(content: PageContent) -> str:
    card = content.card
    title = escaped(card.name if card is not None else "Dataset")
    summary = "" if card is None or not card.description else card.description
    first = escaped(" ".join(summary.split())[:160])
    sections = [
        _loading(),
        _samples(content),
        _classes(content),
        _fields(content),
        _citation(card),
        _verifying(),
        _files(content),
    ]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<meta name="description" content="{first}">
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
{_header(content, title)}
<main id="main">
{"".join(section for section in sections if section)}</main>
<footer><p>A dataset on <a href="https://ipfs.tech" rel="noopener">IPFS</a>, published with ipfs-dataset. This
page is part of it.</p></footer>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _header(content: PageContent, title: str) -> str:
    card, statistics = content.card, content.statistics
    lines = [f'<header>\n<h1 dir="auto">{title}</h1>']
    if card is not None and card.creators:
        lines.append(f'<p class="by" dir="auto">by {escaped(", ".join(card.creators))}</p>')
    if card is not None and card.description:
        lines += [
            f'<p dir="auto">{_inline(part)}</p>'
            for part in re.split(r"\n\s*\n", card.description)
            if part.strip()
        ]
    facts = [("Samples", f"{statistics.samples:,}")]
    if content.shards:
        total = sum(shard.size for shard in content.shards)
        count = len(content.shards)
        facts.append(("Size", f"{human_size(total)} in {count:,} file{'s' if count != 1 else ''}"))
    if content.classes:
        facts.append(("Classes", f"{len(content.classes):,}"))
    shown = [(name, escaped(value)) for name, value in facts]
    if card is not None:
        if card.licence:
            shown.append(("Licence", _licence(card.licence)))
        shown.append(("Version", escaped(card.version)))
        if card.published:
            shown.append(("First published", escaped(card.published)))
        if card.homepage:
            shown.append(("Home", _link(card.homepage, re.sub(r"^https?://", "", card.homepage))))
        if card.keywords:
            shown.append(("Keywords", escaped(", ".join(card.keywords))))
    items = "".join(
        f'<div><dt>{name}</dt><dd dir="auto">{value}</dd></div>\n' for name, value in shown if value
    )
    return "\n".join([*lines, f'<dl class="facts">\n{items}</dl>\n</header>'])


def _link(url: str, text: str) -> str:
    return f'<a href="{escaped(url)}" rel="noopener nofollow">{escaped(text)}</a>'


def _licence(licence: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9.+-]+", licence) and not licence.startswith("LicenseRef-"):
        return _link(f"https://spdx.org/licenses/{licence}.html", licence)
    return escaped(licence)


def _inline(text: str) -> str:
    """Converts a paragraph to HTML, with the Markdown that descriptions use: code, bold and links."""
    shown = escaped(text.strip())
    shown = re.sub(r"`([^`\n]{1,200})`", r"<code>\1</code>", shown)
    shown = re.sub(r"\*\*([^*\n]{1,300})\*\*", r"<strong>\1</strong>", shown)
    return re.sub(
        r"\[([^\]\n<>]{1,300})\]\((https?://[^\s()<>\"']{1,500})\)",
        r'<a href="\2" rel="noopener nofollow">\1</a>',
        shown,
    )


def _section(name: str, title: str, body: str) -> str:
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{title}</h2>\n{body}\n</section>\n'


def _loading() -> str:
    return _section(
        "load",
        "Load it",
        """<pre tabindex="0"><code>from ipfs_dataset import load

dataset = load("<span data-url>ipfs://CID</span>", "<span data-gateway>gateway+https://…</span>")
sample = dataset[0]</code></pre>
<p class="note">Install it with <code>pip install ipfs-dataset</code>. Instead of the gateway there may be a node of
your own, such as <code>"/ip4/127.0.0.1/tcp/5001"</code>.<span data-hint> Where it says <code>CID</code> above goes the
CID of this folder: it is in the address of this page, behind <code>/ipfs/</code> or before <code>.ipfs.</code>, and in
the address of <a href="./">this link</a>.</span></p>""",
    )


def _samples(content: PageContent) -> str:
    previews = [preview for preview in content.previews if preview.values]
    if not previews:
        return ""
    names = {number: name for name, number in content.classes.items()}
    drawn = sum(1 for p in previews for v in p.values if v.image or v.drawing)
    wave = any(value.drawing for preview in previews for value in preview.values)
    wide = " wide" if drawn < len(previews) or wave else ""
    items = "\n".join(_sample(preview, content.statistics.label, names) for preview in previews)
    count, total = len(previews), content.statistics.samples
    note = (
        "All samples."
        if count == total
        else f"{count:,} of {total:,} samples, from the whole dataset."
    )
    return _section(
        "samples",
        "Samples",
        f'<p class="note">{note}</p>\n<ul class="sheet{wide}">\n{items}\n</ul>',
    )


_PIXELATED = 64
_FLAT = 8


def _sample(preview: Preview, label: str | None, names: Mapping[int, str]) -> str:
    found = preview.short.get(label) if label is not None else None
    called = "" if found is None else label_text(found, names)
    pictures, texts = [], []
    # Several pictures of different shapes would be spread too far apart in squares.
    is_alone = sum(1 for value in preview.values if value.image or value.drawing) == 1
    for value in preview.values:
        alt = f"Sample {preview.position:,}" + (f", {called}" if called else "")
        if len(preview.values) > 1:
            alt += f": {value.field}"
        if value.image is not None:
            pictures.append(_picture(value, alt, is_alone=is_alone))
        elif value.drawing is not None:
            pictures.append(
                f'<svg viewBox="0 0 {WAVE_WIDTH} {WAVE_HEIGHT}" class="wave" role="img" '
                f'aria-label="{escaped(alt)}"><path d="{escaped(value.drawing)}"/></svg>'
            )
        if value.text is not None and value.text.encode("utf-8", "replace") != found:
            texts.append((value.field, escaped(value.text)))
        elif value.image is None and value.drawing is None and value.text is None:
            texts.append((value.field, escaped(value.detail)))
    lines = [
        '<span class="text" dir="auto">'
        # The numbers of a tuple would look like values.
        + (
            f'<span class="number">{escaped(field)}:</span> '
            if not field.isdigit() and len(texts) > 1
            else ""
        )
        + f"{text}</span>"
        for field, text in texts
    ]
    shown = f'<strong dir="auto">{escaped(called)}</strong> ' if called else ""
    number = f'<span class="number">#{preview.position:,}</span>'
    return f'<li>{"".join(pictures)}<div class="caption">{shown}{number}{"".join(lines)}</div></li>'


def _picture(value: Value, alt: str, *, is_alone: bool) -> str:
    kinds = [] if is_alone else ["part"]
    if max(value.width, value.height) <= _PIXELATED:
        kinds.append("small")
    if value.height and value.width >= _FLAT * value.height:
        kinds.append("flat")
    size = f' width="{value.width}" height="{value.height}"' if value.width and value.height else ""
    style = f' class="{" ".join(kinds)}"' if kinds else ""
    return f'<img src="{escaped(value.image)}" alt="{escaped(alt)}"{size}{style} loading="lazy" decoding="async">'


def label_text(label: bytes, names: Mapping[int, str]) -> str:
    """Returns the display name of a label: the name of its class, else its text."""
    text = label.decode("utf-8", "replace")
    number = text.removeprefix("-")
    return _shortened(names.get(int(text), text) if number.isascii() and number.isdigit() else text)


def _shortened(name: str) -> str:
    return name if len(name) <= _MAX_NAME else f"{name[:_MAX_NAME]}\N{HORIZONTAL ELLIPSIS}"


def _classes(content: PageContent) -> str:
    names = {number: name for name, number in content.classes.items()}
    histogram = content.statistics.histogram()
    if not histogram:
        if not content.classes:
            return ""
        shown = list(content.classes.items())[:_MAX_CLASSES]
        rest = len(content.classes) - len(shown)
        listed = ", ".join(f"{escaped(_shortened(name))} ({number})" for name, number in shown)
        return _section(
            "classes",
            "Classes",
            f'<p dir="auto">{listed}{f" and {rest:,} more" if rest else ""}</p>',
        )
    total = sum(count for _, count in histogram)
    order = "in their order"
    if len(histogram) > _MAX_BARS:
        histogram = sorted(histogram, key=lambda item: (-item[1], label_order(item)))
        order = f"the {_MAX_BARS} most frequent of {len(histogram):,}"
    shown_bars = histogram[:_MAX_BARS]
    most = max(count for _, count in shown_bars)
    rows = "\n".join(
        f'<tr><th scope="row" dir="auto">{escaped(label_text(label, names))}</th>'
        f'<td class="bar"><svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="{count * 100 / most:.2f}" height="10" rx="1"/></svg></td>'
        f'<td class="n">{count:,}</td><td class="n">{count * 100 / total:.1f} %</td></tr>'
        for label, count in shown_bars
    )
    field = next(
        (f.name for f in content.statistics.fields() if f.suffix == content.statistics.label),
        "",
    )
    return _section(
        "classes",
        "Classes",
        f'<p class="note">How many samples each has, {order}; the label is the field '
        f"<code>{escaped(field)}</code>.</p>\n"
        '<div class="scroll"><table class="bars"><thead><tr><th scope="col">Class</th>'
        '<th scope="col">Share</th><th scope="col" class="n">Samples</th>'
        f'<th scope="col" class="n">Of all</th></tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>',
    )


def _fields(content: PageContent) -> str:
    statistics = content.statistics
    fields = statistics.fields()
    if not fields:
        return ""
    details = _details(content.previews)
    rows = "\n".join(
        f'<tr><th scope="row"><code dir="auto">{escaped(field.name)}</code></th>'
        f"<td>{escaped(details.get(field.name) or _codec_text(field))}</td>"
        f'<td class="n">{_size(statistics, field)}</td></tr>'
        for field in fields[:_MAX_FIELDS]
    )
    notes = []
    if details:
        notes.append("Shapes and sizes are those of the samples above.")
    if len(fields) > _MAX_FIELDS:
        notes.append(f"{len(fields) - _MAX_FIELDS:,} more fields are not listed.")
    if statistics.others:
        notes.append(f"{statistics.others:,} samples have fields of their own.")
    note = f'\n<p class="note">{" ".join(notes)}</p>' if notes else ""
    kind = {"tuple": "a tuple", "list": "a list", "dict": "a dict"}.get(
        getattr(statistics.schema, "kind", ""), "one value"
    )
    if statistics.inline:
        kind = "a dict" if isinstance(statistics.inline[0].path[0], str) else "a tuple or list"
    return _section(
        "fields",
        "Fields",
        f'<p class="note">Each sample is {kind}.</p>\n<div class="scroll"><table><thead><tr>'
        '<th scope="col">Field</th><th scope="col">What it is</th><th scope="col" class="n">Size in all</th></tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div>{note}",
    )


def _size(statistics: Statistics, field: Field) -> str:
    size = statistics.sizes.get(field.suffix)
    return human_size(size) if size is not None else ""


# Type names of fields for which no sample is shown.
_CODECS = {
    "str": "text",
    "json": "a number, True, False, None or a container",
    "ndarray": "array",
    "numpy": "NumPy scalar",
    "png": "image",
    "pil": "image",
}
# The parts of a description that vary between values of a field: length, bytes or seconds.
_LENGTH = re.compile(
    r"(?:, [\d,]+ characters| of [\d,]+|, \d[\d.,]* [kMGTP]?B)$|, [\d.]+ s(?=, [\d,]+ Hz$)"
)


def _codec_text(field: Field) -> str:
    if field.codec.startswith("image:"):
        return "image"
    return _CODECS.get(field.codec, field.codec)


def _details(previews: Iterable[Preview]) -> dict[str, str]:
    """Describes the type of each field from the samples shown, with at most three variants each."""
    kinds: dict[str, list[str]] = {}
    for preview in previews:
        for value in preview.values:
            found = kinds.setdefault(value.field, [])
            detail = _LENGTH.sub("", value.detail)
            if detail not in found:
                found.append(detail)
    return {
        name: "; ".join(found[:3]) + ("; and others" if len(found) > 3 else "")  # noqa: PLR2004
        for name, found in kinds.items()
    }


def _citation(card: DatasetCard | None) -> str:
    if card is None or not card.citation:
        return ""
    return _section(
        "citation",
        "Cite it",
        f'<pre class="wrap" tabindex="0" dir="auto"><code>{escaped(card.citation)}</code></pre>',
    )


def _verifying() -> str:
    return _section(
        "verify",
        "How it is verified",
        """<p>The CID of this folder is a hash of everything in it. <code>ipfs-dataset</code> compares each block of data
with its CID before a byte of it is used, whichever gateway or node sent it; data that does not match is fetched from
another source. So take the CID from where you trust it, such as a paper or a repository.</p>
<p class="note">Browsers do not verify this page, so that a gateway could show another one. Your own node verifies
it.</p>""",
    )


def _files(content: PageContent) -> str:
    links = ", ".join(f'<a href="{escaped(name)}">{escaped(name)}</a>' for name in content.files)
    shards = content.shards
    rows = "\n".join(
        f'<tr><th scope="row"><a href="{escaped(shard.path)}">{escaped(shard.path)}</a></th>'
        f'<td class="n">{shard.samples:,}</td><td class="n">{human_size(shard.size)}</td>'
        f"<td><code>{escaped(shard.cid)}</code></td></tr>"
        for shard in shards[:_MAX_SHARDS]
    )
    parts = [f"<p>Beside this page: {links}.</p>"] if links else []
    if rows:
        rest = len(shards) - _MAX_SHARDS
        more = (
            f'\n<p class="note">{rest:,} more are in <a href="shards/">shards/</a>.</p>'
            if rest > 0
            else ""
        )
        parts.append(
            f"<details><summary>{len(shards):,} TAR file{'s' if len(shards) != 1 else ''} with the samples</summary>\n"
            '<div class="scroll"><table><thead><tr><th scope="col">File</th><th scope="col" class="n">Samples</th>'
            f'<th scope="col" class="n">Size</th><th scope="col">CID</th></tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>'
            f"{more}</details>"
        )
    return _section("files", "Files", "\n".join(parts)) if parts else ""
