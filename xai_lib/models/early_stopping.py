"""Early stopping: the weights of the best epoch, and when there has been none for too long."""

from torch import Tensor, nn

from xai_lib.errors import ConfigError


class EarlyStopping:
    """Watches one validation score per epoch, of which larger is better, and keeps the weights of the best epoch.

    The first of equal scores counts as the best, so that an epoch without any gain is an epoch without a gain.

    Args:
        net: whose parameters and buffers are kept and put back.
        patience: how many epochs without a gain are waited for, at least 1.

    Raises:
        ConfigError: patience below 1 or no whole number.

    >>> net = nn.Linear(1, 1)
    >>> watch = EarlyStopping(net, patience=2)
    >>> [watch.stops(score) for score in (0.5, 0.75, 0.75, 0.5)], watch.best_epoch
    ([False, False, False, True], 2)
    """

    def __init__(self, net: nn.Module, patience: int) -> None:
        if isinstance(patience, bool) or not isinstance(patience, int) or patience < 1:
            raise ConfigError(f"patience={patience!r}: expected a whole number of epochs, at least 1, or None")
        self.best_epoch = 0
        """Of the best score so far, from 1; 0 before the first."""
        self._net, self._patience = net, patience
        self._best, self._seen = float("-inf"), 0
        self._state: dict[str, Tensor] = {}

    def stops(self, score: float) -> bool:
        """Take the score of the epoch that just ended, and say whether it was the last one to wait for."""
        self._seen += 1
        if score > self._best:
            self._best, self.best_epoch = score, self._seen
            self._state = {name: value.detach().clone() for name, value in self._net.state_dict().items()}
        return self._seen - self.best_epoch >= self._patience

    def restore(self) -> None:
        """Give the net the weights that it had after the best epoch; nothing happens before the first score."""
        if self._state:
            self._net.load_state_dict(self._state)
