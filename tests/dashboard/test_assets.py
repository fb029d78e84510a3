"""What the pages are made of: nothing from elsewhere, nothing inline, and kept by browsers."""

from __future__ import annotations

import base64
import hashlib
import json
import re

from service.dashboard.assets import STATIC, asset_integrity, asset_url, assets

TEMPLATES = sorted((STATIC.parent / "templates").rglob("*.html"))


def test_vendored_files_are_those_on_record():
    vendor = STATIC / "vendor"
    manifest = json.loads((vendor / "manifest.json").read_text())
    assert set(manifest) == {path.name for path in vendor.glob("*.js")}
    for name, entry in manifest.items():
        digest = hashlib.sha384((vendor / name).read_bytes()).digest()
        assert base64.b64encode(digest).decode() == entry["sha384"], name
        assert asset_integrity(name) == f"sha384-{entry['sha384']}"
        assert (vendor / entry["licence"]).read_text().strip(), name


def test_templates_hold_no_inline_script_or_style_and_name_no_other_host():
    assert TEMPLATES
    for path in TEMPLATES:
        text = path.read_text()
        assert not re.search(r"\sstyle=|<style|\son\w+=|javascript:|https?://", text), path.name
        assert not re.search(r"<script(?![^>]*\ssrc=)", text), path.name


def test_static_files_are_kept_as_long_as_their_content(site):
    for name, asset in assets().items():
        answer = site.http.get(asset_url(name))
        assert answer.content == asset.content
        assert "immutable" in answer.headers["Cache-Control"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    answer = site.http.get("/static/app.css?v=other")
    assert answer.headers["Cache-Control"] == "no-cache"
    known = {"If-None-Match": answer.headers["ETag"]}
    assert site.http.get("/static/app.css", headers=known).status_code == 304


def test_no_path_leads_out_of_the_static_folder(site):
    for name in ("../assets.py", "%2e%2e/assets.py", "..%2fassets.py", "vendor/../../assets.py", "/etc/passwd", ""):
        assert site.http.get(f"/static/{name}").status_code == 404
