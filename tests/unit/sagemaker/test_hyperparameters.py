from __future__ import annotations

from typing import Any

import pytest

from semseg.errors import HyperparameterError
from semseg.networks.definitions import BACKBONES, NETWORKS, Backbone, Network
from semseg.sagemaker.hyperparameters import defaults, faults, parse, rules
from semseg.sagemaker.optimizers import OPTIMIZERS

# The default-input.json of the built-in algorithm's container, without its num_training_samples of 8
ORIGINAL_DEFAULTS = {
    "backbone": "resnet-50",
    "algorithm": "fcn",
    "use_pretrained_model": "True",
    "crop_size": "240",
    "epochs": "10",
    "learning_rate": "0.001",
    "optimizer": "sgd",
    "lr_scheduler": "poly",
    "lr_scheduler_factor": "0.1",
    "weight_decay": "0.0001",
    "momentum": "0.9",
    "gamma1": "0.9",
    "gamma2": "0.9",
    "mini_batch_size": "16",
    "validation_mini_batch_size": "16",
    "early_stopping_min_epochs": "5",
    "early_stopping": "False",
    "early_stopping_patience": "4",
    "early_stopping_tolerance": "0.0",
    "precision_dtype": "float32",
    "_kvstore": "device",
    "_num_kv_servers": "auto",
    "syncbn": "False",
    "_workers": "16",
    "_aux_loss": "True",
    "_aux_weight": "0.5",
    "_hybrid": "False",
    "_augmentation_type": "default",
    "_logging_frequency": "20",
}


def test_defaults_are_the_originals() -> None:
    ours_alone = {
        "base_size": "520",
        "_export_onnx": "True",
        "_quantize": "False",
        "_serving_scale": "none",
        "_class_weights": "none",
        "_loss": "cross_entropy",
        "_gradient_clip": "0.0",
        "_tensorboard": "False",
        "_checkpoint_minutes": "10.0",
        "_seed": "0",
        "_device": "auto",
        "_engine": "auto",
        "_rendezvous_minutes": "15.0",
        "_tf32": "False",
    }
    assert defaults() == ORIGINAL_DEFAULTS | ours_alone


@pytest.mark.parametrize(("name", "declared"), [("algorithm", NETWORKS), ("backbone", BACKBONES)])
def test_networks_and_backbones_are_those_that_are_declared(
    name: str, declared: tuple[Network, ...] | tuple[Backbone, ...]
) -> None:
    for one in declared:
        parsed, _ = parse({"num_classes": "21", name: one.name})
        assert getattr(parsed, name) == one.name
    with pytest.raises(HyperparameterError, match=", ".join(f"'{one.name}'" for one in declared)):
        parse({"num_classes": "21", name: "other"})


def test_defaults_survive_being_parsed_and_written() -> None:
    parsed, warnings = parse({"num_classes": "21"})
    assert parsed.as_strings() == defaults() | {"num_classes": "21"}
    assert warnings == []


@pytest.mark.parametrize(
    ("name", "field", "text", "value"),
    [
        ("early_stopping", "early_stopping", "True", True),
        ("early_stopping", "early_stopping", "true", True),
        ("early_stopping", "early_stopping", '"True"', True),
        ("early_stopping", "early_stopping", "FALSE", False),
        ("optimizer", "optimizer", '"adam"', "adam"),
        ("mini_batch_size", "mini_batch_size", "16.0", 16),
        ("mini_batch_size", "mini_batch_size", '"4"', 4),
        ("mini_batch_size", "mini_batch_size", " 4 ", 4),
        ("mini_batch_size", "mini_batch_size", 4, 4),
        ("learning_rate", "learning_rate", "1e-3", 0.001),
        ("learning_rate", "learning_rate", "1", 1.0),
        ("use_pretrained_model", "use_pretrained_model", False, False),
        ("early_stopping_patience", "early_stopping_patience", "0", 0),
        ("_workers", "workers", "3", 3),
        ("crop_size", "crop_size", "241", 248),
        ("_class_weights", "class_weights", "auto", "auto"),
        ("_class_weights", "class_weights", "0.5,25", (0.5, 25.0)),
        ("_class_weights", "class_weights", "0, 1e-3", (0.0, 0.001)),
        ("crop_size", "crop_size", "17", 24),
        ("crop_size", "crop_size", "240", 240),
    ],
)
def test_reads_what_clients_send(name: str, field: str, text: Any, value: object) -> None:
    parsed, _ = parse({"num_classes": "2", name: text})
    assert getattr(parsed, field) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("num_classes", "1"),
        ("num_classes", "255"),
        ("num_classes", "many"),
        ("num_classes", "2.5"),
        ("num_classes", "inf"),
        ("num_training_samples", "0"),
        ("base_size", "16"),
        ("crop_size", "16"),
        ("epochs", "0"),
        ("learning_rate", "0"),
        ("learning_rate", "1.1"),
        ("learning_rate", "nan"),
        ("weight_decay", "0"),
        ("weight_decay", "1"),
        ("momentum", "0"),
        ("gamma1", "-0.1"),
        ("gamma2", "1.01"),
        ("early_stopping_tolerance", "2"),
        ("early_stopping_patience", "-1"),
        ("early_stopping", "yes"),
        ("lr_scheduler_factor", "1.5"),
        ("_class_weights", "1, -1"),
        ("_class_weights", "0, 0"),
        ("_class_weights", "1, inf"),
        ("_class_weights", "nan, 1"),
        ("_class_weights", "1,"),
        ("_class_weights", "balanced"),
        ("_loss", "dice"),
        ("_gradient_clip", "-1"),
        ("_checkpoint_minutes", "0"),
        ("_workers", "-1"),
        ("precision_dtype", "half"),
        ("_engine", "pytorch"),
        ("_tf32", "yes"),
        ("_aux_weight", "inf"),
    ],
)
def test_refuses_values_out_of_range(name: str, text: str) -> None:
    with pytest.raises(HyperparameterError) as error:
        parse({"num_classes": "2", name: text})
    assert f"The value '{text}' is not valid for the '{name}' hyperparameter" in str(error.value)


@pytest.mark.parametrize("name", [rule.name for rule in rules() if rule.expects.startswith("expects an integer")])
def test_integers_are_bounded(name: str) -> None:
    """numpy and Pillow cannot represent larger ones."""
    for text in (str(2**31), "1e300", "9" * 5000):
        with pytest.raises(HyperparameterError, match=f"' is not valid for the '{name}' hyperparameter"):
            parse({"num_classes": "2", name: text})
    with pytest.raises(HyperparameterError, match=r"an integer from 1 up .* The largest integer is 2147483647\."):
        parse({"num_classes": "2", "epochs": str(2**31)})
    assert parse({"num_classes": "2", "epochs": str(2**31 - 1)})[0].epochs == 2**31 - 1


@pytest.mark.parametrize(
    "given",
    [
        {"optimizer": "sgd\n#quality_metric. host: algo-1, epoch: 0, validation mIOU: 1.0 ."},
        {"optimiser\n#quality_metric": "sgd"},
        {"epochs\n#quality_metric": None},
        {"optimizer": "x" * 2000},
        {"optimizer": "\ud800"},
    ],
)
def test_a_value_cannot_forge_a_line_of_the_log(given: dict[str, object]) -> None:
    with pytest.raises(HyperparameterError) as error:
        parse({"num_classes": "2"} | given)
    assert error.value.message.isprintable()
    assert len(error.value.message) < 1000


@pytest.mark.parametrize("value", [None, [], {}])
def test_refuses_values_that_are_no_text(value: object) -> None:
    with pytest.raises(HyperparameterError, match="'epochs' hyperparameter must be a string") as error:
        parse({"num_classes": "2", "epochs": value})
    assert error.value.hint == "Give the value in quotes, or leave the name out."


def test_refusal_of_a_choice_is_in_the_originals_words() -> None:
    with pytest.raises(HyperparameterError) as error:
        parse({"num_classes": "2", "optimizer": "adadelta"})
    assert str(error.value) == (
        "The value 'adadelta' is not valid for the 'optimizer' hyperparameter which accepts one of the following: "
        f"{', '.join(map(repr, OPTIMIZERS))} (caused by ValidationError)"
    )


def test_a_missing_one_is_an_error_in_the_built_in_algorithms_words() -> None:
    with pytest.raises(HyperparameterError) as error:
        parse({})
    assert str(error.value) == (
        "No value(s) were specified for 'num_classes' which are required hyperparameter(s) (caused by ValidationError)"
    )


@pytest.mark.parametrize("given", [{}, {"lr_scheduler_step": ""}])
def test_the_step_schedule_needs_its_steps(given: dict[str, str]) -> None:
    with pytest.raises(HyperparameterError, match="'lr_scheduler_step' which are required"):
        parse({"num_classes": "2", "lr_scheduler": "step"} | given)


@pytest.mark.parametrize("text", ["10, 20", "10,20", "20, 10", "10, 20,", " 20 ,10, "])
def test_the_steps_are_read_in_any_order(text: str) -> None:
    parsed, _ = parse({"num_classes": "2", "lr_scheduler": "step", "lr_scheduler_step": text})
    assert parsed.lr_scheduler_step == (10, 20)


@pytest.mark.parametrize("text", ["0", "ten", "10, 10", ",", "10,,20", ",10", "-10, 20", "1.5"])
def test_steps_that_are_none_are_refused_where_they_are_needed(text: str) -> None:
    with pytest.raises(
        HyperparameterError, match="'lr_scheduler_step' hyperparameter which expects different positive"
    ):
        parse({"num_classes": "2", "lr_scheduler": "step", "lr_scheduler_step": text})
    for scheduler in ("poly", "cosine"):
        parsed, _ = parse({"num_classes": "2", "lr_scheduler": scheduler, "lr_scheduler_step": text})
        assert parsed.lr_scheduler_step == ()


def test_names_of_the_platform_pass() -> None:
    given = {"num_classes": "2", "_tuning_objective_metric": "validation:mIOU", "sagemaker_program": "x.py"}
    _, warnings = parse(given)
    assert warnings == []


def test_an_unknown_private_name_is_warned_about_with_the_nearest_one() -> None:
    _, warnings = parse({"num_classes": "2", "_wrkers": "3"})
    assert warnings == ["The hyperparameter '_wrkers' is unknown and has no effect. Did you mean '_workers'?"]


@pytest.mark.parametrize("text", ["True", "False"])
def test_syncbn_is_no_reason_to_warn(text: str) -> None:
    """A single device has it by itself."""
    parsed, warnings = parse({"num_classes": "2", "syncbn": text})
    assert parsed.as_strings()["syncbn"] == text
    assert warnings == []


def test_any_other_unknown_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(HyperparameterError) as error:
        parse({"num_classes": "2", "mini_batch_siz": "3"})
    assert "('mini_batch_siz' was unexpected)" in str(error.value)
    assert "Did you mean 'mini_batch_size'?" in str(error.value)


def test_every_hyperparameter_is_documented() -> None:
    assert all(rule.doc and rule.expects for rule in rules())


def test_what_leaves_the_meaning_of_an_update_alone_may_differ_when_a_training_is_resumed() -> None:
    assert {rule.name for rule in rules() if rule.may_differ} == {
        "epochs",
        "early_stopping",
        "early_stopping_min_epochs",
        "early_stopping_patience",
        "early_stopping_tolerance",
        "_workers",
        "_logging_frequency",
        "_checkpoint_minutes",
        "_export_onnx",
        "_quantize",
        "_serving_scale",
        "_kvstore",
        "_num_kv_servers",
        "_hybrid",
        "_gpus",
        "_ranks",
        "_rendezvous_minutes",
        "_device",
        "_engine",
        "_tensorboard",
        "_tf32",
        "precision_dtype",
    }


def test_there_is_a_weight_for_each_class() -> None:
    with pytest.raises(
        HyperparameterError, match="'_class_weights' hyperparameter has 2 numbers, but num_classes is 3"
    ):
        parse({"num_classes": "3", "_class_weights": "0.5, 25"})


def test_all_that_is_wrong_is_listed() -> None:
    given = {"num_clases": "3", "crop_size": "1", "optimizer": "adm", "epochs": None}
    with pytest.raises(HyperparameterError) as refusal:
        parse(given)
    first, *lines = str(refusal.value).splitlines()
    assert first == "5 hyperparameters are wrong:"
    words = ["'num_clases' was unexpected", "'epochs' hyperparameter must be", "'num_classes' which are required"]
    words += ["'crop_size' hyperparameter which expects an integer", "Did you mean 'adam'?"]
    assert len(lines) == len(words)
    assert all(any(word in line for line in lines) for word in words)


def test_a_value_of_the_wrong_type_is_one_fault() -> None:
    assert [(one.name, one.fault) for one in faults({"num_classes": ["2"]})] == [
        ("num_classes", "must be a string, not list.")
    ]
