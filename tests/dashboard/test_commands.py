"""What a form shows for a terminal: commands that shells, the command line and Python take, and that ask the same."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import pytest

from netproof.cli import main
from netproof.commands.audit import audit
from tests.dashboard.examples import DIGITS, EXAMPLES, digits, network
from tests.service.serving import NETWORK

HTML = {"Accept": "text/html"}
SPEC = (EXAMPLES / "digits.vnnlib").read_text()
#: In place of the programs: what they are called with.
RECORD = """netproof() { printf '%s\\0' "$@" > netproof.argv; }
curl() { printf '%s\\0' "$@" > curl.argv; }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files that questions name."""
    made = tmp_path_factory.mktemp("terminal")
    for path in (EXAMPLES / "digits_plain.onnx", DIGITS):
        shutil.copy(path, made)
    shutil.copy(EXAMPLES / "digits.vnnlib", made / "property.vnnlib")
    return made


@pytest.fixture(scope="module")
def known(site):
    """Network and data set, as forms name them."""
    about = {"network": network(site, "digits_plain.onnx"), "dataset": digits(site)}
    site.upload(NETWORK)  # another, which is not meant
    return about


def shown(site, path, fields):
    """The commands that a form shows, by what is said about them."""
    files = {name: (None, value) for name, value in (fields | {"action": "command"}).items()}
    answer = site.http.post(path, files=files, headers=HTML)
    assert answer.status_code == 200, re.findall(r'class="wrong".*', answer.text)
    found = re.findall(
        r'<p class="small muted">([^<]*)</p>.*?<pre class="command"[^>]*>([^<]*)</pre>', answer.text, re.DOTALL
    )
    return {html.unescape(what): html.unescape(text) for what, text in found}


def called(command, program, folder):
    """With what arguments a shell calls the program."""
    subprocess.run(["bash", "-ec", RECORD + command], cwd=folder, check=True, timeout=30)
    return (folder / f"{program}.argv").read_text().split("\0")[:-1]


def sent(command, folder):
    """The request that curl would send."""
    arguments = called(command, "curl", folder)
    return json.loads(arguments[arguments.index("--json") + 1])


def run(arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"source": "dataset", "index": "12", "epsilon": "8/255", "low": "0", "high": "1"}, []),
        (
            {"source": "dataset", "index": "3", "epsilon": "0.5", "norm": "l2", "low": "-1", "high": "1.5"}
            | {"label": "4", "targets": "5, 6", "kind": "distance", "time_limit": "2.5"}
            | {"engine": "milp", "backend": "highs", "seed": "7", "certificate": "on"},
            ["--timeout", "2.5", "--engine", "milp", "--backend", "highs", "--seed", "7"],
        ),
        ({"source": "numbers", "numbers": "0.25 " * 64, "epsilon": "1/50", "kind": "margin"}, []),
        ({"source": "vnnlib", "vnnlib": SPEC, "time_limit": "9"}, ["--timeout", "9"]),
    ],
)  # fmt: skip
def test_command_line_asks_what_the_form_asks(site, known, folder, fields, options, monkeypatch):
    monkeypatch.chdir(folder)
    commands = shown(site, "/ask", known | fields)
    request = sent(commands["To this service"], folder)
    arguments = called(commands["On your own machine"], "netproof", folder)
    assert [each for each in arguments if each in options] == options
    assert ("--certificate" in arguments) is ("certificate" in fields)
    run([*arguments, "--save-query", "asked.json"])
    assert json.loads((folder / "asked.json").read_text()) == request["query"]


def test_python_asks_what_the_form_asks(site, known, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    fields = {"source": "dataset", "index": "10", "epsilon": "0.1", "low": "0", "high": "1", "time_limit": "20"}
    exec(shown(site, "/ask", known | fields)["From Python"], {})
    assert capsys.readouterr().out.startswith("counterexample (-4.69")


def test_audit_is_the_same_on_ones_own_machine(site, known, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    fields = known | {"epsilon": "0.01", "low": "0", "high": "1", "begin": "2", "end": "5", "time_limit": "4"}
    commands = shown(site, "/audit", fields)
    command, *arguments = called(commands["On your own machine"], "netproof", folder)
    stated = audit.make_context(command, arguments).params
    assert (stated["eps"], stated["domain"], stated["indices"]) == ("0.01", ("0", "1"), slice(2, 5))
    assert stated["timeout"] == 4
    fields |= {"epsilon": "0.01, 1/50", "kind": "margin", "name": "a few", "priority": "high", "total_limit": "60"}
    commands = shown(site, "/audit", fields)
    assert "On your own machine" not in commands  # one audit has one radius
    run(called(commands["To this service, with the files at hand"], "netproof", folder))
    batch = site.http.get(f"/v1/batches/{capsys.readouterr().out.strip()}").json()
    request = sent(commands["To this service"], folder)
    assert batch["name"] == request.pop("name")
    assert (
        batch["request"].items() >= {"query": batch["request"]["query"], "priority": "high", "total_limit": 60}.items()
    )
    assert batch["request"]["query"].items() >= {"kind": "margin", "domain": ["0", "1"]}.items()
    assert [point["epsilon"] for point in batch["curve"]] == ["0.01", "1/50"]
    assert batch["inputs"] == 3
    site.http.post(f"/v1/batches/{batch['id']}/cancel")


def test_what_options_cannot_state_is_not_shown(site, known):
    fields = known | {"epsilon": "0.01", "low": "0", "high": "1"}
    assert set(shown(site, "/audit", fields | {"step": "2"})) == {"To this service"}
