"""What this process used of the store, for the record of its run: shards with their seconds, and items without a result."""

shards: dict[str, float] = {}
left_out: dict[str, str] = {}


def clear() -> None:
    """Forget everything (a new run begins)."""
    shards.clear()
    left_out.clear()
