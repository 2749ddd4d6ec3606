"""`python -m xai_lib.compendium` is the `xai` command."""

import sys

from xai_lib.compendium.cli import main

if __name__ == "__main__":
    sys.exit(main())
