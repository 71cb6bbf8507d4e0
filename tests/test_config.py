"""The config: what wins over what, what is refused and in which words, and text that comes back as it was."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from moe_hub import config as config_module
from moe_hub.architectures import ARCHITECTURES
from moe_hub.config import (
    SCHEMA_VERSION,
    Config,
    field_paths,
    flatten,
    load_config,
    nest,
    parse_overrides,
    preset_names,
    problems,
    resolve,
    to_yaml,
    validate,
)
from moe_hub.config.messages import allowed
from moe_hub.config.text import dump_yaml, parse_yaml
from moe_hub.errors import ConfigError


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(overrides=overrides)
    return str(caught.value)


def file_refusal(tmp_path: Path, text: str | bytes) -> str:
    path = tmp_path / "c.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load_config(path=path)
    return str(caught.value)


# --- precedence and sources


def test_overrides_win_over_the_file_over_the_preset_over_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("model: {num_layers: 3}\ntrain: {max_steps: 7, learning_rate: 0.5}\n")
    resolved = resolve("basic_comparison", path, ["train.max_steps=9", "train.max_steps=11"])
    assert resolved.config.train.max_steps == 11
    assert resolved.config.train.learning_rate == 0.5
    assert resolved.config.model.num_layers == 3
    assert resolved.config.model.d_model == 64
    assert resolved.config.seed == Config().seed
    assert resolved.sources["train.max_steps"] == "--set"
    assert resolved.sources["train.learning_rate"] == f"file {path}"
    assert resolved.sources["model.d_model"] == "preset basic_comparison"
    assert resolved.sources["seed"] == "default"
    assert list(resolved.sources) == list(flatten(resolved.config.model_dump(mode="json")))


def test_a_section_given_whole_is_laid_over_the_one_below(tmp_path: Path) -> None:
    config = load_config("basic_comparison", overrides=["train={max_steps: 5}", "model.coupling.scale=0.5"])
    assert config.train.max_steps == 5
    assert config.train.batch_size == load_config("basic_comparison").train.batch_size
    assert config.model.coupling.scale == 0.5


def test_the_defaults_alone_are_a_config() -> None:
    assert load_config() == Config()
    assert set(resolve().sources.values()) == {"default"}


def test_a_config_does_not_change() -> None:
    config = Config()
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        config.model.d_model = 1  # type: ignore[misc]


# --- presets


@pytest.mark.parametrize("name", preset_names())
def test_each_preset_is_valid_and_comes_back(name: str, tmp_path: Path) -> None:
    config = load_config(name)
    path = tmp_path / "again.yaml"
    path.write_text(to_yaml(config))
    assert load_config(path=path) == config


def test_the_promised_presets_are_there() -> None:
    assert {"geometric_lambda", "ghost_expert_test", "basic_comparison"} <= set(preset_names())
    lambda_preset = load_config("geometric_lambda")
    assert lambda_preset.model.architecture == "geometric"
    assert lambda_preset.train.mode == "geometric"
    assert lambda_preset.model.num_experts == 4
    assert lambda_preset.train.geometric_learning_rate == 1e-3
    assert lambda_preset.train.expert_learning_rate == 1e-4
    assert lambda_preset.model.geometric.rotation_dims == 4
    assert lambda_preset.train.lambda_cognitive.enabled
    ghost = load_config("ghost_expert_test")
    assert (ghost.model.architecture, ghost.train.mode) == ("ghost", "standard")
    assert (ghost.model.num_experts, ghost.model.ghost.num_ghosts) == (4, 2)
    assert ghost.model.ghost.activation_threshold == 0.01
    assert ghost.train.ghost_learning_rate == 1e-4
    basic = load_config("basic_comparison")
    assert (basic.model.architecture, basic.train.mode) == ("hgnn", "standard")
    assert (basic.model.num_experts, basic.model.d_model) == (4, 64)


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(
        ConfigError, match=r"preset 'geometric-lamda' does not exist; .* did you mean geometric_lambda\?"
    ):
        load_config("geometric-lamda")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "", ".", "basic_comparison.yaml"])
def test_a_preset_name_is_no_path(name: str) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_config(name)


# --- refusals in words


NAME_ALLOWED = "allowed is 1 to 40 letters, digits, - and _, beginning with a letter or digit"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.num_expert=3", "model.num_expert: unknown key; did you mean model.num_experts?"),
        ("modle.d_model=64", "modle: unknown key; did you mean model?"),
        ("num_layers=2", "num_layers: unknown key; did you mean model.num_layers?"),
        ("train.lr=0.1", "train.lr: unknown key; did you mean train.learning_rate?"),
        ("train.d_model=64", "train.d_model: unknown key; did you mean model.d_model?"),
        ("zzzz=1", "zzzz: unknown key"),
        ("model.num_experts=100", "model.num_experts = 100: allowed is 1 to 64"),
        ("model.num_experts=0", "model.num_experts = 0: allowed is 1 to 64"),
        ("model.num_experts=four", "model.num_experts = 'four': a whole number is needed; allowed is 1 to 64"),
        ("model.num_experts=2.5", "model.num_experts = 2.5: a whole number is needed; allowed is 1 to 64"),
        ("model.num_experts=null", "model.num_experts = None: a whole number is needed; allowed is 1 to 64"),
        ("train.max_steps=true", "train.max_steps = True: a number is needed, not true or false"),
        ("train.max_steps=0", "train.max_steps = 0: allowed is 1 to 100,000,000 steps"),
        ("train.learning_rate=2", "train.learning_rate = 2: allowed is above 0, at most 1"),
        ("train.beta2=1", "train.beta2 = 1: allowed is above 0, below 1"),
        ("model.dropout=.nan", "model.dropout = nan: a number is needed; allowed is 0 to 0.9"),
        ("train.grad_clip=.inf", "train.grad_clip = inf: a number is needed; allowed is at least 0"),
        ("train.epochs=0", "train.epochs = 0: allowed is at least 1, or null"),
        ("train.compile=maybe", "train.compile = 'maybe': true or false is needed"),
        ("train.mode=geo", "train.mode = 'geo': allowed is standard, geometric"),
        ("train.schedule=cosin",
         "train.schedule = 'cosin': allowed is cosine, linear, wsd, constant; did you mean cosine?"),
        ("train.device=cuda0", "train.device = 'cuda0': allowed is auto, cpu, cuda, cuda:N, mps"),
        ("name=a b", f"name = 'a b': {NAME_ALLOWED}"),
        ("name=../../etc", f"name = '../../etc': {NAME_ALLOWED}"),
        ("name=null", f"name = None: text is needed; {NAME_ALLOWED}"),
        ("model=3", "model = 3: a mapping of keys is needed here"),
        ("train=", "train = None: a mapping of keys is needed here"),
        ("data.levels=3", "data.levels = 3: a list of whole numbers is needed; allowed is 1 or more entries"),
        ("data.levels=[1, x]", "data.levels.1 = 'x': a whole number is needed"),
        ("model.architecture=geometrc",
         f"model.architecture = 'geometrc': allowed: {', '.join(ARCHITECTURES)}; did you mean geometric?"),

    ],
)  # fmt: skip
def test_a_refusal_names_field_value_and_what_is_allowed(override: str, message: str) -> None:
    assert refusal(override) == message


def test_what_does_not_fit_together_says_what_to_change() -> None:
    assert "change d_model or num_heads" in refusal("model.d_model=100")
    assert "set model.architecture=geometric or train.mode=standard" in refusal(
        "model.architecture=dense", "train.mode=geometric"
    )
    assert "data.path" in refusal("data.source=file")


def test_every_problem_is_told_at_once() -> None:
    lines = refusal("model.num_experts=100", "train.schedule=x", "seeed=1").splitlines()
    assert [line.split(" ")[0].rstrip(":") for line in lines] == ["model.num_experts", "train.schedule", "seeed"]


def test_a_value_of_any_size_is_shown_short() -> None:
    assert len(refusal(f"name={'x' * 100_000}")) < 300
    assert len(refusal(f"data.levels=[[{','.join(['1'] * 10_000)}]]")) < 300


@pytest.mark.parametrize("override", ["x", "=3", "a..b=1", ".a=1", "a.=1", "", "="])
def test_an_override_without_key_or_value_is_refused(override: str) -> None:
    assert refusal(override) == f"--set {override!r} must look like train.max_steps=50"


def test_an_override_that_is_not_yaml_is_refused() -> None:
    assert refusal("data.levels=[1").startswith("--set 'data.levels=[1': the value is not YAML (line ")


def test_a_mapping_where_text_is_needed_is_refused(tmp_path: Path) -> None:
    assert file_refusal(tmp_path, "data: {path: {a: 1}}").startswith("data.path = {'a': 1}: text is needed")


def test_a_wrong_value_in_a_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("seed: -1\nmodle: {d_model: 8}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path=path, overrides=["train.max_steps=0"])
    lines = str(caught.value).splitlines()
    assert f"seed = -1: allowed is 0 to 2,147,483,647 (file {path})" in lines
    assert f"modle: unknown key; did you mean model? (file {path})" in lines
    assert "train.max_steps = 0: allowed is 1 to 100,000,000 steps" in lines


def test_problems_gives_one_line_for_each_of_pydantics_errors() -> None:
    with pytest.raises(ValidationError) as caught:
        Config.model_validate({"model": {"num_experts": 0, "x": 1}, "seed": "s"})
    assert sorted(where for where, _ in problems(caught.value)) == ["model.num_experts", "model.x", "seed"]
    assert len(problems(caught.value)) == len(caught.value.errors())


@pytest.mark.parametrize("path", list(field_paths()))
def test_every_field_can_be_shown_and_bounded_fields_say_their_bounds(path: str) -> None:
    field = field_paths()[path]
    assert field.title
    assert field.description
    if any(hasattr(rule, name) for rule in field.metadata for name in ("ge", "gt", "le", "lt", "pattern")):
        assert allowed(field)
        assert "^" not in allowed(field), "a person does not read patterns: give option(allowed=...)"


# --- YAML


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("1E5", 1e5), ("5.", 5.0), (".5", 0.5), ("-1", -1), ("+2", 2), ("0.25", 0.25),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("on", "on"), ("no", "no"), ("yes", "yes"), ("y", "y"), ("12:30", "12:30"), ("2026-11-24", "2026-11-24"),
        ("1_000", "1_000"), ("0x10", "0x10"), ("'1'", "1"), ("nan", "nan"), ("e5", "e5"), ("-", [None]), ("1e", "1e"),
    ],
)  # fmt: skip
def test_plain_values_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    assert parse_yaml(text) == value
    assert type(parse_yaml(text)) is type(value)


def test_1e_3_is_a_number_in_a_file_and_in_an_override(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("train: {learning_rate: 1e-3, max_steps: 2e1}\n")
    config = load_config(path=path, overrides=["train.weight_decay=5e-2"])
    assert (config.train.learning_rate, config.train.max_steps, config.train.weight_decay) == (0.001, 20, 0.05)
    assert type(config.train.max_steps) is int


def test_text_fields_take_the_value_as_it_was_written() -> None:
    config = load_config(overrides=["name=2024", "data.path=1e3", "data.source=file"])
    assert config.name == "2024"
    assert config.data.path == "1e3"
    for text in ("a: b # c", "[x", "{y}", "*z", "-"):
        assert load_config(overrides=[f"data.path={text}"]).data.path == text
    assert load_config(overrides=[r'data.path="a\tb"']).data.path == "a\tb"
    assert load_config(overrides=["data.path=null"]).data.path is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "must hold a mapping of keys, found a list"),
        ("just text", "must hold a mapping of keys, found a str"),
        ("model: {d_model: 64\n", "is not YAML: line 2, column 1: "),
        ("seed: 1\nseed: 2\n", "is not YAML: line 2, column 1: key 'seed' stands twice in one mapping"),
        ("train:\n  max_steps: 1\n  max_steps: 2\n", "line 3, column 3: key 'max_steps' stands twice"),
        ("seed: *nothing\n", "is not YAML: "),
        ("seed: !!python/object/apply:os.system [ls]\n", "is not YAML: "),
        ("model.d_model: 64\n", "model.d_model: a dotted key in a file; write it nested, as in model: {d_model: ...}"),
        ("a: &a {b: *a}\n", "more than 32 levels"),
        ("1: 2\n", "1"),
        (b"\xff\xfe\x00", "is not YAML: "),
        (b"x" * 2_000_000, "has more than 1048576 bytes"),
        ("[" * 100_000, "is not YAML: "),
    ],
)  # fmt: skip
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    assert message in file_refusal(tmp_path, text)


def test_lists_in_lists_in_lists_are_refused_quickly(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert len(file_refusal(tmp_path, "\n".join(lines))) < 2000


def test_a_file_that_is_not_there_or_not_readable_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config file .*none.yaml: No such file or directory; check the path"):
        load_config(path=tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="Is a directory"):
        load_config(path=tmp_path)


def test_an_empty_file_and_one_with_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("# nothing\n")
    assert load_config(path=path) == Config()
    path.write_bytes(b"\xef\xbb\xbfseed: 3\r\n")
    assert load_config(path=path).seed == 3


# --- there and back


@pytest.mark.parametrize("annotated", [False, True])
def test_yaml_comes_back_as_the_same_config(tmp_path: Path, annotated: bool) -> None:
    resolved = resolve("geometric_lambda", None, ["name=1e3", "data.path=a: b # c", "train.learning_rate=1e-05"])
    path = tmp_path / "c.yaml"
    path.write_text(to_yaml(resolved.config, resolved.sources if annotated else None))
    again = load_config(path=path)
    assert again == resolved.config
    assert again.train.learning_rate == 1e-05
    assert validate(parse_yaml(path.read_text())) == resolved.config


def test_the_yaml_holds_schema_and_package_version() -> None:
    from moe_hub import __version__

    values = parse_yaml(to_yaml(Config()))
    assert values["schema_version"] == SCHEMA_VERSION
    assert values["version"] == __version__


def test_each_value_is_followed_by_its_source(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("seed: 4\n")
    resolved = resolve("geometric_lambda", path, ["train.max_steps=5"])
    lines = to_yaml(resolved.config, resolved.sources).splitlines()
    assert "  max_steps: 5  # --set" in lines
    assert f"seed: 4  # file {path}" in lines
    assert "  architecture: geometric  # preset geometric_lambda" in lines
    assert "    rotation_dims: 4  # preset geometric_lambda" in lines
    assert "  dropout: 0.0  # default" in lines
    annotated = {line.split(":")[0].strip() for line in lines if "  # " in line}
    assert {key.rpartition(".")[2] for key in resolved.sources} == annotated
    assert sum("  # " in line for line in lines) == len(resolved.sources)


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from("abcd"), texts | st.floats(allow_nan=False) | st.integers() | st.none()))
def test_dumped_values_come_back_with_and_without_comments(values: dict[str, Any]) -> None:
    try:
        text = dump_yaml({"s": values})
    except yaml.YAMLError:  # what YAML cannot hold, such as a null byte, is not written half
        return
    assert parse_yaml(text) == {"s": values}
    assert parse_yaml(dump_yaml({"s": values}, {f"s.{key}": "--set" for key in values})) == {"s": values}


@settings(max_examples=40, deadline=None)
@given(
    st.recursive(st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=3))
)
def test_nest_is_the_inverse_of_flatten(values: Any) -> None:
    if isinstance(values, Mapping):
        assert nest(flatten(values)) == values


def test_parse_overrides_nests_and_lets_the_last_win() -> None:
    assert parse_overrides(["train.max_steps=1", "model.d_model=8", "train.max_steps=2"]) == {
        "train": {"max_steps": 2},
        "model": {"d_model": 8},
    }


# --- versions


@pytest.mark.parametrize("version", ["99", "0", "x", "true", "1.5", "null"])
def test_a_version_that_this_program_does_not_read_is_refused(tmp_path: Path, version: str) -> None:
    message = file_refusal(tmp_path, f"schema_version: {version}\nseed: 1\n")
    assert "schema_version = " in message
    assert f"allowed is 1 to {SCHEMA_VERSION}" in message
    assert ("written by a newer MoE Hub" in message) == (version == "99")


def test_a_config_of_an_older_version_is_brought_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rename_key(values: dict[str, Any]) -> dict[str, Any]:
        return {("seed" if key == "random_seed" else key): value for key, value in values.items()}

    monkeypatch.setattr(config_module, "SCHEMA_VERSION", 3)
    monkeypatch.setattr(config_module, "MIGRATIONS", {1: rename_key, 2: lambda values: {**values, "name": "new"}})
    path = tmp_path / "old.yaml"
    path.write_text("schema_version: 1\nversion: 0.0.1\nrandom_seed: 7\n")
    config = load_config(path=path)
    assert (config.seed, config.name) == (7, "new")
    path.write_text("schema_version: 2\nseed: 8\nname: old\n")
    assert load_config(path=path).name == "new"
    assert "random_seed: unknown key" in file_refusal(tmp_path, "schema_version: 3\nrandom_seed: 7\n")
