"""Tests of check_links.py: it finds broken links, and nothing else."""

import os
import tempfile
import unittest
from pathlib import Path

import check_links

FIRST = """# A title: with `code(8)` & more

[file](b.md) [anchor](#a-title-with-code8--more) [second](b.md#twice-1) [elsewhere](https://example.com/x.md)
[missing](c.md) [no heading](b.md#nope) ![image](i.svg) [outside](../x.md)

    [code](indented.md)

`[code](span.md)`

```
[code](fenced.md)
```

[reference]: gone.md
"""
SECOND = "# B\n\n## Twice\n\n## Twice\n\n[third](#twice-2)\n"
PAGE = '<a id="q" href="#q"></a><a href="#z"></a><img src="n.png"><a href="../../b.md#b"></a>'


class Links(unittest.TestCase):
    def test_broken_links_are_found(self) -> None:
        before = Path.cwd()
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            self.addCleanup(os.chdir, before)
            for name, text in {
                "a.md": FIRST,
                "b.md": SECOND,
                "docs/book/i.html": PAGE,
                "docs/src/i.md": "",
                "docs/src/left.md": "",
                "docs/src/SUMMARY.md": "",
            }.items():
                Path(name).parent.mkdir(parents=True, exist_ok=True)
                Path(name).write_text(text)
            found = check_links.errors([Path("a.md"), Path("b.md")], [Path("docs/book/i.html")])
            os.chdir(before)
        self.assertEqual(
            found,
            [
                "a.md: ../x.md: leaves the repository",
                "a.md: b.md#nope: b.md has no heading #nope",
                "a.md: c.md: c.md does not exist",
                "a.md: gone.md: gone.md does not exist",
                "a.md: i.svg: i.svg does not exist",
                "b.md: #twice-2: b.md has no heading #twice-2",
                "docs/book/i.html: #z: docs/book/i.html has no heading #z",
                "docs/book/i.html: n.png: docs/book/n.png does not exist",
                "docs/src/left.md: SUMMARY.md does not name this page",
            ],
        )


if __name__ == "__main__":
    unittest.main()
