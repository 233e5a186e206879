"""The names by which fields of rollouts are commonly called."""

import re

# The first name that is there is taken; a harness's `answer` is often the reference answer.
COMMON = {
    "question": (
        *("question", "question_id", "problem_id", "prompt_id", "problem", "prompt"),
        *("doc_id", "task_id", "sample_id", "idx", "qid", "input", "query", "instruction"),
        *("uid", "id", "doc.query", "doc.id"),
    ),
    "pattern": ("pattern",),
    "correct": (
        *("correct", "is_correct", "passed", "acc", "score", "exact_match", "reward"),
        *("symbolic_correct", "correctness_math_verify", "math_verify", "extractive_match"),
        *("plus_status", "base_status", "success", "solved", "resolved", "grade"),
        *("accuracy", "scores"),
    ),
    "text": (
        *("text", "response", "responses", "completion", "completions", "generation"),
        *("generations", "output", "outputs", "resps", "code", "generated_text"),
        *(
            "model_output",
            "model_response",
            "sampled",
            "predictions",
            "messages",
            "conversations",
            "solution",
        ),
        "content",
        "model_response.text",
    ),
    "answer": (
        *("pred", "prediction", "predicted_answer", "extracted_answer", "model_answer"),
        *("filtered_resps", "pred_value", "picked", "answer"),
    ),
    "confidence": ("confidence", "self_certainty", "mean_logprob", "mean_log_prob", "avg_logprob"),
    "step": (
        *("step", "global_step", "training_step", "checkpoint_step", "global_steps"),
        *("train_step", "training_steps", "optimizer_step", "update_step", "ckpt_step"),
        *("model_step", "policy_step"),
    ),
    "learning_rate": (
        *("learning_rate", "lr", "train/learning_rate", "actor/lr", "current_lr", "optimizer/lr"),
    ),
    "dataset": (
        *("dataset", "dataset_name", "data_source", "benchmark", "task", "task_name"),
        *("eval_name", "eval.task"),
    ),
}
# Counts: how many rollouts, and how many of them were right. The first of each is as good as a
# name of its own; the others are counts where they stand beside each other.
SAMPLES = (
    *("samples", "n_samples", "num_samples", "n_rollouts", "num_rollouts", "n", "k"),
    *("total", "count", "attempts", "n_total", "num_total", "n_attempts", "trials"),
)
RIGHT = (
    *("n_correct", "num_correct", "correct_count", "n_right", "num_right", "c"),
    *("successes", "n_success", "num_success", "n_passed", "num_passed", "passes"),
)

MODELS = (
    *("model", "model_name", "model_id", "model_alias", "model_path", "model_revision"),
    *("policy_name", "checkpoint_name", "checkpoint_path"),
)
SETS = ("dataset", "dataset_name", "data_source", "benchmark", "task", "task_name", "eval_name")
# Of one question, all rollouts have these in common whatever its rollouts are; they are told of
# even where each question has one value only.
TELLING = (*SETS, *MODELS, "split", "subset", "source", "subject", "fold", "run_id", "run_name")

# Names with dots under which tools keep the grades of a sample: Inspect and lighteval.
DOTTED_GRADE = re.compile(r"(?:scores\.[^.]+\.value|metrics?\.[^.]+)")
# A name that says it counts steps, and one that says it is a rewards function's.
STEP_WORD = re.compile(r"step|update|iter|epoch|ckpt|checkpoint|revision", re.IGNORECASE)
REWARD_WORD = re.compile(r"reward", re.IGNORECASE)
# `checkpoint-300`, `global_step_12`: what is a number of steps though it is a text.
STEP_TEXT = re.compile(
    r"(?:.*[^a-z])?(?:global_?step|steps?|checkpoint|ckpt|iter(?:ation)?|update)s?[-_ =]?(\d+)",
    re.IGNORECASE,
)
# A filter of lm-evaluation-harness whose grade is one of all responses together.
VOTE = re.compile(r"maj|vote|pass@|best[-_ ]?of|consensus", re.IGNORECASE)
# A column in which one row says what others have in common, as OpenAI's evals write events.
EVENTS = {"event_id", "sample_id", "type", "data"}
