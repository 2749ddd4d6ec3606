"""Numbers as text, one function for figures, tables and alt texts: significant digits, true minus sign, no numpy repr.

>>> number(0.0123456), number(-2.0), number(float("nan")), number(1234567.0), number(12)
('0.0123', '−2.00', '–', '1.23 × 10⁶', '12')
"""

import math
from typing import Any

from xai_lib.stats import Estimate

_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def number(value: Any, digits: int = 3, *, reason: str = "") -> str:
    """A number with `digits` significant digits; whole numbers as they are; text unchanged.

    Args:
        value: Python or numpy number, 0-d tensor, bool (yes/no), None or text.
        digits: significant digits of a float, at least 1.
        reason: why a NaN or None is undefined; shown after its dash.

    >>> number(float("nan"), reason="constant map"), number(-0.0), number(1e-7, 2)
    ('– (constant map)', '0', '1.0 × 10⁻⁷')
    """
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is not None and not isinstance(value, int | float):
        return str(value)
    if value is None or math.isnan(value):
        return f"– ({reason})" if reason else "–"
    if isinstance(value, int) and abs(value) < 10**6:
        return str(value).replace("-", "−")
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    mantissa, _, power = f"{float(value):#.{digits}g}".partition("e")
    scaled = f" × 10{str(int(power)).translate(_SUPERSCRIPT)}" if power else ""
    return mantissa.rstrip(".").replace("-", "−") + scaled


def estimate_text(estimate: Estimate, digits: int = 3) -> str:
    """Value, interval and count of an estimate.

    >>> estimate_text(Estimate(0.5, 0.4, 0.612, 20)), estimate_text(Estimate(0.5, float("nan"), float("nan"), 1, 2))
    ('0.500 [0.400, 0.612], n = 20', '0.500 (no interval), n = 1, 2 undefined')
    """
    undefined = f", {estimate.dropped} undefined" if estimate.dropped else ""
    if estimate.n == 0:
        return f"– (no values{undefined})"
    ends = "(no interval)"
    if not (math.isnan(estimate.low) or math.isnan(estimate.high)):
        ends = f"[{number(estimate.low, digits)}, {number(estimate.high, digits)}]"
    return f"{number(estimate.value, digits)} {ends}, n = {estimate.n}{undefined}"
