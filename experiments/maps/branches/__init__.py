"""Branches: fixed points along penalties, noise and mixtures of rewards."""
