"""The dashboard's reports: their text, and the command behind each figure."""

from pathlib import Path

from dashboard_client import HOSTILE
from fake_runs import write_evaluation, write_run

from cli.main import main
from dashboard.markdown import blocks, commands
from dashboard.results import command, report


def test_markdown_becomes_blocks_of_text() -> None:
    text = f"# Title\n\nA line {HOSTILE}\nand another.\n\n"
    text += "| a | b |\n|---|---|\n| `x` | 1.5 |\n\n![p](q.png)\n\n- one\n- two\n\n"
    text += "```\nbidist report runs \\\n  --out out # why\n```\n"
    found = blocks(text)
    assert [block["kind"] for block in found] == ["heading", "text", "table", "picture", "list", "code"]
    assert found[1]["text"] == f"A line {HOSTILE} and another."
    assert found[2] == {"kind": "table", "head": ["a", "b"], "rows": [["`x`", "1.5"]]}
    assert commands(text) == ["bidist report runs --out out"]


def test_a_picture_has_the_command_that_made_it_and_no_other(tmp_path: Path) -> None:
    root = tmp_path / "results"
    folder = root / "strangers"
    folder.mkdir(parents=True)
    for name in ("returns.png", "diversity.png", "other.png"):
        (folder / name).touch()
    assert command(root, folder / "returns.png") == ""
    (root / "bench.json").write_text('{"command": "bidist bench"}')
    (root / "README.md").write_text(
        "```\nbidist report runs --out results/elsewhere\nbidist report runs --out results/NAME\n"
        "bidist diversity a b --out results/strangers\n```\n"
    )
    assert command(root, folder / "returns.png") == "bidist report runs --out results/strangers"
    assert command(root, folder / "diversity.png") == "bidist diversity a b --out results/strangers"
    assert command(root, root / "bench.png") == "bidist bench"
    assert command(root, root / "curves.png") == ""
    (folder / "command.json").write_text('{"command": "bidist report other --out results/strangers"}')
    assert command(root, folder / "returns.png") == "bidist report other --out results/strangers"


def test_the_commands_of_all_tables_and_figures_of_table_1_are_known() -> None:
    root = Path(__file__).parents[2] / "results"
    made = [path for path in (root / "table-1").rglob("*") if path.suffix in (".png", ".csv")]
    known = {command(root, path) for path in made}
    assert len(made) >= 5 and known == {"bidist reproduce --report-only --out results/table-1"}


def test_bidist_report_records_its_command(tmp_path: Path) -> None:
    write_evaluation(write_run(tmp_path / "runs", "one"), ["coins_0", "coins_1"])
    out = tmp_path / "results" / "new"
    assert main(["report", str(tmp_path / "runs"), "--out", str(out)]) == 0
    shown = report(tmp_path / "results", "new")
    pictures = [b for document in shown["documents"] for b in document["blocks"] if b["kind"] == "picture"]
    assert pictures and all(p["command"] == f"bidist report {tmp_path / 'runs'} --out {out}" for p in pictures)
    assert {table["name"] for table in shown["tables"]} == {"returns.csv"}


def test_reports_of_crossplay_and_searches_are_documents(tmp_path: Path) -> None:
    for name in ("crossplay.md", "tune.md"):
        (tmp_path / name).write_text(f"# {name}\n")
    assert [document["name"] for document in report(tmp_path, ".")["documents"]] == ["crossplay.md", "tune.md"]
