"""The code blocks of a page, in order, each with what the comment in front of it says of it.

A comment `<!-- WORD: text -->` in front of a block says how it is tested; a page's readers do not see it.

    file: NAME       the block is this file in the page's folder (YAML: a configuration, which must be valid)
    taxonomy: NAME   the block is this file, a taxonomy
    part             the block is a part of a configuration, valid beside a source
    parse: WHY       a shell block that is not run, for that reason: bash and the command line check each command
    prints           a block of text is what the shell block before it prints
    compile: WHY     a Python block that is compiled and not run, for that reason
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))

_BLOCK = re.compile(
    r"(?:^<!-- (?P<word>\w+)(?:: (?P<text>[^\n]*?))? -->\n)?^```(?P<language>[^\n]*)\n(?P<code>.*?)^```$",
    flags=re.MULTILINE | re.DOTALL,
)
_SILENT = ("text", "")
"""Languages of blocks that hold nothing to run."""


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        language: "python", "sh", "yaml", ...
        code: what stands in it.
        line: of the page, where the block begins.
        word: of the comment in front of it, "" without one.
        text: of that comment.
    """

    language: str
    code: str
    line: int
    word: str
    text: str


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page that hold code; a directive such as {include} holds none."""
    source = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(source):
        language = match["language"].strip()
        if (language in _SILENT and not match["word"]) or language.startswith("{"):
            continue
        line = source[: match.start("code")].count("\n")
        found.append(Block(language, match["code"], line, match["word"] or "", match["text"] or ""))
    return found


def commands_of(code: str) -> list[str]:
    """Return the commands of a shell block: lines, continued ones joined, without comments."""
    joined = re.sub(r"\\\n\s*", " ", code)
    lines = (re.sub(r"(^|\s)#.*$", "", line).strip() for line in joined.splitlines())
    return [line for line in lines if line]
