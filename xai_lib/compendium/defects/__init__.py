"""Where the libraries underneath are silently wrong: one short script each, with the right answer beside theirs.

Every script is run by a strict expected-failure test, so that a release that repairs one is noticed, and by the book's page
about them. They are said with respect: all of these libraries are better than what we would have without them.
"""

from xai_lib.compendium.catalogue import Catalogue, Shown

DEFECTS = Catalogue()
defect = DEFECTS.enter

from xai_lib.compendium.defects import of_captum, of_others, of_quantus  # noqa: E402, F401

__all__ = ["DEFECTS", "Shown", "defect"]
