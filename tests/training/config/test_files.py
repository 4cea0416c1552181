"""Configurations: the paper's defaults, files, presets and overrides, and errors with their key."""

import subprocess
import sys

import pytest

from pointcmt.errors import UsageError
from pointcmt.training.config.files import load_config, load_pipeline, parse_config, to_yaml
from pointcmt.training.config.pointcmt import CONFIGS
from pointcmt.training.config.presets import PRESETS


def test_reading_a_configuration_loads_no_torch():
    code = "import pointcmt.training.config, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_defaults_equal_those_of_the_reference_code():
    teacher, student = load_config("teacher"), load_config("student")
    assert (teacher.epochs, teacher.data.batch_size, teacher.data.views) == (50, 32, 0)
    assert teacher.optimizer.model_dump() == {
        "name": "adam", "learning_rate": 1e-3, "weight_decay": 2.5e-5, "clip_norm": 0.0,
        "accumulate": 4, "ema": 0.0, "decay": "all", "nesterov": True,
    }  # fmt: skip
    assert (teacher.schedule.name, student.schedule.name) == ("constant", "cosine")
    assert (student.epochs, student.data.batch_size, student.data.points) == (1000, 32, 1024)
    assert student.optimizer.model_dump() == {
        "name": "adamw", "learning_rate": 1e-3, "weight_decay": 0.05, "clip_norm": 0.0,
        "accumulate": 1, "ema": 0.0, "decay": "all", "nesterov": True,
    }  # fmt: skip
    assert (student.augmentation.scale, student.augmentation.shift) == ((2 / 3, 3 / 2), 0.2)
    assert (student.distillation.feature.weight, student.distillation.classifier) == (30, 9.6)
    generator = load_config("cmpg")
    assert (generator.epochs, generator.data.points, generator.model.dropout) == (50, 1024, 0.5)
    assert (generator.matching.weight, generator.optimizer.name) == (30, "adam")
    assert teacher.loss.label_smoothing == student.loss.label_smoothing == 0.2


def test_flags_override_set_which_overrides_the_file_and_defaults(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(
        "epochs: 2\nseed: 2\ndata: {batch_size: 2}\noptimizer:\n  learning_rate: 2e-3\n"
    )
    overrides = ["epochs=3", "seed=3", "optimizer.weight_decay=3e-3"]
    config = load_config("student", file, overrides, epochs=4, seed=None)
    assert (config.epochs, config.seed, config.data.batch_size) == (4, 3, 2)
    assert config.optimizer.learning_rate == 2e-3  # YAML 1.1 reads it as text
    assert config.optimizer.weight_decay == 3e-3
    assert (config.optimizer.name, config.data.points) == ("adamw", 1024)  # the rest of a section


@pytest.mark.parametrize("recipe", CONFIGS)
def test_the_saved_copy_is_the_same_configuration(recipe, tmp_path):
    config = load_config(recipe, None, ["seed=7", "optimizer.learning_rate=0.00123"])
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert load_config(recipe, tmp_path / "config.yaml") == config


def test_a_preset_overrides_defaults_and_can_be_overridden():
    modern = load_config("student", None, ["preset=modern", "optimizer.ema=0.5"])
    assert (modern.preset, modern.data.resample, modern.optimizer.ema) == ("modern", 1200, 0.5)
    assert modern.optimizer.weight_decay == 0.05  # the rest of a section
    with pytest.raises(UsageError, match="did you mean 'modern'"):
        load_config("student", None, ["preset=modrn"])


@pytest.mark.parametrize(
    ("preset", "recipe"),
    [(p, r) for p, recipes in PRESETS.items() for r in recipes],
)
def test_every_preset_is_valid_and_equals_its_saved_copy(preset, recipe, tmp_path):
    config = load_config(recipe, None, [f"preset={preset}"])
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert load_config(recipe, tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    ("recipe", "preset", "says"),
    [
        ("partseg", "pointnext", "is for student, finetune, not for partseg"),
        ("teacher", "dgcnn", "leave it out, or use one for teacher: modern, pointcmt"),
        ("finetune", "pointcmt", "is for teacher, cmpg, student, not for finetune"),
        ("finetune", "modern", "is for teacher, cmpg, student, not for finetune"),
        ("student", "mvnet-style", "is for mvnet, not for student"),
        ("mvnet", "modern", "leave it out, or use one for mvnet: mvnet-style"),
        ("detect", "modern", "leave it out: detect has no presets"),
    ],
)
def test_a_preset_for_other_recipes_is_refused(recipe, preset, says):
    with pytest.raises(UsageError) as caught:
        load_config(recipe, None, [f"preset={preset}"])
    assert says in str(caught.value)
    assert caught.value.where == f"--set preset={preset}"


def test_a_pipeline_refuses_a_preset_for_its_student_alone():
    with pytest.raises(UsageError, match="not for teacher"):
        load_pipeline(None, ["preset=pointnext"])


def test_runs_of_earlier_versions_may_name_a_preset_for_other_recipes():
    """They had the recipe's defaults."""
    written = load_config("partseg").model_dump(mode="json") | {"preset": "pointnext"}
    assert parse_config("partseg", written, "run").preset == "pointnext"


def test_the_student_of_a_pipeline_has_a_linear_head():
    """Otherwise it could not learn from the teacher, which is trained first."""
    with pytest.raises(UsageError, match=r"needs student\.model\.head=linear"):
        load_pipeline(None, ["student.preset=pointnext"])
    config = load_pipeline(None, ["student.preset=pointnext", "student.model.head=linear"])
    assert (config.student.model.backbone, config.student.epochs) == ("pointnext-s", 600)


@pytest.mark.parametrize(
    ("given", "rate"),
    [
        ([], 5e-4),
        (["model.backbone=pointvit-l"], 5e-4),
        (["model.backbone=pointnet2"], 1e-3),
        (["model.backbone=dgcnn", "optimizer.clip_norm=2"], 1e-3),
        (["model.backbone=dgcnn", "optimizer.learning_rate=0.0005"], 5e-4),
    ],
)
def test_the_learning_rate_of_pretraining_depends_on_the_network(given, rate, tmp_path):
    config = load_config("mvnet", None, given)
    assert config.optimizer.learning_rate == rate
    assert config.optimizer.name == "adamw"
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert load_config("mvnet", tmp_path / "config.yaml") == config


def test_a_network_setting_that_is_not_a_section_is_reported():
    with pytest.raises(UsageError, match="model"):
        load_config("mvnet", None, ["model=dgcnn"])


def test_a_pipeline_has_the_settings_of_its_stages():
    config = load_pipeline(None, ["student.data.points=512", "preset=modern"], seed=3, epochs=None)
    assert config.teacher == load_config("teacher", None, ["preset=modern"], seed=3)
    assert config.student == load_config(
        "student", None, ["preset=modern", "data.points=512"], seed=3
    )
    for key, says in (("student.data.batchsize", "did you mean 'student.data.batch_size'"),
                      ("data.points", "did you mean 'cmpg.data.points'"),
                      ("teachr", "did you mean 'teacher'")):  # fmt: skip
        with pytest.raises(UsageError) as caught:
            load_pipeline(None, [f"{key}=5"])
        assert says in str(caught.value) or "unknown key" in str(caught.value)


def test_a_stage_may_have_a_preset_of_its_own():
    config = load_pipeline(None, ["student.preset=modern"])
    assert config.student == load_config("student", None, ["preset=modern"])
    assert config.teacher == load_config("teacher")
    for key in ("student.preset=bogus", "preset=[modern]", "teacher.preset={a: 1}"):
        with pytest.raises(UsageError, match="unknown preset"):
            load_pipeline(None, [key])


@pytest.mark.parametrize("key", ["student.teacher", "student.generator", "cmpg.teacher"])
def test_stages_of_a_pipeline_are_linked(key):
    with pytest.raises(UsageError, match=f"'{key}' cannot be set"):
        load_pipeline(None, [f"{key}=/some/run"])


def test_a_generator_without_its_teacher_is_reported():
    with pytest.raises(UsageError, match="`generator` also needs `teacher`"):
        load_config("student", generator="/some/run")


@pytest.mark.parametrize("value", ["2020-13-45", "["])
def test_values_that_yaml_cannot_parse_are_reported(value, tmp_path):
    with pytest.raises(UsageError, match="not a valid YAML value"):
        load_config("student", None, [f"init={value}"])
    (tmp_path / "c.yaml").write_text(f"init: {value}\n")
    with pytest.raises(UsageError, match="cannot be read"):
        load_config("student", tmp_path / "c.yaml")


def test_switches_are_true_or_false():
    assert load_config("student", None, ["loop.compile=yes"]).loop.compile is True
    with pytest.raises(UsageError, match=r"'loop\.compile' should be true or false, not 1"):
        load_config("student", None, ["loop.compile=1"])


def test_sampling_more_points_than_available_is_reported():
    with pytest.raises(UsageError, match=r"should be 0, or at least data\.points, 1024"):
        load_config("student", None, ["data.resample=512"])


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("epoch=3", "did you mean 'epochs'?"),
        ("optimizer.learningrate=3", "did you mean 'learning_rate'?"),
        ("batch_size=3", "did you mean 'data.batch_size'?"),
        ("optimizer.batch_size=3", "did you mean 'data.batch_size'?"),
        ("data.views=3", "known: batch_size, validation, fraction, split_seed, points"),
        ("zzz=3", "known: recipe, preset, epochs"),
        ("epochs=many", "'epochs' should be a valid integer"),
        ("epochs=2.5", "'epochs' should be a valid integer"),
        ("epochs=0", "'epochs' should be greater than or equal to 1, not 0"),
        ("epochs=yes", "'epochs' should be a value, not true or false"),
        ("epochs=", "'epochs' should be a valid integer"),
        ("optimizer.learning_rate=.nan", "'optimizer.learning_rate' should be"),
        ("optimizer.learning_rate=-1", "'optimizer.learning_rate' should be greater than 0"),
        ("optimizer.name=lion", "'optimizer.name' should be 'adam', 'adamw' or 'sgd', not 'lion'"),
        ("optimizer=5", "'optimizer' should be a valid dictionary"),
        ("data.batch_size=1", "'data.batch_size' should be greater than or equal to 2"),
        ("data.validation=1", "'data.validation' should be less than 1"),
        ("augmentation.scale=[1.5, 0.5]", "'augmentation.scale' should be two numbers, 0 < "),
        ("augmentation.scale=[1.5, x]", "'augmentation.scale' should be a valid number"),
        ("model.backbone=pointnets", "'model.backbone' should be 'pointnet', "),
        ("epochs", "'epochs' is not of the form KEY=VALUE"),
        ("=5", "'=5' is not of the form KEY=VALUE"),
        ("epochs.more=5", "'epochs' should be a valid integer"),
        ("epochs=[", "'[' is not a valid YAML value"),
    ],
)  # fmt: skip
def test_invalid_values_are_reported_with_their_key(override, says):
    with pytest.raises(UsageError) as caught:
        load_config("student", None, [override])
    assert says in str(caught.value)
    assert override.strip("=") in caught.value.where


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "no such configuration file"),
        ("a: [", "cannot be read"),
        ("- 1", "a table of keys"),
        ("1: 2", "a table of keys"),
        ("recipe: teacher", "is for the recipe 'teacher'"),
        ("data: 5", "'data' should be a valid dictionary"),
        ("optimiser: {name: adam}", "did you mean 'optimizer'?"),
    ],
)
def test_a_file_that_is_not_a_configuration_is_reported(text, says, tmp_path):
    file = tmp_path / "c.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_config("student", file)
    assert says in str(caught.value)
    assert str(file) in caught.value.where


def test_an_invalid_flag_value_is_reported():
    with pytest.raises(UsageError) as caught:
        load_config("student", epochs=0)
    assert caught.value.where == "--epochs 0"


def test_an_override_inside_a_value_is_reported(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("epochs: 3")
    with pytest.raises(UsageError, match="'epochs' is an option, not a section"):
        load_config("student", file, ["epochs.more=5"])


def test_an_unknown_recipe_is_refused_with_the_nearest_name():
    with pytest.raises(UsageError, match="did you mean 'teacher'"):
        load_config("techer")


def test_a_configuration_is_frozen():
    config = load_config("student")
    with pytest.raises(ValueError, match="frozen"):
        config.epochs = 3
