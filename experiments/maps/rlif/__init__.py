"""RLIF: how often self-certainty raises accuracy at first, and lowers it in the end."""
