"""The rewards compared, and what was reported of a language model."""

REWARDS = ("RLVR", "RLIF")
# Ranking change ratio of Qwen2.5-3B in per cent at steps 20, 60, 100; the last has no RLIF.
REPORTED = {
    "GSM8K": {"RLVR": (5.2, 6.6, 7.3), "RLIF": (6.8, 8.9, 10.1)},
    "MATH": {"RLVR": (5.3, 6.1, 6.6), "RLIF": (6.1, 7.7, 8.8)},
    "AIME24": {"RLVR": (5.1, 5.9, 6.3)},
}
