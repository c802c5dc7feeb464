"""Times training steps of torchvision's fcn_resnet50 as its references train it, to compare TFLOP/s."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from importlib import import_module
from typing import Any, SupportsFloat

import torch
from _gpu_common import CLASSES, LEARNING_RATE, PRECISIONS, Bench, Plan, noise, seconds_a_step
from _gpu_torch import DTYPES, late
from _gpu_train import measured
from bench_stages import Row, SkippedError
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

CROP = 480
SECONDS = 3.0
AUX_WEIGHT = 0.5
"""As references/segmentation/train.py weighs the auxiliary head."""


def rows(plan: Plan) -> Iterator[Row]:
    """This project's FCN on ResNet-50, then torchvision's in both memory formats, in one process."""
    if importlib.util.find_spec("torchvision") is None:
        raise SkippedError("torchvision is not installed")
    bench = Bench(plan)
    crop, precision = plan.side(CROP), bench.precisions()[0]
    ours = measured(bench, "fcn", "resnet-50", crop, precision)
    yield ours
    for layout in (torch.channels_last, torch.contiguous_format):
        row = theirs(bench, ours["batch"], crop, precision, layout)
        yield row | {"tflops_of_theirs": round(ours["tflops"] / row["tflops"], 3)}


def theirs(bench: Bench, images: int, crop: int, precision: str, layout: Any) -> Row:
    """A row of torchvision's network, with PyTorch's SGD."""
    device = bench.device.handle
    bench.forget_peak()
    flop = training_flop(crop)
    network = built().to(device, memory_format=layout).train()
    optimizer = torch.optim.SGD(network.parameters(), LEARNING_RATE, momentum=0.9, weight_decay=1e-4)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")
    pixels = torch.from_numpy(noise(images, crop, crop)).permute(0, 3, 1, 2).float().div(255)
    pixels = pixels.to(device, memory_format=layout)
    labels = torch.randint(0, CLASSES, (images, crop, crop), device=device)
    torch.backends.cudnn.benchmark = True

    def step() -> SupportsFloat:
        with torch.autocast(device.type, DTYPES[precision], enabled=precision != "float32"):
            outputs = network(pixels)
            loss = functional.cross_entropy(outputs["out"], labels)
            loss = loss + AUX_WEIGHT * functional.cross_entropy(outputs["aux"], labels)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return late(loss)

    rate = images / seconds_a_step(step, bench.plan.seconds(SECONDS))
    name = "channels_last" if layout == torch.channels_last else "default"
    return {
        "what": f"torchvision fcn_resnet50 {crop} {PRECISIONS[precision]} {name}",
        "batch": images,
        "images_s": round(rate, 2),
        "tflops": round(rate * flop / 1e12, 3),
        "peak_gib": bench.peak_gib(),
    }


def built() -> Any:
    """torchvision's network with random values."""
    models = import_module("torchvision.models.segmentation")
    return models.fcn_resnet50(weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=True)


def training_flop(crop: int) -> int:
    """The operations of a training step of one image, counted on shapes alone."""
    with torch.device("meta"):
        network = built().train()
    with FlopCounterMode(display=False) as counter:
        outputs = network(torch.empty((2, 3, crop, crop), device="meta"))
        (outputs["out"].sum() + outputs["aux"].sum()).backward()
    return int(counter.get_total_flops()) // 2
