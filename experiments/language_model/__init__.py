"""A small language model, trained here: does the lab predict its RL run?"""
