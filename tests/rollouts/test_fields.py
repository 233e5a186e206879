"""Which field is read as what."""

import json

import pytest

import qra_jax as qra

from .._support.rollout_files import RULES, spelled, write

# As the documentation lists them, the first first.
NAMES = {
    "question": "question question_id problem_id prompt_id problem prompt doc_id task_id "
    "sample_id idx qid input query instruction uid id doc.query doc.id",
    "pattern": "pattern",
    "correct": "correct is_correct passed acc score exact_match reward symbolic_correct "
    "correctness_math_verify math_verify extractive_match plus_status base_status success solved "
    "resolved grade accuracy scores",
    "text": "text response responses completion completions generation generations output outputs "
    "resps code generated_text model_output model_response sampled predictions messages "
    "conversations solution content "
    "model_response.text",
    "answer": "pred prediction predicted_answer extracted_answer model_answer filtered_resps "
    "pred_value picked answer",
    "confidence": "confidence self_certainty mean_logprob mean_log_prob avg_logprob",
    "step": "step global_step training_step checkpoint_step global_steps train_step "
    "training_steps optimizer_step update_step ckpt_step model_step policy_step",
}


def taken(row, **options):
    """What each role was read as, of a file of one row."""
    found = qra.read_rollouts(row, **options)
    return {
        "question": found.questions[0],
        "pattern": found.patterns[0],
        "correct": bool(found.correct[0]),
        "answer": None if found.answer is None else found.answers[0],
        "confidence": None if found.confidence is None else float(found.confidence[0]),
        "step": None if found.step is None else int(found.step[0]),
    }


def test_choice_of_fields(tmp_path):
    """Fields that are named win; of the others the notes say what was taken and what was not."""
    (tmp_path / "rules.toml").write_text(RULES)
    row = {"id": "b", "idx": "a", "pattern": "p", "kind": "k", "score": 1, "ok": "no"}
    with pytest.raises(ValueError, match=r"field must not be given where rules .*, got 'kind'"):
        qra.read_rollouts(
            write(tmp_path / "x.jsonl", [row]),
            fields=qra.rollouts.Fields(pattern="kind"),
            rules=tmp_path / "rules.toml",
        )
    file = write(tmp_path / "x.jsonl", [row])
    found = qra.read_rollouts(file)
    assert spelled(found) == [("a", "p", True)]
    assert found.notes == ("read question from idx (and not id); correct from score",)
    fields = qra.rollouts.Fields(question="id", pattern="kind", correct="ok")
    found = qra.read_rollouts(file, fields=fields)
    assert spelled(found) == [("b", "k", False)]
    assert found.notes == ()
    file = write(tmp_path / "y.jsonl", [{**row, "question": "c", "acc": True}])
    expected = (
        "read question from question (and not idx, id); correct from acc (and not score: "
        "--correct-field chooses)",
        "the grade that is read, acc, says right 1 of 1 times; score, which is not read, 1 of 1 "
        "(--correct-field score reads it)",
    )
    assert qra.read_rollouts(file).notes == expected


@pytest.mark.parametrize("role", NAMES)
def test_every_common_name(tmp_path, role):
    """Each is found, those before it in the list first, and left out where another is asked for."""
    (tmp_path / "rules.toml").write_text('default="t0"\n' + "".join(
        f'[[pattern]]\nname = "t{i}"\nregex = "^x{i}$"\n' for i in range(1, 30)
    ))  # fmt: skip
    by_rules = {"rules": tmp_path / "rules.toml"} if role == "text" else {}
    plain = {"question": "q", "pattern": "p", "correct": True}
    values = {
        "question": lambda i: f"q{i}",
        "pattern": lambda i: f"p{i}",
        "correct": lambda i: i == 0,
        "text": lambda i: f"x{i}",
        "answer": lambda i: f"a{i}",
        "confidence": lambda i: -1.0 - i,
        "step": lambda i: i + 1,
    }[role]
    names, shown = NAMES[role].split(), "pattern" if role == "text" else role
    others = {key: value for key, value in plain.items() if key != role}
    for first, name in enumerate(names):
        # Numbered from the first that is there, so that another one's value is seen.
        row = {key: values(i) for i, key in enumerate(names[first:])}
        file = write(tmp_path / "x.jsonl", [dict(reversed((others | row).items()))])
        expected = f"t{0}" if role == "text" else values(0)
        assert taken(file, **by_rules)[shown] == expected, name
        if first:
            # By its name, whatever else there is.
            row = {key: values(int(key != name)) for key in names}
            write(file, [others | row])
            fields = qra.rollouts.Fields(**{role: name})
            assert taken(file, fields=fields, **by_rules)[shown] == expected, name
            notes = qra.read_rollouts(file, fields=fields, **by_rules).notes
            assert all(note.startswith("no text is of pattern t") for note in notes)
    if role in ("answer", "confidence", "step"):
        found = taken(file, fields=qra.rollouts.Fields(**{role: ""}))
        assert found[role] is None
        assert found["question"] == "q"
    elif role != "text":
        with pytest.raises(ValueError, match=f"must have a {role} field"):
            qra.read_rollouts(file, fields=qra.rollouts.Fields(**{role: ""}))


def test_reference_answer_is_not_an_answer(tmp_path):
    """An answer that is one for right and wrong rollouts alike is that of the solution."""
    rows = [{"question": "a", "pattern": "p", "correct": c, "answer": "4"} for c in (0, 1)]
    found = qra.read_rollouts(write(tmp_path / "x.csv", rows))
    assert found.answer is None
    assert "the reference" in found.notes[0]
    named = qra.read_rollouts(tmp_path / "x.csv", fields=qra.rollouts.Fields(answer="answer"))
    assert named.answers == ("4",)
    without = qra.read_rollouts(tmp_path / "x.csv", fields=qra.rollouts.Fields(answer=""))
    assert without.answer is None
    assert without.notes == ()


def test_fields_of_json_lines_are_those_of_4_mb(tmp_path):
    """One that occurs first a little before that is found, one a little after is not."""
    file = tmp_path / "x.jsonl"
    length, block = 10_000, 1 << 22
    row = {"question": "q", "pattern": "p", "correct": True, "beside": "." * length}
    number = block // length + 20
    for at, found in ((number - 60, True), (number - 1, False)):
        rows = [json.dumps({**row, **({"confidence": 0.5} if i == at else {})})
                for i in range(number)]  # fmt: skip
        file.write_text("\n".join(rows))
        some = qra.read_rollouts(file)
        assert (some.confidence is not None) == found
        late = "fields that first occur after the first 4 MB, and are not read: confidence"
        assert (late in some.notes) != found


def test_names_in_letters_of_either_size(tmp_path):
    """As spreadsheets have them; the one that is spelled alike first."""
    row = {"Question": "q", "PATTERN": "p", "Correct": "TRUE", "Step": 3, "Answer": "x"}
    found = qra.read_rollouts(write(tmp_path / "x.csv", [row]))
    assert spelled(found) == [("q", "p", True, "x", 3)]
    expected = (
        "question from Question; pattern from PATTERN; correct from Correct; answer from Answe"
    )
    assert expected in found.notes[0]
    found = qra.read_rollouts(write(tmp_path / "x.csv", [{**row, "question": "r"}]))
    assert found.questions == ("r",)
