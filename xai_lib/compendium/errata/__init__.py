"""Errors found in the five documents, each shown by a script: what follows from the document's own definitions or numbers,
beside what is printed.

Numbers in the scripts are the documents' own. They are said as we should like ours to be said: every one was found because the
document gave enough to check it.
"""

from xai_lib.compendium.catalogue import Catalogue, Shown

ERRATA = Catalogue()
erratum = ERRATA.enter

from xai_lib.compendium.errata import of_000, of_001, of_002, of_003_004  # noqa: E402, F401

__all__ = ["ERRATA", "Shown", "erratum"]
