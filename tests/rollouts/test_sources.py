"""Several files, patterns of names and folders; steps and data sets in names; two runs."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

import qra_jax as qra
from qra_jax.rollouts import _sources

from .._support.rollout_files import spelled, write

ROW = {"question": "q", "pattern": "p", "correct": True}


def save(folder, name, rows=(ROW,)):
    """A file in a folder that may not be there yet."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(path, list(rows))


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (["12.jsonl", "2.jsonl", "100.jsonl"], [2, 12, 100]),
        (["completions_00012.parquet", "completions_00003.parquet"], [3, 12]),
        (["step-300/a.csv", "step-20/a.csv"], [20, 300]),
        (["run-7/step_5/x.jsonl", "run-7/step_15/x.jsonl"], [5, 15]),
        (["global_step_10.jsonl", "global_step_9.jsonl"], [9, 10]),
        (["checkpoint-0/x.jsonl", "checkpoint-10/x.jsonl"], [0, 10]),
        (["qwen2.5-iter3-math500.jsonl", "qwen2.5-iter4-math500.jsonl"], [3, 4]),
        (["5_250101_120000.jsonl", "6_250101_130000.jsonl"], [5, 6]),
        (["step1_rank0.csv", "step1_rank1.csv", "step2_rank0.csv"], [1, 1, 2]),
        (["step3/part-0.csv", "step3/part-1.csv", "step4/part-0.csv"], [3, 3, 4]),
        (["ckpt1_step7.jsonl", "ckpt1_step9.jsonl"], [7, 9]),
        (["a.jsonl"], None),
        (["part-0.jsonl", "part-1.jsonl"], None),
        (["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"], None),
        (["seed1.jsonl", "seed2.jsonl"], None),
        (["5.jsonl"], [5]),
    ],
)
def test_steps_in_names(tmp_path, names, steps):
    """Files of a folder come in the order of the numbers in their names, which may be steps."""
    for name in names:
        save(tmp_path, name)
    for path in (tmp_path, tmp_path / "**" / "*.*"):
        found = qra.read_rollouts(path)
        assert len(found) == len(names)
        assert found.step is None if steps is None else found.step.tolist() == steps
        assert any(note.startswith("steps from the names") for note in found.notes) == bool(steps)


def test_a_field_of_steps_counts_more_than_names(tmp_path):
    """And a step that is left out is one of neither."""
    for name, step in (("1.jsonl", 10), ("2.jsonl", 20)):
        save(tmp_path, name, [{**ROW, "step": step}])
    assert qra.read_rollouts(tmp_path).steps == (10, 20)
    assert qra.read_rollouts(tmp_path, fields=qra.rollouts.Fields(step="")).steps == ()
    # A file by itself has no step in its name.
    assert qra.read_rollouts(save(tmp_path, "x/7.jsonl")).step is None


def test_several_files(tmp_path):
    """In the order in which they are named, of several kinds, packed or not."""
    files = [
        save(tmp_path, f"{name}", [{**ROW, "question": name}]) for name in ("b.csv", "a.jsonl")
    ]
    found = qra.read_rollouts(files)
    assert spelled(found) == [("b.csv", "p", True), ("a.jsonl", "p", True)]
    assert spelled(qra.read_rollouts(files[::-1]))[0] == ("a.jsonl", "p", True)
    with pytest.raises(ValueError, match=r"path must name every file once, got .*b\.csv again"):
        qra.read_rollouts([*files, tmp_path / "." / "b.csv"])
    with pytest.raises(ValueError, match="path must name at least one file, got none"):
        qra.read_rollouts([])
    with pytest.raises(ValueError, match=r"x\*\.csv must match files, got none"):
        qra.read_rollouts(tmp_path / "x*.csv")
    # A file whose name looks like a pattern is that file.
    odd = save(tmp_path, "[a].csv")
    assert len(qra.read_rollouts(odd)) == 1


def test_roles_that_some_files_lack(tmp_path):
    """Answers are missing there; confidence is not read at all; of grades and questions each file
    has its own names."""
    first = save(tmp_path, "a.jsonl", [{**ROW, "answer": "4", "pred": "5", "confidence": -1.0}])
    second = save(tmp_path, "b.jsonl", [{"idx": 3, "pattern": "r", "passed": False}])
    found = qra.read_rollouts([first, second])
    assert spelled(found) == [("q", "p", True, "5"), ("3", "r", False, None)]
    assert "confidence is not in every file and was not read" in found.notes
    assert "b.jsonl: read question from idx; correct from passed" in found.notes
    table = save(tmp_path, "c.csv", [{"pattern": "p", "samples": 3, "correct": 1}])
    with pytest.raises(
        ValueError, match=r"all hold rollouts or all counts, got counts in .*c\.csv"
    ):
        qra.read_rollouts([first, table])
    with pytest.raises(ValueError, match=r"b\.jsonl must have a pattern field"):
        qra.read_rollouts([first, save(tmp_path, "b.jsonl", [{"idx": 3, "passed": False}])])


def test_counts_in_several_files(tmp_path):
    """Tables of counts add up, one a step."""
    for step, right in ((10, 1), (9, 4)):
        save(tmp_path, f"{step}.csv", [{"pattern": "p", "samples": 5, "correct": right}])
    found = qra.read_rollouts(tmp_path)
    assert found.steps == (9, 10)
    assert found.at_step(9).counts()[1].tolist() == [[4]]
    a, b = (tmp_path / f"{step}.csv" for step in (9, 10))
    a.rename(tmp_path / "a.csv")
    b.rename(tmp_path / "b.csv")
    with pytest.raises(ValueError, match=r"b\.csv, line 2: pattern must have a name of its own"):
        qra.read_rollouts(tmp_path)


def test_steps_of_some_files_only(tmp_path):
    """Steps are told of all files or of none, by a field or by names."""
    save(tmp_path, "10.jsonl")
    save(tmp_path, "final.jsonl")
    with pytest.raises(
        ValueError, match=r"got one in .*10\.jsonl and none in .*final\.jsonl: --st"
    ):
        qra.read_rollouts(tmp_path)
    fields = qra.rollouts.Fields(step="")
    assert len(qra.read_rollouts(tmp_path, fields=fields)) == 2
    save(tmp_path, "final.jsonl", [{**ROW, "step": 3}])
    assert qra.read_rollouts(tmp_path).steps == (3, 10)


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (["a/1.jsonl", "b/1.jsonl", "a/2.jsonl", "b/2.jsonl"], "step 1"),
        (["run1_step10.csv", "run1_step20.csv", "run2_step10.csv"], "step 10"),
        (["base_step10.csv", "base_step20.csv", "sft_step10.csv"], "step 10"),
        (["a/rollouts.jsonl", "b/rollouts.jsonl"], "the same name, rollouts.jsonl"),
        (
            [
                "samples_gsm8k_2025-01-01T00-00-00.123456.jsonl",
                "samples_gsm8k_2025-01-02T00-00-00.123456.jsonl",
            ],
            "the same name, gsm8k",
        ),
        (
            [
                "m1/samples_gsm8k_2025-01-01T00-00-00.123456.jsonl",
                "m2/samples_gsm8k_2025-01-02T00-00-00.123456.jsonl",
            ],
            "the same name, gsm8k",
        ),
    ],
)
def test_two_runs_in_one_folder(tmp_path, names, what):
    """The same step, or the same task, twice is an error; unless the files are named."""
    files = [save(tmp_path, name) for name in names]
    with pytest.raises(ValueError, match=f"must be of one run, got .*, both of {what}: give one"):
        qra.read_rollouts(tmp_path)
    assert len(qra.read_rollouts(files)) == len(names)


def test_folders(tmp_path):
    """Hidden files are passed over, others are told; nothing to read is an error."""
    with pytest.raises(
        ValueError, match=r"must hold files that end in one of .*, got an empty fold"
    ):
        qra.read_rollouts(tmp_path)
    (tmp_path / "readme.md").write_text("x")
    with pytest.raises(ValueError, match=r"must hold files that end in .*, got only readme\.md"):
        qra.read_rollouts(tmp_path)
    save(tmp_path, "a.jsonl")
    save(tmp_path, ".hidden/b.jsonl")
    (tmp_path / "config.json").write_text("{}")
    found = qra.read_rollouts(tmp_path)
    assert len(found) == 1
    assert found.notes == (f"files of {tmp_path} that are not read: config.json, readme.md",)
    save(tmp_path, "b.csv")
    with pytest.raises(ValueError, match=r"files of one kind, got \.csv, \.jsonl: a pattern such"):
        qra.read_rollouts(tmp_path)


DATED = "{}_2025-01-01T00-00-00.123456.jsonl"


@pytest.mark.parametrize(
    ("names", "sets"),
    [
        ([DATED.format("samples_gsm8k"), DATED.format("samples_math")], ["gsm8k", "math"]),
        (["aime24.jsonl", "aime25.jsonl"], ["aime24", "aime25"]),
        (["part-0.jsonl", "part-1.jsonl"], None),
        (["out_seed0.jsonl", "out_seed1.jsonl"], None),
        (["output-rs0.jsonl", "output-rs1.jsonl"], None),
    ],
)
def test_data_sets_in_names(tmp_path, names, sets):
    """A question is one of its data set, which files may be named after; parts are of one."""
    files = [save(tmp_path, name, [{**ROW, "question": 0}]) for name in names]
    found = qra.read_rollouts(files)
    if sets is None:
        assert found.questions == ("0",)
        assert found.notes[-1].startswith("questions of the same name in several files are read as")
    else:
        assert found.questions == tuple(f"{name}: 0" for name in sets)
        assert "after which files are named" in found.notes[-1]


@pytest.mark.parametrize(
    "name",
    ["dataset", "dataset_name", "data_source", "benchmark", "task", "task_name", "eval_name"],
)
def test_data_sets_in_a_field(tmp_path, name):
    """The same name in two data sets is two questions; names stay as they are where they differ."""
    rows = [
        {**ROW, "question": q, name: s}
        for q, s in ((0, "b"), (1, "b"), (0, "a"), (0, "b"), (2, "a"))
    ]
    found = qra.read_rollouts(save(tmp_path, "x.jsonl", rows))
    assert [row[0] for row in spelled(found)] == ["b: 0", "b: 1", "a: 0", "b: 0", "a: 2"]
    assert found.questions == ("b: 0", "b: 1", "a: 0", "a: 2")
    assert any("several data sets (b, a) are several questions" in n for n in found.notes)
    found = qra.read_rollouts(save(tmp_path, "x.jsonl", [rows[1], rows[2], rows[4]]))
    assert found.questions == ("1", "0", "2")
    found = qra.read_rollouts(
        save(tmp_path, "x.jsonl", rows), fields=qra.rollouts.Fields(dataset="")
    )
    assert found.questions == ("0", "1", "2")
    counts = [{"question": 0, name: s, "pattern": "p", "samples": 3, "correct": 1} for s in "ab"]
    assert qra.read_rollouts(save(tmp_path, "y.csv", counts)).questions == ("a: 0", "b: 0")


def test_questions_that_differ_between_steps(tmp_path):
    """It is said how many questions all steps share."""
    rows = [{**ROW, "question": q, "step": s} for s in (0, 5) for q in range(4)]
    assert qra.read_rollouts(save(tmp_path, "x.jsonl", rows)).notes == ()
    found = qra.read_rollouts(save(tmp_path, "x.jsonl", [*rows, {**ROW, "question": 9, "step": 5}]))
    assert found.notes == (
        "the steps have different questions: 4 of 5 are in every step, a step has 4 to 5; a change "
        "from step to step may be one of questions",
    )


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=6, unique=True))
def test_names_sort_by_their_numbers(tmp_path_factory, steps):
    """Whatever their number of digits."""
    folder = tmp_path_factory.mktemp("steps")
    for step in steps:
        (folder / f"{step}.jsonl").write_text("")
    sources, notes = _sources.found_files([folder])
    assert [source.step for source in sources] == sorted(steps)
    assert notes == []


@pytest.mark.parametrize("name", ["rollouts.jsonl", "10.jsonl"])
def test_a_file_and_the_same_packed(tmp_path, name):
    """In one folder are an error, since all rollouts would count twice."""
    file = save(tmp_path, name)
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    with pytest.raises(ValueError, match=r"which differ in their endings only: name one of them"):
        qra.read_rollouts(tmp_path)
    assert len(qra.read_rollouts(file)) == 1
