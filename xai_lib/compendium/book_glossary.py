"""Links to the glossary: the first use of each term on a page becomes a link to its entry."""

import re
from collections.abc import Sequence

PAGE = "book/glossary.md"
_BLOCK = re.compile(r"^```\{glossary\}\n(.*?)^```$", flags=re.M | re.S)
_PROTECTED = re.compile(
    r"^(?P<fence>`{3,}|~{3,}).*?^(?P=fence)\s*$"  # code and directives in backticks
    r"|^\$\$.*?^\$\$[^\n]*$"  # displayed mathematics
    r"|^\#[^\n]*$|^[ \t]*:{3,}[^\n]*$|^[ \t]*:[\w-]+:[^\n]*$|^\([\w:.-]+\)=[ \t]*$"  # headings, fences, options, targets
    r"|\{[\w:-]+\}`[^`]*`|`+[^`]+`+"  # roles, inline code
    r"|\$[^$\n]+\$"  # mathematics
    r"|!?\[[^\]]*\]\([^)]*\)|<[^>\n]+>|⟦[^⟧]*⟧",  # links, HTML, number tokens
    flags=re.M | re.S,
)


def terms(page: str) -> list[str]:
    """The terms of the glossary page, in its order.

    >>> terms("# Glossary\\n\\n```{glossary}\\nBaseline\\n  What stands for nothing.\\n\\nLogit\\n  A number.\\n```\\n")
    ['Baseline', 'Logit']
    """
    return [line for block in _BLOCK.findall(page) for line in block.splitlines() if line and not line[0].isspace()]


def link(texts: Sequence[str], known: Sequence[str]) -> list[str]:
    """The texts of one page, in order, with the first use of each term (singular or with an s, any case) made a link.

    Code, mathematics, headings, links, roles and number tokens are left alone.

    >>> link(["A logit, twice a logit.", "Logits."], ["Logit"])
    ['A {term}`logit <Logit>`, twice a logit.', 'Logits.']
    >>> link(["## Logit\\n\\n`logit` and $logit$ and logits"], ["Logit"])
    ['## Logit\\n\\n`logit` and $logit$ and {term}`logits <Logit>`']
    """
    left = {term.lower(): term for term in known}
    return [_linked(text, left) for text in texts]


def _linked(text: str, left: dict[str, str]) -> str:
    """The text with links; terms that were linked are taken out of `left`."""
    made, start = [], 0
    for found in [*_PROTECTED.finditer(text), None]:
        stop = found.start() if found else len(text)
        made.append(_plain(text[start:stop], left))
        if found:
            made.append(found.group())
            start = found.end()
    return "".join(made)


def _plain(text: str, left: dict[str, str]) -> str:
    if not left or not text.strip():
        return text
    longest_first = sorted(left, key=len, reverse=True)
    pattern = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, longest_first))})(s?)(?![\w-])", flags=re.I)

    def replaced(found: re.Match[str]) -> str:
        term = left.pop(found.group(1).lower(), None)
        return found.group() if term is None else f"{{term}}`{found.group()} <{term}>`"

    return pattern.sub(replaced, text)
