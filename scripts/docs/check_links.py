"""Checks the relative links of every Markdown file that git knows, and of the manual that mdbook made of them.

    check_links.py

Runs in the root of the repository; scripts/docs.sh calls it. A link names a file that exists and, with
#ANCHOR, a heading or an id in it; SUMMARY.md names every page. Prints each error, and ends with 1 if there
is one. Links with a scheme (https:) are skipped.
"""

import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

BOOK = Path("docs/book")
SOURCES = Path("docs/src")
# [text](target "title") and [label]: target; images are links, too.
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)|^ {0,3}\[[^\]]+\]:\s*<?([^\s>]+)", re.MULTILINE)


@cache
def prose(path: Path) -> str:
    """Returns the text of a Markdown file without code: fenced, indented or between backquotes."""
    lines, fence = [], None
    for line in path.read_text().splitlines():
        mark = re.match(r" {0,3}(```+|~~~+)", line)
        if fence or mark:
            fence = None if fence and mark and mark[1].startswith(fence) else fence or mark[1]
        elif not line.startswith("    "):
            lines.append(re.sub(r"(`+).+?\1", lambda code: code[0] if line.startswith("#") else "", line))
    return "\n".join(lines)


@cache
def anchors(path: Path) -> set[str]:
    """Returns the anchors of a Markdown or HTML file."""
    if path.suffix == ".html":
        return page(path).ids
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6}\s+(.+?)\s*#*$", prose(path), re.MULTILINE):
        text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)|`", lambda link: link[1] or "", heading)
        slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        number = 1
        while (name := slug if number == 1 else f"{slug}-{number - 1}") in found:
            number += 1
        found.add(name)
    return found | set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", path.read_text()))


class Page(HTMLParser):
    """The links and the ids of an HTML file."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and (name == "id" or (tag, name) == ("a", "name")):
                self.ids.add(value)
            elif value and name in ("href", "src"):
                self.links.append(value)


@cache
def page(path: Path) -> Page:
    """Parses an HTML file."""
    parsed = Page()
    parsed.feed(path.read_text())
    return parsed


def error(source: Path, link: str) -> str | None:
    """Returns what is wrong with a link of a file, or nothing."""
    target = urlsplit(link)
    if target.scheme or target.netloc:
        return None
    path = source
    if target.path:
        path = (source.parent / unquote(target.path)).resolve()
        if not path.is_relative_to(Path.cwd()):
            return "leaves the repository"
        path = path.relative_to(Path.cwd())
    if not path.exists():
        return f"{path} does not exist"
    if target.fragment and path.suffix in (".md", ".html") and unquote(target.fragment) not in anchors(path):
        return f"{path} has no heading #{target.fragment}"
    return None


def markdown_links(path: Path) -> list[str]:
    """Returns the targets of the links of a Markdown file."""
    return [found[1] or found[2] for found in LINK.finditer(prose(path))]


def errors(markdown: list[Path], pages: list[Path]) -> list[str]:
    """Returns what is wrong with the links of these files, and which pages are not in the book."""
    links = [(path, link) for path in markdown for link in markdown_links(path)]
    links += [(path, link) for path in pages for link in page(path).links]
    found = sorted({f"{source}: {link}: {why}" for source, link in links if (why := error(source, link))})
    chapters = {path.relative_to(BOOK).with_suffix(".md") for path in pages} | {Path("SUMMARY.md")}
    sources = {path.relative_to(SOURCES) for path in SOURCES.rglob("*.md")}
    return found + [f"{SOURCES / path}: SUMMARY.md does not name this page" for path in sorted(sources - chapters)]


def main() -> int:
    """Prints the errors and returns the exit code."""
    listed = subprocess.run(["git", "ls-files", "-z", "*.md"], check=True, capture_output=True, text=True).stdout
    markdown = [Path(name) for name in listed.split("\0") if name]
    pages = sorted(BOOK.rglob("*.html"))
    if not markdown or not pages:
        print(f"there is nothing to check: {len(markdown)} Markdown files, {len(pages)} pages in {BOOK}")
        return 1
    found = errors(markdown, pages)
    print("\n".join(found) or f"the links of {len(markdown)} Markdown files and {len(pages)} pages of the book resolve")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
