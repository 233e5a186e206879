"""500 problems of the constant-reward flow with solutions to every digit of a double."""
