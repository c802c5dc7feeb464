"""What a training run has come to so far: the sink from which the report and the model card are written."""

from __future__ import annotations

from semseg.reporting.events import EpochEnded, Event, Quantized, Resumed, Scored


class History:
    """Keeps the epochs that have ended, those before a restart included, and the scores of the best model.

    scored: on whole images, by split. quantized: the comparison with int8, None without one.
    """

    def __init__(self) -> None:
        self.epochs: list[EpochEnded] = []
        self.scored: dict[str, Scored] = {}
        self.quantized: Quantized | None = None

    @property
    def best(self) -> EpochEnded | None:
        """The epoch whose parameters are kept as the best; None before the first has ended."""
        return next((epoch for epoch in reversed(self.epochs) if epoch.improved), None)

    def __call__(self, event: Event) -> None:
        """Keeps what the event adds."""
        match event:
            case Resumed():
                self.epochs[:] = event.epochs
            case EpochEnded():
                self.epochs.append(event)
            case Scored():
                self.scored[event.split] = event
            case Quantized():
                self.quantized = event

    def close(self) -> None:
        """Does nothing: what was kept stays."""
