"""Example files, and the program that draws them."""
