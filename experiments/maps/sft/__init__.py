"""Supervised fine-tuning before RLVR: how far it cuts the slow phase."""
