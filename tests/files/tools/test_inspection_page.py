"""The page of inspect: self-contained, with the numbers of the report."""

from __future__ import annotations

import json
import re

import torch
from typer.testing import CliRunner

from helpers.lora_files import make, write
from stiefel_lora import _commands
from stiefel_lora.files import inspect_lora, open_lora
from stiefel_lora.files.tools.inspection_page import inspection_page
from stiefel_lora.files.tools.inspection_tables import inspection_tables


def numbers_of(page: str) -> list[dict]:
    found = re.search(r'<script id="numbers"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_all_spectra_are_in_it_and_nothing_is_loaded(tmp_path):
    files = [
        write(tmp_path / f"{n}.safetensors", make(seed=n), ss_output_name="a<b>")
        for n in range(2)
    ]
    reports = [inspect_lora(file) for file in files]
    page = inspection_page(reports)
    assert not re.findall(r"(?:src|href)\s*=|https?:|@import|url\(", page)
    for report, found in zip(reports, numbers_of(page), strict=True):
        names = [layer.name for layer in report.layers]
        assert [layer["name"] for layer in found["layers"]] == names
        for layer, row in zip(report.layers, found["layers"], strict=True):
            assert torch.allclose(
                torch.tensor(row["s"]), torch.tensor(layer.spectrum), rtol=1e-3
            )
    assert "a&lt;b&gt;" in page
    assert "a<b>" not in page


def test_the_sections_are_those_of_the_table(tmp_path):
    report = inspect_lora(write(tmp_path / "x.safetensors", make()))
    table = next(
        part
        for part in inspection_tables([report])
        if not isinstance(part, str) and part.columns[0].header == "Section"
    )
    cells = [[str(cell) for cell in column.cells] for column in table.columns]
    shown = inspection_page([report]).partition("<h2>Sections</h2>")[2]
    rows = re.findall(r"<tr>(.*?)</tr>", shown.partition("</table>")[0])
    found = [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in rows]
    assert found[0] == [str(column.header) for column in table.columns]
    assert found[1:] == [list(row) for row in zip(*cells, strict=True)]
    share = found[-1][found[0].index("Share")]
    assert share == f"{report.total.share:.1%}"
    assert f"<td>{share}</td>" in inspection_page([report]).partition("<h2>")[0]


def test_names_and_nan_do_no_harm(tmp_path):
    stem = "diffusion_model.</script><b>.x"
    tensors = {
        f"{stem}.lora_A.weight": torch.full((1, 2), torch.nan),
        f"{stem}.lora_B.weight": torch.ones(2, 1),
    }
    page = inspection_page([inspect_lora(write(tmp_path / "x.safetensors", tensors))])
    (found,) = numbers_of(page)
    assert found["layers"][0]["s"] == [None]
    assert "NaN or infinity" in page
    assert "</script><b>" not in page


def test_the_command(tmp_path):
    path, page = tmp_path / "x.safetensors", tmp_path / "x.html"
    write(path, make())

    def run(*options: str):
        given = ["lora", "inspect", str(path), "--html", str(page), *options]
        return CliRunner().invoke(_commands.app, given)

    assert run().exit_code == 0
    report = inspect_lora(open_lora(path))
    assert page.read_text("utf-8") == inspection_page([report])
    assert "--html: " in run().stderr
    assert run("--overwrite").exit_code == 0
