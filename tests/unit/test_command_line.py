"""What each command says of itself, takes as a flag, and refuses."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from worker import flags, settings
from worker.__main__ import main
from worker.commands import COMMANDS
from worker.version import version

ROOT: Final = Path(__file__).parents[2]
SOURCES: Final = [ROOT / "worker" / name for name in ("app.py", "loading.py")]
MODULES: Final = ("app", "auditing", "calibrating", "campaigning", "consoling", "feeding", "loading", "tailing")


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.upper().startswith(settings.PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def shown(text: str) -> set[str]:
    return {
        name for name in settings.Settings.model_fields if re.search(rf"^  {flags.flag(name)} ", text, re.MULTILINE)
    }


def test_every_setting_is_in_one_group_and_used_by_a_command() -> None:
    grouped = [name for names in flags.GROUPS.values() for name in names]

    assert sorted(grouped) == sorted(settings.Settings.model_fields)
    assert set(flags.USED_BY) == {*COMMANDS, "print-settings", "completion"}


@pytest.mark.parametrize("command", flags.USED_BY)
def test_help_shows_the_settings_that_a_command_uses_and_no_others(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = help_of(command, capsys)

    assert shown(text) == {name for name in flags.USED_BY[command] if not flags.is_secret(name)}
    assert all(title in text for title, names in flags.GROUPS.items() if flags.USED_BY[command] & set(names))


@pytest.mark.parametrize("command", flags.USED_BY)
def test_help_ends_with_two_examples_that_the_command_takes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    examples = help_of(command, capsys).partition("examples:\n")[2].splitlines()

    assert len(examples) == 2
    assert all(f"hamgate {command}" in each for each in examples)
    for each in examples:
        words = each.strip().partition("hamgate ")[2]
        arguments = [word.strip('"') for word in re.split(r" [<>|] ", words)[0].split()]
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--help"])  # every word before it is one that the parser knows
        assert ended.value.code == 0


def test_the_help_of_all_is_short_and_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of("", capsys)

    assert len(text.splitlines()) < 40
    assert all(re.search(rf"^    {name} ", text, re.MULTILINE) for name in flags.USED_BY)
    assert shown(text) == set()


def test_a_default_is_shown_and_none_names_a_place_of_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(help_of("run", capsys).split())

    assert "default: 127.0.0.1:9092" in text
    assert "default: the shipped one" in text
    assert str(ROOT) not in text


def test_a_secret_is_no_flag_and_help_says_where_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of("run", capsys)

    assert "--sasl-password" not in text
    assert "HAMGATE_SASL_PASSWORD: by the environment or .env only" in text.replace("HAMGATE_SASL_PASSWORD,", "")


def test_a_setting_of_other_commands_is_refused_as_a_flag_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["predict", "--brokers", "a:9092", "hello"])

    assert ended.value.code == 2
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .startswith("hamgate predict: error: --brokers is not used here; it is a setting of run, check, replay,")
    )


def test_a_setting_of_other_commands_may_be_a_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HAMGATE_AUDIT_WINDOW", "5000")

    assert main(["predict", "hello"]) == 0
    assert capsys.readouterr().out.startswith("ham ")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_may_be_given_every_setting_that_its_code_reads(command: str) -> None:
    assert reads(command) <= flags.USED_BY[command]


def test_reading_is_seen_through_calls() -> None:
    assert "sasl_username" in reads("replay")
    assert "session_timeout" in reads("run")
    assert "brokers" not in reads("predict")


def reads(command: str) -> set[str]:
    """The settings that a command's function reads, and whatever it calls in the modules that are given them."""
    bodies: dict[str, list[ast.AST]] = {}
    for path in [*SOURCES, *(ROOT / "worker" / "commands").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                bodies.setdefault(node.name, []).append(node)
    found: set[str] = set()
    seen, left = set[str](), [command]
    while left:
        if (name := left.pop()) in seen:
            continue
        seen.add(name)
        for node in [node for body in bodies[name] for node in ast.walk(body)]:
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "settings":
                found.add(node.attr)
            if isinstance(node, ast.Call):
                left += sorted(called(node) & set(bodies))
    return found & set(settings.Settings.model_fields)


def called(node: ast.Call) -> set[str]:
    """The functions of the modules looked into that a call calls, or hands to functools.partial."""
    function = node.func
    if isinstance(function, ast.Attribute):
        if function.attr == "partial":
            return {each.id for each in node.args if isinstance(each, ast.Name)}
        is_of_module = isinstance(function.value, ast.Name) and function.value.id in MODULES
        return {function.attr} if is_of_module else set()
    return {function.id} if isinstance(function, ast.Name) else set()


def test_the_version_is_said_with_commit_and_python(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOURCE_COMMIT", "abc123")

    with pytest.raises(SystemExit) as ended:
        main(["--version"])

    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"hamgate {version()}, commit abc123, Python 3.")


def test_bash_completes_commands_options_and_values(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if not bash:
        pytest.skip("bash is not installed")
    assert main(["completion", "bash"]) == 0
    (tmp_path / "hamgate").write_text(capsys.readouterr().out)

    def completed(*words: str) -> set[str]:
        program = (
            f"source hamgate; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
            f"_shtab_hamgate hamgate {words[-1]!r} {words[-2]!r}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        )
        done = subprocess.run([bash, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
        return set(done.stdout.split())

    assert completed("hamgate", "rep") == {"replay"}
    assert completed("hamgate", "replay", "--dr") == {"--dry-run"}
    assert completed("hamgate", "run", "--delivery", "exa") == {"exactly-once"}
    assert completed("hamgate", "predict", "--brok") == set()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_a_script_that_names_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0

    text = capsys.readouterr().out
    assert all(name in text for name in flags.USED_BY)
    assert str(ROOT) not in text


def test_help_and_completion_wait_for_no_model_and_no_client() -> None:
    program = (
        "import sys; from worker.__main__ import main; main(['completion', 'bash']);"
        "print({'torch', 'kafka', 'prometheus_client'} & set(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)

    assert done.stdout.splitlines()[-1] == "set()"
