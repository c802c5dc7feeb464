"""The sink that writes the built-in algorithm's log lines."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from semseg.errors import count_of
from semseg.reporting.events import EpochEnded, EpochTrained, EpochValidated, Event, ModelSaved, Quantized, Scored, Step
from semseg.sagemaker import log_lines
from semseg.sagemaker.log_lines import LOGGER
from semseg.types import Classes

COUNTERS = (
    "Total Records Seen",
    "Total Batches Seen",
    "Max Records Seen Between Resets",
    "Max Batches Seen Between Resets",
    "Reset Count",
    "Number of Records Since Last Reset",
    "Number of Batches Since Last Reset",
)

_NOT_FINITE = (
    "After %s the network's values for validation images are not finite, so that there is no validation loss. Perhaps "
    "the learning rate is too high: try a tenth of learning_rate, or _gradient_clip=1."
)


class LogSink:
    """Logs events in the built-in algorithm's format.

    Epochs that ended before a restart are not logged again.
    host: this machine's name. frequency: iterations between two progress notices. clock: seconds since 1970. begun:
    whether another process of this run has logged its beginning. classes: each that has a name gets a line with its IOU
    on whole images.
    """

    def __init__(
        self,
        host: str,
        frequency: int,
        clock: Callable[[], float] = time.time,
        begun: bool = False,
        classes: Classes | None = None,
    ) -> None:
        self._host = host
        self._frequency = frequency
        self._clock = clock
        self._names = classes.names if classes else ()
        self._start = clock()
        if not begun:
            self._metrics("init_train_data_iter", resets=0)
        self._since, self._samples = clock(), 0

    def __call__(self, event: Event) -> None:
        """Logs one event."""
        match event:
            case Step():
                self._step(event)
            case EpochTrained():
                self._begin_phase()
                LOGGER.info(log_lines.quality(self._host, event.epoch, "train loss", event.loss))
                LOGGER.info(log_lines.throughput(self._host, event.epoch, "train", event.samples_per_second))
                LOGGER.info(
                    "Epoch %d: %.1f %% of the training time was spent waiting for data.",
                    event.epoch,
                    100 * event.waiting,
                )
            case EpochValidated():
                accuracy, mean_iou = event.pixel_accuracy, event.mean_iou
                LOGGER.info(log_lines.quality(self._host, event.epoch, "validation pixel_accuracy", accuracy))
                LOGGER.info(log_lines.quality(self._host, event.epoch, "validation mIOU", mean_iou))
                LOGGER.info(log_lines.throughput(self._host, event.epoch, "validation", event.samples_per_second))
                if math.isfinite(event.loss):
                    LOGGER.info(log_lines.quality(self._host, event.epoch, "validation loss", event.loss))
                else:
                    LOGGER.warning(_NOT_FINITE, count_of(event.epoch + 1, "epoch"))
                if event.mean_iou_present is not None:
                    present = event.mean_iou_present
                    LOGGER.info(log_lines.quality(self._host, event.epoch, "validation mIOU_present", present))
            case EpochEnded():
                LOGGER.info(log_lines.progress(self._host, event.trained.epoch + 1, event.epochs))
                self._metrics("training_data_iter", resets=event.trained.epoch + 1, epoch=event.trained.epoch)
                self._begin_phase()
            case Scored():
                self._scored(event)
            case ModelSaved():
                LOGGER.info("Serializing model to %s", event.path)
            case Quantized():
                kept = "kept" if event.kept else "discarded"
                LOGGER.info(
                    "Validation mIOU in f32: %s, in int8: %s, on %d images. int8 is %s.",
                    event.f32,
                    event.int8,
                    event.images,
                    kept,
                )

    def close(self) -> None:
        """Does nothing: each line is written at once."""

    def _step(self, step: Step) -> None:
        self._samples += step.samples
        if step.iteration % self._frequency == 0:
            now = self._clock()
            speed = self._samples / max(now - self._since, 1e-9)
            LOGGER.info(log_lines.progress_notice(step.epoch, step.iteration, speed, step.learning_rate))
            self._since, self._samples = now, 0

    def _begin_phase(self) -> None:
        """Starts measuring the speed for the first notice of a training or validation phase."""
        self._since, self._samples = self._clock(), 0

    def _scored(self, event: Scored) -> None:
        LOGGER.info("The best model on the %d whole images of %s:", event.images, event.split)
        values = {
            "pixel_accuracy": event.pixel_accuracy,
            "mIOU": event.mean_iou,
            "mIOU_present": event.mean_iou_present,
        }
        for name, value in values.items():
            if value is not None:
                LOGGER.info(log_lines.final_quality(self._host, f"{event.split} {name}", value))
        for named, iou in zip(self._names, event.iou, strict=False):
            if named is not None and iou is not None:
                LOGGER.info(log_lines.final_quality(self._host, f"{event.split} IOU of {named}", iou))

    def _metrics(self, meta: str, resets: int, epoch: int | None = None) -> None:
        """Prints the data iterator's counters; the built-in algorithm only ever changed the Reset Count."""
        dimensions: dict[str, str | int] = {"Host": self._host, "Operation": "training"}
        dimensions |= {"Meta": meta} if epoch is None else {"epoch": epoch, "Meta": meta}
        values = {name: float(resets) if name == "Reset Count" else 0.0 for name in COUNTERS}
        now = self._clock()
        print(log_lines.metrics(self._start, now, dimensions, values), flush=True)
        self._start = now
