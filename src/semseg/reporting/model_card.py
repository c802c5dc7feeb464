"""The sink that writes a model card, README.md, beside a trained model."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from semseg.artifact.model_dir import CARD, LAST
from semseg.data.report import SplitReport
from semseg.errors import count_of, one_line
from semseg.files import replacing
from semseg.reporting.events import EpochValidated, Event, Failed, ModelSaved, Scored, Stopping
from semseg.reporting.history import History
from semseg.reporting.html.render import split_shares
from semseg.reporting.report_file import Background

_MARKED = str.maketrans({character: f"\\{character}" for character in "\\`*_[]|#~$"})

_USE = """\
```sh
semseg predict model.tar.gz image.jpg --out masks
semseg serve model.tar.gz --port 8080 &
curl --fail --data-binary @image.jpg -H 'Content-Type: image/jpeg' -H 'Accept: image/png' \\
    --output mask.png localhost:8080/invocations
```

The first writes masks into a folder; the others ask a server, whose page is http://localhost:8080/, for one. A mask has
the size of the image, and in each pixel the id of a class. Other responses, such as probabilities, an overlay or JSON,
are chosen by `Accept`; the README of semseg-container lists them. The same in Python:

```python
import semseg

model = semseg.load("model.tar.gz")
result = model.predict("image.jpg")
print(result.mask.shape, result.confidence.mean())
result.save("mask.png")
```"""


class ModelCard:
    """Writes the card into the model's folder when the run is closed, unless it has failed.

    saved: whether the last parameters are saved already; otherwise there is no card until they are.
    """

    def __init__(self, folder: Path, background: Background, saved: bool = False) -> None:
        self._folder = folder
        self._background = background
        self._history = History()
        self._saved = saved
        self._stopped = False

    def __call__(self, event: Event) -> None:
        """Keeps what the card says."""
        self._history(event)
        match event:
            case ModelSaved() if event.path.name == LAST:
                self._saved = True
            case Stopping():
                self._stopped = True
            case Failed():
                self._saved = False

    def close(self) -> None:
        """Writes the card atomically. Raises DiskFullError and OSError."""
        if self._saved:
            with replacing(self._folder / CARD) as temporary:
                temporary.write_text(
                    model_card(self._background, self._history, self._stopped), "utf-8", "backslashreplace"
                )


def model_card(known: Background, history: History, stopped: bool) -> str:
    """Returns the card in Markdown; names in it cannot be taken for Markdown or HTML."""
    done = f"{len(history.epochs)} of {known.planned} epochs" + (", stopped on request" if stopped else "")
    parts = [
        f"# {_text(known.title)}, {len(known.classes)} classes",
        f"A network for semantic segmentation, trained with semseg-container {known.versions['semseg-container']}.",
        f"## Numbers\n\nTrained for {done}.\n\n{_numbers(known, history)}",
        f"## Classes\n\n{_classes(known, history)}",
        f"## Data\n\n{_data(known)}",
        f"## Use\n\n{_USE}",
        "## Limits\n\n" + "\n".join(f"- {line}" for line in _limits(known, history)),
        f"## Hyperparameters\n\n{_settings(known)}",
        f"## Versions\n\n{_table(('name', 'version'), known.versions.items())}",
    ]
    return "\n\n".join(parts) + "\n"


def _numbers(known: Background, history: History) -> str:
    rows = []
    if best := history.best:
        rows.append([f"{_measured_on(known)}, epoch {best.number}", *_scores(best.validated)])
    for split, found in history.scored.items():
        rows.append([f"{count_of(found.images, 'whole image')} of {split}", *_scores(found)])
    if not rows:
        return "The model was not validated: no epoch has ended."
    return _table(("measured on", "mIOU", "mIOU of the classes present", "pixel accuracy"), rows)


def _measured_on(known: Background) -> str:
    """What the epochs are validated on."""
    return "crops of validation" if known.crops else "whole images of validation"


def _scores(found: EpochValidated | Scored) -> list[str]:
    return [_number(found.mean_iou), _number(found.mean_iou_present), _number(found.pixel_accuracy)]


def _classes(known: Background, history: History) -> str:
    columns: dict[str, Sequence[float | None]] = {}
    if history.best:
        columns[f"IoU, {_measured_on(known)}"] = history.best.validated.iou
    columns |= {f"IoU, whole {split}": found.iou for split, found in history.scored.items()}
    columns |= {f"share of {split}": shares for split, shares in split_shares(known.data).items()}
    rows = [
        [str(number), title, *(_number(values[number]) for values in columns.values())]
        for number, title in enumerate(known.classes.titles)
    ]
    absent = any(value is None for values in columns.values() for value in values)
    note = "\n\nA class without annotated pixels has no IoU, and counts as 0 in mIOU." if absent else ""
    return _table(("id", "class", *columns), rows) + note


def _data(known: Background) -> str:
    if not known.data or not known.data.splits:
        return "The data was not checked beforehand."
    rows = [[split.name, str(split.pairs), _sizes(split)] for split in known.data.splits]
    found = "".join(f"\n- {_text(suspicion)}" for suspicion in known.data.suspicions)
    parts = [
        _table(("split", "images", "smallest and largest"), rows),
        *_readings(known.data.splits),
        f"The check found:\n{found}" if found else "",
    ]
    return "\n\n".join(filter(None, parts))


def _readings(splits: Sequence[SplitReport]) -> Iterable[str]:
    """A sentence on each label map, unless it says that values are the classes."""
    read_by: dict[str, list[str]] = {}
    for split in splits:
        if not split.label_map.direct:
            read_by.setdefault(json.dumps(split.label_map.source), []).append(split.name)
    for source, names in read_by.items():
        yield f"The annotations of {' and '.join(names)} were read by the label map {_text(source)}."


def _settings(known: Background) -> str:
    """The hyperparameters, whose names are plain words with underscores."""
    rows = [f"| `{name}` | {_text(value)} |" for name, value in known.settings.items()]
    return "\n".join(["| name | value |", "|---|---|", *rows])


def _sizes(split: SplitReport) -> str:
    return ", ".join(f"{width} x {height}" for width, height in split.extreme_sizes())


def _limits(known: Background, history: History) -> Iterable[str]:
    yield "It knows the classes above only, and gives each pixel one of them, whatever the image shows."
    if "test" not in history.scored:
        yield (
            "The numbers are of the validation images, by which the best epoch was chosen: expect less on other images."
        )
    yield "Images unlike those it was trained on, in subject, light, camera or scale, were not tried."
    yield from map(_text, known.notes)


def _table(heading: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [[*heading]]
    lines += [[*row] for row in rows]
    written = [f"| {' | '.join(map(_text, line))} |" for line in lines]
    return "\n".join([written[0], "|---" * len(lines[0]) + "|", *written[1:]])


def _text(text: str) -> str:
    """A text on one line that is neither Markdown nor HTML."""
    return html.escape(one_line(text), quote=False).translate(_MARKED)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
