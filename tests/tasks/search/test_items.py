"""Items of judgements as Parquet: what is written is read, joined, shown in turns, and a damaged file is said to be
one."""

from dataclasses import replace

import pytest

from psomerge.errors import StateError
from psomerge.evals.suites.scores import Example
from psomerge.tasks.search import items as traces

CHOICE = Example("pick", "so", "a1", "g1", "Q:", (" ja", " ño"), (-1.25, -0.1), None, " ño", " ja", "acc", 0.0)
TEXT = Example("say", "tk", "b1", "g2", "P:\nline", (), (), "Aşgabat\n", "Aşgabat", "Aşgabat", "exact_match", 1.0)


def test_items_come_back_as_they_were(tmp_path):
    path = traces.path_of(tmp_path, "key")
    traces.write([CHOICE, TEXT], path)
    assert traces.read(path) == [CHOICE, TEXT]
    assert path == tmp_path / "items" / "key.parquet"


def test_several_models_are_one_table_with_the_first_rows_of_each(tmp_path, monkeypatch):
    import pandas

    monkeypatch.setattr(traces, "SHOWN", 3)
    paths = {label: traces.path_of(tmp_path, label) for label in ("base", "expert")}
    traces.write([replace(CHOICE, item=str(n)) for n in range(3)], paths["base"])
    traces.write([TEXT], paths["expert"])
    rows = traces.together(list(paths.items()), tmp_path / "all.parquet")
    assert [(row["model"], row["item"]) for row in rows] == [("base", "0"), ("expert", "b1"), ("base", "1")]
    assert list(rows[0])[:3] == ["model", "benchmark", "value"]
    whole = pandas.read_parquet(tmp_path / "all.parquet")
    assert list(whole["model"]) == ["base"] * 3 + ["expert"]
    assert set(whole.columns) == set(traces.COLUMNS)


def test_a_damaged_file_is_told(tmp_path):
    path = traces.path_of(tmp_path, "key")
    traces.write([CHOICE], path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(StateError, match="items of a judgement cannot be read"):
        traces.read(path)
    with pytest.raises(StateError, match="cannot be read"):
        traces.read(tmp_path / "none.parquet")
