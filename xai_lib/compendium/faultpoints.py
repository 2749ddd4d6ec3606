"""Places where a test may strike: XAI_FAULT=point:nth:action, active only together with XAI_TESTING=1.

Actions: kill (SIGKILL to this very process), enospc (OSError, disk full), stop (Ctrl-C), cuda (a poisoned CUDA context).
"""

import errno
import os
import signal
from collections import Counter

from xai_lib.errors import ConfigError

_passed: Counter[str] = Counter()


def point(name: str) -> None:
    """Strike here if this is the asked passage through the asked point; otherwise nothing.

    Raises:
        ConfigError: XAI_FAULT cannot be read.
    """
    asked = os.environ.get("XAI_FAULT", "")
    if not asked or os.environ.get("XAI_TESTING") != "1":
        return
    try:
        where, number, action = asked.split(":")
        nth = int(number)
    except ValueError:
        raise ConfigError(f"XAI_FAULT={asked!r}: expected point:nth:action") from None
    if where != name:
        return
    _passed[name] += 1
    if _passed[name] != nth:
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "enospc":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    elif action == "stop":
        raise KeyboardInterrupt
    elif action == "cuda":
        raise RuntimeError("CUDA error: device-side assert triggered")
    else:
        raise ConfigError(f"XAI_FAULT={asked!r}: unknown action {action!r}; known: kill, enospc, stop, cuda")
