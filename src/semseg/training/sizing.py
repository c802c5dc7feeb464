"""Says, before the first epoch, how a training is divided among its devices."""

from __future__ import annotations

from semseg.networks.definitions import BACKBONES, NETWORKS, by_name
from semseg.networks.training_memory import training_bytes
from semseg.sagemaker.log_lines import FOR_PEOPLE, LOGGER
from semseg.training.job import Job


def log_division(job: Job) -> None:
    """Logs the devices, the hosts, the images on each device and the memory that these take; nothing for one device."""
    devices, settings = job.devices, job.settings
    if devices == 1:
        return
    least, rest = divmod(settings.mini_batch_size, devices)
    most = least + bool(rest)
    network, backbone = by_name(settings.algorithm, NETWORKS), by_name(settings.backbone, BACKBONES)
    half = settings.precision_dtype != "float32"
    needed = training_bytes(network, backbone, settings.num_classes, most, settings.crop_size, half=half)
    LOGGER.info(
        "Training on %d devices, %d on each of %d hosts. An update takes %d images, %s on each device, and there about "
        "%.1f GiB of memory (estimated).",
        devices,
        devices // job.ranks.hosts,
        job.ranks.hosts,
        settings.mini_batch_size,
        f"{least} or {most}" if rest else str(most),
        needed / 2**30,
        extra=FOR_PEOPLE,
    )
