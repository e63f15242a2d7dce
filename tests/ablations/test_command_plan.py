"""Plans of commands as files: what they say, what is wrong with them, and by what a run is known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar_ablations.ablations import command_plan
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.record import CommandPlanRecord

HEAD = {"name": '"shifts"', "control": '"a"', "metric": '"accuracy"', "seeds": "3"}
ARMS = {"a": '"python train.py {seed}"', "b": '"python train.py {seed} --dropout 0 --out {metrics}"'}


def text(arms: dict[str, str] = ARMS, of_arm: str = "", **changed: str | None) -> str:
    lines = [f"{name} = {value}" for name, value in {**HEAD, **changed}.items() if value is not None]
    lines += [f"[arms.{json.dumps(name)}]\ncommand = {command}\n{of_arm}" for name, command in arms.items()]
    return "\n".join(lines)


def plan(folder: Path, content: str, *asked: int) -> CommandPlanRecord:
    (folder / "plan.toml").write_text(content, encoding="utf-8")
    return command_plan.read(folder / "plan.toml", *asked)


def test_a_file_says_all_that_there_is(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("pass")
    options = {
        "question": '"Does it help?"',
        "better": '"lower"',
        "expect": '"higher"',
        "margin": "1",
        "paired": "true",
    }
    made = plan(tmp_path, text(**options, seeds="[5, 3]", timeout_seconds="1.5", code='["*.py"]'))
    assert (made.name, made.question, made.metric, made.control) == ("shifts", "Does it help?", "accuracy", "a")
    assert (made.seeds, made.timeout_seconds, made.margin, made.better) == ((5, 3), 1.5, 1.0, "lower")
    assert (made.test, made.folder) == ("paired t", str(tmp_path.resolve()))
    assert made.code == {"train.py": "d74ff0ee8da3b9806b18c877dbf29bbde50b5bd8e4dad7a3a725000feb82e8f1"}
    assert [(arm.name, arm.expect) for arm in made.arms] == [("a", ""), ("b", "higher")]
    assert made.arms[0].command == ("python", "train.py", "{seed}")
    least = plan(tmp_path, text())
    assert (least.question, least.seeds, least.test) == ("Which arms differ from a in accuracy?", (0, 1, 2), "welch t")
    assert (least.timeout_seconds, least.margin, least.better, least.code) == (None, None, "", {})


def test_seeds_are_also_asked_for(tmp_path: Path) -> None:
    assert plan(tmp_path, text(), 5).seeds == (0, 1, 2, 3, 4)
    assert plan(tmp_path, text(), 2, 100).seeds == (100, 101)
    assert plan(tmp_path, text(seeds="[7, 8, 9]"), 2).seeds == (7, 8)


def test_a_run_is_known_by_its_command_and_its_code(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("one")
    (tmp_path / "b").mkdir()
    coded = text(code='["train.py"]')
    first = plan(tmp_path, coded)
    words = json.dumps(["python", "train.py", "{seed}"])
    listed = plan(tmp_path, text({**ARMS, "a": words}, code='["train.py"]'))
    assert listed.digest == first.digest, "a list of words is the same command"
    (tmp_path / "b" / "train.py").write_text("one")
    assert plan(tmp_path / "b", coded).digest == first.digest, "wherever the same files lie"
    assert plan(tmp_path, text()).arms[0].digest != plan(tmp_path / "b", text()).arms[0].digest, (
        "which nothing says here"
    )
    (tmp_path / "train.py").write_text("two")
    assert {arm.digest for arm in plan(tmp_path, coded).arms}.isdisjoint(arm.digest for arm in first.arms)
    with pytest.raises(AblateError, match=r"train\.py has changed since this call began"):
        command_plan.check_code(first)
    longer = plan(tmp_path, coded.replace("--dropout 0", "--dropout 0.1"))
    now = plan(tmp_path, coded)
    assert [one.digest == other.digest for one, other in zip(longer.arms, now.arms, strict=True)] == [True, False]
    assert plan(tmp_path, text(code='["train.py"]', timeout_seconds="5")).digest == now.digest, "it bears on no answer"
    for change in ({"seeds": "4"}, {"margin": "0.1"}, {"paired": "true"}, {"expect": '"lower"'}, {"better": '"lower"'}):
        assert plan(tmp_path, text(code='["train.py"]', **change)).digest != now.digest, change


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name = ", "plan.toml is not TOML"),
        (text(name=None), "name is missing"),
        (text(name="1"), "name must be text, not 1"),
        (text(name='"My plan!"'), "small letters, digits, - and _, such as my-plan; not 'My plan!'"),
        (text(name='"../x"'), "such as x; not '../x'"),
        (text(seed="3"), "no key 'seed'; did you mean seeds?"),
        (text(of_arm="comand = 1"), "arm 'a': no key 'comand'; did you mean command?"),
        (text(of_arm='timeout = "1"'), "no key 'timeout'. Known: command, expect"),
        (text(timeout="1"), "no key 'timeout'; did you mean timeout_seconds?"),
        (text(control='"A"'), "control 'A' is no arm"),
        (text(metric='"acc@1"'), "metric 'acc@1' is no name of a metric"),
        (text(metric='"a/../b"'), "reads like a path"),
        (text(metric='"seed"'), "give the number another name"),
        (text(better='"up"'), "better is higher or lower, not 'up'"),
        (text(expect="true"), "expect is higher or lower, not True"),
        (text(margin="0"), "margin must be a number above 0, not 0"),
        (text(margin="nan"), "margin must be a number above 0, not nan"),
        (text(timeout_seconds="true"), "timeout_seconds must be a number above 0, not True"),
        (text(paired='"yes"'), "paired must be true or false, not 'yes'"),
        (text(question='"a\\nb"'), "question must be text on one line"),
        (text(seeds=None), "seeds is missing"),
        (text(seeds="0"), "seeds must be at least 1, not 0"),
        (text(seeds="true"), "seeds is True; it is a number of seeds, or a list"),
        (text(seeds="[1, 1]"), "listed once each"),
        (text(seeds="[]"), "at least one"),
        (text(seeds="[1.5]"), "a list of whole numbers"),
        (text(seeds="2026-01-01"), "it is a number of seeds"),
        (text(code='"train.py"'), "code is a list of files"),
        (text(code='["trian.py"]'), "there is no such file; did you mean train.py?"),
        (text(code='["/etc/passwd"]'), "by their path from its folder"),
        (text(code='[""]'), "by their path from its folder"),
        (text(arms={}), "each arm is a table [arms.NAME]"),
        (text(arms={"a": ARMS["a"]}), "1 arm cannot be compared"),
        (text(arms={**ARMS, "b": ARMS["a"]}), "arm 'b': it has the command of arm 'a'"),
        (text(arms={**ARMS, " ": "1"}), "a name is up to 100 printed signs"),
        (text(arms={**ARMS, "x\ny": "1"}), "a name is up to 100 printed signs"),
        (text(arms={**ARMS, "c": "1"}), "arm 'c': command is 1; it is text, or a list of words"),
        (text(arms={**ARMS, "c": '""'}), "command '' names no program"),
        (text(arms={**ARMS, "c": '["python", 1]'}), "it is text, or a list of words"),
        (text(arms={**ARMS, "c": '"python \'x {seed}"'}), "cannot be split into words"),
        (text(arms={**ARMS, "c": '"python {sed}"'}), "no {sed}; did you mean seed?"),
        (text(arms={**ARMS, "c": '"python {seed} {metric}"'}), "no {metric}; did you mean metrics?"),
        (text(arms={**ARMS, "c": '"python train.py"'}), "its command has no {seed}"),
        (text(of_arm='expect = "lower"'), "arm 'a' is the control"),
    ],
)
def test_a_mistake_is_a_sentence(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("pass")
    with pytest.raises(AblateError) as raised:
        plan(tmp_path, content)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("seeds", "asked", "said"),
    [
        ("3", (0,), "the number of seeds must be at least 1, not 0"),
        ("3", (3, -1), "the first seed must be at least 0, not -1"),
        ("[1, 2]", (3,), "lists 2 seeds, and 3 are asked for; add others there"),
        ("[1, 2]", (2, 5), "lists its seeds"),
    ],
)
def test_seeds_that_cannot_be(seeds: str, asked: tuple[int, ...], said: str, tmp_path: Path) -> None:
    with pytest.raises(AblateError, match=said):
        plan(tmp_path, text(seeds=seeds), *asked)


def test_a_file_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(text())
    with pytest.raises(AblateError, match=r"plna\.toml'; did you mean plan\.toml\?"):
        command_plan.read(tmp_path / "plna.toml")
    with pytest.raises(AblateError, match="cannot be read"):
        command_plan.read(tmp_path)


def test_braces_are_filled_once_and_others_stay(tmp_path: Path) -> None:
    arms = {**ARMS, "; rm -rf {seed}": json.dumps(["awk", "{print}", "$(touch x)", "{seed}{metrics}", "{python}"])}
    arm = plan(tmp_path, text(arms)).arms[-1]
    assert arm.name == "; rm -rf {seed}"
    filled = command_plan.words(arm, {"seed": "7", "metrics": "/a {seed}/m", "python": "py"})
    assert filled == ["awk", "{print}", "$(touch x)", "7/a {seed}/m", "py"]
    assert command_plan.in_words(arm) == "awk {print} '$(touch x)' {seed}{metrics} {python}"


def test_metrics_are_numbers_by_name() -> None:
    found = command_plan.metrics_of(b'{"accuracy": 1, "test/loss": 0.5, "other": null, "lr": 1e-3}', "accuracy")
    assert found.pop("other") != found.get("other")
    assert found == {"accuracy": 1.0, "test/loss": 0.5, "lr": 0.001}
    for written in ("NaN", "Infinity", "-Infinity", "null", "1e999"):
        assert math.isnan(command_plan.metrics_of(f'{{"accuracy": {written}}}'.encode(), "accuracy")["accuracy"])


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe{", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"0.5", 'holds no object such as {"accuracy": 0.5}'),
        (b"{}", "has no 'accuracy': it is empty"),
        (b'{"acuracy": 1}', "has no 'accuracy'; did you mean acuracy?"),
        (b'{"accuracy": "0.5"}', "has '0.5' as 'accuracy', which is no number"),
        (b'{"accuracy": true}', "has True as 'accuracy', which is no number"),
        (b'{"accuracy": 1, "test": {"loss": 1}}', "names within names are written flat, as test/accuracy"),
        (b'{"accuracy": 1, "losses": [1, 2]}', "has [1, 2] as 'losses', which is no number"),
        (b'{"accuracy": 1, "acc@5": 1}', "has 'acc@5', which is no name of a metric"),
        (b'{"accuracy": 1' + b"0" * 400 + b"}", "which is too large"),
    ],
)
def test_what_a_program_may_not_write_is_a_sentence(written: bytes, said: str) -> None:
    with pytest.raises(AblateError) as raised:
        command_plan.metrics_of(written, "accuracy")
    assert said in str(raised.value)


@given(st.text(alphabet="./ab:- é@\\", max_size=6))
@settings(deadline=None)  # MLflow is imported in the first
def test_a_name_that_is_taken_is_one_of_mlflow(name: str) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.utils.validation import _validate_metric_name

    if not command_plan.unfit_name(name):
        try:
            _validate_metric_name(name)
        except MlflowException as error:
            pytest.fail(f"{name!r}: {error}")
