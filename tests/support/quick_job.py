"""Hyperparameters for a training that takes only seconds."""

from __future__ import annotations

QUICK = {
    "num_classes": "4",
    "use_pretrained_model": "False",
    "crop_size": "24",
    "base_size": "48",
    "mini_batch_size": "4",
    "validation_mini_batch_size": "4",
    "epochs": "2",
}
