"""Generates a data set of discs, squares and triangles on textured ground, in the layout of four directories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semseg.codecs.colors import color_name
from semseg.files import naming_full_disk
from semseg.types import UInt8

Floats = NDArray[np.floating[Any]]

CLASSES = ("background", "disc", "square", "triangle")

COLORS = (0x000000, 0xF07828, 0x3C6EE6, 0x3CB45A)
_COLOURS = {1: ((235, 125, 45), (190, 50, 40)), 2: ((75, 130, 235), (40, 50, 140)), 3: ((120, 200, 90), (20, 110, 80))}


def write_shapes(directory: Path, train: int, validation: int, size: tuple[int, int], seed: int) -> None:
    """Write JPEG images of `size` (width, height) and their PNG masks (mode P) below `directory`.

    train, validation: the number of images of each split. The directories are train, train_annotation, validation and
    validation_annotation. The class ids are the indices of `CLASSES`. The same arguments produce the same files.
    Raises DiskFullError and OSError.
    """
    rng = np.random.default_rng(seed)
    for channel, count in (("train", train), ("validation", validation)):
        images, masks = directory / channel, directory / f"{channel}_annotation"
        images.mkdir(parents=True, exist_ok=True)
        masks.mkdir(exist_ok=True)
        for number in range(count):
            image, labels = draw(size, rng)
            mask = Image.fromarray(labels)
            mask.putpalette(b"".join(color.to_bytes(3) for color in COLORS))
            with naming_full_disk(images):
                Image.fromarray(image).save(images / f"{number:04}.jpg", quality=92)
            with naming_full_disk(masks):
                mask.save(masks / f"{number:04}.png")


def write_names(directory: Path) -> None:
    """Write the names and colours of the classes beside the masks that `write_shapes` has written to `directory`."""
    lines = [f"{name} {color_name(color)}\n" for name, color in zip(CLASSES, COLORS, strict=True)]
    for channel in ("train", "validation"):
        masks = directory / f"{channel}_annotation"
        with naming_full_disk(masks):
            (masks / "classes.txt").write_text("".join(lines))


def draw(size: tuple[int, int], rng: np.random.Generator) -> tuple[UInt8, UInt8]:
    """Draw an image of one to three shapes, uint8 (H, W, 3), and its mask, uint8 (H, W) of class ids 0 to 3."""
    width, height = size
    image = _ground(size, rng)
    labels = np.zeros((height, width), np.uint8)
    shapes = rng.permutation([1, 2, 3])[: rng.integers(1, 4)]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    for place, shape in enumerate(shapes):
        slot = width / len(shapes)
        radius = min(height, slot) * rng.uniform(0.36, 0.46)
        centre_x = (place + 0.5) * slot + rng.uniform(-1, 1) * max(0, slot / 2 - radius)
        centre_y = height / 2 + rng.uniform(-1, 1) * (height / 2 - radius)
        angle = rng.uniform(0, 2 * np.pi)
        u, v = _turned(x - centre_x, y - centre_y, angle)
        distance = _distance(shape, u, v, radius)
        below = _distance(shape, *_turned(x - centre_x - 2, y - centre_y - 2, angle), radius)
        shadow = np.clip(1 - below / 5, 0, 1) * 0.45
        cover = np.clip(0.5 - distance, 0, 1)[..., None]
        light = 1.1 - 0.3 * (y - centre_y + x - centre_x) / (2 * radius)
        paint = _texture(shape, u, v, radius, rng) * light[..., None]
        image = image * (1 - shadow[..., None]) * (1 - cover) + paint * cover
        labels[distance < 0] = shape
    grain = rng.normal(0, 4, image.shape)
    return np.clip(image + grain, 0, 255).astype(np.uint8), labels


def _turned(x: Floats, y: Floats, angle: float) -> tuple[Floats, Floats]:
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _distance(shape: int, u: Floats, v: Floats, radius: float) -> Floats:
    """The distance to the outline of a shape around (0, 0), in pixels, negative inside; radius: that of its corners."""
    if shape == 1:
        disc: Floats = np.hypot(u, v) - radius * 0.9
        return disc
    corners = 4 if shape == 2 else 3
    angles = np.arange(corners) * 2 * np.pi / corners
    sides = [u * np.cos(angle) + v * np.sin(angle) for angle in angles]
    distance: Floats = np.max(sides, axis=0) - radius * np.cos(np.pi / corners)
    return distance


def _texture(shape: int, u: Floats, v: Floats, radius: float, rng: np.random.Generator) -> Floats:
    """The texture of a shape, (H, W, 3), 0 to 255: rings on discs, checks on squares, stripes on triangles."""
    pitch = 2 * np.pi / (radius * rng.uniform(0.35, 0.5))
    waves = {1: np.sin(np.hypot(u, v) * pitch), 2: np.sin(u * pitch) * np.sin(v * pitch) * 2, 3: np.sin(u * pitch)}
    mix = np.clip(0.5 + waves[shape] * 1.5, 0, 1)[..., None]
    light, dark = (np.clip(np.array(colour) + rng.normal(0, 12, 3), 0, 255) for colour in _COLOURS[shape])
    paint: Floats = mix * light + (1 - mix) * dark
    return paint


def _ground(size: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Clouds of two pale colours, (H, W, 3), 0 to 255."""
    width, height = size
    clouds = np.zeros((height, width))
    for cells, strength in ((3, 0.6), (8, 0.3), (24, 0.2)):
        coarse = Image.fromarray(rng.random((cells, cells), np.float32))
        clouds += strength * np.asarray(coarse.resize(size, Image.Resampling.BICUBIC))
    pale, dim = rng.uniform(150, 225) + rng.normal(0, 14, (2, 3)) - [[0], [65]]
    ground: Floats = np.clip(clouds, 0, 1)[..., None] * (pale - dim) + dim
    return ground
