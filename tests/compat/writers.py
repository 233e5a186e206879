"""Small logs, written by the tools themselves: `python -m tests.compat.writers TOOL FOLDER`.

The extra `compat` has the tools. `tests/rollouts/data` holds what these wrote, with the versions.
"""

import importlib.metadata
import json
import os
import sys
from pathlib import Path
from typing import Any

PACKAGES = {
    "inspect": "inspect-ai",
    "inspect_json": "inspect-ai",
    "lm_eval": "lm-eval",
    "trl": "trl",
}
TEXTS = ("Wait, check. So 3", "1. add\n2. So 4", "So it is 3", "no idea")


def inspect(folder: Path, log_format: Any = "eval") -> None:
    """Three questions twice, two scorers, a model whose answers are given."""
    import tiktoken

    class Words:
        """A tokenizer that needs no download."""

        def encode(self, text, **_):
            return text.split()

    tiktoken.get_encoding = tiktoken.encoding_for_model = lambda _: Words()  # pyright: ignore
    from inspect_ai import Epochs, Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ModelOutput, get_model
    from inspect_ai.scorer import includes, match
    from inspect_ai.solver import generate

    outputs = [ModelOutput.from_content("mockllm/model", text) for text in TEXTS * 2]
    task = Task(
        dataset=[Sample(id=f"q{i}", input=f"question {i}", target="3") for i in range(3)],
        solver=generate(),
        scorer=[match(), includes()],
        epochs=Epochs(2),
        name="adding",
    )
    model = get_model("mockllm/model", custom_outputs=outputs)
    settings = {"display": "none", "log_realtime": False, "max_samples": 1}
    done = eval(task, model=model, log_dir=str(folder), log_format=log_format, **settings)
    assert done[0].status == "success", done[0].error


def inspect_json(folder: Path) -> None:
    """The same as one JSON document."""
    inspect(folder, "json")


def lm_eval(folder: Path) -> None:
    """Two tasks, one of them with four responses, a vote among them and two metrics."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from lm_eval import evaluator
    from lm_eval.api.model import LM
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    class Given(LM):
        """A model whose answers are given."""

        def __init__(self):
            super().__init__()
            self.number = 0

        def loglikelihood(self, requests, **_):
            raise NotImplementedError

        def loglikelihood_rolling(self, requests, **_):
            raise NotImplementedError

        def generate_until(self, requests, **_):
            self.number += len(requests)
            return [TEXTS[(self.number + 3 * i) % len(TEXTS)] for i, _ in enumerate(requests)]

    data = folder / "data.jsonl"
    rows = [{"question": f"question {i}", "answer": "3"} for i in range(3)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {"function": "regex", "regex_pattern": r"So.*?(\d+)"}
    first = {"name": "score-first", "filter": [found, {"function": "take_first"}]}
    last = {"function": "regex", "regex_pattern": r"(\d+)", "group_select": -1}
    flexible = {"name": "flexible", "filter": [last, {"function": "take_first"}]}
    voted = [found, {"function": "majority_vote"}, {"function": "take_first"}]

    def task(name: str, filters: list, repeats: int) -> dict[str, Any]:
        return {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(data)}},
            "test_split": "test",
            "output_type": "generate_until",
            "doc_to_text": "{{question}}",
            "doc_to_target": "{{answer}}",
            "generation_kwargs": {"until": ["\n\n"], "do_sample": True},
            "repeats": repeats,
            "metric_list": [{"metric": "exact_match", "aggregation": "mean",
                             "higher_is_better": True}],
            "filter_list": filters,
        }  # fmt: skip

    tasks: list[Any] = [
        task("adding", [first, {"name": "maj@4", "filter": voted}], 4),
        task("counting", [first, flexible], 1),
    ]
    results = evaluator.simple_evaluate(
        Given(), tasks=tasks, log_samples=True, task_manager=TaskManager(), bootstrap_iters=0
    )
    assert results is not None
    tracker = EvaluationTracker(output_path=str(folder))
    samples = results.pop("samples")
    tracker.save_results_aggregated(results, samples)
    for name, logged in samples.items():
        tracker.save_results_samples(name, logged)
    data.unlink()


def trl(folder: Path) -> None:
    """Two steps of GRPO on a random model of 16 dimensions; completions are logged."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
    from trl import GRPOConfig, GRPOTrainer

    torch.manual_seed(0)
    torch.set_num_threads(1)
    words = [
        "[PAD]",
        "[EOS]",
        "[UNK]",
        *[
            "Wait",
            "check",
            "1.",
            "2.",
            "add",
            "so",
            "it",
            "is",
            "three",
            "3",
            "4",
            "one",
            "plus",
            "?",
        ],
    ]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "[PAD]", "eos_token": "[EOS]", "unk_token": "[UNK]"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side="left", **special)
    ends = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
    sizes = {"vocab_size": len(words), "n_positions": 64, "n_embd": 16, "n_layer": 1, "n_head": 2}
    model = GPT2LMHeadModel(GPT2Config(**sizes, **ends))

    def three_reward(completions, **_):
        return [float(bool({"3", "three"} & set(text.split()))) for text in completions]

    arguments = GRPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=6,
        max_steps=2,
        logging_steps=1,
        log_completions=True,
        report_to=[],
        use_cpu=True,
        bf16=False,
        save_strategy="no",
        disable_tqdm=True,
        seed=0,
    )
    prompts = Dataset.from_dict({"prompt": ["one plus one plus one ?", "is it three ?"] * 4})
    GRPOTrainer(
        model=model,
        reward_funcs=[three_reward],
        args=arguments,
        train_dataset=prompts,
        processing_class=fast,
    ).train()


WRITERS = {"inspect": inspect, "inspect_json": inspect_json, "lm_eval": lm_eval, "trl": trl}


def version(tool: str) -> str:
    """The version of a tool that is installed."""
    return importlib.metadata.version(PACKAGES[tool])


if __name__ == "__main__":
    tool, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    WRITERS[tool](folder)
    print(f"{PACKAGES[tool]} {version(tool)}")
