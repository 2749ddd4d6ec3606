"""nbformat, imported without the two and a half seconds that it does not need.

It brings jsonschema, which compiles a grammar of internationalised addresses (`rfc3987_syntax`) as soon as that package is
installed, for a check that no notebook asks for. jsonschema does without it when the import fails.
"""

import sys

_GRAMMAR = "rfc3987_syntax"
_known = sys.modules.get(_GRAMMAR)
sys.modules[_GRAMMAR] = None  # type: ignore[assignment]
try:
    import nbformat
finally:
    if _known is None:
        del sys.modules[_GRAMMAR]
    else:
        sys.modules[_GRAMMAR] = _known

NotebookNode = nbformat.NotebookNode

__all__ = ["NotebookNode", "nbformat"]
