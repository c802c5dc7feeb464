"""Trains in a group of one process through DistributedDataParallel, with nccl, or gloo on a CPU.

It shows that the network can be wrapped, that its gradients stay the same, and what the wrapper costs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, SupportsFloat

import torch
from _gpu_common import CLASSES, PRECISIONS, Bench, Plan, noise_batch, seconds_a_step
from _gpu_torch import heads, late
from bench_stages import Row
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from untrained import initial_arrays

from semseg.engines.torch.interpolation import resize
from semseg.engines.torch.losses import MixedCrossEntropy
from semseg.engines.torch.network import TorchNetwork, assign
from semseg.networks.definitions import BACKBONES, NETWORKS, by_name

CROP = 480
SECONDS = 2.0


def rows(plan: Plan) -> Iterator[Row]:
    """A row for each precision."""
    bench = Bench(plan)
    device = bench.device.handle
    with tempfile.TemporaryDirectory() as folder:
        name = "nccl" if bench.device.gpus else "gloo"
        options = {"device_id": device} if bench.device.gpus else {}
        store = distributed.FileStore(str(Path(folder) / "store"), 1)
        distributed.init_process_group(name, store=store, rank=0, world_size=1, **options)
        try:
            for precision in bench.precisions():
                yield compared(bench, precision, name)
        finally:
            distributed.destroy_process_group()


def compared(bench: Bench, precision: str, group: str) -> Row:
    """Gradients and time of a wrapped network beside those of the same network alone."""
    device, crop = bench.device.handle, bench.plan.side(CROP)
    network = TorchNetwork(by_name("fcn", NETWORKS), by_name("resnet-50", BACKBONES), CLASSES, auxiliary=True)
    assign(network.tensors(), initial_arrays("fcn", "resnet-50", CLASSES), "initial values")
    network = network.to(device).train()
    batch = noise_batch(bench.plan.batch, crop)
    images = torch.from_numpy(batch.images).to(device).permute(0, 3, 1, 2).float().div_(255)
    labels = torch.from_numpy(batch.labels).to(device).long()
    torch.backends.cudnn.benchmark = True

    def step(module: Any) -> SupportsFloat:
        network.zero_grad()
        torch.manual_seed(0)
        logits = [resize(x, crop, crop) for x in heads(module, images, precision)]
        objective = MixedCrossEntropy(0.5)(logits, labels)
        objective.total.backward()
        return late(objective.value)

    def gradients(module: Any) -> torch.Tensor:
        float(step(module))
        return torch.cat([x.grad.flatten() for x in network.parameters()])

    again = gradients(network)  # the same once more, for what does not repeat without the wrapper either
    alone, alone_seconds = gradients(network), seconds_a_step(lambda: step(network), bench.plan.seconds(SECONDS))
    wrapped = DistributedDataParallel(network, gradient_as_bucket_view=True)
    found = gradients(wrapped)
    return {
        "what": f"fcn resnet-50 {crop} {PRECISIONS[precision]} {group}",
        "gradient_error": float((found - alone).abs().max() / alone.abs().max()),
        "gradient_error_alone": float((again - alone).abs().max() / alone.abs().max()),
        "of_time_alone": round(seconds_a_step(lambda: step(wrapped), bench.plan.seconds(SECONDS)) / alone_seconds, 3),
    }
