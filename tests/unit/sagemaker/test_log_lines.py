from __future__ import annotations

import json
import logging
import re

import pytest

from semseg.sagemaker import log_lines


def test_lines_are_the_originals_to_the_letter() -> None:
    assert (
        log_lines.quality("algo-1", 0, "train loss", 1.476599932371915)
        == "#quality_metric. host: algo-1, epoch: 0, train loss: 1.476599932371915 ."
    )
    assert (
        log_lines.throughput("algo-1", 0, "train", 48.19987923405456)
        == "#throughput_metric. host: algo-1, epoch: 0, train throughput: 48.19987923405456 samples/sec."
    )
    assert (
        log_lines.progress_notice(0, 20, 49.88612746712299, 0.0000980122)
        == "#progress_notice. epoch: 0, iterations: 20 speed: 49.88612746712299 samples/sec learning_rate: 0.000098"
    )
    assert (
        log_lines.progress_notice(0, 20, 42.662842139726195, None)
        == "#progress_notice. epoch: 0, iterations: 20 speed: 42.662842139726195 samples/sec"
    )
    assert log_lines.progress("algo-1", 1, 10) == "#progress_metric: host=algo-1, completed 10.0 % of epochs"


def test_a_metrics_line_is_json_of_values_seen_once() -> None:
    line = log_lines.metrics(1.5, 2.5, {"Host": "algo-1", "Operation": "training"}, {"epochs": 10.0})
    word, _, content = line.partition(" ")
    assert word == "#metrics"
    assert json.loads(content) == {
        "StartTime": 1.5,
        "EndTime": 2.5,
        "Dimensions": {"Algorithm": "AWS/Semantic Segmentation", "Host": "algo-1", "Operation": "training"},
        "Metrics": {"epochs": {"sum": 10.0, "count": 1, "min": 10.0, "max": 10.0}},
    }


def test_whole_numbers_of_a_metrics_line_are_written_as_the_built_in_algorithm_does() -> None:
    """The last line of the built-in algorithm's training log."""
    values = {"epochs": 10.0, "setuptime": 13.821125030517578, "totaltime": 684147.8126049042}
    line = log_lines.metrics(1736726227.476801, 1736726910.3292582, {"Host": "algo-1", "Operation": "training"}, values)
    assert line == (
        '#metrics {"StartTime": 1736726227.476801, "EndTime": 1736726910.3292582, "Dimensions": {"Algorithm": '
        '"AWS/Semantic Segmentation", "Host": "algo-1", "Operation": "training"}, "Metrics": {"epochs": {"sum": 10.0, '
        '"count": 1, "min": 10, "max": 10}, "setuptime": {"sum": 13.821125030517578, "count": 1, "min": '
        '13.821125030517578, "max": 13.821125030517578}, "totaltime": {"sum": 684147.8126049042, "count": 1, "min": '
        '684147.8126049042, "max": 684147.8126049042}}}'
    )


def test_the_log_goes_to_stdout_in_the_originals_format(capsys: pytest.CaptureFixture[str]) -> None:
    log_lines.set_up_logging()
    log_lines.LOGGER.info("Test data is not provided.")
    logging.getLogger("another").info("unheard")
    out, err = capsys.readouterr()
    assert re.fullmatch(r"\[\d\d/\d\d/\d{4} \d\d:\d\d:\d\d INFO \d+\] Test data is not provided\.\n", out)
    assert err == ""


def test_a_text_of_a_user_is_no_metric(capsys: pytest.CaptureFixture[str]) -> None:
    """Such as the name of a class: a platform's metric definitions search the line for the mark."""
    log_lines.set_up_logging()
    posing = log_lines.quality("algo-1", 7, "validation mIOU", 0.99)
    log_lines.LOGGER.info(log_lines.final_quality("algo-1", f"validation IOU of {posing}", 0.5))
    log_lines.LOGGER.warning("%s is not a readable image file", posing.replace("#quality", "a\n#progress"))
    log_lines.LOGGER.info("%s #2", posing)
    named, _, second_line, own = capsys.readouterr().out.splitlines()
    assert "] #final_metric. host: algo-1, validation IOU of # quality_metric. host: algo-1, epoch: 7," in named
    assert second_line.startswith("# progress_metric. host: ")
    assert own.endswith(f"] {posing} #2")
