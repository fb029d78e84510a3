"""Uploading, asking and auditing by forms: what a browser shows, what is sent, and what is said about mistakes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from service.dashboard.asking import FormError, of_job, request_of
from service.dashboard.auditing import batch_of

EXAMPLES = Path(__file__).parents[2] / "examples"
HTML = {"Accept": "text/html"}
PHONE = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}


@pytest.fixture(scope="module")
def digits(site):
    """The example network and its data set, by their hashes."""
    network = site.http.post("/v1/networks?name=digits.onnx", content=(EXAMPLES / "digits_robust.onnx").read_bytes())
    headers = {"Content-Type": "application/octet-stream"}
    content = (EXAMPLES / "digits.npz").read_bytes()
    dataset = site.http.post("/v1/datasets?name=digits.npz", content=content, headers=headers)
    return network.json()["sha256"], dataset.json()["sha256"]


def test_refused_network_brings_its_reason(open_page, site, tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    page, watch = open_page(site, "/networks")
    page.get_by_label("ONNX file").set_input_files(tmp_path / "broken.onnx")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("alert")).to_contain_text("not an ONNX model")
    watch.expect("422")


def test_uploaded_network_shows_its_layers(visit, accessible):
    page = visit("/networks")
    page.get_by_label("ONNX file").set_input_files(EXAMPLES / "digits_plain.onnx")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("digits_plain.onnx")
    assert page.get_by_role("row").filter(has_text="relu").count() == 2
    expect(page.get_by_text("5\u202f962", exact=True)).to_be_visible()
    accessible(page)


def test_uploaded_data_set_shows_its_pictures(visit, accessible, digits):
    page = visit("/datasets", **PHONE)
    page.get_by_label("One file").set_input_files(EXAMPLES / "digits.npz")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("digits.npz")
    accessible(page)
    page.get_by_role("link", name="label 7", exact=True).click()
    picture = page.get_by_role("img", name=re.compile("Input .*, label 7")).first
    picture.scroll_into_view_if_needed()
    page.wait_for_function("image => image.complete && image.naturalWidth === 8", arg=picture.element_handle())
    picture.click()
    expect(page.get_by_label("Data set", exact=True)).to_have_value(digits[1])


def test_form_shows_the_chosen_input_and_the_command(visit, accessible, digits):
    network, dataset = digits
    page = visit(f"/ask?network={network}&dataset={dataset}&index=3")
    page.get_by_label("Input number").fill("12")
    expect(page.get_by_role("img", name="The chosen input")).to_have_attribute("src", f"/datasets/{dataset}/12.png")
    accessible(page)
    page.get_by_label("Radius ε").fill("8/255")
    page.get_by_role("button", name="Show the command").click()
    command = page.locator("#command").inner_text()
    assert network in command
    assert '"epsilon": "8/255"' in command
    assert "/v1/verify?wait=30" in command
    expect(page.get_by_label("Input number")).to_have_value("12")
    accessible(page)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").first.click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").startswith("netproof verify digits")


def test_mistakes_stand_beside_their_fields(open_page, site, digits):
    network, dataset = digits
    page, watch = open_page(site, f"/ask?network={network}&dataset={dataset}&index=3&epsilon=much", **PHONE)
    page.get_by_role("button", name="Verify").click()
    wrong = page.get_by_label("Radius ε")
    expect(wrong).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#epsilon-wrong")).to_contain_text("much")
    watch.expect("422")


def test_form_offers_a_network_that_the_data_set_fits(site, visit, digits):
    site.upload()  # another one, newer, with three inputs
    page = visit(f"/ask?dataset={digits[1]}")
    expect(page.locator("#network option:checked")).to_contain_text("to 10)")


def test_drawing_fills_in_the_numbers(visit, digits):
    page = visit(f"/ask?network={digits[0]}&source=numbers")
    canvas = page.get_by_role("img", name=re.compile("Drawing"))
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.8 * box["height"], steps=8)
    page.mouse.up()
    drawn = np.array(page.locator("#numbers").input_value().split(), float).reshape(8, 8)
    assert drawn[2:6, 3:5].min() > 0
    assert not drawn[:, [0, 7]].any()
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#numbers")).to_have_value("")


def form(digits, **fields):
    return {"network": digits[0], "dataset": digits[1], "source": "dataset", "index": "12", "epsilon": "1/50"} | fields


def send(site, path, fields):
    """Send a form as browsers do: in parts."""
    files = {name: (None, value) for name, value in fields.items()}
    return site.http.post(path, files=files, headers=HTML)


def test_question_is_the_one_that_the_form_states(site, digits):
    fields = form(digits, low="0", high="1", certificate="on", time_limit="20", once="A" * 26)
    answer = send(site, "/ask", fields)
    assert answer.status_code == 303, answer.text
    job = site.http.get(f"/v1{answer.headers['Location']}?include=input").json()
    with np.load(EXAMPLES / "digits.npz") as data:
        images, labels = data["images"], data["labels"]
    query = job["request"]["query"]
    assert query["input"] == images[12].ravel().tolist()
    assert query | {"input": 0} == {
        "input": 0, "epsilon": "1/50", "norm": "linf", "domain": ["0", "1"], "label": int(labels[12])
    }  # fmt: skip
    assert job["request"]["certificate"] is True
    assert job["request"]["time_limit"] == 20
    assert send(site, "/ask", fields).headers["Location"] == answer.headers["Location"]
    other = send(site, "/ask", fields | {"epsilon": "1/40"})
    assert other.headers["Location"] != answer.headers["Location"]
    again = site.http.get(f"/ask?job={job['id']}", headers=HTML).text
    assert 'value="1/50"' in again


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"index": "450"}, "index", "0 to 449"),
        ({"index": "x"}, "index", "0 to 449"),
        ({"dataset": "0" * 64}, "dataset", "data set"),
        ({"low": "1", "high": "0"}, "low", "domain"),
        ({"label": "10"}, "label", "10"),
        ({"label": "-1"}, "label", "whole number"),
        ({"targets": "3, x"}, "targets", "whole number"),
        ({"time_limit": "soon"}, "time_limit", "expected a number"),
        ({"time_limit": "-1"}, "time_limit", "greater than 0"),
        ({"time_limit": "nan"}, "time_limit", "expected a number"),
        ({"epsilon": " "}, "epsilon", "give the radius"),
        ({"low": "0", "high": ""}, "low", "both ends"),
        ({"source": "numbers", "numbers": "inf " * 64}, "numbers", "entry 0 is no finite number"),
        ({"source": "numbers", "numbers": "1 2 three"}, "numbers", "three"),
        ({"source": "numbers", "numbers": "1 2 3"}, "numbers", "64"),
        ({"source": "vnnlib", "vnnlib": "(assert"}, "vnnlib", "line 1"),
        ({"source": "vnnlib", "vnnlib": " "}, "vnnlib", "choose a file"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(site, digits, fields, field, words):
    answer = send(site, "/ask", form(digits, **fields))
    assert answer.status_code == 422, answer.headers
    found = re.findall(rf'<span class="wrong" id="{field}-wrong">([^<]*)', answer.text)
    assert found, re.findall(r'class="wrong".*', answer.text)
    assert words in found[0]


def test_audit_is_the_one_that_the_form_states(site, digits):
    network, dataset = digits
    fields = {"network": network, "dataset": dataset, "epsilon": "1/100, 1/50", "low": "0", "high": "1"}
    fields |= {"begin": "0", "end": "4", "step": "2", "name": "two digits", "time_limit": "20"}
    answer = send(site, "/audit", fields)
    assert answer.status_code == 303, answer.text
    batch = site.http.get(f"/v1{answer.headers['Location']}").json()
    assert batch["name"] == "two digits"
    assert batch["inputs"] == 2
    assert [point["epsilon"] for point in batch["curve"]] == ["1/100", "1/50"]
    wrong = send(site, "/audit", fields | {"epsilon": "", "step": "0"})
    assert wrong.status_code == 422
    assert 'id="epsilon-wrong"' in wrong.text
    for epsilon in ("0,05", "0.1, 0,5"):
        wrong = send(site, "/audit", fields | {"epsilon": epsilon})
        assert "with a point" in wrong.text
    shown = send(site, "/audit", fields | {"epsilon": "0.1,1 / 50,1/20", "step": "", "action": "command"}).text
    assert "--eps 0.1 --eps 1/50 --eps 1/20" in shown
    assert "/v1/batches" in shown
    assert "&#34;two digits&#34;" in shown


def test_lists_filter_and_turn_pages(site, visit, accessible, digits):
    for i in range(31):
        send(site, "/ask", form(digits, index=str(i), epsilon="1/1000"))
    page = visit(f"/jobs?network={digits[0]}")
    assert page.locator("tbody tr").count() == 30
    page.get_by_role("link", name="Older").click()
    expect(page.locator("tbody tr").first).to_be_visible()
    accessible(page)
    page.get_by_label("State").select_option("failed")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("Nothing fits")).to_be_visible()
    assert site.http.get("/jobs?state=odd", headers=HTML).status_code == 422


def test_forms_and_lists_are_accessible(visit, accessible, digits):
    for path in ("/ask", "/audit", "/batches", "/datasets"):
        accessible(visit(path, **PHONE))


def test_asking_again_asks_the_same():
    request = {
        "network": "a" * 64, "engine": "bab", "backend": "highs", "time_limit": 7.5, "priority": "high", "seed": 3,
        "certificate": True,
        "query": {"input": [0.1, 1e-7, 1 / 3], "epsilon": "1/3", "norm": "l2", "domain": [0, "1/2"], "label": 2,
                  "targets": [0, 1], "kind": "margin"},
    }  # fmt: skip
    again = request_of(of_job(request), None)
    assert again["query"].pop("domain") == ["0", "1/2"]
    assert again == request | {"query": {k: v for k, v in request["query"].items() if k != "domain"}}
    spec = {"network": "a" * 64, "time_limit": 60.0, "query": {"vnnlib": "(declare-const X_0 Real)"}}
    assert request_of(of_job(spec), None) == spec


def test_empty_forms_say_what_is_missing():
    with pytest.raises(FormError) as error:
        request_of({"source": "numbers"}, None)
    assert {each["pointer"] for each in error.value.document["errors"]} == {"network", "numbers", "epsilon"}
    with pytest.raises(FormError) as error:
        batch_of({})
    assert {each["pointer"] for each in error.value.document["errors"]} == {"network", "dataset", "epsilon"}


def test_what_the_form_cannot_state_is_said(site, digits):
    query = {"input": [0.5] * 64, "epsilon": "0.01", "label": 1, "top_k": 2, "frozen": [0]}
    job = site.http.post("/v1/verify", json={"network": digits[0], "query": query, "time_limit": 5}).json()["id"]
    page = site.http.get(f"/ask?job={job}", headers=HTML).text
    assert re.findall(r"<code>(\w+)</code>", page) == ["frozen", "top_k"]
    site.http.post(f"/v1/jobs/{job}/cancel")
